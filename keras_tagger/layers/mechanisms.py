"""How attention weights follow from queries and keys: one class for each mechanism that `SelfAttention` can use.

A mechanism turns projected queries `[batch, Q, heads, size]` and keys `[batch, S, heads, size]` into weights
`[batch, heads, Q, S]` whose rows sum to one. Token 0 is [CLS], which has no position in time. Mechanisms that use
distances use them between moments only; pairs with [CLS] are scored by content (in "relative", by content and a trained
vector).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops


class Mechanism:
    """Scaled dot-product attention ("absolute"): by content alone; positions are added to the tokens beforehand."""

    head_unit = 1
    """The size of a head must be a multiple of this."""

    drops_weights = True
    """Whether dropout acts on the weights."""

    def table_shape(self, n_heads: int, head_size: int) -> tuple[int, int, int] | None:
        """Return the shape of the trained table, or None if there is none."""
        return None

    def weights(self, query: tf.Tensor, key: tf.Tensor, mask: tf.Tensor | None, table: Any) -> tf.Tensor:
        """Return the attention weights; `mask` is bool `[batch, 1, Q, S]`, True where a query may attend."""
        logits = ops.cast(self.logits(query * query.shape[-1] ** -0.5, key, table), "float32")
        allowed = self.allowed(query, key)
        if allowed is not None:
            mask = allowed if mask is None else ops.logical_and(allowed, mask)
        logits = logits if mask is None else ops.where(mask, logits, -1e9)
        return ops.cast(tf.nn.softmax(logits), query.dtype)

    def logits(self, query: tf.Tensor, key: tf.Tensor, table: Any) -> tf.Tensor:
        """Return the logits of scaled queries and keys."""
        return ops.einsum("bqhk,bshk->bhqs", query, key)

    def allowed(self, query: tf.Tensor, key: tf.Tensor) -> tf.Tensor | None:
        """Return which pairs may attend, bool `[Q, S]`, or None for all."""
        return None

    def attend(self, query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> tf.Tensor | None:
        """Return the attended values `[batch, Q, heads, size]` without computing weights, or None if impossible."""
        return None


class Relative(Mechanism):
    """Adds to each key a trained vector per head and distance, up to `max_distance` tokens either way.

    Shaw et al. 2018, equation 4, without vectors for values. The logits are computed from products with the table, as
    in Music Transformer (Huang et al. 2018), so memory use is that of the weights.
    """

    def __init__(self, max_distance: int) -> None:
        self.max_distance = max_distance

    def table_shape(self, n_heads: int, head_size: int) -> tuple[int, int, int] | None:
        """Rows for distances -max_distance..max_distance, then for pairs whose query, and whose key, is [CLS]."""
        return 2 * self.max_distance + 3, n_heads, head_size

    def logits(self, query: tf.Tensor, key: tf.Tensor, table: Any) -> tf.Tensor:
        """Add the products of queries with the vectors of their distances."""
        products = ops.einsum("bqhk,rhk->qbhr", query, ops.cast(table, query.dtype))
        limit = self.max_distance
        rows = ops.clip(_distances(query, key), -limit, limit) + limit
        rows = ops.where(_places(key)[None] == 0, 2 * limit + 2, rows)
        rows = ops.where(_places(query)[:, None] == 0, 2 * limit + 1, rows)
        # Keras has no gather with batch dimensions.
        by_distance = tf.gather(products, rows, axis=3, batch_dims=1)
        return super().logits(query, key, table) + ops.transpose(by_distance, (1, 2, 0, 3))


class Rotary(Mechanism):
    """Rotates queries and keys by angles proportional to their place (RoFormer, Su et al. 2021, equation 15)."""

    head_unit = 2

    def logits(self, query: tf.Tensor, key: tf.Tensor, table: Any) -> tf.Tensor:
        """Use rotated queries and keys between moments, and plain ones with [CLS]."""
        turned = super().logits(_rotated(query), _rotated(key), table)
        return ops.where(_with_class_token(query, key), super().logits(query, key, table), turned)


class Alibi(Mechanism):
    """Subtracts m |i - j| from the logits, m = 2^(-8 h / n_heads) for heads h = 1, 2, ... (Press et al. 2022).

    It acts in both directions, because the tokens of music need no causal order.
    """

    def logits(self, query: tf.Tensor, key: tf.Tensor, table: Any) -> tf.Tensor:
        """Subtract the distances from the logits."""
        n_heads = query.shape[2]
        slopes = 2.0 ** (-8.0 * np.arange(1, n_heads + 1) / n_heads)
        apart = ops.cast(ops.abs(_distances(query, key)), "float32")
        apart = ops.where(_with_class_token(query, key), 0.0, apart)
        bias = ops.convert_to_tensor(slopes, "float32")[:, None, None] * apart
        return ops.cast(super().logits(query, key, table), "float32") - bias


class Local(Mechanism):
    """Lets moments attend up to `window` tokens away and to [CLS]; [CLS] attends to all tokens.

    Longformer (Beltagy et al. 2020) with one global token.
    """

    def __init__(self, window: int) -> None:
        self.window = window

    def allowed(self, query: tf.Tensor, key: tf.Tensor) -> tf.Tensor | None:
        """Allow near pairs and pairs with [CLS]."""
        near = ops.abs(_distances(query, key)) <= self.window
        return ops.logical_or(near, _with_class_token(query, key))


class Linear(Mechanism):
    """Weights are products of elu(x) + 1 of query and key, normalised (Katharopoulos et al. 2020, equations 4 to 7).

    Without scores or a mask, time is proportional to the length and no weights are computed. With them, the weights
    that the formula implies are returned. There are no weights to drop.
    """

    drops_weights = False

    def weights(self, query: tf.Tensor, key: tf.Tensor, mask: tf.Tensor | None, table: Any) -> tf.Tensor:
        """Return the weights that linear attention implies."""
        products = ops.cast(self.logits(_feature(query), _feature(key), table), "float32")
        products = products if mask is None else ops.where(mask, products, 0.0)
        total = ops.maximum(ops.sum(products, axis=-1, keepdims=True), 1e-30)
        return ops.cast(products / total, query.dtype)

    def attend(self, query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> tf.Tensor | None:
        """Sum keys and values first, in float32: half precision has too few digits for long sums."""
        query, key, wide = (ops.cast(x, "float32") for x in (_feature(query), _feature(key), value))
        summed = ops.einsum("bshk,bshv->bhkv", key, wide)
        total = ops.einsum("bqhk,bhk->bqh", query, ops.sum(key, axis=1))
        return ops.cast(ops.einsum("bqhk,bhkv->bqhv", query, summed) / total[..., None], value.dtype)


KINDS = ("absolute", "relative", "rotary", "alibi", "local", "linear")


def mechanism_from_kind(kind: str, max_distance: int, window: int) -> Mechanism:
    """Return the mechanism of a kind (one of `KINDS`)."""
    if kind == "relative":
        return Relative(max_distance)
    if kind == "local":
        return Local(window)
    return {"absolute": Mechanism, "rotary": Rotary, "alibi": Alibi, "linear": Linear}[kind]()


def _places(x: tf.Tensor) -> tf.Tensor:
    return ops.arange(ops.shape(x)[1], dtype="int32")


def _distances(query: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Place of the key minus that of the query, int32 [Q, S]."""
    return _places(key)[None] - _places(query)[:, None]


def _with_class_token(query: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Return which pairs contain [CLS], bool [Q, S]."""
    return ops.logical_or(_places(key)[None] == 0, _places(query)[:, None] == 0)


def _rotated(x: tf.Tensor) -> tf.Tensor:
    """Rotate each pair of channels (2i, 2i + 1) at place p by p / 10000^(2i / k); [batch, S, heads, k]."""
    size = x.shape[-1]
    rates = ops.convert_to_tensor(10000.0 ** (-np.arange(0, size, 2) / size), "float32")
    angles = ops.cast(_places(x), "float32")[:, None, None] * rates
    cosine, sine = ops.cast(ops.cos(angles), x.dtype), ops.cast(ops.sin(angles), x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = ops.stack([even * cosine - odd * sine, even * sine + odd * cosine], axis=-1)
    return ops.reshape(turned, ops.shape(x))


def _feature(x: tf.Tensor) -> tf.Tensor:
    return keras.activations.elu(x) + 1.0
