"""The head: [CLS] to one logit per tag."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_tagger")
class TagHead(keras.layers.Layer):
    """Optional pooler (dense + tanh), dropout, dense.

    Args:
        n_tags: outputs.
        pooler: whether the dense tanh layer is there (BERT's, used by Won et al. 2019).
        dropout: rate, 0..1.

    Call: float [..., D] -> logits float32 [..., n_tags], whatever the dtype policy.
    """

    def __init__(self, n_tags: int, pooler: bool = False, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_tags = n_tags
        self.pooler = pooler
        self.dropout = dropout
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.logits = keras.layers.Dense(n_tags, name="logits", dtype="float32")
        self.pool: keras.layers.Dense | None = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        if self.pooler:
            self.pool = keras.layers.Dense(input_shape[-1], activation="tanh", name="pool", dtype=self.dtype_policy)
            self.pool.build(input_shape)
        self.logits.build(input_shape)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Compute the logits."""
        if self.pool is not None:
            x = self.pool(x)
        return self.logits(self.drop(x, training=training))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """[..., D] -> [..., n_tags]."""
        return (*input_shape[:-1], self.n_tags)

    def compute_output_spec(self, x: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        """The symbolic output: float32, whatever the dtype policy."""
        return keras.KerasTensor(self.compute_output_shape(x.shape), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {
            **super().get_config(),
            "n_tags": self.n_tags,
            "pooler": self.pooler,
            "dropout": self.dropout,
        }
