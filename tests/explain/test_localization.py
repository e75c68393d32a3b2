"""Localisation: closed forms of the measures, and grids."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from keras_tagger.errors import ModelError
from keras_tagger.explain.localization import (
    at_times,
    inside,
    localization,
    pointing_game,
    roc_auc,
    time_curve,
    time_iou,
)
from keras_tagger.heatmap import Heatmap

TRUTH = np.array([0, 0, 1, 1, 0, 0, 0, 1], bool)


def test_measures_of_a_perfect_a_reversed_and_a_constant_curve() -> None:
    perfect = TRUTH + 0.1 * np.arange(8)
    assert [measure(perfect, TRUTH) for measure in (pointing_game, time_iou, roc_auc)] == [1.0, 1.0, 1.0]
    assert [measure(-perfect, TRUTH) for measure in (pointing_game, time_iou, roc_auc)] == [0.0, 0.0, 0.0]
    constant = np.full(8, 2.0)
    assert pointing_game(constant, TRUTH) == pytest.approx(3 / 8)
    assert roc_auc(constant, TRUTH) == pytest.approx(0.5)
    # Three of eight at random hold 9/8 of the three: 9/8 / (6 - 9/8).
    assert time_iou(constant, TRUTH) == pytest.approx((9 / 8) / (6 - 9 / 8))


def test_two_of_three_right() -> None:
    curve = np.array([0.0, 0.9, 0.8, 0.7, 0.0, 0.0, 0.0, 0.1])
    assert pointing_game(curve, TRUTH) == 0.0
    assert time_iou(curve, TRUTH) == pytest.approx(2 / 4)
    # Pairs of right and wrong in order: 4 + 4 + 4 of 15.
    assert roc_auc(curve, TRUTH) == pytest.approx(12 / 15)


def test_roc_auc_is_sklearns() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        curve, truth = rng.integers(0, 6, 30), rng.random(30) < 0.4
        assert roc_auc(curve, truth) == pytest.approx(roc_auc_score(truth, curve))


def test_measures_do_not_depend_on_scale() -> None:
    rng = np.random.default_rng(1)
    curve = rng.random(8)
    for measure in (pointing_game, time_iou, roc_auc):
        assert measure(curve, TRUTH) == measure(1e-3 * curve - 7, TRUTH)


@pytest.mark.parametrize(
    ("curve", "truth", "sentence"),
    [
        (np.zeros(3), np.zeros(3, bool), "a truth of some columns, not of all. Received: 0 of 3 columns"),
        (np.zeros(3), np.ones(3, bool), "a truth of some columns, not of all. Received: 3 of 3 columns"),
        (np.zeros(3), np.ones(4, bool), r"of equal length. Received: \(3,\) and \(4,\)"),
        (np.array([0, np.nan]), np.array([True, False]), "a curve of finite values"),
    ],
)
def test_what_cannot_be_measured(curve: np.ndarray, truth: np.ndarray, sentence: str) -> None:
    for measure in (pointing_game, time_iou, roc_auc):
        with pytest.raises(ModelError, match=sentence):
            measure(curve, truth)


def test_other_grids() -> None:
    curve, times = np.array([1.0, 3.0, 5.0]), np.array([0.5, 1.5, 2.5])
    np.testing.assert_allclose(at_times(curve, times, times), curve)
    # Coarser columns are repeated, finer ones averaged, and beyond the ends stays what is there.
    np.testing.assert_allclose(at_times(curve, times, np.arange(8) * 0.5 + 0.25), [1, 1, 3, 3, 5, 5, 5, 5])
    np.testing.assert_allclose(at_times(curve, times, np.array([0.0, 2.0])), [1.0, (3 + 5) / 2 * 1.0])
    # From 1.5 s before the curve to 0.5 s behind it, and all behind it.
    found = at_times(curve, times, np.array([1.0, 6.0]))
    np.testing.assert_allclose(found, [(1.5 * 1 + 1 + 3 + 5 + 0.5 * 5) / 5, 5.0])
    # Equal values stay equal to the last bit, as ties count.
    many = np.random.default_rng(0).random(7)
    spread = at_times(many, np.arange(7) * 2.944 + 1.472, np.arange(161) * 0.128 + 0.064)
    np.testing.assert_array_equal(np.unique(spread), np.unique(many))
    fine = np.repeat(curve, 8)
    np.testing.assert_allclose(at_times(fine, (np.arange(24) + 0.5) / 8, times), curve)


def test_a_map_against_intervals() -> None:
    np.testing.assert_array_equal(inside(np.array([0.0, 0.9, 1.0, 2.0]), [(0.5, 1.0), (2.0, 9.0)]), [0, 1, 0, 1])
    times = np.arange(10) + 0.5
    values = np.zeros((1, 3, 10))
    values[0, :, 4:6] = [[1.0], [-0.5], [1.0]]
    heat = Heatmap(values, ("guitar",), times, "made", frequencies=np.array([100.0, 200.0, 300.0]))
    np.testing.assert_allclose(time_curve(heat, "guitar"), [0, 0, 0, 0, 1.5, 1.5, 0, 0, 0, 0])
    found = localization(heat, "guitar", [(4.0, 6.0)], np.arange(40) * 0.25 + 0.125)
    assert found == {"pointing": 1.0, "iou": 1.0, "roc_auc": 1.0}
    # Half of what it points at, and half of what there is.
    found = localization(heat, "guitar", [(5.0, 7.0)], times)
    assert found == {
        "pointing": 0.5,
        "iou": pytest.approx(1 / 3),
        "roc_auc": pytest.approx((7.5 + 3.5) / 16),
    }
    with pytest.raises(ModelError, match="heat map's rows: guitar. Received: 'piano'"):
        localization(heat, "piano", [(4.0, 6.0)], times)
