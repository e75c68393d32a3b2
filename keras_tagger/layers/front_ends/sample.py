"""The front-end of the raw waveform."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_tagger.layers.front_ends.base import FrontEnd


@keras.saving.register_keras_serializable(package="keras_tagger")
class SampleFrontEnd(FrontEnd):
    """Short convolutions of the waveform; one token per 243 samples (Lee et al. 2017; Won et al. 2019).

    A convolution of 3 samples with stride 3, four of [3, max-pooling by 3] with c, 2c, 2c, 2c channels, one of 7 to the
    token; batch norm and ReLU after each convolution. Its frames are samples. The first kernel is centred on the first
    of the samples it steps over, so a token's field is centred one sample before the middle of the token.

    Args:
        width: Channels of a token.
        channels: c.

    Input shape:
        Waveform, float `[batch, samples]`.

    Output shape:
        Tokens `[batch, ceil(samples / 243), width]`.

    Example:
        >>> SampleFrontEnd(512)(np.zeros((2, 2430))).shape
        TensorShape([2, 10, 512])
    """

    takes_waveform = True
    frames_per_token = 243
    # 3, then 2 steps each for kernel and pool at 3, 9, 27 and 81 samples, and 6 steps of 243; one more to either side
    # of the middle of a token.
    receptive_field_frames = 3 + 4 * (3 + 9 + 27 + 81) + 6 * 243 + 2

    def __init__(self, width: int, channels: int = 16, **kwargs: Any) -> None:
        super().__init__(width, **kwargs)
        self.remember({"channels": channels})
        counts = [channels, channels, *[2 * channels] * 3, width]
        self.convolutions = [
            keras.layers.Conv1D(
                count,
                7 if index == len(counts) - 1 else 3,
                strides=3 if index == 0 else 1,
                padding="valid" if index == 0 else "same",
                name=f"convolution_{index}",
                dtype=self.dtype_policy,
            )
            for index, count in enumerate(counts)
        ]
        self.norms = [self.norm(f"norm_{index}") for index in range(len(counts))]

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        channels = 1
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            convolution.build((None, None, channels))
            channels = convolution.filters
            norm.build((None, None, channels))

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the last convolution's output `[batch, tokens, 1, width]`."""
        # Pad to whole tokens, and with a zero before the first sample, on which the first kernel is centred.
        missing = -tf.shape(seen)[1] % self.frames_per_token
        x = tf.expand_dims(tf.cast(tf.pad(seen, [[0, 0], [1, missing]]), self.compute_dtype), -1)
        last = len(self.convolutions) - 1
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = tf.nn.relu(norm(convolution(x), training=training))
            if 0 < index < last:
                x = tf.nn.max_pool1d(x, 3, 3, "VALID")
        return tf.expand_dims(x, 2)

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return each moment's channels."""
        return tf.squeeze(maps, axis=2)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return `[batch, tokens, width]`."""
        return super().compute_output_shape((*input_shape, None))
