"""Where a map points, against times that are known: pointing game, intersection over union, ROC-AUC.

All measures are of one curve over time, float [T], and the truth of its columns, bool [T]; they do not change when the
curve is scaled or shifted, so that methods on unlike scales compare. numpy only.
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
    """A row over time, float32 [T]: of a map over frequency, each column's sum over the bands."""
    values = heatmap.row(tag)
    return values if values.ndim == 1 else values.sum(axis=0)


def at_times(curve: npt.NDArray[Any], times: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A curve on another grid, float64 [len(wanted)]: for each wanted column, the mean over what it covers.

    Each column of either grid spans from halfway to its left neighbour to halfway to its right one. A finer curve is
    averaged, a coarser one repeated; beyond its ends it stays as it is there.

    Args:
        curve: float [T].
        times: float [T], increasing centres in seconds.
        wanted: float [n], increasing centres in seconds.
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
    # Within one column it is that column's value exactly, so that equal values stay equal.
    sliver = 1e-6 * (high - low)
    first = np.clip(np.searchsorted(edges, low + sliver, "right") - 1, 0, len(curve) - 1)
    last = np.clip(np.searchsorted(edges, high - sliver, "left") - 1, 0, len(curve) - 1)
    return np.where(first == last, curve[first], mean)


def inside(times: npt.NDArray[Any], intervals: Sequence[Sequence[float]]) -> npt.NDArray[Any]:
    """Whether each time lies in one of the intervals [start, end) in seconds, bool [T]."""
    found = np.zeros(len(times), bool)
    for start, end in intervals:
        found |= (times >= start) & (times < end)
    return found


def pointing_game(curve: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """1 where the largest value lies in the truth, else 0 (Zhang et al. 2018); equal largest values share it.

    A constant curve therefore gives the truth's share of the time, which is chance.
    """
    curve, truth = _checked(curve, truth)
    return float(truth[curve == curve.max()].mean())


def roc_auc(curve: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """How likely a column of the truth is above one that is not; ties count half. 0.5 is chance.

    Raises:
        ModelError: the truth is everywhere or nowhere.
    """
    curve, truth = _checked(curve, truth)
    return metrics.roc_auc(truth, curve)


def time_iou(curve: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """Overlap of the truth with the curve's highest columns, as many as the truth has: intersection over union, 0..1.

    Equal values at the border are shared out evenly. No threshold is needed, so methods on unlike scales compare.
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
    """All measures of a map's row against the intervals in which the tag is heard.

    Args:
        heatmap: any map, of any grid.
        tag: the row.
        intervals: start and end in seconds, as a score or a joined clip knows them.
        times: float [T], centres of the columns to measure on, the same for all methods that are compared.

    Returns:
        "pointing", "iou", "roc_auc".

    Raises:
        ModelError: a row that the map does not have, or intervals with every column or none inside.
    """
    truth = inside(np.asarray(times), intervals)
    curve = at_times(time_curve(heatmap, tag), heatmap.times, times)
    return {name: measure(curve, truth) for name, measure in MEASURES.items()}


def ranks(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Ranks from 1 of all values, flat, float64; equal values have the mean of theirs."""
    _, inverse, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse.reshape(-1)]


def _checked(curve: npt.NDArray[Any], truth: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    curve, truth = np.asarray(curve, np.float64), np.asarray(truth, bool)
    if curve.ndim != 1 or curve.shape != truth.shape:
        raise ModelError(f"expected a curve and a truth of one length. Received: {curve.shape} and {truth.shape}.")
    if not np.isfinite(curve).all():
        raise ModelError("expected a curve of finite values. Received: others.")
    if truth.all() or not truth.any():
        raise ModelError(
            f"expected a truth that is somewhere, not everywhere. Received: {int(truth.sum())} of {len(truth)} columns."
        )
    return curve, truth
