"""What lets a step on the batches of several replicas equal a step on one batch of all their clips.

A replica is one of the devices of a `tf.distribute` strategy, on this machine or on several; the batch of all replicas
is their batches in order. Without a strategy there is one replica, and nothing here costs or changes anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def n_replicas() -> int:
    """Return the number of replicas that make this step together, 1 outside of one."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def summed(values: Any) -> Any:
    """Return the sum of a tensor over all replicas, or the sums of a list of tensors; gradients flow through it."""
    if n_replicas() == 1:
        return values
    # One transfer for many small tensors.
    options = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=1 << 25)
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values, options)


def gathered(value: tf.Tensor) -> tf.Tensor:
    """Return the tensors of all replicas along a new first axis, `[n_replicas, ...]`; gradients flow through it."""
    n = n_replicas()
    if n == 1:
        return value[tf.newaxis]
    shape = tf.concat([[n], tf.shape(value)], axis=0)
    return summed(tf.scatter_nd([[_index()]], value[tf.newaxis], shape))


def own_rows(draw: Callable[[Any], tf.Tensor], batch: Any) -> tf.Tensor:
    """Return this replica's rows of what is drawn at random for the batch of all replicas.

    Args:
        draw: Maps a number of rows to a tensor with as many.
        batch: Number of rows of this replica.
    """
    n = n_replicas()
    if n == 1:
        return draw(batch)
    return draw(batch * n)[_index() * batch : (_index() + 1) * batch]


def rolled(rows: tf.Tensor) -> tf.Tensor:
    """Return for each row the next one in the batch of all replicas, and the first one for the last."""
    n = n_replicas()
    if n == 1:
        return tf.roll(rows, shift=-1, axis=0)
    following = gathered(rows[0])[(_index() + 1) % n]
    return tf.concat([rows[1:], following[tf.newaxis]], axis=0)


def act_together(model: keras.layers.Layer) -> None:
    """Let Keras' batch normalisation and dropout inside a model act on the batch of all replicas."""
    for layer in model._flatten_layers():  # noqa: SLF001 (Keras has no public way to inner layers)
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
        elif type(layer) is keras.layers.Dropout:
            # A new layer would have a state of its own, in another place of the checkpoint.
            layer.__class__ = _Dropout


class _Dropout(keras.layers.Dropout):
    """Keras' dropout, with the masks that one replica would draw for all clips."""

    def call(self, inputs: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        """Drop values in training."""
        if n_replicas() == 1 or not training or not self.rate:
            return super().call(inputs, training=training)
        drop, shape = super().call, tf.shape(inputs)
        factors = own_rows(
            lambda rows: drop(tf.ones(tf.concat([[rows], shape[1:]], axis=0), inputs.dtype), training=True), shape[0]
        )
        return inputs * factors


def _index() -> Any:
    return tf.distribute.get_replica_context().replica_id_in_sync_group
