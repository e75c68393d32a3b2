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

from keras_tagger.train.checkpoint import read_progress
from keras_tagger.train.fit import fit

# Everything random is on; six steps an epoch, a checkpoint every two.
CONFIG = tiny.merged(
    tiny.CONFIG,
    {
        "name": "resumed",
        "model": {"encoder": {"n_layers": 1, "dropout": 0.2, "attention_dropout": 0.2}, "head": {"dropout": 0.2}},
        "training": {
            **{"epochs": 3, "batch_size": 4, "checkpoint_steps": 2},
            "augment": {
                **{"gain_db": 6.0, "mixup_alpha": 0.4},
                **{"n_time_masks": 1, "time_mask_frames": 10, "n_freq_masks": 1, "freq_mask_bins": 4},
            },
        },
        "board": {"preview_clips": 0},
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


@pytest.fixture(scope="module")
def uninterrupted(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return fit(CONFIG, tones, run_dir=tmp_path_factory.mktemp("whole") / "run")


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


def test_after_kill_9_in_the_middle_of_an_epoch(uninterrupted: Any, tones: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "killed" / "run"
    # Per epoch: after steps 2 and 4 (and not 6, the last), and at its end; the fourth is in the second epoch.
    process = subprocess.run(
        [sys.executable, "-c", VICTIM, json.dumps(CONFIG), os.fspath(tones), os.fspath(run_dir), "4"],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.returncode == -signal.SIGKILL, process.stderr[-2000:]
    progress = read_progress(run_dir / "checkpoints" / "last.npz")
    assert (progress.epoch, progress.step) == (1, 2)
    assert not (run_dir / "report.json").exists()
    assert_same_run(fit(CONFIG, tones, run_dir=run_dir, resume=True), uninterrupted)


@pytest.mark.parametrize("death", ["after the best model, before the checkpoint", "before the first checkpoint"])
def test_after_an_interruption_elsewhere(
    uninterrupted: Any, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, death: str
) -> None:
    from keras_tagger.train import loop

    save, calls = loop.save_checkpoint, []

    def interrupted(*arguments: Any) -> None:
        calls.append(arguments)
        # The sixth checkpoint is that of the second epoch's end.
        if len(calls) == (6 if "best" in death else 1):
            raise KeyboardInterrupt
        save(*arguments)

    run_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(CONFIG, tones, run_dir=run_dir)
    assert_same_run(fit(CONFIG, tones, run_dir=run_dir, resume=True), uninterrupted)


def test_resume_without_a_run_starts_one(uninterrupted: Any, tones: Path, tmp_path: Path) -> None:
    found = fit(CONFIG, tones, run_dir=tmp_path / "run", resume=True)
    assert_same_run(found, uninterrupted)


def test_another_seed_gives_other_weights(uninterrupted: Any, tones: Path, tmp_path: Path) -> None:
    other = fit(CONFIG, tones, run_dir=tmp_path / "run", **{"training.seed": 4, "training.epochs": 1})
    assert other.history[0]["loss"] != pytest.approx(uninterrupted.history[0]["loss"], abs=1e-4)
