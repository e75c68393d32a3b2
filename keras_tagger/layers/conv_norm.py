"""Convolution and batch normalisation as one layer."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_tagger.layers.base import ConfiguredLayer
from keras_tagger.layers.replicas import gathered, n_replicas


@keras.saving.register_keras_serializable(package="keras_tagger")
class ConvNorm(ConfiguredLayer):
    """2-D convolution without bias, batch normalisation (Ioffe and Szegedy 2015) and optional ReLU.

    It computes the same function as `Conv2D` followed by `BatchNormalization`, but in one pass less: training uses
    TensorFlow's fused kernel, and inference folds the normalisation into the kernel and bias.

    Args:
        filters: Number of output channels.
        kernel_size: Size in time and frequency.
        strides: Strides in time and frequency.
        relu: Whether to apply ReLU.
        momentum: Momentum of the moving averages; 0.9 makes them usable after a few hundred steps.
        epsilon: Added to the variance.
        padding: "same" (TensorFlow's), or "half": half of an odd kernel on both sides, so that output i is centred on
            input i * stride (PyTorch's `padding=kernel_size // 2`).

    Input shape:
        float `[batch, time, frequency, channels]`.

    Output shape:
        `[batch, ceil(time / strides[0]), ceil(frequency / strides[1]), filters]`, without a mask, because the strides
        change the length.

    Example:
        >>> ConvNorm(8, (3, 3), (2, 2))(np.zeros((2, 100, 96, 1))).shape
        TensorShape([2, 50, 48, 8])
    """

    def __init__(
        self,
        filters: int,
        kernel_size: tuple[int, int],
        strides: tuple[int, int] = (1, 1),
        relu: bool = True,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        padding: str = "same",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.remember(locals())

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        self.kernel = self.add_weight(
            name="kernel", shape=(*self.kernel_size, input_shape[-1], self.filters), initializer="glorot_uniform"
        )
        # Statistics and scales stay float32 under mixed precision, as in Keras' layer.
        shape = {"shape": (self.filters,), "autocast": False}
        self.gamma = self.add_weight(name="gamma", initializer="ones", **shape)
        self.beta = self.add_weight(name="beta", initializer="zeros", **shape)
        self.moving_mean = self.add_weight(name="moving_mean", initializer="zeros", trainable=False, **shape)
        self.moving_variance = self.add_weight(name="moving_variance", initializer="ones", trainable=False, **shape)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Convolve and normalise, with the batch's statistics in training and the moving averages otherwise.

        A frozen layer (`trainable = False`) always uses the moving averages, like Keras' `BatchNormalization`.
        """
        if self.padding == "half":
            edges = [[size // 2, size // 2] for size in self.kernel_size]
            x = tf.pad(x, [[0, 0], *edges, [0, 0]])
        y = self._normalise_batch(x) if training and self.trainable else self._convolve_folded(x)
        return tf.nn.relu(y) if self.relu else y

    def _normalise_batch(self, x: tf.Tensor) -> tf.Tensor:
        convolved = self._convolve(x, tf.cast(self.kernel, x.dtype))
        if n_replicas() > 1:
            y, mean, variance = self._normalise_together(convolved)
        else:
            y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=convolved,
                scale=self.gamma,
                offset=self.beta,
                mean=tf.zeros([0]),
                variance=tf.zeros([0]),
                epsilon=self.epsilon,
                is_training=True,
            )
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * moving + (1.0 - self.momentum) * new)
        return y

    def _normalise_together(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Normalise by the statistics of all replicas; like the fused kernel, return the unbiased variance."""
        values = tf.cast(x, tf.float32)
        own = tf.stack(tf.nn.moments(values, axes=[0, 1, 2]))
        means, variances = tf.unstack(gathered(own), axis=1)
        mean = tf.reduce_mean(means, axis=0)
        variance = tf.reduce_mean(variances + tf.square(means - mean), axis=0)
        y = tf.nn.batch_normalization(values, mean, variance, self.beta, self.gamma, self.epsilon)
        count = tf.cast(n_replicas() * tf.size(values) // self.filters, tf.float32)
        return tf.cast(y, x.dtype), mean, variance * count / tf.maximum(count - 1.0, 1.0)

    def _convolve_folded(self, x: tf.Tensor) -> tf.Tensor:
        scale = self.gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
        kernel = tf.cast(tf.cast(self.kernel, tf.float32) * scale, x.dtype)
        bias = tf.cast(self.beta - self.moving_mean * scale, x.dtype)
        return tf.nn.bias_add(self._convolve(x, kernel), bias)

    def _convolve(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return convolve(x, kernel, self.strides, "VALID" if self.padding == "half" else "SAME")

    def compute_mask(self, inputs: tf.Tensor, previous_mask: tf.Tensor | None) -> None:
        """Return None: the strides change the length."""

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the strided time and frequency with `filters` channels."""
        batch, *space, _ = input_shape
        sizes = [None if size is None else -(-size // stride) for size, stride in zip(space, self.strides, strict=True)]
        return (batch, *sizes, self.filters)


def convolve(x: tf.Tensor, kernel: tf.Tensor, strides: tuple[int, int], padding: str) -> tf.Tensor:
    """Convolve like `tf.nn.conv2d`, without its fault on CPUs with AMX.

    On a CPU with AMX, oneDNN's convolution reads and writes out of bounds if the output is one band wide and the
    frequency stride is more than 1 (TensorFlow 2.17 and 2.20; bfloat16 with any number of channels, float32 with
    one). The results are NaN or arbitrary numbers. A single output band needs no stride: the input is cut to the
    kernel's width and convolved with stride 1, which is correct and exactly the same function.

    Args:
        x: float `[batch, time, frequency, channels]`.
        kernel: `[time, frequency, channels, filters]`.
        strides: Strides in time and frequency.
        padding: "SAME" or "VALID".

    Returns:
        float `[batch, time', frequency', filters]`.
    """
    bands, width, stride = x.shape[2], kernel.shape[1], strides[1]
    if stride == 1 or bands is None:
        return tf.nn.conv2d(x, kernel, strides, padding)
    if (-(-bands // stride) if padding == "SAME" else (bands - width) // stride + 1) != 1:
        return tf.nn.conv2d(x, kernel, strides, padding)
    if padding == "SAME":
        missing = max(width - bands, 0)
        frames = tf.shape(x)[1]
        steps = -(-frames // strides[0])
        shortage = tf.maximum((steps - 1) * strides[0] + kernel.shape[0] - frames, 0)
        edges = [[shortage // 2, shortage - shortage // 2], [missing // 2, missing - missing // 2]]
        x = tf.pad(x, [[0, 0], *edges, [0, 0]])
    return tf.nn.conv2d(x[:, :, :width], kernel, (strides[0], 1), "VALID")
