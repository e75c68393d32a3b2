"""Grad-CAM on the front-end's last feature maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_tagger.explain.inputs import connected, front_end_input, pick, scale, spec, traced
from keras_tagger.explain.maps import Maps, of_tokens
from keras_tagger.models.music_tagger import MusicTagger


def grad_cam(model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int]) -> Maps:
    """Gradient-weighted class activation map (Selvaraju et al. 2017, equations 1 and 2).

    Each channel of the front-end's last feature maps counts with the mean of the tag's gradient over time and
    frequency; of the sum what is above zero. As coarse as those maps: a column a token, and some bands where the maps
    have frequency.
    """
    seen = tf.constant(front_end_input(model, waveforms))
    call = traced(model, _grad_cam, spec(model), tf.TensorSpec([], tf.int32))
    values = np.stack([call(seen, tf.constant(row, tf.int32)).numpy() for row in rows], axis=1)
    if values.shape[3] == 1:
        return of_tokens(model, values[..., 0])
    mels = model.spectrogram.mel_frequencies()
    # Each band of the maps covers as many mel bands as the others.
    bands = [part.mean() for part in np.array_split(mels, values.shape[3])]
    return Maps(np.swapaxes(values, 2, 3), model.token_times(values.shape[2]), np.array(bands))


def _grad_cam(model: MusicTagger, seen: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """[B, T, F]."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(seen)
        values, maps = model.logits_and_feature_maps(seen)
        target = pick(values, row) * scale(model)
    slope = tf.cast(connected(tape.gradient(target, maps), "feature maps"), tf.float32) / scale(model)
    weights = tf.reduce_mean(slope, axis=[1, 2], keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1))
