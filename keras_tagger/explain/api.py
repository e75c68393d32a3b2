"""`explain` and `taggram`: maps of tags over audio of any length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.audio import AudioSource, Window, Windowing
from keras_tagger.audio.windows import WINDOWS_PER_BATCH, Stitcher, WindowMean, accumulate
from keras_tagger.errors import AudioWarning, ModelError
from keras_tagger.explain.maps import Maps
from keras_tagger.explain.methods import DEFAULT_METHOD, TAGGRAM_SECONDS, Method, find_method
from keras_tagger.heatmap import Heatmap
from keras_tagger.tags import judged

if TYPE_CHECKING:
    from keras_tagger.models.trained import TrainedModel


def explain(
    trained: TrainedModel,
    audio: AudioSource,
    method: str = DEFAULT_METHOD,
    tags: Sequence[str] | str | None = None,
    **options: Any,
) -> Heatmap:
    """Explain why the model gives a clip its tags: a map per tag, by any of `METHODS`.

    Audio longer than a window of the model is explained window by window and stitched. In a silent window the map is 0.
    docs/explanations.md compares the methods.

    Args:
        trained: A `Tagger` or any other `TrainedModel`.
        audio: A path, the bytes of an encoded file, or `(array, sample_rate)`.
        method: Name of the method, one of `METHODS`.
        tags: One tag, or the tags wanted, in order; None for all. Methods by gradients or occlusion take time per tag.
        **options: Options of the method; `METHODS[method].options` lists them.

    Returns:
        Heatmap `[n_tags, T]`, or `[n_tags, F, T]` with `frequencies` in Hz for methods over frequency. Its `scores` are
        the tags' probabilities for the whole clip.

    Raises:
        ModelError: If the method, an option or a tag does not exist, or the value of an option is out of range.
        AudioError: If the audio cannot be decoded.
        AudioNotFoundError: If the file does not exist.

    Example:
        >>> explain(tagger, "song.mp3", "integrated_gradients", ["guitar"]).plot()
    """
    found, values = find_method(method, options)
    _check_indices(trained, found, values)
    if found.name == "taggram":
        return taggram(trained, audio, values["window_seconds"], tags)
    model = trained.model if found.module == "token_maps" else trained.keras_model(found.name)
    rows = trained.rows(tags)

    def run(waveforms: npt.NDArray[Any]) -> Iterator[Maps]:
        maps: Maps = found.function(model, waveforms, rows, **values)
        scores = maps.scores
        if scores is None:
            scores = np.asarray(model.analyze(waveforms, ("tags",))["tags"])[:, rows]
        for value, score in zip(maps.values, scores, strict=True):
            yield replace(maps, values=value, scores=score)

    # Methods that need gradients or many passes take longer than decoding, so full batches are faster.
    batch = 1 if found.module == "token_maps" else WINDOWS_PER_BATCH
    warnings: list[AudioWarning] = []
    joined = accumulate(audio, model.windowing, run, _Explanation(model.windowing), batch, warnings)
    names = tuple(trained.tags[row] for row in rows)
    return Heatmap(
        joined.map.values,
        names,
        joined.map.times,
        method,
        joined.frequencies,
        scores=joined.scores.value,
        warnings=tuple(warnings),
        margins=judged(names, joined.scores.value, trained.info)[2],
        audio=audio,
        uniform=None if joined.uniform is None else np.full(len(names), joined.uniform),
    )


class _Explanation:
    """Accumulates the maps and the scores of a clip's windows."""

    def __init__(self, windowing: Windowing) -> None:
        self.map, self.scores = Stitcher(windowing), WindowMean()
        self.frequencies: npt.NDArray[Any] | None = None
        self.uniform: float | None = None

    def add(self, window: Window, value: Maps, /) -> None:
        # All scores of a silent window are 0, and nothing in it speaks for a tag.
        self.map.add(window, value.values.astype(np.float32) * np.any(np.asarray(value.scores)), value.times)
        self.scores.add(window, np.asarray(value.scores))
        self.frequencies, self.uniform = value.frequencies, value.uniform


def taggram(
    trained: TrainedModel,
    audio: AudioSource,
    window_seconds: float = TAGGRAM_SECONDS,
    tags: Sequence[str] | str | None = None,
) -> Heatmap:
    """Compute each tag's probability over time from short windows that are scored one by one.

    The taggram of musicnn (Pons and Serra 2019).

    Args:
        trained: A `Tagger` or any other `TrainedModel`.
        audio: A path, the bytes of an encoded file, or `(array, sample_rate)`.
        window_seconds: Length of a window, rounded to whole tokens; must be positive.
        tags: One tag, or the tags wanted, in order; None for all.

    Returns:
        Heatmap `[n_tags, windows]`; `times` are the centres of the windows. The last window is moved back so that it
        has full length; its time is the centre of its new part.

    Raises:
        ModelError: If `window_seconds` is not a positive, finite number, or a tag does not exist.
        AudioError: If the audio cannot be decoded.
        AudioNotFoundError: If the file does not exist.

    Example:
        >>> taggram(tagger, "song.mp3", window_seconds=2.0).row("guitar")
    """
    if not (window_seconds > 0 and math.isfinite(window_seconds)):
        raise ModelError(f"window_seconds: expected a positive time. Received: {window_seconds!r}.")
    model, rows = trained.model, trained.rows(tags)
    windowing = model.windowing.of_seconds(window_seconds)

    def run(waveforms: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(model.analyze(waveforms, ("tags",))["tags"])[:, rows]

    # As much audio as one window of the model.
    batch = max(model.window_samples // windowing.window_samples, 1)
    warnings: list[AudioWarning] = []
    columns = accumulate(audio, windowing, run, _Columns(), batch, warnings)
    names = tuple(trained.tags[row] for row in rows)
    times = np.array(columns.centres) / windowing.sample_rate
    values = np.stack(columns.values, axis=1)
    scores = columns.mean.value
    margins = judged(names, scores, trained.info)[2]
    warned = tuple(warnings)
    return Heatmap(values, names, times, "taggram", scores=scores, warnings=warned, margins=margins, audio=audio)


class _Columns:
    """Accumulates a column per window, and the centre of what is new in it."""

    def __init__(self) -> None:
        self.values: list[npt.NDArray[Any]] = []
        self.centres: list[float] = []
        self.mean = WindowMean()

    def add(self, window: Window, value: npt.NDArray[Any], /) -> None:
        self.values.append(value)
        self.centres.append(self.mean.samples + window.new_samples / 2)
        self.mean.add(window, value)


def _check_indices(trained: TrainedModel, method: Method, values: dict[str, Any]) -> None:
    """Refuse layers and heads that the model does not have."""
    encoder = trained.model.model_config.encoder
    for name, size in (("layer", encoder.n_layers), ("head", encoder.n_heads)):
        number = values.get(name)
        if number is not None and not -size <= number < size:
            raise ModelError(f"{name} of {method.name}: expected {-size} to {size - 1}. Received: {number!r}.")
