"""`Report`: how good a tagger is on a set of clips. scikit-learn computes the numbers."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_tagger.errors import ModelError
from keras_tagger.files import replacing

COLUMNS = ("tag", "roc_auc", "pr_auc", "n_positive", "n_negative")


class TagTable:
    """One row per tag: `table["roc_auc"]` is a column (numpy), iteration gives rows (dict), `len` counts them."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = [{name: row[name] for name in COLUMNS} for row in rows]

    columns = COLUMNS

    def __getitem__(self, column: str) -> np.ndarray:
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
    """Measured on whole clips, each scored as the mean over its windows.

    Attributes:
        roc_auc, pr_auc: macro means over the tags that have clips of both kinds, enough of them (NaN if none has).
        per_tag: `TagTable` of ROC-AUC, PR-AUC (average precision) and counts; NaN for tags left out of the mean.
        n_clips: clips scored.
        split: the split they are from.
        failed: files left out, each with `path` and `reason`.
        training: what `fit` adds: epochs, speed and so on.
    """

    roc_auc: float
    pr_auc: float
    per_tag: TagTable
    n_clips: int
    split: str
    failed: tuple[Mapping[str, str], ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; numbers that do not exist are None."""
        return {
            "split": self.split,
            "n_clips": self.n_clips,
            "n_tags_scored": int(np.isfinite(self.per_tag["roc_auc"].astype(float)).sum()),
            "roc_auc": _number(self.roc_auc),
            "pr_auc": _number(self.pr_auc),
            "per_tag": [{name: _number(value) for name, value in row.items()} for row in self.per_tag],
            "failed": [dict(entry) for entry in self.failed],
            "training": {name: _number(value) for name, value in self.training.items()},
        }

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write `report.json` and `report.csv` (the table) into a directory, each whole or not at all."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        content = self.to_dict()
        with replacing(folder / "report.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(content["per_tag"])
        with replacing(folder / "report.json") as path:
            path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def __str__(self) -> str:
        head = (
            f"{self.n_clips} clips of split {self.split}: "
            f"macro ROC-AUC {self.roc_auc:.4f}, macro PR-AUC {self.pr_auc:.4f}"
        )
        failed = [f"left out {entry['path']}: {entry['reason']}" for entry in self.failed]
        return "\n".join([head, str(self.per_tag), *failed])


def load_report(path: str | os.PathLike[str]) -> Report:
    """Read a `report.json`."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    rows = [
        {name: float("nan") if value is None else value for name, value in row.items()} for row in content["per_tag"]
    ]
    nan = float("nan")
    return Report(
        nan if content["roc_auc"] is None else content["roc_auc"],
        nan if content["pr_auc"] is None else content["pr_auc"],
        TagTable(rows),
        content["n_clips"],
        content["split"],
        tuple(content["failed"]),
        content["training"],
    )


def score(labels: np.ndarray, scores: np.ndarray, tags: Sequence[str], positive: float = 0.5) -> TagTable:
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


def macro(table: TagTable, column: str, min_positives: int = 1) -> float:
    """Mean of a column over the tags where it exists; NaN where it does for none.

    Tags with fewer than `min_positives` clips of either kind do not count, unless that leaves none.
    """
    values = table[column].astype(float)
    enough = np.minimum(table["n_positive"], table["n_negative"]) >= min_positives
    values = values[enough] if np.isfinite(values[enough]).any() else values
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _number(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
