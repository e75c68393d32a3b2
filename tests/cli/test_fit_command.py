"""The command `fit`, and `evaluate` on its run."""

from __future__ import annotations

import csv
import json

import pytest

import tiny


@pytest.mark.usefixtures("eagerly")
def test_fit_set_resume_evaluate(call, tones, tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps(tiny.merged(tiny.CONFIG, {"training": {"epoch_crops": 8}})))
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


def test_fit_and_sweep_need_music(call, tmp_path):
    for command in (("fit",), ("sweep", "--grid", "training.seed=0,1")):
        status, _, err = call(*command)
        assert status == 1
        assert "expected a configuration or --data with music" in err
    status, _, err = call("sweep", tmp_path / "none.yaml", "--grid", "training.seed=0,1")
    assert status == 1
    assert "config: expected a YAML file or one of albums, demo, finetune, " in err
    status, _, err = call("sweep", "demo", "--grid", "training.precision=float32,float8", "--sweep_dir", tmp_path / "s")
    assert status == 1
    assert "training.precision: expected one of float32, mixed_bfloat16, mixed_float16. Received: 'float8'." in err
    assert not (tmp_path / "s").exists()
