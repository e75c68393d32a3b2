"""The Transformer encoder that gives its own attention scores."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_tagger.layers.attention import attention_from_kind

# Arguments of a block that the encoder passes on.
_BLOCK = (
    *("n_heads", "width", "feed_forward", "norm", "dropout", "attention_dropout", "epsilon"),
    *("feed_forward_dropout", "attention_bias", "attention_kind", "max_distance", "window"),
)


@keras.saving.register_keras_serializable(package="keras_tagger")
class TransformerBlock(keras.layers.Layer):
    """Self-attention and feed-forward, each with a residual (Vaswani et al. 2017; pre-norm: Xiong et al. 2020).

    Args:
        n_heads, width, feed_forward: sizes; width is a multiple of n_heads.
        norm: "pre" or "post" layer normalisation.
        dropout, attention_dropout: rates, 0..1.
        epsilon: of layer normalisation.
        feed_forward_dropout: rate between the two layers of the feed-forward.
        attention_bias: whether queries, keys and values have biases.
        attention_kind, max_distance, window: see `keras_tagger.layers.attention`.

    Call: queries float [B, Q, D], context [B, S, D] (keys and values; the queries themselves by default)
        -> [B, Q, D]; with `return_attention_scores`, also the weights before dropout [B, n_heads, Q, S].
        attention_mask: bool, broadcast to [B, Q, S], True where a query may look.
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
        self.n_heads = n_heads
        self.width = width
        self.feed_forward = feed_forward
        self.norm = norm
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.epsilon = epsilon
        self.feed_forward_dropout = feed_forward_dropout
        self.attention_bias = attention_bias
        self.attention_kind = attention_kind
        self.max_distance = max_distance
        self.window = window
        policy = {"dtype": self.dtype_policy}
        self.attention = attention_from_kind(
            attention_kind,
            n_heads,
            width,
            attention_dropout,
            attention_bias,
            max_distance,
            window,
            name="attention",
            **policy,
        )
        self.attention_norm = keras.layers.LayerNormalization(epsilon=epsilon, **policy)
        self.feed_forward_norm = keras.layers.LayerNormalization(epsilon=epsilon, **policy)
        self.expand = keras.layers.Dense(feed_forward, activation=_gelu, name="expand", **policy)
        self.contract = keras.layers.Dense(width, name="contract", **policy)
        self.drop = keras.layers.Dropout(dropout, **policy)
        # Not there where it does nothing: each dropout layer is a state that a run's checkpoint has.
        self.drop_expanded = keras.layers.Dropout(feed_forward_dropout, **policy) if feed_forward_dropout else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        shape = (None, None, self.width)
        self.attention.build(shape, shape)
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
        before = self.attention_norm if self.norm == "pre" else _identity
        normed = before(queries)
        normed_context = normed if context is None else before(context)
        attended = self.attention(
            normed,
            normed_context,
            attention_mask=attention_mask,
            return_attention_scores=return_attention_scores,
            training=training,
        )
        attended, scores = attended if return_attention_scores else (attended, None)
        x = self._after_attention(queries, attended, training)
        return (x, scores) if return_attention_scores else x

    def attend_single(self, query: tf.Tensor, context: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """What `call` gives for one query and a context of length one, for each token of the context in turn.

        The softmax over one key is 1 whatever the query, so attention is the token's value, projected back.

        Args:
            query: float [B, 1, D].
            context: float [B, S, D].
            training: whether the residual branches drop out; the one weight, 1, is never dropped.

        Returns:
            float [B, S, D].
        """
        before = self.attention_norm if self.norm == "pre" else _identity
        values = self.attention.value_dense(before(context))
        return self._after_attention(query, self.attention.output_dense(values), training)

    def _after_attention(self, queries: tf.Tensor, attended: tf.Tensor, training: bool | None) -> tf.Tensor:
        x = queries + self.drop(attended, training=training)
        if self.norm == "pre":
            return x + self._feed_forward(self.feed_forward_norm(x), training)
        x = self.attention_norm(x)
        return self.feed_forward_norm(x + self._feed_forward(x, training))

    def _feed_forward(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        x = self.expand(x)
        if self.drop_expanded is not None:
            x = self.drop_expanded(x, training=training)
        return self.drop(self.contract(x), training=training)

    def compute_output_shape(
        self, queries_shape: tuple[int | None, ...], context_shape: tuple[int | None, ...] | None = None
    ) -> tuple[int | None, ...]:
        """The same as the queries'."""
        return queries_shape

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {**super().get_config(), **{name: getattr(self, name) for name in _BLOCK}}


@keras.saving.register_keras_serializable(package="keras_tagger")
class TransformerEncoder(keras.layers.Layer):
    """A stack of `TransformerBlock`; pre-norm ends with one more layer normalisation.

    Args: as `TransformerBlock`, and
        n_layers: blocks.
        input_dropout: whether `dropout` acts on the tokens too.
        input_norm: whether the tokens are layer-normalised first (BERT's embeddings).

    Call: float [B, S, D], token 0 being [CLS] -> `[CLS]` after the last layer, float [B, D]; with
        `return_attention_scores`, also float32 [B, n_layers, n_heads, S, S]. Only [CLS] leaves the encoder, so
        without scores the last layer is evaluated for that query alone.
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
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.width = width
        self.feed_forward = feed_forward
        self.norm = norm
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.epsilon = epsilon
        self.feed_forward_dropout = feed_forward_dropout
        self.attention_bias = attention_bias
        self.attention_kind = attention_kind
        self.max_distance = max_distance
        self.window = window
        self.input_dropout = input_dropout
        self.input_norm = input_norm
        self.blocks = [
            TransformerBlock(
                **{name: getattr(self, name) for name in _BLOCK}, name=f"block_{index}", dtype=self.dtype_policy
            )
            for index in range(n_layers)
        ]
        self.token_norm = (
            keras.layers.LayerNormalization(epsilon=epsilon, dtype=self.dtype_policy) if input_norm else None
        )
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.final_norm = (
            keras.layers.LayerNormalization(epsilon=epsilon, dtype=self.dtype_policy) if norm == "pre" else None
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        if self.token_norm is not None:
            self.token_norm.build(input_shape)
        for block in self.blocks:
            block.build(input_shape)
        if self.final_norm is not None:
            self.final_norm.build(input_shape)

    def call(self, tokens: tf.Tensor, training: bool | None = None, return_attention_scores: bool = False) -> Any:
        """Encode, and give [CLS]."""
        context, scores = self.encode_context(tokens, training, return_attention_scores)
        return (
            self.finish_with_scores(context, scores, training)
            if return_attention_scores
            else self.finish(context, training)
        )

    def encode_context(
        self, tokens: tf.Tensor, training: bool | None = None, return_attention_scores: bool = False
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """What the last layer sees, [B, S, D], and the earlier layers' scores [B, n_heads, S, S] where asked."""
        x, scores = self.embed(tokens, training), []
        for block in self.blocks[:-1]:
            if return_attention_scores:
                x, score = block(x, training=training, return_attention_scores=True)
                scores.append(score)
            else:
                x = block(x, training=training)
        return x, scores

    def embed(self, tokens: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """What the first layer sees, [B, S, D]: the tokens, normalised and dropped out where asked for."""
        x = tokens if self.token_norm is None else self.token_norm(tokens)
        return self.drop(x, training=training) if self.input_dropout else x

    def finish(self, context: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """`[CLS]` after the last layer, [B, D], from what that layer sees (`encode_context`)."""
        return self._finish(self.blocks[-1](context[:, :1], context=context, training=training))[:, 0]

    def finish_with_scores(
        self, context: tf.Tensor, scores: list[tf.Tensor], training: bool | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `finish`, and all layers' scores, float32 [B, n_layers, n_heads, S, S]; `scores` are the earlier ones'."""
        cls, last = self.finish_with_last_scores(context, training)
        return cls, tf.stack([tf.cast(score, tf.float32) for score in [*scores, last]], axis=1)

    def finish_with_last_scores(self, context: tf.Tensor, training: bool | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """As `finish`, and the last layer's scores [B, n_heads, S, S]: those it computes with, and has gradients of."""
        x, last = self.blocks[-1](context, training=training, return_attention_scores=True)
        return self._finish(x[:, :1])[:, 0], last

    def attend_single(self, context: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """[CLS] after a last layer in which every head attends to one token only, for each token in turn.

        Attention that is one-hot at token t is attention over a key/value sequence of length one (tag-wise
        contribution, Won et al. 2019, section 3.2).

        Args:
            context: from `encode_context`, [B, S, D].
            training: whether layers drop out.

        Returns:
            [B, S, D]; row t is [CLS] when only token t is attended to.
        """
        return self._finish(self.blocks[-1].attend_single(context[:, :1], context, training))

    def _finish(self, x: tf.Tensor) -> tf.Tensor:
        return x if self.final_norm is None else self.final_norm(x)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """[B, S, D] -> [B, D]."""
        return input_shape[0], input_shape[2]

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        names = ("n_layers", *_BLOCK, "input_dropout", "input_norm")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="keras_tagger")
def _gelu(x: tf.Tensor) -> tf.Tensor:
    """The exact (erf) GELU."""
    return keras.activations.gelu(x, approximate=False)


def _identity(x: tf.Tensor) -> tf.Tensor:
    return x
