"""`ConvNorm` against the two Keras layers that it is."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tagger.layers import ConvNorm
from tiny import randomize

IMAGES = np.random.default_rng(1).standard_normal((3, 10, 7, 2)).astype(np.float32)


def pair(strides: tuple[int, int], relu: bool) -> tuple[ConvNorm, keras.Sequential]:
    """The layer with random weights, and Keras' own with the same."""
    layer = ConvNorm(5, (3, 2), strides, relu=relu)
    layer.build(IMAGES.shape)
    randomize(layer)
    reference = keras.Sequential(
        [
            keras.layers.Conv2D(5, (3, 2), strides=strides, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
            keras.layers.ReLU() if relu else keras.layers.Identity(),
        ]
    )
    reference.build(IMAGES.shape)
    for weight, other in zip(layer.weights, reference.weights, strict=True):
        assert weight.shape == other.shape
        other.assign(weight)
    return layer, reference


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 2)])
@pytest.mark.parametrize("relu", [True, False])
def test_inference_is_convolution_and_normalisation(strides, relu):
    layer, reference = pair(strides, relu)
    output = layer(IMAGES, training=False)
    assert output.shape == layer.compute_output_shape(IMAGES.shape)
    np.testing.assert_allclose(output, reference(IMAGES, training=False), atol=1e-5)


def test_training_gives_the_same_output_gradients_and_statistics():
    layer, reference = pair((1, 1), True)
    results = []
    for model in (layer, reference):
        with tf.GradientTape() as tape:
            output = model(IMAGES, training=True)
            loss = tf.reduce_sum(output**2)
        results.append((output, tape.gradient(loss, model.trainable_weights), model.non_trainable_weights))
    (output, gradients, statistics), (expected, expected_gradients, expected_statistics) = results
    np.testing.assert_allclose(output, expected, atol=1e-5)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-3, atol=1e-2)
    mean, variance = (value.numpy() for value in statistics)
    np.testing.assert_allclose(mean, expected_statistics[0].numpy(), atol=1e-5)
    # The fused kernel keeps the unbiased variance of the batch's 210 values.
    moved = (expected_statistics[1].numpy() - 0.9 * pair((1, 1), True)[0].moving_variance.numpy()) * 210 / 209
    np.testing.assert_allclose(variance - 0.9 * pair((1, 1), True)[0].moving_variance.numpy(), moved, atol=1e-4)


def test_frozen_is_as_in_inference():
    layer, _ = pair((1, 1), True)
    expected, statistics = layer(IMAGES, training=False).numpy(), [value.numpy() for value in layer.weights]
    layer.trainable = False
    np.testing.assert_allclose(layer(IMAGES, training=True), expected, atol=1e-6)
    for value, before in zip(layer.weights, statistics, strict=True):
        np.testing.assert_array_equal(value.numpy(), before)
    layer.trainable = True
    assert np.abs(layer(IMAGES, training=True).numpy() - expected).max() > 1e-2
