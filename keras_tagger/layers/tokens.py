"""The [CLS] token and the positions: what is put around the front-end's tokens."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_tagger")
class ClassToken(keras.layers.Layer):
    """Prepends the [CLS] token, the one that the tags are read from.

    Args:
        kind: "learned", or "fixed": uniform in [0, 1) from numpy's seed 0 and never trained (Won et al. 2019).

    Call: float [B, T, D] -> [B, 1 + T, D].
    """

    def __init__(self, kind: str = "learned", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind = kind

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the vector."""
        width = int(input_shape[-1] or 0)
        if self.kind == "fixed":
            fixed = np.random.RandomState(0).uniform(size=(width,))

            def initial(shape: Any, dtype: Any = None) -> tf.Tensor:
                return keras.ops.cast(fixed, dtype)
        else:
            initial = keras.initializers.RandomNormal(stddev=0.02)
        self.vector = self.add_weight(
            name="vector", shape=(width,), initializer=initial, trainable=self.kind == "learned"
        )

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """Prepend the vector to each sequence."""
        shape = tf.shape(tokens)
        cls = tf.broadcast_to(tf.cast(self.vector, tokens.dtype), [shape[0], 1, shape[2]])
        return tf.concat([cls, tokens], axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """One token more."""
        batch, length, width = input_shape
        return batch, None if length is None else length + 1, width

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {**super().get_config(), "kind": self.kind}


@keras.saving.register_keras_serializable(package="keras_tagger")
class SinusoidalPositions(keras.layers.Layer):
    """Adds fixed positions, for any length.

    Channel j of position p is sin (even j) or cos (odd j) of p / 10000^(2 floor(j/2) / D); position 0, the [CLS]
    token's, is zeros (Vaswani et al. 2017, section 3.5, as Won et al. 2019 use it).

    Call: float [B, S, D], D even -> the same shape.
    """

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """Add the positions."""
        length, width = tf.shape(tokens)[1], tokens.shape[-1]
        rates = 10000.0 ** (-2.0 * np.arange(width // 2) / width)
        angles = tf.cast(tf.range(1, length), tf.float32)[:, tf.newaxis] * tf.constant(rates, tf.float32)
        table = tf.reshape(tf.stack([tf.sin(angles), tf.cos(angles)], axis=-1), [length - 1, width])
        return tokens + tf.cast(tf.pad(table, [[1, 0], [0, 0]]), tokens.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The same as the input's."""
        return input_shape


@keras.saving.register_keras_serializable(package="keras_tagger")
class LearnedPositions(keras.layers.Layer):
    """Adds a trained vector per position.

    Args:
        max_positions: longest sequence it can take, [CLS] included.

    Call: float [B, S, D], S <= max_positions -> the same shape; a longer input raises InvalidArgumentError.
    """

    def __init__(self, max_positions: int = 1024, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_positions = max_positions

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the table."""
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

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {**super().get_config(), "max_positions": self.max_positions}
