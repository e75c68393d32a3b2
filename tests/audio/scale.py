"""A signal that tells which part of it was heard: a row of tones, `STEP` seconds each."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

STEP = 0.25
MAX_STEPS = 32
_FRAME, _HOP = 640, 160  # of `sounding`, in samples at 16 kHz


def frequency(step: int) -> float:
    """Return the pitch of a step in Hz; all lie below 3.6 kHz, so that every format and rate can hold them."""
    return 400.0 + 100.0 * step


def scale(steps: Iterable[int], rate: int, channels: int = 1) -> np.ndarray:
    """Make the tones of `steps`, float64 `[samples, channels]`, over a little noise, as recordings have it."""
    t = np.arange(round(STEP * rate)) / rate
    steps = list(steps)
    parts = [0.5 * np.sin(2 * np.pi * frequency(step) * t) for step in steps]
    mono = np.concatenate(parts) if parts else np.zeros(0)
    mono += 0.005 * np.random.default_rng(len(mono)).standard_normal(len(mono))
    return mono[:, None] * np.linspace(1.0, 0.8, channels)


def sounding(waveform: np.ndarray) -> np.ndarray:
    """Name the step that sounds in each 10 ms of a waveform at 16 kHz; -1 where none does."""
    padded = np.pad(np.asarray(waveform, np.float64), (_FRAME // 2, _FRAME // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[:-1:_HOP]
    window = np.hanning(_FRAME)
    times = np.arange(_FRAME) / 16000
    waves = np.exp(-2j * np.pi * np.outer(times, [frequency(step) for step in range(MAX_STEPS)]))
    level = np.abs((frames * window) @ waves) * 2 / window.sum()
    best = level.argmax(axis=1)
    # The power of a sine of this level must be most of what the frame holds; noise of any level is no step.
    power = ((frames * window) ** 2).sum(axis=1) / (window**2).sum()
    peak = level.max(axis=1)
    return np.where((peak > 0.1) & (peak**2 / 2 > 0.25 * power), best, -1)


def heard(waveform: np.ndarray) -> np.ndarray:
    """Return for how many seconds each step sounds in a waveform at 16 kHz, `[MAX_STEPS]`."""
    steps = sounding(waveform)
    return np.bincount(steps[steps >= 0], minlength=MAX_STEPS) * _HOP / 16000


def order(waveform: np.ndarray) -> list[int]:
    """List the steps in the order in which they sound, without sounds shorter than 50 ms."""
    steps = sounding(waveform)
    edges = np.flatnonzero(np.diff(steps, prepend=-2, append=-2))
    found = [int(steps[a]) for a, b in itertools.pairwise(edges) if b - a >= 5 and steps[a] >= 0]
    return [step for i, step in enumerate(found) if i == 0 or found[i - 1] != step]
