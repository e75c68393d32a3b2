"""The front-ends: convolutions that turn a spectrogram into one token per hop.

The contract, which every front-end states by its attributes and a test holds it to:

- `frames_per_token`: token t owns the frames `[t * frames_per_token, (t + 1) * frames_per_token)`;
- `n_tokens(n_frames)` is ceil(n_frames / frames_per_token), or, where `rounds_up` is False, the floor, at least 1;
- `receptive_field_frames`: a token depends on at most that many frames, centred on those it owns.

Where `takes_waveform` is set there is no spectrogram between: the front-end's frames are the samples of the waveform.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class FrontEnd(keras.layers.Layer):
    """Base of the front-ends.

    Args:
        width: channels of a token.

    Call: spectrogram float [B, frames, n_mels] -> tokens [B, n_tokens(frames), width].
    """

    frames_per_token: int
    receptive_field_frames: int
    takes_waveform = False
    rounds_up = True

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width

    def n_tokens(self, n_frames: Any) -> Any:
        """Tokens made of that many frames, a number or an integer tensor."""
        return -(-n_frames // self.frames_per_token)

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The last feature maps over time and frequency, [B, tokens, F, C]; F is 1 where only time is left."""
        raise NotImplementedError

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The tokens [B, tokens, width] of the last feature maps."""
        raise NotImplementedError

    def call(self, spectrogram: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Compute the tokens."""
        return self.tokens_of(self.feature_maps(spectrogram, training), training)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """[B, frames, n_mels] -> [B, tokens, width]."""
        frames = input_shape[1]
        return input_shape[0], None if frames is None else self.n_tokens(frames), self.width

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {**super().get_config(), "width": self.width}

    def _norm(self, name: str) -> keras.layers.BatchNormalization:
        # Momentum 0.9 so that runs of a few hundred steps have usable statistics.
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name, dtype=self.dtype_policy)
