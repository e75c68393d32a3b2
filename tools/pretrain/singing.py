"""Sing melodies with a synthetic woman's voice: clips whose voices, and all that is not heard in them, are known.

    python -m pretrain.singing --out data/sung --n_clips 300

Sinsy sings invented melodies with the voice NIT SONG070 F001 (Nagoya Institute of Technology, CC BY 3.0), at 0.95 to
1.15 times its pitch and formants, alone or as a group of two or three parts, in a room or dry. OUT/NNNNN.flac (16 kHz,
mono, 15 to 30 s) depends only on the seed and the number; OUT/NNNNN.json has the times of the tags, as those of
`scores.py`, and OUT/manifest.jsonl the clips, all of the split "train". There are no instruments, so "guitar", "drums"
and the like are absent.

Needs `pip install pysinsy` (BSD), which has the voice.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soxr
from absl import app, flags

from keras_tagger.errors import KerasTaggerError
from pretrain import invented
from pretrain.effects import SAMPLE_RATE, reverberant
from pretrain.score_labels import NO_VOICE_TAGS, PRESENT, join
from pretrain.vary import Times, filtered, within

FEMALE_TAGS = ("female", "woman", "female vocal", "female voice", "msd/female vocalists", "msd/female vocalist")
VOCAL_TAGS = ("vocal", "vocals", "voice", "singing")
ABSENT_TAGS = (
    *("male", "man", "male vocal", "male voice", "msd/male vocalists", *NO_VOICE_TAGS, "msd/instrumental"),
    *("beat", "beats", "techno", "msd/guitar"),
)
# Syllables that Sinsy knows, of all vowels and the common consonants.
SYLLABLES = "あいうえおからさたなはまやわりみきしにひけせてねめれもとのこそるぬすくつむ"
LOWEST, HIGHEST = 58, 76
CHOIR_SHARE, ROOM_SHARE = 0.15, 0.5
ROOM_SECONDS = 1.8
PEAK_DB = (1.0, 12.0)
BEATS_PER_BAR = 4

FLAGS = flags.FLAGS

# Start and length in beats, and MIDI pitch or None for a rest.
Melody = list[tuple[float, float, int | None]]


def main(argv: Sequence[str]) -> None:
    """Sing the missing clips and write the manifest."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        invented.make_clips(sing_clip, Path(FLAGS.out), "sung", FLAGS.n_clips, FLAGS.seed, FLAGS.jobs)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")


def sing_clip(rng: np.random.Generator) -> tuple[np.ndarray, Times]:
    """Sing one clip.

    Returns:
        float32 [samples] in -1..1 at 16 kHz; and when each known tag is heard, intervals in seconds.
    """
    tempo, n_bars = float(rng.uniform(70, 130)), int(rng.integers(6, 9))
    tonic, scale = int(rng.integers(12)), invented.SCALES[int(rng.integers(len(invented.SCALES)))]
    n_parts = int(rng.integers(2, 4)) if rng.random() < CHOIR_SHARE else 1
    lead = melody(n_bars, tonic, scale, rng)
    parts: list[np.ndarray] = []
    for number in range(n_parts):
        # The other parts sing the same rhythm at other pitches of the scale.
        notes = lead if number == 0 else moved(lead, int(rng.choice([-4, -2, 2, 0])), tonic, scale)
        parts.append(sing(notes, tempo, rng) * 10.0 ** (rng.uniform(-4.0, 0.0) / 20.0))
    waveform = np.zeros(max(len(part) for part in parts), np.float32)
    for part in parts:
        start = int(rng.uniform(0.0, 0.03) * SAMPLE_RATE) if n_parts > 1 else 0
        waveform[start : len(part)] += part[: len(part) - start]
    waveform = filtered(waveform[: 30 * SAMPLE_RATE], rng)
    if rng.random() < ROOM_SHARE:
        waveform = reverberant(waveform, rng, ROOM_SECONDS)[: len(waveform)]
    peak = 10.0 ** (-rng.uniform(*PEAK_DB) / 20.0)
    waveform = (waveform * (peak / max(np.abs(waveform).max(), 1e-9))).astype(np.float32)
    return waveform, times_of(lead, tempo, len(waveform) / SAMPLE_RATE, n_parts)


def melody(n_bars: int, tonic: int, scale: Sequence[int], rng: np.random.Generator) -> Melody:
    """Invent a melody that mostly moves by steps, with a rest after each phrase and at both ends."""
    pitches = [pitch for pitch in range(LOWEST, HIGHEST + 1) if (pitch - tonic) % 12 in scale]
    place = int(rng.integers(len(pitches) // 3, 2 * len(pitches) // 3))
    notes: Melody = [(0.0, 1.0, None)]
    beat, end = 1.0, n_bars * BEATS_PER_BAR - 1.0
    lengths = rng.choice([0.5, 1.0, 1.0, 2.0], size=3)
    while beat < end:
        length = min(float(rng.choice([*lengths, 4.0])), end - beat)
        if rng.random() < 0.08:
            notes.append((beat, length, None))
        else:
            place = int(np.clip(place + rng.choice([-3, -2, -1, -1, 0, 1, 1, 2, 3]), 0, len(pitches) - 1))
            notes.append((beat, length, pitches[place]))
        beat += length
    return [*notes, (end, 1.0, None)]


def moved(notes: Melody, steps: int, tonic: int, scale: Sequence[int]) -> Melody:
    """Move a melody by steps of its scale, within the voice's range."""
    pitches = [pitch for pitch in range(LOWEST, HIGHEST + 1) if (pitch - tonic) % 12 in scale]
    return [
        (start, length, None if p is None else pitches[int(np.clip(pitches.index(p) + steps, 0, len(pitches) - 1))])
        for start, length, p in notes
    ]


def sing(notes: Melody, tempo: float, rng: np.random.Generator) -> np.ndarray:
    """Sing a melody in beats of 60 / `tempo` seconds, float32 [samples] at 16 kHz."""
    import pysinsy

    speed = float(rng.uniform(0.95, 1.15))
    with tempfile.TemporaryDirectory() as folder:
        score = Path(folder) / "score.musicxml"
        score.write_text(music_xml(notes, tempo / speed, rng), "utf-8")
        waveform, rate = pysinsy.synthesize(str(score))
    return soxr.resample(np.asarray(waveform, np.float32) / 32768.0, rate * speed, SAMPLE_RATE)


def music_xml(notes: Melody, tempo: float, rng: np.random.Generator) -> str:
    """Write a melody as MusicXML in bars of four quarters; notes that cross a bar line are tied."""
    bars: list[list[str]] = []
    for start, length, pitch in notes:
        syllable, tied = str(rng.choice(list(SYLLABLES))), False
        while length > 1e-6:
            bar = int(start // BEATS_PER_BAR)
            part = min(length, (bar + 1) * BEATS_PER_BAR - start)
            bars += [[] for _ in range(bar + 1 - len(bars))]
            bars[bar].append(_note(part, pitch, syllable, tied, length > part + 1e-6))
            start, length, tied = start + part, length - part, True
    first = (
        "<attributes><divisions>2</divisions><key><fifths>0</fifths></key><time><beats>4</beats><beat-type>4</beat-type>"
        f'</time></attributes><direction><sound tempo="{tempo:.2f}"/></direction>'
    )
    measures = "".join(
        f'<measure number="{number + 1}">{"" if number else first}{"".join(bar)}</measure>'
        for number, bar in enumerate(bars)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><score-partwise version="2.0"><part-list><score-part id="P1">'
        f'<part-name>Voice</part-name></score-part></part-list><part id="P1">{measures}</part></score-partwise>'
    )


def _note(beats: float, pitch: int | None, syllable: str, tied: bool, ties: bool) -> str:
    duration = f"<duration>{round(2 * beats)}</duration>"
    if pitch is None:
        return f"<note><rest/>{duration}</note>"
    name = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")[pitch % 12]
    alter = "<alter>1</alter>" if name.endswith("#") else ""
    ends = [f'type="{kind}"' for kind, there in (("stop", tied), ("start", ties)) if there]
    ties_xml = "".join(f"<tie {end}/>" for end in ends)
    tied_xml = "".join(f"<tied {end}/>" for end in ends)
    lyric = "" if tied else f"<lyric><syllabic>single</syllabic><text>{syllable}</text></lyric>"
    return (
        f"<note><pitch><step>{name[0]}</step>{alter}<octave>{pitch // 12 - 1}</octave></pitch>{duration}{ties_xml}"
        f"<notations>{tied_xml}</notations>{lyric}</note>"
    )


def times_of(notes: Melody, tempo: float, seconds: float, n_parts: int) -> Times:
    """Return the times of the known tags of a melody sung by `n_parts` voices without instruments."""
    beat = 60.0 / tempo
    sung = join((start * beat, (start + length) * beat) for start, length, pitch in notes if pitch is not None)
    heard = [[round(start, 3), round(end, 3)] for start, end in within(sung, seconds)]
    times: Times = {tag: heard for tag in (*VOCAL_TAGS, *FEMALE_TAGS)}
    times.update({tag: [] for tag in (*ABSENT_TAGS, *(tag for tag in PRESENT if tag not in ("choir", "synth")))})
    if n_parts == 1:
        times["choir"] = times["choral"] = []
    else:
        times["solo"] = []
    return times


if __name__ == "__main__":
    invented.define_flags(n_clips=300)
    app.run(main)
