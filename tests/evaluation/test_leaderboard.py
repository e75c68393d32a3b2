"""`leaderboard`: order, distance from the first, files, and what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from test_compare import pair, report_of

import keras_tagger as kt
from keras_tagger.errors import ModelError
from keras_tagger.evaluation.compare import compare


@pytest.fixture(scope="module")
def reports():
    worse, better = pair(gain=1.0)
    labels = better.clip_scores.labels
    return {"worse": worse, "better": better, "perfect": report_of(labels, labels + 0.0)}


def test_order_and_distance(reports) -> None:
    board = kt.leaderboard(reports, resamples=50, seed=3)
    assert [row["model"] for row in board] == ["perfect", "better", "worse"]
    assert (board.best, board.by, len(board)) == ("perfect", "roc_auc", 3)
    first, _, last = board
    assert "behind" not in first
    assert last["behind"] == pytest.approx(reports["worse"].roc_auc - 1.0)
    expected = compare(reports["perfect"], reports["worse"], 50, 3).numbers["roc_auc"]
    assert (last["low"], last["high"], last["p_value"]) == (expected.low, expected.high, expected.p_value)
    values = {name: {"training.seed": seed} for seed, name in enumerate(reports)}
    by_seed = kt.leaderboard(reports, "training.seed", 10, values=values)
    assert [row["training.seed"] for row in by_seed] == [2, 1, 0]


def test_text_and_files(reports, tmp_path: Path) -> None:
    board = kt.leaderboard(reports, "pr_auc", 10)
    assert str(board).splitlines()[1].split()[:3] == ["perfect", "1.0000", "1.0000"]
    assert "Ordered by PR-AUC." in str(board)
    board.save(tmp_path / "board.csv")
    board.save(tmp_path / "board.html")
    with (tmp_path / "board.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["pr_auc"]) for row in rows] == [row["pr_auc"] for row in board]
    page = (tmp_path / "board.html").read_text("utf-8")
    assert page.index("perfect") < page.index("better") < page.index("worse")
    assert "<td" in board._repr_html_()
    assert list(board.to_dataframe()["model"]) == ["perfect", "better", "worse"]
    with pytest.raises(ModelError, match=r"expected a path that ends in \.csv or \.html\. Received"):
        board.save(tmp_path / "board.txt")


def test_wrong_reports(reports) -> None:
    for wrong, message in (
        ([], "expected at least one report"),
        ("runs/mine", "expected a list of reports. Received: 'runs/mine'"),
        (["runs/a", "runs/a"], "expected different reports. Received: runs/a twice"),
    ):
        with pytest.raises(ModelError, match=message):
            kt.leaderboard(wrong)
    with pytest.raises(ModelError, match="by: expected one of roc_auc, pr_auc. Received: 'accuracy'"):
        kt.leaderboard(reports, "accuracy")
    other = report_of(np.eye(2), np.eye(2), ("x", "y"))
    with pytest.raises(ModelError, match="expected two reports on the same clips"):
        kt.leaderboard({**reports, "other": other}, resamples=10)
