"""Gradient x attention, rolled out over the layers: attention that speaks for one tag."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_tagger.explain.inputs import connected, front_end_input, pick, scale, spec, traced
from keras_tagger.explain.maps import Maps, of_tokens
from keras_tagger.models.music_tagger import MusicTagger


def relevance(model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int]) -> Maps:
    """Relevance of each token to a tag (Chefer, Gur, Wolf 2021b, ICCV, equations 5 and 6, for self-attention).

    Of each layer, A = mean over heads of (gradient of the tag's logit x attention)+; R begins as the identity and
    becomes R + A R; the map is [CLS]'s row of R.
    """
    seen = tf.constant(front_end_input(model, waveforms))
    call = traced(model, _relevance, spec(model), tf.TensorSpec([], tf.int32))
    maps = [call(seen, tf.constant(row, tf.int32)).numpy() for row in rows]
    return of_tokens(model, np.stack(maps, axis=1))


def _relevance(model: MusicTagger, seen: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        # Something that the weights depend on has to be watched for them to be on the tape.
        tape.watch(seen)
        values, weights = model.logits_of(seen, return_attention_scores=True)
        target = pick(values, row) * scale(model)
    size = tf.shape(weights[0])
    joint = tf.eye(size[-1], batch_shape=[size[0]])
    for gradient, weight in zip(tape.gradient(target, weights), weights, strict=True):
        slope = tf.cast(connected(gradient, "attention weights"), tf.float32) / scale(model)
        step = tf.reduce_mean(tf.nn.relu(slope * tf.cast(weight, tf.float32)), axis=1)
        joint += step @ joint
    return joint[:, 0, 1:]
