"""`MusicTagger`: the one forward pass of training, heat maps, export and serving."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_tagger.audio.windows import Windowing
from keras_tagger.config import AudioConfig, ExperimentConfig, ModelConfig, section_from_dict
from keras_tagger.errors import ConfigError
from keras_tagger.layers import (
    ClassToken,
    LearnedPositions,
    SinusoidalPositions,
    SpecAugment,
    Spectrogram,
    TagHead,
    TransformerEncoder,
    front_end_from_config,
)
from keras_tagger.models.initial_values import begin_as_pytorch

OUTPUTS = ("tags", "attention", "contributions", "embedding", "spectrogram")


@keras.saving.register_keras_serializable(package="keras_tagger")
class MusicTagger(keras.Model):
    """Self-attention music tagger (Won, Chun, Serra 2019, arXiv 1911.04385): waveform to tags.

    Any clip length is taken: the waveform is padded with zeros to a whole number of tokens, at least one; with centred
    frames (`model.spectrogram.framing`) it is padded to one token only, and the front-end sees the frames there are.

    Args:
        tags: names of the outputs.
        audio: `AudioConfig`, or its values.
        model: `ModelConfig`, or its values.

    Call: waveform float [B, samples] at `audio.sample_rate`, in about -1..1 -> logits float32 [B, n_tags].
    """

    def __init__(
        self,
        tags: Sequence[str],
        audio: AudioConfig | Mapping[str, Any],
        model: ModelConfig | Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tags = list(tags)
        self.audio = _section(AudioConfig, audio, "audio")
        self.model = _section(ModelConfig, model, "model")
        ExperimentConfig(audio=self.audio, model=self.model)  # checks what both must agree on
        policy = {"dtype": self.dtype_policy}
        encoder, attention = self.model.encoder, self.model.attention
        self.spectrogram = Spectrogram(sample_rate=self.audio.sample_rate, **dataclasses.asdict(self.model.spectrogram))
        self.front_end = front_end_from_config(
            self.model.front_end.kind, self.model.front_end.channels, encoder.width, **policy
        )
        self.class_token = ClassToken(self.model.cls_token, **policy)
        self.positions: keras.layers.Layer | None = {
            "sinusoidal": lambda: SinusoidalPositions(**policy),
            "learned": lambda: LearnedPositions(attention.max_positions, **policy),
            "none": lambda: None,
        }[attention.positions]()
        self.encoder = TransformerEncoder(
            **dataclasses.asdict(encoder),
            attention_kind=attention.kind,
            max_distance=attention.max_distance,
            window=attention.window,
            **policy,
        )
        self.head = TagHead(len(self.tags), self.model.head.pooler, self.model.head.dropout, **policy)
        needed = self.window_samples // self.token_samples + 1
        if attention.positions == "learned" and attention.max_positions < needed:
            raise ConfigError(
                f"model.attention.max_positions: expected at least {needed}, the tokens of a window with [CLS]. "
                f"Received: {attention.max_positions}."
            )
        # Whether the front-end's batch normalisation uses and updates the batch's statistics in training.
        self._front_end_learns = True
        self._analyzers: dict[tuple[str, ...], Any] = {}

    @property
    def token_samples(self) -> int:
        """Samples from one token to the next."""
        return self.front_end.frames_per_token * self._frame_samples

    @property
    def hop_seconds(self) -> float:
        """Seconds from one token to the next."""
        return self.token_samples / self.audio.sample_rate

    @property
    def receptive_field_seconds(self) -> float:
        """Length of the audio that a front-end token can depend on."""
        seen = 1 if self.front_end.takes_waveform else self.model.spectrogram.n_fft
        return ((self.front_end.receptive_field_frames - 1) * self._frame_samples + seen) / self.audio.sample_rate

    @property
    def window_samples(self) -> int:
        """Samples of an inference window: whole tokens, at least one, and with centred frames at least a crop."""
        wanted = int(self.audio.window_seconds * self.audio.sample_rate + 0.5)
        tokens = -(-wanted // self.token_samples) if self._centered else wanted // self.token_samples
        return max(tokens, 1) * self.token_samples

    @property
    def crop_samples(self) -> int:
        """Samples of a training crop: the window's, or with centred frames exactly `audio.window_seconds`."""
        return int(self.audio.window_seconds * self.audio.sample_rate + 0.5) if self._centered else self.window_samples

    @property
    def windowing(self) -> Windowing:
        """How audio is cut into the windows of inference."""
        return Windowing(self.audio.sample_rate, self.window_samples, self.token_samples)

    def n_tokens(self, n_samples: Any) -> Any:
        """Tokens of a waveform of that many samples, a number or an integer tensor; [CLS] not counted."""
        least = max if isinstance(n_samples, int) else tf.maximum
        if self.front_end.rounds_up:
            return least(-(-n_samples // self.token_samples), 1)
        return least(self.front_end.n_tokens(self.spectrogram.n_frames(n_samples)), 1)

    def token_times(self, n_tokens: int) -> npt.NDArray[Any]:
        """Centres of the tokens, seconds, float64 [n_tokens]."""
        return (np.arange(n_tokens) + 0.5) * self.hop_seconds

    @property
    def _frame_samples(self) -> int:
        return 1 if self.front_end.takes_waveform else self.model.spectrogram.hop_length

    @property
    def _centered(self) -> bool:
        return self.model.spectrogram.framing == "centered" and not self.front_end.takes_waveform

    def build(self, input_shape: Any = None) -> None:
        """Make all weights."""
        width = self.model.encoder.width
        self.spectrogram.build((None, None))
        self.front_end.build((None, None) if self.front_end.takes_waveform else (None, None, self.spectrogram.n_mels))
        for layer in (self.class_token, self.positions, self.encoder):
            if layer is not None:
                layer.build((None, None, width))
        self.head.build((None, width))
        self.built = True
        if self.model.initial != "keras":
            begin_as_pytorch(self, copied=self.model.initial == "pytorch_copied")

    def freeze(self, parts: str) -> None:
        """Take parts out of training: they keep their weights, and are in inference mode even in training.

        Args:
            parts: "none", "statistics" (of the front-end's batch normalisation; its weights are trained), "front_end",
                or "all_but_head" (front-end, [CLS], positions and encoder).

        Raises:
            ValueError: something else.
        """
        if parts not in ("none", "statistics", "front_end", "all_but_head"):
            raise ValueError(f"parts: expected none, statistics, front_end or all_but_head. Received: {parts!r}.")
        self.front_end.trainable = parts in ("none", "statistics")
        self._front_end_learns = parts == "none"
        for layer in (self.class_token, self.positions, self.encoder):
            if layer is not None:
                layer.trainable = parts != "all_but_head"

    def call(
        self,
        waveform: tf.Tensor,
        training: bool | None = None,
        spec_augment: SpecAugment | None = None,
        step: Any = 0,
        return_contributions: bool = False,
    ) -> Any:
        """Logits; `spec_augment` (with its `step`) is applied to the spectrogram in training.

        With `return_contributions` also the logits of the tag-wise contributions, float32 [B, T, n_tags], for a loss.
        """
        seen = self.see(waveform)
        if spec_augment is not None:
            seen = spec_augment(seen, step=step, training=training)
        tokens, mode = self._embed(seen, training), _mode(self.encoder, training)
        context, _ = self.encoder.encode_context(tokens, training=mode)
        logits = self.head(self.encoder.finish(context, training=mode), training=training)
        return (logits, self._contributions(context, mode, training)) if return_contributions else logits

    def logits_of(self, seen: tf.Tensor, return_attention_scores: bool = False) -> Any:
        """The rest of the forward pass, for explanations, which change what the front-end sees or ask for gradients.

        Args:
            seen: what the front-end sees of a waveform (`see`).
            return_attention_scores: whether to give each layer's weights too, [B, n_heads, 1+T, 1+T], as tensors that
                the logits are computed from.

        Returns:
            Logits float32 [B, n_tags], or (logits, list of weights).
        """
        return self._logits_of_tokens(self._embed(seen, training=False), return_attention_scores)

    def logits_and_feature_maps(self, seen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """As `logits_of`, and the front-end's last feature maps [B, T, F, C], which the logits are computed from."""
        maps = self.front_end.feature_maps(tf.cast(seen, self.front_end.compute_dtype), training=False)
        tokens = self._place(self.front_end.tokens_of(maps, training=False))
        return self._logits_of_tokens(tokens), maps

    def analyze(self, waveform: Any, outputs: Sequence[str] = OUTPUTS) -> dict[str, tf.Tensor]:
        """Everything there is to see, from one pass through one traced function per choice of outputs.

        Args:
            waveform: float32 [B, samples].
            outputs: any of "tags" float32 [B, n_tags] in 0..1; "attention" float32 [B, layers, heads, 1+T, 1+T], each
                row summing to one; "contributions" float32 [B, n_tags, T] in 0..1, each tag's probability when the
                last layer attends to that token only; "embedding" float32 [B, D], [CLS] after the encoder;
                "spectrogram" float32 [B, frames, n_mels].

        Raises:
            ValueError: an output that does not exist.
        """
        return self.analyzer(outputs)(tf.convert_to_tensor(waveform, tf.float32))

    def analyzer(self, outputs: Sequence[str]) -> Any:
        """The `tf.function` (waveform float32 [None, None]) behind `analyze`; an export's signatures use it too."""
        key = tuple(sorted(set(outputs)))
        unknown = [name for name in key if name not in OUTPUTS]
        if unknown or not key:
            raise ValueError(f"outputs: expected some of {', '.join(OUTPUTS)}. Received: {tuple(outputs)!r}.")
        if key not in self._analyzers:
            signature = [tf.TensorSpec([None, None], tf.float32, name="waveform")]
            # Without autograph, as no layer branches on a tensor: tracing, the most of a first answer, is faster.
            # TensorFlow warns of retracing by a function's code, adding up all models; a partial counts by itself.
            analyze = functools.partial(self._analyze, outputs=key)
            self._analyzers[key] = tf.function(analyze, input_signature=signature, autograph=False)
        return self._analyzers[key]

    def _analyze(self, waveform: tf.Tensor, outputs: tuple[str, ...]) -> dict[str, tf.Tensor]:
        found = {}
        seen = self.see(waveform)
        # Of the raw waveform's front-end, a picture only.
        found["spectrogram"] = self.spectrogram(seen) if self.front_end.takes_waveform else seen
        if outputs != ("spectrogram",):
            tokens = self._embed(seen, training=False)
            context, scores = self.encoder.encode_context(tokens, False, "attention" in outputs)
            if "attention" in outputs:
                cls, found["attention"] = self.encoder.finish_with_scores(context, scores)
            else:
                cls = self.encoder.finish(context)
            found["embedding"] = tf.cast(cls, tf.float32)
            found["tags"] = self.probabilities(self.head(cls, training=False))
            if "contributions" in outputs:
                contributions = self.probabilities(self._contributions(context, False, False))
                found["contributions"] = tf.transpose(contributions, [0, 2, 1])
        return {name: found[name] for name in outputs}

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """Logits [..., n_tags] to 0..1, of the same shape: each tag's own, or with softmax all summing to one."""
        return tf.nn.softmax(logits) if self.model.head.activation == "softmax" else tf.sigmoid(logits)

    def _contributions(self, context: tf.Tensor, encoder_training: bool | None, training: bool | None) -> tf.Tensor:
        """Logits [B, T, n_tags] when the last layer attends to one token only, [CLS] left out."""
        return self.head(self.encoder.attend_single(context, encoder_training)[:, 1:], training=training)

    def _whole_tokens(self, waveform: tf.Tensor) -> tf.Tensor:
        n_samples = tf.shape(waveform)[1]
        whole = tf.maximum(-(-n_samples // self.token_samples), 1) * self.token_samples
        if self._centered:
            # One token, and what the reflection at the ends needs.
            whole = tf.maximum(n_samples, max(self.token_samples, self.model.spectrogram.n_fft // 2 + 1))
        return tf.pad(waveform, [[0, 0], [0, whole - n_samples]])

    def see(self, waveform: tf.Tensor) -> tf.Tensor:
        """What the front-end sees of a waveform: its spectrogram [B, frames, n_mels], or itself [B, samples]."""
        whole = self._whole_tokens(waveform)
        if self.front_end.takes_waveform:
            return whole
        spectrogram = self.spectrogram(whole)
        if not self._centered:
            return spectrogram
        # Centred on the clip's very end there may be one frame more, which would begin a token more.
        spare = 0 if self.front_end.rounds_up else self.front_end.frames_per_token - 1
        return spectrogram[:, : self.n_tokens(tf.shape(waveform)[1]) * self.front_end.frames_per_token + spare]

    def _embed(self, seen: tf.Tensor, training: bool | None) -> tf.Tensor:
        return self._place(self.front_end(seen, training=training if self._front_end_learns else False))

    def _place(self, tokens: tf.Tensor) -> tf.Tensor:
        tokens = self.class_token(tokens)
        return tokens if self.positions is None else self.positions(tokens)

    def _logits_of_tokens(self, tokens: tf.Tensor, return_attention_scores: bool = False) -> Any:
        context, scores = self.encoder.encode_context(tokens, False, return_attention_scores)
        if return_attention_scores:
            cls, last = self.encoder.finish_with_last_scores(context, False)
            return self.head(cls, training=False), [*scores, last]
        return self.head(self.encoder.finish(context, training=False), training=False)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """[B, samples] -> [B, n_tags]."""
        return input_shape[0], len(self.tags)

    def compute_output_spec(self, waveform: keras.KerasTensor, **kwargs: Any) -> keras.KerasTensor:
        """The symbolic output: float32, whatever the dtype policy."""
        return keras.KerasTensor(self.compute_output_shape(waveform.shape), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments, as plain values."""
        return {
            "name": self.name,
            "tags": list(self.tags),
            "audio": dataclasses.asdict(self.audio),
            "model": dataclasses.asdict(self.model),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> MusicTagger:
        """The inverse of `get_config`."""
        return cls(**config)


def _mode(layer: keras.layers.Layer, training: bool | None) -> bool | None:
    """Frozen layers are in inference mode: no dropout, and the moving statistics of batch norm stay and are used."""
    return training if layer.trainable else False


def _section(kind: Any, values: Any, key: str) -> Any:
    return values if isinstance(values, kind) else section_from_dict(kind, values, key)
