"""The command `distill`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    """A student and a teacher with random weights."""
    found = {}
    for seed, name in enumerate(("student", "teacher")):
        found[name] = tmp_path / f"{name}.keras"
        tiny.random_tagger(tiny.LEARNER, tags=("high", "low", name), seed=seed).save(found[name])
    return found


@pytest.mark.usefixtures("eagerly")
def test_distill_reports_and_resumes(call: Any, tones: Path, models: dict[str, Path], tmp_path: Path) -> None:
    command = ("distill", "--data", tones, "--teacher", models["teacher"], "--init", models["student"])
    command += ("--run-dir", tmp_path / "run", "--epochs", 1)
    command += ("--set", "board.preview_clips=0", "--set", "board.embedding_clips=0")
    status, out, err = call(*command, "--json")
    found = json.loads(out)
    assert status == (0 if found["improved"] else 1), err
    assert (found["split"], found["n_clips"], found["kept"]) == ("test", 6, ["student"])
    assert found["matched"] == {"high": "high", "low": "low"}
    # A finished run is reported again.
    again, out, _ = call(*command, "--resume")
    assert again == status
    assert out.splitlines()[0] == "6 clips of split test, 2 tags"
    assert found["verdict"] in out
    assert out.splitlines()[-1] == f"run directory: {tmp_path / 'run'}"
    status, out, _ = call("tag", tones.parent / "test_low_0.wav", "--model", tmp_path / "run", "--top", 3)
    assert status == 0
    assert all(tag in out for tag in ("high", "low", "student"))


def test_mistakes_are_one_sentence(call: Any, models: dict[str, Path], tmp_path: Path) -> None:
    command = ("distill", "--data", tmp_path / "none", "--teacher", models["teacher"], "--init", models["student"])
    status, _, err = call(*command)
    assert status == 1
    assert err.startswith("keras-tagger: expected a manifest or a folder. Received: ")
    status, _, err = call(*command, "--held_out", "1.5")
    assert status == 1
    assert "data.split.test: expected 0 <= share < 1. Received: 1.5" in err
    assert call("distill", "--teacher", "musicnn")[0] == 2
