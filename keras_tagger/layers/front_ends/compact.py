"""The `compact` front-end: residual strided convolutions designed for speed on a CPU."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_tagger.layers.base import ConfiguredLayer
from keras_tagger.layers.conv_norm import ConvNorm
from keras_tagger.layers.front_ends.base import BlockFrontEnd, build_blocks, flattened, known_bands, run_blocks


@keras.saving.register_keras_serializable(package="keras_tagger")
class CompactFrontEnd(BlockFrontEnd):
    """Residual strided convolutions designed for speed on a CPU; the default front-end.

    Every stage halves frequency, and the first three halve time, so a token covers 8 frames. Downsampling kernels are
    as wide as their stride (the first: twice that), so each output lies exactly over its inputs at every clip length.

    Args:
        width: Channels of a token.
        channels: Channels of each stage.

    Example:
        >>> CompactFrontEnd(192)(np.zeros((2, 80, 96))).shape
        TensorShape([2, 10, 192])
    """

    def __init__(self, width: int, channels: tuple[int, ...] = (16, 48, 96, 128), **kwargs: Any) -> None:
        super().__init__(width, channels, **kwargs)
        self.frames_per_token = 1
        # A first kernel of 4, then two of 3 in each stage, and kernels of 2 between the stages.
        field, jump = 1, 1
        for index in range(len(channels)):
            stride = _time_stride(index)
            field += ((4 if index == 0 else stride) - 1) * jump
            jump *= stride
            field += 2 * 2 * jump
            self.frames_per_token *= stride
        self.receptive_field_frames = field
        self.stages = residual_stages(self.channels, self.dtype_policy)
        self.project = keras.layers.Dense(width, name="project", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        n_mels = known_bands(input_shape)
        self.input_norm.build(input_shape)
        self.flat = build_blocks(self.stages, n_mels)
        self.project.build((None, None, self.flat))

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the last stage's output `[batch, tokens, F, channels[-1]]`."""
        x = self.input_norm(seen, training=training)
        # Whole tokens, so that every stage receives an even number of frames.
        x = tf.pad(x, [[0, 0], [0, -tf.shape(x)[1] % self.frames_per_token], [0, 0]])
        # LiteRT does not know tf.newaxis where sizes are open.
        return run_blocks(self.stages, tf.expand_dims(x, -1), training)

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Apply a dense layer to all frequencies of a moment."""
        return self.project(flattened(maps, self.flat))


def residual_stages(channels: tuple[int, ...], dtype: Any) -> list[ConfiguredLayer]:
    """Return the stages of `CompactFrontEnd`, one for each number of channels, with a token every 8 frames.

    Args:
        channels: Channels of each stage, at least three of them.
        dtype: The layers' dtype policy.
    """
    return [
        _ResidualStage(
            count,
            kernel=(4, 4) if index == 0 else (_time_stride(index), 2),
            strides=(_time_stride(index), 2),
            name=f"stage_{index}",
            dtype=dtype,
        )
        for index, count in enumerate(channels)
    ]


def _time_stride(stage: int) -> int:
    return 2 if stage < 3 else 1


@keras.saving.register_keras_serializable(package="keras_tagger")
class _ResidualStage(ConfiguredLayer):
    """Strided convolution and a residual block of two 3 x 3 convolutions, each with batch norm and ReLU."""

    def __init__(self, channels: int, kernel: tuple[int, int], strides: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.remember(locals())
        policy = {"dtype": self.dtype_policy}
        self.down = ConvNorm(channels, kernel, strides, name="down", **policy)
        self.first = ConvNorm(channels, (3, 3), name="first", **policy)
        self.second = ConvNorm(channels, (3, 3), relu=False, name="second", **policy)

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        shape = input_shape
        for layer in (self.down, self.first, self.second):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Downsample, then add the residual."""
        x = self.down(x, training=training)
        return tf.nn.relu(x + self.second(self.first(x, training=training), training=training))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the strided time and frequency with `channels` channels."""
        return self.down.compute_output_shape(input_shape)
