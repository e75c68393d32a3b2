"""The mel scale and its filterbank, in numpy.

The numbers are librosa's (a test compares them). librosa itself takes half a second to import because of numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# Slaney's scale (Auditory Toolbox, 1998): linear below 1 kHz, 15 mels; above, 27 mels to a factor of 6.4.
_HZ_PER_MEL = 200.0 / 3
_BREAK_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27.0


def mel_edges(n_mels: int, f_min: float, f_max: float, scale: str) -> npt.NDArray[Any]:
    """Return edges and centres of triangular mel bands in Hz, float64 `[n_mels + 2]`; band i spans edges i to i + 2.

    Args:
        n_mels: Number of bands.
        f_min: First edge, Hz.
        f_max: Last edge, Hz.
        scale: "slaney", or "htk" (2595 log10(1 + f / 700), O'Shaughnessy 1987).
    """
    mels = np.linspace(_hz_to_mel(f_min, scale), _hz_to_mel(f_max, scale), n_mels + 2)
    if scale == "htk":
        return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    break_mel = _BREAK_HZ / _HZ_PER_MEL
    return np.where(mels >= break_mel, _BREAK_HZ * np.exp(_LOG_STEP * (mels - break_mel)), _HZ_PER_MEL * mels)


def mel_filterbank(
    sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float, scale: str, norm: str
) -> npt.NDArray[Any]:
    """Return the weight of each FFT bin in each mel band, float32 `[n_fft // 2 + 1, n_mels]`.

    Args:
        sample_rate: Sample rate, Hz.
        n_fft: Length of the FFT, samples.
        n_mels: See `mel_edges`.
        f_min: See `mel_edges`.
        f_max: See `mel_edges`.
        scale: See `mel_edges`.
        norm: "slaney" divides each band by half its width in Hz; "none" gives triangles of height 1.
    """
    bins = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    edges = mel_edges(n_mels, f_min, f_max, scale)
    above, widths = bins[:, np.newaxis] - edges, np.diff(edges)
    rising, falling = above[:, :-2] / widths[:-1], -above[:, 2:] / widths[1:]
    weights = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    if norm == "slaney":
        weights *= 2.0 / (edges[2:] - edges[:-2])
    return weights


def _hz_to_mel(frequency: float, scale: str) -> float:
    if scale == "htk":
        return 2595.0 * float(np.log10(1.0 + frequency / 700.0))
    if frequency >= _BREAK_HZ:
        return _BREAK_HZ / _HZ_PER_MEL + float(np.log(frequency / _BREAK_HZ)) / _LOG_STEP
    return frequency / _HZ_PER_MEL
