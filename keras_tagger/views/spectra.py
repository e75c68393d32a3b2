"""The spectrogram of audio as it is drawn: for the eye, and not what a model sees. numpy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

HOP_SECONDS = 0.025
BANDS = 80
_WINDOW_SECONDS = 0.064
_BLOCK_FRAMES = 1000
_FLOOR_DECIBELS = -80.0


def mel_centres(highest: float, bands: int = BANDS) -> npt.NDArray[np.float64]:
    """Return the centres of bands that are equally spaced in mels up to a frequency in Hz, `[bands]`."""
    top = 2595.0 * np.log10(1.0 + highest / 700.0)
    mels = np.linspace(0.0, top, bands + 2)[1:-1]
    return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)


def spectrogram(
    waveform: npt.NDArray[np.float32], rate: int, hz: npt.NDArray[np.float64] | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compute a spectrogram in decibels below the loudest cell, at least -80, with a frame every 25 ms.

    Args:
        waveform: Mono audio, float `[samples]`.
        rate: Sample rate in Hz.
        hz: Centres of the bands in Hz, increasing, `[bands]`; None for 80 bands, equally spaced in mels. Each band is a
            triangle between its neighbours' centres.

    Returns:
        Values float32 `[bands, frames]`, centres of the frames in seconds, and of the bands in Hz.

    Example:
        >>> values, times, bands = spectrogram(waveform, 16000)
    """
    hz = mel_centres(rate / 2) if hz is None else np.asarray(hz, np.float64)
    size, hop = round(_WINDOW_SECONDS * rate), max(round(HOP_SECONDS * rate), 1)
    n_frames = max(-(-len(waveform) // hop), 1)
    before = (size - hop) // 2
    padded = np.pad(waveform, (before, n_frames * hop + size - hop - before - len(waveform)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    filters = _triangles(hz, np.fft.rfftfreq(size, 1.0 / rate))
    window = np.hanning(size).astype(np.float32)
    values = np.empty((len(hz), n_frames), np.float32)
    for start in range(0, n_frames, _BLOCK_FRAMES):
        power = np.abs(np.fft.rfft(frames[start : start + _BLOCK_FRAMES] * window, axis=1)) ** 2
        values[:, start : start + len(power)] = filters @ power.T
    decibels = 10.0 * np.log10(np.maximum(values, 1e-10))
    times = (np.arange(n_frames) + 0.5) * hop / rate
    return np.maximum(decibels - decibels.max(), _FLOOR_DECIBELS), times, hz


def _triangles(centres: npt.NDArray[np.float64], frequencies: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return filters `[bands, bins]`; one that lies between two bins takes the nearer one."""
    first = max(2 * centres[0] - centres[1], 0.0) if len(centres) > 1 else 0.0
    last = 2 * centres[-1] - centres[-2] if len(centres) > 1 else 2 * centres[0]
    edges = np.concatenate([[first], centres, [last]])
    rising = (frequencies - edges[:-2, np.newaxis]) / np.maximum(centres - edges[:-2], 1e-9)[:, np.newaxis]
    falling = (edges[2:, np.newaxis] - frequencies) / (edges[2:] - centres)[:, np.newaxis]
    found = np.clip(np.minimum(rising, falling), 0.0, None)
    empty = np.flatnonzero(found.sum(axis=1) < 1e-9)
    found[empty, np.abs(frequencies - centres[empty, np.newaxis]).argmin(axis=1)] = 1.0
    return found / found.sum(axis=1, keepdims=True)
