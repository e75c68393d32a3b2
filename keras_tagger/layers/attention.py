"""Multi-head attention with several mechanisms behind one interface, that of `keras.layers.MultiHeadAttention`.

    attention(queries, context, attention_mask=..., return_attention_scores=..., training=...)
    attention.value_dense, attention.output_dense

In every mechanism a weight multiplies the value of its token and nothing else. Attention over a single key is therefore
that key's value, whatever the mechanism. Tag-wise contributions rely on this (`TransformerBlock.attend_single`).
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_tagger.layers.base import ConfiguredLayer
from keras_tagger.layers.mechanisms import KINDS, mechanism_from_kind

__all__ = ["KINDS", "SelfAttention", "attention_from_kind", "scores_spec"]


def attention_from_kind(
    kind: str, n_heads: int, width: int, dropout: float, bias: bool, max_distance: int, window: int, **kwargs: Any
) -> keras.layers.Layer:
    """Return the layer for a kind of attention; "absolute" with biases is Keras' own."""
    if kind == "absolute" and bias:
        return keras.layers.MultiHeadAttention(n_heads, width // n_heads, dropout=dropout, **kwargs)
    return SelfAttention(n_heads, width, kind, dropout, bias, max_distance, window, **kwargs)


def scores_spec(queries: Any, context: Any, n_heads: int, dtype: str) -> keras.KerasTensor:
    """Return the symbolic attention scores `[batch, n_heads, Q, S]`."""
    context = queries if context is None else context
    return keras.KerasTensor((queries.shape[0], n_heads, queries.shape[1], context.shape[1]), dtype=dtype)


class AttendingLayer(ConfiguredLayer):
    """Base of layers whose queries attend to a context: the output has the shape of the queries."""

    n_heads: int

    def compute_output_shape(self, queries_shape: Any, context_shape: Any = None) -> Any:
        """Return the queries' shape."""
        return queries_shape

    def compute_output_spec(
        self, queries: Any, /, context: Any = None, *args: Any, return_attention_scores: bool = False, **kwargs: Any
    ) -> Any:
        """Return the symbolic output, and the scores if asked for."""
        output = super().compute_output_spec(queries)
        if not return_attention_scores:
            return output
        return output, scores_spec(queries, context, self.n_heads, self.compute_dtype)


@keras.saving.register_keras_serializable(package="keras_tagger")
class SelfAttention(AttendingLayer):
    """Multi-head attention (Vaswani et al. 2017, section 3.2) of one kind; see `keras_tagger.layers.mechanisms`.

    Args:
        n_heads: Number of heads.
        width: Channels; a multiple of n_heads, and of twice that for "rotary".
        kind: "absolute", "relative", "rotary", "alibi", "local" or "linear".
        dropout: Dropout rate of the weights, 0..1.
        bias: Whether queries, keys and values have biases; the output always has one.
        max_distance: For "relative": larger distances, in tokens, count as this one.
        window: For "local": how many tokens to either side a token attends to.

    Input shape:
        Queries, float `[batch, Q, width]`, which are the first Q tokens of the context, and the context
        `[batch, S, width]`; without a context, the queries attend to each other. `attention_mask` is bool,
        broadcastable to `[batch, Q, S]`, and True where a query may attend. Each query needs at least one such token.

    Output shape:
        `[batch, Q, width]`. With `return_attention_scores`, also the weights before dropout `[batch, n_heads, Q, S]`,
        whose rows sum to one.

    Example:
        >>> output, scores = SelfAttention(4, 64, "relative")(tokens, return_attention_scores=True)
    """

    def __init__(
        self,
        n_heads: int,
        width: int,
        kind: str = "absolute",
        dropout: float = 0.0,
        bias: bool = True,
        max_distance: int = 64,
        window: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.remember(locals())
        self.mechanism = mechanism_from_kind(kind if kind in KINDS else "absolute", max_distance, window)
        unit = n_heads * self.mechanism.head_unit
        if kind not in KINDS or width % unit:
            raise ValueError(
                f"attention: expected one of {', '.join(KINDS)}, and a width that is a multiple of {unit}. "
                f"Received: {kind!r} and {width}."
            )
        self.head_size = width // n_heads
        self.query_dense, self.key_dense, self.value_dense = (
            keras.layers.EinsumDense(
                "bsd,dhk->bshk",
                (None, n_heads, self.head_size),
                bias_axes="hk" if bias else None,
                name=name,
                dtype=self.dtype_policy,
            )
            for name in ("query", "key", "value")
        )
        for dense in (self.query_dense, self.key_dense, self.value_dense):
            dense.supports_masking = True
        self.output_dense = keras.layers.EinsumDense(
            "bshk,hkd->bsd", (None, width), bias_axes="d", name="attention_output", dtype=self.dtype_policy
        )
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.table: Any = None

    def build(self, queries_shape: Any, context_shape: Any = None) -> None:
        """Create the weights."""
        for layer in (self.query_dense, self.key_dense, self.value_dense):
            layer.build((None, None, self.width))
        self.output_dense.build((None, None, self.n_heads, self.head_size))
        shape = self.mechanism.table_shape(self.n_heads, self.head_size)
        if shape is not None:
            self.table = self.add_weight(
                name="table", shape=shape, initializer=keras.initializers.RandomNormal(stddev=0.02)
            )

    def call(
        self,
        queries: tf.Tensor,
        context: tf.Tensor | None = None,
        attention_mask: tf.Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        """Let the queries attend to the context, or to themselves if there is none."""
        context = queries if context is None else context
        attention_mask = with_padding(attention_mask, keras_mask(context))
        query, key, value = self.query_dense(queries), self.key_dense(context), self.value_dense(context)
        if attention_mask is None and not return_attention_scores:
            attended = self.mechanism.attend(query, key, value)
            if attended is not None:
                return self.output_dense(attended)
        mask = None if attention_mask is None else ops.cast(attention_mask, "bool")[:, None]
        weights = self.mechanism.weights(query, key, mask, self.table)
        dropped = self.drop(weights, training=training) if self.mechanism.drops_weights else weights
        attended = self.output_dense(ops.einsum("bhqs,bshk->bqhk", dropped, value))
        return (attended, weights) if return_attention_scores else attended


def keras_mask(x: Any) -> Any:
    """Return the mask that Keras attached to a tensor (bool `[batch, tokens]`), or None."""
    return getattr(x, "_keras_mask", None)


def with_padding(attention_mask: Any, padding_mask: Any) -> Any:
    """Return an attention mask that also excludes padded keys (`padding_mask` is False)."""
    if padding_mask is None:
        return attention_mask
    keys = ops.cast(padding_mask, "bool")[:, None]
    return keys if attention_mask is None else ops.logical_and(ops.cast(attention_mask, "bool"), keys)


# Files that were saved under the first name of the layer.
keras.saving.get_custom_objects()["keras_tagger>Attention"] = SelfAttention
