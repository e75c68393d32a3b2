"""The head: from [CLS] to one logit per tag."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_tagger.layers.base import ConfiguredLayer


@keras.saving.register_keras_serializable(package="keras_tagger")
class TagHead(ConfiguredLayer):
    """Optional pooler (dense and tanh), dropout and a dense layer.

    Args:
        n_tags: Number of outputs.
        pooler: Whether to add the dense tanh layer (BERT's, used by Won et al. 2019).
        dropout: Dropout rate, 0..1.

    Input shape:
        float `[..., width]`.

    Output shape:
        Logits `[..., n_tags]`, float32 under every dtype policy.

    Example:
        >>> TagHead(50)(np.zeros((2, 64))).shape
        TensorShape([2, 50])
    """

    float32_output = True

    def __init__(self, n_tags: int, pooler: bool = False, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.remember({"n_tags": n_tags, "pooler": pooler, "dropout": dropout})
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.logits = keras.layers.Dense(n_tags, name="logits", dtype="float32")
        self.pool: keras.layers.Dense | None = None

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        if self.pooler:
            self.pool = keras.layers.Dense(input_shape[-1], activation="tanh", name="pool", dtype=self.dtype_policy)
            self.pool.build(input_shape)
        self.logits.build(input_shape)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Compute the logits."""
        if self.pool is not None:
            x = self.pool(x)
        return self.logits(self.drop(x, training=training))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return `[..., n_tags]`."""
        return (*input_shape[:-1], self.n_tags)
