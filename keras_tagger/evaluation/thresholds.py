"""Per-tag thresholds, by best F1, by false alarms or by a teacher; and the evidence that training had of each tag."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.data.prepared import Prepared
from keras_tagger.errors import ModelError
from keras_tagger.evaluation.evaluate import score_clips
from keras_tagger.metrics import threshold_counts
from keras_tagger.tags import SYNONYMS, VOICES, TagInfo

if TYPE_CHECKING:
    from keras_tagger.tagger import Tagger

MIN_CLIPS = 10
RATE = 0.05
# Tags that answer one question together.
FAMILIES: tuple[tuple[str, ...], ...] = (*SYNONYMS, VOICES)


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
    have, or fewer than that lack, gets `positive` itself, because a model is trained to output the labels' values.
    Unknown labels (NaN) count for neither.

    A tag has evidence if a clip of "train" has it, whether people or a teacher have labelled the clip. If none has it,
    a tag keeps the evidence and the threshold that the tagger has from the model that its training started from
    (`TagInfo.evidence_from`), unless all of its labels are 0: from them the model can only unlearn the tag.

    Args:
        tagger: The model.
        prepared: The data that the model was trained on.
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
    labels = _labels(tagger, prepared, "train")
    counts = (labels > positive).sum(axis=0)
    info = {}
    for index, (tag, count) in enumerate(zip(tagger.tags, counts, strict=True)):
        # Training on labels that are all 0 can only unlearn a tag.
        unlearnt = (labels[:, index] == 0).any() and not (labels[:, index] > 0).any()
        origin = None if unlearnt else tagger.info[tag].evidence_from
        threshold = tagger.info[tag].threshold if origin and not count else positive
        info[tag] = TagInfo(threshold, bool(count or origin), train_clips=int(count), evidence_from=origin)
    return info if split is None else _fit_f1(info, tagger, prepared, split, positive, min_clips, progress)


def _fit_f1(
    info: dict[str, TagInfo],
    tagger: Tagger,
    prepared: Prepared,
    split: str,
    positive: float,
    min_clips: int,
    progress: bool,
) -> dict[str, TagInfo]:
    """Fit the thresholds of the tags that have evidence and enough clips."""
    clips, labels = list(prepared.select(split)), _labels(tagger, prepared, split)
    has, lacks = labels > positive, labels <= positive
    enough = np.minimum(has.sum(axis=0), lacks.sum(axis=0)) >= min_clips
    if not enough.any():
        return info
    found, _ = score_clips(tagger, prepared, clips, progress)
    scores = np.stack([found[index] for index in range(len(clips))])
    fitted = dict(info)
    for index in np.flatnonzero(enough):
        tag, columns = tagger.tags[index], (has[:, index], lacks[:, index], scores[:, index])
        if info[tag].has_evidence:
            fitted[tag] = _fitted(info[tag], "f1", best_threshold(*_known(*columns)), *columns)
    return fitted


def _known(
    has: npt.NDArray[Any], lacks: npt.NDArray[Any], scores: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return labels and scores of the clips whose label is known."""
    return has[has | lacks], scores[has | lacks]


def _fitted(
    entry: TagInfo,
    rule: str,
    threshold: float,
    has: npt.NDArray[Any],
    lacks: npt.NDArray[Any],
    scores: npt.NDArray[Any],
) -> TagInfo:
    """Return an entry with a threshold and how it was fitted, given which clips have and lack the tag."""
    false_alarms = np.asarray(scores[lacks], np.float32) >= np.float32(threshold)
    return dataclasses.replace(
        entry,
        threshold=threshold,
        calibrated=True,
        rule=rule,
        false_alarm_rate=round(float(false_alarms.mean()), 4) if lacks.any() else None,
        clips_with=int(has.sum()),
        clips_without=int(lacks.sum()),
    )


def thresholds_at_false_alarm_rate(
    info: Mapping[str, TagInfo],
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    rate: float = RATE,
    families: Sequence[Sequence[str]] = FAMILIES,
    min_clips: int = MIN_CLIPS,
) -> dict[str, TagInfo]:
    """Fit thresholds to clips that people have labelled, so that few clips without a tag reach its threshold.

    A tag's threshold is the one with the highest recall that at most the share `rate` of the clips without the tag
    reaches (`false_alarm_threshold`). The tags of a family keep the rate together: at most that share of the clips
    without all of them gets any of them. For that, every tag of the family gets the same, lower rate on those clips.

    Tags that fewer than `min_clips` clips have, or lack, keep their entries, but may be raised with their family.

    Args:
        info: `TagInfo` of every tag of the model, in order, such as `tagger.info`.
        labels: float `[n_clips, n_tags]`: 1 if the clip has the tag, 0 if it lacks it, NaN if unknown. A clip lacks all
            tags of a family if one of their labels is 0 and none is 1.
        scores: float `[n_clips, n_tags]`, the model's scores of the clips (`Tagger.scores`).
        rate: The highest share of false alarms, 0..1, below 1.
        families: Groups of tags that keep the rate together; by default, names with the same meaning, and all voices.
        min_clips: How many clips with the tag, and without it, a fit needs.

    Returns:
        `info` with `threshold`, `rule` "false_alarms", the measured `false_alarm_rate`, and the numbers of clips.

    Raises:
        ModelError: If the shapes disagree or `rate` is out of range.

    Example:
        >>> scores = np.stack([tagger.scores(path) for path in paths])
        >>> tagger.info = thresholds_at_false_alarm_rate(tagger.info, labels, scores, rate=0.05)
        >>> tagger.info["guitar"].threshold, tagger.info["guitar"].false_alarm_rate
        (0.41, 0.0481)
    """
    if not 0 <= rate < 1:
        raise ModelError(f"rate: expected 0 <= rate < 1. Received: {rate!r}.")
    known, found = _columns(info, labels=labels, scores=scores)
    tags, has, lacks = list(info), known > 0.5, known <= 0.5
    groups = []
    for family in families:
        columns = [index for index, tag in enumerate(tags) if tag in family]
        without = lacks[:, columns].any(axis=1) & ~has[:, columns].any(axis=1)
        groups.append((columns, without))
    for columns, without in groups:
        lacks[np.ix_(without, columns)] = True
    thresholds = {
        index: false_alarm_threshold(*_known(has[:, index], lacks[:, index], found[:, index]), rate)
        for index in range(len(tags))
        if min(has[:, index].sum(), lacks[:, index].sum()) >= min_clips
    }
    for columns, without in groups:
        if columns and without.sum() >= min_clips:
            before = np.array([thresholds.get(index, info[tags[index]].threshold) for index in columns])
            raised = _raised(before, found[np.ix_(without, columns)], rate)
            changed = np.flatnonzero(raised > before)
            thresholds |= {columns[place]: float(raised[place]) for place in changed}
    return {
        tag: _fitted(entry, "false_alarms", thresholds[index], has[:, index], lacks[:, index], found[:, index])
        if index in thresholds
        else entry
        for index, (tag, entry) in enumerate(info.items())
    }


def _raised(thresholds: npt.NDArray[Any], scores: npt.NDArray[Any], rate: float) -> npt.NDArray[Any]:
    """Raise thresholds `[n]` until at most `rate` of the clips, `[clips, n]`, reaches any of them."""
    if (scores >= thresholds.astype(np.float32)).any(axis=1).mean() <= rate:
        return thresholds
    for alarms in range(_allowed(rate, len(scores)), -1, -1):
        raised = np.maximum(thresholds, [_above(column, alarms) for column in scores.T])
        if (scores >= raised.astype(np.float32)).any(axis=1).mean() <= rate:
            break
    return raised


def thresholds_of_teacher(
    info: Mapping[str, TagInfo],
    teacher_scores: npt.ArrayLike,
    scores: npt.ArrayLike,
    positive: float = 0.3,
    min_clips: int = MIN_CLIPS,
) -> dict[str, TagInfo]:
    """Fit thresholds so that each tag is present as often as a teacher says, for tags that nobody has labelled.

    A teacher's score is no truth, so its mistakes cannot be counted; but a tag should not be claimed more often than
    the teacher finds it. If the teacher gives k clips a score above `positive`, the threshold lies halfway between the
    model's k-th and next highest scores. Precision and recall with respect to the teacher are then equal. Tags that
    fewer than `min_clips` clips have, or lack, keep their entries.

    Args:
        info: `TagInfo` of every tag of the model, in order.
        teacher_scores: float `[n_clips, n_tags]`, the teacher's scores; NaN if unknown.
        scores: float `[n_clips, n_tags]`, the model's scores of the same clips.
        positive: The teacher finds a tag if its score is above this value, 0..1.
        min_clips: How many clips with the tag, and without it, a fit needs.

    Returns:
        `info` with `threshold`, `rule` "teacher", the `false_alarm_rate` among clips in which the teacher does not find
        the tag, and the numbers of clips.

    Raises:
        ModelError: If the shapes disagree.

    Example:
        >>> info = thresholds_of_teacher(tagger.info, teacher_scores, scores)
        >>> tagger.info = thresholds_at_false_alarm_rate(info, labels, scores)
    """
    teacher, found = _columns(info, teacher_scores=teacher_scores, scores=scores)
    has, lacks = teacher > positive, teacher <= positive
    fitted = dict(info)
    for index, (tag, entry) in enumerate(info.items()):
        with_tag, without, own = has[:, index], lacks[:, index], found[:, index]
        if min(with_tag.sum(), without.sum()) >= min_clips:
            threshold = _above(own[with_tag | without], int(with_tag.sum()))
            fitted[tag] = _fitted(entry, "teacher", threshold, with_tag, without, own)
    return fitted


def _columns(info: Mapping[str, TagInfo], **arrays: npt.ArrayLike) -> list[npt.NDArray[Any]]:
    """Return arrays as float32 `[n_clips, n_tags]`; all of them must have as many clips."""
    found = [np.asarray(values, np.float32) for values in arrays.values()]
    for name, values in zip(arrays, found, strict=True):
        if values.ndim != 2 or values.shape != (len(found[0]), len(info)):
            raise ModelError(
                f"{name}: expected a row per clip with {len(info)} tags each. Received: shape {values.shape}."
            )
    return found


def false_alarm_threshold(truth: npt.NDArray[Any], scores: npt.NDArray[Any], rate: float = RATE) -> float:
    """Return the threshold with the highest recall that at most a share of the clips without the tag reaches.

    It lies halfway between two neighbouring scores. Of thresholds with the same recall, it is the one with the fewest
    false alarms.

    Args:
        truth: Whether each clip has the tag, bool `[n]`, at least one False.
        scores: Score of each clip, float `[n]`.
        rate: The highest share of false alarms, 0..1, below 1.

    Example:
        >>> false_alarm_threshold(np.array([True, False, False]), np.array([0.8, 0.4, 0.1]), rate=0.05)
        0.6
    """
    lacking = np.sort(scores[~truth])[::-1]
    level = lacking[_allowed(rate, len(lacking))]
    hits = scores[truth & (scores > level)]
    return _between(scores[scores < hits.min()].max() if len(hits) else level, scores)


def _allowed(rate: float, clips: int) -> int:
    return int(rate * clips + 1e-9)  # 0.29 * 100 is a little less than 29


def _between(level: float, scores: npt.NDArray[Any]) -> float:
    """Return the threshold halfway between a level and the next higher score, or 1 if there is none."""
    higher = scores[scores > level]
    following = higher.min() if len(higher) else 1.0
    middle = (float(level) + float(following)) / 2
    # There is nothing between neighbouring float32 numbers.
    return middle if np.float32(middle) > level else float(following)


def _above(scores: npt.NDArray[Any], count: int) -> float:
    """Return a threshold that the `count` highest scores reach, or fewer if there are ties."""
    return _between(np.sort(scores)[::-1][count], scores)


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
