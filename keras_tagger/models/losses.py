"""The losses: cross-entropy of tags, of exclusive tags, and of contributions over stretches of time.

Labels that are NaN are unknown and do not count; exclusive tags have none. On several replicas
(`keras_tagger.layers.replicas`) each returns its share: their sum is the loss of all clips.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_tagger.layers.replicas import summed

_EPSILON = 1e-6
# Labels closer to 0 or 1 count as certain; a temperature would exaggerate their differences.
_SOFTEST = 1e-4


@keras.saving.register_keras_serializable(package="keras_tagger")
class TagLoss(keras.losses.Loss):
    """Mean binary cross-entropy over the labels that are known, as a Keras loss.

    Args:
        temperature: See `tag_loss`.

    Called with labels, float `[batch, n_tags]` in 0..1 with NaN for unknown, and logits of the same shape, it returns a
    float scalar.

    Example:
        >>> model.compile(optimizer="adam", loss=kt.TagLoss())
    """

    def __init__(self, temperature: float = 1.0, name: str = "tag_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **{"reduction": "none", **kwargs})
        self.temperature = temperature

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tf.Tensor:
        """Return the loss of a batch."""
        labels, logits = tf.cast(y_true, tf.float32), tf.cast(y_pred, tf.float32)
        return tag_loss(labels, logits, self.temperature, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "temperature": self.temperature}


def tag_loss(
    labels: tf.Tensor,
    logits: tf.Tensor,
    temperature: float = 1.0,
    sample_weight: Any = None,
    tag_weights: Any = None,
) -> tf.Tensor:
    """Return the mean binary cross-entropy over the labels that are known.

    With a temperature T above 1, the logits of labels and predictions are divided by it and the result is multiplied by
    T^2, which keeps the size of the gradients. Differences between small probabilities then count for more, as in the
    distillation of Hinton, Vinyals, Dean (2015, arXiv 1503.02531, section 2).

    Args:
        labels: float32 `[..., n_tags]` in 0..1, soft or hard; NaN if unknown.
        logits: float32 of the same shape.
        temperature: T, at least 1.
        sample_weight: Weight of each row, float `[...]`; None counts all equally.
        tag_weights: Weights of a label 0 and of a label 1 of each tag, float `[2, n_tags]` (`balanced_weights`); a soft
            label has a mixture of both. None counts all equally.

    Returns:
        float32 scalar; 0 if nothing is known.

    Example:
        >>> tag_loss(tf.constant([[1.0, float("nan")]]), tf.constant([[0.0, 5.0]]))
        <tf.Tensor: shape=(), dtype=float32, numpy=0.6931472>
    """
    known = tf.math.is_finite(labels)
    labels = tf.where(known, labels, 0.0)
    if temperature != 1.0:
        inside = tf.clip_by_value(labels, _SOFTEST, 1.0 - _SOFTEST)
        labels = tf.sigmoid((tf.math.log(inside) - tf.math.log1p(-inside)) / temperature)
        logits = logits / temperature
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    if tag_weights is not None:
        without, with_tag = tf.unstack(tf.cast(tag_weights, tf.float32))
        losses *= without + labels * (with_tag - without)
    return temperature**2 * _mean_of(losses, known, sample_weight)


def class_loss(labels: tf.Tensor, logits: tf.Tensor, sample_weight: Any = None, tag_weights: Any = None) -> tf.Tensor:
    """Return the mean cross-entropy of a softmax over exclusive tags.

    Args:
        labels: float32 `[batch, n_tags]` in 0..1; each row sums to one.
        logits: float32 of the same shape.
        sample_weight: Weight of each row, float `[batch]`; None counts all equally.
        tag_weights: Weights as for `tag_loss`, of which those of a label 1 count.

    Returns:
        float32 scalar.
    """
    losses = tf.nn.softmax_cross_entropy_with_logits(labels, logits)[:, tf.newaxis]
    if tag_weights is not None:
        losses *= tf.reduce_sum(labels * tf.cast(tag_weights[1], tf.float32), axis=-1, keepdims=True)
    return _mean_of(losses, tf.ones_like(losses, tf.bool), sample_weight)


def balanced_weights(labels: npt.NDArray[Any], exclusive: bool = False) -> npt.NDArray[Any]:
    """Return weights with which rare and common labels count equally, as scikit-learn's `balanced` does.

    A label is weighted by `n / (k * n_of_it)`, where k is 2, or with exclusive tags their number. The weights of all
    labels are 1 on average. A tag that all or none of the clips have is not weighted.

    Args:
        labels: float `[n_clips, n_tags]` in 0..1; NaN if unknown.
        exclusive: Whether each clip has exactly one tag.

    Returns:
        float32 `[2, n_tags]`: the weights of a label 0 and of a label 1.

    Example:
        >>> balanced_weights(np.array([[1.0], [0.0], [0.0], [0.0]]))
        array([[0.6666667],
               [2.       ]], dtype=float32)
    """
    known = np.isfinite(labels).sum(axis=0)
    having = np.nansum(labels, axis=0)
    if exclusive:
        counts = np.stack([np.full_like(having, len(labels) / len(having)), having])
        known, parts = np.full_like(having, len(labels)), len(having)
    else:
        counts, parts = np.stack([known - having, having]), 2
    weights = np.where(counts > 0, known / np.maximum(parts * counts, 1e-9), 1.0)
    if not exclusive:
        weights[:, (counts <= 0).any(axis=0)] = 1.0
    return weights.astype(np.float32)


def contribution_loss(logits: tf.Tensor, stretches: tf.Tensor, bounds: tf.Tensor, token_samples: int) -> tf.Tensor:
    """Return the mean binary cross-entropy between tag-wise contributions and dense labels.

    A tag's contribution of one token is its probability when the last layer attends to that token only (Won, Chun,
    Serra 2019, section 3.2). Their mean over the tokens of a stretch, each weighted by its share inside, is compared
    with the stretch's label.

    Args:
        logits: Logits of the contributions, float32 `[batch, T, n_tags]`.
        stretches: Labels, float32 `[batch, K, n_tags]` in 0..1; NaN if unknown.
        bounds: int32 `[batch, K, 2]`, first sample and end of each stretch within the crop.
        token_samples: Samples from one token to the next.

    Returns:
        float32 scalar; 0 if nothing is known.
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


def _mean_of(losses: tf.Tensor, known: tf.Tensor, sample_weight: Any = None) -> tf.Tensor:
    counted = tf.cast(known, losses.dtype)
    total = tf.maximum(summed(tf.reduce_sum(counted)), 1.0)
    if sample_weight is not None:
        counted *= tf.cast(sample_weight, losses.dtype)[..., tf.newaxis]
    return tf.reduce_sum(losses * counted) / total
