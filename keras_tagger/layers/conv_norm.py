"""Convolution and batch normalisation as one layer."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_tagger")
class ConvNorm(keras.layers.Layer):
    """2-D convolution without bias, batch normalisation (Ioffe and Szegedy 2015), ReLU where asked for.

    The same function as Keras' two layers, whose normalisation is a pass of its own over the activations. Here it is
    TensorFlow's fused kernel in training, and in inference it is folded into the convolution's kernel and bias.

    Args:
        filters: channels out.
        kernel_size, strides: (time, frequency).
        padding: "same" (TensorFlow's), or "half": half of an odd kernel on either side, so that output i is centred on
            input i * stride (PyTorch's padding=kernel_size // 2).
        relu: whether ReLU follows.
        momentum: of the moving averages; 0.9 so that runs of a few hundred steps have usable statistics.
        epsilon: added to the variance.

    Call: float [B, time, frequency, C] -> [B, ceil(time / strides[0]), ceil(frequency / strides[1]), filters].
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
        self.filters = filters
        self.kernel_size = tuple(kernel_size)
        self.strides = tuple(strides)
        self.relu = relu
        self.momentum = momentum
        self.epsilon = epsilon
        self.padding = padding

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
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
        """Convolve and normalise, with the batch's statistics in training and the moving ones otherwise.

        Frozen (`trainable = False`) is as in inference, like Keras' BatchNormalization.
        """
        if self.padding == "half":
            edges = [[size // 2, size // 2] for size in self.kernel_size]
            x = tf.pad(x, [[0, 0], *edges, [0, 0]])
        y = self._normalise_batch(x) if training and self.trainable else self._convolve_folded(x)
        return tf.nn.relu(y) if self.relu else y

    def _normalise_batch(self, x: tf.Tensor) -> tf.Tensor:
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=self._convolve(x, tf.cast(self.kernel, x.dtype)),
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

    def _convolve_folded(self, x: tf.Tensor) -> tf.Tensor:
        scale = self.gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
        kernel = tf.cast(tf.cast(self.kernel, tf.float32) * scale, x.dtype)
        bias = tf.cast(self.beta - self.moving_mean * scale, x.dtype)
        return tf.nn.bias_add(self._convolve(x, kernel), bias)

    def _convolve(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(x, kernel, self.strides, "VALID" if self.padding == "half" else "SAME")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Strided time and frequency, `filters` channels."""
        batch, *space, _ = input_shape
        sizes = [None if size is None else -(-size // stride) for size, stride in zip(space, self.strides, strict=True)]
        return (batch, *sizes, self.filters)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        names = ("filters", "relu", "momentum", "epsilon", "padding")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "kernel_size": list(self.kernel_size),
            "strides": list(self.strides),
        }
