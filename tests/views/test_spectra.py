"""The spectrogram for the eye: tones and clicks are where they belong."""

from __future__ import annotations

import numpy as np
import pytest

from keras_tagger.views.spectra import mel_centres, spectrogram

RATE = 16000


@pytest.mark.parametrize("hertz", [100.0, 440.0, 3000.0, 7000.0])
def test_a_tone_is_in_the_band_nearest_to_it(hertz: float) -> None:
    values, times, bands = spectrogram(np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE).astype(np.float32), RATE)
    assert values.shape == (len(bands), len(times)) == (80, 40)
    assert (values.max(), values.min()) == (0.0, pytest.approx(-80.0, abs=30))
    loudest = values.mean(axis=1).argmax()
    assert abs(bands[loudest] - hertz) <= np.diff(bands)[max(loudest - 1, 0)]


def test_a_click_is_in_the_frame_of_its_time() -> None:
    click = np.zeros(2 * RATE, np.float32)
    click[20_000] = 1.0
    values, times, _ = spectrogram(click, RATE)
    assert abs(times[values.sum(axis=0).argmax()] - 1.25) <= 0.0125


def test_bands_may_be_given_and_a_single_sample_is_enough() -> None:
    values, times, bands = spectrogram(np.ones(1, np.float32), RATE, np.array([50.0, 51.0, 7900.0]))
    assert (values.shape, times.tolist(), bands.tolist()) == ((3, 1), [0.0125], [50.0, 51.0, 7900.0])
    assert np.isfinite(values).all()
    centres = mel_centres(8000.0)
    assert np.all(np.diff(centres) > 0)
    assert 0 < centres[0] < centres[-1] < 8000
