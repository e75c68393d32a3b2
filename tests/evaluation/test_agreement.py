"""How closely the scores of two models agree."""

from __future__ import annotations

import numpy as np
import pytest

from keras_tagger.evaluation.agreement import rank_correlations, ranks_of, top_overlap


def test_ranks_of_equals_are_averaged():
    np.testing.assert_array_equal(ranks_of(np.array([3.0, 1.0, 3.0, 2.0])), [3.5, 1.0, 3.5, 2.0])


def test_correlations_are_spearmans():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(20, 2))
    other = np.stack([np.exp(one[:, 0]), -one[:, 1]], axis=1)
    np.testing.assert_allclose(rank_correlations(one, other), [1.0, -1.0])
    # 1 - 6 sum d^2 / (n (n^2 - 1)), of ranks without ties
    found = rank_correlations(np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([[2.0], [1.0], [3.0], [4.0]]))
    assert found[0] == pytest.approx(1 - 6 * 2 / (4 * 15))


def test_a_constant_has_no_correlation():
    assert np.isnan(rank_correlations(np.ones((3, 1)), np.arange(3.0)[:, np.newaxis])).all()


def test_overlap_is_the_mean_over_clips():
    one = np.array([[0.9, 0.8, 0.1, 0.0], [0.9, 0.8, 0.1, 0.0]])
    other = np.array([[0.8, 0.9, 0.1, 0.0], [0.0, 0.1, 0.8, 0.9]])
    assert top_overlap(one, other, top=2) == 1.0
    assert top_overlap(one, one, top=3) == 3.0
