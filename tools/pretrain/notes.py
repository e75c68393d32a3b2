"""Make clips from recordings of real single notes: melodies, chords and ensembles whose instruments are known.

    python -m pretrain.recordings --clones clones --kind notes --out data/notes
    python -m pretrain.notes --corpus data/notes --out data/note_clips --n_clips 1000

A clip of 10.24 s has one to four instruments, each of which plays a melody or chords of its own notes at random times,
in a common scale, with its own level, equalizer and perhaps a room. OUT/NNNNN.flac (16 kHz, mono) depends only on the
seed, the number and the corpus; OUT/NNNNN.json has the times of the tags, as those of `scores.py`, and
OUT/manifest.jsonl the clips, all of the split "train".

A note's instrument is its last tag in the manifest of the corpus, its pitch is in its name (cello_As3_1_forte.mp3).
"""

from __future__ import annotations

import csv
import functools
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

from keras_tagger import audio
from keras_tagger.errors import KerasTaggerError, ManifestError
from pretrain import invented
from pretrain.effects import SAMPLE_RATE, reverberant
from pretrain.score_labels import NO_VOICE_TAGS, PRESENT, VOICE_TAGS, join
from pretrain.score_render import level
from pretrain.vary import Times, filtered, within

SECONDS = 10.24
CHORD_SHARE, ROOM_SHARE = 0.6, 0.5
ROOM_SECONDS = 2.0
SOFTEST_DB, PEAK_DB = -12.0, (1.0, 12.0)
# Below this, relative to its peak, a note is no longer heard.
HEARD_DB = -35.0

# Instruments that play chords, and the tags whose presence an instrument decides or makes unknown. An instrument that
# is not listed makes none of them present.
CHORDAL = ("piano", "guitar", "electric guitar", "banjo", "mandolin", "sitar")
HEARD: dict[str, tuple[str, ...]] = {
    "cello": ("cello",),
    "flute": ("flute",),
    "guitar": ("guitar", "msd/guitar"),
    "electric guitar": ("guitar", "msd/guitar"),
    "piano": ("piano",),
    "sitar": ("sitar", "indian"),
    "percussion": ("drums",),
}
PERHAPS: dict[str, tuple[str, ...]] = {
    "cello": ("strings", "violin"),
    "viola": ("strings", "violin", "cello"),
    "double bass": ("strings", "cello"),
    "banjo": ("guitar", "sitar", "msd/guitar"),
    "mandolin": ("guitar", "sitar", "msd/guitar"),
    "sitar": ("guitar", "msd/guitar"),
}
# Instruments with a tag are drawn this many times as often as others.
TAGGED_WEIGHT = 3.0
NAMES = {name: number for number, name in enumerate(("c", "cs", "d", "ds", "e", "f", "fs", "g", "gs", "a", "as", "b"))}
FLATS = {"db": 1, "eb": 3, "gb": 6, "ab": 8, "bb": 10}

FLAGS = flags.FLAGS

# Paths of an instrument's notes by MIDI pitch; those without a pitch, such as drums, are at -1.
Notes = Mapping[int, Sequence[Path]]


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("corpus", None, "Folder that recordings.py made of notes.", required=True)
    invented.define_flags(n_clips=1000)


def main(argv: Sequence[str]) -> None:
    """Make the missing clips and the manifest."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        make = functools.partial(note_clip, read_notes(Path(FLAGS.corpus)))
        invented.make_clips(make, Path(FLAGS.out), "notes", FLAGS.n_clips, FLAGS.seed, FLAGS.jobs)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")


def read_notes(corpus: Path) -> dict[str, dict[int, list[Path]]]:
    """Read the manifest of a corpus of notes: the paths of every instrument's notes by pitch.

    Raises:
        ManifestError: If no instrument has a note.
    """
    instruments: dict[str, dict[int, list[Path]]] = {}
    with open(corpus / "manifest.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            instrument = row["tags"].split(";")[-1]
            # Drums are not told apart from other percussion by a tag, so only they are used.
            if "percussion" in row["tags"].split(";"):
                instrument = "percussion"
                if not re.search(r"drum|tom-toms|djembe|surdo", row["path"]):
                    continue
            pitch = pitch_of(row["track"])
            if pitch is None and instrument not in ("percussion", "sitar"):
                continue
            notes = instruments.setdefault(instrument, {})
            notes.setdefault(-1 if pitch is None else pitch, []).append(corpus / row["path"])
    if not instruments:
        raise ManifestError(f"{corpus}: expected notes with a pitch in their names. Received: none")
    return instruments


def pitch_of(name: str) -> int | None:
    """Return the MIDI pitch that the name of a note contains, or None.

    Example:
        >>> pitch_of("cello_As3_1_forte_normal")
        58
    """
    match = re.search(r"(?:^|[_ ])([A-Ga-g])(s|#|b)?(-?\d)(?=$|[_. ])", name)
    if not match:
        return None
    letter, accidental = match[1].lower(), (match[2] or "").replace("#", "s")
    step = FLATS.get(letter + accidental) if accidental == "b" else NAMES.get(letter + accidental)
    return None if step is None else step + 12 * (int(match[3]) + 1)


def note_clip(instruments: Mapping[str, Notes], rng: np.random.Generator) -> tuple[np.ndarray, Times]:
    """Make one clip.

    Returns:
        float32 [samples] in -1..1 at 16 kHz; and when each known tag is heard, intervals in seconds.
    """
    size = min(int(rng.choice([1, 2, 3, 4], p=[0.4, 0.25, 0.2, 0.15])), len(instruments))
    every = sorted(instruments)
    weights = np.array([TAGGED_WEIGHT if name in HEARD else 1.0 for name in every])
    names = [str(name) for name in rng.choice(every, size=size, replace=False, p=weights / weights.sum())]
    tonic, scale = int(rng.integers(12)), invented.SCALES[int(rng.integers(len(invented.SCALES)))]
    allowed = {(tonic + step) % 12 for step in scale}
    mix = np.zeros(round(SECONDS * SAMPLE_RATE), np.float32)
    heard: dict[str, list[list[float]]] = {}
    for name in names:
        part, times = play(instruments[name], name in CHORDAL, allowed, rng)
        part = filtered(part, rng)
        if rng.random() < ROOM_SHARE:
            part = reverberant(part, rng, ROOM_SECONDS)
        mix += part * (10.0 ** (rng.uniform(SOFTEST_DB, 0.0) / 20.0) / max(level(part), 1e-6))
        heard[name] = times
    peak = 10.0 ** (-rng.uniform(*PEAK_DB) / 20.0)
    return (mix * (peak / max(np.abs(mix).max(), 1e-9))).astype(np.float32), times_of(heard)


def play(
    notes: Notes, chordal: bool, allowed: set[int], rng: np.random.Generator
) -> tuple[np.ndarray, list[list[float]]]:
    """Play an instrument's notes at random times; return the waveform and when it sounds."""
    waveform = np.zeros(round(SECONDS * SAMPLE_RATE), np.float32)
    pitches = sorted(pitch for pitch in notes if pitch % 12 in allowed or pitch < 0) or sorted(notes)
    beat = float(np.exp(rng.uniform(np.log(0.18), np.log(1.2))))
    place = int(rng.integers(len(pitches)))
    chords = chordal and rng.random() < CHORD_SHARE
    start, sounding = float(rng.uniform(0.0, 1.5)), []
    while start < SECONDS - 0.3:
        length = beat * float(rng.choice([0.5, 1.0, 1.0, 1.0, 2.0, 4.0]))
        if rng.random() > 0.12:
            place = int(np.clip(place + rng.integers(-3, 4), 0, len(pitches) - 1))
            for offset in (0, 2, 4)[: int(rng.integers(2, 4)) if chords else 1]:
                paths = notes[pitches[min(place + offset, len(pitches) - 1)]]
                note = trimmed(paths[int(rng.integers(len(paths)))])
                # Notes of instruments that ring go on, those of others end.
                seconds = min(len(note) / SAMPLE_RATE, length * float(rng.uniform(0.7, 1.0 if not chordal else 2.5)))
                note = faded(note[: max(int(seconds * SAMPLE_RATE), 800)])
                at = round(start * SAMPLE_RATE)
                note = note[: len(waveform) - at]
                waveform[at : at + len(note)] += note * float(rng.uniform(0.6, 1.0))
                sounding.append((start, start + len(note) / SAMPLE_RATE))
        start += length
    return waveform, [[round(a, 3), round(b, 3)] for a, b in within(join(sounding), SECONDS)]


@functools.lru_cache(maxsize=4000)
def trimmed(path: Path) -> np.ndarray:
    """Load a note without the silence around it, with a peak of 1."""
    waveform = audio.load(path, SAMPLE_RATE)
    loud = np.flatnonzero(np.abs(waveform) > 10.0 ** (HEARD_DB / 20.0) * max(np.abs(waveform).max(initial=0.0), 1e-6))
    if not len(loud):
        return np.zeros(SAMPLE_RATE // 10, np.float32)
    note = waveform[max(loud[0] - 80, 0) : loud[-1] + 1][: 6 * SAMPLE_RATE]
    return (note / np.abs(note).max()).astype(np.float32)


def faded(note: np.ndarray) -> np.ndarray:
    """End a note within 50 ms."""
    fade = min(SAMPLE_RATE // 20, len(note))
    note = note.copy()
    note[len(note) - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return note


def times_of(heard: Mapping[str, Sequence[Sequence[float]]]) -> Times:
    """Return when the known tags are heard, from when each instrument sounds."""
    unknown = {tag for name in heard for tag in PERHAPS.get(name, ())}
    times: Times = {}
    for tag in (*PRESENT, "choral", "techno", "indian", "msd/guitar"):
        if tag == "indian" and "sitar" not in heard:
            continue
        sounding = [
            interval for name, intervals in heard.items() if tag in HEARD.get(name, ()) for interval in intervals
        ]
        if sounding or tag not in unknown:
            times[tag] = _joined(sounding)
    whole = [[0.0, SECONDS]]
    times.update({tag: whole for tag in (*NO_VOICE_TAGS, "msd/instrumental")})
    times.update(
        {tag: [] for tag in (*VOICE_TAGS, "msd/female vocalists", "msd/female vocalist", "msd/male vocalists")}
    )
    if len(heard) == 1 and "percussion" not in heard:
        times["solo"] = _joined(next(iter(heard.values())))
    elif len(heard) > 2:
        times["solo"] = []
    return times


def _joined(intervals: Iterable[Sequence[float]]) -> list[list[float]]:
    return [[round(start, 3), round(end, 3)] for start, end in join((a, b) for a, b in intervals)]


if __name__ == "__main__":
    define_flags()
    app.run(main)
