"""A second ear: a small tagger's body beside a front-end of other filters."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_tagger.layers.base import ConfiguredLayer
from keras_tagger.layers.front_ends.base import build_blocks, flattened, known_bands, run_blocks
from keras_tagger.layers.front_ends.compact import residual_stages
from keras_tagger.layers.tokens import ClassToken, SinusoidalPositions
from keras_tagger.layers.transformer import TransformerBlock, gelu

# Added to the power in a band before its square root, whose slope at 0 is infinite.
_LEAST_POWER = 1e-6


@keras.saving.register_keras_serializable(package="keras_tagger")
class SecondEar(ConfiguredLayer):
    """The body of a model of the preset `compact`, which hears a power spectrogram.

    Its convolutions hear the logarithm of magnitudes, `log(1 + level * sqrt(power))` with a learned level for each
    band. Its self-attention relates all tokens of the window. A token of the result is what its [CLS] would be if the
    last layer attended to that moment alone, as in tag-wise contributions (Won, Chun, Serra 2019, section 3.2).
    Attention over one token is that token's value, so the last layer has no queries and keys.

    Args:
        channels: Channels of each stage of the convolutions, at least three.
        n_layers: Layers of self-attention, the last one included.
        n_heads: Heads of each layer.
        width: Channels of a token.
        feed_forward: Channels within each layer's feed-forward part.

    Input shape:
        Spectrogram `log(1 + gain * power)`, float `[batch, frames, n_mels]`.

    Output shape:
        float `[batch, tokens, width]`. A token owns 8 frames.

    Example:
        >>> SecondEar((16, 48, 96, 128))(np.zeros((2, 80, 96))).shape
        TensorShape([2, 10, 192])
    """

    frames_per_token = 8

    def __init__(
        self,
        channels: tuple[int, ...],
        n_layers: int = 4,
        n_heads: int = 4,
        width: int = 192,
        feed_forward: int = 768,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.remember(locals())
        policy = {"dtype": self.dtype_policy}
        self.input_norm = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="input_norm", **policy)
        self.stages = residual_stages(self.channels, self.dtype_policy)
        self.project = keras.layers.Dense(width, name="project", **policy)
        self.class_token = ClassToken(**policy)
        self.positions = SinusoidalPositions(**policy)
        self.blocks = [
            TransformerBlock(n_heads, width, feed_forward, name=f"block_{index}", **policy)
            for index in range(n_layers - 1)
        ]
        self.value_norm, self.feed_forward_norm, self.final_norm = (
            keras.layers.LayerNormalization(epsilon=1e-6, name=name, **policy)
            for name in ("value_norm", "feed_forward_norm", "final_norm")
        )
        self.value = keras.layers.Dense(width, name="value", **policy)
        self.expand = keras.layers.Dense(feed_forward, activation=gelu, name="expand", **policy)
        self.contract = keras.layers.Dense(width, name="contract", **policy)

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        n_mels, tokens = known_bands(input_shape), (None, None, self.width)
        self.level = self.add_weight(name="level", shape=(n_mels,), initializer=keras.initializers.Constant(15.0))
        self.input_norm.build(input_shape)
        self.flat = build_blocks(self.stages, n_mels)
        self.project.build((None, None, self.flat))
        norms = (self.value_norm, self.feed_forward_norm, self.final_norm)
        for layer in (self.class_token, *self.blocks, *norms, self.value, self.expand):
            layer.build(tokens)
        self.contract.build((None, None, self.feed_forward))

    def feature_maps(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the output of the last stage of the convolutions, `[batch, tokens, flat]`."""
        # Not expm1 and log1p, which LiteRT and ONNX do not have.
        power = tf.exp(tf.cast(seen, tf.float32)) - 1.0
        heard = tf.math.log(1.0 + tf.cast(self.level, tf.float32) * tf.sqrt(power + _LEAST_POWER))
        x = self.input_norm(tf.cast(heard, self.compute_dtype), training=training)
        x = tf.pad(x, [[0, 0], [0, -tf.shape(x)[1] % self.frames_per_token], [0, 0]])
        return flattened(run_blocks(self.stages, tf.expand_dims(x, -1), training), self.flat)

    def tokens_of(self, maps: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the tokens `[batch, tokens, width]` of feature maps."""
        tokens = self.positions(self.class_token(self.project(maps)))
        tokens = run_blocks(self.blocks, tokens, training)
        alone = tokens[:, :1] + self.value(self.value_norm(tokens[:, 1:]))
        return self.final_norm(alone + self.contract(self.expand(self.feed_forward_norm(alone))))

    def call(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Hear a spectrogram."""
        return self.tokens_of(self.feature_maps(seen, training), training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return `[batch, tokens, width]`."""
        frames = input_shape[1]
        return input_shape[0], None if frames is None else -(-frames // self.frames_per_token), self.width
