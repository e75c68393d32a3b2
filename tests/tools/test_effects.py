"""Effects that make other music of clips."""

from __future__ import annotations

import numpy as np
import pytest

from pretrain import effects

RATE = 16000
SECONDS = 4


def tone(hz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(SECONDS * RATE) / RATE)).astype(np.float32)


def clicks() -> np.ndarray:
    """Ten a second, each 2 ms of noise."""
    waveform = np.zeros(SECONDS * RATE, np.float32)
    noise = np.random.default_rng(0).standard_normal(32).astype(np.float32)
    for start in range(800, len(waveform) - 32, 1600):
        waveform[start : start + 32] += noise
    return waveform


def share_of(part: np.ndarray, whole: np.ndarray) -> float:
    """How much of `part` is in `whole`: the amplitude that fits best."""
    return float(part[: len(whole)] @ whole / (part @ part))


def loudest_hz(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.fft.rfftfreq(len(waveform), 1 / RATE)[np.argmax(spectrum)])


@pytest.mark.parametrize(("effect", "kept", "lost"), [("harmonic", tone, clicks), ("percussive", clicks, tone)])
def test_steady_and_struck_are_taken_apart(effect, kept, lost):
    found = getattr(effects, effect)(tone() + clicks(), np.random.default_rng(1))
    assert share_of(kept(), found) > 0.7
    assert share_of(lost(), found) < 0.5 * share_of(kept(), found)


def test_backwards_twice_is_the_clip():
    rising = np.linspace(-1, 1, 100, dtype=np.float32)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(effects.backwards(rising, rng), rising[::-1])
    np.testing.assert_array_equal(effects.backwards(effects.backwards(rising, rng), rng), rising)


@pytest.mark.parametrize("seed", range(6))
def test_a_cut_up_clip_is_made_of_its_pieces(seed: int):
    ramp = np.linspace(0.1, 1.0, 30 * RATE, dtype=np.float32)
    found = effects.cut_up(ramp, np.random.default_rng(seed))
    assert 0 < len(found) <= len(ramp)
    # In order, the loudest of each 50 ms would never fall.
    assert np.diff(found[: len(found) // 800 * 800].reshape(-1, 800).max(axis=1)).min() < -0.02
    # Between its fades a piece rises as the ramp does.
    rises = np.diff(found)
    assert np.mean(np.isclose(rises, ramp[1] - ramp[0], atol=2e-7)) > 0.8
    assert found.max() <= ramp.max()


def test_a_cut_up_clip_shorter_than_a_piece_stays_whole():
    assert len(effects.cut_up(np.ones(100, np.float32), np.random.default_rng(0))) == 100


@pytest.mark.parametrize("seed", range(4))
def test_pitch_without_tempo_and_tempo_without_pitch(seed: int):
    other = effects.other_pitch(tone(), np.random.default_rng(seed))
    assert len(other) == SECONDS * RATE
    semitones = 12 * np.log2(loudest_hz(other) / 440)
    assert 1.9 <= abs(semitones) <= 7.1
    other = effects.other_tempo(tone(), np.random.default_rng(seed))
    assert SECONDS * RATE / 1.81 <= len(other) <= SECONDS * RATE / 0.54
    assert loudest_hz(other) == pytest.approx(440, rel=0.01)
    assert abs(len(other) - SECONDS * RATE) > 100


def test_distortion_adds_harmonics_at_the_same_peak():
    found = effects.distorted(tone(), np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(found))
    assert spectrum[3 * 440 * SECONDS] > 0.02 * spectrum[440 * SECONDS]
    assert np.abs(found).max() == pytest.approx(0.3, rel=0.05)


def test_a_room_sounds_after_the_clip_and_no_longer_than_asked():
    waveform = np.zeros(SECONDS * RATE, np.float32)
    waveform[: RATE // 10] = np.random.default_rng(0).standard_normal(RATE // 10)
    for seed in range(5):
        found = effects.reverberant(waveform, np.random.default_rng(seed), 1.0)
        assert len(found) == len(waveform)
        assert -9.1 < 20 * np.log10(effects.rms(found - waveform) / effects.rms(waveform)) < 0.1
        assert np.abs(found[RATE // 10 : RATE // 4]).max() > 1e-3
        # 60 dB in a second at most.
        assert np.abs(found[round(1.2 * RATE) :]).max() < 1e-4


def test_changed_clips_are_a_function_of_the_generator_and_within_full_scale():
    clip = 3.0 * (tone() + clicks())
    outcomes = [effects.changed(clip, np.random.default_rng(seed)) for seed in range(12)]
    np.testing.assert_array_equal(outcomes[3], effects.changed(clip, np.random.default_rng(3)))
    for found in outcomes:
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert 0.01 < np.abs(found).max() <= 1.0
    # Two that are played backwards are alike.
    assert len({found.tobytes() for found in outcomes}) >= 10


def test_every_effect_is_drawn_and_some_clips_have_two(monkeypatch):
    counts = np.zeros(len(effects.EFFECTS), int)

    def counted(number):
        def effect(waveform, rng):
            counts[number] += 1
            return waveform

        return effect

    monkeypatch.setattr(effects, "EFFECTS", tuple(counted(number) for number in range(len(counts))))
    for seed in range(400):
        effects.changed(np.zeros(10, np.float32), np.random.default_rng(seed))
    assert counts.min() > 30
    # Three in ten.
    assert 480 < counts.sum() < 560
