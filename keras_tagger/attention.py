"""Attention of the model over a clip, as `Tagger.attention` and `Client.attention` return it."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.audio import AudioSource
from keras_tagger.audio.streams import is_file_object
from keras_tagger.errors import AudioWarning, ModelError
from keras_tagger.heatmap import (
    PLAYED_RATE,
    Heatmap,
    centres,
    clip_name,
    column_seconds,
    counted,
    heard,
    notebook_player,
)
from keras_tagger.views.drawing import column_edges
from keras_tagger.views.spectra import spectrogram


@dataclass(frozen=True, eq=False, repr=False)
class AttentionWindow:
    """Attention in one pass of the model over one window of the audio.

    Attributes:
        start_seconds: Start of the window in the audio.
        weights: float32 `[layers, heads, T+1, T+1]`, query by key after the softmax; index 0 is [CLS].
        n_new: How many of its last tokens no earlier window has, 1..T.

    Raises:
        ModelError: If the weights have another shape or `n_new` is outside 1..T.
    """

    start_seconds: float
    weights: npt.NDArray[Any]
    n_new: int

    def __post_init__(self) -> None:
        weights = np.asarray(self.weights, dtype=np.float32)
        if weights.ndim != 4 or weights.shape[2] != weights.shape[3] or weights.shape[3] < 2 or not weights.size:
            raise ModelError(
                f"expected attention weights of shape [layers, heads, T+1, T+1]. Received: {weights.shape}."
            )
        if not 1 <= self.n_new < weights.shape[3]:
            raise ModelError(f"expected 1 to {weights.shape[3] - 1} new tokens. Received: {self.n_new}.")
        object.__setattr__(self, "weights", weights)

    def __repr__(self) -> str:
        n_layers, n_heads, size, _ = self.weights.shape
        return (
            f"AttentionWindow({counted(n_layers, 'layer')}, {counted(n_heads, 'head')}, {counted(size - 1, 'token')}, "
            f"{self.n_new} new, from {self.start_seconds:.2f} s)"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Attention:
    """Attention of the model over a whole clip, in one or more windows.

    Attributes:
        windows: The windows in order of time; a clip of up to one window has exactly one.
        hop_seconds: Time from one token to the next.
        offset_seconds: Centre of a window's first token, counted from the window's start; None for half a hop.
        warnings: What a listener must know about the audio, such as that it is silent; each has a `kind`.
        audio: The audio, as for `Heatmap`.

    Raises:
        ModelError: If there are no windows, if their numbers of layers or heads differ, or if their new tokens are not
            in order of time.

    Example:
        >>> tagger.attention("song.mp3").heatmap("all").save("attention.png")
    """

    windows: tuple[AttentionWindow, ...]
    hop_seconds: float
    offset_seconds: float | None = None
    warnings: tuple[AudioWarning, ...] = ()
    audio: AudioSource | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "windows", tuple(self.windows))
        object.__setattr__(self, "audio", None if is_file_object(self.audio) else self.audio)
        sizes = sorted({window.weights.shape[:2] for window in self.windows})
        if len(sizes) != 1:
            raise ModelError(f"expected windows with the same [layers, heads]. Received: {sizes}.")
        centres(self.times, "times of the windows' new tokens")

    @property
    def weights(self) -> npt.NDArray[Any]:
        """The only window's weights, float32 `[layers, heads, T+1, T+1]`; `ModelError` if there are several."""
        if len(self.windows) > 1:
            raise ModelError(
                "expected a clip of one window for .weights; use .windows for each window's weights. "
                f"Received: {len(self.windows)} windows."
            )
        return self.windows[0].weights

    @property
    def times(self) -> npt.NDArray[Any]:
        """The centres of all tokens in seconds, float64 `[T_total]`: each window's new tokens in turn."""
        offset = self.hop_seconds / 2 if self.offset_seconds is None else self.offset_seconds
        parts = []
        for window in self.windows:
            index = np.arange(window.weights.shape[3] - 1, dtype=np.float64)[-window.n_new :]
            parts.append(window.start_seconds + offset + index * self.hop_seconds)
        return np.concatenate(parts)

    def heatmap(self, layer: int | str = -1, head: int | None = None) -> Heatmap:
        """Return the attention paid to each token, as in the paper's attention heat map (arXiv 1911.04385).

        In the last layer this is the row of the [CLS] query, the only one that reaches the tags; in the other layers it
        is the sum of each column over all queries. [CLS] is left out as a key. The rows are sums of weights, so those
        of different layers are on different scales; see `Heatmap.relative`.

        Args:
            layer: Index of the layer, negative from the end, or "all" for one row per layer.
            head: Index of the head, or None for the sum over heads.

        Returns:
            `Heatmap` with values `[1 or layers, T_total]` and rows named like "layer 2, all heads", counted from 1.

        Raises:
            ModelError: If an index is outside the model's layers or heads.

        Example:
            >>> tagger.attention("song.mp3").heatmap(layer=0, head=1)
        """
        n_layers, n_heads = self.windows[0].weights.shape[:2]
        layers = range(n_layers) if layer == "all" else [_index(layer, n_layers, "layer", ' or "all"')]
        heads = range(n_heads) if head is None else [_index(head, n_heads, "head", " or None")]
        head_name = "all heads" if head is None else f"head {heads[0] + 1}"
        rows = []
        for number in layers:
            parts = []
            for window in self.windows:
                queries = window.weights[number, list(heads)].sum(axis=0)
                keys = queries[0] if number == n_layers - 1 else queries.sum(axis=0)
                parts.append(keys[1:][-window.n_new :])
            rows.append(np.concatenate(parts))
        # Each query's weights sum to 1, over all tokens of its window and [CLS].
        n_keys = self.windows[0].weights.shape[3]
        uniform = [len(heads) / n_keys if number == n_layers - 1 else len(heads) for number in layers]
        return Heatmap(
            values=np.stack(rows),
            tags=tuple(f"layer {number + 1}, {head_name}" for number in layers),
            times=self.times,
            method="attention",
            warnings=self.warnings,
            audio=self.audio,
            uniform=np.array(uniform),
        )

    def clip_document(self, name: str = "") -> dict[str, Any]:
        """Describe the attention and its audio for the player (docs/player.md), as plain JSON.

        It has the [CLS] row of every layer and head, and, if that is not too much, where every token looks.

        Args:
            name: The title; by default, the name of the audio file and where the map begins.

        Raises:
            ModelError: If the audio is unknown.
            AudioError, AudioNotFoundError: If the audio can no longer be read.

        Example:
            >>> document = tagger.attention("song.mp3").clip_document()
        """
        from keras_tagger.views.player import attention_map, clip_document, query_map, regular_columns

        waveform, start = heard(self.audio, self.times)
        edges, step = column_edges(self.times), self.hop_seconds
        n_layers, n_heads, n_keys, _ = self.windows[0].weights.shape
        cls, queries, starts = [], [], []
        for window in self.windows:
            cls.append(window.weights[:, :, 0, -window.n_new :].reshape(n_layers * n_heads, -1))
            # [layers, keys, queries], as only the queries are new.
            mean = window.weights[:, :, 1:, 1:].mean(axis=1)
            queries.append(np.swapaxes(mean, 1, 2)[..., -window.n_new :])
            starts.append(np.full(window.n_new, round(window.start_seconds / step)))
        rows, of_tokens, firsts = (
            regular_columns(np.concatenate(parts, axis=-1), edges, step) for parts in (cls, queries, starts)
        )
        first = float(edges[0]) - start
        maps = [
            attention_map(rows, n_layers, n_keys, seconds=step, first=first),
            query_map(np.swapaxes(of_tokens, 1, 2), firsts, seconds=step, first=first),
        ]
        picture, times, hz = spectrogram(waveform, PLAYED_RATE)
        return clip_document(
            name or clip_name(self.audio, start),
            waveform,
            PLAYED_RATE,
            token_seconds=step,
            maps=[one for one in maps if one is not None],
            spectrogram=(picture.T, hz, column_seconds(times)),
            warnings=[str(warning) for warning in self.warnings],
        )

    def to_dataframe(self) -> Any:
        """Return `Heatmap.to_dataframe` of `heatmap("all")`, and so do the methods below for other formats."""
        return self.heatmap("all").to_dataframe()

    def to_jams(self) -> dict[str, Any]:
        """Return `Heatmap.to_jams` of `heatmap("all")`."""
        return self.heatmap("all").to_jams()

    def to_audacity(self) -> str:
        """Return `Heatmap.to_audacity` of `heatmap("all")`."""
        return self.heatmap("all").to_audacity()

    def to_webvtt(self) -> str:
        """Return `Heatmap.to_webvtt` of `heatmap("all")`."""
        return self.heatmap("all").to_webvtt()

    def to_sonic_visualiser(self, sample_rate: int = 44100) -> str:
        """Return `Heatmap.to_sonic_visualiser` of `heatmap("all")`."""
        return self.heatmap("all").to_sonic_visualiser(sample_rate)

    def __repr__(self) -> str:
        n_layers, n_heads = self.windows[0].weights.shape[:2]
        times = self.times
        return (
            f"Attention({counted(n_layers, 'layer')}, {counted(n_heads, 'head')}, {counted(len(times), 'token')} "
            f"in {counted(len(self.windows), 'window')}, {times[0]:.2f} to {times[-1]:.2f} s)"
        )

    def _repr_html_(self) -> str:
        return notebook_player(self) or self.heatmap("all")._repr_html_()


def _index(value: int | str, size: int, name: str, others: str) -> int:
    try:
        index = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        index = size
    if not -size <= index < size:
        raise ModelError(f"expected a {name} from {-size} to {size - 1}{others}. Received: {value!r}.")
    return index % size
