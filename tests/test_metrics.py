"""Ranking metrics against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from keras_tagger.metrics import macro_mean, precision_recall, ranking_scores, roc_auc, threshold_counts


def made(n: int = 40, digits: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores, with ties if they have few digits."""
    rng = np.random.default_rng(n)
    return rng.uniform(size=n) < 0.4, np.round(rng.uniform(size=n), digits)


@pytest.mark.parametrize("digits", [1, 9], ids=["ties", "distinct"])
def test_scores_are_scikit_learns(digits: int) -> None:
    present, scores = made(digits=digits)
    roc, ap = ranking_scores(present, scores)
    np.testing.assert_allclose(roc, roc_auc_score(present, scores), atol=1e-12)
    np.testing.assert_allclose(ap, average_precision_score(present, scores), atol=1e-12)
    assert roc_auc(present, scores) == roc


def test_weights_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    present = rng.uniform(size=40) < 0.4
    scores = np.round(rng.uniform(size=40), 1)  # ties
    weights = rng.integers(0, 4, size=(20, 40))
    roc, ap = ranking_scores(present, scores, weights)
    for row in range(20):
        given = {"sample_weight": weights[row]}
        np.testing.assert_allclose(roc[row], roc_auc_score(present, scores, **given), atol=1e-12)
        np.testing.assert_allclose(ap[row], average_precision_score(present, scores, **given), atol=1e-12)
        repeated = np.repeat(np.arange(40), weights[row])
        np.testing.assert_allclose(roc[row], roc_auc_score(present[repeated], scores[repeated]), atol=1e-12)


def test_weightings_of_one_kind_have_no_score() -> None:
    present, scores = np.array([True, False, False]), np.array([0.9, 0.5, 0.1])
    roc, ap = ranking_scores(present, scores, np.array([[0, 2, 1], [3, 0, 0], [1, 1, 1]]))
    np.testing.assert_array_equal(roc, [np.nan, np.nan, 1.0])
    np.testing.assert_array_equal(ap, [np.nan, np.nan, 1.0])


@pytest.mark.parametrize("labels", [[], [True], [False, False]])
def test_without_both_kinds_there_is_no_score(labels: list[bool]) -> None:
    found = ranking_scores(np.array(labels, bool), np.linspace(0, 1, len(labels)))
    assert np.isnan(found).all()


@pytest.mark.parametrize("digits", [1, 9], ids=["ties", "distinct"])
def test_precision_and_recall_are_scikit_learns(digits: int) -> None:
    present, scores = made(digits=digits)
    precision, recall = precision_recall(present, scores)
    expected_precision, expected_recall, thresholds = precision_recall_curve(present, scores)
    # scikit-learn begins with the lowest threshold and ends with an extra point, (0, 1).
    np.testing.assert_allclose(precision, expected_precision[-2::-1])
    np.testing.assert_allclose(recall, expected_recall[-2::-1])
    np.testing.assert_array_equal(threshold_counts(present, scores)[0], thresholds[::-1])


def test_macro_mean_is_over_finite_values_that_count() -> None:
    values = np.array([[0.5, 0.9, 0.1], [np.nan, 0.7, 0.3], [np.nan, 0.2, np.nan]])
    np.testing.assert_allclose(macro_mean(values, np.array([True, False, True])), [0.3, 0.3, np.nan])
    assert np.isnan(macro_mean(values[0], np.zeros(3, bool)))
