"""Windows: how audio longer than a model's window is cut, batched, averaged and stitched together again.

This is the only place that knows. Windows follow each other; the last one is moved back so that it is full length, and
only what is new in it counts. Every second of audio therefore counts once. `keras_tagger.export.windowed` has the same
cut inside the SavedModel, and a test holds both equal.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.audio.decode import blocks
from keras_tagger.audio.readers import AudioSource, Waveform, check_rate

WINDOWS_PER_BATCH = 8


@dataclass(frozen=True)
class Window:
    """A stretch of a longer signal.

    Attributes:
        start_sample: where `waveform` begins in the signal (in an excerpt: from the excerpt's beginning).
        waveform: float32 [samples].
        new_samples: samples of the signal in it that no earlier window held.
    """

    start_sample: int
    waveform: Waveform
    new_samples: int


@dataclass(frozen=True)
class Windowing:
    """The windows of one model.

    Attributes:
        sample_rate: of the model, Hz.
        window_samples: length of a window; a multiple of `token_samples`.
        token_samples: samples from one token to the next.

    Raises:
        ValueError: `window_samples` is not a positive multiple of `token_samples`.
        AudioError: an impossible rate.
    """

    sample_rate: int
    window_samples: int
    token_samples: int = 1

    def __post_init__(self) -> None:
        if self.token_samples < 1 or self.window_samples < 1 or self.window_samples % self.token_samples:
            raise ValueError(
                "Expected window_samples to be a positive multiple of token_samples. "
                f"Received: window_samples={self.window_samples!r}, token_samples={self.token_samples!r}."
            )
        check_rate(self.sample_rate, "sample_rate")

    def of_seconds(self, seconds: float) -> Windowing:
        """Return the same with windows of about that length: whole tokens, at least one."""
        tokens = max(round(seconds * self.sample_rate / self.token_samples), 1)
        return dataclasses.replace(self, window_samples=tokens * self.token_samples)

    def cut(
        self, source: AudioSource, start_seconds: float = 0.0, end_seconds: float | None = None
    ) -> Iterator[Window]:
        """Cut audio of any length, or an excerpt of it, into windows, in constant memory.

        An excerpt is taken as by `keras_tagger.audio.load`, and then as audio of its own: its samples count from 0.
        Audio of at most one window gives a single `Window` of its own length (the model pads). Else every window is
        full: for n samples, T = ceil(n / token_samples) and W = window_samples / token_samples, the last one begins at
        token T - W and ends with up to token_samples - 1 zeros. The `new_samples` of all windows add up to n.

        Raises:
            AudioError, AudioNotFoundError: as `keras_tagger.audio.blocks`.
        """
        seconds = self.window_samples / self.sample_rate
        return self._cut(blocks(source, self.sample_rate, seconds, start_seconds, end_seconds))

    def _cut(self, parts: Iterator[Waveform]) -> Iterator[Window]:
        size, token = self.window_samples, self.token_samples
        previous: Waveform | None = None
        start = 0
        for part in parts:
            if len(part) == size or previous is None:
                yield Window(start, part, len(part))
            else:
                shifted = math.ceil((start + len(part)) / token) * token - size
                joined = np.concatenate([previous[size - (start - shifted) :], part])
                yield Window(shifted, np.pad(joined, (0, size - len(joined))), len(part))
            previous = part
            start += len(part)

    def token_times(self, n_tokens: int) -> npt.NDArray[Any]:
        """Return the centres of a window's tokens, seconds from its start, float64 [n_tokens]."""
        return (np.arange(n_tokens) + 0.5) * self.token_samples / self.sample_rate

    def is_new(self, window: Window, times: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return which columns of a window's map no earlier window has, bool [T].

        Args:
            window: the window.
            times: float [T], the columns' centres, seconds from the window's start. A column belongs to the token that
                holds its centre.
        """
        token = self.token_samples
        end = max(-(-len(window.waveform) // token), 1) * token
        begin = end - max(-(-window.new_samples // token), 1) * token
        places = times * self.sample_rate
        return (places >= begin - 0.5) & (places < end - 0.5)


def evenly_spaced(waveform: npt.NDArray[Any], window_samples: int, n_windows: int) -> Iterator[Window]:
    """Cut `n_windows` evenly spaced windows that count the same; a short waveform is the only one.

    They begin at 0, h, 2h, ... samples with h = (length - window_samples) // n_windows, as Won et al. 2019 to 2021
    evaluate with 16.

    Args:
        waveform: float32 [samples].
        window_samples: length of a window.
        n_windows: how many.
    """
    hop = (len(waveform) - window_samples) // n_windows
    for start in range(0, n_windows * hop, hop) if hop > 0 else [0]:
        yield Window(start, waveform[start : start + window_samples], 1)


def batches(windows: Iterable[Window], size: int = WINDOWS_PER_BATCH) -> Iterator[list[Window]]:
    """Group windows of one length, in order, up to `size` at a time."""
    batch: list[Window] = []
    for window in windows:
        if batch and len(batch[0].waveform) != len(window.waveform):
            yield batch
            batch = []
        batch.append(window)
        # At once, not when the next window comes: decoding the next may take longer than the model.
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def stacked(windows: Iterable[Window]) -> npt.NDArray[Any]:
    """Return the waveforms of windows of one length, float32 [B, samples]."""
    return np.stack([window.waveform for window in windows])


class WindowMean:
    """The mean over windows in which every second of audio counts once."""

    def __init__(self) -> None:
        self._total: Any = 0.0
        self._samples = 0

    def add(self, window: Window, values: npt.NDArray[Any]) -> None:
        """Count the values of a window by its new samples."""
        self._total = self._total + np.asarray(values).astype(np.float64) * window.new_samples
        self._samples += window.new_samples

    @property
    def value(self) -> npt.NDArray[Any]:
        """The mean, float64, of the shape of the values; needs at least one window."""
        return self._total / self._samples


class Stitcher:
    """Joins the maps of windows: of each, the columns that no earlier window has."""

    def __init__(self, windowing: Windowing) -> None:
        self._windowing = windowing
        self._values: list[npt.NDArray[Any]] = []
        self._times: list[npt.NDArray[Any]] = []

    def add(self, window: Window, values: npt.NDArray[Any], times: npt.NDArray[Any] | None = None) -> None:
        """Take what is new in the map of a window.

        Args:
            window: the window.
            values: float [..., T].
            times: float [T], centres of the columns, seconds from the window's start; None for a column per token.
        """
        times = self._windowing.token_times(values.shape[-1]) if times is None else times
        new = self._windowing.is_new(window, times)
        self._values.append(values[..., new])
        self._times.append(window.start_sample / self._windowing.sample_rate + times[new])

    @property
    def values(self) -> npt.NDArray[Any]:
        """The joined map [..., T]."""
        return np.concatenate(self._values, axis=-1)

    @property
    def times(self) -> npt.NDArray[Any]:
        """The centres of its columns, seconds from the start of the audio, float64 [T]."""
        return np.concatenate(self._times)
