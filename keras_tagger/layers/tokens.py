"""The [CLS] token and the position encodings, which are added around the front-end's tokens."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_tagger.layers.base import ConfiguredLayer


@keras.saving.register_keras_serializable(package="keras_tagger")
class ClassToken(ConfiguredLayer):
    """Prepends the [CLS] token, from which the tags are read.

    Args:
        kind: "learned", or "fixed": uniform in [0, 1) from NumPy's seed 0 and never trained (Won et al. 2019).

    Input shape:
        float `[batch, tokens, width]`.

    Output shape:
        `[batch, 1 + tokens, width]`. The mask of the new token is True.

    Example:
        >>> ClassToken()(np.zeros((2, 10, 64))).shape
        TensorShape([2, 11, 64])
    """

    def __init__(self, kind: str = "learned", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.remember({"kind": kind})

    def build(self, input_shape: Any) -> None:
        """Create the vector."""
        width = int(input_shape[-1])
        initial = (
            keras.initializers.Constant(np.random.RandomState(0).uniform(size=(width,)))
            if self.kind == "fixed"
            else keras.initializers.RandomNormal(stddev=0.02)
        )
        self.vector = self.add_weight(
            name="vector", shape=(width,), initializer=initial, trainable=self.kind == "learned"
        )

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """Prepend the vector to each sequence."""
        batch, _, width = ops.shape(tokens)
        cls = ops.broadcast_to(ops.cast(self.vector, tokens.dtype), (batch, 1, width))
        return ops.concatenate([cls, tokens], axis=1)

    def compute_mask(self, inputs: tf.Tensor, previous_mask: tf.Tensor | None) -> tf.Tensor | None:
        """Return the tokens' mask with True in front."""
        if previous_mask is None:
            return None
        return ops.concatenate([ops.ones_like(previous_mask[:, :1]), previous_mask], axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the input's shape with one token more."""
        batch, length, width = input_shape
        return batch, None if length is None else length + 1, width


@keras.saving.register_keras_serializable(package="keras_tagger")
class SinusoidalPositions(ConfiguredLayer):
    """Adds fixed sinusoidal positions to sequences of any length.

    Channel j of position p is sin (even j) or cos (odd j) of p / 10000^(2 floor(j/2) / width). Position 0, which is
    [CLS], is zero (Vaswani et al. 2017, section 3.5, as used by Won et al. 2019).

    Input shape:
        float `[batch, tokens, width]`, where width is even.

    Output shape:
        The same.

    Example:
        >>> SinusoidalPositions()(np.zeros((2, 11, 64))).shape
        TensorShape([2, 11, 64])
    """

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """Add the positions."""
        length, width = ops.shape(tokens)[1], tokens.shape[-1]
        rates = 10000.0 ** (-2.0 * np.arange(width // 2) / width)
        places = ops.cast(ops.arange(1, length), "float32")
        angles = places[:, None] * ops.convert_to_tensor(rates, "float32")
        table = ops.reshape(ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1), (-1, width))
        return tokens + ops.cast(ops.pad(table, [[1, 0], [0, 0]]), tokens.dtype)


@keras.saving.register_keras_serializable(package="keras_tagger")
class LearnedPositions(ConfiguredLayer):
    """Adds a trained vector to each position.

    Args:
        max_positions: The longest sequence, counting [CLS]; longer input raises `InvalidArgumentError`.

    Input shape:
        float `[batch, tokens, width]`.

    Output shape:
        The same.

    Example:
        >>> LearnedPositions(max_positions=512)(np.zeros((2, 11, 64))).shape
        TensorShape([2, 11, 64])
    """

    def __init__(self, max_positions: int = 1024, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.remember({"max_positions": max_positions})

    def build(self, input_shape: Any) -> None:
        """Create the table."""
        self.table = self.add_weight(
            name="table",
            shape=(self.max_positions, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """Add the positions."""
        length = tf.shape(tokens)[1]
        check = tf.debugging.assert_less_equal(
            length, self.max_positions, message=f"expected at most {self.max_positions} tokens with [CLS]"
        )
        with tf.control_dependencies([check] if check is not None else []):
            return tokens + tf.cast(self.table[:length], tokens.dtype)
