"""The front-ends: convolutions that turn a spectrogram into one token per hop.

The contract, which every front-end states by its attributes and a test holds it to:

- `frames_per_token`: token t owns the frames `[t * frames_per_token, (t + 1) * frames_per_token)`;
- `n_tokens(n_frames)` is ceil(n_frames / frames_per_token), or, where `rounds_up` is False, the floor, at least 1;
- `receptive_field_frames`: a token depends on at most that many frames, centred on those it owns.

Where `takes_waveform` is set there is no spectrogram between: the front-end's frames are the samples of the waveform.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_tagger.layers.conv_norm import ConvNorm


class FrontEnd(keras.layers.Layer):
    """Base of the front-ends.

    Args:
        width: channels of a token.

    Call: spectrogram float [B, frames, n_mels] -> tokens [B, n_tokens(frames), width].
    """

    frames_per_token: int
    receptive_field_frames: int
    takes_waveform = False
    rounds_up = True

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width

    def n_tokens(self, n_frames: Any) -> Any:
        """Tokens made of that many frames, a number or an integer tensor."""
        return -(-n_frames // self.frames_per_token)

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The last feature maps over time and frequency, [B, tokens, F, C]; F is 1 where only time is left."""
        raise NotImplementedError

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The tokens [B, tokens, width] of the last feature maps."""
        raise NotImplementedError

    def call(self, spectrogram: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Compute the tokens."""
        return self.tokens_of(self.feature_maps(spectrogram, training), training)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """[B, frames, n_mels] -> [B, tokens, width]."""
        frames = input_shape[1]
        return input_shape[0], None if frames is None else self.n_tokens(frames), self.width

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {**super().get_config(), "width": self.width}

    def _norm(self, name: str) -> keras.layers.BatchNormalization:
        # Momentum 0.9 so that runs of a few hundred steps have usable statistics.
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name, dtype=self.dtype_policy)


@keras.saving.register_keras_serializable(package="keras_tagger")
class CompactFrontEnd(FrontEnd):
    """Residual strided convolutions, made to be fast on a CPU: this project's default.

    Every stage halves frequency, and the first three halve time, so a token stands for 8 frames. Downsampling kernels
    are as wide as their stride (the first: twice that), so that each output lies exactly over its inputs whatever
    the clip's length.

    Args:
        width: channels of a token.
        channels: of each stage.
    """

    def __init__(self, width: int, channels: tuple[int, ...] = (16, 48, 96, 128), **kwargs: Any) -> None:
        super().__init__(width, **kwargs)
        self.channels = tuple(channels)
        time_strides = [2 if index < 3 else 1 for index in range(len(channels))]
        self.frames_per_token = 1
        # A first kernel of 4, then two of 3 in each stage, and kernels of 2 between the stages.
        field, jump = 1, 1
        for index, stride in enumerate(time_strides):
            field += ((4 if index == 0 else stride) - 1) * jump
            jump *= stride
            field += 2 * 2 * jump
            self.frames_per_token *= stride
        self.receptive_field_frames = field
        self.input_norm = self._norm("input_norm")
        self.stages = [
            _ResidualStage(
                count,
                kernel=(4, 4) if index == 0 else (stride, 2),
                strides=(stride, 2),
                name=f"stage_{index}",
                dtype=self.dtype_policy,
            )
            for index, (count, stride) in enumerate(zip(self.channels, time_strides, strict=True))
        ]
        self.project = keras.layers.Dense(width, name="project", dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        n_mels = input_shape[-1]
        if n_mels is None:
            raise ValueError(f"spectrogram: expected a known number of mel bands. Received: {input_shape}.")
        self.input_norm.build(input_shape)
        shape: tuple[int | None, ...] = (None, None, n_mels, 1)
        for stage in self.stages:
            stage.build(shape)
            shape = stage.compute_output_shape(shape)
        self.flat = shape[2] * shape[3]  # type: ignore[operator]
        self.project.build((None, None, self.flat))

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The last stage's output, [B, tokens, F, channels[-1]]."""
        x = self.input_norm(seen, training=training)
        # Whole tokens, so that every stage sees an even number of frames.
        frames = tf.shape(x)[1]
        x = tf.pad(x, [[0, 0], [0, -frames % self.frames_per_token], [0, 0]])[..., tf.newaxis]
        for stage in self.stages:
            x = stage(x, training=training)
        return x

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """A dense layer over all frequencies of a moment."""
        shape = tf.shape(maps)
        return self.project(tf.reshape(maps, [shape[0], shape[1], self.flat]))

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {**super().get_config(), "channels": list(self.channels)}


@keras.saving.register_keras_serializable(package="keras_tagger")
class _ResidualStage(keras.layers.Layer):
    """Strided convolution, then a residual block of two 3 x 3 convolutions; batch norm and ReLU after each.

    Call: float [B, time, frequency, C] -> [B, ceil(time / strides[0]), ceil(frequency / strides[1]), channels].
    """

    def __init__(self, channels: int, kernel: tuple[int, int], strides: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.kernel = tuple(kernel)
        self.strides = tuple(strides)
        policy = {"dtype": self.dtype_policy}
        self.down = ConvNorm(channels, kernel, strides, name="down", **policy)
        self.first = ConvNorm(channels, (3, 3), name="first", **policy)
        self.second = ConvNorm(channels, (3, 3), relu=False, name="second", **policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        shape = input_shape
        for layer in (self.down, self.first, self.second):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Downsample, then add the residual."""
        x = self.down(x, training=training)
        return tf.nn.relu(x + self.second(self.first(x, training=training), training=training))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Strided time and frequency, `channels` channels."""
        return self.down.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "kernel": list(self.kernel),
            "strides": list(self.strides),
        }


@keras.saving.register_keras_serializable(package="keras_tagger")
class TimbralFrontEnd(FrontEnd):
    """The paper's: tall filters for timbre, long ones for temporal shape; one token per frame.

    Vertical 2-D filters span 0.9 and 0.4 of the mel bands, 7, 3 and 1 frames (c, 2c, 4c channels each), then the
    maximum over frequency; horizontal 1-D filters of 165, 129, 65 and 33 frames (c, 2c, 4c, 8c channels) see the mean
    over frequency; the 29c channels are joined by a 1 x 1 convolution (Pons et al. 2018; Won et al. 2019).

    Args:
        width: channels of a token.
        channels: c.
    """

    frames_per_token = 1
    receptive_field_frames = 165

    def __init__(self, width: int, channels: int = 16, **kwargs: Any) -> None:
        super().__init__(width, **kwargs)
        self.channels = channels
        self.input_norm = self._norm("input_norm")
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
        self.project_norm = self._norm("project_norm")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights; the heights of the vertical filters follow the number of mel bands."""
        n_mels = input_shape[-1]
        if n_mels is None:
            raise ValueError(f"spectrogram: expected a known number of mel bands. Received: {input_shape}.")
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
        self.norms = [self._norm(f"norm_{index}") for index in range(len(self.vertical) + len(self.horizontal))]
        for index, convolution in enumerate([*self.vertical, *self.horizontal]):
            space = (None, n_mels) if isinstance(convolution, keras.layers.Conv2D) else (None,)
            convolution.build((None, *space, 1))
            self.norms[index].build((None, *space, convolution.filters))
        self.project.build((None, None, 29 * self.channels))
        self.project_norm.build((None, None, self.width))

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """All filters' outputs, of the vertical ones the maximum over frequency: [B, frames, 1, 29c]."""
        x = self.input_norm(seen[..., tf.newaxis], training=training)
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
        return tf.concat(features, axis=-1)[:, :, tf.newaxis]

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """A dense layer, batch norm and ReLU over all filters of a moment."""
        joined = self.project(tf.squeeze(maps, axis=2))
        return tf.nn.relu(self.project_norm(joined, training=training))

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {**super().get_config(), "channels": self.channels}
