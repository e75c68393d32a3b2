"""Tags with scores, information about each tag, and tag names that mean the same. numpy only."""

from __future__ import annotations

import dataclasses
import html
import json
import warnings
from collections.abc import ItemsView, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import AudioWarning, ModelError
from keras_tagger.files import json_text, printable
from keras_tagger.interchange import jams, labels, sonic_visualiser
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
# Somebody sings, and nobody sings: a clip has tags of one of the two families only.
VOICES: tuple[str, ...] = (
    *(
        name
        for group in SYNONYMS
        if {"vocal", "female", "male", "choir", "female vocalists"} & {*group}
        for name in group
    ),
    *("male vocalists", "opera"),
)
NO_VOICES: tuple[str, ...] = ("no vocals", "no vocal", "no voice", "instrumental")

RANKS = ("score", "margin")
# Scores and thresholds nearer to 0 or 1 than this count as this near, so that every margin is finite.
_NEAREST = 1e-6


class UnknownTagError(ModelError, KeyError):
    """A tag that is not among the `Tags`."""

    def __str__(self) -> str:
        # KeyError would show the sentence in quotes.
        return str(self.args[0])


@dataclass(frozen=True)
class TagInfo:
    """What is known about one output of a model: its threshold, and whether training had examples of its tag.

    Attributes:
        threshold: Lowest score at which the tag counts as present, 0..1.
        has_evidence: False if no training clip had the tag; its score then means nothing.
        calibrated: Whether the threshold was fitted to clips (`keras_tagger.evaluation.thresholds`).
        train_clips: Number of training clips that have the tag; None if unknown.
        rule: How the threshold was fitted: "f1" (best F1), "false_alarms" (a highest share of false alarms, on clips
            that people have labelled) or "teacher" (present as often as the teacher says); None if it was not, or if
            unknown.
        false_alarm_rate: Share of the clips without the tag that reach the threshold, 0..1, on the clips of the fit.
        clips_with: Number of clips of the fit that have the tag.
        clips_without: Number of clips of the fit that lack it.
        evidence_from: Name of the model that training started from, if that model had examples of the tag.

    Raises:
        ModelError: If a value has the wrong type, or a threshold or rate is outside 0..1.

    Example:
        >>> TagInfo(threshold=0.3, calibrated=True, train_clips=120)
    """

    threshold: float = 0.5
    has_evidence: bool = True
    calibrated: bool = False
    train_clips: int | None = None
    rule: str | None = None
    false_alarm_rate: float | None = None
    clips_with: int | None = None
    clips_without: int | None = None
    evidence_from: str | None = None

    def __post_init__(self) -> None:
        for name in ("threshold", "false_alarm_rate"):
            value = getattr(self, name)
            plain = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
            if not plain and (value is not None or name == "threshold"):
                raise ModelError(f"{name}: expected a number in 0..1. Received: {value!r}.")
        for name in ("has_evidence", "calibrated"):
            if not isinstance(getattr(self, name), bool):
                raise ModelError(f"{name}: expected true or false. Received: {getattr(self, name)!r}.")
        for name in ("train_clips", "clips_with", "clips_without"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 0):
                raise ModelError(f"{name}: expected a number of clips. Received: {value!r}.")
        for name in ("rule", "evidence_from"):
            if not isinstance(getattr(self, name), str | None):
                raise ModelError(f"{name}: expected a name. Received: {getattr(self, name)!r}.")


@dataclass(frozen=True)
class TagScore:
    """One tag of a clip. `float(entry)` is its score.

    Attributes:
        name: The tag.
        score: Probability, 0..1.
        present: Whether the score reaches the tag's threshold, and no contradicting tag is more certain; None if the
            threshold is unknown.
        heard: False if training had no example of the tag, so that the score means nothing; None if unknown.
        margin: How far the score exceeds the threshold (`margin`); None if unknown or if `heard` is False.
    """

    name: str
    score: float
    present: bool | None = None
    heard: bool | None = None
    margin: float | None = field(default=None, compare=False)

    def __float__(self) -> float:
        return self.score


@dataclass(frozen=True, eq=False, repr=False)
class Tags(Sequence[TagScore]):
    """Tags of a clip with their scores, best first: a sequence of `TagScore`.

    An index gives an entry, a slice gives `Tags`, and a name gives the entry of that tag.

    A tag that says that somebody sings (`VOICES`) and one that says that nobody does (`NO_VOICES`) are never both
    present. If tags of both families reach their thresholds, only those of the family with the largest margin are
    present, and the margins of the others count from that one. Scores stay as they are.

    Attributes:
        names: The tags.
        scores: float32 `[n]`, probabilities 0..1; highest first, unless ranked by margin.
        present: bool `[n]`, whether each score reaches the tag's threshold and no contradicting tag is more certain;
            None if the thresholds are unknown, as with a served model that does not report them.
        heard: bool `[n]`, False if training had no example of the tag; None if unknown.
        warnings: What a listener must know about the audio, such as that it is silent; each has a `kind`.
        margins: float32 `[n]`, how far each score exceeds the tag's threshold (`keras_tagger.tags.margin`); NaN if
            `heard` is False; None if the thresholds are unknown.
        seconds: Length of the clip; None if unknown.

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
    margins: npt.NDArray[Any] | None = None
    seconds: float | None = None

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, key: int | str) -> TagScore: ...

    @overload
    def __getitem__(self, key: slice) -> Tags: ...

    def __getitem__(self, key: int | str | slice) -> TagScore | Tags:
        if isinstance(key, slice):
            return self._take(range(len(self))[key])
        if isinstance(key, str):
            if key not in self.names:
                raise UnknownTagError(f"expected one of the tags {', '.join(self.names)}. Received: {key!r}.")
            key = self.names.index(key)
        present, heard = (None if values is None else bool(values[key]) for values in (self.present, self.heard))
        margin = None if self.margins is None or np.isnan(self.margins[key]) else float(self.margins[key])
        return TagScore(self.names[key], float(self.scores[key]), present, heard, margin)

    def __contains__(self, item: object) -> bool:
        return item in self.names if isinstance(item, str) else any(item == entry for entry in self)

    def top(self, n: int | None = None, rank: str = "score") -> Tags:
        """Return the best tags, best first.

        Args:
            n: How many; None for all.
            rank: "score" for the highest scores; "margin" for those that exceed their thresholds by most, with tags
                that training had no example of last.

        Raises:
            ModelError: If `rank` is neither, or is "margin" and the thresholds are unknown.

        Example:
            >>> tagger.tag("song.mp3", top=None).top(3, rank="margin").names
            ('jazz', 'guitar', 'electronic')
        """
        return self._take(ranking(self.scores, self.margins, rank)[:n])

    def _take(self, rows: Sequence[int] | npt.NDArray[Any]) -> Tags:
        index = np.asarray(rows, int)
        present, heard, margins = (
            None if values is None else values[index] for values in (self.present, self.heard, self.margins)
        )
        names = tuple(self.names[row] for row in index)
        return Tags(names, self.scores[index], present, heard, self.warnings, margins, self.seconds)

    def to_dict(self) -> dict[str, float]:
        """Return tag to score, best first.

        Example:
            >>> tagger.tag("song.mp3", top=2).to_dict()
            {'guitar': 0.91, 'rock': 0.74}
        """
        return {entry.name: entry.score for entry in self}

    def to_dataframe(self) -> Any:
        """Return a pandas `DataFrame` with the columns name, score, present, heard and margin.

        Raises:
            ImportError: If pandas is not installed.

        Example:
            >>> tagger.tag("song.mp3").to_dataframe().query("present")
        """
        return dataframe([dataclasses.asdict(entry) for entry in self], _COLUMNS)

    def to_jams(self) -> dict[str, Any]:
        """Return the content of a JAMS file: the tags as observations over the whole clip, scores as confidence.

        Raises:
            ModelError: If the length of the clip is unknown.

        Example:
            >>> Path("song.jams").write_text(json.dumps(tagger.tag("song.mp3").to_jams()))
        """
        return jams.of_tags(self.names, self.scores, self._length())

    def to_audacity(self) -> str:
        """Return an Audacity label track: a label over the whole clip for each tag that is present.

        Raises:
            ModelError: If the length of the clip is unknown.

        Example:
            >>> Path("song.txt").write_text(tagger.tag("song.mp3").to_audacity())
        """
        return labels.audacity(self._labels())

    def to_webvtt(self) -> str:
        """Return WebVTT with one chapter, which names the tags that are present.

        Raises:
            ModelError: If the length of the clip is unknown.

        Example:
            >>> Path("song.vtt").write_text(tagger.tag("song.mp3").to_webvtt())
        """
        names = ", ".join(label.name for label in self._labels())
        return labels.webvtt([labels.Label(0.0, self._length(), names, 1.0)] if names else [])

    def to_sonic_visualiser(self, sample_rate: int = 44100) -> str:
        """Return a layer of Sonic Visualiser (`.svl`): a region over the whole clip for each tag that is present.

        Args:
            sample_rate: Sample rate of the audio in Sonic Visualiser, in Hz.

        Raises:
            ModelError: If the length of the clip is unknown.

        Example:
            >>> Path("song.svl").write_text(tagger.tag("song.mp3").to_sonic_visualiser())
        """
        return sonic_visualiser.regions(self._labels(), sample_rate, "tags")

    def _labels(self) -> list[labels.Label]:
        """Return the present tags, or all if the thresholds are unknown, as labels over the whole clip."""
        kept = [entry for entry in self if entry.present is not False]
        return [labels.Label(0.0, self._length(), entry.name, entry.score) for entry in kept]

    def _length(self) -> float:
        if self.seconds is None:
            raise ModelError("expected tags of a clip of known length. Received: Tags with seconds=None.")
        return self.seconds

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


def margin(scores: npt.ArrayLike, thresholds: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return how far scores exceed thresholds: the difference of their log odds, log(p / (1 - p)).

    That is the logit which the score would have if every tag's threshold were 0.5, so tags with different thresholds
    can be compared. It is 0 at the threshold, and negative below it. Log odds are limited to those of 1e-6 and
    1 - 1e-6, so the margin is finite for scores and thresholds of 0 and 1 too.

    Args:
        scores: Probabilities, 0..1, of any shape.
        thresholds: Thresholds, 0..1, of the same shape.

    Returns:
        Margins, float32 of that shape.

    Example:
        On a jazz clip, "electronic" scores 0.34 with a threshold of 0.29, and "jazz" 0.28 with one of 0.10:

        >>> margin([0.34, 0.28], [0.29, 0.10]).round(2)
        array([0.23, 1.25], dtype=float32)
    """
    # As float32, so that a score is on the same side of its threshold here and in `present`.
    pairs = (np.asarray(values, np.float32).astype(np.float64) for values in (scores, thresholds))
    score, threshold = (np.clip(values, _NEAREST, 1 - _NEAREST) for values in pairs)
    return np.asarray(np.log(score / (1 - score)) - np.log(threshold / (1 - threshold)), np.float32)


def ranking(scores: npt.NDArray[Any], margins: npt.NDArray[Any] | None, rank: str) -> npt.NDArray[Any]:
    """Return the indices of tags in the order of a rank, best first; equal ones keep their order.

    Args:
        scores: float `[n]`.
        margins: float `[n]`; NaN comes last, in the order of the scores. None if unknown.
        rank: One of `RANKS`.

    Raises:
        ModelError: If there is no such rank, or it is "margin" and the margins are unknown.
    """
    check_rank(rank)
    if rank == "score":
        return np.argsort(-scores, kind="stable")
    if margins is None:
        raise ModelError("rank: expected 'score' if the thresholds of the tags are unknown. Received: 'margin'.")
    return np.lexsort((-scores, -margins))


def check_rank(rank: str) -> None:
    """Raise `ModelError` if `rank` is not one of `RANKS`."""
    if rank not in RANKS:
        raise ModelError(f"rank: expected {' or '.join(RANKS)}. Received: {rank!r}.")


def make_tags(
    names: Sequence[str],
    scores: npt.NDArray[Any],
    info: Mapping[str, TagInfo] | None,
    top: int | None,
    merge_synonyms: bool,
    warnings: Sequence[AudioWarning] = (),
    rank: str = "score",
    seconds: float | None = None,
) -> Tags:
    """Sort a model's outputs into `Tags`. In a silent clip nothing is present, whatever the model says.

    Args:
        names: The outputs' tags.
        scores: float `[n]`, their probabilities.
        info: `TagInfo` by tag; None if unknown.
        top: How many of the best tags to keep; None for all.
        merge_synonyms: Whether to merge tags that mean the same; see `merged`.
        warnings: What was found when the audio was read.
        rank: Which tags are best; see `Tags.top`.
        seconds: Length of the clip; None if unknown.
    """
    silent = any(warning.kind == "silent" for warning in warnings)
    scores = np.asarray(scores, np.float32) * np.float32(not silent)
    present = heard = margins = None
    if info is not None:
        present, heard, margins = judged(names, scores, info)
        present &= not silent
    found = Tags(tuple(names), scores, present, heard, tuple(warnings), margins, seconds)
    return (merged(found) if merge_synonyms else found).top(top, rank)


def judged(
    names: Sequence[str], scores: npt.NDArray[Any], info: Mapping[str, TagInfo]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Compare scores with the tags' thresholds.

    Args:
        names: The tags.
        scores: float `[n]`.
        info: `TagInfo` by tag.

    Returns:
        `present`, `heard` and `margins` as in `Tags`.
    """
    scores, thresholds = np.asarray(scores, np.float32), np.array([info[name].threshold for name in names], np.float32)
    heard = np.array([info[name].has_evidence for name in names], bool)
    present, margins = scores >= thresholds, np.where(heard, margin(scores, thresholds), np.float32(np.nan))
    families = [np.isin(names, family) for family in (VOICES, NO_VOICES)]
    if all((present & family).any() for family in families):
        best = [np.max(margins[family & heard], initial=-np.inf) for family in families]
        weaker = families[int(best[0] >= best[1])]
        present &= ~weaker
        margins[weaker] -= max(best)
    return present, heard, margins


def merged(tags: Tags) -> Tags:
    """Merge each group of `SYNONYMS` into one entry, named by the group's first name among the tags.

    The score is the largest among the names that training had examples of (among all names if it had none). Annotators
    choose one of several names, so the probability of each name is a lower bound of the probability of the thing; a
    mean would fall with every name that nobody uses. The entry is present if one of these names is, heard if one name
    is, and its margin is the largest.
    """
    groups = synonym_groups(tags.names, tags.heard)
    heard, members = tags.heard, list(groups.values())
    scores = np.array([tags.scores[group].max() for group in members], np.float32)
    present, heard, margins = (
        None if values is None else np.array([values[group].max() for group in members], values.dtype)
        for values in (tags.present, heard, tags.margins)
    )
    return Tags(tuple(groups), scores, present, heard, tags.warnings, margins, tags.seconds)


def synonym_groups(names: Sequence[str], heard: npt.NDArray[Any] | None) -> dict[str, list[int]]:
    """Return what each name of merged tags stands for: the places among `names` that count.

    Names that training had no examples of count only if all names of their group are without.

    Args:
        names: The tags.
        heard: bool `[n]`, as in `Tags`.
    """
    first = {name: next(one for one in group if one in names) for group in SYNONYMS for name in group if name in names}
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(first.get(name, name), []).append(index)
    return {
        name: [index for index in group if heard is None or heard[index]] or group for name, group in groups.items()
    }


def info_to_values(tags: Sequence[str], info: Mapping[str, TagInfo]) -> list[dict[str, Any]]:
    """Return plain values, one object per tag in the order of `tags`; `info_from_values` is the inverse."""
    # What is unknown is left out, so that versions without a field can read the rest.
    known = ({k: v for k, v in dataclasses.asdict(info[tag]).items() if v is not None} for tag in tags)
    return [{"tag": tag, **values} for tag, values in zip(tags, known, strict=True)]


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
