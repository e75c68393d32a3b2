"""Resampled scores against repeated clips and the binomial distribution."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_tagger.evaluation.bootstrap import Resampled, bootstrap_intervals, draws, interval, resample
from keras_tagger.evaluation.clip_scores import ClipScores
from keras_tagger.evaluation.report import counted_tags, macro, score


def clip_scores(n_clips: int = 60, n_tags: int = 3, seed: int = 0, quality: float = 1.0) -> ClipScores:
    """Labels and scores that go together the more, the higher the quality; with ties and unknown labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.uniform(size=(n_clips, n_tags)) < 0.3).astype(np.float32)
    scores = np.round(1 / (1 + np.exp(-quality * labels - rng.standard_normal(labels.shape))), 2)
    labels[:4, 0] = np.nan
    table = score(labels, scores, [f"t{i}" for i in range(n_tags)])
    clips = tuple(f"clip {i}" for i in range(n_clips))
    return ClipScores(clips, tuple(table["tag"]), labels, scores, 0.5, counted_tags(table))


def test_draws_are_as_many_as_clips_and_of_the_seed() -> None:
    blocks = list(draws(17, 120, seed=5))
    drawn = np.concatenate(blocks)
    assert drawn.shape == (120, 17)
    assert (drawn.sum(axis=1) == 17).all()
    np.testing.assert_array_equal(drawn, np.concatenate(list(draws(17, 120, seed=5))))
    assert (drawn != np.concatenate(list(draws(17, 120, seed=6)))).any()


def test_resampling_is_scoring_the_drawn_clips() -> None:
    found = clip_scores()
    drawn = resample(found, 60, seed=2)
    weights = np.concatenate(list(draws(60, 60, seed=2)))
    for row in (0, 49, 50, 59):
        rows = np.repeat(np.arange(60), weights[row])
        table = score(found.labels[rows], found.scores[rows], found.tags)
        np.testing.assert_allclose(drawn.roc_auc[row], table["roc_auc"], atol=1e-12)
        np.testing.assert_allclose(drawn.pr_auc[row], table["pr_auc"], atol=1e-12)
        np.testing.assert_allclose(drawn.macro("pr_auc", found.counted)[row], macro(table, "pr_auc"), atol=1e-12)


def test_intervals_hold_the_value_and_narrow_with_more_clips() -> None:
    few, many = (clip_scores(n_clips) for n_clips in (60, 960))
    bounds = {}
    for found in (few, many):
        intervals = bootstrap_intervals(found, 400, seed=0)
        table = score(found.labels, found.scores, found.tags)
        for column in ("roc_auc", "pr_auc"):
            low, high = intervals[column]
            assert low < macro(table, column) < high
            for row in table:
                low, high = intervals["per_tag"][row["tag"]][column]
                assert low < row[column] < high
        bounds[len(found.clips)] = intervals["roc_auc"]
    # Sixteen times the clips: a quarter of the width.
    width = {n: high - low for n, (low, high) in bounds.items()}
    assert width[960] / width[60] == pytest.approx(0.25, abs=0.06)
    assert bootstrap_intervals(few, 50, seed=0)["roc_auc"] == bootstrap_intervals(few, 50, seed=0)["roc_auc"]


def test_intervals_are_the_middle_95_percent_of_thedraws() -> None:
    found = clip_scores()
    intervals, drawn = bootstrap_intervals(found, 200, seed=4), resample(found, 200, seed=4)
    for column in ("roc_auc", "pr_auc"):
        expected = np.nanquantile(getattr(drawn, column), [0.025, 0.975], axis=0)
        for index, tag in enumerate(found.tags):
            assert intervals["per_tag"][tag][column] == pytest.approx(tuple(expected[:, index]), abs=1e-12)
        # The mean over one tag is that tag.
        one = dataclasses.replace(found, counted=np.array([False, True, False]))
        assert bootstrap_intervals(one, 200, seed=4)[column] == intervals["per_tag"]["t1"][column]


def test_macro_means_are_over_tags_that_count_and_have_a_score() -> None:
    nan = float("nan")
    drawn = Resampled(
        np.array([[0.5, 0.9, 0.1], [nan, 0.7, 0.3], [nan, 0.2, nan]]), np.array([[0.2, 0.4, 0.8]] * 3), None
    )
    counted = np.array([True, False, True])
    np.testing.assert_allclose(drawn.macro("roc_auc", counted), [0.3, 0.3, nan])
    np.testing.assert_allclose(drawn.macro("pr_auc", counted), [0.5] * 3)


def test_accuracy_of_draws_leaves_out_what_is_neither_right_nor_wrong() -> None:
    found = clip_scores()
    correct = np.resize(np.array([1.0, np.nan, 0.0, 1.0], np.float32), 60)
    drawn = resample(dataclasses.replace(found, correct=correct), 60, seed=2)
    for row, weights in enumerate(np.concatenate(list(draws(60, 60, seed=2)))):
        of_draw = np.repeat(correct, weights)
        np.testing.assert_allclose(drawn.accuracy[row], np.nanmean(of_draw), atol=1e-6)


def test_interval_of_the_accuracy_is_binomial() -> None:
    found = clip_scores(400)
    correct = np.r_[np.ones(300), np.zeros(100)].astype(np.float32)
    found = dataclasses.replace(found, correct=correct)
    low, high = bootstrap_intervals(found, 2000, seed=1)["accuracy"]
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - half, abs=0.006)
    assert high == pytest.approx(0.75 + half, abs=0.006)


def test_interval_by_hand() -> None:
    assert interval(np.arange(101.0), 0.9) == pytest.approx((5.0, 95.0))
    assert np.isnan(interval(np.array([np.nan]))).all()
