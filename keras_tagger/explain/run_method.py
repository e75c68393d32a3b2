"""`explain`: any method by name, on audio of any length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.audio import AudioSource, Window
from keras_tagger.errors import ModelError
from keras_tagger.explain.methods import DEFAULT_METHOD, Method, find_method
from keras_tagger.heatmap import Heatmap

if TYPE_CHECKING:
    from keras_tagger.explain.maps import Maps
    from keras_tagger.models.trained import TrainedModel

_WINDOWS_PER_BATCH = 8


def explain(
    tagger: TrainedModel,
    audio: AudioSource,
    method: str = DEFAULT_METHOD,
    tags: Sequence[str] | str | None = None,
    **options: Any,
) -> Heatmap:
    """Why a tag: its map over a clip, by one of the methods of `keras_tagger.explain.METHODS`.

    Audio longer than a window of the model is explained window by window and stitched; memory grows with the map only.
    docs/explanations.md has what each method is worth, measured.

    Args:
        tagger: a `Tagger`.
        audio: see `Tagger`.
        method: name of the method.
        tags: rows wanted, in order, or one; None for all (gradients and patches take a pass a tag).
        **options: of the method (`METHODS[method].options`).

    Returns:
        Heatmap [n_tags, T], or [n_tags, F, T] with `frequencies` in Hz for methods over frequency. `scores` are the
        tags' probabilities for the whole clip.

    Raises:
        ModelError: a method, option or tag that there is not, or an option's value that is impossible; the sentence
            says what there is.
        AudioError, AudioNotFoundError: audio that cannot be used.
    """
    found, values = find_method(method, options)
    _check(tagger, found, values)
    rows = tagger.rows(tags)
    if found.name == "taggram":
        every = tagger.taggram(audio, values["window_seconds"])
        scores = np.asarray(every.scores)[rows]
        return Heatmap(every.values[rows], tuple(tagger.tags[i] for i in rows), every.times, "taggram", scores=scores)
    stitched = _Stitched(tagger)
    for batch in _batches(_windows(tagger, audio)):
        waveforms = np.stack([window.waveform for window in batch])
        maps = found.function(tagger.model, waveforms, rows, **values)
        stitched.add(batch, maps, tagger.model.analyze(waveforms, ("tags",))["tags"].numpy()[:, rows])
    return stitched.heatmap(tuple(tagger.tags[i] for i in rows), method)


class _Stitched:
    """Of each window's map what is new in it, joined: columns with a centre in the window's new samples."""

    def __init__(self, tagger: TrainedModel) -> None:
        self._rate = tagger.model.audio_config.sample_rate
        self._model = tagger.model
        self._values: list[npt.NDArray[Any]] = []
        self._times: list[npt.NDArray[Any]] = []
        self._scores: list[npt.NDArray[Any]] = []
        self._weights: list[int] = []
        self._frequencies: npt.NDArray[Any] | None = None

    def add(self, batch: Sequence[Window], maps: Maps, scores: npt.NDArray[Any]) -> None:
        self._frequencies = maps.frequencies
        for window, values, score in zip(batch, maps.values, scores, strict=True):
            token = self._model.token_samples
            end = max(-(-len(window.waveform) // token), 1) * token
            begin = end - max(-(-window.new_samples // token), 1) * token
            new = (maps.times * self._rate >= begin - 0.5) & (maps.times * self._rate < end - 0.5)
            self._values.append(values[..., new].astype(np.float32))
            self._times.append(window.start_sample / self._rate + maps.times[new])
            self._scores.append(score)
            self._weights.append(window.new_samples)

    def heatmap(self, tags: tuple[str, ...], method: str) -> Heatmap:
        return Heatmap(
            np.concatenate(self._values, axis=-1),
            tags,
            np.concatenate(self._times),
            method,
            self._frequencies,
            np.average(self._scores, axis=0, weights=self._weights),
        )


def _windows(tagger: TrainedModel, audio: AudioSource) -> Iterator[Window]:
    model = tagger.model
    return model.windowing.cut(audio)


def _batches(found: Iterator[Window]) -> Iterator[list[Window]]:
    """Windows of one length, up to eight at a time."""
    batch: list[Window] = []
    for window in found:
        if len(batch) == _WINDOWS_PER_BATCH or (batch and len(batch[0].waveform) != len(window.waveform)):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _check(tagger: TrainedModel, method: Method, values: dict[str, Any]) -> None:
    """What only the model can tell of an option."""
    encoder = tagger.model.model_config.encoder
    for name, size in (("layer", encoder.n_layers), ("head", encoder.n_heads)):
        number = values.get(name)
        if number is not None and not -size <= number < size:
            raise ModelError(f"{name} of {method.name}: expected {-size} to {size - 1}. Received: {number!r}.")
