"""Per-tag thresholds from validation clips, and what evidence of each tag training had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.data.prepared import Prepared
from keras_tagger.evaluation.evaluate import score_clips
from keras_tagger.tags import TagInfo

if TYPE_CHECKING:
    from keras_tagger.tagger import Tagger

MIN_CLIPS = 10


def calibrate(
    tagger: Tagger,
    prepared: Prepared,
    split: str | None = "valid",
    positive: float = 0.5,
    min_clips: int = MIN_CLIPS,
    progress: bool = True,
) -> dict[str, TagInfo]:
    """What a model's tags are worth, from the data it was trained on.

    A clip has a tag where its label is above `positive`. The threshold is the one with the best F1 on the split's
    clips; a tag that fewer than `min_clips` of them have, or that fewer do not have, gets `positive` itself, since a
    model is trained to give the labels' values. A tag that no clip of "train" has is without evidence. Labels that are
    NaN are not known and count for neither.

    Args:
        tagger: the model.
        prepared: the data; tags that it does not have are without evidence.
        split: whose clips the thresholds are fitted to; None fits none.
        positive: a label above this means that the tag is there, 0..1.
        min_clips: clips with the tag, and without it, that a threshold needs.
        progress: whether to show a progress bar.

    Returns:
        Tag to `TagInfo`, for every tag of the model.

    Raises:
        ManifestError: the data have no such split, or another sample rate.
    """
    counts = (_labels(tagger, prepared, "train") > positive).sum(axis=0)
    thresholds = {} if split is None else _thresholds(tagger, prepared, split, positive, min_clips, progress)
    info = {}
    for tag, count in zip(tagger.tags, counts, strict=True):
        calibrated = bool(count) and tag in thresholds
        info[tag] = TagInfo(thresholds[tag] if calibrated else positive, bool(count), calibrated, int(count))
    return info


def _thresholds(
    tagger: Tagger, prepared: Prepared, split: str, positive: float, min_clips: int, progress: bool
) -> dict[str, float]:
    """The thresholds of those tags that have the clips for it."""
    clips, labels = list(prepared.select(split)), _labels(tagger, prepared, split)
    with_tag, known = labels > positive, ~np.isnan(labels)
    enough = np.minimum(with_tag.sum(axis=0), (known & ~with_tag).sum(axis=0)) >= min_clips
    if not enough.any():
        return {}
    found, _ = score_clips(tagger, prepared, clips, progress)
    scores = np.stack([found[index] for index in range(len(clips))])
    return {
        tagger.tags[index]: best_threshold(with_tag[known[:, index], index], scores[known[:, index], index])
        for index in np.flatnonzero(enough)
    }


def best_threshold(truth: npt.NDArray[Any], scores: npt.NDArray[Any]) -> float:
    """The threshold with the largest F1 of `score >= threshold`.

    It lies halfway between two neighbouring scores; where several are best, it is the middle one.

    Args:
        truth: bool [n], at least one True.
        scores: float [n].
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    hits = np.cumsum(truth[order])
    # Clips of one score are on one side of a threshold.
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    f1 = 2 * hits[last] / (last + 1 + truth.sum())
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    place = last[best[(len(best) - 1) // 2]]
    below = ranked[place + 1] if place + 1 < len(ranked) else ranked[place]
    return float((ranked[place] + below) / 2)


def _labels(tagger: Tagger, prepared: Prepared, split: str) -> npt.NDArray[Any]:
    """Labels [n_clips, n_tags] in the order of the model's tags, NaN where they are not known or not in the data."""
    labels = prepared.labels(split)
    padded = np.concatenate([labels, np.full((len(labels), 1), np.nan, labels.dtype)], axis=1)
    return padded[:, [prepared.tags.index(tag) if tag in prepared.tags else -1 for tag in tagger.tags]]
