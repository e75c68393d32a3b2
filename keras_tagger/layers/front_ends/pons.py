"""The `pons` front-end: musicnn's convolutions with a token every 8 frames, so that its weights can be the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_tagger.layers.front_ends.base import FrontEnd, known_bands
from keras_tagger.layers.front_ends.second_ear import SecondEar

VERTICAL = ((7, 0.4), (7, 0.7))
"""Frames of the vertical filters, and the share of the mel bands that they span."""

HORIZONTAL = (128, 64, 32)
"""Frames of the horizontal filters."""


@keras.saving.register_keras_serializable(package="keras_tagger")
class PonsFrontEnd(FrontEnd):
    """Vertical and horizontal filters, convolutions over time, and two seconds of context: after musicnn.

    Vertical filters of 7 frames see timbre, horizontal ones of one band see temporal shape, and the maximum over
    frequency makes both independent of pitch (Pons et al. 2018, arXiv 1711.02520). Three convolutions over time follow,
    the last two residual (musicnn, Pons and Serra 2019, arXiv 1909.06654). Batch norm stands after ReLU, as there.

    The maximum and the mean of all these features over a token's frames, normalised, are its feature maps. A dense
    layer sees their maximum and mean over `pool_tokens` tokens, as musicnn's sees those of a patch of 3 s. The token is
    a projection of its output plus one of the token's own feature maps.

    With `second_ear`, another body hears the same spectrogram. The maps of its convolutions follow those of the
    filters, and a projection of its tokens is added. Its self-attention sees the whole window, so the receptive field
    is that of the filters only.

    Args:
        width: Channels of a token.
        channels: Numbers of filters: vertical over 0.4 and over 0.7 of the bands, horizontal over 128, 64 and 32
            frames, of each convolution over time, and of the dense layer.
        second_ear: Arguments of `keras_tagger.layers.SecondEar`; None for none.

    Example:
        >>> PonsFrontEnd(512)(np.zeros((2, 80, 96))).shape
        TensorShape([2, 10, 512])
    """

    frames_per_token = 8
    mid_taps = 7
    pool_tokens = 15
    # Around a token's frames: the other tokens of its pool, the convolutions over time, and half of the longest filter.
    receptive_field_frames = 8 + 2 * (8 * (pool_tokens // 2) + 3 * (mid_taps // 2) + max(HORIZONTAL) // 2)

    def __init__(
        self,
        width: int,
        channels: tuple[int, ...] = (79, 80, 13, 18, 57, 128, 400),
        second_ear: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(width, **kwargs)
        self.remember({"channels": channels, "second_ear": second_ear})
        policy = {"dtype": self.dtype_policy}
        *self.filters, mid, hidden = self.channels
        self.input_norm = self.norm("input_norm")
        self.mid = [
            keras.layers.Conv1D(mid, self.mid_taps, padding="same", activation="relu", name=f"mid_{index}", **policy)
            for index in range(3)
        ]
        self.mid_norms = [self.norm(f"mid_norm_{index}") for index in range(3)]
        self.feature_norm = self.norm("feature_norm")
        self.context = keras.layers.Dense(hidden, activation="relu", name="context", **policy)
        self.project_context = keras.layers.Dense(width, name="project_context", **policy)
        self.project_own = keras.layers.Dense(width, use_bias=False, name="project_own", **policy)
        self.convolutions: list[keras.layers.Conv2D] = []
        self.norms: list[keras.layers.BatchNormalization] = []
        self.ear = SecondEar(**second_ear, name="ear", **policy) if second_ear else None
        self.project_ear = keras.layers.Dense(width, use_bias=False, name="project_ear", **policy) if self.ear else None

    def build(self, input_shape: Any) -> None:
        """Create the weights; the heights of the vertical filters follow the number of mel bands."""
        n_mels = known_bands(input_shape)
        self.input_norm.build((None, None, n_mels, 1))
        sizes = [*((frames, int(share * n_mels)) for frames, share in VERTICAL), *((n, 1) for n in HORIZONTAL)]
        for index, (size, count) in enumerate(zip(sizes, self.filters, strict=True)):
            name = f"{'vertical' if size[1] > 1 else 'horizontal'}_{index}"
            convolution = keras.layers.Conv2D(count, size, name=name, dtype=self.dtype_policy)
            convolution.build((None, None, n_mels, 1))
            self.convolutions.append(convolution)
            self.norms.append(self.norm(f"{name}_norm"))
            self.norms[-1].build((None, None, None, count))
        n_filters, mid = sum(self.filters), self.mid[0].filters
        for index, (layer, norm) in enumerate(zip(self.mid, self.mid_norms, strict=True)):
            layer.build((None, None, mid if index else n_filters))
            norm.build((None, None, mid))
        self.n_features = 2 * (n_filters + 3 * mid)
        self.feature_norm.build((None, None, self.n_features))
        self.context.build((None, None, self.n_features))
        self.project_context.build((None, None, self.context.units))
        self.project_own.build((None, None, self.n_features))
        if self.ear and self.project_ear:
            self.ear.build(input_shape)
            self.project_ear.build((None, None, self.ear.width))

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the feature maps `[batch, tokens, 1, features]`.

        They are the maximum, then the mean of each feature over a token's frames, then the maps of the second ear.
        """
        maps = self.filter_maps(seen, training)
        if self.ear is None:
            return maps
        return tf.concat([maps, tf.expand_dims(self.ear.feature_maps(seen, training), 2)], axis=-1)

    def filter_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the feature maps of the filters `[batch, tokens, 1, n_features]`."""
        banks = zip(self.convolutions, self.norms, strict=True)
        x = self.padded(seen, training)
        if not training or not self.norms[0].trainable:
            found = self.normed([self.response(x, convolution, norm) for convolution, norm in banks])
            return self.maps_after(found, training)
        found = [
            tf.reduce_max(norm(tf.nn.relu(convolution(_same(x, convolution))), training=True), axis=2)
            for convolution, norm in banks
        ]
        return self.maps_after(tf.concat(found, axis=-1), training)

    def padded(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the normalised spectrogram with whole tokens, `[batch, frames, bands, 1]`."""
        missing = -tf.shape(seen)[1] % self.frames_per_token
        x = self.input_norm(tf.expand_dims(seen, -1), training=training)
        # After tf.pad by an unknown number, LiteRT's converter no longer knows the number of bands.
        return tf.concat([x, tf.tile(tf.zeros_like(x[:, :1]), [1, missing, 1, 1])], axis=1)

    def response(
        self, x: tf.Tensor, convolution: keras.layers.Conv2D, norm: keras.layers.BatchNormalization
    ) -> tf.Tensor:
        """Return what a filter bank finds, before its norm: the maximum over frequency after ReLU.

        Where gamma is below 0, the norm turns the order around: the maximum of its output is that of the minimum of its
        input. For these filters the negated minimum is returned.

        Args:
            x: From `padded`, float `[batch, frames, bands, 1]`.
            convolution: The filters of the bank.
            norm: The norm of the bank.

        Returns:
            float32 `[batch, frames, filters]`.
        """
        sign = tf.where(norm.gamma < 0, -1.0, 1.0)
        kernel = tf.cast(tf.cast(convolution.kernel, tf.float32) * sign, x.dtype)
        x = _same(x, convolution)
        if kernel.shape[1] == 1:
            # With time in the last place, filters of one band take a fifth less time on a CPU.
            x, kernel = tf.transpose(x, [0, 2, 1, 3]), tf.transpose(kernel, [1, 0, 2, 3])
            found = tf.nn.conv2d(x, kernel, 1, "VALID")
            highest = tf.nn.max_pool2d(found, [found.shape[1], 1], 1, "VALID")[:, 0]
        else:
            found = tf.nn.conv2d(x, kernel, 1, "VALID")
            highest = tf.nn.max_pool2d(found, [1, found.shape[2]], 1, "VALID")[:, :, 0]
        highest = tf.cast(highest, tf.float32) + tf.cast(convolution.bias, tf.float32) * sign
        return tf.where(sign > 0, tf.nn.relu(highest), -tf.nn.relu(-highest))

    def normed(self, responses: list[tf.Tensor]) -> tf.Tensor:
        """Normalise the responses of all filter banks by the norms' statistics, `[batch, frames, filters]`."""
        found = []
        for response, norm in zip(responses, self.norms, strict=True):
            scale = norm.gamma * tf.math.rsqrt(norm.moving_variance + norm.epsilon)
            found.append(response * tf.abs(scale) + norm.beta - norm.moving_mean * scale)
        return tf.cast(tf.concat(found, axis=-1), self.compute_dtype)

    def maps_after(self, filters: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the feature maps that follow from the normalised responses `[batch, frames, filters]`."""
        features = [filters]
        for index, (layer, norm) in enumerate(zip(self.mid, self.mid_norms, strict=True)):
            y = norm(layer(features[-1]), training=training)
            features.append(features[-1] + y if index else y)
        joined = tf.concat(features, axis=-1)
        shape = tf.shape(joined)
        per_token = self.frames_per_token
        grouped = tf.reshape(joined, [shape[0], shape[1] // per_token, per_token, self.n_features // 2])
        maps = tf.concat([tf.reduce_max(grouped, axis=2), tf.reduce_mean(grouped, axis=2)], axis=-1)
        return tf.expand_dims(self.feature_norm(maps, training=training), 2)

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Project the token's own features, what the dense layer makes of its neighbourhood, and the second ear."""
        both = tf.squeeze(maps, axis=2)
        tokens = self.filter_tokens(both[..., : self.n_features])
        if self.ear and self.project_ear:
            tokens += self.project_ear(self.ear.tokens_of(both[..., self.n_features :], training))
        return tokens

    def filter_tokens(self, own: tf.Tensor) -> tf.Tensor:
        """Return the tokens without the second ear, of the filters' feature maps `[batch, tokens, n_features]`."""
        highest, mean = tf.split(own, 2, axis=-1)
        around = tf.concat(
            [
                tf.nn.max_pool1d(highest, self.pool_tokens, 1, "SAME"),
                tf.nn.avg_pool1d(mean, self.pool_tokens, 1, "SAME"),
            ],
            axis=-1,
        )
        return self.project_context(self.context(around)) + self.project_own(own)


def _same(x: tf.Tensor, convolution: keras.layers.Conv2D) -> tf.Tensor:
    """Pad the time of a spectrogram for "same" output; an even filter has its longer half behind."""
    length = convolution.kernel_size[0]
    return tf.pad(x, [[0, 0], [(length - 1) // 2, length // 2], [0, 0], [0, 0]])
