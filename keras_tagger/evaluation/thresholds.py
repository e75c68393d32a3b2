"""Per-tag thresholds from validation clips, and how many training clips have each tag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.data.prepared import Prepared
from keras_tagger.evaluation.evaluate import score_clips
from keras_tagger.metrics import threshold_counts
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
    """Find each tag's threshold and its number of training clips.

    The threshold of a tag is the one with the best F1 on the split's clips. A tag that fewer than `min_clips` of them
    have, or fewer than that lack, gets `positive` itself, because a model is trained to output the labels' values. A
    tag that no clip of "train" has is without evidence. Unknown labels (NaN) count for neither.

    Args:
        tagger: The model.
        prepared: The data that the model was trained on; tags that they lack are without evidence.
        split: The split that thresholds are fitted to, or None to fit none.
        positive: A clip has a tag if its label is above this, 0..1.
        min_clips: How many clips with the tag, and without it, a threshold needs.
        progress: Whether to show a progress bar.

    Returns:
        `TagInfo` by tag, for every tag of the model.

    Raises:
        ManifestError: If the data do not have the split or have another sample rate.

    Example:
        >>> tagger.info = calibrate(tagger, open_prepared("prepared/"))
        >>> tagger.info["guitar"].threshold
        0.34
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
    """Fit the thresholds of the tags that have enough clips."""
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
    """Return the threshold with the largest F1 of `score >= threshold`.

    It lies halfway between two neighbouring scores. If several are equally good, the middle one is taken.

    Args:
        truth: Whether each clip has the tag, bool `[n]`, at least one True.
        scores: Score of each clip, float `[n]`.

    Example:
        >>> best_threshold(np.array([True, True, False]), np.array([0.9, 0.7, 0.3]))
        0.5
    """
    levels, hits, reached = threshold_counts(truth, scores)
    f1 = 2 * hits / (reached + truth.sum())
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    place = best[(len(best) - 1) // 2]
    return float(levels[place : place + 2].mean(dtype=np.float64))


def _labels(tagger: Tagger, prepared: Prepared, split: str) -> npt.NDArray[Any]:
    """Return the labels `[n_clips, n_tags]` in the order of the model's tags; NaN if unknown or not in the data."""
    labels = prepared.labels(split)
    padded = np.concatenate([labels, np.full((len(labels), 1), np.nan, labels.dtype)], axis=1)
    return padded[:, [prepared.tags.index(tag) if tag in prepared.tags else -1 for tag in tagger.tags]]
