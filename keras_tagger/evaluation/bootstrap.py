"""Resampling of clips: how far scores would move with other clips of the same kind (Efron 1979). numpy only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# Resamples at a time: bounds the memory, n_clips * n_tags * BLOCK numbers at most.
_BLOCK = 50


@dataclass(frozen=True, eq=False)
class ClipScores:
    """What a model said of every clip, and what is so: all that scores are computed from.

    Attributes:
        clips: names of the clips, each once.
        tags: names of the columns.
        labels: float32 [n_clips, n_tags] in 0..1; NaN where not known.
        scores: float64 [n_clips, n_tags], probabilities.
        positive: a clip has a tag where its label is above this.
        counted: bool [n_tags]: the tags that count in macro means.
        correct: float32 [n_clips], 1 where the largest score is the right one, 0 where not, NaN where a clip has not
            exactly one tag; None for models whose tags are not exclusive.
    """

    clips: tuple[str, ...]
    tags: tuple[str, ...]
    labels: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    positive: float
    counted: npt.NDArray[Any]
    correct: npt.NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class Resampled:
    """Scores of every resample: `roc_auc` and `pr_auc` [resamples, n_tags], NaN where one has not both kinds of clips.

    `accuracy` is [resamples], or None.
    """

    roc_auc: npt.NDArray[Any]
    pr_auc: npt.NDArray[Any]
    accuracy: npt.NDArray[Any] | None

    def macro(self, column: str, counted: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Mean [resamples] over the tags that count, of those that the resample can score."""
        values = getattr(self, column)[:, counted]
        known = np.isfinite(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)


def resample(found: ClipScores, resamples: int, seed: int) -> Resampled:
    """Score `resamples` draws of as many clips as there are, with replacement.

    The draws are a function of the number of clips and the seed: two models' scores of the same clips in the same order
    are resampled alike, which is what a paired comparison needs.
    """
    n_clips, n_tags = found.labels.shape
    columns = [(~np.isnan(found.labels[:, tag]), found.labels[:, tag] > found.positive) for tag in range(n_tags)]
    orders = [np.argsort(-found.scores[:, tag], kind="stable") for tag in range(n_tags)]
    roc, pr, accuracy = [], [], []
    for weights in _draws(n_clips, resamples, seed):
        of_tags = [
            weighted_scores(present, found.scores[:, tag], weights * known, orders[tag])
            for tag, (known, present) in enumerate(columns)
        ]
        roc.append(np.stack([scores[0] for scores in of_tags], axis=1))
        pr.append(np.stack([scores[1] for scores in of_tags], axis=1))
        if found.correct is not None:
            known = np.isfinite(found.correct)
            counted = weights[:, known]
            with np.errstate(invalid="ignore"):
                accuracy.append(counted @ found.correct[known] / counted.sum(axis=1))
    return Resampled(np.concatenate(roc), np.concatenate(pr), np.concatenate(accuracy) if accuracy else None)


def interval(values: npt.NDArray[Any], level: float = 0.95) -> tuple[float, float]:
    """The middle `level` of the values that exist; NaN where none does."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def weighted_scores(
    present: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    weights: npt.NDArray[Any],
    order: npt.NDArray[Any] | None = None,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """ROC-AUC and average precision where clip i counts `weights[:, i]` times; as scikit-learn's with sample weights.

    Args:
        present: bool [n], whether a clip has the tag.
        scores: float [n].
        weights: [resamples, n], not negative.
        order: the clips by falling score, where that is known.

    Returns:
        Two float64 [resamples]; NaN where only clips of one kind count.
    """
    order = np.argsort(-scores, kind="stable") if order is None else order
    ranked = scores[order]
    # Clips of one score are on one side of a threshold.
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    drawn = weights[:, order].astype(np.float64)
    above = np.cumsum(drawn, axis=1)[:, last]
    hits = np.cumsum(drawn * present[order], axis=1)[:, last]
    misses = above - hits
    new_hits, new_misses = (np.diff(counts, axis=1, prepend=0.0) for counts in (hits, misses))
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = ((hits - new_hits / 2) * new_misses).sum(axis=1)
        precision = np.where(above > 0, hits / above, 0.0)
        both = (hits[:, -1] > 0) & (misses[:, -1] > 0)
        roc = np.where(both, pairs / (hits[:, -1] * misses[:, -1]), np.nan)
        average_precision = np.where(both, (new_hits * precision).sum(axis=1) / hits[:, -1], np.nan)
    return roc, average_precision


def _draws(n_clips: int, resamples: int, seed: int) -> Iterator[npt.NDArray[Any]]:
    """How often each clip is drawn, int [block, n_clips]."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        drawn = rng.integers(n_clips, size=(size, n_clips)) + n_clips * np.arange(size)[:, np.newaxis]
        yield np.bincount(drawn.reshape(-1), minlength=size * n_clips).reshape(size, n_clips)
