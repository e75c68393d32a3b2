"""Production, distribution and performance, as they change a clip."""

from __future__ import annotations

import numpy as np
import pytest

from pretrain import production

RATE = 16000


@pytest.fixture
def clip() -> np.ndarray:
    """Two seconds of a tone of 1 kHz that is 20 dB softer in its second half."""
    tone = 0.5 * np.sin(2 * np.pi * 1000.0 * np.arange(2 * RATE) / RATE)
    tone[RATE:] *= 0.1
    return tone.astype(np.float32)


def rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(waveform**2)))


def share_above(waveform: np.ndarray, hz: float) -> float:
    """The share of the energy above a frequency."""
    energy = np.abs(np.fft.rfft(waveform)) ** 2
    return float(energy[np.fft.rfftfreq(len(waveform), 1 / RATE) > hz].sum() / energy.sum())


@pytest.mark.parametrize("step", [production.loud, production.coded, production.produced, *production.MEDIA])
def test_a_step_keeps_the_length_and_follows_the_generator(step, clip: np.ndarray):
    first = step(clip, np.random.default_rng(3))
    assert first.shape == clip.shape
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, step(clip, np.random.default_rng(3)))


def test_compression_brings_loud_and_soft_together(clip: np.ndarray):
    before = rms(clip[RATE // 2 : RATE]) / rms(clip[3 * RATE // 2 :])
    for seed in range(5):
        after = production.loud(clip, np.random.default_rng(seed))
        assert 1.0 < rms(after[RATE // 2 : RATE]) / rms(after[3 * RATE // 2 :]) < 0.9 * before
        assert np.abs(after).max() <= 1.0


def test_a_limiter_stays_below_its_ceiling_and_leaves_the_rest(clip: np.ndarray):
    limited = production.limited(clip, 0.25)
    assert np.abs(limited).max() <= 0.25
    np.testing.assert_allclose(limited[RATE + 200 :], clip[RATE + 200 :], atol=1e-6)


@pytest.mark.parametrize("codec", ["libmp3lame", "aac"])
def test_a_coded_clip_is_aligned_and_better_at_a_higher_rate(codec: str):
    noise = np.random.default_rng(0).standard_normal(2 * RATE)
    clip = (0.2 * np.convolve(noise, np.ones(8) / 8, "same")).astype(np.float32)
    errors = [rms(production.round_trip(clip, codec, rate) - clip) / rms(clip) for rate in (16000, 64000)]
    # A shift by one sample alone would be an error of 0.5.
    assert errors[1] < 0.25
    assert errors[1] < 0.7 * errors[0]


def test_bands_of_radio_and_small_speakers():
    noise = np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    assert share_above(noise, 7200.0) > 0.09
    for seed in range(3):
        assert share_above(production.band_limited(noise, np.random.default_rng(seed)), 7600.0) < 0.03
        assert share_above(production.radio(noise, np.random.default_rng(seed)), 6500.0) < 0.03


def test_a_record_crackles_in_silence():
    quiet = np.full(2 * RATE, 1e-4, np.float32)
    quiet[: RATE // 2] = 0.3 * np.sin(2 * np.pi * 300.0 * np.arange(RATE // 2) / RATE)
    played = production.vinyl(quiet, np.random.default_rng(0))
    assert rms(played[RATE:]) > 100 * rms(np.diff(quiet[RATE:]) + 1e-9)
