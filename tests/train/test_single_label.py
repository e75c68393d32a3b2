"""Exclusive tags: GTZAN's layout to softmax, accuracy, heat maps and a served model, by the same model class."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import public_sets as sets
import tiny
from keras_tagger.config import load_config
from keras_tagger.data.datasets import open_dataset
from keras_tagger.data.datasets.vocabularies import GTZAN_10
from keras_tagger.data.manifest import Clip, Manifest
from keras_tagger.errors import ManifestError
from keras_tagger.evaluation.compare import compare
from keras_tagger.evaluation.evaluate import evaluate
from keras_tagger.tagger import load
from keras_tagger.train.fit import fit
from tiny import LEARNER, RATE, merged

PITCHES = {"blues": 150.0, "disco": 750.0, "rock": 3000.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sets.make_gtzan(tmp_path_factory.mktemp("gtzan"), {"train": 4, "valid": 2, "test": 2})


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    config = merged(
        LEARNER, {"name": "genres", "data": {"dataset": "gtzan", "root": str(root)}, "board": tiny.NO_BOARD}
    )
    return fit(config, run_dir=tmp_path_factory.mktemp("runs") / "genres")


def test_genres_are_learned(run: Any) -> None:
    losses = [row["loss"] for row in run.history]
    # Telling nothing apart costs the entropy of one of ten, and of one of three once it is known which occur.
    assert losses[0] < np.log(10) * 1.5
    # Of held-out clips: the loss of a step's few crops goes up and down, with the rounding of the processor.
    assert run.history[-1]["valid_loss"] < 0.3
    assert (run.report.split, run.report.n_clips, run.report.accuracy) == ("test", 6, 1.0)
    assert run.report.intervals["accuracy"] == (1.0, 1.0)
    for genre, pitch in PITCHES.items():
        assert run.tagger.tag((tiny.tone(pitch, 1.3, 99), RATE), top=1).names == (genre,)


def test_what_the_run_keeps(run: Any) -> None:
    assert load_config(run.dir / "config.yaml").model.head.activation == "softmax"
    assert (run.dir / "tags.txt").read_text().split() == list(GTZAN_10)
    with (run.dir / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["valid_accuracy"]) for row in rows] == [row["valid_accuracy"] for row in run.history]
    best = max(row["valid_accuracy"] for row in run.history)
    assert run.history[run.report.training["best_epoch"] - 1]["valid_accuracy"] == best
    content = json.loads((run.dir / "report.json").read_text())
    assert content["accuracy"] == 1.0
    assert "accuracy" in (run.dir / "report.html").read_text()


def test_scores_are_a_distribution_everywhere(run: Any, tmp_path: Path, export_only: Any) -> None:
    export_only("serving_default", "contributions")
    wave = tiny.tone(400.0, 1.7, 5)
    loaded = load(run.dir)
    scores = loaded.scores((wave, RATE))
    np.testing.assert_allclose(scores.sum(), 1.0, atol=1e-6)
    size = loaded.model.window_samples
    logits = loaded.model(wave[np.newaxis, :size], training=False)
    found = loaded.model.analyze(wave[np.newaxis, :size], ("tags", "contributions"))
    np.testing.assert_allclose(found["tags"], tf.nn.softmax(logits), atol=1e-6)
    np.testing.assert_allclose(tf.reduce_sum(found["contributions"], axis=1), 1.0, atol=1e-5)
    heatmap = loaded.contributions((wave, RATE))
    np.testing.assert_allclose(heatmap.values.sum(axis=0), 1.0, atol=1e-5)
    served = tf.saved_model.load(str(loaded.export(tmp_path / "exported"))).signatures
    answer = served["serving_default"](waveform=tf.constant(wave[np.newaxis]))
    np.testing.assert_allclose(answer["tags"][0], scores, atol=1e-5)
    answer = served["contributions"](waveform=tf.constant(wave[np.newaxis]))
    np.testing.assert_allclose(answer["contributions"][0], heatmap.values, atol=1e-5)


def test_accuracy_is_counted_by_hand(run: Any, root: Path) -> None:
    """With labels that are wrong for two clips, and one clip of two genres, which cannot be right or wrong."""
    clips = list(open_dataset("gtzan", root).select("test").clips)
    clips[0] = Clip(clips[0].path, {"jazz": 1.0}, split="test")
    clips[1] = Clip(clips[1].path, {"pop": 1.0}, split="test")
    clips[2] = Clip(clips[2].path, {"rock": 1.0, "metal": 1.0}, split="test")
    data = Manifest(tuple(clips), GTZAN_10)
    report = evaluate(run.tagger, data, progress=False, resamples=20)
    assert report.accuracy == pytest.approx(3 / 5)
    assert "accuracy 0.6000" in str(report)
    # The model's other genres take part, though the data do not have them.
    some = Manifest(tuple(clips[3:]), ("blues", "disco", "rock"))
    assert evaluate(run.tagger, some, progress=False, resamples=0).accuracy == 1.0
    assert compare(report, report, resamples=20).numbers["accuracy"].difference == 0.0


def test_a_model_of_tags_has_no_accuracy(tagger: Any, tones: Path) -> None:
    report = evaluate(tagger, tones, progress=False, resamples=0)
    assert report.accuracy is None
    assert "accuracy" not in report.to_dict()


def test_data_with_more_than_one_tag_are_refused(tones: Path, tmp_path: Path) -> None:
    softmax = merged(LEARNER, {"model": {"head": {"activation": "softmax"}}})
    for tags, found in (({"low": 1.0, "mid": 1.0}, "low:1, mid:1"), ({"low": float("nan")}, "low:nan")):
        data = Manifest((Clip(str(tones.parent / "train_low_0.wav"), tags, split="train"),), ("low", "mid"))
        with pytest.raises(
            ManifestError, match=rf"^model\.head\.activation: expected exactly one tag .* Received: {found} of "
        ):
            fit(softmax, data, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("eagerly")
def test_softmax_starts_from_a_model_of_tags(tagger: Any, root: Path, tmp_path: Path) -> None:
    """The body is the init's; its activation is no weight."""
    tagger.save(tmp_path / "init.keras")
    config = {
        "data": {"dataset": "gtzan", "root": str(root)},
        "training": {"epochs": 1, "batch_size": 8, "freeze": "all_but_head"},
        "board": tiny.NO_BOARD,
    }
    run = fit(config, run_dir=tmp_path / "run", init=tmp_path / "init.keras")
    assert run.tagger.config.model.head.activation == "softmax"
    of_init, of_run = (model_of.model.encoder.weights[0].numpy() for model_of in (tagger, run.tagger))
    np.testing.assert_array_equal(of_init, of_run)
