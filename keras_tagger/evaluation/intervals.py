"""Bootstrap intervals of a report's numbers."""

from __future__ import annotations

from typing import Any

from keras_tagger.evaluation.bootstrap import ClipScores, interval, resample

LEVEL = 0.95


def bootstrap_intervals(found: ClipScores, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Percentile intervals of the macro means, of the accuracy and of every tag, over resampled clips.

    A resample in which a tag has not both kinds of clips leaves it out of that resample's mean. Clips drawn twice make
    the average precision of resamples a little higher than that of the clips, and its intervals with it.

    Returns:
        `level`, `resamples`, `seed`; (low, high) by "roc_auc", "pr_auc" and, where there is one, "accuracy"; and
        "per_tag", each tag's (low, high) by "roc_auc" and "pr_auc".
    """
    drawn = resample(found, resamples, seed)
    intervals: dict[str, Any] = {"level": LEVEL, "resamples": resamples, "seed": seed}
    for column in ("roc_auc", "pr_auc"):
        intervals[column] = interval(drawn.macro(column, found.counted), LEVEL)
    if drawn.accuracy is not None:
        intervals["accuracy"] = interval(drawn.accuracy, LEVEL)
    intervals["per_tag"] = {
        tag: {column: interval(getattr(drawn, column)[:, index], LEVEL) for column in ("roc_auc", "pr_auc")}
        for index, tag in enumerate(found.tags)
    }
    return intervals
