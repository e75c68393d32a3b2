"""Heat maps and attention: values of rows over time (and frequency). numpy only; `keras_tagger.views.drawing` draws."""

from __future__ import annotations

import base64
import html
import io
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import AudioWarning, ModelError
from keras_tagger.files import replacing
from keras_tagger.tags import ranking
from keras_tagger.views.drawing import column_edges as column_edges
from keras_tagger.views.drawing import draw_map, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Heatmap:
    """Values of rows (tags, heads or layers) over time, or over frequency and time.

    Attributes:
        values: float32 `[n_rows, T]`, or `[n_rows, F, T]` if `frequencies` is given.
        tags: Names of the rows, all different.
        times: float64 `[T]`, centres of the columns in seconds, increasing.
        method: Kind of the values, e.g. "contributions"; the label of the colour bar.
        frequencies: float64 `[F]`, centres of the bands in Hz, increasing; None for maps over time only.
        scores: float32 `[n_rows]`, one score per row such as the tag's probability, or None. The constructor also takes
            a mapping from every row's name to its score.
        margins: float32 `[n_rows]`, how far each row's score exceeds its tag's threshold (`keras_tagger.tags.margin`),
            NaN for tags that training had no example of; None if unknown.
        warnings: What a listener must know about the audio, such as that it is silent; each has a `kind`.

    Raises:
        ModelError: If shapes disagree, names repeat, or times or frequencies do not increase.

    Example:
        >>> heatmap = tagger.contributions("song.mp3")
        >>> heatmap.top(5).crop(10, 20).save("contributions.png")
    """

    values: npt.NDArray[Any]
    tags: tuple[str, ...]
    times: npt.NDArray[Any]
    method: str
    frequencies: npt.NDArray[Any] | None = None
    scores: npt.NDArray[Any] | Mapping[str, float] | None = None
    warnings: tuple[AudioWarning, ...] = ()
    margins: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        tags = tuple(str(tag) for tag in self.tags)
        if len(set(tags)) != len(tags):
            repeated = sorted({tag for tag in tags if tags.count(tag) > 1})
            raise ModelError(f"expected heat map rows with different names. Received: {repeated} more than once.")
        times = _centres(self.times, "times")
        shape: tuple[int, ...] = (len(tags), len(times))
        frequencies = None
        if self.frequencies is not None:
            frequencies = _centres(self.frequencies, "frequencies")
            shape = (len(tags), len(frequencies), len(times))
        values = np.asarray(self.values, dtype=np.float32)
        if values.shape != shape or not tags:
            raise ModelError(
                f"expected heat map values of shape {shape} for {len(tags)} rows and {len(times)} times. "
                f"Received: {values.shape}."
            )
        scores = self.scores
        if isinstance(scores, Mapping):
            if missing := [tag for tag in tags if tag not in scores]:
                raise ModelError(f"expected a score for every heat map row. Received: no score for {missing}.")
            scores = np.array([scores[tag] for tag in tags])
        if scores is not None:
            scores = np.asarray(scores, dtype=np.float32)
        margins = None if self.margins is None else np.asarray(self.margins, dtype=np.float32)
        for one, found in (("score", scores), ("margin", margins)):
            if found is not None and found.shape != (len(tags),):
                raise ModelError(f"expected one {one} for each of {len(tags)} heat map rows. Received: {found.shape}.")
        fields = {"values": values, "tags": tags, "times": times, "frequencies": frequencies}
        fields |= {"scores": scores, "margins": margins}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def row(self, tag: str) -> npt.NDArray[Any]:
        """Return the values of one row, float32 `[T]` or `[F, T]`.

        Raises:
            ModelError: If there is no such row; the message lists the rows.

        Example:
            >>> heatmap.row("guitar").max()
        """
        if tag not in self.tags:
            raise ModelError(f"expected one of the heat map's rows: {', '.join(self.tags)}. Received: {tag!r}.")
        return self.values[self.tags.index(tag)]

    def top(self, n: int, rank: str = "score") -> Heatmap:
        """Return the n rows with the highest scores, highest first; without scores, the highest mean values.

        If there are fewer than n rows, all of them are returned.

        Args:
            n: How many rows.
            rank: "margin" for the rows whose scores exceed the thresholds by most, as in `Tags.top`.

        Raises:
            ModelError: If n is below 1, or `rank` is unknown or is "margin" for a map without margins.

        Example:
            >>> heatmap.top(3).tags
            ('rock', 'guitar', 'drums')
        """
        if n < 1:
            raise ModelError(f"expected at least 1 row to keep. Received: {n}.")
        means = self.values.reshape(len(self.tags), -1).mean(axis=1)
        index = ranking(means if self.scores is None else np.asarray(self.scores), self.margins, rank)[:n]
        scores, margins = (
            None if values is None else np.asarray(values)[index] for values in (self.scores, self.margins)
        )
        tags = tuple(self.tags[i] for i in index)
        return replace(self, values=self.values[index], tags=tags, scores=scores, margins=margins)

    def crop(self, start: float, end: float) -> Heatmap:
        """Return the columns whose centres lie in [start, end), in seconds.

        Raises:
            ModelError: If there are no such columns.

        Example:
            >>> heatmap.crop(10.0, 20.0)
        """
        keep = (self.times >= start) & (self.times < end)
        if not keep.any():
            raise ModelError(
                f"expected a crop within the heat map's {self.times[0]:.2f} to {self.times[-1]:.2f} s. "
                f"Received: {start} to {end} s."
            )
        return replace(self, values=self.values[..., keep], times=self.times[keep])

    def relative(self) -> Heatmap:
        """Return the map with each row divided by its largest magnitude, for rows on different scales.

        Rows of zeros stay zero.

        Example:
            >>> tagger.attention("song.mp3").heatmap("all").relative()
        """
        peak = np.abs(self.values).max(axis=tuple(range(1, self.values.ndim)), keepdims=True)
        return replace(self, values=self.values / np.where(peak > 0, peak, 1))

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a dict for JSON: arrays as nested lists, None for numbers that are not finite.

        Example:
            >>> json.dumps(heatmap.to_dict())
        """
        return {
            "method": self.method,
            "tags": list(self.tags),
            "times": self.times.tolist(),
            "frequencies": None if self.frequencies is None else self.frequencies.tolist(),
            "scores": None if self.scores is None else _json_list(np.asarray(self.scores)),
            "margins": None if self.margins is None else _json_list(self.margins),
            "values": _json_list(self.values),
            "warnings": [{"kind": warning.kind, "message": str(warning)} for warning in self.warnings],
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the map with row names and scores, a time axis in seconds and a colour bar.

        A map over frequency takes one panel per row. The colour scale is symmetric about 0 if there are negative
        values; over frequency it ends at the 99th percentile.

        Args:
            ax: Where to draw. None makes a new figure, as tall as the rows need and unknown to pyplot.

        Returns:
            The axes, or the top panel of several; its `.figure` is the figure.

        Raises:
            ModelError: If several rows over frequency are to be drawn into one `ax`.

        Example:
            >>> heatmap.top(5).plot().set_title("song.mp3")
        """
        if ax is not None and self.frequencies is not None and len(self.tags) > 1:
            raise ModelError(
                f"expected one row to draw over frequency in one axes, e.g. top(1). Received: {len(self.tags)} rows."
            )
        return draw_map(self.values, self.times, self.frequencies, self.labels(), self.method, ax)

    def save(self, path: str | os.PathLike[str], dpi: float = 100) -> Path:
        """Write the picture of `plot` as a PNG file, creating missing folders.

        Args:
            path: Target; must end in .png. An existing file is replaced only when the new one is complete.
            dpi: Resolution. At 100 dots per inch the picture is 1000 pixels wide.

        Raises:
            ModelError: If the path does not end in .png.

        Example:
            >>> heatmap.save("heatmap.png")
        """
        target = Path(path)
        if target.suffix.lower() != ".png":
            raise ModelError(f"expected a path that ends in .png for a heat map. Received: {str(target)!r}.")
        figure: Any = self.plot().figure
        with replacing(target) as temporary:
            figure.savefig(temporary, dpi=dpi, format="png")
        return target

    def labels(self, limit: int = 32) -> list[str]:
        """Return the rows' names for a picture, cut to `limit` characters and followed by the score if there is one.

        Example:
            >>> heatmap.top(2).labels()
            ['rock  0.90', 'guitar  0.30']
        """
        names = [shorten(tag, limit) for tag in self.tags]
        if self.scores is None:
            return names
        return [f"{name}  {score:.2f}" for name, score in zip(names, np.asarray(self.scores), strict=True)]

    def __repr__(self) -> str:
        return f"Heatmap({self._summary()})"

    def _summary(self) -> str:
        bands = "" if self.frequencies is None else f"{_count(len(self.frequencies), 'band')}, "
        return (
            f"{self.method}: {_count(len(self.tags), 'row')}, {bands}{_count(len(self.times), 'column')}, "
            f"{self.times[0]:.2f} to {self.times[-1]:.2f} s"
        )

    def _repr_html_(self) -> str:
        figure: Figure = self.plot().figure  # type: ignore[assignment]
        with io.BytesIO() as buffer:
            figure.savefig(buffer, format="png")
            png = base64.b64encode(buffer.getvalue()).decode()
        return f'<img src="data:image/png;base64,{png}" alt="{html.escape(self._summary())}">'


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
            f"AttentionWindow({_count(n_layers, 'layer')}, {_count(n_heads, 'head')}, {_count(size - 1, 'token')}, "
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "windows", tuple(self.windows))
        sizes = sorted({window.weights.shape[:2] for window in self.windows})
        if len(sizes) != 1:
            raise ModelError(f"expected windows with the same [layers, heads]. Received: {sizes}.")
        _centres(self.times, "times of the windows' new tokens")

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
        return Heatmap(
            values=np.stack(rows),
            tags=tuple(f"layer {number + 1}, {head_name}" for number in layers),
            times=self.times,
            method="attention",
            warnings=self.warnings,
        )

    def __repr__(self) -> str:
        n_layers, n_heads = self.windows[0].weights.shape[:2]
        times = self.times
        return (
            f"Attention({_count(n_layers, 'layer')}, {_count(n_heads, 'head')}, {_count(len(times), 'token')} "
            f"in {_count(len(self.windows), 'window')}, {times[0]:.2f} to {times[-1]:.2f} s)"
        )

    def _repr_html_(self) -> str:
        return self.heatmap("all")._repr_html_()


def _centres(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all() or (np.diff(array) <= 0).any():
        received = f"shape {array.shape}" if array.ndim != 1 or not array.size else f"{array[:8].tolist()}"
        raise ModelError(f"expected heat map {name} as one row of finite, increasing numbers. Received: {received}.")
    return array


def _index(value: int | str, size: int, name: str, others: str) -> int:
    try:
        index = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        index = size
    if not -size <= index < size:
        raise ModelError(f"expected a {name} from {-size} to {size - 1}{others}. Received: {value!r}.")
    return index % size


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _json_list(array: npt.NDArray[Any]) -> list[Any]:
    plain = array.astype(object)
    plain[~np.isfinite(array)] = None
    return plain.tolist()
