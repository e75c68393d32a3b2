"""SpecAugment: kapre's layer, with random numbers that a checkpoint can restore."""

from __future__ import annotations

from typing import Any

import kapre.augmentation
import keras
import tensorflow as tf


class _SeededMasks(kapre.augmentation.SpecAugment):
    """kapre's masking of one clip, with each mask's place and width drawn from a seed."""

    def mask_clip(self, clip: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Mask a spectrogram [frames, n_mels, 1]; seed int32 [2]."""
        axes = [(0, self.time_mask_param)] * self.n_time_masks + [(1, self.freq_mask_param)] * self.n_freq_masks
        for index, (axis, param) in enumerate(axes):
            self._mask_seed = seed + tf.constant([index, 0])
            self._longest = param
            # kapre refuses a clip that is shorter than the longest mask; here masks are held to the clip's length.
            clip = self._apply_masks_to_axis(clip, axis=axis, mask_param=1, n_masks=1)
        return clip

    def _generate_axis_mask(self, inputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        limit, indices, _ = inputs
        width_seed, start_seed = tf.unstack(tf.random.split(self._mask_seed, 2))
        longest = tf.minimum(self._longest, limit)
        width = tf.random.stateless_uniform((), width_seed, 0, longest + 1, tf.int32)
        start = tf.random.stateless_uniform((), start_seed, 0, limit - width + 1, tf.int32)
        return (indices >= start) & (indices < start + width)


@keras.saving.register_keras_serializable(package="keras_tagger")
class SpecAugment(keras.layers.Layer):
    """Masks random stretches of frames and of mel bands in training (Park et al. 2019, arXiv 1904.08779).

    kapre draws from TensorFlow's global generator, whose state is lost when a run is killed. Here a call takes the
    step it is made for, and the masks are a function of (seed, step).

    Args:
        n_time_masks, time_mask_frames: number of masks and their greatest length in frames, uniform from 0; 0 masks for
            none.
        n_freq_masks, freq_mask_bins: the same over mel bands.
        mask_value: what masked values become.
        seed: of the masks.

    Call: spectrogram [B, frames, n_mels], step (int scalar) -> the same shape; each clip has masks of its own.
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
        self.n_time_masks = n_time_masks
        self.time_mask_frames = time_mask_frames
        self.n_freq_masks = n_freq_masks
        self.freq_mask_bins = freq_mask_bins
        self.mask_value = mask_value
        self.seed = seed
        self.masks = _SeededMasks(
            freq_mask_param=freq_mask_bins,
            time_mask_param=time_mask_frames,
            n_freq_masks=n_freq_masks,
            n_time_masks=n_time_masks,
            mask_value=mask_value,
            data_format="channels_last",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Nothing to make: there are no weights."""
        self.masks.built = True

    def call(self, spectrogram: tf.Tensor, step: Any = 0, training: bool | None = None) -> tf.Tensor:
        """Mask a batch in training; give it back as it is otherwise."""
        if not training:
            return spectrogram
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(step, tf.int64)])
        clip_seeds = tf.random.stateless_uniform(
            [tf.shape(spectrogram)[0], 2], seed, minval=None, maxval=None, dtype=tf.int32
        )
        masked = tf.map_fn(
            lambda pair: self.masks.mask_clip(*pair),
            (spectrogram[..., tf.newaxis], clip_seeds),
            fn_output_signature=spectrogram.dtype,
        )
        return tf.reshape(masked, tf.shape(spectrogram))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        names = (
            *("n_time_masks", "time_mask_frames", "n_freq_masks", "freq_mask_bins"),
            *("mask_value", "seed"),
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
