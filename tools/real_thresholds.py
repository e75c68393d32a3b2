"""Fit the threshold of every tag to real music with a stated rate of false alarms, and check it on other clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_tagger.errors import ModelError
from real_clips import Clip
from real_measures import FALSE_ALARMS, GENRES, INSTRUMENTS, MTAT, VOICES, Scores, logit

# The fewest clips without a tag that can show a rate of 5 %.
MIN_CLIPS = 40
# The teacher counts as not hearing a tag if it is not among its best ten.
TEACHER_TOP = 10
NO_VOICES = ("no vocals", "no vocal", "no voice")
# Genres whose clips are neither with nor without a tag, because people use both words for one song.
ALIKE = {
    "rock": {"metal", "blues", "pop", "country", "reggae"},
    "metal": {"rock"},
    "heavy metal": {"rock"},
    "hard rock": {"rock", "metal"},
    "pop": {"disco", "rock", "reggae", "country", "hiphop"},
    "dance": {"hiphop", "pop"},
    "funk": {"disco", "hiphop"},
    "party": {"disco", "hiphop", "pop"},
    "jazz": {"blues"},
    "blues": {"rock", "jazz"},
}


@dataclass(frozen=True)
class Fitted:
    """The threshold of one tag.

    Attributes:
        threshold: Lowest score at which the tag counts as present.
        false_alarms: Share of the clips without the tag that reach it.
        recall: Share of the clips with the tag that reach it; NaN if no clip has it.
        n_without: Number of clips without the tag.
        n_with: Number of clips with the tag.
        source: "labels" by people, or "teacher" (clips in which the teacher does not hear the tag).
    """

    threshold: float
    false_alarms: float
    recall: float
    n_without: int
    n_with: int
    source: str


def fit_thresholds(
    scores: Scores,
    clips: Sequence[Clip],
    teacher: Mapping[str, np.ndarray],
    fit: np.ndarray,
    false_alarms: float = FALSE_ALARMS,
) -> dict[str, dict[str, Fitted]]:
    """Fit thresholds with a rate of false alarms of at most `false_alarms`.

    A tag with at least 40 clips that people say lack it is fitted to these; any other tag to the clips of music in
    which it is not among the teacher's ten best. The tags of voices are fitted together: the share of instrumental
    clips that any of them reaches, in all vocabularies, is at most `false_alarms`.

    Args:
        scores: A model's scores of the clips.
        clips: The clips.
        teacher: The teacher's scores `[n_clips, 50]` by vocabulary.
        fit: bool `[n_clips]`, the clips to fit to.
        false_alarms: The rate.

    Returns:
        `Fitted` by vocabulary and tag.

    Raises:
        ModelError: If no tag can be fitted because there are too few clips.
    """
    found: dict[str, dict[str, Fitted]] = {}
    for vocabulary, scored in scores.items():
        rows = found.setdefault(vocabulary, {})
        for column, tag in enumerate(scored.tags):
            if tag in VOICES[vocabulary]:
                continue
            has, lacks, source = _sides(tag, vocabulary, clips, teacher[vocabulary], column, fit)
            rows[tag] = _fitted(scored.scores[:, column], has, lacks, source, false_alarms)
    for vocabulary, tag, row in _voices(scores, clips, fit, false_alarms):
        found[vocabulary][tag] = row
    return {v: {tag: found[v][tag] for tag in scored.tags} for v, scored in scores.items()}


def check_thresholds(
    found: Mapping[str, Mapping[str, Fitted]],
    scores: Scores,
    clips: Sequence[Clip],
    teacher: Mapping[str, np.ndarray],
    check: np.ndarray,
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the false alarms and the recall of fitted thresholds on other clips, by vocabulary and tag."""
    rates: dict[str, dict[str, dict[str, float]]] = {}
    for vocabulary, rows in found.items():
        for tag, row in rows.items():
            column = scores[vocabulary].tags.index(tag)
            has, lacks, _ = _sides(tag, vocabulary, clips, teacher[vocabulary], column, check, row.source)
            reached = scores[vocabulary].scores[:, column] >= row.threshold
            rates.setdefault(vocabulary, {})[tag] = {
                "false_alarms": _share(reached, lacks),
                "recall": _share(reached, has),
                "n_without": int(lacks.sum()),
                "n_with": int(has.sum()),
            }
    return rates


def thresholds_json(found: Mapping[str, Mapping[str, Fitted]]) -> dict[str, Any]:
    """Return fitted thresholds as plain values."""
    return {vocabulary: {tag: asdict(row) for tag, row in rows.items()} for vocabulary, rows in found.items()}


def _sides(
    tag: str,
    vocabulary: str,
    clips: Sequence[Clip],
    teacher: np.ndarray,
    column: int,
    among: np.ndarray,
    source: str = "",
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return which clips have a tag, which lack it, and who says so."""
    if source != "teacher":
        has, lacks = _labelled(tag, vocabulary, clips)
        if (lacks & among).sum() >= MIN_CLIPS or source == "labels":
            return has & among, lacks & among, "labels"
    music = np.array([not clip.labels.single_sound for clip in clips]) & among
    heard = np.argsort(np.argsort(-teacher, axis=1), axis=1)[:, column]
    return music & (heard < 3), music & (heard >= TEACHER_TOP), "teacher"


def _labelled(tag: str, vocabulary: str, clips: Sequence[Clip]) -> tuple[np.ndarray, np.ndarray]:
    """Return which clips have and lack a tag by people's labels; neither where they do not say."""
    labels = [clip.labels for clip in clips]
    if tag in VOICES[vocabulary]:
        return np.array([one.singing is True for one in labels]), np.array([one.singing is False for one in labels])
    if tag in NO_VOICES or tag == "instrumental":
        return np.array([one.singing is False for one in labels]), np.array([one.singing is True for one in labels])
    genres = {genre for genre, tags in GENRES[vocabulary].items() if tag in tags}
    if genres:
        neither = ALIKE.get(tag, set()) - genres
        has = np.array([one.genre in genres for one in labels])
        other = np.array([one.genre is not None and one.genre not in genres | neither for one in labels])
        return has, other & np.array(["gtzan" in clip.source for clip in clips])
    if tag in INSTRUMENTS and vocabulary == MTAT:
        named = np.array([bool(one.instruments) or one.indian for one in labels])
        has = np.array([one.indian if tag == "indian" else tag in one.instruments for one in labels])
        return has, named & ~has
    return np.zeros(len(clips), bool), np.zeros(len(clips), bool)


def _fitted(scores: np.ndarray, has: np.ndarray, lacks: np.ndarray, source: str, false_alarms: float) -> Fitted:
    """Return the lowest threshold with at most the rate of false alarms."""
    if not lacks.any():
        raise ModelError("expected clips without each tag, to fit thresholds. Received: none.")
    threshold = above(scores[lacks], false_alarms)
    reached = scores >= threshold
    return Fitted(threshold, _share(reached, lacks), _share(reached, has), int(lacks.sum()), int(has.sum()), source)


def above(scores: np.ndarray, share: float) -> float:
    """Return the lowest threshold, 0..1, that at most a share of the scores reaches."""
    ranked = np.sort(np.asarray(scores, np.float64))[::-1]
    allowed = int(share * len(ranked))
    if allowed >= len(ranked):
        return 0.0
    # Just above the first score that must not reach it, and at most halfway to the one before.
    highest = ranked[allowed]
    before = [score for score in ranked[:allowed] if score > highest]
    return float(min(1.0, (highest + before[-1]) / 2 if before else highest + (1 - highest) / 2))


def _voices(
    scores: Scores, clips: Sequence[Clip], fit: np.ndarray, false_alarms: float
) -> list[tuple[str, str, Fitted]]:
    """Fit the tags of voices together: each gets the same rate, the largest that keeps the rate of any of them."""
    singing = np.array([clip.labels.singing is True for clip in clips]) & fit
    instrumental = np.array([clip.labels.singing is False for clip in clips]) & fit
    if not instrumental.any():
        raise ModelError("expected instrumental clips, to fit the thresholds of voices. Received: none.")
    columns = [(v, tag, scored.of([tag])[:, 0]) for v, scored in scores.items() for tag in VOICES[v]]
    best: list[float] = []
    for share in np.arange(1, int(false_alarms * instrumental.sum()) + 1)[::-1] / instrumental.sum():
        limits = [above(column[instrumental], float(share)) for _, _, column in columns]
        reached = np.any([column >= limit for (_, _, column), limit in zip(columns, limits, strict=True)], axis=0)
        best = limits
        if _share(reached, instrumental) <= false_alarms:
            break
    else:
        best = [above(column[instrumental], 0.0) for _, _, column in columns]
    rows = []
    for (vocabulary, tag, column), limit in zip(columns, best, strict=True):
        reached = column >= limit
        rates = _share(reached, instrumental), _share(reached, singing)
        row = Fitted(limit, *rates, int(instrumental.sum()), int(singing.sum()), "labels")
        rows.append((vocabulary, tag, row))
    return rows


def voice_rates(
    found: Mapping[str, Mapping[str, Fitted]], scores: Scores, clips: Sequence[Clip], among: np.ndarray
) -> tuple[float, float]:
    """Return recall and false alarms of "any tag of a voice, in any vocabulary" among some clips."""
    reached = np.zeros(len(clips), bool)
    for vocabulary, scored in scores.items():
        for tag in VOICES[vocabulary]:
            reached |= logit(scored.of([tag])[:, 0]) >= logit(np.array(found[vocabulary][tag].threshold))
    singing = np.array([clip.labels.singing is True for clip in clips]) & among
    instrumental = np.array([clip.labels.singing is False for clip in clips]) & among
    return _share(reached, singing), _share(reached, instrumental)


def _share(reached: np.ndarray, among: np.ndarray) -> float:
    return float(reached[among].mean()) if among.any() else float("nan")
