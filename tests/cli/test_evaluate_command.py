"""The commands `evaluate` and `compare`."""

from __future__ import annotations

import csv
import json

import pytest

import public_sets as sets
import tiny
from keras_tagger.evaluation.evaluate import evaluate


def test_evaluate_and_compare(call, tiny_run, tones, tmp_path):
    common = ("evaluate", tiny_run.dir, "--data", tones, "--split", "valid")
    options = ("--positive", 0.4, "--min_positives", 2, "--n_chunks", 16, "--resamples", 30, "--seed", 3)
    status, out, _ = call(*common, *options, "--json", "--out", tmp_path / "chunks")
    found = json.loads(out)
    expected = evaluate(
        *(tiny_run.tagger, tones, "valid", 0.4, 2, False),
        **{"n_chunks": 16, "resamples": 30, "seed": 3},
    )
    assert status == 0
    assert found["pr_auc"] == pytest.approx(expected.pr_auc)
    assert found["roc_auc"] == pytest.approx(expected.roc_auc)
    assert (found["n_chunks"], found["split"], found["n_clips"]) == (16, "valid", 6)
    assert (found["intervals"]["seed"], found["intervals"]["resamples"]) == (3, 30)
    for column in ("roc_auc", "pr_auc"):
        assert found["intervals"][column] == pytest.approx(list(expected.intervals[column]))
    assert json.loads((tmp_path / "chunks" / "report.json").read_text()) == found
    status, out, _ = call(*common, "--out", tmp_path / "windows")
    assert status == 0
    assert "6 clips of split valid: macro ROC-AUC" in out
    assert "16 evenly spaced chunks" in (tmp_path / "chunks" / "report.html").read_text()
    status, _, err = call("compare", tmp_path / "chunks", tmp_path / "windows")
    assert status == 1
    assert "expected the same label threshold in both reports. Received: 0.4 and 0.5." in err
    status, _, _ = call(*common, "--n_chunks", 2, "--out", tmp_path / "two")
    assert status == 0
    how = ("--resamples", 50, "--seed", 4)
    status, out, _ = call("compare", tmp_path / "windows", tmp_path / "two", *how)
    assert status == 0
    assert "Paired bootstrap over clips, 50 resamples, seed 4; " in out
    assert out.startswith(f"A: {tmp_path / 'windows'}\nB: {tmp_path / 'two'}\n6 clips of both, 3 tags\n")
    status, out, _ = call("compare", tmp_path / "two", tmp_path / "two", "--json")
    same = json.loads(out)
    assert (same["roc_auc"]["difference"], same["roc_auc"]["p_value"]) == (0.0, 1.0)
    assert (same["resamples"], same["seed"]) == (1000, 0)
    # Of three, and of what lies beside them, a leaderboard. A run is measured on its own clips.
    status, out, _ = call("evaluate", tiny_run.dir, "--split", "valid", "--out", tmp_path / "own")
    assert status == 0
    assert "6 clips of split valid: macro ROC-AUC" in out
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "prepared" / "0123456789ab").mkdir(parents=True)
    several = (tmp_path / name for name in ("windows", "two/report.json", "own", "notes.txt", "prepared"))
    status, out, _ = call("compare", *several, *how, "--by", "pr_auc", "--out", tmp_path / "board.csv", "--json")
    assert status == 0
    board = json.loads(out)
    assert (board["by"], [row["rank"] for row in board["models"]]) == ("pr_auc", [1, 2, 3])
    with (tmp_path / "board.csv").open(newline="") as file:
        assert [row["model"] for row in csv.DictReader(file)] == [row["model"] for row in board["models"]]
    status, _, err = call("compare", tmp_path / "two", tmp_path / "notes.txt")
    assert status == 1
    assert "expected at least two reports" in err


def test_evaluate_leaves_rare_tags_out_of_the_means(call, tmp_path):
    """One tag has one clip, the others two; the tagger is a random one, so that no measure is perfect."""
    tagger = tiny.random_tagger()
    tagger.save(tmp_path / "random.keras")
    manifest = tiny.write_tones(tmp_path / "tones", {"valid": 2})
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))
    expected = [evaluate(tagger, manifest, "valid", min_positives=least) for least in (1, 2)]
    assert abs(expected[0].pr_auc - expected[1].pr_auc) > 1e-3
    for least, report in zip((1, 2), expected, strict=True):
        options = ("--data", manifest, "--split", "valid", "--min_positives", least, "--resamples", 0, "--json")
        status, out, _ = call("evaluate", tmp_path / "random.keras", *options)
        assert status == 0
        assert json.loads(out)["pr_auc"] == pytest.approx(report.pr_auc)


def test_evaluate_looks_first_whether_it_can_write(call, tmp_path):
    """Before the model is loaded, which is not even there."""
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        status, _, err = call("evaluate", tmp_path / "none", "--data", "none.csv", "--out", out)
        assert status == 1
        assert f"out: expected a writable directory. Received: {out}, but {tmp_path / 'file'} is not" in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_evaluate_does_not_write_over_its_inputs(call, tiny_run, tmp_path):
    (tmp_path / "report.csv").write_text("path,tags\na.wav,low\n")
    status, _, err = call("evaluate", tiny_run.dir, "--data", tmp_path / "report.csv", "--out", tmp_path)
    assert status == 1
    assert err.startswith("keras-tagger: --out: expected a file that is not an input. Received: ")
    assert (tmp_path / "report.csv").read_text() == "path,tags\na.wav,low\n"
    before = (tiny_run.dir / "report.json").read_bytes()
    status, _, err = call("evaluate", tiny_run.dir, "--data", "demo", "--out", tiny_run.dir)
    assert status == 1
    assert err.startswith("keras-tagger: --out: expected a file that is not an input. Received: ")
    assert (tiny_run.dir / "report.json").read_bytes() == before


def test_evaluate_a_data_set_by_name(call, tiny_run, tmp_path):
    root = sets.make_gtzan(tmp_path)
    status, _, err = call("evaluate", tiny_run.dir, "--data", "gtzan", "--root", root)
    assert status == 1
    assert "expected data with some of the model's tags (high, low, mid). Received: blues, classical" in err
    renamed = tiny_run.tagger.select(["low", "mid", "high"], {"low": "blues", "mid": "disco", "high": "rock"})
    renamed.save(tmp_path / "genres.keras")
    (tmp_path / "genres" / "rock" / "rock.00002.wav").unlink()
    arguments = ("evaluate", tmp_path / "genres.keras", "--data", "gtzan", "--root", root, "--split", "test")
    status, _, err = call(*arguments)
    assert status == 1
    assert "without 1 of them (first: rock/rock.00002.wav)" in err
    status, out, _ = call(*arguments, "--allow_missing", "--resamples", 0)
    assert status == 0
    assert out.startswith("2 clips of split test: macro ROC-AUC 1.0000, macro PR-AUC 1.0000\n")
