"""The `timbral` front-end of the paper: tall filters for timbre, long ones for temporal shape."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_tagger.layers.front_ends.base import FrontEnd, known_bands


@keras.saving.register_keras_serializable(package="keras_tagger")
class TimbralFrontEnd(FrontEnd):
    """Tall filters for timbre and long ones for temporal shape, as in the paper; one token per frame.

    Vertical 2-D filters span 0.9 and 0.4 of the mel bands, 7, 3 and 1 frames (c, 2c, 4c channels each), then the
    maximum over frequency; horizontal 1-D filters of 165, 129, 65 and 33 frames (c, 2c, 4c, 8c channels) see the mean
    over frequency; the 29c channels are joined by a 1 x 1 convolution (Pons et al. 2018; Won et al. 2019).

    Args:
        width: Channels of a token.
        channels: c.

    Example:
        >>> TimbralFrontEnd(512)(np.zeros((2, 80, 96))).shape
        TensorShape([2, 80, 512])
    """

    frames_per_token = 1
    receptive_field_frames = 165

    def __init__(self, width: int, channels: int = 16, **kwargs: Any) -> None:
        super().__init__(width, **kwargs)
        self.remember({"channels": channels})
        self.input_norm = self.norm("input_norm")
        self.norms: list[keras.layers.BatchNormalization] = []
        self.vertical: list[keras.layers.Conv2D] = []
        self.horizontal = [
            keras.layers.Conv1D(
                channels * factor,
                length,
                padding="same",
                name=f"horizontal_{length}",
                dtype=self.dtype_policy,
            )
            for length, factor in ((165, 1), (129, 2), (65, 4), (33, 8))
        ]
        self.project = keras.layers.Dense(width, name="project", dtype=self.dtype_policy)
        self.project_norm = self.norm("project_norm")

    def build(self, input_shape: Any) -> None:
        """Create the weights; the heights of the vertical filters follow the number of mel bands."""
        n_mels = known_bands(input_shape)
        self.input_norm.build((None, None, n_mels, 1))
        self.vertical = [
            keras.layers.Conv2D(
                self.channels * factor,
                (length, max(1, int(share * n_mels))),
                name=f"vertical_{int(100 * share)}_{length}",
                dtype=self.dtype_policy,
            )
            for share in (0.9, 0.4)
            for length, factor in ((7, 1), (3, 2), (1, 4))
        ]
        self.norms = [self.norm(f"norm_{index}") for index in range(len(self.vertical) + len(self.horizontal))]
        for index, convolution in enumerate([*self.vertical, *self.horizontal]):
            space = (None, n_mels) if isinstance(convolution, keras.layers.Conv2D) else (None,)
            convolution.build((None, *space, 1))
            self.norms[index].build((None, *space, convolution.filters))
        self.project.build((None, None, 29 * self.channels))
        self.project_norm.build((None, None, self.width))

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return all filters' outputs, `[batch, frames, 1, 29c]`; vertical ones are maxima over frequency."""
        x = self.input_norm(tf.expand_dims(seen, -1), training=training)
        found = []
        for convolution in self.vertical:
            # Valid in frequency, same in time.
            edge = convolution.kernel_size[0] // 2
            found.append(convolution(tf.pad(x, [[0, 0], [edge, edge], [0, 0], [0, 0]])))
        mean = tf.reduce_mean(x, axis=2)
        found += [convolution(mean) for convolution in self.horizontal]
        features = []
        for y, norm in zip(found, self.norms, strict=True):
            y = tf.nn.relu(norm(y, training=training))
            features.append(tf.reduce_max(y, axis=2) if y.shape.rank == 4 else y)
        return tf.expand_dims(tf.concat(features, axis=-1), 2)

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Apply a dense layer, batch norm and ReLU to all filters of a moment."""
        joined = self.project(tf.squeeze(maps, axis=2))
        return tf.nn.relu(self.project_norm(joined, training=training))
