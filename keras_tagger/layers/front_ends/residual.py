"""The `residual` front-end of Won et al. 2020, and the residual block of the authors' later models."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_tagger.layers.base import ConfiguredLayer
from keras_tagger.layers.conv_norm import ConvNorm
from keras_tagger.layers.front_ends.base import BlockFrontEnd, build_blocks, known_bands, run_blocks


@keras.saving.register_keras_serializable(package="keras_tagger")
class ResidualFrontEnd(BlockFrontEnd):
    """Residual blocks with strides until one band is left: the front-end of Won et al. 2020 (arXiv 2006.00751).

    Every block halves frequency and the first three halve time, so a token covers 8 frames; n_mels is at most
    2 ** len(channels). Kernels are centred on the first of the frames they step over, so a token's field is centred on
    its first frame. `receptive_field_frames` counts from the middle of the token.

    Args:
        width: Channels of a token; equal to the last of `channels`.
        channels: Channels of each block.

    Example:
        >>> ResidualFrontEnd(256)(np.zeros((2, 80, 128))).shape
        TensorShape([2, 10, 256])
    """

    frames_per_token = 8

    def __init__(
        self, width: int, channels: tuple[int, ...] = (128, 128, 256, 256, 256, 256, 256), **kwargs: Any
    ) -> None:
        super().__init__(width, channels, **kwargs)
        # Two kernels of 3 per block, at the strides 1, 2 | 2, 4 | 4, 8 | 8, 8 ... of the frames.
        strides = [min(2**index, 8) for index in range(len(self.channels))]
        reach = sum(stride + min(2 * stride, 8) for stride in strides)
        self.receptive_field_frames = 2 * reach + self.frames_per_token
        self.blocks = [
            ResidualBlock(count, strides=(2 if index < 3 else 1, 2), name=f"block_{index}", dtype=self.dtype_policy)
            for index, count in enumerate(self.channels)
        ]

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        n_mels = known_bands(input_shape)
        if n_mels > 2 ** len(self.channels) or self.channels[-1] != self.width:
            raise ValueError(
                f"spectrogram: expected at most {2 ** len(self.channels)} mel bands, as {len(self.channels)} blocks "
                f"halve them to one, and tokens of {self.channels[-1]} channels. "
                f"Received: {n_mels} bands and width {self.width}."
            )
        self.input_norm.build((None, None, n_mels, 1))
        build_blocks(self.blocks, n_mels)

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the last block's output `[batch, tokens, 1, width]`."""
        return run_blocks(self.blocks, self.input_norm(tf.expand_dims(seen, -1), training=training), training)

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the only band."""
        return tf.squeeze(maps, axis=2)


@keras.saving.register_keras_serializable(package="keras_tagger", name="_ResidualBlock")
class ResidualBlock(ConfiguredLayer):
    """Two 3 x 3 convolutions with batch norm beside a shortcut, ReLU and optional max-pooling.

    The shortcut is a 3 x 3 convolution with batch norm if the block has strides or changes the channels.

    Input shape:
        float `[batch, time, frequency, channels]`.

    Output shape:
        `[batch, time', frequency', channels]`. Strides round up, pooling rounds down.
    """

    def __init__(
        self, channels: int, strides: tuple[int, int] = (1, 1), pool: tuple[int, int] = (1, 1), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.remember(locals())
        policy = {"padding": "half", "dtype": self.dtype_policy}
        self.first = ConvNorm(channels, (3, 3), self.strides, name="first", **policy)
        self.second = ConvNorm(channels, (3, 3), relu=False, name="second", **policy)
        self.shortcut: ConvNorm | None = None

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        self.first.build(input_shape)
        self.second.build(self.first.compute_output_shape(input_shape))
        if self.strides != (1, 1) or input_shape[-1] != self.channels:
            policy = {"padding": "half", "dtype": self.dtype_policy}
            self.shortcut = ConvNorm(self.channels, (3, 3), self.strides, relu=False, name="shortcut", **policy)
            self.shortcut.build(input_shape)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Add the residual to the shortcut, and pool."""
        residual = self.second(self.first(x, training=training), training=training)
        x = tf.nn.relu(residual + (x if self.shortcut is None else self.shortcut(x, training=training)))
        return x if self.pool == (1, 1) else tf.nn.max_pool2d(x, self.pool, self.pool, "VALID")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the strided and pooled time and frequency with `channels` channels."""
        batch, *space, channels = self.first.compute_output_shape(input_shape)
        sizes = [None if size is None else size // by for size, by in zip(space, self.pool, strict=True)]
        return (batch, *sizes, channels)
