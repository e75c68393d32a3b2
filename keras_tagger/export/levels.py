"""Mixing to mono in the graph, by the rules of `keras_tagger.audio.levels`."""

from __future__ import annotations

import tensorflow as tf

from keras_tagger.audio.levels import CANCELLED_SHARE, SILENT_PEAK
from keras_tagger.models.music_tagger import heard_in


def mix_to_mono(samples: tf.Tensor, sample_rate: tf.Tensor | int) -> tf.Tensor:
    """Mix the channels of a whole file, second by second, as `keras_tagger.audio.levels.Mixer` does.

    Args:
        samples: float32 `[frames, channels]`, with at least one channel.
        sample_rate: Their rate in Hz, an int or an integer scalar.

    Returns:
        float32 `[frames]`: the mean of the channels, or one of them in each second in which they cancel each other.
        Silence becomes zeros, because resampling a constant offset would add clicks at its ends.
    """
    shape = tf.shape(samples)
    n_frames, n_channels = shape[0], shape[1]
    rate = tf.cast(sample_rate, tf.int32)
    seconds = -(-n_frames // rate)
    padded = tf.pad(samples, [[0, seconds * rate - n_frames], [0, 0]])
    blocks = tf.reshape(padded, [seconds, rate, n_channels])
    total = tf.reduce_sum(blocks, axis=2)
    powers = tf.reduce_sum(tf.square(blocks), axis=1)  # [seconds, channels]
    loudest = tf.reduce_max(powers, axis=1)
    heard = tf.reduce_max(tf.abs(blocks), axis=[1, 2]) > SILENT_PEAK
    cancelled = heard & (tf.reduce_sum(tf.square(total), axis=1) < CANCELLED_SHARE * loudest)
    chosen = tf.argmax(tf.cast(powers >= loudest[:, tf.newaxis] / 2, tf.int32), axis=1, output_type=tf.int32)
    one = tf.gather(blocks, chosen, axis=2, batch_dims=1)
    mixed = tf.where(cancelled[:, tf.newaxis], one, total / tf.cast(n_channels, tf.float32))
    mono = tf.reshape(mixed, [-1])[:n_frames]
    return mono * heard_in(mono[tf.newaxis])[0]
