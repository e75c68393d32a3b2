"""The history of a run: one row per epoch, `history.csv`."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_tagger.files import write_csv

HISTORY = (
    *("epoch", "loss", "valid_loss", "valid_roc_auc", "valid_pr_auc", "learning_rate"),
    *("seconds", "audio_seconds_per_second", "input_wait_share"),
)
"""The columns. Runs with exclusive tags also have `valid_accuracy`. Without a validation split, the scores are those
of the training clips: `train_roc_auc`, `train_pr_auc`, `train_accuracy`. `loss` is the mean over the
steps of the epoch, with everything that training adds; `valid_loss` is the cross-entropy of the clips' scores."""


def write_history(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write all rows; the cell of an undefined score is empty. Rows of an older version may lack columns."""
    write_csv(
        path,
        list(dict.fromkeys(name for row in reversed(rows) for name in row)),
        [{name: "" if math.isnan(value) else value for name, value in row.items()} for row in rows],
    )


def read_history(path: Path) -> list[dict[str, float]]:
    """Read all rows; return none if the file does not exist. An undefined score is NaN."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(file)]
    return [{**row, "epoch": int(row["epoch"])} for row in rows]
