"""[CLS] and positions against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_tagger.layers import ClassToken, LearnedPositions, SinusoidalPositions

TOKENS = np.random.default_rng(0).standard_normal((3, 5, 8)).astype(np.float32)


def test_fixed_class_token_is_numpys_seed_0() -> None:
    layer = ClassToken("fixed")
    output = layer(TOKENS).numpy()
    expected = np.random.RandomState(0).uniform(size=8)
    np.testing.assert_allclose(output[:, 0], np.tile(expected, (3, 1)), rtol=1e-6)
    np.testing.assert_array_equal(output[:, 1:], TOKENS)
    assert layer.trainable_variables == []


def test_learned_class_token_is_its_weight() -> None:
    layer = ClassToken()
    layer.build(TOKENS.shape)
    layer.vector.assign(np.arange(8.0))
    output = layer(TOKENS).numpy()
    np.testing.assert_array_equal(output[:, 0], np.tile(np.arange(8.0), (3, 1)))
    np.testing.assert_array_equal(output[:, 1:], TOKENS)


@pytest.mark.parametrize(("length", "width"), [(1, 4), (2, 6), (300, 16)])
def test_sinusoidal_positions_are_the_formula(length: int, width: int) -> None:
    found = SinusoidalPositions()(np.zeros((2, length, width), np.float32)).numpy()
    expected = np.zeros((length, width))
    for position in range(1, length):
        for channel in range(width):
            angle = position / 10000 ** (2 * (channel // 2) / width)
            expected[position, channel] = math.sin(angle) if channel % 2 == 0 else math.cos(angle)
    np.testing.assert_allclose(found[0], expected, atol=2e-5)
    np.testing.assert_array_equal(found[0], found[1])
    added = SinusoidalPositions()(np.full((2, length, width), 0.5, np.float32)).numpy()
    np.testing.assert_allclose(added, found + 0.5, atol=1e-6)


def test_learned_positions_are_the_tables_rows() -> None:
    layer = LearnedPositions(6)
    layer.build(TOKENS.shape)
    table = np.random.default_rng(1).standard_normal((6, 8)).astype(np.float32)
    layer.table.assign(table)
    np.testing.assert_allclose(layer(TOKENS), TOKENS + table[:5], atol=1e-6)


@pytest.mark.parametrize("traced", [False, True])
def test_learned_positions_refuse_a_longer_input(traced: bool) -> None:
    layer = LearnedPositions(4)
    layer.build(TOKENS.shape)
    call = tf.function(layer, input_signature=[tf.TensorSpec([None, None, 8])]) if traced else layer
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected at most 4 tokens"):
        call(tf.constant(TOKENS))
