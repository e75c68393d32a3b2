"""tools/pretrain/score_render.py: what is heard is what labels and levels say. All but one need fluidsynth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_tagger.errors import AudioError
from made_scores import FOLDER, needs_fluidsynth
from pretrain.score_instruments import DRUMS, Instrument
from pretrain.score_labels import sounding
from pretrain.score_plan import Plan
from pretrain.score_render import level, render
from pretrain.score_soundfonts import SOUNDFONTS


def scale_plan(program, soundfont="TimGM6mb", seconds=20.0):
    """A scale with rests: two seconds of notes, two of nothing."""
    notes = [(i / 2, i / 2 + 0.45, 60 + i % 12, 100) for i in range(38) if i % 8 < 4]
    played = Instrument(program, notes, decays=program in (0, 6, 25, 46, 104))
    return Plan("scale", "scale", "single", seconds, soundfont, -3.0, {"synth.reverb.active": 0}, [played])


@needs_fluidsynth
@pytest.mark.parametrize("program", [0, 6, 25, 29, 40, 42, 48, 46, 52, 73, 104, 81, DRUMS])
def test_an_instrument_is_heard_when_its_label_says(program):
    plan = scale_plan(program)
    if program == DRUMS:
        plan.instruments[0].notes = [(*note[:2], 38, 100) for note in plan.instruments[0].notes]
    waveform = render(plan, str(FOLDER / SOUNDFONTS[plan.soundfont]))
    assert waveform.dtype == np.float32
    assert waveform.shape == (320000,)
    assert np.abs(waveform).max() == pytest.approx(10 ** (-3 / 20), abs=1e-4)
    frames = np.sqrt(np.mean(waveform.reshape(-1, 1600) ** 2, axis=1))  # tenths of a second
    heard = np.zeros(200, bool)
    for start, end in sounding(plan.instruments[0], plan.seconds):
        heard[int(start * 10) : int(np.ceil(end * 10))] = True
    assert 0.3 < heard.mean() < 0.8
    # From 0.4 s after a label's end on, what is left is 20 dB softer than what labels cover.
    silent = ~heard & ~np.roll(heard, 1) & ~np.roll(heard, 2) & ~np.roll(heard, 3) & ~np.roll(heard, 4)
    assert np.median(frames[heard]) > 10 * np.median(frames[silent])
    assert frames[0] > 0.1 * np.median(frames[heard])  # music begins at once


@needs_fluidsynth
def test_levels_are_those_of_the_plan():
    loud, soft = scale_plan(81), scale_plan(46)
    soft.instruments[0].level_db = -9.0
    font = str(FOLDER / SOUNDFONTS["TimGM6mb"])
    alone = [render(plan, font) for plan in (loud, soft)]
    both = render(dataclasses.replace(loud, instruments=loud.instruments + soft.instruments), font)
    # The mix is a sum of the two, whatever its gain; find the two factors.
    factors = np.linalg.lstsq(np.stack(alone, axis=1), both, rcond=None)[0]
    np.testing.assert_allclose(np.stack(alone, axis=1) @ factors, both, atol=5e-3)
    levels = [factor * level(waveform) for factor, waveform in zip(factors, alone, strict=True)]
    assert 20 * np.log10(levels[1] / levels[0]) == pytest.approx(-9.0, abs=0.1)


def test_level_is_that_of_the_louder_blocks():
    block = np.sin(2 * np.pi * 100 * np.arange(6400) / 16000)
    waveform = np.concatenate([gain * block for gain in (0.0, 0.1, 0.5, 0.5, 0.5, 0.0)])
    assert level(waveform) == pytest.approx(0.5 / np.sqrt(2), rel=1e-6)
    # A single chord at the very end.
    assert level(np.concatenate([np.zeros(6400), 0.5 * block[:1600]])) == pytest.approx(0.5 / np.sqrt(2), rel=1e-6)
    assert level(np.zeros(20000)) == 0.0


@needs_fluidsynth
def test_what_cannot_be_heard_is_an_error():
    font = str(FOLDER / SOUNDFONTS["TimGM6mb"])
    plan = scale_plan(0)
    plan.instruments[0].notes = []
    with pytest.raises(AudioError, match="expected notes in the excerpt of scale. Received: none"):
        render(plan, font)
