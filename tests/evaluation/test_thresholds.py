"""Thresholds against brute force, and evidence against counting."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from keras_tagger.data.manifest import read_manifest
from keras_tagger.data.prepare import prepare
from keras_tagger.data.prepared import Prepared
from keras_tagger.evaluation import thresholds as module
from keras_tagger.evaluation.thresholds import best_threshold, calibrate

RATE = 16000


def f1(truth: np.ndarray, scores: np.ndarray, threshold: float) -> float:
    found = scores >= threshold
    return 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 6], ids=["ties", "distinct"])
def test_best_threshold_is_the_best(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(200) < 0.2
    scores = np.round(rng.random(200) * 0.7 + 0.3 * truth, digits).astype(np.float32)
    found = best_threshold(truth, scores)
    best = max(f1(truth, scores, threshold) for threshold in np.unique(scores))
    assert f1(truth, scores, found) == pytest.approx(best, abs=1e-12)


def test_best_threshold_lies_between_scores() -> None:
    truth = np.array([True, True, False, False])
    assert best_threshold(truth, np.array([0.9, 0.7, 0.3, 0.1])) == pytest.approx(0.5)
    # Cuts after the 1st and after the 4th clip have F1 of 2/3 each; the first of two middle ones is taken.
    truth = np.array([True, False, False, True])
    assert best_threshold(truth, np.array([0.8, 0.6, 0.4, 0.2])) == pytest.approx(0.7)
    # All clips have the tag: the lowest score is still present.
    assert best_threshold(np.array([True, True]), np.array([0.4, 0.2])) == pytest.approx(0.2)


@pytest.fixture(scope="module")
def prepared(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(read_manifest(tones), tmp_path_factory.mktemp("prepared"), RATE, 5.0)


def test_calibrate_a_trained_model(tiny_run: Any, prepared: Prepared) -> None:
    """Two clips of six have each tag; the model tells them apart."""
    info = calibrate(tiny_run.tagger, prepared, min_clips=2, progress=False)
    assert list(info) == list(tiny.TAGS)
    scores = np.stack([tiny_run.tagger.scores((wave, RATE)) for _, wave in prepared.iter_clips("valid")])
    truth = prepared.labels("valid") > 0.5
    for column, tag in enumerate(tiny.TAGS):
        assert (info[tag].train_clips, info[tag].has_evidence, info[tag].calibrated) == (4, True, True)
        low, high = scores[~truth[:, column], column].max(), scores[truth[:, column], column].min()
        assert info[tag].threshold == pytest.approx((low + high) / 2, abs=1e-5)
    # Ten clips are asked for by default, and there are two.
    assert {entry.threshold for entry in calibrate(tiny_run.tagger, prepared, progress=False).values()} == {0.5}
    none = calibrate(tiny_run.tagger, prepared, None, positive=0.3)
    assert {(entry.threshold, entry.calibrated, entry.train_clips) for entry in none.values()} == {(0.3, False, 4)}


def test_unknown_labels_and_tags_without_evidence(
    tiny_run: Any, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels by hand: of "low" half are unknown, "high" is in no training clip, and "mid" is not in the data."""
    clips = {"train": np.zeros([12, 2], np.float32), "valid": np.zeros([6, 2], np.float32)}
    clips["train"][:5, 1] = 0.4
    clips["train"][5:, 1] = np.nan
    clips["valid"][:, 1] = [1, 1, np.nan, np.nan, 0, 0.2]
    clips["valid"][:, 0] = [1, 1, 1, 0, 0, 0]
    monkeypatch.setattr(Prepared, "labels", lambda self, split: clips[split])
    scores = {index: np.array([0.5, value, 0.5]) for index, value in enumerate([0.9, 0.6, 0.1, 1.0, 0.4, 0.5])}
    monkeypatch.setattr(module, "score_clips", lambda *arguments: (scores, []))
    data = dataclasses.replace(prepared, tags=("high", "low"))
    info = calibrate(tiny_run.tagger, data, positive=0.3, min_clips=2, progress=False)
    # Between 0.6 and 0.5, the known ones' scores; 1.0 and 0.1 are of clips that nothing is known of.
    assert info["low"].threshold == pytest.approx(0.55)
    assert (info["low"].calibrated, info["low"].train_clips) == (True, 5)
    assert (info["high"].has_evidence, info["high"].calibrated, info["high"].threshold) == (False, False, 0.3)
    assert (info["mid"].has_evidence, info["mid"].calibrated, info["mid"].train_clips) == (False, False, 0)
