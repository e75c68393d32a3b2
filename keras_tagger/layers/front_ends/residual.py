"""The front-ends of the authors' later models: residual blocks of 3 x 3 convolutions over the spectrogram."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_tagger.layers.conv_norm import ConvNorm
from keras_tagger.layers.front_ends.base import FrontEnd


@keras.saving.register_keras_serializable(package="keras_tagger")
class ResidualFrontEnd(FrontEnd):
    """Residual blocks with strides, until one band is left: the front-end of Won et al. 2020 (arXiv 2006.00751).

    Every block halves frequency and the first three halve time, so a token stands for 8 frames; n_mels is at most
    2 ** len(channels). Kernels are centred on the first of the frames they step over, so a token's field is centred on
    its first frame, and `receptive_field_frames` counts from the middle of the token.

    Args:
        width: channels of a token; the last of `channels`.
        channels: of each block.
    """

    def __init__(
        self, width: int, channels: tuple[int, ...] = (128, 128, 256, 256, 256, 256, 256), **kwargs: Any
    ) -> None:
        super().__init__(width, **kwargs)
        self.channels = tuple(channels)
        self.frames_per_token = 8
        # Two kernels of 3 per block, at the strides 1, 2 | 2, 4 | 4, 8 | 8, 8 ... of the frames.
        reach = sum(stride + min(2 * stride, 8) for stride in _time_strides(len(self.channels)))
        self.receptive_field_frames = 2 * reach + self.frames_per_token
        self.input_norm = self._norm("input_norm")
        self.blocks = [
            _ResidualBlock(
                count,
                strides=(2 if index < 3 else 1, 2),
                name=f"block_{index}",
                dtype=self.dtype_policy,
            )
            for index, count in enumerate(self.channels)
        ]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        n_mels = _known_bands(input_shape)
        if n_mels > 2 ** len(self.channels) or self.channels[-1] != self.width:
            raise ValueError(
                f"spectrogram: expected at most {2 ** len(self.channels)} mel bands, as {len(self.channels)} blocks "
                f"halve them to one, and tokens of {self.channels[-1]} channels. "
                f"Received: {n_mels} bands and width {self.width}."
            )
        _build_blocks(self.input_norm, self.blocks, n_mels)

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The last block's output, [B, tokens, 1, width]."""
        x = self.input_norm(seen[..., tf.newaxis], training=training)
        for block in self.blocks:
            x = block(x, training=training)
        return x

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The only band."""
        return tf.squeeze(maps, axis=2)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {**super().get_config(), "channels": list(self.channels)}


@keras.saving.register_keras_serializable(package="keras_tagger")
class PooledFrontEnd(FrontEnd):
    """Three residual blocks with max-pooling, frequency flattened: the front-end of Won et al. 2021 (ISMIR).

    Pooling leaves out frames that do not fill a token, so n frames make floor(n / 4) tokens, at least one.

    Args:
        width: channels of a token.
        channels: of each block; the first two halve time and all halve frequency.
    """

    rounds_up = False

    def __init__(self, width: int, channels: tuple[int, ...] = (128, 128, 128), **kwargs: Any) -> None:
        super().__init__(width, **kwargs)
        self.channels = tuple(channels)
        self.frames_per_token = 4
        # Two kernels of 3 per block, at the strides 1, 2, 4, 4 ... of the frames, around the frames of a token.
        reach = sum(2 * min(2**index, 4) for index in range(len(self.channels)))
        self.receptive_field_frames = 2 * reach + self.frames_per_token
        self.input_norm = self._norm("input_norm")
        self.blocks = [
            _ResidualBlock(
                count,
                pool=(2 if index < 2 else 1, 2),
                name=f"block_{index}",
                dtype=self.dtype_policy,
            )
            for index, count in enumerate(self.channels)
        ]
        self.project = keras.layers.Dense(width, name="project", dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        n_mels = _known_bands(input_shape)
        if n_mels < 2 ** len(self.channels):
            raise ValueError(
                f"spectrogram: expected at least {2 ** len(self.channels)} mel bands, as {len(self.channels)} blocks "
                f"halve them. Received: {n_mels}."
            )
        self.flat = _build_blocks(self.input_norm, self.blocks, n_mels)
        self.project.build((None, None, self.flat))

    def n_tokens(self, n_frames: Any) -> Any:
        """Tokens made of that many frames, a number or an integer tensor."""
        whole = n_frames // self.frames_per_token
        return max(whole, 1) if isinstance(whole, int) else tf.maximum(whole, 1)

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The last block's output, [B, tokens, F, channels[-1]]."""
        missing = tf.maximum(self.frames_per_token - tf.shape(seen)[1], 0)
        x = self.input_norm(tf.pad(seen, [[0, 0], [0, missing], [0, 0]])[..., tf.newaxis], training=training)
        for block in self.blocks:
            x = block(x, training=training)
        return x

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """A dense layer over all frequencies of a moment."""
        shape = tf.shape(maps)
        return self.project(tf.reshape(maps, [shape[0], shape[1], self.flat]))

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {**super().get_config(), "channels": list(self.channels)}


@keras.saving.register_keras_serializable(package="keras_tagger")
class _ResidualBlock(keras.layers.Layer):
    """Two 3 x 3 convolutions with batch norm beside a shortcut, ReLU, then max-pooling where asked for.

    The shortcut is a 3 x 3 convolution with batch norm where the block has strides or changes the channels.

    Call: float [B, time, frequency, C] -> [B, time', frequency', channels]; strides round up, pooling rounds down.
    """

    def __init__(
        self, channels: int, strides: tuple[int, int] = (1, 1), pool: tuple[int, int] = (1, 1), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.strides = (strides[0], strides[1])
        self.pool = (pool[0], pool[1])
        policy = {"padding": "half", "dtype": self.dtype_policy}
        self.first = ConvNorm(channels, (3, 3), strides, name="first", **policy)
        self.second = ConvNorm(channels, (3, 3), relu=False, name="second", **policy)
        self.shortcut: ConvNorm | None = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        self.first.build(input_shape)
        self.second.build(self.first.compute_output_shape(input_shape))
        if self.strides != (1, 1) or input_shape[-1] != self.channels:
            self.shortcut = ConvNorm(
                self.channels,
                (3, 3),
                self.strides,
                relu=False,
                padding="half",
                name="shortcut",
                dtype=self.dtype_policy,
            )
            self.shortcut.build(input_shape)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Add the residual to the shortcut, and pool."""
        residual = self.second(self.first(x, training=training), training=training)
        x = tf.nn.relu(residual + (x if self.shortcut is None else self.shortcut(x, training=training)))
        return x if self.pool == (1, 1) else tf.nn.max_pool2d(x, self.pool, self.pool, "VALID")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Strided and pooled time and frequency, `channels` channels."""
        batch, *space, channels = self.first.compute_output_shape(input_shape)
        sizes = [None if size is None else size // by for size, by in zip(space, self.pool, strict=True)]
        return (batch, *sizes, channels)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "strides": list(self.strides),
            "pool": list(self.pool),
        }


def _time_strides(n_blocks: int) -> list[int]:
    """Frames from one input of each residual block to the next."""
    return [min(2**index, 8) for index in range(n_blocks)]


def _known_bands(input_shape: tuple[int | None, ...]) -> int:
    n_mels = input_shape[-1]
    if n_mels is None:
        raise ValueError(f"spectrogram: expected a known number of mel bands. Received: {input_shape}.")
    return n_mels


def _build_blocks(norm: keras.layers.Layer, blocks: list[_ResidualBlock], n_mels: int) -> int:
    """Make the weights; gives bands times channels of the last block's output."""
    norm.build((None, None, n_mels, 1))
    shape: tuple[int | None, ...] = (None, None, n_mels, 1)
    for block in blocks:
        block.build(shape)
        shape = block.compute_output_shape(shape)
    return int(shape[2] or 0) * int(shape[3] or 0)
