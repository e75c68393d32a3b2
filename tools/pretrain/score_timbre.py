"""Vary the timbre of an instrument with offsets of a soundfont's generators, and other samples for its pitches."""

from __future__ import annotations

import dataclasses

import numpy as np

from pretrain.score_instruments import DRUMS, KINDS, Instrument
from pretrain.score_labels import RING_SECONDS
from pretrain.score_midi import (
    ATTACK,
    DECAY,
    FILTER_CENTS,
    FILTER_Q,
    FINE_TUNE,
    RELEASE,
    VIBRATO_CENTS,
    VIBRATO_RATE,
)

LOWEST_VELOCITY, HIGHEST_VELOCITY = 20, 127
MOST_KEYS = 4

# Offsets of filters and of the vibrato's rate in cents, by soundfont. Two in five of FluidR3's filters are at 13500,
# and two octaves below that is still 5 kHz. Half of TimGM6mb's are below 8600. FluidR3's vibrato is at 8.2 Hz unless a
# preset sets it, most of TimGM6mb's near 5.4 Hz.
_FILTER = {"FluidR3": (-3600, 600), "TimGM6mb": (-2400, 1200)}
_RATE = {"FluidR3": (-1100, -300), "TimGM6mb": (-400, 300)}
# Times are multiplied, so only an attack of 1 ms can become slower. These programs have slower attacks; some of them
# are pads with an attack of half a second.
_RISING = {
    "FluidR3": (0, 1, 3, 16, 35, 49, 50, 51, 56, 59, 63, 64, 65, 66, 67, 81, 84, 86, 88, 89, 92, 93, 95),
    "TimGM6mb": (
        *(2, 10, 19, 20, 21, 22, 23, 40, 41, 42, 43, 44, 46, 48, 49, 50, 51, 52, 53, 54, 56, 58, 60, 62, 63, 64, 66),
        *(67, 68, 69, 70, 73, 74, 75, 77, 78, 79, 82, 83, 85, 88, 89, 90, 91, 92, 93, 94, 95, 110, 111),
    ),
}


def varied(instrument: Instrument, soundfont: str, rng: np.random.Generator) -> Instrument:
    """Vary an instrument's timbre; pitches and times stay the same, keys and velocities may change.

    One in ten stays the same. The others get a random choice of a filter, its resonance, a vibrato, a slower attack (at
    most 64 ms, or 16 ms if the instrument decays), decay and release half to twice as long, 25 cents of tuning, keys up
    to `MOST_KEYS` semitones from the pitches, so that other samples sound, and 20 steps of velocity. Drums get only a
    filter.

    Args:
        instrument: The instrument and its notes.
        soundfont: A soundfont of the split "train".
        rng: Decides the variation.
    """

    def sometimes(probability: float, low: float, high: float) -> int:
        value = int(rng.integers(round(low), round(high) + 1))
        return value if rng.random() < probability else 0

    untouched = rng.random() < 0.1
    drums, decays, program = instrument.program >= DRUMS, instrument.decays, instrument.program
    generators = {FILTER_CENTS: sometimes(0.5 if drums else 0.65, *_FILTER[soundfont])}
    key_shift, louder = 0, 0
    if not drums:
        # Vibrato is rare in struck and plucked strings. Notes must not end earlier than their labels.
        generators[FILTER_Q] = sometimes(0.4, 10, 60)
        generators[VIBRATO_CENTS] = sometimes(0.15 if decays else 0.4, 4, 10 if decays else 40)
        generators[VIBRATO_RATE] = sometimes(float(generators[VIBRATO_CENTS] > 0), *_RATE[soundfont])
        slower = sometimes(0.4, 1200, 4800 if decays else 7200)
        generators[ATTACK] = 0 if program in _RISING[soundfont] else slower
        generators[DECAY] = sometimes(0.5, -400 if decays else -1200, 1200)
        generators[RELEASE] = sometimes(0.5, 0 if program in RING_SECONDS else -1200, 1200)
        generators[FINE_TUNE] = sometimes(0.6, -25, 25)
        # A soundfont may lack samples above an instrument's highest pitch; all have samples below the lowest.
        high = next(kind.high for kind in KINDS.values() if program in kind.programs)
        room = high - max((pitch for _, _, pitch, _ in instrument.notes), default=high)
        key_shift = sometimes(0.7, -MOST_KEYS, max(0, min(MOST_KEYS, room)))
        louder = sometimes(0.6, -20, 20)
    if untouched:
        return instrument
    return dataclasses.replace(
        instrument,
        notes=[
            (start, end, pitch, int(np.clip(velocity + louder, LOWEST_VELOCITY, HIGHEST_VELOCITY)))
            for start, end, pitch, velocity in instrument.notes
        ],
        generators={number: offset for number, offset in generators.items() if offset},
        key_shift=key_shift,
    )
