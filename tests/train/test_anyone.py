"""`fit` for everyone: Python data, no configuration, numbered directories, more epochs, and sweeps."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow as tf

import keras_tagger as kt
import tiny
from keras_tagger.data.manifest import Manifest, read_manifest
from keras_tagger.data.prepared import Prepared, PreparedClip
from keras_tagger.errors import ConfigError, ManifestError
from keras_tagger.train import fit as fit_module
from keras_tagger.train.checkpoint import read_progress
from keras_tagger.train.recipe import epochs_for, recipe

QUICK = tiny.merged(
    tiny.CONFIG,
    {
        "name": "quick",
        "audio": {"window_seconds": 0.5},
        "model": {"front_end": {"channels": [4, 8]}, "encoder": {"n_layers": 1}},
        # Two steps an epoch.
        "training": {"epochs": 1, "batch_size": 8, "epoch_crops": 16, "schedule": "constant"},
    },
)


@pytest.fixture
def clips(tones: Path) -> list[tuple[str, str, str]]:
    """Path, tag and split of a few of the tones: one of each tag for training, and as many for a test."""
    clips = read_manifest(tones).clips
    chosen = [
        next(clip for clip in clips if clip.split == split and tag in clip.tags)
        for split in ("train", "test")
        for tag in tiny.TAGS
    ]
    return [(clip.path, next(iter(clip.tags)), str(clip.split)) for clip in chosen]


def as_dataset(rows: list[tuple[str, str, str]]) -> tf.data.Dataset:
    waves = np.stack([soundfile.read(path, frames=8000, dtype="float32")[0] for path, *_ in rows])
    labels = np.array([[tag == name for name in tiny.TAGS] for _, tag, _ in rows], np.float32)
    return tf.data.Dataset.from_tensor_slices((waves, labels)).batch(2)


# tests/data/test_objects.py opens every kind.
SOURCES = {
    "list": lambda rows: [(path, [tag]) for path, tag, _ in rows],
    "dataset": as_dataset,
    "splits": lambda rows: {
        split: [(path, tag) for path, tag, of in rows if of == split] for split in ("train", "test")
    },
}


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("kind", SOURCES)
def test_python_data_train_and_evaluate(kind: str, clips: list[Any], tmp_path: Path) -> None:
    data = SOURCES[kind](clips)
    splits = {} if kind == "splits" else {"data.split.valid": 0.0, "data.split.test": 0.0}
    over = {**splits, "data.tags": list(tiny.TAGS)}
    run = kt.fit(QUICK, data, run_dir=tmp_path / "run", **over)
    assert run.tagger.tags == tiny.TAGS
    assert run.report.training["steps"] >= 1
    n_train = 3 if kind == "splits" else 6
    assert [run.tagger.info[tag].train_clips for tag in tiny.TAGS] == [n_train // 3] * 3
    # Measured again on the same clips, and on those that the run keeps.
    report = kt.evaluate(run.tagger, data, progress=False)
    kept = kt.evaluate(run.dir, progress=False)
    assert kept.split == {3: "test", 6: "all"}[n_train]
    assert report.n_clips == kept.n_clips == (3 if n_train == 3 else 6)
    assert report.roc_auc == pytest.approx(kept.roc_auc)
    assert report.roc_auc == pytest.approx(run.report.roc_auc)


def test_evaluate_needs_data(music: Any) -> None:
    with pytest.raises(ManifestError, match="data: expected labelled audio, or a run directory.*no data for compact"):
        kt.evaluate("compact")
    with pytest.raises(ManifestError, match="Received: no data for a model"):
        kt.evaluate(music)


@pytest.mark.usefixtures("eagerly")
def test_auto_numbers_and_no_configuration(
    clips: list[Any], tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fit_module, "INIT", os.fspath(tiny_run.dir))

    def tiny_recipe(data: Any, name: str) -> dict[str, Any]:
        # The shipped models would take a minute; their settings are those of the recipe.
        values = recipe(data, name)
        values["training"] |= {"init": os.fspath(tiny_run.dir), "epoch_crops": 8}
        return {**values, "board": tiny.NO_BOARD}

    monkeypatch.setattr(fit_module, "recipe", tiny_recipe)
    for path, tag, _ in clips:
        target = tmp_path / "my_music" / tag / Path(path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    first = kt.fit(data="my_music", **{"training.epochs": 1})
    again = kt.fit(data="my_music/", **{"training.epochs": 1})
    assert [os.fspath(run.dir) for run in (first, again)] == ["runs/my_music", "runs/my_music-2"]
    assert first.report.split == "valid"
    settings = first.tagger.config
    assert (settings.name, settings.training.freeze, settings.data.path) == ("my_music", "all_but_head", "my_music")
    # A run continues with its own settings; the last one if the directory is not named.
    more = kt.fit(resume=True, run_dir=first.dir, **{"training.epochs": 2})
    assert [row["epoch"] for row in more.history] == [1, 2]
    assert kt.fit(data="my_music", resume=True).dir == again.dir
    run = kt.fit(QUICK, "my_music", run_dir="auto")
    assert (os.fspath(run.dir), os.fspath(kt.fit(QUICK, "my_music", "auto").dir)) == ("runs/quick", "runs/quick-2")
    with pytest.raises(ManifestError, match="expected a manifest, a folder with labels.*Received: no data"):
        kt.fit()


def test_the_recipe_follows_the_number_of_clips() -> None:
    few, many = (recipe(Manifest((None,) * n, ()), "x") for n in (30, 300))  # type: ignore[arg-type]
    assert (few["training"]["freeze"], many["training"]["freeze"]) == ("all_but_head", "statistics")
    for values in (few, many):
        config = kt.load_config(values)
        assert config.model.front_end.kind == "pons"
        assert config.data.split.valid > 0


def test_the_recipe_hears_enough_crops() -> None:
    def prepared(n_clips: int, samples: int) -> Prepared:
        clips = [
            PreparedClip(i, f"{i}", f"{i}", "train", None, {"rock": 1.0}, 1.0, (samples,), "shard")
            for i in range(n_clips)
        ]
        return Prepared("", 16000, 30.0, ("rock",), tuple(clips), (), "")

    # Of few clips, 360 crops: 24 clips of a window in 15 epochs, 60 in 6; of songs, an epoch hears a part.
    assert epochs_for(prepared(24, 1000), 90, 1000) == 15
    assert epochs_for(prepared(60, 1000), 0, 1000) == 6
    assert epochs_for(prepared(2, 1000), 90, 1000) == 30
    assert epochs_for(prepared(90, 20_000), 90, 1000) == 4
    assert epochs_for(prepared(5000, 20_000), 1000, 1000) == 8
    assert epochs_for(prepared(5000, 20_000), 0, 1000) == 4


@pytest.mark.usefixtures("eagerly")
def test_more_epochs_are_those_of_one_run(few_tones: Path, tmp_path: Path) -> None:
    at_once = kt.fit(QUICK, few_tones, tmp_path / "once", **{"training.epochs": 2})
    kt.fit(QUICK, few_tones, tmp_path / "twice")
    later = kt.fit(QUICK, few_tones, tmp_path / "twice", True, **{"training.epochs": 2})
    for row, expected in zip(later.history, at_once.history, strict=True):
        for name in ("epoch", "loss", "valid_roc_auc", "learning_rate"):
            assert row[name] == pytest.approx(expected[name], rel=1e-5), name
    for one, other in zip(later.tagger.model.weights, at_once.tagger.model.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6, err_msg=one.path)
    assert later.report.training["epochs"] == 2
    assert kt.load_config(tmp_path / "twice" / "config.yaml").training.epochs == 2
    # Finished, and with fewer epochs than it has.
    assert kt.fit(QUICK, few_tones, tmp_path / "twice", True, **{"training.epochs": 2}).history == later.history
    with pytest.raises(ConfigError, match="training.epochs: expected at least 2, the epochs that .* has. Received: 1"):
        kt.fit(QUICK, few_tones, tmp_path / "twice", True)


@pytest.mark.usefixtures("eagerly")
def test_more_epochs_of_a_cosine(few_tones: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cosine = {"training.schedule": "cosine", "training.warmup_epochs": 0.0}
    kt.fit(QUICK, few_tones, tmp_path / "run", **cosine)
    with caplog.at_level("WARNING", logger="absl"):
        run = kt.fit(QUICK, few_tones, tmp_path / "run", True, **cosine, **{"training.epochs": 3})
    assert "goes on as a cosine over 3 epochs, while the first 1 were trained with a shorter one" in caplog.text
    # After a third, two thirds and all of one cosine; the first epoch ended at its own zero.
    rates = [row["learning_rate"] for row in run.history]
    np.testing.assert_allclose(rates, [0.0, 0.01 * 0.5 * (1 + np.cos(np.pi * 2 / 3)), 0.0], atol=1e-8)


def test_windows_have_at_least_two_tokens(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"audio.window_seconds: expected at least 0.128 s, 2 tokens of 0.064 s.*Received: 0.01"
    ):
        kt.fit(QUICK, tones, tmp_path / "run", **{"audio.window_seconds": 0.01})
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("eagerly")
def test_a_sweep_and_its_leaderboard(few_tones: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    grid = {"training.learning_rate": [0.001, 0.01]}
    board = kt.sweep(QUICK, grid, few_tones, folder)
    assert {row["model"] for row in board} == {"learning_rate=0.001", "learning_rate=0.01"}
    scores = [row["valid_roc_auc"] for row in board]
    assert (board.by, scores) == ("valid_roc_auc", sorted(scores, reverse=True))
    rates = [row["training.learning_rate"] for row in board]
    assert kt.load_config(folder / board.best / "config.yaml").training.learning_rate == rates[0]
    with (folder / "leaderboard.csv").open(newline="") as file:
        assert [row["model"] for row in csv.DictReader(file)] == [row["model"] for row in board]
    assert all(str(row["model"]) in (folder / "leaderboard.html").read_text("utf-8") for row in board)
    # Again, with one value more: only that one is trained.
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/model.keras")}
    wider = kt.sweep(QUICK, {"training.learning_rate": [0.001, 0.01, 0.1]}, few_tones, folder)
    assert len(wider) == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    total = read_progress(folder / "learning_rate=0.1" / "checkpoints" / "last.npz").total_steps
    assert total == read_progress(folder / "learning_rate=0.01" / "checkpoints" / "last.npz").total_steps > 0
    assert json.loads(json.dumps(wider.to_dict()))["by"] == "valid_roc_auc"


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({}, "grid: expected keys with the values to try. Received: none."),
        ({"training.epochs": 3}, "grid: expected a list of values of training.epochs. Received: 3."),
        ({"training.epochs": []}, "grid: expected a list of values of training.epochs. Received: []."),
        ({"training.seed": [1, 1]}, "grid: expected values that differ from each other. Received: some twice."),
        ({"training.epochs": [1, 0]}, "training.epochs: expected at least 1. Received: 0."),
        ({"training.epoch": [1]}, "training.epoch: unknown key."),
    ],
)
def test_wrong_grids(grid: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        kt.sweep(QUICK, grid, "nowhere", tmp_path / "sweep")
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "sweep").exists()
