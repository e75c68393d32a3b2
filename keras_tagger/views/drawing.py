"""Drawing of rows and spectra over time, with matplotlib. Importing this imports numpy only."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.files import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

# A renderer drops columns at random if there are more than the screen has pixels, and takes long to do so.
_MAX_COLUMNS = 1000
# Over frequency, the colour scale ends at this quantile: a few cells may be so large that all others would look alike.
_SHOWN_QUANTILE = 0.99
_FREQUENCY_TICKS_HZ = (100, 500, 1000, 2000, 4000, 8000, 16000)
# Attention is drawn in octaves around uniform, on the same scale for every map.
OCTAVES = 3


def draw_map(
    values: npt.NDArray[Any],
    times: npt.NDArray[Any],
    frequencies: npt.NDArray[Any] | None,
    labels: Sequence[str],
    title: str,
    ax: Axes | None = None,
    *,
    uniform: npt.NDArray[Any] | None = None,
    uniform_name: str = "uniform",
    cmap: str | None = None,
    figsize: tuple[float, float] | None = None,
    spectrogram: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]] | None = None,
) -> Axes:
    """Draw rows over time, or one panel per row over frequency and time, with a colour bar.

    Values with a `uniform` are drawn as multiples of it, from 1/8 to 8, with the uniform value in the middle of the
    colour scale. Values over time alone end at the largest; values over frequency at the 99th percentile.

    Args:
        values: float `[n_rows, T]`, or `[n_rows, F, T]` if `frequencies` is given.
        times: float `[T]`, centres of the columns in seconds.
        frequencies: float `[F]`, centres of the bands in Hz, or None.
        labels: Names of the rows.
        title: Label of the colour bar.
        ax: Where to draw; None for a new figure. Must be None for several panels.
        uniform: float `[n_rows]`, the value of attention to all moments alike; None if that means nothing here.
        uniform_name: What the colour bar calls it.
        cmap: Name of matplotlib's colours; None for the defaults.
        figsize: Width and height of a new figure in inches; None for one as tall as its rows need.
        spectrogram: Values `[F, T]`, times and frequencies of a spectrogram to draw below; None for none.

    Returns:
        The axes, or the top one of several. New axes are a picture in a notebook.
    """
    from matplotlib.colors import LogNorm, Normalize

    n_rows = len(values)
    if ax is None:
        rows = [max(1.0, 0.24 * n_rows)] if frequencies is None else [2.2] * n_rows
        heights = [*rows, 2.0] if spectrogram else rows
        panels = _new_panels(heights, figsize or (10, max(2.2, sum(heights) + 1.2)))
        axes = panels[: len(rows)]
    else:
        axes = panels = [ax]

    finite = values[np.isfinite(values)]
    high = float(np.abs(finite).max()) if finite.size and finite.any() else 1.0
    if frequencies is not None and finite.any():
        high = float(np.quantile(np.abs(finite), _SHOWN_QUANTILE)) or high
    signed = bool((finite < 0).any())
    norm: Normalize = Normalize(-high if signed else 0.0, high)
    extend = "neither"
    if uniform is not None:
        values, norm, extend = relative_to_uniform(values, uniform), LogNorm(2.0**-OCTAVES, 2.0**OCTAVES), "both"
        signed, title = True, f"{title} / {uniform_name}"
    cmap = cmap or ("RdBu_r" if signed else "viridis")
    if frequencies is None:
        mesh = draw_rows(axes[0], values, times, labels, cmap=cmap, norm=norm)
    else:
        extend = "both" if signed else "max"
        for panel, row, label in zip(axes, values, labels, strict=True):
            mesh = draw_spectrum(panel, row, times, frequencies, cmap=cmap, norm=norm)
            panel.set_title(label, fontsize=9, loc="left", parse_math=False)
    bar = axes[0].figure.colorbar(mesh, ax=axes, label=title, pad=0.02, fraction=0.05, extend=extend)
    if uniform is not None:
        mark_uniform(bar, uniform_name)
    if spectrogram:
        below, frame_times, bands = spectrogram
        draw_spectrum(panels[-1], below, frame_times, bands, cmap="Greys")
        panels[-1].set_xlim(axes[0].get_xlim())
    panels[-1].set_xlabel("time (s)")
    return axes[0]


def relative_to_uniform(values: npt.NDArray[Any], uniform: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return attention `[n_rows, T]` as multiples of uniform attention `[n_rows]`, within the colour scale."""
    return np.clip(values / uniform[:, np.newaxis], 2.0**-OCTAVES, 2.0**OCTAVES)


def mark_uniform(bar: Any, name: str = "uniform") -> None:
    """Label the colour bar of a map that `relative_to_uniform` made: multiples, and where attention is uniform."""
    # In a low bar, labels between these would overlap.
    bar.set_ticks([1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8], labels=["1/8", "", "", name, "", "", "8"], minor=False)
    bar.ax.minorticks_off()


def figure_bytes(figure: Figure, kind: str = "png", dpi: float | str = "figure") -> bytes:
    """Return a figure as a file of a kind that matplotlib knows; needs no display and does not use pyplot."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # Text stays text that programs for papers can edit, and a file does not change with the day.
    with rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "keras_tagger"}):
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def _new_panels(heights: Sequence[float], size: tuple[float, float]) -> list[Axes]:
    """Return the panels of a new figure that pyplot does not know, of these heights and on one time axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=100, layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    panels: list[Axes] = []
    for row in range(len(heights)):
        shared = panels[0] if panels else None
        panels.append(figure.add_subplot(grid[row, 0], axes_class=_shown_axes(), sharex=shared))
        panels[-1].tick_params(labelbottom=row == len(heights) - 1)
    return panels


@functools.cache
def _shown_axes() -> type[Axes]:
    """Return axes that are a picture as the last line of a notebook's cell."""
    from matplotlib.axes import Axes

    class ShownAxes(Axes):
        def _repr_png_(self) -> bytes:
            return figure_bytes(self.figure)  # type: ignore[arg-type]

    ShownAxes.__name__ = "Axes"
    return ShownAxes


def draw_rows(
    ax: Axes, values: npt.NDArray[Any], times: npt.NDArray[Any], labels: Sequence[str], *, cmap: str, norm: Normalize
) -> QuadMesh:
    """Draw values `[n_rows, T]`, the first row on top. Each column covers its time span in seconds."""
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
    """Draw values `[F, T]` over seconds and Hz. The frequency axis is spaced in mels and labelled in Hz."""
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
    """Return the borders halfway between neighbouring centres, `[n + 1]`.

    A single centre is the middle of a span that starts at 0.

    Example:
        >>> column_edges(np.array([0.5, 1.5, 2.5]))
        array([0., 1., 2., 3.])
    """
    if len(centres) == 1:
        half = centres[0] if centres[0] > 0 else 0.5
        return np.array([centres[0] - half, centres[0] + half])
    middle = (centres[1:] + centres[:-1]) / 2
    first = centres[0] - (centres[1] - centres[0]) / 2
    last = centres[-1] + (centres[-1] - centres[-2]) / 2
    return np.concatenate([[first], middle, [last]])


def shorten(name: str, limit: int = 32) -> str:
    """Return a name for a picture; if it has more than `limit` characters, an ellipsis replaces its middle.

    Example:
        >>> shorten("abcdefghij", 9)
        'abcd…ghij'
    """
    name = printable(name)
    if len(name) <= limit:
        return name
    head = limit // 2
    return f"{name[:head].rstrip()}…{name[len(name) - (limit - head - 1) :].lstrip()}"


def _columns(values: npt.NDArray[Any], times: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Average neighbouring columns down to `_MAX_COLUMNS`; return them and their edges in seconds."""
    edges = column_edges(times)
    step = -(-len(times) // _MAX_COLUMNS)
    starts = np.arange(0, len(times), step)
    counts = np.diff(np.append(starts, len(times)))
    return np.add.reduceat(values, starts, axis=-1) / counts, np.append(edges[starts], edges[-1])


# An axis needs one smooth scale whatever the model's own is (`keras_tagger.layers.mel`): HTK's mels.
def _hz_to_mel(hz: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return 2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0)


def _mel_to_hz(mel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return 700.0 * (10.0 ** (np.asarray(mel) / 2595.0) - 1.0)
