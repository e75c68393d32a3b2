"""Rendered scores: music with labels that are true by construction, and their times.

    PYTHONPATH=tools python -m pretrain.scores --out data/scores --n_train 1400 --n_valid 150 --n_test 360

renders excerpts of music21's corpus with fluidsynth: 20 to 30 s each, transposed, faster or slower, for 1 to 4 General
MIDI instruments and sometimes drums. The programs are the labels and the notes their times. It writes
OUT/{train,valid,test}/NNNNN.flac (16 kHz, mono), NNNNN.json beside each, and OUT/manifest.jsonl. A .json has

    {"seconds": 24.5, "stretch_seconds": 1.0, "tags": {"piano": [[0.0, 1.25], [2.0, 9.5]], "cello": []}, ...}

with sorted intervals in seconds from the start of the audio. A tag with intervals is present in them and absent
elsewhere, a tag with an empty list is absent, and of a tag that is not listed nothing is known.

A clip is a function of the seed, the split and its number; a clip whose .json is there is not rendered again. Splits
have no work in common, and no soundfont: `test` is rendered with MuseScore General alone, `train` and `valid` with
FluidR3 and TimGM6mb.

Needs music21 (`pip install music21`), the program fluidsynth, and the soundfonts of Debian's fluid-soundfont-gm,
timgm6mb-soundfont and musescore-general-soundfont. Not part of the package.
"""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from absl import app, flags, logging
from tqdm import tqdm

from keras_tagger.errors import AudioError, KerasTaggerError, ManifestError, ManifestNotFoundError
from keras_tagger.files import replacing
from pretrain import score_pieces

SAMPLE_RATE = 16000
RENDER_RATE = 32000
STRETCH_SECONDS = 1.0
TICKS_PER_SECOND = 960
SPLITS = ("train", "valid", "test")
SOUNDFONTS = {
    "FluidR3": "sf2/FluidR3_GM.sf2",
    "TimGM6mb": "sf2/TimGM6mb.sf2",
    "MuseScore General": "sf3/MuseScore_General.sf3",
}
SOUNDFONTS_OF = {"train": ("FluidR3", "TimGM6mb"), "valid": ("FluidR3", "TimGM6mb"), "test": ("MuseScore General",)}
MANIFEST = "manifest.jsonl"

# Kits of channel 10 are counted from here, so that a program is one number.
DRUMS = 128
RELEASE_SECONDS = 0.1
# Strings that nobody damps: measured, a harp's and a sitar's notes are as loud for a while after they end.
RING_SECONDS = {46: 0.6, 104: 0.6}
DRUM_SECONDS = 0.4
CYMBAL_SECONDS = 1.5
_CYMBALS = (49, 57)
_JOIN_SECONDS = 0.1
# Instruments are rendered one after the other; reverberation dies away between them.
_GAP_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class Kind:
    """Programs that are played alike.

    Attributes:
        programs: General MIDI programs from 0, as often as they are named.
        low, high: MIDI pitches that the instrument has.
        melodic: plays one line rather than chords.
        decays: a note is heard as long as it is held; others have a release.
    """

    programs: tuple[int, ...]
    low: int
    high: int
    melodic: bool = False
    decays: bool = False


KINDS = {
    "piano": Kind((0, 0, 1), 28, 98, decays=True),
    "harpsichord": Kind((6,), 36, 86, decays=True),
    "guitar": Kind((24, 24, 25, 25, 26, 27, 27, 28, 29, 29, 30, 30), 40, 83, decays=True),
    "violin": Kind((40,), 55, 96, melodic=True),
    "cello": Kind((42,), 36, 74, melodic=True),
    "strings": Kind((48, 48, 48, 49, 49, 44, 45), 36, 90),
    "harp": Kind((46,), 31, 96, decays=True),
    "choir": Kind((52, 53), 45, 81),
    "flute": Kind((73,), 60, 94, melodic=True),
    "sitar": Kind((104,), 45, 79, decays=True),
    "synth": Kind((80, 81, 81, 82, 83, 84, 86, 87, 88, 89, 90, 90, 92, 93, 94, 95, 62, 63), 40, 88),
    "synth bass": Kind((38, 39), 28, 60, melodic=True),
    # What follows is none of the tags, or not certainly.
    "electric piano": Kind((2, 3, 4, 5), 28, 98, decays=True),
    "clavinet": Kind((7,), 36, 86, decays=True),
    "bells": Kind((8, 9, 10, 11, 14), 60, 98, decays=True),
    "mallets": Kind((12, 13, 15, 108), 48, 92, decays=True),
    "organ": Kind((16, 17, 18, 19, 20), 36, 90),
    "accordion": Kind((21, 22, 23), 48, 88),
    "bass": Kind((32, 32, 33, 34, 35, 36), 28, 58, melodic=True, decays=True),
    "viola": Kind((41,), 48, 84, melodic=True),
    "contrabass": Kind((43,), 28, 58, melodic=True),
    "fiddle": Kind((110,), 55, 90, melodic=True),
    "synth strings": Kind((50, 51), 36, 90),
    "synth voice": Kind((54, 85, 91), 45, 84),
    "brass": Kind((56, 57, 58, 59, 60, 61), 40, 82, melodic=True),
    "saxophone": Kind((64, 65, 66, 67), 44, 84, melodic=True),
    "reeds": Kind((68, 69, 70, 71, 71, 111), 50, 86, melodic=True),
    "pipes": Kind((72, 74, 75, 77, 78, 79), 62, 96, melodic=True),
    "plucked": Kind((105, 106, 107), 48, 84, decays=True),
    "steel drums": Kind((114,), 52, 84, decays=True),
}
_TAG_KINDS = (
    "piano",
    "harpsichord",
    "guitar",
    "violin",
    "cello",
    "strings",
    "harp",
    "choir",
    "flute",
    "sitar",
    "synth",
)
_OTHER_KINDS = (
    *("electric piano", "clavinet", "bells", "bells", "mallets", "mallets", "organ", "organ", "organ", "accordion"),
    *("accordion", "bass", "bass", "viola", "contrabass", "fiddle", "synth strings", "synth voice", "brass", "brass"),
    *("brass", "brass", "saxophone", "saxophone", "saxophone", "reeds", "reeds", "reeds", "pipes", "plucked"),
    *("steel drums",),
)

# The programs of a tag, and those with which nobody can say whether it is there.
PRESENT: dict[str, tuple[int, ...]] = {
    "piano": (0, 1),
    "harpsichord": (6,),
    "guitar": (24, 25, 26, 27, 28, 29, 30),
    "violin": (40,),
    "cello": (42,),
    "strings": (44, 45, 48, 49),
    "harp": (46,),
    "choir": (52, 53),
    "flute": (73,),
    "sitar": (104,),
    "synth": (38, 39, 62, 63, *range(80, 96)),
    "drums": tuple(range(DRUMS, DRUMS + 128)),
}
UNKNOWN: dict[str, tuple[int, ...]] = {
    "piano": (2, 3, 4, 5),
    "harpsichord": (7,),
    "guitar": (33, 34, 35, 36, 37, 84),
    "violin": (44, 45, 48, 49, 50, 51, 110),
    "cello": (44, 45, 48, 49, 50, 51),
    "strings": (40, 41, 42, 43, 50, 51, 110),
    "harp": (),
    "choir": (54, 85, 91),
    "flute": (72, 74, 75, 76, 77, 78, 79),
    "sitar": (),
    "synth": (50, 51, 54),
    "drums": (47, 114, 116, 117, 118),
}
_VOICES = (52, 53)
_PERHAPS_VOICES = (54, 85, 91)
# Many players in one program: not a solo even when alone.
_SECTIONS = (44, 45, 48, 49, 50, 51, 52, 53, 54, 61, 91)
NO_VOICE_TAGS = ("no vocals", "no vocal", "no voice")
VOICE_TAGS = (
    *("vocal", "vocals", "voice", "singing", "male", "female", "man", "woman", "male vocal", "female vocal"),
    *("male voice", "female voice", "opera"),
)

KITS = (0, 0, 0, 8, 16, 24, 25, 32, 40)
# Steps of a bar (sixteenths; the waltz has twelve) on which a drum of channel 10 is hit, louder where upper case.
_KICK, _SNARE, _SIDE, _CLAP, _CLOSED, _OPEN, _RIDE = 36, 38, 37, 39, 42, 46, 51
_STYLES: dict[str, dict[int, str]] = {
    "rock": {_KICK: "X.......X.x.....", _SNARE: "....X.......X...", _CLOSED: "X.x.x.x.X.x.x.x."},
    "ballad": {_KICK: "X.........x.....", _SIDE: "........X.......", _RIDE: "x...x...x...x..."},
    "techno": {
        _KICK: "X...X...X...X...",
        _CLAP: "....X.......X...",
        _OPEN: "..x...x...x...x.",
        _CLOSED: "xxxxxxxxxxxxxxxx",
    },
    "funk": {_KICK: "X..x..x...X..x..", _SNARE: "....X..x.x..X...", _CLOSED: "x.xxx.x.x.xxx.x."},
    "swing": {_RIDE: "X...x..xX...x..x", 44: "....x.......x...", _KICK: "x.......x.......", _SIDE: "...........x...."},
    "march": {_SNARE: "X..xx.x.X..xxxxx", _KICK: "X.......X......."},
    "latin": {_KICK: "X..x..x.X..x..x.", _SIDE: "X..x..x...x.x...", 63: "..x...xx..x...xx", 70: "x.xxx.xxx.xxx.xx"},
    "hand drums": {63: "X..x..x...x.x...", 60: "..x..x.xx..x.x.x", 64: "....X.......X.xx", 54: "x...x...x...x..."},
    "waltz": {_KICK: "X...........", _SNARE: "....x...x...", _CLOSED: "x...x.x.x.x."},
}

Note = tuple[float, float, int, int]  # start and end in seconds, pitch, velocity
Line = list[tuple[float, float, int]]  # start, end, pitch


@dataclasses.dataclass
class Instrument:
    """What one program plays.

    Attributes:
        program: General MIDI program from 0, or `DRUMS` plus a kit.
        notes: sorted by start; no pitch sounds twice at a time.
        level_db: level relative to the loudest instrument's, RMS of the louder passages.
        decays: notes have no release.
        controls: MIDI controllers and their values.
    """

    program: int
    notes: list[Note]
    level_db: float = 0.0
    decays: bool = False
    controls: dict[int, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Plan:
    """All that decides a clip.

    Attributes:
        piece, work: as in `score_pieces`.
        texture: "single", "ensemble" or "turns".
        seconds: length of the clip.
        peak_db: peak of the clip, decibels below full scale.
        synth: settings of fluidsynth.
    """

    piece: str
    work: str
    texture: str
    seconds: float
    soundfont: str
    peak_db: float
    synth: dict[str, float]
    instruments: list[Instrument]


FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags; other programs that import this module have flags of their own."""
    flags.DEFINE_string("out", None, "Folder of the clips, their labels and the manifest.", required=True)
    flags.DEFINE_integer("n_train", 1400, "Clips for training.", lower_bound=0)
    flags.DEFINE_integer("n_valid", 150, "Clips for validation.", lower_bound=0)
    flags.DEFINE_integer("n_test", 360, "Clips for testing, with a soundfont of their own.", lower_bound=0)
    flags.DEFINE_integer("seed", 0, "Another seed gives other clips.", lower_bound=0)
    flags.DEFINE_string("work_dir", "data/scores_work", "Folder of the parsed pieces.")
    flags.DEFINE_string("soundfonts", "/usr/share/sounds", f"Folder with {', '.join(SOUNDFONTS.values())}.")
    flags.DEFINE_integer("jobs", 2, "Processes.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Render the clips, write the manifest and print how many there are of each tag."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    counts = {split: FLAGS[f"n_{split}"].value for split in SPLITS}
    try:
        soundfonts = find_soundfonts(FLAGS.soundfonts, [split for split in SPLITS if counts[split]])
        pieces = score_pieces.load_pieces(Path(FLAGS.work_dir), FLAGS.jobs)
        failed = render_set(Path(FLAGS.out), pieces, soundfonts, counts, FLAGS.seed, FLAGS.jobs)
        rows = write_manifest(Path(FLAGS.out), counts)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    print(table(Path(FLAGS.out), rows))
    if failed:
        sys.exit(f"error: expected {sum(counts.values())} clips. Received: {len(failed)} that failed, {failed[0]}")


def find_soundfonts(folder: str, splits: Iterable[str]) -> dict[str, str]:
    """Paths of the soundfonts that the splits need, by name.

    Raises:
        ManifestNotFoundError: a soundfont or the program fluidsynth is not there.
    """
    if shutil.which("fluidsynth") is None:
        raise ManifestNotFoundError("expected the program fluidsynth, which plays the scores. Received: none in PATH")
    found = {}
    for name in sorted({name for split in splits for name in SOUNDFONTS_OF[split]}):
        found[name] = str(Path(folder) / SOUNDFONTS[name])
        if not Path(found[name]).is_file():
            raise ManifestNotFoundError(f"expected the soundfont {name}. Received: no file '{found[name]}'")
    return found


# ---------------------------------------------------------------------------------------------------------- the plan


def make_plan(pieces: Sequence[dict[str, Any]], split: str, number: int, seed: int) -> Plan:
    """Decide all about a clip; the same arguments give the same plan.

    Args:
        pieces: those of the split, as `score_pieces.load_pieces` has them.
        split: "train", "valid" or "test".
        number: of the clip in its split, from 0.
        seed: not negative.
    """
    split_number = SPLITS.index(split)
    rng = np.random.default_rng([seed, split_number, number])
    seconds = round(float(rng.uniform(20.0, 30.0)), 2)
    texture = str(rng.choice(["single", "ensemble", "turns"], p=[0.40, 0.45, 0.15]))
    # Each tag comes first equally often: a new order of all of them for every 12 clips.
    order = np.random.default_rng([seed, split_number, number // 12, 12]).permutation(len(_TAG_KINDS) + 1)
    first = int(order[number % len(order)])
    drums_first = first == len(_TAG_KINDS)
    names = [] if drums_first else [_TAG_KINDS[first] if rng.random() < 0.82 else str(rng.choice(_OTHER_KINDS))]
    size = 1 if texture == "single" else int(rng.choice([2, 3, 4], p=[0.2, 0.4, 0.4]))
    with_drums = drums_first or (size > 1 and rng.random() < 0.2)
    programs = choose_programs(names, 0 if drums_first and size == 1 else size, rng)

    piece = pieces[int(rng.integers(len(pieces)))]
    for _ in range(8):
        lines, beat = excerpt(piece["parts"], seconds, rng)
        if lines and min(_covered(line) for line in lines) > 0.2 * seconds:
            break
    shift = int(rng.integers(-5, 6))
    lines = [[(start, end, pitch + shift) for start, end, pitch in line] for line in lines if line]
    scores = arrange(lines, [KINDS[name] for name, _ in programs], beat, seconds, rng)
    if with_drums:
        scores.append(drum_pattern(beat, seconds, rng))
    if texture == "turns":
        scores = take_turns(scores, seconds, rng)
    elif texture == "ensemble" and rng.random() < 0.35:
        scores = with_entries(scores, seconds, rng)
    instruments = []
    for i, score in enumerate(scores):
        drums = i == len(programs)
        program = DRUMS + int(rng.choice(KITS)) if drums else programs[i][1]
        instruments.append(
            Instrument(
                program,
                _play(score, seconds, rng, drums),
                level_db=round(float(rng.uniform(-6.0 if drums else -10.0, 0.0)), 2),
                decays=drums or KINDS[programs[i][0]].decays,
                controls={91: int(rng.integers(10, 110)), 93: int(rng.integers(0, 60)), 10: int(rng.integers(20, 108))},
            )
        )
    instruments = _begin_at_once(instruments, seconds)
    soundfont = str(rng.choice(SOUNDFONTS_OF[split]))
    synth = {
        "synth.reverb.active": int(rng.random() < 0.85),
        "synth.reverb.room-size": round(float(rng.uniform(0.1, 0.85)), 3),
        "synth.reverb.damp": round(float(rng.uniform(0.0, 0.6)), 3),
        "synth.reverb.level": round(float(rng.uniform(0.1, 0.9)), 3),
        "synth.chorus.active": int(rng.random() < 0.4),
    }
    peak_db = round(float(-rng.uniform(0.5, 14.0)), 2)
    return Plan(piece["piece"], piece["work"], texture, seconds, soundfont, peak_db, synth, instruments)


def choose_programs(names: Sequence[str], size: int, rng: np.random.Generator) -> list[tuple[str, int]]:
    """Fill up a list of kinds to `size` and give each a program; no one makes another's tag unknown."""
    chosen: list[tuple[str, int]] = []
    while len(chosen) < size:
        if len(chosen) < len(names):
            name = names[len(chosen)]
        else:
            # Ensembles of strings do not go with solo strings, so they are tried more often.
            name = str(rng.choice((*_TAG_KINDS, "strings") if rng.random() < 0.8 else _OTHER_KINDS))
        if name == "synth" and rng.random() < 0.12:
            name = "synth bass"
        program = int(rng.choice(KINDS[name].programs))
        if name not in (other for other, _ in chosen) and not any(_clash(program, other) for _, other in chosen):
            chosen.append((name, program))
    return chosen


def _clash(one: int, other: int) -> bool:
    return any(
        (one in PRESENT[tag] and other in UNKNOWN[tag]) or (other in PRESENT[tag] and one in UNKNOWN[tag])
        for tag in PRESENT
    )


def excerpt(
    parts: Sequence[Sequence[Sequence[float]]], seconds: float, rng: np.random.Generator
) -> tuple[list[Line], float]:
    """Some part of a piece, at some tempo: lines of (start, end, pitch) in seconds, and the length of a beat.

    Old music is written in long notes, so the tempo depends on the notes: half of them follow each other within 0.14
    to 0.75 s. A piece that is too short is repeated.
    """
    steps = np.concatenate([np.diff(np.unique([note[0] for note in part])) for part in parts] or [np.ones(1)])
    step = float(np.median(steps)) if len(steps) else 1.0
    beat = 0.6 * math.exp(rng.uniform(math.log(0.75), math.log(1.35)))
    scale = beat  # seconds of a quarter note
    while step * scale > 0.75:
        scale /= 2
    while step * scale < 0.14:
        scale *= 2
    total = math.ceil(max(note[0] + note[1] for part in parts for note in part))
    wanted = seconds / scale
    first = float(rng.integers(0, int(total - wanted) + 1)) if total > wanted else 0.0
    lines = []
    for part in parts:
        line: Line = []
        for repeat in range(math.ceil((first + wanted) / total)):
            for onset, duration, pitch in part:
                start = (onset + repeat * total - first) * scale
                end = start + duration * scale
                if end > 0.2 and start < seconds - 0.05:
                    line.append((max(start, 0.0), min(end, seconds), int(pitch)))
        lines.append(line)
    return lines, beat


def _covered(line: Line) -> float:
    return sum(end - start for start, end in join((start, end) for start, end, _ in line))


def arrange(
    lines: list[Line], kinds: Sequence[Kind], beat: float, seconds: float, rng: np.random.Generator
) -> list[Line]:
    """Give every instrument something to play: parts of the piece, or an accompaniment when there are too few.

    Parts that are left over go to instruments that can play chords, or are dropped.
    """
    if not kinds:
        return []
    scores: list[Line] = [[] for _ in kinds]
    order = list(rng.permutation(len(lines)))
    if len(kinds) == 1 and kinds[0].melodic and lines:
        # High instruments have the melody, low ones the bass.
        order = [0 if kinds[0].low > 44 else len(lines) - 1]
    players = list(rng.permutation(len(kinds)))
    for i in players:
        if order:
            scores[i] += fit(lines[order.pop()], kinds[i])
        else:
            scores[i] += fit(accompaniment(lines, kinds[i], beat, seconds, rng), kinds[i])
    for i in order:
        able = [j for j in players if not kinds[j].melodic]
        if able and (len(kinds) == 1 or rng.random() < 0.6):
            j = int(rng.choice(able))
            scores[j] += fit(lines[i], kinds[j])
    if len(lines) == 1 and len(kinds) == 1 and not kinds[0].melodic and rng.random() < 0.6:
        scores[0] += fit(accompaniment(lines, kinds[0], beat, seconds, rng), kinds[0])
    return scores


def fit(line: Line, kind: Kind) -> Line:
    """Move a line by octaves into an instrument's range, and then the notes that are still outside."""
    if not line:
        return []
    middle = float(np.median([pitch for *_, pitch in line]))
    octaves = 0
    while middle + 12 * octaves < kind.low + 3:
        octaves += 1
    while middle + 12 * octaves > kind.high - 3:
        octaves -= 1
    fitted = []
    for start, end, pitch in line:
        moved = pitch + 12 * octaves
        while moved < kind.low:
            moved += 12
        while moved > kind.high:
            moved -= 12
        fitted.append((start, end, moved))
    return fitted


def accompaniment(lines: list[Line], kind: Kind, beat: float, seconds: float, rng: np.random.Generator) -> Line:
    """Chords to a piece: of every two beats the triad that has most of what sounds; held, broken or its root."""
    style = str(rng.choice(["roots", "broken"] if kind.melodic else ["held", "beats", "broken"]))
    notes = [note for line in lines for note in line]
    step = 2 * beat
    played: Line = []
    for i in range(math.ceil(seconds / step)):
        start, end = i * step, min((i + 1) * step, seconds)
        weights = np.zeros(12)
        for note_start, note_end, pitch in notes:
            weights[pitch % 12] += max(0.0, min(note_end, end) - max(note_start, start))
        if not weights.any():
            continue
        triads = [(root, third) for root in range(12) for third in (3, 4)]
        fits = [1.2 * weights[root] + weights[(root + third) % 12] + weights[(root + 7) % 12] for root, third in triads]
        root, third = triads[int(np.argmax(fits))]
        chord = [48 + root, 48 + root + third, 48 + root + 7]
        if style == "held":
            played += [(start, end, pitch) for pitch in chord]
        elif style == "roots":
            played += [(start, start + 0.9 * (end - start), chord[0])]
        elif style == "beats":
            for hit in (start, start + beat):
                played += [(hit, min(hit + 0.6 * beat, seconds), pitch) for pitch in chord if hit < seconds - 0.1]
        else:
            for j, pitch in enumerate([chord[0], chord[1], chord[2], chord[1]]):
                hit = start + j * beat / 2
                if hit < seconds - 0.1:
                    played.append((hit, min(hit + beat / 2, seconds), pitch))
    return played


def drum_pattern(beat: float, seconds: float, rng: np.random.Generator) -> Line:
    """Drums of one style from the first beat on, with fills; now and then a hit is left out."""
    while beat > 0.85:
        beat /= 2
    while beat < 0.375:
        beat *= 2
    style = _STYLES[str(rng.choice(sorted(_STYLES)))]
    steps = len(next(iter(style.values())))
    step = beat / 4
    hits: Line = []
    for bar in range(math.ceil(seconds / (steps * step))):
        fill = bar % 4 == 3 and rng.random() < 0.6
        for pitch, pattern in style.items():
            for i, mark in enumerate(pattern):
                if mark == "." or (fill and i >= steps // 2) or (mark == "x" and rng.random() < 0.06):
                    continue
                # A weak hit is one that is shorter, which `_play` plays more softly.
                start = (bar * steps + i) * step
                hits.append((start, start + (0.12 if mark == "X" else 0.08), pitch))
        if fill:
            for i in range(steps // 2, steps):
                if rng.random() < 0.75:
                    start = (bar * steps + i) * step
                    hits.append((start, start + 0.12, int(rng.choice([38, 50, 48, 45, 41]))))
        if bar % 4 == 0 and rng.random() < 0.5:
            hits.append((bar * steps * step, bar * steps * step + 0.12, int(rng.choice(_CYMBALS))))
    return [hit for hit in hits if hit[1] < seconds]


def take_turns(scores: list[Line], seconds: float, rng: np.random.Generator) -> list[Line]:
    """Cut the clip into phrases of 0.5 to 8 s, each for one instrument (sometimes two); one may play throughout."""
    free = int(rng.integers(len(scores))) if len(scores) > 2 and rng.random() < 0.3 else None
    players = [i for i in range(len(scores)) if i != free]
    kept: list[Line] = [list(score) if i == free else [] for i, score in enumerate(scores)]
    short = rng.random() < 0.6
    start, before = 0.0, -1
    while start < seconds:
        length = float(rng.uniform(0.5, 3.0) if short else rng.uniform(2.0, 8.0))
        turn = int(rng.choice([i for i in players if i != before] or players))
        playing = {turn}
        if rng.random() < 0.12:
            playing.add(int(rng.choice(players)))
        for i in playing:
            kept[i] += _within(scores[i], start, min(start + length, seconds))
        start += length + (float(rng.uniform(0.3, 1.0)) if rng.random() < 0.15 else 0.0)
        before = turn
    return kept


def with_entries(scores: list[Line], seconds: float, rng: np.random.Generator) -> list[Line]:
    """Some instruments but not all enter later, end earlier or rest for a while."""
    kept = []
    always = int(rng.integers(len(scores)))
    for i, score in enumerate(scores):
        if i == always or rng.random() < 0.4:
            kept.append(score)
            continue
        start, end = sorted(float(x) for x in rng.uniform(0.0, seconds, 2))
        where = str(rng.choice(["later", "earlier", "rests"]))
        before = [] if where == "later" else _within(score, 0.0, max(start, 4.0))
        after = [] if where == "earlier" else _within(score, min(end, seconds - 4.0), seconds)
        kept.append(before + after)
    return kept


def _within(line: Line, start: float, end: float) -> Line:
    """The notes that sound in a stretch, cut to it; what is left of them is at least 0.06 s."""
    cut = [(max(a, start), min(b, end), pitch) for a, b, pitch in line if a < end and b > start]
    return [note for note in cut if note[1] - note[0] >= 0.06]


def _play(line: Line, seconds: float, rng: np.random.Generator, drums: bool) -> list[Note]:
    """Give notes velocities, which swell and vary, and make them end before their pitch sounds anew."""
    loud = float(rng.uniform(62, 112))
    swell, period, phase = float(rng.uniform(0, 12)), float(rng.uniform(5, 15)), float(rng.uniform(0, 6.28))
    apart = 1.0 if drums else float(rng.choice([1.0, 0.95, 0.85, 0.6], p=[0.4, 0.3, 0.2, 0.1]))
    longest: dict[tuple[float, int], float] = {}
    for start, end, pitch in line:
        key = (round(start, 3), pitch)
        longest[key] = max(longest.get(key, 0.0), round(min(start + (end - start) * apart, seconds), 3))
    notes: list[Note] = []
    last: dict[int, int] = {}
    for (start, pitch), end in sorted(longest.items()):
        if pitch in last and notes[last[pitch]][1] > start - 0.002:
            before = notes[last[pitch]]
            notes[last[pitch]] = (before[0], max(before[0] + 0.01, round(start - 0.005, 3)), pitch, before[3])
        velocity = loud + swell * math.sin(phase + 6.28 * start / period) + rng.normal(0, 5)
        if drums and end - start < 0.1:
            velocity -= 22
        if end - start >= 0.03:
            last[pitch] = len(notes)
            notes.append((start, end, pitch, int(np.clip(velocity, 30, 127))))
    return notes


def _begin_at_once(instruments: Sequence[Instrument], seconds: float) -> list[Instrument]:
    """Move all notes so that the first begins at 0."""
    first = min((instrument.notes[0][0] for instrument in instruments if instrument.notes), default=0.0)
    return [
        dataclasses.replace(
            instrument,
            notes=[(round(a - first, 3), round(b - first, 3), pitch, loud) for a, b, pitch, loud in instrument.notes],
        )
        for instrument in instruments
    ]


# -------------------------------------------------------------------------------------------------------- the labels


def join(intervals: Iterable[tuple[float, float]], apart: float = _JOIN_SECONDS) -> list[list[float]]:
    """Sort intervals and join those that overlap or are less than `apart` seconds from each other."""
    joined: list[list[float]] = []
    for start, end in sorted(intervals):
        if joined and start - joined[-1][1] < apart:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return joined


def sounding(instrument: Instrument, seconds: float) -> list[list[float]]:
    """When an instrument is heard: sorted intervals in 0..seconds, releases included."""
    intervals = []
    for start, end, pitch, _ in instrument.notes:
        if instrument.program >= DRUMS:
            end = start + (CYMBAL_SECONDS if pitch in _CYMBALS else DRUM_SECONDS)
        elif instrument.program in RING_SECONDS:
            end += RING_SECONDS[instrument.program]
        elif not instrument.decays:
            end += RELEASE_SECONDS
        if start < seconds:
            intervals.append((start, min(end, seconds)))
    return [[round(start, 3), round(end, 3)] for start, end in join(intervals)]


def label(instruments: Sequence[Instrument], seconds: float) -> dict[str, list[list[float]]]:
    """The tags about which something is known, each with the intervals of its presence.

    An instrument without notes is not there. `strings` is unknown with a solo string instrument, `violin` and `cello`
    with an ensemble, an acoustic instrument's tag with its electric cousin. `solo` is present when there is one
    melodic instrument that is not a section and no drums, absent when three or more sound together, or drums with
    something else, for four fifths of the clip. With no voice among the programs, all that is sung is absent.
    """
    heard = [(instrument.program, sounding(instrument, seconds)) for instrument in instruments if instrument.notes]
    programs = {program for program, _ in heard}
    tags: dict[str, list[list[float]]] = {}
    for tag, present in PRESENT.items():
        if not programs & set(UNKNOWN[tag]):
            tags[tag] = _rounded(join(tuple(i) for program, times in heard if program in present for i in times))
    whole = [[0.0, seconds]]
    if not programs & {*_VOICES, *_PERHAPS_VOICES}:
        tags.update({tag: whole for tag in NO_VOICE_TAGS})
        tags.update({tag: [] for tag in VOICE_TAGS})
    elif programs & set(_VOICES):
        tags.update({tag: [] for tag in NO_VOICE_TAGS})
    if "choir" in tags:
        tags["choral"] = tags["choir"]
    if len(heard) == 1 and heard[0][0] < DRUMS and heard[0][0] not in _SECTIONS:
        tags["solo"] = heard[0][1]
    elif _together(heard, seconds) > 0.8 * seconds:
        tags["solo"] = []
    return tags


def _rounded(intervals: list[list[float]]) -> list[list[float]]:
    return [[round(start, 3), round(end, 3)] for start, end in intervals]


def _together(heard: Sequence[tuple[int, list[list[float]]]], seconds: float) -> float:
    """Seconds in which three or more instruments sound, or drums and another."""
    frames = np.zeros((2, math.ceil(seconds * 20)), int)  # twentieths of a second
    for program, times in heard:
        for start, end in times:
            frames[int(program >= DRUMS), int(start * 20) : math.ceil(end * 20)] += 1
    others, drums = frames
    return float(((others + drums >= 3) | ((drums > 0) & (others > 0))).sum() / 20)


# --------------------------------------------------------------------------------------------------------- the sound


def midi_bytes(instruments: Sequence[Instrument], apart_seconds: float) -> bytes:
    """A standard MIDI file of format 0 in which instrument i begins `i * apart_seconds` after the first.

    A tick is 1/960 s: 480 to the quarter note, and 120 quarter notes to the minute. Channels are 1, 2, ... and 10 for
    drums.
    """
    events: list[tuple[int, int, bytes]] = [(0, -1, b"\xff\x51\x03" + (500_000).to_bytes(3, "big"))]
    melodic = [channel for channel in range(16) if channel != 9]
    for i, instrument in enumerate(instruments):
        drums = instrument.program >= DRUMS
        channel = 9 if drums else melodic.pop(0)
        offset = round(i * apart_seconds * TICKS_PER_SECOND)
        events.append((offset, 0, bytes([0xC0 | channel, instrument.program - DRUMS if drums else instrument.program])))
        events += [
            (offset, 1, bytes([0xB0 | channel, number, value])) for number, value in sorted(instrument.controls.items())
        ]
        for start, end, pitch, velocity in instrument.notes:
            on = offset + round(start * TICKS_PER_SECOND)
            off = max(on + 1, offset + round(end * TICKS_PER_SECOND))
            events += [(on, 3, bytes([0x90 | channel, pitch, velocity])), (off, 2, bytes([0x80 | channel, pitch, 0]))]
        events.append((round((i + 1) * apart_seconds * TICKS_PER_SECOND) - 1, 4, bytes([0xB0 | channel, 120, 0])))
    events.sort()
    track, before = b"", 0
    for tick, _, message in events:
        track += _variable_length(tick - before) + message
        before = tick
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS_PER_SECOND // 2)
    return header + b"MTrk" + struct.pack(">I", len(track)) + track


def _variable_length(value: int) -> bytes:
    """A number in groups of seven bits, the highest first; all but the last have their top bit set."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | (value & 0x7F))
    return bytes(reversed(groups))


def render(plan: Plan, soundfont: str) -> np.ndarray:
    """The clip of a plan, float32 [seconds * 16000], its peak as the plan says.

    fluidsynth plays the instruments one after the other, so that their levels are those of the plan and not of the
    soundfont: a level is the RMS that a tenth of the blocks of 0.4 s exceed.

    Raises:
        AudioError: fluidsynth fails, or an instrument is silent.
    """
    instruments = [instrument for instrument in plan.instruments if instrument.notes]
    if not instruments:
        raise AudioError(f"expected notes in the excerpt of {plan.piece}. Received: none")
    apart = plan.seconds + _GAP_SECONDS
    with tempfile.TemporaryDirectory() as folder:
        score, wav = Path(folder) / "score.mid", Path(folder) / "score.wav"
        score.write_bytes(midi_bytes(instruments, apart))
        # Samples are read when a program needs them: a quarter of the time with a large soundfont.
        settings = {"synth.gain": 0.5, "synth.dynamic-sample-loading": 1, **plan.synth}
        command = ["fluidsynth", "-ni", "-q", "-F", str(wav), "-O", "float", "-r", str(RENDER_RATE)]
        command += [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        done = subprocess.run([*command, soundfont, str(score)], capture_output=True, text=True, check=False)
        if done.returncode or not wav.is_file():
            reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise AudioError(f"expected fluidsynth to render {plan.piece}. Received: {reason}")
        rendered, _ = soundfile.read(wav, dtype="float32", always_2d=True)
    mono = soxr.resample(rendered.mean(axis=1), RENDER_RATE, SAMPLE_RATE)
    n_samples = round(plan.seconds * SAMPLE_RATE)
    mix = np.zeros(n_samples, np.float32)
    for i, instrument in enumerate(instruments):
        start = round(i * apart * SAMPLE_RATE)
        stem = mono[start : start + n_samples]
        stem = np.pad(stem, (0, n_samples - len(stem)))
        loudness = level(stem)
        if loudness < 1e-4:
            raise AudioError(f"expected program {instrument.program} of {plan.soundfont} to sound. Received: silence")
        mix += stem * (10.0 ** (instrument.level_db / 20.0) / loudness)
    fade = round(0.02 * SAMPLE_RATE)
    mix[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return mix * np.float32(10.0 ** (plan.peak_db / 20.0) / np.abs(mix).max())


def level(waveform: np.ndarray) -> float:
    """The RMS that a tenth of the sounding blocks of 0.4 s exceed; `waveform` is [samples] at 16 kHz.

    What is left after the last whole block counts only if nothing sounds before.
    """
    block = round(0.4 * SAMPLE_RATE)
    n_whole = len(waveform) // block * block
    whole, rest = waveform[:n_whole], waveform[n_whole:]
    blocks = whole.reshape(-1, block) if np.abs(whole).max(initial=0.0) > 1e-4 else rest[np.newaxis]
    rms = np.sqrt(np.mean(blocks.astype(np.float64) ** 2, axis=1))
    heard = rms[rms > 0.02 * rms.max()]
    return float(np.quantile(heard, 0.9)) if len(heard) else 0.0


# ----------------------------------------------------------------------------------------------------------- the set


def render_set(
    out: Path,
    pieces: Sequence[dict[str, Any]],
    soundfonts: dict[str, str],
    counts: dict[str, int],
    seed: int,
    jobs: int,
) -> list[str]:
    """Render the clips that are not there; return a sentence for each that failed.

    Raises:
        ManifestError: `out` has clips of another seed, or a split has no piece.
    """
    by_split = {split: [piece for piece in pieces if score_pieces.split_of(piece["work"]) == split] for split in SPLITS}
    todo = []
    for split, count in counts.items():
        if count and not by_split[split]:
            raise ManifestError(f"expected pieces for the split {split}. Received: none of {len(pieces)}")
        for number in range(count):
            path = out / split / f"{number:05d}.json"
            if not path.exists():
                todo.append((split, number))
            elif (found := json.loads(path.read_text("utf-8"))["seed"]) != seed:
                raise ManifestError(f"{path}: expected a clip of seed {seed}. Received: one of seed {found}")
    logging.info("%d clips are there, %d are to be rendered.", sum(counts.values()) - len(todo), len(todo))
    # The splits in turn, so that a set that is stopped early has something of each.
    todo.sort(key=lambda clip: clip[1] / counts[clip[0]])
    failed: list[str] = []
    if todo:
        context = multiprocessing.get_context("spawn")
        with context.Pool(jobs, _start_worker, (out, by_split, soundfonts, seed)) as pool:
            for problem in tqdm(pool.imap_unordered(_render_task, todo), total=len(todo), desc="render", unit="clip"):
                if problem:
                    logging.warning("%s", problem)
                    failed.append(problem)
    return failed


_worker: tuple[Any, ...] = ()


def _start_worker(*arguments: Any) -> None:
    global _worker
    _worker = arguments


def _render_task(clip: tuple[str, int]) -> str | None:
    out, by_split, soundfonts, seed = _worker
    try:
        render_clip(out, by_split[clip[0]], soundfonts, *clip, seed)
    except AudioError as error:
        return f"{clip[0]}/{clip[1]:05d}: {error}"
    return None


def render_clip(
    out: Path, pieces: Sequence[dict[str, Any]], soundfonts: dict[str, str], split: str, number: int, seed: int
) -> None:
    """Write OUT/SPLIT/NNNNN.flac and then NNNNN.json, which says that both are there.

    Raises:
        AudioError: as `render`.
    """
    plan = make_plan(pieces, split, number, seed)
    waveform = render(plan, soundfonts[plan.soundfont])
    audio_path = out / split / f"{number:05d}.flac"
    with replacing(audio_path) as temporary:
        soundfile.write(temporary, waveform, SAMPLE_RATE, subtype="PCM_16")
    labels = {
        "seconds": plan.seconds,
        "stretch_seconds": STRETCH_SECONDS,
        "tags": label(plan.instruments, plan.seconds),
        "piece": plan.piece,
        "work": plan.work,
        "texture": plan.texture,
        "soundfont": plan.soundfont,
        "programs": [instrument.program for instrument in plan.instruments if instrument.notes],
        "levels_db": [instrument.level_db for instrument in plan.instruments if instrument.notes],
        "seed": seed,
    }
    with replacing(audio_path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(labels) + "\n", "utf-8")


def write_manifest(out: Path, counts: dict[str, int]) -> list[dict[str, Any]]:
    """Write OUT/manifest.jsonl, a row for every clip that is there, and return the rows."""
    rows = []
    for split, count in counts.items():
        for number in range(count):
            path = out / split / f"{number:05d}.json"
            if not path.exists():
                continue
            labels = json.loads(path.read_text("utf-8"))
            rows.append(
                {
                    "path": f"{split}/{number:05d}.flac",
                    "labels": f"{split}/{number:05d}.json",
                    "tags": {},
                    "split": split,
                    "group": labels["work"],
                    **{key: labels[key] for key in ("piece", "soundfont", "programs", "texture", "seconds")},
                }
            )
    with replacing(out / MANIFEST) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return rows


def table(out: Path, rows: Sequence[dict[str, Any]]) -> str:
    """For every split its clips and minutes, and for every tag the clips with, without, and unknown."""
    lines = []
    for split in SPLITS:
        labels = [json.loads((out / row["labels"]).read_text("utf-8")) for row in rows if row["split"] == split]
        lines.append(f"{split}: {len(labels)} clips, {sum(clip['seconds'] for clip in labels) / 60:.1f} min")
        for tag in (*PRESENT, "choral", "solo", *NO_VOICE_TAGS[:1], *VOICE_TAGS[:1]):
            known = [clip["tags"][tag] for clip in labels if tag in clip["tags"]]
            present = sum(bool(times) for times in known)
            lines.append(
                f"  {tag:12} {present:5} with {len(known) - present:5} without {len(labels) - len(known):5} unknown"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    app.run(main)
