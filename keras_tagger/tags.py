"""Tags with scores, what is known about each tag, and the names that mean the same. numpy only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ModelError

# Names of one thing in the public vocabularies; the first that a model has is the one that stays. Of MagnaTagATune's
# 50 tags: seven groups; of the Million Song Dataset's: three.
SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("vocal", "vocals", "voice", "singing"),
    ("no vocals", "no vocal", "no voice"),
    ("female", "woman", "female vocal", "female voice"),
    ("male", "man", "male vocal", "male voice"),
    ("choir", "choral"),
    ("beat", "beats"),
    ("classical", "classic"),
    ("female vocalists", "female vocalist"),
    ("electronic", "electronica"),
    ("chill", "chillout"),
)


@dataclass(frozen=True)
class TagInfo:
    """What is known of one output of a model, besides its name.

    Attributes:
        threshold: a score from here on means that the tag is present, 0..1.
        has_evidence: False where no clip of the training had the tag, so that its score means nothing.
        calibrated: whether the threshold was fitted to validation clips (`keras_tagger.evaluation.thresholds`).
        train_clips: clips of the training that have the tag; None where nobody counted.

    Raises:
        ModelError: a value of another type, or a threshold outside 0..1.
    """

    threshold: float = 0.5
    has_evidence: bool = True
    calibrated: bool = False
    train_clips: int | None = None

    def __post_init__(self) -> None:
        plain = isinstance(self.threshold, int | float) and not isinstance(self.threshold, bool)
        if not plain or not 0 <= self.threshold <= 1:
            raise ModelError(f"threshold: expected a number in 0..1. Received: {self.threshold!r}.")
        for name in ("has_evidence", "calibrated"):
            if not isinstance(getattr(self, name), bool):
                raise ModelError(f"{name}: expected true or false. Received: {getattr(self, name)!r}.")
        if self.train_clips is not None and (not isinstance(self.train_clips, int) or self.train_clips < 0):
            raise ModelError(f"train_clips: expected a number of clips. Received: {self.train_clips!r}.")


@dataclass(frozen=True, eq=False)
class Tags:
    """Tags with their scores, best first.

    Attributes:
        names: the tags.
        scores: float32 [len(names)], probabilities 0..1 in falling order.
        present: bool [len(names)]: the score reaches the tag's threshold (`TagInfo.threshold`).
        heard: bool [len(names)]: False where training had no example of the tag; such a score means nothing.
    """

    names: tuple[str, ...]
    scores: npt.NDArray[Any]
    present: npt.NDArray[Any]
    heard: npt.NDArray[Any]

    def as_dict(self) -> dict[str, float]:
        """Tag to score, best first."""
        return {name: float(score) for name, score in zip(self.names, self.scores, strict=True)}

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        return ", ".join(f"{name} {score:.2f}" for name, score in self.as_dict().items())


def make_tags(
    names: Sequence[str], scores: npt.NDArray[Any], info: Mapping[str, TagInfo], top: int | None, merge_synonyms: bool
) -> Tags:
    """The `top` best of a model's outputs (None: all), best first; see `merged` for `merge_synonyms`."""
    present = np.array([score >= info[name].threshold for name, score in zip(names, scores, strict=True)], bool)
    heard = np.array([info[name].has_evidence for name in names], bool)
    columns = (tuple(names), np.asarray(scores, np.float32), present, heard)
    names, scores, present, heard = merged(*columns) if merge_synonyms else columns
    order = np.argsort(-scores, kind="stable")[:top]
    return Tags(tuple(names[i] for i in order), scores[order], present[order], heard[order])


def merged(
    names: Sequence[str], scores: npt.NDArray[Any], present: npt.NDArray[Any], heard: npt.NDArray[Any]
) -> tuple[tuple[str, ...], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """One entry for each group of `SYNONYMS`, under the group's first name that is there.

    The score is the largest of those that were heard in training (of all, where none was). Annotators chose one name of
    several, so each name's probability is a lower bound of the probability of the thing; a mean would sink with every
    name that nobody uses. The group is present where one of its heard names is, and heard where one is.
    """
    first = {name: next(one for one in group if one in names) for group in SYNONYMS for name in group if name in names}
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(first.get(name, name), []).append(index)
    # Names without evidence speak only where no other does.
    members = [[index for index in group if heard[index]] or group for group in groups.values()]
    return (
        tuple(groups),
        np.array([scores[group].max() for group in members], np.float32),
        np.array([present[group].any() for group in members], bool),
        np.array([heard[group].any() for group in members], bool),
    )


def info_to_values(tags: Sequence[str], info: Mapping[str, TagInfo]) -> list[dict[str, Any]]:
    """Plain values, one object per tag in the order of `tags`; `info_from_values` is the inverse."""
    return [{"tag": tag, **dataclasses.asdict(info[tag])} for tag in tags]


def info_from_values(values: Any, tags: Sequence[str]) -> dict[str, TagInfo]:
    """What `info_to_values` made, for a model of these tags.

    Raises:
        ModelError: it is something else, or of other tags.
    """
    try:
        found = {str(entry["tag"]): TagInfo(**{k: v for k, v in entry.items() if k != "tag"}) for entry in values}
    except (TypeError, KeyError, AttributeError):
        raise ModelError(
            f"tags.json: expected a list of objects with tag and threshold. Received: {values!r:.80}."
        ) from None
    if list(found) != list(tags):
        raise ModelError(
            f"tags.json: expected the model's tags in order ({', '.join(tags)[:80]}). "
            f"Received: {', '.join(found)[:80]}."
        )
    return found


def info_to_json(tags: Sequence[str], info: Mapping[str, TagInfo]) -> str:
    """The text of a `tags.json`: a tag per line."""
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in info_to_values(tags, info))
    return f"[\n{rows}\n]\n"


def info_from_json(text: str | bytes, tags: Sequence[str]) -> dict[str, TagInfo]:
    """The inverse of `info_to_json`; raises `ModelError` for other text or other tags."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ModelError(f"tags.json: expected JSON. Received text that is not ({error}).") from None
    return info_from_values(values, tags)
