"""The losses: cross-entropy of tags, of exclusive tags, and of contributions over stretches of time.

Labels that are NaN, which exclusive tags do not have, do not count.
"""

from __future__ import annotations

import tensorflow as tf

_EPSILON = 1e-6
# Labels nearer to 0 or 1 are as good as certain; a temperature would make much of them.
_SOFTEST = 1e-4


def tag_loss(labels: tf.Tensor, logits: tf.Tensor, temperature: float = 1.0) -> tf.Tensor:
    """Mean binary cross-entropy over the labels that are known.

    With a temperature T above 1, logits of both sides are divided by it, and the result multiplied by T^2, which keeps
    the size of the gradients: differences between small probabilities count for more, as in the distillation of
    Hinton, Vinyals, Dean (2015, arXiv 1503.02531, section 2).

    Args:
        labels: float32 [..., n_tags] in 0..1, soft or hard; NaN where unknown.
        logits: float32, of the same shape.
        temperature: T, at least 1.

    Returns:
        float32 scalar; 0 where nothing is known.
    """
    known = tf.math.is_finite(labels)
    labels = tf.where(known, labels, 0.0)
    if temperature != 1.0:
        inside = tf.clip_by_value(labels, _SOFTEST, 1.0 - _SOFTEST)
        labels = tf.sigmoid((tf.math.log(inside) - tf.math.log1p(-inside)) / temperature)
        logits = logits / temperature
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    return temperature**2 * _mean_of(losses, known)


def class_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Mean cross-entropy of a softmax over exclusive tags.

    Args:
        labels: float32 [B, n_tags] in 0..1; each row sums to one.
        logits: float32, of the same shape.

    Returns:
        float32 scalar.
    """
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels, logits))


def contribution_loss(logits: tf.Tensor, stretches: tf.Tensor, bounds: tf.Tensor, token_samples: int) -> tf.Tensor:
    """Mean binary cross-entropy between tag-wise contributions, averaged over stretches of time, and dense labels.

    A tag's contribution of one token is its probability when the last layer attends to that token only (Won, Chun,
    Serra 2019, section 3.2). Their mean over the tokens of a stretch, each counted by the share of it inside, is held
    against the stretch's label.

    Args:
        logits: of the contributions, float32 [B, T, n_tags].
        stretches: labels float32 [B, K, n_tags] in 0..1; NaN where unknown.
        bounds: int32 [B, K, 2], first sample and end of each stretch within the crop.
        token_samples: samples from one token to the next.

    Returns:
        float32 scalar; 0 where nothing is known.
    """
    starts = tf.range(tf.shape(logits)[1]) * token_samples
    first, end = bounds[..., :1], bounds[..., 1:]
    overlap = tf.minimum(end, starts + token_samples) - tf.maximum(first, starts)
    weights = tf.cast(tf.maximum(overlap, 0), tf.float32)
    weights /= tf.maximum(tf.reduce_sum(weights, axis=-1, keepdims=True), 1.0)
    mean = tf.clip_by_value(tf.matmul(weights, tf.sigmoid(logits)), _EPSILON, 1.0 - _EPSILON)
    known = tf.math.is_finite(stretches)
    labels = tf.where(known, stretches, 0.0)
    return _mean_of(-labels * tf.math.log(mean) - (1.0 - labels) * tf.math.log1p(-mean), known)


def _mean_of(losses: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
    counted = tf.cast(known, losses.dtype)
    return tf.reduce_sum(losses * counted) / tf.maximum(tf.reduce_sum(counted), 1.0)
