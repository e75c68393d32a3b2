"""The front-ends: convolutions that turn a spectrogram into one token per hop.

Every front-end states its contract by attributes, and a test checks it:

- `frames_per_token`: token t owns the frames `[t * frames_per_token, (t + 1) * frames_per_token)`;
- `n_tokens(n_frames)` is ceil(n_frames / frames_per_token), or the floor, at least 1, if `rounds_up` is False;
- `receptive_field_frames`: a token depends on at most that many frames, centred on those it owns.

If `takes_waveform` is set there is no spectrogram: the front-end's frames are the samples of the waveform.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_tagger.layers.base import ConfiguredLayer


class FrontEnd(ConfiguredLayer):
    """Base class of the front-ends.

    Args:
        width: Channels of a token.

    Input shape:
        Spectrogram, float `[batch, frames, n_mels]`.

    Output shape:
        Tokens `[batch, n_tokens(frames), width]`. A token's mask is True if that of any of its frames is.

    Example:
        >>> front_end = front_end_from_config("compact", (16, 48, 96, 128), 192)
        >>> isinstance(front_end, FrontEnd), front_end.n_tokens(80)
        (True, 10)
    """

    frames_per_token: int
    receptive_field_frames: int
    takes_waveform = False
    rounds_up = True

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.remember({"width": width})

    def n_tokens(self, n_frames: Any) -> Any:
        """Return the number of tokens for a number of frames, an int or an integer tensor."""
        return (n_frames + self.frames_per_token - 1) // self.frames_per_token

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the last feature maps `[batch, tokens, F, C]`; F is 1 if only time is left."""
        raise NotImplementedError

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the tokens `[batch, tokens, width]` of the last feature maps."""
        raise NotImplementedError

    def call(self, spectrogram: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Compute the tokens."""
        return self.tokens_of(self.feature_maps(spectrogram, training), training)

    def compute_mask(self, inputs: tf.Tensor, previous_mask: tf.Tensor | None) -> tf.Tensor | None:
        """Return the tokens' mask."""
        if previous_mask is None:
            return None
        frames = ops.cast(previous_mask, "float32")[..., None]
        padding = "same" if self.rounds_up else "valid"
        return ops.max_pool(frames, self.frames_per_token, padding=padding)[..., 0] > 0

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return `[batch, tokens, width]`."""
        frames = input_shape[1]
        return input_shape[0], None if frames is None else self.n_tokens(frames), self.width

    def norm(self, name: str) -> keras.layers.BatchNormalization:
        """Return a batch normalisation; momentum 0.9 makes its statistics usable after a few hundred steps."""
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name, dtype=self.dtype_policy)


class BlockFrontEnd(FrontEnd):
    """Base class of the front-ends that are a batch normalisation and a stack of convolution blocks.

    Args:
        width: Channels of a token.
        channels: Channels of each block.
    """

    def __init__(self, width: int, channels: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(width, **kwargs)
        self.remember({"channels": channels})
        self.input_norm = self.norm("input_norm")


def build_blocks(blocks: list[Any], n_mels: int) -> int:
    """Create the weights of convolution blocks; return bands times channels of the last block's output."""
    shape: Any = (None, None, n_mels, 1)
    for block in blocks:
        block.build(shape)
        shape = block.compute_output_shape(shape)
    return int(shape[2]) * int(shape[3])


def run_blocks(blocks: list[Any], x: tf.Tensor, training: bool | None) -> tf.Tensor:
    """Apply convolution blocks, one after the other."""
    for block in blocks:
        x = block(x, training=training)
    return x


def known_bands(input_shape: Any) -> int:
    """Return the number of mel bands; raise `ValueError` if it is unknown."""
    n_mels = input_shape[-1]
    if n_mels is None:
        raise ValueError(f"spectrogram: expected a known number of mel bands. Received: {input_shape}.")
    return int(n_mels)


def flattened(maps: tf.Tensor, size: int) -> tf.Tensor:
    """Join the bands and channels of each moment, `size` numbers."""
    shape = ops.shape(maps)
    return ops.reshape(maps, (shape[0], shape[1], size))
