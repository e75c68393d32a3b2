"""The `pooled` front-end of Won et al. 2021: residual blocks with max-pooling."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_tagger.layers.front_ends.base import BlockFrontEnd, build_blocks, flattened, known_bands, run_blocks
from keras_tagger.layers.front_ends.residual import ResidualBlock


@keras.saving.register_keras_serializable(package="keras_tagger")
class PooledFrontEnd(BlockFrontEnd):
    """Three residual blocks with max-pooling, frequency flattened: the front-end of Won et al. 2021 (ISMIR).

    Pooling drops frames that do not fill a token, so n frames make floor(n / 4) tokens, at least one.

    Args:
        width: Channels of a token.
        channels: Channels of each block; the first two halve time and all halve frequency.

    Example:
        >>> PooledFrontEnd(256)(np.zeros((2, 80, 128))).shape
        TensorShape([2, 20, 256])
    """

    frames_per_token = 4
    rounds_up = False

    def __init__(self, width: int, channels: tuple[int, ...] = (128, 128, 128), **kwargs: Any) -> None:
        super().__init__(width, channels, **kwargs)
        # Two kernels of 3 per block, at the strides 1, 2, 4, 4 ... of the frames, around the frames of a token.
        reach = sum(2 * min(2**index, 4) for index in range(len(self.channels)))
        self.receptive_field_frames = 2 * reach + self.frames_per_token
        self.blocks = [
            ResidualBlock(count, pool=(2 if index < 2 else 1, 2), name=f"block_{index}", dtype=self.dtype_policy)
            for index, count in enumerate(self.channels)
        ]
        self.project = keras.layers.Dense(width, name="project", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        n_mels = known_bands(input_shape)
        if n_mels < 2 ** len(self.channels):
            raise ValueError(
                f"spectrogram: expected at least {2 ** len(self.channels)} mel bands, as {len(self.channels)} blocks "
                f"halve them. Received: {n_mels}."
            )
        self.input_norm.build((None, None, n_mels, 1))
        self.flat = build_blocks(self.blocks, n_mels)
        self.project.build((None, None, self.flat))

    def n_tokens(self, n_frames: Any) -> Any:
        """Return the number of tokens for a number of frames, an int or an integer tensor."""
        whole = n_frames // self.frames_per_token
        return max(whole, 1) if isinstance(whole, int) else tf.maximum(whole, 1)

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the last block's output `[batch, tokens, F, channels[-1]]`."""
        missing = tf.maximum(self.frames_per_token - tf.shape(seen)[1], 0)
        x = self.input_norm(tf.expand_dims(tf.pad(seen, [[0, 0], [0, missing], [0, 0]]), -1), training=training)
        return run_blocks(self.blocks, x, training)

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Apply a dense layer to all frequencies of a moment."""
        return self.project(flattened(maps, self.flat))
