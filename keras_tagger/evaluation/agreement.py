"""How closely the scores of two models agree clip by clip: overlap of the best tags, rank correlation. numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

TOP = 5


def top_overlap(one: npt.NDArray[Any], other: npt.NDArray[Any], top: int = TOP) -> float:
    """Return how many of the `top` best tags of a clip two models share, averaged over clips.

    Args:
        one: Scores of one model, float `[n_clips, n_tags]`.
        other: Scores of the other model, of the same shape.
        top: The number of best tags.

    Example:
        >>> top_overlap(np.array([[0.9, 0.5, 0.1]]), np.array([[0.8, 0.1, 0.4]]), top=2)
        1.0
    """
    best = (np.argsort(-scores, axis=1, kind="stable")[:, :top] for scores in (one, other))
    return float(np.mean([len(set(a) & set(b)) for a, b in zip(*best, strict=True)]))


def rank_correlations(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return Spearman's rank correlation across clips for each tag, float64 `[n_tags]`.

    It is NaN if a model gives all clips the same score.

    Args:
        one: Scores of one model, float `[n_clips, n_tags]`.
        other: Scores of the other model, of the same shape.
    """
    found = []
    for a, b in zip(one.T, other.T, strict=True):
        a, b = ranks_of(a), ranks_of(b)
        defined = len(set(a)) > 1 and len(set(b)) > 1
        found.append(np.corrcoef(a, b)[0, 1] if defined else np.nan)
    return np.array(found)


def ranks_of(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ranks from 1, averaged over ties."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
