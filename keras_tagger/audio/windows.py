"""Windows: audio of any length, cut to the length that a model takes, and the model's outputs joined again.

This module owns every decision about clips longer than a window: where windows begin, what is new in each, how many
form a batch, how their outputs are averaged and joined. Windows follow each other without overlap, except that the last
one is moved back so that it has full length and ends on the last sample; only its new part counts. Every second of
audio therefore counts once, and no window contains silence that the audio does not have.
`keras_tagger.export.windowed` repeats the same cut in TensorFlow's graph, and a test holds both equal.

    Windowing                  cuts audio into windows
    batches, stacked           group windows for the model
    WindowMean, Stitcher       average outputs, join maps over time
    accumulate                 all of this for one clip
    accumulate_clips           all of this for many clips, decoded in the background
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from keras_tagger.audio.decode import blocks
from keras_tagger.audio.read_ahead import read_ahead
from keras_tagger.audio.readers import AudioSource, Waveform, check_rate
from keras_tagger.errors import AudioError, AudioNotFoundError, AudioWarning

WINDOWS_PER_BATCH = 8


@dataclass(frozen=True)
class Window:
    """A segment of a longer signal.

    Attributes:
        start_sample: Index in the signal of the first sample of `waveform`. In an excerpt it counts from the beginning
            of the excerpt.
        waveform: float32 `[samples]`.
        new_samples: Number of samples of the signal that no earlier window contains.

    Example:
        >>> [window.new_samples for window in windowing.cut("song.mp3")]
        [160000, 160000, 41280]
    """

    start_sample: int
    waveform: Waveform
    new_samples: int


@dataclass(frozen=True)
class Windowing:
    """The way a model's audio is cut into windows.

    Attributes:
        sample_rate: Sample rate of the model in Hz.
        window_samples: Length of a window; a multiple of `token_samples`.
        token_samples: Number of samples from one token to the next.

    Raises:
        ValueError: If `window_samples` is not a positive multiple of `token_samples`.
        AudioError: If the sample rate is out of range.

    Example:
        >>> windowing = Windowing(sample_rate=16000, window_samples=160_000)
        >>> [window.start_sample for window in windowing.cut("song.mp3")]
        [0, 160000, 201280]
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
        """Return a windowing with windows of about `seconds`, rounded to whole tokens, at least one."""
        tokens = max(round(seconds * self.sample_rate / self.token_samples), 1)
        return dataclasses.replace(self, window_samples=tokens * self.token_samples)

    def cut(
        self,
        source: AudioSource,
        start_seconds: float = 0.0,
        end_seconds: float | None = None,
        warnings: list[AudioWarning] | None = None,
    ) -> Iterator[Window]:
        """Cut audio of any length, or an excerpt of it, into windows, in constant memory.

        Audio up to one window long gives a single `Window` of its own length. Otherwise every window has full length,
        and the last one ends on the last sample. The `new_samples` of all windows add up to the number of samples.

        Args:
            source: A path, the bytes of an encoded file, or `(array, sample_rate)`.
            start_seconds: Where the excerpt begins. An excerpt is a signal of its own: samples count from its start.
            end_seconds: Where the excerpt ends; None for the end of the audio.
            warnings: A list for what a listener must know, complete after the last window; see `audio.blocks`.

        Raises:
            AudioError: If the audio cannot be decoded or the excerpt is impossible.
            AudioNotFoundError: If the file does not exist.

        Example:
            >>> for window in model.windowing.cut("song.mp3", start_seconds=30.0):
            ...     print(window.start_sample, window.new_samples)
        """
        seconds = self.window_samples / self.sample_rate
        return self._cut(blocks(source, self.sample_rate, seconds, start_seconds, end_seconds, warnings))

    def _cut(self, parts: Iterator[Waveform]) -> Iterator[Window]:
        size = self.window_samples
        previous: Waveform | None = None
        start = 0
        for part in parts:
            if len(part) == size or previous is None:
                yield Window(start, part, len(part))
            else:
                yield Window(start + len(part) - size, np.concatenate([previous[len(part) :], part]), len(part))
            previous = part
            start += len(part)

    def token_times(self, n_tokens: int) -> npt.NDArray[Any]:
        """Return the centres of a window's tokens in seconds from its start, float64 `[n_tokens]`."""
        return (np.arange(n_tokens) + 0.5) * self.token_samples / self.sample_rate

    def is_new(self, window: Window, times: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return which columns of a window's map no earlier window has, bool `[T]`.

        A column is new if any of its audio is. Columns with centres beyond the last token are left out.

        Args:
            window: The window.
            times: Centres of the columns in seconds from the window's start, evenly spaced, float `[T]`.
        """
        places = times * self.sample_rate
        width = places[1] - places[0] if len(places) > 1 else self.token_samples
        begin = len(window.waveform) - window.new_samples
        end = max(-(-len(window.waveform) // self.token_samples), 1) * self.token_samples
        return (places + width / 2 > begin + 0.5) & (places < end - 0.5)


def evenly_spaced(waveform: npt.NDArray[Any], window_samples: int, n_windows: int) -> Iterator[Window]:
    """Cut `n_windows` evenly spaced windows that all count the same.

    They begin at 0, h, 2h, ... samples with h = (length - window_samples) // n_windows, as in the evaluation of Won et
    al. 2019 to 2021 with 16 windows. A waveform that is too short for that is the only window.

    Args:
        waveform: float32 `[samples]`.
        window_samples: Length of a window.
        n_windows: Number of windows.
    """
    hop = (len(waveform) - window_samples) // n_windows
    for start in range(0, n_windows * hop, hop) if hop > 0 else [0]:
        yield Window(start, waveform[start : start + window_samples], 1)


def batches(windows: Iterable[Window | None], size: int = WINDOWS_PER_BATCH) -> Iterator[list[Window]]:
    """Group consecutive windows of equal length, up to `size` at a time; None between them may give an empty batch."""
    batch: list[Window] = []
    for window in windows:
        if window is None:
            if not batch:
                yield []
            continue
        if batch and len(batch[0].waveform) != len(window.waveform):
            yield batch
            batch = []
        batch.append(window)
        # A full batch must not wait for the next window: decoding that may take longer than the model.
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def stacked(windows: Iterable[Window]) -> npt.NDArray[Any]:
    """Return the waveforms of windows of equal length, float32 `[B, samples]`."""
    return np.stack([window.waveform for window in windows])


class WindowMean:
    """The mean over windows in which every second of audio counts once."""

    def __init__(self) -> None:
        self._total: Any = 0.0
        self.samples = 0

    def add(self, window: Window, values: npt.NDArray[Any]) -> None:
        """Add the values of a window, weighted by its new samples."""
        self._total = self._total + np.asarray(values).astype(np.float64) * window.new_samples
        self.samples += window.new_samples

    @property
    def value(self) -> npt.NDArray[Any]:
        """The mean, float64, in the shape of the values; requires at least one window."""
        return self._total / self.samples


class Stitcher:
    """Joins the windows' maps over time, taking from each the columns that no earlier window has."""

    def __init__(self, windowing: Windowing) -> None:
        self._windowing = windowing
        self._values: list[npt.NDArray[Any]] = []
        self._times: list[npt.NDArray[Any]] = []

    def add(self, window: Window, values: npt.NDArray[Any], times: npt.NDArray[Any] | None = None) -> None:
        """Add what is new in the map of a window.

        Args:
            window: The window.
            values: Its map, float `[..., T]`.
            times: Centres of the columns in seconds from the window's start, float `[T]`; None if there is a column per
                token.
        """
        times = self._windowing.token_times(values.shape[-1]) if times is None else times
        new = self._windowing.is_new(window, times)
        self._values.append(values[..., new])
        self._times.append(window.start_sample / self._windowing.sample_rate + times[new])

    @property
    def values(self) -> npt.NDArray[Any]:
        """The joined map `[..., T]`."""
        return np.concatenate(self._values, axis=-1)

    @property
    def times(self) -> npt.NDArray[Any]:
        """Centres of the columns in seconds from the start of the audio, float64 `[T]`."""
        return np.concatenate(self._times)


class Accumulator(Protocol):
    """Anything that takes a model's output for each window of a clip, in order, such as a `WindowMean`."""

    def add(self, window: Window, value: Any, /) -> None:
        """Add the output for a window."""


# Runs a model on waveforms float32 [B, samples] and returns one value per window.
Run = Callable[[npt.NDArray[Any]], Iterable[Any]]
Key = TypeVar("Key")
Result = TypeVar("Result", bound=Accumulator)


@dataclass
class _Clip(Generic[Key, Result]):
    key: Key
    into: Result
    error: AudioError | AudioNotFoundError | None = None
    ended: bool = False


def accumulate_clips(
    clips: Iterable[tuple[Key, Iterator[Window]]],
    run: Run,
    make: Callable[[], Result],
    batch_size: int = WINDOWS_PER_BATCH,
    read_ahead_windows: int = WINDOWS_PER_BATCH,
) -> Iterator[tuple[Key, Result | AudioError | AudioNotFoundError]]:
    """Run a model on the windows of many clips and accumulate its outputs clip by clip.

    A batch may hold windows of several clips.

    Args:
        clips: Pairs of a key and the clip's windows, taken lazily, in the background if windows are read ahead.
        run: Maps waveforms, float32 `[B, samples]`, to one value per window.
        make: Makes the accumulator of a clip, e.g. `WindowMean`.
        batch_size: Largest number of windows per call of `run`.
        read_ahead_windows: Number of windows that a background thread decodes in advance; 0 for no thread.

    Yields:
        The key of each clip, in order, with its accumulator, or with the error that its windows raised. With a
        `batch_size` of 1 this does not wait for the next clip to be decoded.

    Example:
        >>> clips = ((path, windowing.cut(path)) for path in paths)
        >>> for path, mean in accumulate_clips(clips, model.predict, WindowMean):
        ...     print(path, mean)
    """
    begun: deque[_Clip[Key, Result]] = deque()
    owners: deque[_Clip[Key, Result]] = deque()  # of the windows that the model has not seen yet

    def windows() -> Iterator[Window | None]:
        for key, clip in clips:
            owner = _Clip(key, make())
            begun.append(owner)
            try:
                for window in clip:
                    owners.append(owner)
                    yield window
            except (AudioError, AudioNotFoundError) as error:
                owner.error = error
            owner.ended = True
            # The clip's result must not wait for the next clip, whose decoding may take long.
            yield None

    found = read_ahead(windows(), read_ahead_windows) if read_ahead_windows else windows()
    for batch in batches(found, batch_size):
        if batch:
            for window, value in zip(batch, run(stacked(batch)), strict=True):
                owners.popleft().into.add(window, value)
        while begun and begun[0].ended and not (owners and owners[0] is begun[0]):
            done = begun.popleft()
            yield done.key, done.error or done.into


def accumulate(
    source: AudioSource,
    windowing: Windowing,
    run: Run,
    into: Result,
    windows_per_file_batch: int = 1,
    warnings: list[AudioWarning] | None = None,
    read_ahead_windows: int = 4,
) -> Result:
    """Run a model on the windows of one clip, accumulate its outputs, and return the accumulator.

    Args:
        source: A path, the bytes of an encoded file, or `(array, sample_rate)`.
        windowing: How the audio is cut.
        run: Maps waveforms, float32 `[B, samples]`, to one value per window.
        into: The accumulator, e.g. `WindowMean()`.
        windows_per_file_batch: Largest batch while a file is decoded. Decoding usually takes longer than the model, so
            small batches, which follow it closely, are fastest.
        warnings: A list for what a listener must know; see `audio.blocks`.
        read_ahead_windows: Number of windows of a file that a background thread decodes in advance; 0 for no thread.

    Raises:
        AudioError: If the audio cannot be decoded.
        AudioNotFoundError: If the file does not exist.
    """
    clips = [(None, windowing.cut(source, warnings=warnings))]
    is_array = isinstance(source, tuple)
    size, ahead = (WINDOWS_PER_BATCH, 0) if is_array else (windows_per_file_batch, read_ahead_windows)
    for _, result in accumulate_clips(clips, run, lambda: into, size, ahead):
        if isinstance(result, AudioError | AudioNotFoundError):
            raise result
    return into
