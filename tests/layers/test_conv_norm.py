"""`ConvNorm` against the two Keras layers that it is."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tagger.layers import ConvNorm
from keras_tagger.layers.conv_norm import convolve
from layer_harness import convolves_half
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


def by_sums(x: np.ndarray, kernel: np.ndarray, strides: tuple[int, int]) -> np.ndarray:
    """A convolution without padding, in float64."""
    time, bands = ((x.shape[axis] - kernel.shape[axis - 1]) // strides[axis - 1] + 1 for axis in (1, 2))
    found = np.zeros((len(x), time, bands, kernel.shape[3]))
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            rows = slice(i, i + (time - 1) * strides[0] + 1, strides[0])
            columns = slice(j, j + (bands - 1) * strides[1] + 1, strides[1])
            found += np.einsum("btfc,cd->btfd", x[:, rows, columns], kernel[i, j])
    return found


# One output band with a frequency stride: on CPUs with AMX, TensorFlow's own convolution gives NaN for these.
ONE_BAND = [(27, 4, 256, 8), (27, 3, 64, 48), (5, 4, 16, 8), (27, 3, 1, 8)]


@pytest.mark.parametrize(("time", "bands", "channels", "filters"), [*ONE_BAND, (9, 7, 16, 8)])
@pytest.mark.parametrize("strides", [(1, 2), (2, 2), (1, 1)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.03)])
def test_convolutions_of_one_band_are_right_on_every_processor(
    time: int, bands: int, channels: int, filters: int, strides: tuple[int, int], dtype: str, tolerance: float
) -> None:
    if dtype == "bfloat16" and not convolves_half():
        pytest.skip("ONEDNN_MAX_CPU_ISA excludes half precision")
    rng = np.random.default_rng(0)
    x = tf.cast(rng.standard_normal((2, time, bands, channels)), dtype)
    kernel = tf.cast(rng.standard_normal((3, 3, channels, filters)) / np.sqrt(9 * channels), dtype)
    expected = by_sums(tf.cast(x, tf.float64).numpy(), tf.cast(kernel, tf.float64).numpy(), strides)
    found = tf.cast(convolve(x, kernel, strides, "VALID"), tf.float32).numpy()
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("time", "bands", "width"), [(9, 2, 3), (8, 2, 4), (8, 2, 2), (9, 1, 3)])
def test_same_padding_of_one_band(time: int, bands: int, width: int) -> None:
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, time, bands, 3)), rng.standard_normal((3, width, 3, 4))
    edges = [max((-(-time // 2) - 1) * 2 + 3 - time, 0), max(width - bands, 0)]
    padded = np.pad(x, [(0, 0), *((edge // 2, edge - edge // 2) for edge in edges), (0, 0)])
    np.testing.assert_allclose(convolve(x, kernel, (2, 2), "SAME"), by_sums(padded, kernel, (2, 2)), atol=1e-6)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_one_band_never_reaches_the_faulty_convolution(padding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked on every processor: TensorFlow is given a frequency stride of 1."""
    given = []
    conv2d = tf.nn.conv2d

    def listen(x: tf.Tensor, kernel: tf.Tensor, strides: tuple[int, int], padding: str) -> tf.Tensor:
        given.append((tuple(strides), x.shape[2]))
        return conv2d(x, kernel, strides, padding)

    monkeypatch.setattr(tf.nn, "conv2d", listen)
    bands = 4 if padding == "VALID" else 2
    convolve(tf.ones([1, 9, bands, 2]), tf.ones([3, 3, 2, 2]), (2, 2), padding)
    convolve(tf.ones([1, 9, 7, 2]), tf.ones([3, 3, 2, 2]), (2, 2), padding)
    assert given == [((2, 1), 3), ((2, 2), 7)]
