"""The Transformer encoder, which can return its attention scores."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_tagger.layers.attention import AttendingLayer, attention_from_kind, keras_mask, with_padding
from keras_tagger.layers.base import ConfiguredLayer


@keras.saving.register_keras_serializable(package="keras_tagger")
class TransformerBlock(AttendingLayer):
    """Self-attention and feed-forward layers, each with a residual (Vaswani et al. 2017; pre-norm: Xiong et al. 2020).

    With norm "rezero" there is no normalisation: each branch is multiplied by a trained number, at first 0, so that the
    block begins as the identity (Bachlechner et al. 2021, arXiv 2003.04887, equation 1).

    Args:
        n_heads: Number of attention heads.
        width: Channels of a token; a multiple of n_heads.
        feed_forward: Channels between the two feed-forward layers.
        norm: "pre" or "post" layer normalisation, or "rezero".
        dropout: Dropout rate of both branches, 0..1.
        attention_dropout: Dropout rate of the attention weights, 0..1.
        epsilon: Added to the variance in layer normalisation.
        feed_forward_dropout: Dropout rate between the two feed-forward layers, 0..1.
        attention_bias: Whether queries, keys and values have biases.
        attention_kind: The attention mechanism; see `SelfAttention`, also for max_distance and window.
        max_distance: For "relative" attention, in tokens.
        window: For "local" attention, in tokens.

    Input shape:
        Queries, float `[batch, Q, width]`, and the context of keys and values `[batch, S, width]`; without a context,
        the queries attend to each other. `attention_mask` is bool, broadcastable to `[batch, Q, S]`, and True where a
        query may attend. A Keras mask excludes padded tokens.

    Output shape:
        `[batch, Q, width]`. With `return_attention_scores`, also the weights before dropout `[batch, n_heads, Q, S]`.

    Example:
        >>> tokens, scores = TransformerBlock(4, 64, 256)(tokens, return_attention_scores=True)
    """

    def __init__(
        self,
        n_heads: int,
        width: int,
        feed_forward: int,
        norm: str = "pre",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        epsilon: float = 1e-6,
        feed_forward_dropout: float = 0.0,
        attention_bias: bool = True,
        attention_kind: str = "absolute",
        max_distance: int = 64,
        window: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.remember(locals())
        policy = {"dtype": self.dtype_policy}
        self.attention = attention_from_kind(
            *(attention_kind, n_heads, width, attention_dropout, attention_bias, max_distance, window),
            name="attention",
            **policy,
        )
        if norm != "rezero":
            self.attention_norm = keras.layers.LayerNormalization(epsilon=epsilon, **policy)
            self.feed_forward_norm = keras.layers.LayerNormalization(epsilon=epsilon, **policy)
        self.expand = keras.layers.Dense(feed_forward, activation=gelu, name="expand", **policy)
        self.contract = keras.layers.Dense(width, name="contract", **policy)
        self.drop = keras.layers.Dropout(dropout, **policy)
        # Absent if it does nothing: each dropout layer has a state that is part of a run's checkpoint.
        self.drop_expanded = keras.layers.Dropout(feed_forward_dropout, **policy) if feed_forward_dropout else None

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        shape = (None, None, self.width)
        self.attention.build(shape, shape)
        if self.norm == "rezero":
            self.attention_factor, self.feed_forward_factor = (
                self.add_weight(name=name, shape=(), initializer="zeros")
                for name in ("attention_factor", "feed_forward_factor")
            )
        else:
            self.attention_norm.build(shape)
            self.feed_forward_norm.build(shape)
        self.expand.build(shape)
        self.contract.build((None, None, self.feed_forward))

    def call(
        self,
        queries: tf.Tensor,
        context: tf.Tensor | None = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        attention_mask: tf.Tensor | None = None,
    ) -> Any:
        """Let the queries, which are the context's first tokens, attend to the context."""
        attention_mask = with_padding(attention_mask, keras_mask(queries if context is None else context))
        normed = self._before(queries)
        attended = self.attention(
            normed,
            normed if context is None else self._before(context),
            attention_mask=attention_mask,
            return_attention_scores=return_attention_scores,
            training=training,
        )
        attended, scores = attended if return_attention_scores else (attended, None)
        x = self._after_attention(queries, attended, training)
        return (x, scores) if return_attention_scores else x

    def attend_single(self, query: tf.Tensor, context: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Compute what `call` returns for one query and a context of length one, for each context token in turn.

        The softmax over one key is 1 whatever the query, so attention is the token's value, projected back.

        Args:
            query: float `[batch, 1, width]`.
            context: float `[batch, S, width]`.
            training: Whether the residual branches drop out; the single weight, 1, is never dropped.

        Returns:
            float `[batch, S, width]`.
        """
        values = self.attention.value_dense(self._before(context))
        return self._after_attention(query, self.attention.output_dense(values), training)

    def _before(self, x: tf.Tensor) -> tf.Tensor:
        return self.attention_norm(x) if self.norm == "pre" else x

    def _after_attention(self, queries: tf.Tensor, attended: tf.Tensor, training: bool | None) -> tf.Tensor:
        attended = self.drop(attended, training=training)
        if self.norm == "rezero":
            x = queries + tf.cast(self.attention_factor, attended.dtype) * attended
            return x + tf.cast(self.feed_forward_factor, x.dtype) * self._feed_forward(x, training)
        x = queries + attended
        if self.norm == "pre":
            return x + self._feed_forward(self.feed_forward_norm(x), training)
        x = self.attention_norm(x)
        return self.feed_forward_norm(x + self._feed_forward(x, training))

    def _feed_forward(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        x = self.expand(x)
        if self.drop_expanded is not None:
            x = self.drop_expanded(x, training=training)
        return self.drop(self.contract(x), training=training)


@keras.saving.register_keras_serializable(package="keras_tagger")
class TransformerEncoder(ConfiguredLayer):
    """A stack of `TransformerBlock`; pre-norm ends with one more layer normalisation.

    Args:
        n_layers: Number of blocks.
        n_heads: Passed to each block, like all arguments up to window; see `TransformerBlock`.
        width: See `TransformerBlock`.
        feed_forward: See `TransformerBlock`.
        norm: See `TransformerBlock`.
        dropout: See `TransformerBlock`.
        attention_dropout: See `TransformerBlock`.
        epsilon: See `TransformerBlock`.
        feed_forward_dropout: See `TransformerBlock`.
        attention_bias: See `TransformerBlock`.
        attention_kind: See `TransformerBlock`.
        max_distance: See `TransformerBlock`.
        window: See `TransformerBlock`.
        input_dropout: Whether `dropout` also acts on the tokens.
        input_norm: Whether the tokens are layer-normalised first (BERT's embeddings).

    Input shape:
        float `[batch, tokens, width]`. Token 0 is [CLS]. Masked tokens are not attended to.

    Output shape:
        [CLS] after the last layer, float `[batch, width]`. With `return_attention_scores`, also the weights, float32
        `[batch, n_layers, n_heads, tokens, tokens]`. Only [CLS] leaves the encoder, so without scores the last layer is
        evaluated for that query alone.

    Example:
        >>> cls, scores = TransformerEncoder(2, 4, 64, 256)(tokens, return_attention_scores=True)
    """

    def __init__(
        self,
        n_layers: int,
        n_heads: int,
        width: int,
        feed_forward: int,
        norm: str = "pre",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        epsilon: float = 1e-6,
        feed_forward_dropout: float = 0.0,
        attention_bias: bool = True,
        attention_kind: str = "absolute",
        max_distance: int = 64,
        window: int = 16,
        input_dropout: bool = True,
        input_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.remember(locals())
        policy = {"dtype": self.dtype_policy}
        of_the_block = [name for name in self.argument_names if name not in ("n_layers", "input_dropout", "input_norm")]
        block = {name: getattr(self, name) for name in of_the_block}
        self.blocks = [TransformerBlock(**block, name=f"block_{index}", **policy) for index in range(n_layers)]
        self.token_norm = keras.layers.LayerNormalization(epsilon=epsilon, **policy) if input_norm else None
        self.drop = keras.layers.Dropout(dropout, **policy)
        self.final_norm = keras.layers.LayerNormalization(epsilon=epsilon, **policy) if norm == "pre" else None

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        for layer in (self.token_norm, *self.blocks, self.final_norm):
            if layer is not None:
                layer.build(input_shape)

    def call(
        self,
        tokens: tf.Tensor,
        training: bool | None = None,
        return_attention_scores: bool = False,
        mask: tf.Tensor | None = None,
    ) -> Any:
        """Encode the tokens and return [CLS]."""
        context, scores = self.encode_context(tokens, training, return_attention_scores, mask)
        if return_attention_scores:
            return self.finish_with_scores(context, scores, training, mask)
        return self.finish(context, training, mask)

    def encode_context(
        self,
        tokens: tf.Tensor,
        training: bool | None = None,
        return_attention_scores: bool = False,
        mask: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Return the last layer's input `[batch, S, width]`, and the earlier layers' scores if asked for."""
        x, scores = self.embed(tokens, training), []
        for block in self.blocks[:-1]:
            x = block(
                x,
                training=training,
                return_attention_scores=return_attention_scores,
                attention_mask=with_padding(None, mask),
            )
            if return_attention_scores:
                x, score = x
                scores.append(score)
        return x, scores

    def embed(self, tokens: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the first layer's input: the tokens after normalisation and dropout, if these are on."""
        x = tokens if self.token_norm is None else self.token_norm(tokens)
        return self.drop(x, training=training) if self.input_dropout else x

    def finish(self, context: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Return [CLS] after the last layer, `[batch, width]`, from that layer's input (`encode_context`)."""
        allowed = with_padding(None, mask)
        x = self.blocks[-1](context[:, :1], context=context, training=training, attention_mask=allowed)
        return self._finish(x)[:, 0]

    def finish_with_scores(
        self,
        context: tf.Tensor,
        scores: list[tf.Tensor],
        training: bool | None = None,
        mask: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return `finish` and all layers' scores, float32 `[batch, n_layers, n_heads, S, S]`."""
        cls, last = self.finish_with_last_scores(context, training, mask)
        return cls, ops.stack([ops.cast(score, "float32") for score in [*scores, last]], axis=1)

    def finish_with_last_scores(
        self, context: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return `finish` and the last layer's scores `[batch, n_heads, S, S]`, from which [CLS] is computed."""
        allowed = with_padding(None, mask)
        x, last = self.blocks[-1](context, training=training, return_attention_scores=True, attention_mask=allowed)
        return self._finish(x[:, :1])[:, 0], last

    def attend_single(self, context: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return [CLS] after a last layer in which every head attends to one token only, for each token in turn.

        Attention that is one-hot at token t is attention over a key/value sequence of length one (tag-wise
        contribution, Won et al. 2019, section 3.2).

        Args:
            context: From `encode_context`, `[batch, S, width]`.
            training: Whether layers drop out.

        Returns:
            `[batch, S, width]`; row t is [CLS] when only token t is attended to.
        """
        return self._finish(self.blocks[-1].attend_single(context[:, :1], context, training))

    def _finish(self, x: tf.Tensor) -> tf.Tensor:
        return x if self.final_norm is None else self.final_norm(x)

    def compute_mask(self, inputs: tf.Tensor, previous_mask: tf.Tensor | None) -> None:
        """Return None: no sequence leaves the encoder."""

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return `[batch, width]`."""
        return input_shape[0], input_shape[2]

    def compute_output_spec(
        self, tokens: Any, /, *args: Any, return_attention_scores: bool = False, **kwargs: Any
    ) -> Any:
        """Return the symbolic [CLS], and the scores if asked for."""
        output = super().compute_output_spec(tokens)
        if not return_attention_scores:
            return output
        batch, length, _ = tokens.shape
        return output, keras.KerasTensor((batch, self.n_layers, self.n_heads, length, length), dtype="float32")


@keras.saving.register_keras_serializable(package="keras_tagger")
def gelu(x: tf.Tensor) -> tf.Tensor:
    """Return the exact (erf) GELU; TensorFlow writes it with erfc from 2.18 on, which converters do not know."""
    return 0.5 * x * (1.0 + tf.math.erf(x / tf.cast(2.0**0.5, x.dtype)))
