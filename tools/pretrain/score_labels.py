"""Derive the tags of a clip, and when they are heard, from its instruments."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from pretrain.score_instruments import CYMBALS, DRUMS, Instrument

RELEASE_SECONDS = 0.1
# Undamped strings: measured notes of a harp and a sitar stay as loud for this long after their ends.
RING_SECONDS = {46: 0.6, 104: 0.6}
DRUM_SECONDS = 0.4
CYMBAL_SECONDS = 1.5
_JOIN_SECONDS = 0.1

# The programs that have a tag, and those with which it is unknown whether the tag is present.
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
# Programs of many players, which are not a solo even when alone.
_SECTIONS = (44, 45, 48, 49, 50, 51, 52, 53, 54, 61, 91)
NO_VOICE_TAGS = ("no vocals", "no vocal", "no voice")
VOICE_TAGS = (
    *("vocal", "vocals", "voice", "singing", "male", "female", "man", "woman", "male vocal", "female vocal"),
    *("male voice", "female voice", "opera"),
)


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
    """Return the sorted intervals, in 0..seconds, in which an instrument is heard, releases included."""
    intervals = []
    for start, end, pitch, _ in instrument.notes:
        if instrument.program >= DRUMS:
            end = start + (CYMBAL_SECONDS if pitch in CYMBALS else DRUM_SECONDS)
        elif instrument.program in RING_SECONDS:
            end += RING_SECONDS[instrument.program]
        elif not instrument.decays:
            end += RELEASE_SECONDS
        if start < seconds:
            intervals.append((start, min(end, seconds)))
    return [[round(start, 3), round(end, 3)] for start, end in join(intervals)]


def label(instruments: Sequence[Instrument], seconds: float) -> dict[str, list[list[float]]]:
    """Return the known tags, each with the intervals in which it is present.

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
            tags[tag] = _rounded(join((a, b) for program, times in heard if program in present for a, b in times))
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
    """Return the seconds in which three or more instruments, or drums and another instrument, sound."""
    frames = np.zeros((2, math.ceil(seconds * 20)), int)  # twentieths of a second
    for program, times in heard:
        for start, end in times:
            frames[int(program >= DRUMS), int(start * 20) : math.ceil(end * 20)] += 1
    others, drums = frames
    return float(((others + drums >= 3) | ((drums > 0) & (others > 0))).sum() / 20)
