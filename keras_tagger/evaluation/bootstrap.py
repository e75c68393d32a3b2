"""Bootstrap over clips (Efron 1979): how much scores would vary with other clips of the same kind. numpy only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.evaluation.clip_scores import ClipScores
from keras_tagger.metrics import macro_mean, ranking_scores

LEVEL = 0.95
# Resamples scored at a time, which bounds the memory to n_clips * n_tags * BLOCK numbers.
_BLOCK = 50


@dataclass(frozen=True, eq=False)
class Resampled:
    """Scores of every resample.

    Attributes:
        roc_auc: float64 `[resamples, n_tags]`; NaN if a resample has no clip with the tag, or none without it.
        pr_auc: Average precision, of the same shape.
        accuracy: float64 `[resamples]`; NaN if the model is not single-label.
    """

    roc_auc: npt.NDArray[Any]
    pr_auc: npt.NDArray[Any]
    accuracy: npt.NDArray[Any]

    def macro(self, column: str, counted: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the macro mean of "roc_auc" or "pr_auc" over the counted tags that a resample can score."""
        return macro_mean(getattr(self, column), counted)


def resample(found: ClipScores, resamples: int, seed: int) -> Resampled:
    """Score `resamples` draws, with replacement, of as many clips as there are.

    The draws depend on the number of clips and the seed only. Two models' scores of the same clips in the same order
    are therefore resampled alike, which a paired comparison needs.
    """
    n_clips, n_tags = found.labels.shape
    columns = [(~np.isnan(found.labels[:, tag]), found.labels[:, tag] > found.positive) for tag in range(n_tags)]
    orders = [np.argsort(-found.scores[:, tag], kind="stable") for tag in range(n_tags)]
    correct = np.full(n_clips, np.nan) if found.correct is None else found.correct
    known = np.isfinite(correct)
    roc, pr, accuracy = [], [], []
    for weights in draws(n_clips, resamples, seed):
        of_tags = [
            ranking_scores(present, found.scores[:, tag], weights * labelled, orders[tag])
            for tag, (labelled, present) in enumerate(columns)
        ]
        roc.append(np.stack([scores[0] for scores in of_tags], axis=1))
        pr.append(np.stack([scores[1] for scores in of_tags], axis=1))
        with np.errstate(invalid="ignore"):
            accuracy.append(weights[:, known] @ correct[known] / weights[:, known].sum(axis=1))
    return Resampled(np.concatenate(roc), np.concatenate(pr), np.concatenate(accuracy))


def draws(n_clips: int, resamples: int, seed: int) -> Iterator[npt.NDArray[Any]]:
    """Yield, in blocks, how often each resample draws each clip, int `[block, n_clips]`."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        drawn = rng.integers(n_clips, size=(size, n_clips)) + n_clips * np.arange(size)[:, np.newaxis]
        yield np.bincount(drawn.reshape(-1), minlength=size * n_clips).reshape(size, n_clips)


def interval(values: npt.NDArray[Any], level: float = LEVEL) -> tuple[float, float]:
    """Return the bounds of the middle `level` of the finite values; NaN if there are none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_intervals(found: ClipScores, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Compute percentile intervals of the macro means, the accuracy and every tag.

    A resample in which a tag cannot be scored leaves the tag out of that resample's mean. Clips that are drawn twice
    make the average precision of resamples slightly higher than that of the clips, and its intervals with it.

    Returns:
        `level`, `resamples` and `seed`; (low, high) of "roc_auc", "pr_auc" and, for single-label models, "accuracy";
        and "per_tag", which maps each tag to (low, high) of "roc_auc" and "pr_auc".
    """
    drawn = resample(found, resamples, seed)
    intervals: dict[str, Any] = {"level": LEVEL, "resamples": resamples, "seed": seed}
    for column in ("roc_auc", "pr_auc"):
        intervals[column] = interval(drawn.macro(column, found.counted))
    if found.correct is not None:
        intervals["accuracy"] = interval(drawn.accuracy)
    intervals["per_tag"] = {
        tag: {column: interval(getattr(drawn, column)[:, index]) for column in ("roc_auc", "pr_auc")}
        for index, tag in enumerate(found.tags)
    }
    return intervals
