"""Augmentation of a batch of waveforms, as a function of (seed, step), so that a resumed run repeats it."""

from __future__ import annotations

import functools
import math
from typing import Any

import tensorflow as tf

from keras_tagger.config import AugmentConfig
from keras_tagger.layers.replicas import own_rows, rolled

_CURVE_NODES = 6


def augment_waveforms(
    waveform: tf.Tensor, labels: tf.Tensor, config: AugmentConfig, seed: int, step: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Apply gain and equaliser, then mix each clip with the next one in the batch of all replicas (mixup).

    Args:
        waveform: float32 [B, samples].
        labels: float32 [B, n_tags].
        config: Which changes to make.
        seed: Seed of the run.
        step: Step of the run, an int scalar.

    Returns:
        The changed pair, of the same shapes.
    """
    gain_seed, first_seed, second_seed, curve_seed = tf.unstack(
        tf.random.split(tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64)]), 4)
    )
    batch = tf.shape(waveform)[0]
    if config.gain_db > 0:
        decibels = own_rows(functools.partial(_uniform, 1, gain_seed, config.gain_db), batch)
        waveform = waveform * tf.pow(10.0, decibels / 20.0)
    if config.equalize_db > 0:
        nodes = own_rows(functools.partial(_uniform, _CURVE_NODES, curve_seed, config.equalize_db), batch)
        waveform = _equalized(waveform, nodes)
    if config.mixup_alpha > 0:
        # Beta(a, a) as a ratio of two gamma draws.
        first, second = (
            own_rows(functools.partial(_gamma, mix_seed, config.mixup_alpha), batch)
            for mix_seed in (first_seed, second_seed)
        )
        share = first / tf.maximum(first + second, 1e-20)
        waveform = share * waveform + (1.0 - share) * rolled(waveform)
        labels = share * labels + (1.0 - share) * rolled(labels)
    return waveform, labels


def _uniform(columns: int, seed: tf.Tensor, limit: float, rows: Any) -> tf.Tensor:
    return tf.random.stateless_uniform([rows, columns], seed, minval=-limit, maxval=limit)


def _gamma(seed: tf.Tensor, alpha: float, rows: Any) -> tf.Tensor:
    return tf.random.stateless_gamma([rows, 1], seed, alpha)


def _equalized(waveform: tf.Tensor, nodes_db: tf.Tensor) -> tf.Tensor:
    """Multiply spectra by curves through decibels `[batch, n]` at n log-spaced frequencies, 1/200 to 1 of Nyquist's."""
    n_samples = waveform.shape[1] or tf.shape(waveform)[1]
    spectrum = tf.signal.rfft(waveform)
    share = tf.linspace(0.0, 1.0, tf.shape(spectrum)[1])
    last = _CURVE_NODES - 1
    place = tf.clip_by_value(1.0 + tf.math.log(tf.maximum(share, 1e-9)) / math.log(200.0), 0.0, 1.0) * last
    # Linear between nodes: each is a hat that is 1 at its own place and 0 at the next.
    hats = tf.maximum(1.0 - tf.abs(place - tf.range(_CURVE_NODES, dtype=tf.float32)[:, tf.newaxis]), 0.0)
    curve = tf.pow(10.0, tf.matmul(nodes_db, hats) / 20.0)
    return tf.signal.irfft(spectrum * tf.cast(curve, spectrum.dtype), [n_samples])
