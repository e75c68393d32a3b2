"""The `compact` front-end: residual strided convolutions, made to be fast on a CPU."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_tagger.layers.conv_norm import ConvNorm
from keras_tagger.layers.front_ends.base import FrontEnd


@keras.saving.register_keras_serializable(package="keras_tagger")
class CompactFrontEnd(FrontEnd):
    """Residual strided convolutions, made to be fast on a CPU: this project's default.

    Every stage halves frequency, and the first three halve time, so a token stands for 8 frames. Downsampling kernels
    are as wide as their stride (the first: twice that), so that each output lies exactly over its inputs whatever
    the clip's length.

    Args:
        width: channels of a token.
        channels: of each stage.
    """

    def __init__(self, width: int, channels: tuple[int, ...] = (16, 48, 96, 128), **kwargs: Any) -> None:
        super().__init__(width, **kwargs)
        self.channels = tuple(channels)
        time_strides = [2 if index < 3 else 1 for index in range(len(channels))]
        self.frames_per_token = 1
        # A first kernel of 4, then two of 3 in each stage, and kernels of 2 between the stages.
        field, jump = 1, 1
        for index, stride in enumerate(time_strides):
            field += ((4 if index == 0 else stride) - 1) * jump
            jump *= stride
            field += 2 * 2 * jump
            self.frames_per_token *= stride
        self.receptive_field_frames = field
        self.input_norm = self._norm("input_norm")
        self.stages = [
            _ResidualStage(
                count,
                kernel=(4, 4) if index == 0 else (stride, 2),
                strides=(stride, 2),
                name=f"stage_{index}",
                dtype=self.dtype_policy,
            )
            for index, (count, stride) in enumerate(zip(self.channels, time_strides, strict=True))
        ]
        self.project = keras.layers.Dense(width, name="project", dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        n_mels = input_shape[-1]
        if n_mels is None:
            raise ValueError(f"spectrogram: expected a known number of mel bands. Received: {input_shape}.")
        self.input_norm.build(input_shape)
        shape: tuple[int | None, ...] = (None, None, n_mels, 1)
        for stage in self.stages:
            stage.build(shape)
            shape = stage.compute_output_shape(shape)
        self.flat = shape[2] * shape[3]  # type: ignore[operator]
        self.project.build((None, None, self.flat))

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The last stage's output, [B, tokens, F, channels[-1]]."""
        x = self.input_norm(seen, training=training)
        # Whole tokens, so that every stage sees an even number of frames.
        frames = tf.shape(x)[1]
        x = tf.pad(x, [[0, 0], [0, -frames % self.frames_per_token], [0, 0]])[..., tf.newaxis]
        for stage in self.stages:
            x = stage(x, training=training)
        return x

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """A dense layer over all frequencies of a moment."""
        shape = tf.shape(maps)
        return self.project(tf.reshape(maps, [shape[0], shape[1], self.flat]))

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {**super().get_config(), "channels": list(self.channels)}


@keras.saving.register_keras_serializable(package="keras_tagger")
class _ResidualStage(keras.layers.Layer):
    """Strided convolution, then a residual block of two 3 x 3 convolutions; batch norm and ReLU after each.

    Call: float [B, time, frequency, C] -> [B, ceil(time / strides[0]), ceil(frequency / strides[1]), channels].
    """

    def __init__(self, channels: int, kernel: tuple[int, int], strides: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.kernel = tuple(kernel)
        self.strides = tuple(strides)
        policy = {"dtype": self.dtype_policy}
        self.down = ConvNorm(channels, kernel, strides, name="down", **policy)
        self.first = ConvNorm(channels, (3, 3), name="first", **policy)
        self.second = ConvNorm(channels, (3, 3), relu=False, name="second", **policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        shape = input_shape
        for layer in (self.down, self.first, self.second):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Downsample, then add the residual."""
        x = self.down(x, training=training)
        return tf.nn.relu(x + self.second(self.first(x, training=training), training=training))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Strided time and frequency, `channels` channels."""
        return self.down.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "kernel": list(self.kernel),
            "strides": list(self.strides),
        }
