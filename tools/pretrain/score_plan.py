"""Plan a clip completely from the seed, the split and the clip's number."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pretrain.score_arrangement import arrange, excerpt, take_turns, with_entries
from pretrain.score_drums import KITS, drum_pattern
from pretrain.score_instruments import DRUMS, KINDS, Instrument, Line, Note
from pretrain.score_labels import PRESENT, UNKNOWN, join
from pretrain.score_pieces import SPLITS
from pretrain.score_soundfonts import SOUNDFONTS_OF
from pretrain.score_timbre import varied

TEXTURES = ("single", "ensemble", "turns")
# The kinds of a clip's first instrument, with a frequency that is the number of mentions: tags, and others.
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


@dataclasses.dataclass
class Plan:
    """Everything that decides a clip.

    Attributes:
        piece, work: as in `score_pieces`.
        texture: one of `TEXTURES`.
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


def make_plan(
    pieces: Sequence[dict[str, Any]],
    split: str,
    number: int,
    seed: int,
    texture: str | None = None,
    vary_timbre: bool = False,
) -> Plan:
    """Plan a clip; the same arguments give the same plan.

    Args:
        pieces: those of the split, as `score_pieces.load_pieces` has them.
        split: "train", "valid" or "test".
        number: of the clip in its split, from 0.
        seed: not negative.
        texture: one of `TEXTURES`, which is drawn otherwise.
        vary_timbre: vary the instruments of the split "train"; all else of the plan is the same.
    """
    split_number = SPLITS.index(split)
    rng = np.random.default_rng([seed, split_number, number])
    seconds = round(float(rng.uniform(20.0, 30.0)), 2)
    drawn = str(rng.choice(TEXTURES, p=[0.40, 0.45, 0.15]))
    texture = drawn if texture is None else texture
    # Each tag comes first equally often, in a new order for every 12 clips.
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
                play(score, seconds, rng, drums),
                level_db=round(float(rng.uniform(-6.0 if drums else -10.0, 0.0)), 2),
                decays=drums or KINDS[programs[i][0]].decays,
                controls={91: int(rng.integers(10, 110)), 93: int(rng.integers(0, 60)), 10: int(rng.integers(20, 108))},
            )
        )
    instruments = begin_at_once(instruments, seconds)
    soundfont = str(rng.choice(SOUNDFONTS_OF[split]))
    synth = {
        "synth.reverb.active": int(rng.random() < 0.85),
        "synth.reverb.room-size": round(float(rng.uniform(0.1, 0.85)), 3),
        "synth.reverb.damp": round(float(rng.uniform(0.0, 0.6)), 3),
        "synth.reverb.level": round(float(rng.uniform(0.1, 0.9)), 3),
        "synth.chorus.active": int(rng.random() < 0.4),
    }
    peak_db = round(float(-rng.uniform(0.5, 14.0)), 2)
    if vary_timbre and split == "train":
        timbre_rng = np.random.default_rng([seed, split_number, number, 2])
        instruments = [varied(instrument, soundfont, timbre_rng) for instrument in instruments]
    return Plan(piece["piece"], piece["work"], texture, seconds, soundfont, peak_db, synth, instruments)


def choose_programs(names: Sequence[str], size: int, rng: np.random.Generator) -> list[tuple[str, int]]:
    """Extend a list of kinds to `size` and give each a program, so that none makes a tag of another unknown."""
    chosen: list[tuple[str, int]] = []
    while len(chosen) < size:
        if len(chosen) < len(names):
            name = names[len(chosen)]
        else:
            # String ensembles are rejected beside solo strings, so they are tried more often.
            name = str(rng.choice((*_TAG_KINDS, "strings") if rng.random() < 0.8 else _OTHER_KINDS))
        if name == "synth" and rng.random() < 0.12:
            name = "synth bass"
        program = int(rng.choice(KINDS[name].programs))
        if name not in (other for other, _ in chosen) and not any(clash(program, other) for _, other in chosen):
            chosen.append((name, program))
    return chosen


def clash(one: int, other: int) -> bool:
    """Return whether one of two programs makes a tag of the other unknown."""
    return any(
        (one in PRESENT[tag] and other in UNKNOWN[tag]) or (other in PRESENT[tag] and one in UNKNOWN[tag])
        for tag in PRESENT
    )


def _covered(line: Line) -> float:
    return sum(end - start for start, end in join((start, end) for start, end, _ in line))


def play(line: Line, seconds: float, rng: np.random.Generator, drums: bool) -> list[Note]:
    """Give notes velocities, which swell and vary, and end them before their pitch is played again."""
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


def begin_at_once(instruments: Sequence[Instrument], seconds: float) -> list[Instrument]:
    """Move all notes so that the first begins at 0."""
    first = min((instrument.notes[0][0] for instrument in instruments if instrument.notes), default=0.0)
    return [
        dataclasses.replace(
            instrument,
            notes=[(round(a - first, 3), round(b - first, 3), pitch, loud) for a, b, pitch, loud in instrument.notes],
        )
        for instrument in instruments
    ]
