"""Resampling in the graph, against the closed form of tones and against soxr."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import soxr
import tensorflow as tf

from keras_tagger.export.resample import resample

RATE = 16000
RATES = [1000, 8000, 11025, 15999, 22050, 32000, 44100, 44101, 48000, 96000, 192000]
# The filter's reach beyond the ends of a clip, where it sees silence: 48 crossings of the lower rate.
EDGE = 64


@pytest.fixture(scope="module")
def run() -> Any:
    specs = [tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32)]
    return tf.function(lambda wave, rate: resample(wave, rate, RATE), input_signature=specs, autograph=False)


def tones(rate: int, n_samples: int, pitches: np.ndarray) -> np.ndarray:
    time = np.arange(n_samples) / rate
    return np.sin(2 * np.pi * pitches[:, None] * time + pitches[:, None]).mean(axis=0)


@pytest.mark.parametrize("rate", RATES)
def test_tones_stay_the_tones_they_are(run: Any, rate: int) -> None:
    pitches = np.linspace(0.02, 0.86, 7) * min(rate, RATE) / 2
    n_samples = round(0.5 * rate) + 1
    found = run(tones(rate, n_samples, pitches).astype(np.float32), rate).numpy()
    assert found.dtype == np.float32
    assert len(found) == -(-n_samples * RATE // rate)
    edge = EDGE * max(1, RATE // rate)
    expected = tones(RATE, len(found), pitches)
    np.testing.assert_allclose(found[edge:-edge], expected[edge:-edge], atol=2e-5)


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_what_is_beyond_the_new_rate_is_taken_out(run: Any, rate: int) -> None:
    tone = tones(rate, rate // 2, np.array([8100.0])).astype(np.float32)
    found = run(tone, rate).numpy()[EDGE:-EDGE]
    assert np.abs(found).max() < 2e-5


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_music_like_noise_is_what_soxr_makes_of_it(run: Any, rate: int) -> None:
    """Both have transition bands of their own, so the noise stays below them."""
    rng = np.random.default_rng(rate)
    low = soxr.resample(rng.standard_normal(6000), 12000 * min(rate, RATE) // RATE, rate, quality="VHQ") / 5
    found = run(low.astype(np.float32), rate).numpy()
    expected = soxr.resample(low.astype(np.float32), rate, RATE, quality="HQ")
    n_samples = min(len(found), len(expected))
    assert abs(len(found) - len(expected)) <= 1
    middle = slice(2 * EDGE, n_samples - 2 * EDGE)
    np.testing.assert_allclose(found[middle], expected[middle], atol=2e-4)


def test_the_same_rate_changes_nothing(run: Any) -> None:
    wave = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    np.testing.assert_array_equal(run(wave, RATE), wave)


@pytest.mark.parametrize("rate", [16000, 44100, 8000])
@pytest.mark.parametrize("n_samples", [0, 1, 2, 3])
def test_the_shortest_clips(run: Any, rate: int, n_samples: int) -> None:
    found = run(np.ones(n_samples, np.float32), rate).numpy()
    assert len(found) == -(-n_samples * RATE // rate)
    # As with silence behind it, which is what the filter sees beyond the end.
    longer = run(np.pad(np.ones(n_samples, np.float32), (0, 500)), rate).numpy()
    np.testing.assert_allclose(found, longer[: len(found)], atol=1e-6)
    assert n_samples == 0 or found[0] > 0.3
