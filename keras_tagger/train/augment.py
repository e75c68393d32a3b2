"""Changes to a batch of waveforms: functions of (seed, step), so that a resumed run makes the same ones."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_tagger.config import AugmentConfig
from keras_tagger.layers import SpecAugment


def augment_waveforms(
    waveform: tf.Tensor, labels: tf.Tensor, config: AugmentConfig, seed: int, step: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gain, then mixup of each clip with the one after it in the batch.

    Args:
        waveform: float32 [B, samples].
        labels: float32 [B, n_tags].
        config: what to do.
        seed: of the run.
        step: int scalar.

    Returns:
        The changed pair, of the same shapes.
    """
    gain_seed, *mix_seeds = tf.unstack(
        tf.random.split(tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64)]), 3)
    )
    batch = tf.shape(waveform)[0]
    if config.gain_db > 0:
        decibels = tf.random.stateless_uniform([batch, 1], gain_seed, minval=-config.gain_db, maxval=config.gain_db)
        waveform = waveform * tf.pow(10.0, decibels / 20.0)
    if config.mixup_alpha > 0:
        # Beta(a, a) as a ratio of two gamma draws.
        first, second = (tf.random.stateless_gamma([batch, 1], seed, config.mixup_alpha) for seed in mix_seeds)
        share = first / tf.maximum(first + second, 1e-20)
        waveform = share * waveform + (1.0 - share) * tf.roll(waveform, shift=-1, axis=0)
        labels = share * labels + (1.0 - share) * tf.roll(labels, shift=-1, axis=0)
    return waveform, labels


def spec_augment_layer(config: AugmentConfig, seed: int) -> SpecAugment | None:
    """The SpecAugment layer of a configuration, or None where it masks nothing."""
    if not config.n_time_masks and not config.n_freq_masks:
        return None
    return SpecAugment(
        n_time_masks=config.n_time_masks,
        time_mask_frames=config.time_mask_frames,
        n_freq_masks=config.n_freq_masks,
        freq_mask_bins=config.freq_mask_bins,
        seed=seed,
    )
