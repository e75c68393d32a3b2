"""Measure whether a map marks the times at which a tag is heard: pointing game, intersection over union, ROC-AUC.

All measures compare a curve over time, float `[T]`, with the truth of its columns, bool `[T]`. They do not change if
the curve is scaled or shifted, so that methods on different scales can be compared. numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger import metrics
from keras_tagger.errors import ModelError
from keras_tagger.heatmap import Heatmap, column_edges


def time_curve(heatmap: Heatmap, tag: str) -> npt.NDArray[Any]:
    """Return a row over time, float32 `[T]`; a map over frequency is summed over its bands."""
    values = heatmap.row(tag)
    return values if values.ndim == 1 else values.sum(axis=0)


def at_times(curve: npt.NDArray[Any], times: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Resample a curve to another grid: each new column is the mean of the curve over what the column covers.

    Columns end halfway between neighbouring centres. A finer curve is averaged, a coarser one repeated; beyond its ends
    the curve keeps its first or last value.

    Args:
        curve: float `[T]`.
        times: Centres of its columns in seconds, increasing, float `[T]`.
        wanted: Centres of the new columns in seconds, increasing, float `[n]`.

    Returns:
        float64 `[n]`.
    """
    edges, new = column_edges(np.asarray(times)), column_edges(np.asarray(wanted))
    curve = np.asarray(curve, np.float64)
    # The integral of a step function is linear between its steps.
    area = np.concatenate([[0.0], np.cumsum(curve * np.diff(edges))])
    low, high = new[:-1], new[1:]
    integral = np.interp(high, edges, area) - np.interp(low, edges, area)
    integral += curve[0] * np.clip(edges[0] - low, 0, high - low)
    integral += curve[-1] * np.clip(high - edges[-1], 0, high - low)
    mean = integral / (high - low)
    # Within one column it is exactly that column's value, so that equal values stay equal.
    sliver = 1e-6 * (high - low)
    first = np.clip(np.searchsorted(edges, low + sliver, "right") - 1, 0, len(curve) - 1)
    last = np.clip(np.searchsorted(edges, high - sliver, "left") - 1, 0, len(curve) - 1)
    return np.where(first == last, curve[first], mean)


def inside(times: npt.NDArray[Any], intervals: Sequence[Sequence[float]]) -> npt.NDArray[Any]:
    """Return whether each time lies in one of the intervals [start, end) in seconds, bool `[T]`."""
    found = np.zeros(len(times), bool)
    for start, end in intervals:
        found |= (times >= start) & (times < end)
    return found


def pointing_game(curve: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """Return 1 if the largest value lies within the truth, else 0 (Zhang et al. 2018).

    Several equal largest values are averaged, so a constant curve gives chance: the truth's share of the time.
    """
    curve, truth = _checked(curve, truth)
    return float(truth[curve == curve.max()].mean())


def roc_auc(curve: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """Return the probability that a column within the truth is above one outside; ties count half, chance is 0.5.

    Raises:
        ModelError: If the truth covers all columns or none.
    """
    curve, truth = _checked(curve, truth)
    return metrics.roc_auc(truth, curve)


def time_iou(curve: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """Return the intersection over union of the truth and the curve's highest columns, 0..1.

    As many columns are taken as the truth has, so no threshold is needed. Ties at the border count in proportion.
    """
    curve, truth = _checked(curve, truth)
    n_true = int(truth.sum())
    border = np.sort(curve)[::-1][n_true - 1]
    above, equal = curve > border, curve == border
    shared = truth[above].sum() + truth[equal].sum() * (n_true - above.sum()) / equal.sum()
    return float(shared / (2 * n_true - shared))


MEASURES = {"pointing": pointing_game, "iou": time_iou, "roc_auc": roc_auc}


def localization(
    heatmap: Heatmap, tag: str, intervals: Sequence[Sequence[float]], times: npt.NDArray[Any]
) -> dict[str, float]:
    """Compare a row of a map with the intervals in which the tag is heard, by all measures.

    Args:
        heatmap: Any map, on any grid.
        tag: The row.
        intervals: Start and end of each interval in seconds.
        times: Centres of the columns to measure on, the same for all methods that are compared, float `[T]`.

    Returns:
        The measures "pointing", "iou" and "roc_auc".

    Raises:
        ModelError: If the map has no such row, or the intervals contain all columns or none.
    """
    truth = inside(np.asarray(times), intervals)
    curve = at_times(time_curve(heatmap, tag), heatmap.times, times)
    return {name: measure(curve, truth) for name, measure in MEASURES.items()}


def ranks(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the ranks of all values, from 1, float64 `[values.size]`; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse.reshape(-1)]


def _checked(curve: npt.NDArray[Any], truth: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    curve, truth = np.asarray(curve, np.float64), np.asarray(truth, bool)
    if curve.ndim != 1 or curve.shape != truth.shape:
        raise ModelError(f"expected a curve and a truth of equal length. Received: {curve.shape} and {truth.shape}.")
    if not np.isfinite(curve).all():
        raise ModelError("expected a curve of finite values. Received: NaN or infinity.")
    if truth.all() or not truth.any():
        raise ModelError(
            f"expected a truth of some columns, not of all. Received: {int(truth.sum())} of {len(truth)} columns."
        )
    return curve, truth
