"""`Report`: how good a tagger is on a set of clips, as files, as text and as a page."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ModelError, ModelNotFoundError
from keras_tagger.evaluation.clip_scores import ClipScores
from keras_tagger.files import printable, write_csv, write_json, write_text
from keras_tagger.metrics import macro_mean, ranking_scores
from keras_tagger.tables import dataframe, listed, text_table

if TYPE_CHECKING:
    from keras_tagger.evaluation.examples import Example

COLUMNS = ("tag", "roc_auc", "pr_auc", "n_positive", "n_negative")
SCORES = "scores.npz"
FILES = ("report.json", "report.csv", "report.html", SCORES)
"""What `Report.save` writes."""


class TagTable:
    """Scores and clip counts, one row per tag.

    Iterating yields the rows as dicts; `len` counts them; `table["roc_auc"]` is a column as a numpy array.

    Example:
        >>> max(report.per_tag, key=lambda row: row["pr_auc"])["tag"]
        'guitar'
    """

    columns = COLUMNS

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = [{name: row[name] for name in COLUMNS} for row in rows]

    def __getitem__(self, column: str) -> npt.NDArray[Any]:
        if column not in COLUMNS:
            raise KeyError(f"expected one of {', '.join(COLUMNS)}. Received: {column!r}")
        return np.array([row[column] for row in self._rows])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<TagTable: {len(self)} tags>"

    def __str__(self) -> str:
        return text_table(self._cells())

    def _repr_html_(self) -> str:
        from keras_tagger.views.pages import table

        head, *rows = self._cells()
        return table(rows, head)

    def to_dataframe(self) -> Any:
        """Return the table as a pandas DataFrame; pandas must be installed."""
        return dataframe(self._rows, COLUMNS)

    def _cells(self) -> list[list[str]]:
        """Format the header and the rows."""
        rows = [
            [row["tag"], _fixed(row["roc_auc"]), _fixed(row["pr_auc"]), str(row["n_positive"]), str(row["n_negative"])]
            for row in self._rows
        ]
        return [["tag", "ROC-AUC", "PR-AUC", "positive", "negative"], *rows]


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """Scores of a tagger on clips; `keras_tagger.evaluate` and `keras_tagger.fit` make it.

    Each clip is scored as the mean over its windows, or over `n_chunks` evenly spaced ones.

    Attributes:
        roc_auc: Macro mean of ROC-AUC over the tags that count: those with enough clips of both kinds. NaN if none has.
        pr_auc: Macro mean of average precision over the same tags.
        per_tag: `TagTable` of ROC-AUC, PR-AUC (average precision) and clip counts; NaN for tags that cannot be scored.
        n_clips: Number of clips that were scored.
        split: Their split, or "all".
        failed: Files that could not be read, each with `path` and `reason`.
        training: Values that `fit` adds, such as epochs and speed.
        accuracy: Share of the clips whose largest score is the right one; None if the model is not single-label.
        n_chunks: Windows per clip, or 0 if they follow each other.
        intervals: Bootstrap intervals over clips (`evaluation.bootstrap.bootstrap_intervals`): `level`, `resamples` and
            `seed`; (low, high) of `roc_auc`, `pr_auc` and `accuracy`; `per_tag`, the same for each tag. Empty if they
            were not computed.
        clip_scores: Labels and scores of every clip (`ClipScores`), or None if they were not kept.
        unknown_tags: Tags of the data that the model does not have; they are not scored.
        n_unknown_clips: Number of clips all of whose tags are in `unknown_tags`. For the tags that are scored, they
            count as clips without the tag.
        missing_tags: Tags of the model that no clip has; they are not scored.
        model: The name of the model; may be empty.
        data: The name of the data; may be empty.
        examples: Clips that the model tags wrongly (`keras_tagger.evaluation.examples`). The page has players for them;
            a report that is loaded has none.

    Example:
        >>> report = kt.evaluate(tagger, "music/manifest.csv")
        >>> report.roc_auc, report.per_tag["pr_auc"]
        >>> report.save("reports/compact")
    """

    roc_auc: float
    pr_auc: float
    per_tag: TagTable
    n_clips: int
    split: str
    failed: tuple[Mapping[str, str], ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    accuracy: float | None = None
    n_chunks: int = 0
    intervals: Mapping[str, Any] = field(default_factory=dict)
    clip_scores: ClipScores | None = None
    unknown_tags: tuple[str, ...] = ()
    n_unknown_clips: int = 0
    missing_tags: tuple[str, ...] = ()
    model: str = ""
    data: str = ""
    examples: tuple[Example, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; undefined numbers are None."""
        optional = {
            "accuracy": self.accuracy,
            "intervals": self.intervals or None,
            "unknown_tags": self.unknown_tags or None,
            "n_unknown_clips": self.n_unknown_clips or None,
            "missing_tags": self.missing_tags or None,
            "model": self.model or None,
            "data": self.data or None,
        }
        return _plain(
            {
                "split": self.split,
                "n_clips": self.n_clips,
                "n_chunks": self.n_chunks,
                "n_tags_scored": int(np.isfinite(self.per_tag["roc_auc"].astype(float)).sum()),
                "roc_auc": self.roc_auc,
                "pr_auc": self.pr_auc,
                **{name: value for name, value in optional.items() if value is not None},
                "per_tag": list(self.per_tag),
                "failed": self.failed,
                "training": self.training,
            }
        )

    def to_html(self) -> str:
        """Return the results page: numbers, bars per tag and, with clip scores, ROC and precision-recall curves.

        The worst mistakes have players, if `evaluate` was asked for `examples`. The page needs no other file.

        Example:
            >>> Path("report.html").write_text(report.to_html(), encoding="utf-8")
        """
        from keras_tagger.views.report_page import report_page

        found = self.clip_scores
        curves = found.curves() if found else {}
        roc_curves = found.roc_curves() if found else {}
        confusions = {}
        if found and self.accuracy is not None:
            confusions = dict(zip(found.tags, found.confusions().tolist(), strict=True))
        return report_page(
            self.to_dict(), self.headline(), curves, roc_curves, confusions, self.warning(), self.examples
        )

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write `report.json` and `report.csv` (the table) into a directory.

        With clip scores, also write `scores.npz`, which `keras_tagger.compare` reads, and the page `report.html`.

        Example:
            >>> report.save("reports/compact")
        """
        folder = Path(directory)
        content = self.to_dict()
        write_csv(folder / "report.csv", COLUMNS, content["per_tag"])
        if self.clip_scores is not None:
            self.clip_scores.save(folder / SCORES)
            write_text(folder / "report.html", self.to_html())
        write_json(folder / "report.json", content, indent=2)

    def headline(self) -> list[tuple[str, str, str]]:
        """Return name, value and interval of the numbers over all tags, as text; the interval may be empty.

        A value that no clips define is "undefined".
        """
        found = []
        for name, key in (("macro ROC-AUC", "roc_auc"), ("macro PR-AUC", "pr_auc"), ("accuracy", "accuracy")):
            value = getattr(self, key)
            if value is not None:
                low, high = self.intervals.get(key, (float("nan"), float("nan")))
                found.append(
                    (
                        name,
                        f"{value:.4f}" if np.isfinite(value) else "undefined",
                        f"{low:.4f} to {high:.4f}" if np.isfinite(low) else "",
                    )
                )
        return found

    def warning(self) -> str:
        """Return sentences that say which tags are not scored and why, or an empty string."""
        return " ".join(self._warnings())

    def _warnings(self) -> Iterator[str]:
        if self.training and self.split == "train":
            yield "Measured on the training clips, which says nothing about new music."
        if self.unknown_tags:
            names = listed(self.unknown_tags)
            yield f"Not scored, because the model does not have these tags of the data: {names}."
        if self.n_unknown_clips:
            yield (
                "Clips that have only such tags, and count as clips without the others: "
                f"{self.n_unknown_clips} of {self.n_clips}."
            )
        if self.missing_tags:
            yield f"Not scored, because no clip has these tags of the model: {listed(self.missing_tags)}."
        everywhere = [row["tag"] for row in self.per_tag if row["n_positive"] and not row["n_negative"]]
        if everywhere:
            yield f"Not scored, because every clip has these tags: {listed(everywhere)}."

    def _title(self) -> str:
        how = f", {self.n_chunks} chunks each" if self.n_chunks else ""
        return f"{self.n_clips} clips of split {self.split}{how}"

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name} {value}" for name, value, _ in self.headline())
        return f"<Report: {self._title()}, {numbers}>"

    def __str__(self) -> str:
        numbers = [f"{name} {value}" + (f" ({bounds})" if bounds else "") for name, value, bounds in self.headline()]
        lines = [f"{self._title()}: {', '.join(numbers)}", str(self.per_tag)]
        lines += [printable(f"left out {entry['path']}: {entry['reason']}") for entry in self.failed]
        return "\n".join([*lines, *(f"warning: {sentence}" for sentence in self._warnings())])

    def _repr_html_(self) -> str:
        from keras_tagger.views.pages import frame, table

        # The players of the mistakes may take megabytes, so that they are in the saved page only.
        page = replace(self, examples=()).to_html()
        return table(self.headline(), caption=self._title(), note=self.warning()) + frame(page, self._title())


def check_directory(directory: str | os.PathLike[str]) -> None:
    """Raise `ModelError` early if a report cannot be saved there. Nothing is created."""
    path = Path(directory)
    existing = next((folder for folder in (path, *path.absolute().parents) if folder.exists()), path)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ModelError(f"out: expected a writable directory. Received: {path}, but {existing} is not writable.")


def load_report(path: str | os.PathLike[str]) -> Report:
    """Read a `report.json`, or the one in a directory, and the `scores.npz` beside it if there is one.

    Raises:
        ModelNotFoundError: If there is no report.
        ModelError: If a file is damaged or holds something else.
    """
    path = Path(path)
    path = path / "report.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {name: _restored(content[name]) for name in ("roc_auc", "pr_auc", "n_clips", "split", "failed")}
        if "accuracy" in content:
            found["accuracy"] = _restored(content["accuracy"])
        scores = path.parent / SCORES
        return Report(
            **found,
            per_tag=TagTable(_restored(content["per_tag"])),
            training=content["training"],
            n_chunks=content.get("n_chunks", 0),
            intervals=_restored(content.get("intervals", {})),
            clip_scores=ClipScores.load(scores) if scores.exists() else None,
            unknown_tags=tuple(content.get("unknown_tags", ())),
            n_unknown_clips=content.get("n_unknown_clips", 0),
            missing_tags=tuple(content.get("missing_tags", ())),
            model=content.get("model", ""),
            data=content.get("data", ""),
        )
    except FileNotFoundError:
        raise ModelNotFoundError(
            f"expected a report.json or its directory. Received: {path}, which does not exist."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"expected a report.json. Received: {path} ({type(error).__name__}: {error}).") from None


def score(labels: npt.NDArray[Any], scores: npt.NDArray[Any], tags: Sequence[str], positive: float = 0.5) -> TagTable:
    """Compute ROC-AUC and average precision per tag.

    Args:
        labels: Labels, float `[n_clips, n_tags]` in 0..1. A clip has a tag if its label is above `positive`; an unknown
            label (NaN) leaves the clip out of the tag's row.
        scores: Scores on any monotonic scale, float `[n_clips, n_tags]`.
        tags: Names of the columns.
        positive: The threshold of the labels.

    Raises:
        ModelError: If the shapes differ.

    Example:
        >>> table = score(labels, scores, ["guitar", "piano"])
        >>> macro(table, "roc_auc")
    """
    if labels.shape != scores.shape or labels.shape[1:] != (len(tags),):
        raise ModelError(
            f"expected labels and scores [n_clips, {len(tags)}]. Received: {labels.shape} and {scores.shape}."
        )
    rows = []
    for index, tag in enumerate(tags):
        known = ~np.isnan(labels[:, index])
        present = labels[known, index] > positive
        roc, average_precision = ranking_scores(present, scores[known, index])
        counts = {"n_positive": int(present.sum()), "n_negative": int((~present).sum())}
        rows.append({"tag": tag, "roc_auc": float(roc), "pr_auc": float(average_precision), **counts})
    return TagTable(rows)


def counted_tags(table: TagTable, min_positives: int = 1) -> npt.NDArray[Any]:
    """Return which tags count in macro means, bool `[n_tags]`.

    Tags with fewer than `min_positives` clips of either kind do not count, unless that leaves none.
    """
    scored = np.isfinite(table["roc_auc"].astype(float))
    enough = scored & (np.minimum(table["n_positive"], table["n_negative"]) >= min_positives)
    return enough if enough.any() else scored


def macro(table: TagTable, column: str, min_positives: int = 1) -> float:
    """Return the mean of a column over the tags that count (`counted_tags`); NaN if none does."""
    return float(macro_mean(table[column], counted_tags(table, min_positives)))


def _fixed(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "-"


def _plain(value: Any) -> Any:
    """Convert to JSON values; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _restored(value: Any) -> Any:
    """Invert `_plain`."""
    if isinstance(value, Mapping):
        return {name: _restored(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return tuple(map(_restored, value))
    return float("nan") if value is None else value
