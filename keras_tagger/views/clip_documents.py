"""Clips as the player shows them: what a model says about a clip, or a map that exists already."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger import audio as audio_module
from keras_tagger.audio import AudioSource
from keras_tagger.audio.windows import Stitcher, Window, WindowMean, accumulate
from keras_tagger.errors import AudioWarning
from keras_tagger.explain.api import taggram
from keras_tagger.explain.listen import listen
from keras_tagger.heatmap import Heatmap, column_edges
from keras_tagger.tags import judged
from keras_tagger.views.player import (
    attention_map,
    audio_uri,
    clip_document,
    query_map,
    regular_columns,
)

if TYPE_CHECKING:
    from keras_tagger.models.trained import TrainedModel

PLAYED_RATE = 16000
SOLO_SHARE = 0.25
# These have a lane of their own, with every tag.
_ALWAYS = ("contributions", "attention")


def explained_clip(
    trained: TrainedModel,
    audio: AudioSource,
    name: str,
    maps: Sequence[Heatmap] = (),
    *,
    model: Mapping[str, Any] | None = None,
    solo: bool = False,
) -> dict[str, Any]:
    """Run a model on a whole clip, and describe the clip for the player.

    The document has the spectrogram, the attention of [CLS] in every layer and head, where each token looks, and the
    contributions and the taggram of every tag.

    Args:
        trained: The model, such as a `Tagger`.
        audio: A path, encoded bytes or `(array, sample_rate)`.
        name: The title.
        maps: More maps of the clip, such as `Tagger.explain` returns.
        model: What the page states about the model, as for `clip_document`.
        solo: Whether to add audio of what each map over frequency keeps and removes. Solo of other maps needs none.

    Raises:
        AudioError, AudioNotFoundError: If the audio cannot be used.

    Example:
        >>> heat = tagger.explain("song.mp3", tags=["guitar"])
        >>> page([explained_clip(tagger, "song.mp3", "song", [heat])], "song")
    """
    network = trained.model
    rate, windowing, step = network.audio_config.sample_rate, network.windowing, network.hop_seconds
    warnings: list[AudioWarning] = []
    waveform = audio_module.load(audio, rate, warnings=warnings)
    found = accumulate((waveform, rate), windowing, _run(trained), _Passes(trained), warnings=[])
    scores = found.scores.value.astype(np.float32)
    present, heard, _ = judged(trained.tags, scores, trained.info)
    tags = [
        {
            "name": tag,
            "score": float(score),
            "threshold": trained.info[tag].threshold,
            "heard": bool(heard[row]),
            "present": bool(present[row]) and bool(scores.any()),
        }
        for row, (tag, score) in enumerate(zip(trained.tags, scores, strict=True))
    ]
    shown = [heatmap for heatmap in maps if heatmap.method not in _ALWAYS]
    if all(heatmap.method != "taggram" for heatmap in shown):
        shown.append(taggram(trained, (waveform, rate)))
    spectrogram = found.spectrogram()
    return clip_document(
        name,
        waveform,
        rate,
        token_seconds=step,
        tags=tags,
        maps=[
            *(heatmap.player_map(bands=spectrogram[1]) for heatmap in shown if heatmap.method != "taggram"),
            found.contributions(trained.tags).player_map(),
            *(heatmap.player_map() for heatmap in shown if heatmap.method == "taggram"),
            *found.attention(),
        ],
        spectrogram=spectrogram,
        model=model,
        solo=_solo(shown, waveform, rate) if solo else None,
        warnings=[str(warning) for warning in warnings],
    )


def heatmap_clip(heatmap: Heatmap, audio: AudioSource, name: str) -> dict[str, Any]:
    """Describe a clip with one map of it for the player, without running a model.

    Args:
        heatmap: A map of the audio.
        audio: A path, encoded bytes or `(array, sample_rate)`.
        name: The title.

    Raises:
        AudioError, AudioNotFoundError: If the audio cannot be used.

    Example:
        >>> document = heatmap_clip(tagger.explain("song.mp3", tags="guitar"), "song.mp3", "song")
    """
    return replace(heatmap, audio=audio).clip_document(name)


def weights_sha256(source: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of the file that holds a model's weights, in hexadecimal.

    Args:
        source: A pretrained name, a run directory or a `.keras` file.

    Raises:
        ModelNotFoundError: If no model has that name or path.
    """
    from keras_tagger.storage.loading import find_model
    from keras_tagger.storage.pretrained import packaged_file

    found = find_model(source)
    return hashlib.sha256((found.file or packaged_file(found.name)).read_bytes()).hexdigest()


def _run(trained: TrainedModel) -> Any:
    outputs = ("tags", "attention", "contributions", "spectrogram")

    def run(waveforms: npt.NDArray[Any]) -> list[dict[str, npt.NDArray[Any]]]:
        found = trained.model.analyze(waveforms, outputs)
        return [{name: np.asarray(found[name][row]) for name in outputs} for row in range(len(waveforms))]

    return run


class _Passes:
    """Accumulates the outputs of a model for the windows of a clip."""

    def __init__(self, trained: TrainedModel) -> None:
        self._model = trained.model
        windowing = trained.model.windowing
        self.scores = WindowMean()
        self._frames, self._rows, self._cls, self._queries, self._starts = (Stitcher(windowing) for _ in range(5))
        self._layers = self._tokens = 0

    def add(self, window: Window, value: dict[str, npt.NDArray[Any]], /) -> None:
        self.scores.add(window, value["tags"])
        spectrogram, attention = value["spectrogram"], value["attention"]
        self._frames.add(window, spectrogram.T, self._model.spectrogram.frame_times(len(spectrogram)))
        # All scores of a silent window are 0, and nothing in it speaks for a tag.
        self._rows.add(window, value["contributions"] * np.any(value["tags"]))
        self._layers, _, size, _ = attention.shape
        self._tokens = max(self._tokens, size - 1)
        self._cls.add(window, attention[:, :, 0, 1:].reshape(-1, size - 1))
        # The queries are the columns here, as only they are new.
        self._queries.add(window, np.moveaxis(attention[:, :, 1:, 1:].mean(axis=1), 1, 2))
        start = round(window.start_sample / self._model.token_samples)
        self._starts.add(window, np.full(size - 1, start))

    def contributions(self, tags: Sequence[str]) -> Heatmap:
        return Heatmap(self._rows.values, tuple(tags), self._rows.times, "contributions")

    def attention(self) -> list[dict[str, Any]]:
        edges, step = column_edges(self._cls.times), self._model.hop_seconds
        cls, queries, starts = (
            regular_columns(one.values, edges, step) for one in (self._cls, self._queries, self._starts)
        )
        heads = attention_map(cls, self._layers, self._tokens + 1)
        query = query_map(np.moveaxis(queries, 2, 1), starts)
        return [heads] if query is None else [heads, query]

    def spectrogram(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], float]:
        layer = self._model.spectrogram
        step = layer.hop_length / layer.sample_rate
        values = regular_columns(self._frames.values, column_edges(self._frames.times), step)
        return values.T, layer.mel_frequencies(), step


def _solo(maps: Sequence[Heatmap], waveform: npt.NDArray[Any], rate: int) -> dict[str, dict[str, dict[str, str]]]:
    """Return the audio that each map over frequency keeps and removes, by method, tag and part."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for heatmap in maps:
        if heatmap.frequencies is None:
            continue
        for tag in heatmap.tags:
            heard = listen(heatmap, (waveform, rate), tag, SOLO_SHARE, rate)
            parts = {"kept": heard.kept, "removed": heard.removed}
            urls = {part: audio_uri(samples, rate) for part, samples in parts.items()}
            found.setdefault(heatmap.method, {})[tag] = urls
    return found
