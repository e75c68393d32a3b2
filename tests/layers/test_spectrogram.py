"""`Spectrogram` against librosa, and its promise that a frame looks at its own samples only."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from keras_tagger.layers import Spectrogram
from keras_tagger.layers.mel import mel_edges, mel_filterbank

RATE = 16000
NOISE = (0.1 * np.random.default_rng(0).standard_normal(5000)).astype(np.float32)


def reference_mel(wave: np.ndarray, layer: Spectrogram) -> np.ndarray:
    """librosa's mel spectrogram [frames, n_mels] of the signal padded so that frame i is centred on its hop."""
    edge = (layer.n_fft - layer.hop_length) // 2
    n_frames = -(-len(wave) // layer.hop_length)
    padded = np.pad(wave.astype(np.float64), (edge, edge + n_frames * layer.hop_length - len(wave)))
    return librosa.feature.melspectrogram(
        y=padded,
        sr=layer.sample_rate,
        n_fft=layer.n_fft,
        hop_length=layer.hop_length,
        center=False,
        power=layer.power,
        n_mels=layer.n_mels,
        fmin=layer.f_min,
        fmax=layer.f_max,
        htk=layer.mel_scale == "htk",
        norm=None if layer.mel_norm == "none" else layer.mel_norm,
    ).T


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", "none"])
@pytest.mark.parametrize(
    ("rate", "n_fft", "n_mels", "f_min", "f_max"),
    [(16000, 512, 96, 0.0, 8000.0), (22050, 1024, 128, 30.0, 11025.0), (44100, 2048, 40, 1500.0, 16000.0)],
)
def test_filterbank_is_librosas(
    scale: str, norm: str, rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float
) -> None:
    found = mel_filterbank(rate, n_fft, n_mels, f_min, f_max, scale, norm)
    expected = librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max, htk=scale == "htk",
        norm=None if norm == "none" else norm,
    ).T  # fmt: skip
    assert (found.shape, found.dtype) == (expected.shape, np.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    edges = librosa.mel_frequencies(n_mels + 2, fmin=f_min, fmax=f_max, htk=scale == "htk")
    np.testing.assert_allclose(mel_edges(n_mels, f_min, f_max, scale), edges, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("mel_scale", ["slaney", "htk"])
@pytest.mark.parametrize("mel_norm", ["slaney", "none"])
def test_log1p_is_librosas_mel(power: int, mel_scale: str, mel_norm: str) -> None:
    layer = Spectrogram(power=power, mel_scale=mel_scale, mel_norm=mel_norm, n_mels=64)
    found = layer(NOISE[None])[0].numpy()
    expected = np.log1p(10000.0 * reference_mel(NOISE, layer))
    assert found.shape == expected.shape == (20, 64)
    np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("power", [1, 2])
def test_decibel_is_librosas_mel(power: int) -> None:
    layer = Spectrogram(
        sample_rate=22050, n_fft=1024, hop_length=512, n_mels=40, f_min=30.0, f_max=11025.0, power=power,
        compression="decibel", mel_scale="htk", mel_norm="none",
    )  # fmt: skip
    mel = reference_mel(NOISE, layer)
    np.testing.assert_allclose(layer(NOISE[None])[0], 10 * np.log10(mel), atol=2e-3)


def test_decibel_of_silence_is_the_floor() -> None:
    silence = np.zeros((1, 1024), np.float32)
    np.testing.assert_allclose(Spectrogram(compression="decibel")(silence), -100.0, atol=1e-4)
    np.testing.assert_array_equal(Spectrogram()(silence), 0.0)


@pytest.mark.parametrize("gain", [1.0, 100.0])
def test_gain(gain: float) -> None:
    layer = Spectrogram(gain=gain)
    np.testing.assert_allclose(layer(NOISE[None])[0], np.log1p(gain * reference_mel(NOISE, layer)), atol=1e-4)


@pytest.mark.parametrize("compression", ["log1p", "decibel"])
@pytest.mark.parametrize("level", [0.001, 1.0])
def test_later_audio_changes_no_earlier_frame(compression: str, level: float) -> None:
    layer = Spectrogram(compression=compression)
    changed = NOISE.copy()
    changed[2560:] = level * np.sign(np.sin(np.arange(len(NOISE) - 2560)))
    before, after = layer(NOISE[None])[0].numpy(), layer(changed[None])[0].numpy()
    # Frame i reads the samples [256 i - 128, 256 i + 384): frame 9 reaches into the change, frame 8 does not.
    np.testing.assert_array_equal(before[:9], after[:9])
    assert (before[9:] != after[9:]).any(axis=1).all()


def test_a_longer_clip_has_the_same_frames() -> None:
    layer = Spectrogram()
    np.testing.assert_array_equal(layer(NOISE[None, :2560])[0, :9], layer(NOISE[None])[0, :9])


@pytest.mark.parametrize(("n_samples", "n_frames"), [(1, 1), (255, 1), (256, 1), (257, 2), (512, 2), (5000, 20)])
def test_frames_are_samples_over_hop_rounded_up(n_samples: int, n_frames: int) -> None:
    layer = Spectrogram()
    assert layer(NOISE[None, :n_samples]).shape == (1, n_frames, 96)
    assert layer.n_frames(n_samples) == n_frames


@pytest.mark.parametrize("sample", [300, 1111, 2000, 2290, 4095])
def test_a_click_peaks_in_the_frame_whose_centre_is_nearest(sample: int) -> None:
    layer = Spectrogram()
    wave = np.zeros(5000, np.float32)
    wave[sample] = 1.0
    spectrogram = layer(wave[None])[0].numpy()
    times = layer.frame_times(len(spectrogram))
    assert spectrogram.sum(axis=1).argmax() == np.abs(times - sample / RATE).argmin()


def test_frame_times_are_centres_of_hops() -> None:
    times = Spectrogram(sample_rate=8000, n_fft=512, hop_length=200, f_max=4000.0).frame_times(3)
    np.testing.assert_allclose(times, [0.0125, 0.0375, 0.0625], atol=1e-12)


@pytest.mark.parametrize("band", [20, 50, 80])
def test_a_tone_peaks_in_the_band_of_its_frequency(band: int) -> None:
    layer = Spectrogram(n_fft=2048, hop_length=512, mel_norm="none")
    frequency = layer.mel_frequencies()[band]
    wave = 0.5 * np.sin(2 * np.pi * frequency * np.arange(8192) / RATE)
    assert layer(wave[None].astype(np.float32))[0, 8].numpy().argmax() == band
