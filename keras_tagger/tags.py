"""Tags with scores, information about each tag, and tag names that mean the same. numpy only."""

from __future__ import annotations

import dataclasses
import html
import json
import warnings
from collections.abc import ItemsView, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import AudioWarning, ModelError
from keras_tagger.files import json_text, printable
from keras_tagger.tables import dataframe

# Groups of names with one meaning in the public vocabularies: seven in MagnaTagATune's 50 tags, three in those of the
# Million Song Dataset. A merged group takes its first name that the model has.
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


class UnknownTagError(ModelError, KeyError):
    """A tag that is not among the `Tags`."""

    def __str__(self) -> str:
        # KeyError would show the sentence in quotes.
        return str(self.args[0])


@dataclass(frozen=True)
class TagInfo:
    """The threshold of one output of a model, and whether the model was trained on its tag.

    Attributes:
        threshold: Lowest score at which the tag counts as present, 0..1.
        has_evidence: False if no training clip had the tag; its score then means nothing.
        calibrated: Whether the threshold was fitted to validation clips (`keras_tagger.evaluation.thresholds`).
        train_clips: Number of training clips that have the tag; None if unknown.

    Raises:
        ModelError: If a value has the wrong type or the threshold is outside 0..1.

    Example:
        >>> TagInfo(threshold=0.3, calibrated=True, train_clips=120)
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


@dataclass(frozen=True)
class TagScore:
    """One tag of a clip. `float(entry)` is its score.

    Attributes:
        name: The tag.
        score: Probability, 0..1.
        present: Whether the score reaches the tag's threshold; None if the threshold is unknown.
        heard: False if training had no example of the tag, so that the score means nothing; None if unknown.
    """

    name: str
    score: float
    present: bool | None = None
    heard: bool | None = None

    def __float__(self) -> float:
        return self.score


@dataclass(frozen=True, eq=False, repr=False)
class Tags(Sequence[TagScore]):
    """Tags of a clip with their scores, best first: a sequence of `TagScore`.

    An index gives an entry, a slice gives `Tags`, and a name gives the entry of that tag.

    Attributes:
        names: The tags.
        scores: float32 `[n]`, probabilities 0..1, highest first.
        present: bool `[n]`, whether each score reaches the tag's threshold; None if the thresholds are unknown, as with
            a served model that does not report them.
        heard: bool `[n]`, False if training had no example of the tag; None if unknown.
        warnings: What a listener must know about the audio, such as that it is silent; each has a `kind`.

    Example:
        >>> tags = tagger.tag("song.mp3")
        >>> [entry.name for entry in tags if entry.present]
        >>> float(tags["guitar"])
    """

    names: tuple[str, ...]
    scores: npt.NDArray[Any]
    present: npt.NDArray[Any] | None = None
    heard: npt.NDArray[Any] | None = None
    warnings: tuple[AudioWarning, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, key: int | str) -> TagScore: ...

    @overload
    def __getitem__(self, key: slice) -> Tags: ...

    def __getitem__(self, key: int | str | slice) -> TagScore | Tags:
        if isinstance(key, slice):
            present, heard = (None if values is None else values[key] for values in (self.present, self.heard))
            return Tags(self.names[key], self.scores[key], present, heard, self.warnings)
        if isinstance(key, str):
            if key not in self.names:
                raise UnknownTagError(f"expected one of the tags {', '.join(self.names)}. Received: {key!r}.")
            key = self.names.index(key)
        flags = (None if values is None else bool(values[key]) for values in (self.present, self.heard))
        return TagScore(self.names[key], float(self.scores[key]), *flags)

    def __contains__(self, item: object) -> bool:
        return item in self.names if isinstance(item, str) else any(item == entry for entry in self)

    def to_dict(self) -> dict[str, float]:
        """Return tag to score, best first.

        Example:
            >>> tagger.tag("song.mp3", top=2).to_dict()
            {'guitar': 0.91, 'rock': 0.74}
        """
        return {entry.name: entry.score for entry in self}

    def to_dataframe(self) -> Any:
        """Return a pandas `DataFrame` with the columns name, score, present and heard.

        Raises:
            ImportError: If pandas is not installed.

        Example:
            >>> tagger.tag("song.mp3").to_dataframe().query("present")
        """
        return dataframe([dataclasses.asdict(entry) for entry in self], _COLUMNS)

    def as_dict(self) -> dict[str, float]:
        """Return `to_dict()` (deprecated)."""
        return self._as_mapping("as_dict()", "to_dict()")

    def items(self) -> ItemsView[str, float]:
        """Return the items of `to_dict()` (deprecated; `Client.tag` used to return a dict)."""
        return self._as_mapping("items()", "to_dict().items()").items()

    def keys(self) -> KeysView[str]:
        """Return the keys of `to_dict()` (deprecated; use `names`)."""
        return self._as_mapping("keys()", "names").keys()

    def values(self) -> ValuesView[float]:
        """Return the values of `to_dict()` (deprecated; use `scores`)."""
        return self._as_mapping("values()", "scores").values()

    def _as_mapping(self, old: str, new: str) -> dict[str, float]:
        warnings.warn(f"Tags.{old} is deprecated; use Tags.{new}.", DeprecationWarning, stacklevel=3)
        return self.to_dict()

    def __str__(self) -> str:
        return self._text(len(self))

    def __repr__(self) -> str:
        return f"Tags({self._text(_SHOWN)})"

    def _text(self, shown: int) -> str:
        parts = [f"{printable(name)} {score:.2f}" for name, score in zip(self.names[:shown], self.scores, strict=False)]
        if shown < len(self):
            parts.append(f"... {len(self)} in all")
        kinds = ", ".join(warning.kind for warning in self.warnings)
        return ", ".join(parts) + (f" ({kinds})" if kinds else "")

    def _repr_html_(self) -> str:
        # No colours of its own, so that it can be read on light and dark pages.
        rows = "".join(
            f"<tr><td style='text-align:left'>{html.escape(printable(entry.name))}</td><td>{entry.score:.3f}</td>"
            f"<td style='text-align:left'>{_note(entry)}</td></tr>"
            for entry in self
        )
        table = f"<table><thead><tr><th>tag</th><th>score</th><th></th></tr></thead><tbody>{rows}</tbody></table>"
        return table + "".join(f"<p>{html.escape(str(warning))}</p>" for warning in self.warnings)


_COLUMNS = tuple(field.name for field in dataclasses.fields(TagScore))
_SHOWN = 3


def _note(entry: TagScore) -> str:
    """Return the note that follows the score in a table."""
    notes = ["present"] if entry.present else []
    return ", ".join([*notes, "not heard in training"] if entry.heard is False else notes)


def make_tags(
    names: Sequence[str],
    scores: npt.NDArray[Any],
    info: Mapping[str, TagInfo] | None,
    top: int | None,
    merge_synonyms: bool,
    warnings: Sequence[AudioWarning] = (),
) -> Tags:
    """Sort a model's outputs into `Tags`. In a silent clip nothing is present, whatever the model says.

    Args:
        names: The outputs' tags.
        scores: float `[n]`, their probabilities.
        info: `TagInfo` by tag; None if unknown.
        top: How many of the best tags to keep; None for all.
        merge_synonyms: Whether to merge tags that mean the same; see `merged`.
        warnings: What was found when the audio was read.
    """
    silent = any(warning.kind == "silent" for warning in warnings)
    scores = np.asarray(scores, np.float32) * np.float32(not silent)
    present = heard = None
    if info is not None:
        reached = [score >= info[name].threshold for name, score in zip(names, scores, strict=True)]
        present = np.array(reached, bool) & (not silent)
        heard = np.array([info[name].has_evidence for name in names], bool)
    columns = (tuple(names), scores, present, heard)
    names, scores, present, heard = merged(*columns) if merge_synonyms else columns
    order = np.argsort(-scores, kind="stable")
    present, heard = (None if values is None else values[order] for values in (present, heard))
    return Tags(tuple(names[i] for i in order), scores[order], present, heard, tuple(warnings))[:top]


def merged(
    names: Sequence[str],
    scores: npt.NDArray[Any],
    present: npt.NDArray[Any] | None,
    heard: npt.NDArray[Any] | None,
) -> tuple[tuple[str, ...], npt.NDArray[Any], npt.NDArray[Any] | None, npt.NDArray[Any] | None]:
    """Merge each group of `SYNONYMS` into one entry, named by the group's first name in `names`.

    The score is the largest among the names that training had examples of (among all names if it had none). Annotators
    choose one of several names, so the probability of each name is a lower bound of the probability of the thing; a
    mean would fall with every name that nobody uses. The entry is present if one of these names is, and heard if one
    name is.

    Args:
        names: The tags.
        scores: float `[n]`.
        present: bool `[n]`, or None if unknown.
        heard: bool `[n]`, or None if unknown.

    Returns:
        Names, scores, present and heard, with one entry per group.
    """
    first = {name: next(one for one in group if one in names) for group in SYNONYMS for name in group if name in names}
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(first.get(name, name), []).append(index)
    # Names without training examples count only if all names of the group are without.
    members = [[index for index in group if heard is None or heard[index]] or group for group in groups.values()]
    best = np.array([scores[group].max() for group in members], np.float32)
    present, heard = (
        None if values is None else np.array([values[group].any() for group in members], bool)
        for values in (present, heard)
    )
    return tuple(groups), best, present, heard


def info_to_values(tags: Sequence[str], info: Mapping[str, TagInfo]) -> list[dict[str, Any]]:
    """Return plain values, one object per tag in the order of `tags`; `info_from_values` is the inverse."""
    return [{"tag": tag, **dataclasses.asdict(info[tag])} for tag in tags]


def info_from_values(values: Any, tags: Sequence[str]) -> dict[str, TagInfo]:
    """Convert the result of `info_to_values` back, for a model with these tags.

    Raises:
        ModelError: If the values have another form or are about other tags.
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
    """Return the text of a `tags.json` file, one tag per line."""
    rows = ",\n".join(json_text(row).rstrip() for row in info_to_values(tags, info))
    return f"[\n{rows}\n]\n"


def info_from_json(text: str | bytes, tags: Sequence[str]) -> dict[str, TagInfo]:
    """Parse the text that `info_to_json` returned.

    Raises:
        ModelError: If the text is not JSON, has another form or is about other tags.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ModelError(f"tags.json: expected JSON. Received text that is not JSON ({error}).") from None
    return info_from_values(values, tags)
