"""SpecAugment, with random numbers that are a function of (seed, step)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_tagger.layers.base import ConfiguredLayer
from keras_tagger.layers.replicas import own_rows


def mask_spectrogram(
    spectrogram: tf.Tensor,
    seed: tf.Tensor,
    time_masks: tuple[int, int],
    freq_masks: tuple[int, int],
    mask_value: float = 0.0,
) -> tf.Tensor:
    """Mask random ranges of frames and of mel bands, drawn for each clip separately.

    Args:
        spectrogram: float `[batch, frames, n_mels]`.
        seed: Integer `[2]`; the masks are a function of it.
        time_masks: Number of time masks, and their maximum length in frames; lengths are uniform from 0.
        freq_masks: Number of frequency masks, and their maximum width in mel bands.
        mask_value: Value of masked cells.

    Returns:
        The masked spectrogram, of the same shape.
    """
    batch, frames, bands = tf.unstack(tf.shape(spectrogram))
    clip_seeds = own_rows(
        lambda rows: tf.random.stateless_uniform([rows, 2], seed, minval=None, maxval=None, dtype=tf.int32), batch
    )
    limits = [(frames, time_masks[1])] * time_masks[0] + [(bands, freq_masks[1])] * freq_masks[0]

    def places(clip_seed: tf.Tensor) -> tf.Tensor:
        found = []
        for index, (limit, longest) in enumerate(limits):
            width_seed, start_seed = tf.unstack(tf.random.split(clip_seed + tf.constant([index, 0]), 2))
            width = tf.random.stateless_uniform((), width_seed, 0, tf.minimum(longest, limit) + 1, tf.int32)
            start = tf.random.stateless_uniform((), start_seed, 0, limit - width + 1, tf.int32)
            found.append(tf.stack([start, start + width]))
        return tf.stack(found)

    if not limits:
        return spectrogram
    edges = tf.map_fn(places, clip_seeds, fn_output_signature=tf.TensorSpec([len(limits), 2], tf.int32))

    def inside(masks: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        place = tf.range(size)
        return tf.reduce_any((place >= masks[..., :1]) & (place < masks[..., 1:]), axis=1)

    in_time, in_frequency = inside(edges[:, : time_masks[0]], frames), inside(edges[:, time_masks[0] :], bands)
    masked = in_time[:, :, tf.newaxis] | in_frequency[:, tf.newaxis]
    return tf.where(masked, tf.cast(mask_value, spectrogram.dtype), spectrogram)


@keras.saving.register_keras_serializable(package="keras_tagger")
class SpecAugment(ConfiguredLayer):
    """Masks random ranges of frames and of mel bands in training (Park et al. 2019, arXiv 1904.08779).

    Each training call draws new masks from the seed; the generator's state is one of the layer's variables.
    `MusicTagger` does not use this layer but `mask_spectrogram`, as a function of (seed, step).

    Args:
        n_time_masks: Number of time masks; 0 is off.
        time_mask_frames: Maximum length of a time mask in frames; lengths are uniform from 0.
        n_freq_masks: Number of frequency masks; 0 is off.
        freq_mask_bins: Maximum width of a frequency mask in mel bands.
        mask_value: Value of masked cells.
        seed: Seed of the masks.

    Input shape:
        Spectrogram, float `[batch, frames, n_mels]`.

    Output shape:
        The same. Each clip has masks of its own.

    Example:
        >>> masked = SpecAugment(n_time_masks=2)(spectrogram, training=True)
    """

    def __init__(
        self,
        n_time_masks: int = 1,
        time_mask_frames: int = 40,
        n_freq_masks: int = 1,
        freq_mask_bins: int = 10,
        mask_value: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.remember(locals())
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, spectrogram: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Mask a batch in training; return it unchanged otherwise."""
        if not training:
            return spectrogram
        seed = tf.cast(self.generator.next(), tf.int64)
        time_masks, freq_masks = (self.n_time_masks, self.time_mask_frames), (self.n_freq_masks, self.freq_mask_bins)
        return mask_spectrogram(spectrogram, seed, time_masks, freq_masks, self.mask_value)
