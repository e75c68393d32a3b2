"""A run that is killed and resumed ends with the numbers of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from keras_tagger.train import loop
from keras_tagger.train.checkpoint import read_progress
from keras_tagger.train.fit import fit
from keras_tagger.train.history import read_history

# Everything random is on; seven steps an epoch, a checkpoint after the 2nd, 4th, 6th and at its end.
CONFIG = tiny.merged(
    tiny.CONFIG,
    {
        "name": "resumed",
        "model": {"encoder": {"n_layers": 1, "dropout": 0.2, "attention_dropout": 0.2}, "head": {"dropout": 0.2}},
        "training": {
            **{"epochs": 3, "checkpoint_steps": 2},
            "augment": {
                **{"gain_db": 6.0, "mixup_alpha": 0.4},
                **{"n_time_masks": 1, "time_mask_frames": 10, "n_freq_masks": 1, "freq_mask_bins": 4},
            },
        },
    },
)

# Dies, as by kill -9, right after the nth checkpoint.
VICTIM = """
import json, os, signal, sys
from keras_tagger.train import fit as fit_module, loop

config, data, run_dir, deaths = sys.argv[1:]
written = 0
save = loop.save_checkpoint

def save_and_die(*arguments):
    global written
    save(*arguments)
    written += 1
    if written == int(deaths):
        os.kill(os.getpid(), signal.SIGKILL)

loop.save_checkpoint = save_and_die
fit_module.fit(json.loads(config), data, run_dir=run_dir)
"""


def assert_same_run(found: Any, expected: Any) -> None:
    for one, other in zip(found.tagger.model.weights, expected.tagger.model.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6, rtol=1e-5, err_msg=one.path)
    for row, reference in zip(found.history, expected.history, strict=True):
        for name in ("epoch", "loss", "valid_roc_auc", "valid_pr_auc", "learning_rate"):
            assert row[name] == pytest.approx(reference[name], rel=1e-5, abs=1e-6), name
    first, second = (read_progress(run.dir / "checkpoints" / "last.npz") for run in (found, expected))
    assert (first.epoch, first.total_steps, first.best_epoch) == (second.epoch, second.total_steps, second.best_epoch)
    report, reference = found.report.to_dict(), expected.report.to_dict()
    assert report["roc_auc"] == pytest.approx(reference["roc_auc"], abs=1e-6)
    assert report["training"]["steps"] == reference["training"]["steps"]


def test_killed_twice(tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Resuming where there is no run starts one.
    uninterrupted = fit(CONFIG, tones, run_dir=tmp_path / "whole", resume=True)
    run_dir = tmp_path / "killed" / "run"

    # By kill -9 in the middle of the second epoch, after its first checkpoint.
    process = subprocess.run(
        [sys.executable, "-c", VICTIM, json.dumps(CONFIG), os.fspath(tones), os.fspath(run_dir), "5"],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.returncode == -signal.SIGKILL, process.stderr[-2000:]
    progress = read_progress(run_dir / "checkpoints" / "last.npz")
    assert (progress.epoch, progress.step) == (1, 2)
    assert not (run_dir / "report.json").exists()

    # Then at the end of that epoch, when history and best model are written and the checkpoint is not.
    save, calls = loop.save_checkpoint, []

    def interrupted(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(CONFIG, tones, run_dir=run_dir, resume=True)
    progress = read_progress(run_dir / "checkpoints" / "last.npz")
    assert (progress.epoch, progress.step) == (1, 6)
    assert len(read_history(run_dir / "history.csv")) == 2

    assert_same_run(fit(CONFIG, tones, run_dir=run_dir, resume=True), uninterrupted)
