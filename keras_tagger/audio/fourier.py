"""The discrete Fourier transform of a windowed frame as filters, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def hann(n_fft: int) -> npt.NDArray[Any]:
    """Return the periodic Hann window, float64 `[n_fft]`."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)


def fourier_filters(n_fft: int, window: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
    """Return filters whose responses to a frame are its Fourier transform, real parts before imaginary ones.

    Args:
        n_fft: Length of a frame, samples; even.
        window: float `[n_fft]`; the Hann window by default.

    Returns:
        float32 `[n_fft, 2 * (n_fft // 2 + 1)]`.

    Example:
        >>> spectrum = frame @ fourier_filters(512)
    """
    # Whole periods are taken off first, so that the angles keep all of their digits.
    angles = 2.0 * np.pi / n_fft * (np.outer(np.arange(n_fft), np.arange(n_fft // 2 + 1)) % n_fft)
    filters = np.concatenate([np.cos(angles), -np.sin(angles)], axis=1)
    return (filters * (hann(n_fft) if window is None else window)[:, np.newaxis]).astype(np.float32)
