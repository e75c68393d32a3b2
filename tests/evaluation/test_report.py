"""`Report` and its scores against scikit-learn and by hand."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from keras_tagger.errors import ModelError
from keras_tagger.evaluation.report import COLUMNS, Report, TagTable, load_report, macro, score

LABELS = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0.6]])
SCORES = np.array([[0.9, 0.1, 0.2], [0.4, 0.2, 0.7], [0.6, 0.3, 0.8], [0.1, 0.4, 0.3]])
TAGS = ("a", "none", "soft")


def test_scores_by_hand() -> None:
    table = score(LABELS, SCORES, TAGS)
    # a: of 2 x 2 pairs one is in the wrong order; precision is 1 at the first positive and 2/3 at the second.
    # soft: positives 0.2, 0.8, 0.3 against 0.7: one of three pairs; precisions 1, 2/3, 3/4.
    np.testing.assert_allclose(table["roc_auc"], [0.75, np.nan, 1 / 3])
    np.testing.assert_allclose(table["pr_auc"], [(1 + 2 / 3) / 2, np.nan, (1 + 2 / 3 + 3 / 4) / 3])
    assert list(table["n_positive"]) == [2, 0, 3]
    assert list(table["n_negative"]) == [2, 4, 1]
    np.testing.assert_allclose(macro(table, "roc_auc"), (0.75 + 1 / 3) / 2)
    assert [row["tag"] for row in table] == list(TAGS)
    assert len(table) == 3


def test_tags_of_too_few_clips_do_not_count_in_means() -> None:
    table = score(LABELS, SCORES, TAGS)
    assert macro(table, "roc_auc", min_positives=2) == 0.75  # soft has one negative
    np.testing.assert_allclose(macro(table, "roc_auc", min_positives=3), (0.75 + 1 / 3) / 2)  # none would be left


def test_unknown_labels_do_not_count() -> None:
    labels = LABELS.copy()
    labels[2, 0] = np.nan  # the one that is in the wrong order
    labels[:, 1] = np.nan
    table = score(labels, SCORES, TAGS)
    np.testing.assert_allclose(table["roc_auc"], [1.0, np.nan, 1 / 3])
    assert list(table["n_positive"]) == [2, 0, 3]
    assert list(table["n_negative"]) == [1, 0, 1]


def test_threshold_of_soft_labels() -> None:
    # A label at the threshold is not above it.
    assert list(score(LABELS, SCORES, TAGS, positive=0.6)["n_positive"]) == [2, 0, 2]
    table = score(LABELS, SCORES, TAGS, positive=0.7)
    assert list(table["n_positive"]) == [2, 0, 2]
    np.testing.assert_allclose(table["roc_auc"][2], roc_auc_score([1, 0, 1, 0], SCORES[:, 2]))


def test_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, scores = (rng.uniform(size=(50, 4)) < 0.3).astype(float), rng.uniform(size=(50, 4))
    table = score(labels, scores, "wxyz")
    for index in range(4):
        expected = roc_auc_score(labels[:, index], scores[:, index])
        np.testing.assert_allclose(table["roc_auc"][index], expected)
        expected = average_precision_score(labels[:, index], scores[:, index])
        np.testing.assert_allclose(table["pr_auc"][index], expected)


def test_macro_of_nothing_is_nan() -> None:
    assert np.isnan(macro(score(np.zeros((3, 2)), np.zeros((3, 2)), ("a", "b")), "pr_auc"))


def test_shapes_that_differ() -> None:
    with pytest.raises(ModelError, match=r"expected labels and scores \[n_clips, 2\]. Received: \(4, 3\)"):
        score(LABELS, SCORES, ("a", "b"))


def test_unknown_column() -> None:
    with pytest.raises(KeyError, match="expected one of tag, roc_auc, pr_auc"):
        score(LABELS, SCORES, TAGS)["auc"]


def make_report() -> Report:
    table = score(LABELS, SCORES, TAGS)
    return Report(
        macro(table, "roc_auc"),
        macro(table, "pr_auc"),
        table,
        4,
        "test",
        ({"path": "a.mp3", "reason": "broken"},),
        {"epochs": 3, "speed": np.float64(2.5), "bad": float("nan")},
    )


def test_save_and_load(tmp_path: Path) -> None:
    report = make_report()
    report.save(tmp_path / "run")
    content = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(content["roc_auc"], 13 / 24)
    assert (content["n_clips"], content["n_tags_scored"], content["split"]) == (4, 2, "test")
    assert content["per_tag"][1] == {"tag": "none", "roc_auc": None, "pr_auc": None, "n_positive": 0, "n_negative": 4}
    assert content["training"] == {"epochs": 3, "speed": 2.5, "bad": None}
    with (tmp_path / "run" / "report.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["tag"] for row in rows] == list(TAGS)
    np.testing.assert_allclose(float(rows[0]["roc_auc"]), 0.75)
    assert rows[1]["roc_auc"] == ""
    loaded = load_report(tmp_path / "run" / "report.json")
    assert loaded.to_dict() == report.to_dict()
    assert sorted(entry.name for entry in (tmp_path / "run").iterdir()) == ["report.csv", "report.json"]


def full_report() -> Report:
    """With accuracy, chunks and intervals, one of which does not exist."""
    both = {"roc_auc": (0.25, 0.75), "pr_auc": (0.5, 1.0)}
    nothing = dict.fromkeys(both, (float("nan"), float("nan")))
    intervals = {**{"level": 0.95, "resamples": 40, "seed": 2}, **both, "accuracy": (0.125, 0.5)}
    intervals["per_tag"] = {"a": both, "none": nothing, "soft": both}
    return dataclasses.replace(make_report(), accuracy=0.375, n_chunks=16, intervals=intervals)


def test_everything_of_a_report_is_saved_and_loaded(tmp_path: Path) -> None:
    report = full_report()
    report.save(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (content["accuracy"], content["n_chunks"]) == (0.375, 16)
    assert content["intervals"]["roc_auc"] == [0.25, 0.75]
    assert content["intervals"]["per_tag"]["none"] == {"roc_auc": [None, None], "pr_auc": [None, None]}
    loaded = load_report(tmp_path)
    assert (loaded.accuracy, loaded.n_chunks, loaded.failed) == (0.375, 16, report.failed)
    assert (loaded.roc_auc, loaded.pr_auc) == (report.roc_auc, report.pr_auc)
    assert np.isnan(loaded.intervals["per_tag"].pop("none")["pr_auc"]).all()
    del report.intervals["per_tag"]["none"]
    assert loaded.intervals == report.intervals
    # A report from before there were any has none of them.
    for name in ("accuracy", "n_chunks", "intervals"):
        del content[name]
    (tmp_path / "report.json").write_text(json.dumps(content), encoding="utf-8")
    loaded = load_report(tmp_path)
    assert (loaded.accuracy, loaded.n_chunks, loaded.intervals) == (None, 0, {})


def test_text_of_a_full_report() -> None:
    assert str(full_report()).splitlines()[0] == (
        "4 clips of split test, 16 chunks each: macro ROC-AUC 0.5417 (0.2500 to 0.7500), "
        "macro PR-AUC 0.8194 (0.5000 to 1.0000), accuracy 0.3750 (0.1250 to 0.5000)"
    )


def test_text_of_a_report() -> None:
    lines = str(make_report()).splitlines()
    assert lines[0] == "4 clips of split test: macro ROC-AUC 0.5417, macro PR-AUC 0.8194"
    assert lines[1].split() == ["tag", "ROC-AUC", "PR-AUC", "positive", "negative"]
    assert lines[2].split() == ["a", "0.750", "0.833", "2", "2"]
    assert lines[3].split() == ["none", "-", "-", "0", "4"]
    assert lines[-1] == "left out a.mp3: broken"


def test_empty_table_prints() -> None:
    assert str(TagTable([])).split() == ["tag", "ROC-AUC", "PR-AUC", "positive", "negative"]


def test_unknown_tags_are_listed_saved_and_loaded(tmp_path: Path) -> None:
    report = dataclasses.replace(make_report(), unknown_tags=("kazoo", "saw"))
    warning = "Not scored, because the model does not have these tags of the data: kazoo, saw."
    assert report.warning() == warning
    assert str(report).splitlines()[-1] == f"warning: {warning}"
    assert warning in report.to_html()
    report.save(tmp_path)
    assert load_report(tmp_path).unknown_tags == ("kazoo", "saw")
    many = dataclasses.replace(report, unknown_tags=tuple(f"t{index}" for index in range(13)))
    assert many.warning().endswith("t8, t9 and 3 more.")
    assert make_report().warning() == ""
    assert "unknown_tags" not in make_report().to_dict()


def test_what_is_not_scored_is_told_saved_and_loaded(tmp_path: Path) -> None:
    table = score(np.array([[1, 1], [1, 0], [1, 1]]), SCORES[:3, :2], ("always", "b"))
    report = dataclasses.replace(
        make_report(), per_tag=table, unknown_tags=("kazoo",), n_unknown_clips=2, missing_tags=("harp", "zither")
    )
    told = [
        "Not scored, because the model does not have these tags of the data: kazoo.",
        "Clips that have only such tags, and count as clips without the others: 2 of 4.",
        "Not scored, because no clip has these tags of the model: harp, zither.",
        "Not scored, because every clip has these tags: always.",
    ]
    assert report.warning() == " ".join(told)
    assert str(report).splitlines()[-4:] == [f"warning: {sentence}" for sentence in told]
    assert all(sentence in report.to_html() for sentence in told)
    report.save(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (content["n_unknown_clips"], content["missing_tags"]) == (2, ["harp", "zither"])
    assert load_report(tmp_path).warning() == report.warning()


def test_undefined_scores_are_called_so() -> None:
    report = dataclasses.replace(make_report(), roc_auc=float("nan"), pr_auc=float("nan"))
    assert str(report).splitlines()[0] == "4 clips of split test: macro ROC-AUC undefined, macro PR-AUC undefined"
    assert "nan" not in f"{report}{report!r}{report._repr_html_()}"


def test_scores_of_training_clips_are_told() -> None:
    told = "Measured on the training clips, which says nothing about new music."
    assert dataclasses.replace(make_report(), split="train").warning() == told
    # The report of `evaluate` does not know what the model was trained on.
    assert dataclasses.replace(make_report(), split="train", training={}).warning() == ""


def test_short_forms_for_notebooks() -> None:
    report = full_report()
    assert repr(report) == (
        "<Report: 4 clips of split test, 16 chunks each, macro ROC-AUC 0.5417, macro PR-AUC 0.8194, accuracy 0.3750>"
    )
    assert repr(report.per_tag) == "<TagTable: 3 tags>"
    html = dataclasses.replace(report, split="<b>", unknown_tags=("<i>",))._repr_html_()
    for shown in ("4 clips of split &lt;b&gt;", "0.5417", "0.2500 to 0.7500", "&lt;i&gt;"):
        assert shown in html
    assert ">soft</td>" in report.per_tag._repr_html_()


def test_table_as_a_dataframe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pandas installed: what is handed to it."""
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows, columns: (rows, columns)))
    rows, columns = make_report().per_tag.to_dataframe()
    assert columns == list(COLUMNS)
    assert [row["tag"] for row in rows] == list(TAGS)
