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
from keras_tagger.errors import ModelError
from keras_tagger.evaluation import thresholds as module
from keras_tagger.evaluation.thresholds import (
    best_threshold,
    calibrate,
    false_alarm_threshold,
    thresholds_at_false_alarm_rate,
    thresholds_of_teacher,
)
from keras_tagger.tagger import Tagger
from keras_tagger.tags import TagInfo

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
        fit = (info[tag].rule, info[tag].false_alarm_rate, info[tag].clips_with, info[tag].clips_without)
        assert fit == ("f1", 0.0, 2, 4)
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
    low = info["low"]
    assert (low.rule, low.false_alarm_rate, low.clips_with, low.clips_without) == ("f1", 0.0, 2, 2)


def test_evidence_of_the_model_that_training_started_from(
    tiny_run: Any, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No clip is above 0.3: "high" has soft labels, "low" is absent everywhere, "mid" is not in the data."""
    labels = np.zeros([12, 2], np.float32)
    labels[:, 0] = np.linspace(0.0, 0.2, 12)
    labels[3:, 1] = np.nan
    monkeypatch.setattr(Prepared, "labels", lambda self, split: labels)
    data = dataclasses.replace(prepared, tags=("high", "low"))
    info = {tag: TagInfo(0.2, evidence_from="elder") for tag in tiny.TAGS}
    tagger = Tagger(tiny_run.tagger.model, tiny_run.tagger.config, info)
    inherited = TagInfo(0.2, train_clips=0, evidence_from="elder")
    assert calibrate(tagger, data, None, positive=0.3) == {
        "high": inherited,
        "low": TagInfo(0.3, has_evidence=False, train_clips=0),
        "mid": inherited,
    }
    # A clip of its own: the labels say what the threshold is, and where the evidence came from stays known.
    labels[5] = 0.9
    own = TagInfo(0.3, train_clips=1, evidence_from="elder")
    assert calibrate(tagger, data, None, positive=0.3) == {"high": own, "low": own, "mid": inherited}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 6], ids=["ties", "distinct"])
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3])
def test_false_alarm_threshold_is_the_best(seed: int, digits: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(200) < 0.2
    scores = np.round(rng.random(200) * 0.7 + 0.3 * truth, digits).astype(np.float32)
    every = np.append(np.unique(scores), 1.5)
    reached = scores >= every[:, np.newaxis]
    alarms, recalls = reached[:, ~truth].mean(axis=1), reached[:, truth].mean(axis=1)
    allowed = alarms <= rate + 1e-9
    found = scores >= np.float32(false_alarm_threshold(truth, scores, rate))
    assert found[truth].mean() == recalls[allowed].max()
    assert found[~truth].mean() == alarms[allowed & (recalls == recalls[allowed].max())].min()


def test_false_alarm_threshold_lies_between_scores() -> None:
    truth = np.array([True, True, False, False, False])
    # 0.6 costs no recall and has no false alarms, although one would be allowed.
    assert false_alarm_threshold(truth, np.array([0.9, 0.8, 0.4, 0.3, 0.2]), 0.34) == pytest.approx(0.6)
    assert false_alarm_threshold(truth, np.array([0.9, 0.2, 0.5, 0.3, 0.1]), 0.34) == pytest.approx(0.7)
    assert false_alarm_threshold(truth, np.array([0.9, 0.4, 0.5, 0.3, 0.1]), 0.34) == pytest.approx(0.35)
    # No clip with the tag is above those without it.
    assert false_alarm_threshold(truth, np.array([0.1, 0.1, 0.4, 0.3, 0.2]), 0.0) == pytest.approx(0.7)
    assert false_alarm_threshold(truth, np.array([0.1, 0.1, 1.0, 0.3, 0.2]), 0.0) == 1.0
    close = np.nextafter(np.float32(0.25), np.float32(1))
    found = false_alarm_threshold(np.array([True, False]), np.array([close, 0.25], np.float32), 0.0)
    assert np.float32(0.25) < np.float32(found) <= close
    # 0.29 * 100 is 28.999999999999996.
    many = np.arange(100)[::-1] / 200
    assert false_alarm_threshold(np.zeros(100, bool), many, 0.29) == pytest.approx(many[28] / 2 + many[29] / 2)


def made_clips(seed: int, clips: int, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of clips half of which have all tags; the scores of tags are nearly independent."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(clips) % 2, len(names)).reshape(clips, len(names)).astype(np.float32)
    return labels, (rng.random([clips, len(names)]) * 0.6 + labels * 0.3).astype(np.float32)


def test_each_tag_keeps_the_rate() -> None:
    names = ("guitar", "piano", "rare", "unknown")
    labels, scores = made_clips(0, 400, names)
    labels[9:, 2] = 0
    labels[:, 3] = np.nan
    labels[:100, 0] = np.nan
    before = {name: TagInfo(0.125, train_clips=7, evidence_from="elder") for name in names}
    info = thresholds_at_false_alarm_rate(before, labels, scores, 0.1)
    assert list(info) == list(names)
    # Fewer than ten clips have the tag, or nothing is known.
    assert (info["rare"], info["unknown"]) == (before["rare"], before["unknown"])
    for column, clips in ((0, slice(100, None)), (1, slice(None))):
        entry = info[names[column]]
        truth, own = labels[clips, column] > 0.5, scores[clips, column]
        assert entry.threshold == false_alarm_threshold(truth, own, 0.1)
        assert (entry.calibrated, entry.rule, entry.train_clips, entry.evidence_from) == (
            True,
            "false_alarms",
            7,
            "elder",
        )
        assert (entry.clips_with, entry.clips_without) == (truth.sum(), (~truth).sum())
        assert entry.false_alarm_rate == pytest.approx((own[~truth] >= entry.threshold).mean(), abs=1e-4)
        assert 0.08 < (entry.false_alarm_rate or 0) <= 0.1


def test_a_family_keeps_the_rate_together() -> None:
    names = ("guitar", "vocal", "voice", "female", "opera")
    labels, scores = made_clips(1, 400, names)
    # Nobody said whether they sing opera, and its threshold is low: a clip without voices lacks it too.
    labels[:, 4] = np.nan
    before = dict.fromkeys(names, TagInfo(0.3))
    alone = thresholds_at_false_alarm_rate(before, labels, scores, families=())
    info = thresholds_at_false_alarm_rate(before, labels, scores)
    without = scores[::2]

    def alarms(found: dict[str, TagInfo]) -> float:
        return float((without >= np.array([entry.threshold for entry in found.values()]))[:, 1:].any(axis=1).mean())

    assert alone["opera"] == before["opera"]
    assert alarms(alone) > 0.2
    assert 0.03 < alarms(info) <= 0.05
    assert info["guitar"] == alone["guitar"]
    assert all(info[name].threshold > alone[name].threshold for name in names[1:])
    # The same, lower rate for each.
    assert len({info[name].false_alarm_rate for name in names[1:]}) == 1
    assert (info["opera"].clips_with, info["opera"].clips_without) == (0, 200)
    # What keeps the rate already stays.
    assert thresholds_at_false_alarm_rate(info, np.where(labels > 0, np.nan, labels), scores) == info


def test_as_often_as_the_teacher() -> None:
    rng = np.random.default_rng(2)
    names = ("often", "seldom", "always", "unsure")
    teacher = rng.random([300, 4]) * [1.0, 1.0, 0.4, 0.2] + [0, 0, 0.31, 0]
    teacher[:, 1] = np.where(np.arange(300) < 9, 0.9, 0.0)
    teacher[:50, 0] = np.nan
    scores = np.clip(np.nan_to_num(teacher, nan=0.99) * 0.5 + rng.normal(0, 0.05, [300, 4]), 0, 1).astype(np.float32)
    before = dict.fromkeys(names, TagInfo(0.3))
    info = thresholds_of_teacher(before, teacher, scores, positive=0.4)
    has, known = teacher[:, 0] > 0.4, ~np.isnan(teacher[:, 0])
    often, present = info["often"], scores[:, 0] >= np.float32(info["often"].threshold)
    assert present[known].sum() == has.sum() == often.clips_with
    assert (often.rule, often.calibrated, often.clips_without) == ("teacher", True, (known & ~has).sum())
    assert often.false_alarm_rate == pytest.approx(present[known & ~has].mean(), abs=1e-4)
    assert (info["seldom"], info["unsure"]) == (before["seldom"], before["unsure"])
    # All clips but a few have it.
    assert 0.3 > info["always"].threshold > 0.15


@pytest.mark.parametrize(
    ("labels", "scores", "rate", "words"),
    [
        (np.zeros([3, 2]), np.zeros([4, 2]), 0.05, r"scores: expected a row per clip with 2 tags .* shape \(4, 2\)"),
        (np.zeros([3, 1]), np.zeros([3, 1]), 0.05, r"labels: expected a row per clip with 2 tags .* shape \(3, 1\)"),
        (np.zeros([3, 2]), np.zeros([3, 2]), 1.0, r"rate: expected 0 <= rate < 1\. Received: 1\.0"),
        (np.zeros([3, 2]), np.zeros([3, 2]), float("nan"), r"rate: expected 0 <= rate < 1\. Received: nan"),
    ],
)
def test_clips_that_do_not_fit(labels: np.ndarray, scores: np.ndarray, rate: float, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        thresholds_at_false_alarm_rate({"a": TagInfo(), "b": TagInfo()}, labels, scores, rate)
