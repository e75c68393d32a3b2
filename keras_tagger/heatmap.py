"""Heat maps: what the model hears, row by row over time (and frequency), and the attention behind them.

numpy only; matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import operator
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ModelError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Normalize

# More columns than a screen has pixels cost time and would be thinned out at random by the renderer.
_MAX_COLUMNS = 1000
# Of a map over frequency, cells above this share of all are drawn in the scale's last colour.
_SHOWN_QUANTILE = 0.99
_FREQUENCY_TICKS_HZ = (100, 500, 1000, 2000, 4000, 8000, 16000)


@dataclass(frozen=True, eq=False)
class Heatmap:
    """Values of rows (tags, heads or layers) over time, or over frequency and time.

    Attributes:
        values: float32 [n_rows, T], or [n_rows, F, T] when `frequencies` is given.
        tags: the n_rows row names, each once.
        times: float64 [T], centres of the columns in seconds, increasing.
        method: what the values are, e.g. "contributions"; the label of the colour bar.
        frequencies: float64 [F], centres of the bands in Hz, increasing; None for maps over time only.
        scores: float32 [n_rows], one score a row such as the tag's probability, or None; a mapping from every
            row name to its score is accepted.

    Raises:
        ModelError: shapes do not agree, names repeat, or times or frequencies do not increase.
    """

    values: npt.NDArray[Any]
    tags: tuple[str, ...]
    times: npt.NDArray[Any]
    method: str
    frequencies: npt.NDArray[Any] | None = None
    scores: npt.NDArray[Any] | Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        tags = tuple(str(tag) for tag in self.tags)
        if len(set(tags)) != len(tags):
            repeated = sorted({tag for tag in tags if tags.count(tag) > 1})
            raise ModelError(f"expected heat map rows with different names. Received: {repeated} more than once")
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
                f"Received: {values.shape}"
            )
        scores = self.scores
        if isinstance(scores, Mapping):
            if missing := [tag for tag in tags if tag not in scores]:
                raise ModelError(f"expected a score for every heat map row. Received: none for {missing}")
            scores = np.array([scores[tag] for tag in tags])
        if scores is not None:
            scores = np.asarray(scores, dtype=np.float32)
            if scores.shape != (len(tags),):
                raise ModelError(f"expected one score for each of {len(tags)} heat map rows. Received: {scores.shape}")
        for name, value in (("tags", tags), ("times", times), ("frequencies", frequencies)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "scores", scores)

    def row(self, tag: str) -> npt.NDArray[Any]:
        """Values of one row by its name, float32 [T] or [F, T]; ModelError lists the names there are."""
        if tag not in self.tags:
            raise ModelError(f"expected one of the heat map's rows: {', '.join(self.tags)}. Received: {tag!r}")
        return self.values[self.tags.index(tag)]

    def top(self, n: int) -> Heatmap:
        """The n rows with the highest scores (mean values where there are no scores), highest first.

        All rows when there are fewer than n. Raises ModelError for n below 1.
        """
        if n < 1:
            raise ModelError(f"expected at least 1 row to keep. Received: {n}")
        rank = self.scores if self.scores is not None else self.values.reshape(len(self.tags), -1).mean(axis=1)
        return self._rows(np.argsort(-np.asarray(rank), kind="stable")[:n])

    def crop(self, start: float, end: float) -> Heatmap:
        """The columns whose centres lie in [start, end) seconds; ModelError when there are none."""
        keep = (self.times >= start) & (self.times < end)
        if not keep.any():
            raise ModelError(
                f"expected a crop within the heat map's {self.times[0]:.2f} to {self.times[-1]:.2f} s. "
                f"Received: {start} to {end} s"
            )
        return replace(self, values=self.values[..., keep], times=self.times[keep])

    def relative(self) -> Heatmap:
        """Each row divided by its largest magnitude (rows of zeros stay), for rows on unlike scales."""
        peak = np.abs(self.values).max(axis=tuple(range(1, self.values.ndim)), keepdims=True)
        return replace(self, values=self.values / np.where(peak > 0, peak, 1))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict of all fields, arrays as nested lists; numbers that are not finite become None."""
        return {
            "method": self.method,
            "tags": list(self.tags),
            "times": self.times.tolist(),
            "frequencies": None if self.frequencies is None else self.frequencies.tolist(),
            "scores": None if self.scores is None else _json_list(np.asarray(self.scores)),
            "values": _json_list(self.values),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the map with row names (and scores), a time axis in seconds and a colour bar.

        Without `ax` a new figure is made, apart from pyplot and as tall as the rows need; `.figure` of the
        result is that figure. A map over frequency takes one panel a row, and the top one is returned; into a
        given `ax` it must have one row (ModelError). Negative values make the colour scale symmetric about 0. Over
        frequency, where a few cells may be far above the rest, the scale ends at the 99th percentile.
        """
        from matplotlib.colors import Normalize
        from matplotlib.figure import Figure

        panels = len(self.tags) if self.frequencies is not None else 1
        if ax is not None and panels > 1:
            raise ModelError(f"expected one row to draw over frequency in one axes, e.g. top(1). Received: {panels}")
        if ax is None:
            height = 2.2 * panels + 0.8 if self.frequencies is not None else max(2.2, 0.24 * len(self.tags) + 1.2)
            figure = Figure(figsize=(10, height), dpi=100, layout="constrained")
            axes = list(figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])
        else:
            axes = [ax]

        finite = self.values[np.isfinite(self.values)]
        high = float(np.abs(finite).max()) if finite.size and finite.any() else 1.0
        if self.frequencies is not None and finite.any():
            # A few of very many cells may be far above all others, which would all look alike.
            high = float(np.quantile(np.abs(finite), _SHOWN_QUANTILE)) or high
        signed = bool((finite < 0).any())
        norm = Normalize(-high if signed else 0.0, high)
        cmap = "RdBu_r" if signed else "viridis"
        labels = self.labels()
        if self.frequencies is None:
            mesh = draw_rows(axes[0], self.values, self.times, labels, cmap=cmap, norm=norm)
        else:
            for panel, values, label in zip(axes, self.values, labels, strict=True):
                mesh = draw_spectrum(panel, values, self.times, self.frequencies, cmap=cmap, norm=norm)
                panel.set_title(label, fontsize=9, loc="left", parse_math=False)
        axes[-1].set_xlabel("time (s)")
        extend = "neither" if self.frequencies is None else ("both" if signed else "max")
        axes[0].figure.colorbar(mesh, ax=axes, label=self.method, pad=0.02, fraction=0.05, extend=extend)
        return axes[0]

    def save(self, path: str | os.PathLike[str], dpi: float = 100) -> Path:
        """Write the map of `plot` as a PNG, whole or not at all; folders are made as needed.

        At 100 dots per inch it is 1000 pixels wide. Raises ModelError for a path that does not end in .png.
        """
        target = Path(path)
        if target.suffix.lower() != ".png":
            raise ModelError(f"expected a path that ends in .png for a heat map. Received: {str(target)!r}")
        figure = self.plot().figure
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            whole = Path(folder) / target.name
            figure.savefig(whole, dpi=dpi, format="png")  # type: ignore[union-attr]
            os.replace(whole, target)
        return target

    def labels(self, limit: int = 32) -> list[str]:
        """Row names for a picture: with the score to two places where there is one, cut to `limit` characters."""
        names = [shorten(tag, limit) for tag in self.tags]
        if self.scores is None:
            return names
        return [f"{name}  {score:.2f}" for name, score in zip(names, np.asarray(self.scores), strict=True)]

    def _rows(self, index: npt.NDArray[Any]) -> Heatmap:
        scores = None if self.scores is None else np.asarray(self.scores)[index]
        return replace(self, values=self.values[index], tags=tuple(self.tags[i] for i in index), scores=scores)


@dataclass(frozen=True, eq=False)
class AttentionWindow:
    """Attention of one pass of the model over one window of the audio.

    Attributes:
        start_seconds: where the window starts in the audio.
        weights: float32 [layers, heads, T+1, T+1], query by key after the softmax; index 0 is [CLS].
        n_new: how many of its last tokens no earlier window has (1..T).

    Raises:
        ModelError: weights of another shape, or n_new outside 1..T.
    """

    start_seconds: float
    weights: npt.NDArray[Any]
    n_new: int

    def __post_init__(self) -> None:
        weights = np.asarray(self.weights, dtype=np.float32)
        if weights.ndim != 4 or weights.shape[2] != weights.shape[3] or weights.shape[3] < 2 or not weights.size:
            raise ModelError(
                f"expected attention weights of shape [layers, heads, T+1, T+1]. Received: {weights.shape}"
            )
        if not 1 <= self.n_new < weights.shape[3]:
            raise ModelError(f"expected 1 to {weights.shape[3] - 1} new tokens. Received: {self.n_new}")
        object.__setattr__(self, "weights", weights)


@dataclass(frozen=True, eq=False)
class Attention:
    """Attention of the model over a whole clip, as one or more windows.

    Attributes:
        windows: in order of time; a clip of up to one window has exactly one.
        hop_seconds: time from one token to the next.
        offset_seconds: centre of a window's first token after the window's start; half a hop when None.

    Raises:
        ModelError: no windows, windows with other numbers of layers or heads, or new tokens out of order.
    """

    windows: tuple[AttentionWindow, ...]
    hop_seconds: float
    offset_seconds: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "windows", tuple(self.windows))
        sizes = sorted({window.weights.shape[:2] for window in self.windows})
        if len(sizes) != 1:
            raise ModelError(f"expected windows with the same [layers, heads]. Received: {sizes}")
        _centres(self.times, "times of the windows' new tokens")

    @property
    def weights(self) -> npt.NDArray[Any]:
        """The only window's weights, float32 [layers, heads, T+1, T+1]; ModelError when there are several."""
        if len(self.windows) > 1:
            raise ModelError(
                "expected a clip of one window for .weights; use .windows for each window's weights. "
                f"Received: {len(self.windows)} windows"
            )
        return self.windows[0].weights

    @property
    def times(self) -> npt.NDArray[Any]:
        """Centres of all tokens in seconds, float64 [T_total]: each window's new tokens in turn."""
        offset = self.hop_seconds / 2 if self.offset_seconds is None else self.offset_seconds
        parts = []
        for window in self.windows:
            index = np.arange(window.weights.shape[3] - 1, dtype=np.float64)[-window.n_new :]
            parts.append(window.start_seconds + offset + index * self.hop_seconds)
        return np.concatenate(parts)

    def heatmap(self, layer: int | str = -1, head: int | None = None) -> Heatmap:
        """Attention paid to each token, as the paper draws it (arXiv 1911.04385, attention heat map).

        In the last layer it is the row of the [CLS] query, the only one that reaches the tags; in the others
        the sum of each column over all queries. [CLS] as a key is left out. As sums of weights, the rows of
        different layers are not on one scale (see `Heatmap.relative`).

        Args:
            layer: index of the layer, negative from the end, or "all" for one row a layer.
            head: index of the head, or None for the sum over heads.

        Returns:
            Heatmap [1 or layers, T_total], rows named like "layer 2, all heads" (counted from 1).

        Raises:
            ModelError: an index outside the model's layers or heads.
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
        )


def draw_rows(
    ax: Axes, values: npt.NDArray[Any], times: npt.NDArray[Any], labels: Sequence[str], *, cmap: str, norm: Normalize
) -> QuadMesh:
    """Draw values [n_rows, T] with the first row on top; each column spans its true time in seconds."""
    values, edges = _columns(values, times)
    mesh = ax.pcolormesh(edges, np.arange(len(values) + 1), values, cmap=cmap, norm=norm, rasterized=True)
    ax.set_yticks(np.arange(len(values)) + 0.5, labels, fontsize=9, parse_math=False)
    ax.tick_params(axis="y", length=0)
    ax.hlines(np.arange(1, len(values)), edges[0], edges[-1], colors="white", linewidth=1)
    ax.set_ylim(len(values), 0)
    ax.set_xlim(max(edges[0], 0.0) if times[0] >= 0 else edges[0], edges[-1])
    return mesh


def draw_spectrum(
    ax: Axes,
    values: npt.NDArray[Any],
    times: npt.NDArray[Any],
    frequencies: npt.NDArray[Any],
    *,
    cmap: str,
    norm: Normalize | None = None,
) -> QuadMesh:
    """Draw values [F, T] over seconds and Hz; the frequency axis is spaced in mels and labelled in Hz."""
    values, edges = _columns(values, times)
    bands = np.maximum(column_edges(frequencies), 0.0)
    # Half a band is missing above the last centre: a filterbank up to 8 kHz must still reach its tick at 8k.
    ticks = [tick for tick in _FREQUENCY_TICKS_HZ if bands[0] <= tick <= bands[-1] * 1.03]
    bands[-1] = max([bands[-1], *ticks])
    mesh = ax.pcolormesh(edges, bands, values, cmap=cmap, norm=norm, rasterized=True)
    ax.set_yscale("function", functions=(_hz_to_mel, _mel_to_hz))
    labels = [f"{tick // 1000}k" if tick >= 1000 else str(tick) for tick in ticks]
    ax.set_yticks(ticks, labels, fontsize=9)
    ax.set_yticks([], minor=True)
    ax.set_ylabel("frequency (Hz)")
    ax.set_ylim(bands[0], bands[-1])
    ax.set_xlim(max(edges[0], 0.0) if times[0] >= 0 else edges[0], edges[-1])
    return mesh


def column_edges(centres: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Borders halfway between neighbours, [n+1]; a single centre is the middle of a span that starts at 0."""
    if len(centres) == 1:
        half = centres[0] if centres[0] > 0 else 0.5
        return np.array([centres[0] - half, centres[0] + half])
    middle = (centres[1:] + centres[:-1]) / 2
    first = centres[0] - (centres[1] - centres[0]) / 2
    last = centres[-1] + (centres[-1] - centres[-2]) / 2
    return np.concatenate([[first], middle, [last]])


def shorten(name: str, limit: int = 32) -> str:
    """The name, its middle replaced by an ellipsis where it is longer than `limit` characters."""
    if len(name) <= limit:
        return name
    head = limit // 2
    return f"{name[:head].rstrip()}…{name[len(name) - (limit - head - 1) :].lstrip()}"


def _centres(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all() or (np.diff(array) <= 0).any():
        received = f"shape {array.shape}" if array.ndim != 1 or not array.size else f"{array[:8].tolist()}"
        raise ModelError(f"expected heat map {name} as one row of finite, increasing numbers. Received: {received}")
    return array


def _columns(values: npt.NDArray[Any], times: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """At most _MAX_COLUMNS columns, neighbours averaged where there are more, and their edges in seconds."""
    edges = column_edges(times)
    step = -(-len(times) // _MAX_COLUMNS)
    starts = np.arange(0, len(times), step)
    counts = np.diff(np.append(starts, len(times)))
    return np.add.reduceat(values, starts, axis=-1) / counts, np.append(edges[starts], edges[-1])


def _hz_to_mel(hz: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return 2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0)


def _mel_to_hz(mel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return 700.0 * (10.0 ** (np.asarray(mel) / 2595.0) - 1.0)


def _index(value: int | str, size: int, name: str, others: str) -> int:
    try:
        index = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        index = size
    if not -size <= index < size:
        raise ModelError(f"expected a {name} from {-size} to {size - 1}{others}. Received: {value!r}")
    return index % size


def _json_list(array: npt.NDArray[Any]) -> list[Any]:
    plain = array.astype(object)
    plain[~np.isfinite(array)] = None
    return plain.tolist()
