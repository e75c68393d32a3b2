"""Mechanisms of self-attention behind one interface: that of `keras.layers.MultiHeadAttention`.

    attention(queries, context, attention_mask=..., return_attention_scores=..., training=...)
    attention.value_dense, attention.output_dense

In all of them a weight multiplies the value of its token and nothing else, so attention over one key is that key's
value whatever the mechanism: what tag-wise contributions stand on (`TransformerBlock.attend_single`).

Token 0 of the context is [CLS], which has no place in time: where a mechanism knows distances they are between moments
only, and pairs with [CLS] go by content (for "relative", by content and a trained vector).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

KINDS = ("absolute", "relative", "rotary", "alibi", "local", "linear")


def attention_from_kind(
    kind: str, n_heads: int, width: int, dropout: float, bias: bool, max_distance: int, window: int, **kwargs: Any
) -> keras.layers.Layer:
    """The layer of a kind of attention; "absolute" with biases is Keras' own."""
    if kind == "absolute" and bias:
        return keras.layers.MultiHeadAttention(n_heads, width // n_heads, dropout=dropout, **kwargs)
    return Attention(n_heads, width, kind, dropout, bias, max_distance, window, **kwargs)


@keras.saving.register_keras_serializable(package="keras_tagger")
class Attention(keras.layers.Layer):
    """Multi-head attention (Vaswani et al. 2017, section 3.2) of one of these kinds.

    - "absolute": by content alone; positions are added to the tokens before.
    - "relative": a trained vector per head and distance, up to `max_distance` either way, is added to the keys (Shaw et
      al. 2018, equation 4, without vectors for values; computed from products with the table as in Music Transformer,
      Huang et al. 2018, so that memory is that of the weights).
    - "rotary": queries and keys turned by angles in proportion to their place (RoFormer, Su et al. 2021, equation 15).
    - "alibi": m |i - j| is subtracted from logits, m = 2^(-8 h / n_heads) for heads h = 1, 2, ... (Press et al. 2022;
      both ways, as there is no order of time to keep).
    - "local": moments attend to moments up to `window` away and to [CLS], [CLS] to all (Longformer, Beltagy et al.
      2020, with one global token).
    - "linear": weights are products of elu(x) + 1 of query and key, normalised (Katharopoulos et al. 2020, equations 4
      to 7). Without scores it takes time in proportion to the length and makes no matrix of weights; with them it
      gives the weights that this implies. There are no weights to drop out.

    Args:
        n_heads, width: sizes; width is a multiple of n_heads, and for "rotary" of twice that.
        kind: one of the above.
        dropout: rate of the weights, 0..1.
        bias: whether queries, keys and values have biases; the output has one.
        max_distance: of "relative", tokens; longer distances count as that.
        window: of "local", tokens to either side.

    Call: queries float [B, Q, D], the first Q tokens of the context; context [B, S, D]; attention_mask bool, broadcast
        to [B, Q, S], True where a query may look (each somewhere) -> [B, Q, D]; with `return_attention_scores`, also
        the weights before dropout [B, n_heads, Q, S], each row summing to one.
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
        unit = 2 * n_heads if kind == "rotary" else n_heads
        if kind not in KINDS or width % unit:
            raise ValueError(
                f"attention: expected one of {', '.join(KINDS)}, and a width that is a multiple of {unit}. "
                f"Received: {kind!r} and {width}."
            )
        self.n_heads = n_heads
        self.width = width
        self.kind = kind
        self.dropout = dropout
        self.bias = bias
        self.max_distance = max_distance
        self.window = window
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
        self.output_dense = keras.layers.EinsumDense(
            "bshk,hkd->bsd", (None, width), bias_axes="d", name="attention_output", dtype=self.dtype_policy
        )
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, queries_shape: Any, context_shape: Any = None) -> None:
        """Make the weights."""
        for layer in (self.query_dense, self.key_dense, self.value_dense):
            layer.build((None, None, self.width))
        self.output_dense.build((None, None, self.n_heads, self.head_size))
        if self.kind == "relative":
            # Distances -max_distance to max_distance, then the pairs whose query, and whose key, is [CLS].
            self.table = self.add_weight(
                name="table",
                shape=(2 * self.max_distance + 3, self.n_heads, self.head_size),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
            )

    def call(
        self,
        queries: tf.Tensor,
        context: tf.Tensor | None = None,
        attention_mask: tf.Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        """Let the queries attend to the context; without one, to themselves."""
        context = queries if context is None else context
        query, key, value = self.query_dense(queries), self.key_dense(context), self.value_dense(context)
        if self.kind == "linear" and attention_mask is None and not return_attention_scores:
            return self.output_dense(_linear(_feature(query), _feature(key), value))
        weights = self._weights(query, key, attention_mask)
        dropped = weights if self.kind == "linear" else self.drop(weights, training=training)
        attended = self.output_dense(tf.einsum("bhqs,bshk->bqhk", dropped, value))
        return (attended, weights) if return_attention_scores else attended

    def _weights(self, query: tf.Tensor, key: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        """[B, Q, heads, k] and [B, S, heads, k] -> [B, heads, Q, S]."""
        if mask is not None:
            mask = tf.cast(mask, tf.bool)[:, tf.newaxis]
        if self.kind == "linear":
            products = tf.cast(tf.einsum("bqhk,bshk->bhqs", _feature(query), _feature(key)), tf.float32)
            products = products if mask is None else tf.where(mask, products, 0.0)
            weights = products / tf.reduce_sum(products, axis=-1, keepdims=True)
        else:
            logits = tf.cast(self._logits(query * self.head_size**-0.5, key), tf.float32)
            if self.kind == "local":
                near = tf.abs(_distances(query, key)) <= self.window
                near = (near | _with_class_token(query, key))[tf.newaxis, tf.newaxis]
                mask = near if mask is None else near & mask
            logits = logits if mask is None else tf.where(mask, logits, -1e9)
            weights = tf.nn.softmax(logits)
        return tf.cast(weights, query.dtype)

    def _logits(self, query: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        by_content = tf.einsum("bqhk,bshk->bhqs", query, key)
        if self.kind == "relative":
            return by_content + self._relative(query, key)
        if self.kind == "rotary":
            turned = tf.einsum("bqhk,bshk->bhqs", _rotated(query), _rotated(key))
            return tf.where(_with_class_token(query, key), by_content, turned)
        if self.kind == "alibi":
            slopes = 2.0 ** (-8.0 * np.arange(1, self.n_heads + 1) / self.n_heads)
            apart = tf.cast(tf.abs(_distances(query, key)), tf.float32)
            apart = tf.where(_with_class_token(query, key), 0.0, apart)
            bias = tf.constant(slopes, tf.float32)[:, tf.newaxis, tf.newaxis] * apart
            return tf.cast(by_content, tf.float32) - bias
        return by_content

    def _relative(self, query: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Products of queries with the vectors of their distances, [B, heads, Q, S]."""
        products = tf.einsum("bqhk,rhk->qbhr", query, tf.cast(self.table, query.dtype))
        limit = self.max_distance
        rows = tf.clip_by_value(_distances(query, key), -limit, limit) + limit
        n_queries, n_keys = tf.shape(rows)[0], tf.shape(rows)[1]
        first_query, first_key = tf.range(n_queries)[:, tf.newaxis] == 0, tf.range(n_keys)[tf.newaxis] == 0
        rows = tf.where(first_key, 2 * limit + 2, rows)
        rows = tf.where(first_query, 2 * limit + 1, rows)
        return tf.transpose(tf.gather(products, rows, axis=3, batch_dims=1), [1, 2, 0, 3])

    def compute_output_shape(self, queries_shape: Any, context_shape: Any = None) -> Any:
        """The same as the queries'."""
        return queries_shape

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        names = ("n_heads", "width", "kind", "dropout", "bias", "max_distance", "window")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _distances(query: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Place of the key less that of the query, int32 [Q, S]."""
    return tf.range(tf.shape(key)[1])[tf.newaxis] - tf.range(tf.shape(query)[1])[:, tf.newaxis]


def _with_class_token(query: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Whether either of a pair is [CLS], bool [Q, S]."""
    return (tf.range(tf.shape(key)[1])[tf.newaxis] == 0) | (tf.range(tf.shape(query)[1])[:, tf.newaxis] == 0)


def _rotated(x: tf.Tensor) -> tf.Tensor:
    """Each pair of channels (2i, 2i + 1) of place p turned by p / 10000^(2i / k); [B, S, heads, k]."""
    size = x.shape[-1]
    rates = tf.constant(10000.0 ** (-np.arange(0, size, 2) / size), tf.float32)
    angles = tf.cast(tf.range(tf.shape(x)[1]), tf.float32)[:, tf.newaxis, tf.newaxis] * rates
    cosine, sine = tf.cast(tf.cos(angles), x.dtype), tf.cast(tf.sin(angles), x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = tf.stack([even * cosine - odd * sine, even * sine + odd * cosine], axis=-1)
    return tf.reshape(turned, tf.shape(x))


def _feature(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.elu(x) + 1.0


def _linear(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """[B, Q, heads, k], [B, S, heads, k] twice -> [B, Q, heads, k], without the weights in between."""
    # In float32: sums over a long context lose half precision's few digits.
    query, key, wide = (tf.cast(x, tf.float32) for x in (query, key, value))
    summed = tf.einsum("bshk,bshv->bhkv", key, wide)
    total = tf.einsum("bqhk,bhk->bqh", query, tf.reduce_sum(key, axis=1))
    return tf.cast(tf.einsum("bqhk,bhkv->bqhv", query, summed) / total[..., tf.newaxis], value.dtype)
