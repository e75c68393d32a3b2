"""`Report`: how good a tagger is on a set of clips, as files and as text. scikit-learn computes the numbers."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ModelError, ModelNotFoundError
from keras_tagger.evaluation.bootstrap import ClipScores
from keras_tagger.files import replacing

COLUMNS = ("tag", "roc_auc", "pr_auc", "n_positive", "n_negative")
SCORES = "scores.npz"


class TagTable:
    """One row per tag: `table["roc_auc"]` is a column (numpy), iteration gives rows (dict), `len` counts them."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = [{name: row[name] for name in COLUMNS} for row in rows]

    columns = COLUMNS

    def __getitem__(self, column: str) -> npt.NDArray[Any]:
        if column not in COLUMNS:
            raise KeyError(f"expected one of {', '.join(COLUMNS)}. Received: {column!r}")
        return np.array([row[column] for row in self._rows])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __str__(self) -> str:
        width = max([len(row["tag"]) for row in self._rows] + [3])
        lines = [f"{'tag':<{width}}  ROC-AUC  PR-AUC  positive  negative"]
        for row in self._rows:
            scores = "  ".join(
                f"{row[name]:>{size}.3f}" if np.isfinite(row[name]) else f"{'-':>{size}}"
                for name, size in (("roc_auc", 7), ("pr_auc", 6))
            )
            lines.append(f"{row['tag']:<{width}}  {scores}  {row['n_positive']:>8}  {row['n_negative']:>8}")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Report:
    """Measured on clips, each scored as the mean over its windows, or over `n_chunks` evenly spaced ones.

    Attributes:
        roc_auc, pr_auc: macro means over the tags that have clips of both kinds, enough of them (NaN if none has).
        per_tag: `TagTable` of ROC-AUC, PR-AUC (average precision) and counts; NaN for tags left out of the mean.
        n_clips: clips scored.
        split: the split they are from.
        failed: files left out, each with `path` and `reason`.
        training: what `fit` adds: epochs, speed and so on.
        accuracy: share of the clips whose largest score is the right one; None for models whose tags are not exclusive.
        n_chunks: windows per clip; 0 where windows follow each other.
        intervals: bootstrap intervals over clips (`keras_tagger.evaluation.intervals`): `level`, `resamples`, `seed`, then
            (low, high) of `roc_auc`, `pr_auc` and `accuracy`, and `per_tag`, tag to the same; empty where not computed.
        clip_scores: labels and scores of every clip, from which all of it is computed; None where not kept.
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
    clip_scores: ClipScores | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; numbers that do not exist are None."""
        accuracy = {} if self.accuracy is None else {"accuracy": _number(self.accuracy)}
        intervals = {"intervals": _plain(self.intervals)} if self.intervals else {}
        return {
            "split": self.split,
            "n_clips": self.n_clips,
            "n_chunks": self.n_chunks,
            "n_tags_scored": int(np.isfinite(self.per_tag["roc_auc"].astype(float)).sum()),
            "roc_auc": _number(self.roc_auc),
            "pr_auc": _number(self.pr_auc),
            **accuracy,
            **intervals,
            "per_tag": [{name: _number(value) for name, value in row.items()} for row in self.per_tag],
            "failed": [dict(entry) for entry in self.failed],
            "training": {name: _number(value) for name, value in self.training.items()},
        }

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write `report.json` and `report.csv` (the table) into a directory, each whole or not at all.

        Where there are clip scores, also `scores.npz` (what `compare` reads) and `report.html` (a page to look at).
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        content = self.to_dict()
        with replacing(folder / "report.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(content["per_tag"])
        if self.clip_scores is not None:
            from keras_tagger.views.report_page import report_page

            save_scores(self.clip_scores, folder / SCORES)
            with replacing(folder / "report.html") as path:
                path.write_text(report_page(self), encoding="utf-8")
        with replacing(folder / "report.json") as path:
            path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def headline(self) -> list[tuple[str, float, str]]:
        """Name, value and interval (as text, or nothing) of the numbers for all tags together."""
        found = []
        for name, key in (("macro ROC-AUC", "roc_auc"), ("macro PR-AUC", "pr_auc"), ("accuracy", "accuracy")):
            value = getattr(self, key)
            if value is not None:
                low, high = self.intervals.get(key, (float("nan"), float("nan")))
                found.append((name, float(value), f"{low:.4f} to {high:.4f}" if np.isfinite(low) else ""))
        return found

    def __str__(self) -> str:
        numbers = [
            f"{name} {value:.4f}" + (f" ({bounds})" if bounds else "") for name, value, bounds in self.headline()
        ]
        how = f", {self.n_chunks} chunks each" if self.n_chunks else ""
        head = f"{self.n_clips} clips of split {self.split}{how}: {', '.join(numbers)}"
        failed = [f"left out {entry['path']}: {entry['reason']}" for entry in self.failed]
        return "\n".join([head, str(self.per_tag), *failed])


def check_directory(directory: str | os.PathLike[str]) -> None:
    """Raise `ModelError` where a report cannot be saved, before hours are spent on it; nothing is made."""
    path = Path(directory)
    there = next((folder for folder in (path, *path.absolute().parents) if folder.exists()), path)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ModelError(f"out: expected a directory to write. Received: {path}, as {there} cannot be written in.")


def load_report(path: str | os.PathLike[str]) -> Report:
    """Read a `report.json`, or that of a directory, with the `scores.npz` beside it where there is one.

    Raises:
        ModelNotFoundError: there is no report.
        ModelError: what is there is none.
    """
    path = Path(path)
    path = path / "report.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [{name: _or_nan(value) for name, value in row.items()} for row in content["per_tag"]]
        intervals = content.get("intervals", {})
        return Report(
            _or_nan(content["roc_auc"]),
            _or_nan(content["pr_auc"]),
            TagTable(rows),
            content["n_clips"],
            content["split"],
            tuple(content["failed"]),
            content["training"],
            _or_nan(content["accuracy"]) if "accuracy" in content else None,
            content.get("n_chunks", 0),
            {name: _bounds(value) for name, value in intervals.items()},
            load_scores(path.parent / SCORES) if (path.parent / SCORES).exists() else None,
        )
    except FileNotFoundError:
        raise ModelNotFoundError(
            f"expected a report.json or its directory. Received: {path}, where there is none."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"expected a report.json. Received: {path} ({type(error).__name__}: {error}).") from None


def save_scores(found: ClipScores, path: Path) -> None:
    """Write clip scores as `.npz`, whole or not at all."""
    arrays = {"labels": found.labels, "scores": found.scores, "counted": found.counted}
    if found.correct is not None:
        arrays["correct"] = found.correct
    with replacing(path) as temporary:
        np.savez_compressed(
            temporary,
            clips=np.array(found.clips, dtype=np.str_),
            tags=np.array(found.tags, dtype=np.str_),
            positive=np.float64(found.positive),
            **arrays,
        )


def load_scores(path: Path) -> ClipScores:
    """Read what `save_scores` wrote; raises `ModelError` for anything else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
            found = ClipScores(
                tuple(arrays["clips"].tolist()),
                tuple(arrays["tags"].tolist()),
                arrays["labels"],
                arrays["scores"],
                float(arrays["positive"]),
                arrays["counted"],
                arrays.get("correct"),
            )
    except Exception as error:  # damaged archives and arrays raise errors of nearly every kind
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"expected the clip scores of a report. Received: {path} ({reason[:200]}).") from None
    wrong = _wrong(found)
    if wrong:
        raise ModelError(f"expected the clip scores of a report. Received: {path}, {wrong}.")
    return found


def _wrong(found: ClipScores) -> str:
    """What is wrong with clip scores that somebody else may have written, or nothing."""
    shape = (len(found.clips), len(found.tags))
    if not all(isinstance(name, str) for name in (*found.clips, *found.tags)):
        return "whose clips and tags are not all text"
    if not found.labels.shape == found.scores.shape == shape or 0 in shape:
        return f"with labels and scores not of {shape[0]} clips and {shape[1]} tags"
    correct = np.zeros(shape[0]) if found.correct is None else found.correct
    if found.counted.shape != shape[1:] or found.counted.dtype != bool or correct.shape != shape[:1]:
        return "with tags that count, or right answers, of other shapes"
    if any(array.dtype.kind != "f" for array in (found.labels, found.scores)) or correct.dtype.kind != "f":
        return "with labels or scores that are not numbers"
    if not np.isfinite(found.scores).all() or not 0 <= found.positive < 1:
        return "with scores or a threshold that are not finite"
    return ""


def score(labels: npt.NDArray[Any], scores: npt.NDArray[Any], tags: Sequence[str], positive: float = 0.5) -> TagTable:
    """ROC-AUC and average precision per tag.

    Args:
        labels: [n_clips, n_tags] in 0..1; a clip has a tag where its label is above `positive`, and is left out of the
            tag's row where it is NaN (not known).
        scores: [n_clips, n_tags], any monotone scale.
        tags: names of the columns.
        positive: the threshold.

    Raises:
        ModelError: the shapes differ.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    if labels.shape != scores.shape or labels.shape[1:] != (len(tags),):
        raise ModelError(
            f"expected labels and scores [n_clips, {len(tags)}]. Received: {labels.shape} and {scores.shape}."
        )
    rows = []
    for index, tag in enumerate(tags):
        known = ~np.isnan(labels[:, index])
        present, found = labels[known, index] > positive, scores[known, index]
        n_positive, n_negative = int(present.sum()), int((~present).sum())
        both = n_positive > 0 and n_negative > 0
        rows.append(
            {
                "tag": tag,
                "roc_auc": float(roc_auc_score(present, found)) if both else float("nan"),
                "pr_auc": float(average_precision_score(present, found)) if both else float("nan"),
                "n_positive": n_positive,
                "n_negative": n_negative,
            }
        )
    return TagTable(rows)


def counted_tags(table: TagTable, min_positives: int = 1) -> npt.NDArray[Any]:
    """Which tags count in macro means, bool [n_tags].

    Tags with fewer than `min_positives` clips of either kind do not count, unless that leaves none.
    """
    scored = np.isfinite(table["roc_auc"].astype(float))
    enough = scored & (np.minimum(table["n_positive"], table["n_negative"]) >= min_positives)
    return enough if enough.any() else scored


def macro(table: TagTable, column: str, min_positives: int = 1) -> float:
    """Mean of a column over the tags that count (`counted_tags`); NaN where none does."""
    counted = counted_tags(table, min_positives)
    return float(table[column].astype(float)[counted].mean()) if counted.any() else float("nan")


def _number(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_number(number) for number in value] if isinstance(value, tuple) else _number(value)


def _bounds(value: Any) -> Any:
    """The inverse of `_plain`."""
    if isinstance(value, Mapping):
        return {name: _bounds(inner) for name, inner in value.items()}
    return tuple(map(_or_nan, value)) if isinstance(value, list) else value


def _or_nan(value: Any) -> Any:
    return float("nan") if value is None else value
