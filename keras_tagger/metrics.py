"""Ranking metrics of one binary label: ROC-AUC, average precision, precision-recall curve. numpy only.

This is the only place that computes them: reports, bootstrap intervals, thresholds and explanations all use it. The
numbers equal those of scikit-learn, which cannot score many weightings of the same examples at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def threshold_counts(
    present: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    weights: npt.NDArray[Any] | None = None,
    order: npt.NDArray[Any] | None = None,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Count the examples that reach each distinct score, the highest score first.

    Args:
        present: Whether each example has the label, bool `[n]`.
        scores: Score of each example, float `[n]`.
        weights: How often each example counts, `[..., n]`, not negative; once by default.
        order: Indices that sort the scores in descending order, if they are known.

    Returns:
        The k distinct scores, float `[k]`; the true positives at each of them, float64 `[..., k]`; and all examples at
        each of them, float64 `[..., k]`.
    """
    order = np.argsort(-scores, kind="stable") if order is None else order
    ranked = scores[order]
    # Examples with equal scores are on the same side of every threshold.
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])
    counted = np.ones(len(ranked)) if weights is None else weights[..., order].astype(np.float64)
    hits = np.cumsum(counted * present[order], axis=-1)[..., last]
    return ranked[last], hits, np.cumsum(counted, axis=-1)[..., last]


def ranking_scores(
    present: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    weights: npt.NDArray[Any] | None = None,
    order: npt.NDArray[Any] | None = None,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Compute ROC-AUC and average precision.

    Args:
        present: Whether each example has the label, bool `[n]`.
        scores: Score of each example, float `[n]`.
        weights: How often each example counts, `[..., n]`, not negative; once by default.
        order: Indices that sort the scores in descending order, if they are known.

    Returns:
        ROC-AUC and average precision, float64 `[...]`; NaN unless examples with and without the label count.

    Example:
        >>> ranking_scores(np.array([True, False, True]), np.array([0.9, 0.5, 0.1]))
        (array(0.5), array(0.83333333))
    """
    _, hits, reached = threshold_counts(present, scores, weights, order)
    misses = reached - hits
    new_hits, new_misses = (np.diff(counts, axis=-1, prepend=0.0) for counts in (hits, misses))
    positives, negatives = new_hits.sum(axis=-1), new_misses.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(reached > 0, hits / reached, 0.0)
        both = (positives > 0) & (negatives > 0)
        # Pairs in the right order; a tie is half of one.
        pairs = ((hits - new_hits / 2) * new_misses).sum(axis=-1)
        area = np.where(both, pairs / (positives * negatives), np.nan)
        average_precision = np.where(both, (new_hits * precision).sum(axis=-1) / positives, np.nan)
    return area, average_precision


def roc_auc(present: npt.NDArray[Any], scores: npt.NDArray[Any]) -> float:
    """Return the probability that an example with the label scores above one without it; a tie counts half.

    Args:
        present: Whether each example has the label, bool `[n]`.
        scores: Score of each example, float `[n]`.
    """
    return float(ranking_scores(present, scores)[0])


def precision_recall(present: npt.NDArray[Any], scores: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Compute the precision-recall curve.

    Args:
        present: Whether each example has the label, bool `[n]`, at least one True.
        scores: Score of each example, float `[n]`.

    Returns:
        Precision and recall at each distinct score, float64 `[k]`, the highest score first.
    """
    _, hits, reached = threshold_counts(present, scores)
    return hits / reached, hits / hits[-1]


def roc_curve(present: npt.NDArray[Any], scores: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Compute the receiver operating characteristic.

    Args:
        present: Whether each example has the label, bool `[n]`, at least one True and one False.
        scores: Score of each example, float `[n]`.

    Returns:
        False and true positive rates at each distinct score, float64 `[k]`, the highest score first.
    """
    _, hits, reached = threshold_counts(present, scores)
    misses = reached - hits
    return misses / misses[-1], hits / hits[-1]


def macro_mean(values: npt.NDArray[Any], counted: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Average the finite values of the labels that count.

    Args:
        values: A metric of each label, float `[..., n_labels]`; NaN if it is undefined.
        counted: Which labels count, bool `[n_labels]`.

    Returns:
        The means, float64 `[...]`; NaN if no value is left.
    """
    values = values[..., counted].astype(np.float64)
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0.0).sum(axis=-1) / known.sum(axis=-1)
