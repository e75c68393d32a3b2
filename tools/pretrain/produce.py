"""Change and mix crops at random, as the production of people's music does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def produce(wave: Array, rng: np.random.Generator, another: Callable[[], Array] | None) -> Array:
    """Return a crop, perhaps mixed with another, filtered, distorted, compressed, band-limited, noisy and louder.

    Args:
        wave: float32 [samples], 16 kHz.
        rng: the source of chance.
        another: returns another crop to mix in; None for no mixing.
    """
    if another is not None and rng.random() < 0.35:
        wave = wave * _gain(rng, -9.0, 3.0) + another() * _gain(rng, -9.0, 3.0)
    if rng.random() < 0.15:
        wave = _resampled(wave, 2.0 ** (rng.uniform(-3.0, 3.0) / 12.0))
    if rng.random() < 0.5:
        wave = _filtered(wave, rng)
    if rng.random() < 0.3:
        wave = np.tanh(wave * rng.uniform(1.0, 6.0)) * rng.uniform(0.4, 1.0)
    if rng.random() < 0.1:
        wave = wave + rng.standard_normal(len(wave)) * 10.0 ** (rng.uniform(-60.0, -25.0) / 20.0)
    return np.clip(wave * _gain(rng, -10.0, 4.0), -1.0, 1.0).astype(np.float32)


def _gain(rng: np.random.Generator, low: float, high: float) -> float:
    return float(10.0 ** (rng.uniform(low, high) / 20.0))


def _resampled(wave: Array, ratio: float) -> Array:
    """Play a crop faster, repeating it at its end, or slower."""
    places = np.arange(len(wave)) * ratio
    return np.interp(places % (len(wave) - 1), np.arange(len(wave)), wave)


def _filtered(wave: Array, rng: np.random.Generator) -> Array:
    """Apply a smooth random equaliser, and sometimes the band limits of a telephone, a radio or a low bit rate."""
    spectrum = np.fft.rfft(wave)
    places = np.linspace(0.0, 1.0, len(spectrum)) ** 0.5
    curve = np.cumsum(rng.standard_normal(8) * 3.0)
    decibels = np.interp(places, np.linspace(0.0, 1.0, 8), curve - curve.mean())
    if rng.random() < 0.3:
        decibels = decibels - 60.0 * (places**2 > rng.uniform(0.35, 0.9))
    if rng.random() < 0.1:
        decibels = decibels - 40.0 * (places**2 < rng.uniform(0.01, 0.04))
    return np.fft.irfft(spectrum * 10.0 ** (decibels / 20.0), len(wave))
