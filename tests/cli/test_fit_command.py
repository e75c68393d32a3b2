"""The command `fit`, and `evaluate` on its run."""

from __future__ import annotations

import csv
import json

import pytest

import tiny


def test_fit_set_resume_evaluate(call, tones, tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps(tiny.CONFIG))
    fit = ("fit", config, "--data", tones, "--run_dir", tmp_path / "run", "--set", "training.epochs=1")
    status, out, _ = call(*fit)
    assert status == 0
    assert out.startswith("6 clips of split test: macro ROC-AUC ")
    assert out.splitlines()[-1] == f"run directory: {tmp_path / 'run'}"
    written = json.loads((tmp_path / "run" / "report.json").read_text())
    assert written["training"]["epochs"] == 1
    status, _, err = call(*fit)
    assert status == 1
    assert "which holds a run" in err
    assert call(*fit, "--resume")[0] == 0
    status, out, _ = call(
        "evaluate", tmp_path / "run", "--data", tones, "--split", "valid", "--out", tmp_path / "report"
    )
    assert status == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (report["split"], report["n_clips"]) == ("valid", 6)
    (row,) = csv.DictReader((tmp_path / "run" / "history.csv").open(newline=""))
    assert report["roc_auc"] == pytest.approx(float(row["valid_roc_auc"]))
    assert f"{report['roc_auc']:.4f}" in out
