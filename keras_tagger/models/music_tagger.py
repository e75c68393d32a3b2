"""`MusicTagger`: the one forward pass of training, heat maps, export and serving."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_tagger.audio.levels import SILENT_PEAK
from keras_tagger.audio.windows import Windowing
from keras_tagger.config import AudioConfig, ExperimentConfig, ModelConfig, TrainingConfig, section_from_dict
from keras_tagger.errors import ConfigError
from keras_tagger.layers import (
    ClassToken,
    LearnedPositions,
    SinusoidalPositions,
    Spectrogram,
    TagHead,
    TransformerEncoder,
    front_end_from_config,
)
from keras_tagger.layers.replicas import n_replicas
from keras_tagger.layers.spec_augment import mask_spectrogram
from keras_tagger.models.augment import augment_waveforms
from keras_tagger.models.initial_values import begin_as_pytorch
from keras_tagger.models.losses import class_loss, contribution_loss, tag_loss

_PARTS = ("front_end", "class_token", "positions", "encoder", "head")
_FEWEST_TOKENS = 2
_PART_STEPS = 2**40  # more than a run has
OUTPUTS = ("tags", "attention", "contributions", "embedding", "spectrogram")


@keras.saving.register_keras_serializable(package="keras_tagger")
class MusicTagger(keras.Model):
    """Self-attention music tagger (Won, Chun, Serra 2019, arXiv 1911.04385): from waveform to tags.

    It takes clips of any length. A token that lies partly beyond the end of a clip gets the clip's last frames in
    reverse order there, because silence would attract attention. With centred frames (`model.spectrogram.framing`),
    clips are padded with zeros, and to one token only, as in the authors' code.

    `compile(optimizer)` and `fit(dataset)` train it on batches of (waveform, labels): labels may be NaN if unknown, and
    waveforms are augmented as `training` says. To train on times too, a batch is (waveform, (labels, stretches,
    bounds)); see `keras_tagger.models.losses.contribution_loss`. `predict` returns logits, as `call` does.

    Args:
        tags: Names of the outputs.
        audio: `AudioConfig`, or its values.
        model: `ModelConfig`, or its values.
        training: `TrainingConfig`, or its values, of which training uses `augment`, `seed`, `temperature` and
            `contribution_loss`; the optimiser is passed to `compile`.
        frozen: Names of parts that are not trained; see `freeze`.

    Input shape:
        Waveform, float `[batch, samples]` at `audio.sample_rate`, roughly in -1..1.

    Output shape:
        Logits, float32 `[batch, n_tags]`.

    Example:
        >>> model = MusicTagger(["guitar", "voice"], AudioConfig(), ModelConfig())
        >>> model.compile(optimizer="adam")
        >>> model.fit(dataset, epochs=10, callbacks=[keras.callbacks.TensorBoard("logs")])
    """

    def __init__(
        self,
        tags: Sequence[str],
        audio: AudioConfig | Mapping[str, Any],
        model: ModelConfig | Mapping[str, Any],
        training: TrainingConfig | Mapping[str, Any] | None = None,
        frozen: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tags = list(tags)
        self.audio_config = _section(AudioConfig, audio, "audio")
        self.model_config = _section(ModelConfig, model, "model")
        self.training_config = _section(TrainingConfig, training or {}, "training")
        # Checks that the sections agree with each other.
        ExperimentConfig(audio=self.audio_config, model=self.model_config, training=self.training_config)
        policy = {"dtype": self.dtype_policy}
        encoder, attention = self.model_config.encoder, self.model_config.attention
        self.spectrogram = Spectrogram(
            sample_rate=self.audio_config.sample_rate, **dataclasses.asdict(self.model_config.spectrogram)
        )
        front_end = self.model_config.front_end
        self.front_end = front_end_from_config(
            front_end.kind,
            front_end.channels,
            encoder.width,
            dataclasses.asdict(front_end.second_ear) if front_end.second_ear.channels else None,
            **policy,
        )
        self.class_token = ClassToken(self.model_config.cls_token, **policy)
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
        self.head = TagHead(len(self.tags), self.model_config.head.pooler, self.model_config.head.dropout, **policy)
        shortest = _FEWEST_TOKENS * self.hop_seconds
        if round(self.audio_config.window_seconds, 6) < round(shortest, 6):
            raise ConfigError(
                f"audio.window_seconds: expected at least {shortest:g} s, {_FEWEST_TOKENS} tokens of "
                f"{self.hop_seconds:g} s, between which attention can choose. "
                f"Received: {self.audio_config.window_seconds:g}."
            )
        needed = self.window_samples // self.token_samples + 1
        if attention.positions == "learned" and attention.max_positions < needed:
            raise ConfigError(
                f"model.attention.max_positions: expected at least {needed}, the tokens of a window with [CLS]. "
                f"Received: {attention.max_positions}."
            )
        # Whether the front-end's batch normalisation uses and updates the batch's statistics in training.
        self._front_end_learns = True
        self._analyzers: dict[tuple[str, ...], Any] = {}
        # Set by a training loop: the run's step at the optimiser's first step, the share of each weight that is added
        # to its gradient, and the weights of labels in the loss (`balanced_weights`).
        self.first_step = 0
        self.coupled_decay = 0.0
        self.tag_weights: npt.NDArray[Any] | None = None
        self._freeze_parts(frozen)

    @property
    def audio(self) -> AudioConfig:
        """The audio configuration; deprecated, use `audio_config`."""
        warnings.warn("MusicTagger.audio is deprecated; use audio_config.", DeprecationWarning, stacklevel=2)
        return self.audio_config

    @property
    def model(self) -> ModelConfig:
        """The model configuration; deprecated, use `model_config`."""
        warnings.warn("MusicTagger.model is deprecated; use model_config.", DeprecationWarning, stacklevel=2)
        return self.model_config

    @property
    def token_samples(self) -> int:
        """Samples from one token to the next."""
        return self.front_end.frames_per_token * self._frame_samples

    @property
    def hop_seconds(self) -> float:
        """Seconds from one token to the next."""
        return self.token_samples / self.audio_config.sample_rate

    @property
    def receptive_field_seconds(self) -> float:
        """Length of the audio that a front-end token can depend on."""
        seen = 1 if self.front_end.takes_waveform else self.model_config.spectrogram.n_fft
        return (
            (self.front_end.receptive_field_frames - 1) * self._frame_samples + seen
        ) / self.audio_config.sample_rate

    @property
    def window_samples(self) -> int:
        """Samples of an inference window: whole tokens, at least one, and with centred frames at least a crop."""
        wanted = int(self.audio_config.window_seconds * self.audio_config.sample_rate + 0.5)
        tokens = -(-wanted // self.token_samples) if self._centered else wanted // self.token_samples
        return max(tokens, 1) * self.token_samples

    @property
    def crop_samples(self) -> int:
        """Samples of a training crop: the window's, or with centred frames exactly `audio.window_seconds`."""
        return (
            int(self.audio_config.window_seconds * self.audio_config.sample_rate + 0.5)
            if self._centered
            else self.window_samples
        )

    @property
    def windowing(self) -> Windowing:
        """The way audio is cut into windows for inference."""
        return Windowing(self.audio_config.sample_rate, self.window_samples, self.token_samples)

    def n_tokens(self, n_samples: Any) -> Any:
        """Return the number of tokens, without [CLS], for a number of samples (an int or an integer tensor)."""
        least = max if isinstance(n_samples, int) else tf.maximum
        if self.front_end.rounds_up:
            # In graphs not -(-n // k), as ONNX rounds the quotients of integers towards zero.
            return least((n_samples + self.token_samples - 1) // self.token_samples, 1)
        return least(self.front_end.n_tokens(self.spectrogram.n_frames(n_samples)), 1)

    def token_times(self, n_tokens: int) -> npt.NDArray[Any]:
        """Return the centres of the tokens in seconds, float64 `[n_tokens]`."""
        return (np.arange(n_tokens) + 0.5) * self.hop_seconds

    @property
    def _frame_samples(self) -> int:
        return 1 if self.front_end.takes_waveform else self.model_config.spectrogram.hop_length

    @property
    def _centered(self) -> bool:
        return self.model_config.spectrogram.framing == "centered" and not self.front_end.takes_waveform

    def build(self, input_shape: Any = None) -> None:
        """Create all weights."""
        # Keras' `evaluate` builds a model again.
        if self.front_end.built:
            return
        width = self.model_config.encoder.width
        self.spectrogram.build((None, None))
        self.front_end.build((None, None) if self.front_end.takes_waveform else (None, None, self.spectrogram.n_mels))
        for layer in (self.class_token, self.positions, self.encoder):
            if layer is not None:
                layer.build((None, None, width))
        self.head.build((None, width))
        self.built = True
        if self.model_config.initial != "keras":
            begin_as_pytorch(self, copied=self.model_config.initial == "pytorch_copied")

    def freeze(self, parts: str) -> None:
        """Exclude parts from training: they keep their weights and stay in inference mode.

        Args:
            parts: "none", "statistics" (of the front-end's batch normalisation; its weights are trained), "front_end",
                or "all_but_head" (front-end, [CLS], positions and encoder).

        Raises:
            ValueError: If `parts` is something else.
        """
        if parts not in ("none", "statistics", "front_end", "all_but_head"):
            raise ValueError(f"parts: expected none, statistics, front_end or all_but_head. Received: {parts!r}.")
        body = ("statistics", "front_end", "class_token", "positions", "encoder")
        kept = {"none": (), "statistics": body[:1], "front_end": body[:2], "all_but_head": body}
        self._freeze_parts(kept[parts])

    @property
    def frozen(self) -> list[str]:
        """The parts that are not trained; "statistics" are those of the front-end's batch normalisation."""
        parts = [name for name in _PARTS if getattr(self, name) is not None and not getattr(self, name).trainable]
        return parts if self._front_end_learns else ["statistics", *parts]

    def _freeze_parts(self, parts: Sequence[str]) -> None:
        self._front_end_learns = "statistics" not in parts
        for name in _PARTS:
            layer = getattr(self, name)
            if layer is not None:
                layer.trainable = name not in parts

    def call(self, waveform: tf.Tensor, training: bool | None = None, return_contributions: bool = False) -> Any:
        """Return the logits.

        With `return_contributions`, also return the logits of the tag-wise contributions, float32
        `[batch, tokens, n_tags]`.
        """
        return self._outputs(self.see(waveform), training, return_contributions)

    def _outputs(self, seen: tf.Tensor, training: bool | None, return_contributions: bool = False) -> Any:
        tokens, mode = self.embed(seen, training), _mode(self.encoder, training)
        context, _ = self.encoder.encode_context(tokens, training=mode)
        logits = self.head(self.encoder.finish(context, training=mode), training=training)
        return (logits, self._contributions(context, mode, training)) if return_contributions else logits

    def train_step(self, data: Any) -> dict[str, Any]:
        """Make one training step on a batch, as `fit` does; augmentation is a function of (seed, step)."""
        *_, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        loss, gradients, (waveform, labels, logits) = self.gradients(data)
        self.apply_gradients(gradients)
        self.note_loss(loss * n_replicas(), tf.shape(waveform)[0])
        return self.compute_metrics(waveform, labels, logits, sample_weight)

    def gradients(self, data: Any, part: Any = 0) -> tuple[tf.Tensor, list[tf.Tensor], tuple[tf.Tensor, ...]]:
        """Return this replica's share of a step: shares of several replicas add up to the step on all their clips.

        Args:
            data: As in `fit`: (waveform, labels) or (waveform, labels, sample_weight).
            part: Number of the part, if the batch of a step is processed in parts; it changes augmentation.

        Returns:
            The loss; its gradients by the trainable weights, scaled for the optimiser; and waveforms, labels and logits
            as they were trained on.
        """
        waveform, target, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        labels, *dense = target if isinstance(target, tuple | list) else (target,)
        settings, step = self.training_config, self.first_step + tf.cast(self.optimizer.iterations, tf.int64)
        step += tf.cast(part, tf.int64) * _PART_STEPS
        waveform, labels = augment_waveforms(waveform, labels, settings.augment, settings.seed, step)
        localized = bool(dense) and settings.contribution_loss > 0
        with tf.GradientTape() as tape:
            seen = self.see(waveform)
            masks = settings.augment
            if masks.n_time_masks or masks.n_freq_masks:
                seed = tf.stack([tf.constant(settings.seed, tf.int64), step])
                time_masks = (masks.n_time_masks, masks.time_mask_frames)
                seen = mask_spectrogram(seen, seed, time_masks, (masks.n_freq_masks, masks.freq_mask_bins))
            predicted = self._outputs(seen, True, localized)
            loss = self.compute_loss(waveform, (labels, *dense), predicted, sample_weight, training=True)
            if self.loss is not None and n_replicas() > 1:  # a mean over this replica's clips
                loss /= n_replicas()
            scaled = self.optimizer.scale_loss(loss)
        gradients = [tf.convert_to_tensor(value) for value in tape.gradient(scaled, self.trainable_weights)]
        return loss, gradients, (waveform, labels, predicted[0] if localized else predicted)

    def apply_gradients(self, gradients: Sequence[tf.Tensor]) -> None:
        """Let the optimiser change the weights, by gradients as from `gradients`."""
        weights = self.trainable_weights
        if self.coupled_decay:
            pulls = [self.optimizer.scale_loss(self.coupled_decay * tf.convert_to_tensor(weight)) for weight in weights]
            gradients = [gradient + pull for gradient, pull in zip(gradients, pulls, strict=True)]
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))

    def note_loss(self, loss: tf.Tensor, n_clips: Any) -> None:
        """Count the loss of a step in the mean that Keras reports."""
        self._loss_tracker.update_state(loss, sample_weight=n_clips)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tf.Tensor:
        """Return the loss of a batch: cross-entropy over the known labels, plus that of contributions if there are any.

        A `loss` given to `compile` takes its place.
        """
        labels, *dense = y if isinstance(y, tuple | list) else (y,)
        logits, *contributions = y_pred if isinstance(y_pred, tuple | list) else (y_pred,)
        if self.loss is not None:
            return super().compute_loss(x, labels, logits, sample_weight, training=training)
        if self.model_config.head.activation == "softmax":
            return class_loss(labels, logits, sample_weight, self.tag_weights)
        loss = tag_loss(labels, logits, self.training_config.temperature, sample_weight, self.tag_weights)
        if not contributions:
            return loss
        localized = contribution_loss(contributions[0], dense[0], dense[1], self.token_samples)
        return loss + self.training_config.contribution_loss * localized

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Update and return the metrics given to `compile`, which see the labels and the logits."""
        labels = y[0] if isinstance(y, tuple | list) else y
        return super().compute_metrics(x, labels, y_pred, sample_weight)

    def logits_of(self, seen: tf.Tensor, return_attention_scores: bool = False) -> Any:
        """Compute the logits from the front-end's input, for explanations that change it or need its gradients.

        Args:
            seen: The front-end's input (`see`).
            return_attention_scores: Whether to also return each layer's weights `[batch, n_heads, 1+T, 1+T]`, on
                which the logits depend.

        Returns:
            Logits float32 `[batch, n_tags]`, or (logits, list of weights).
        """
        return self._logits_of_tokens(self.embed(seen, training=False), return_attention_scores)

    def logits_and_feature_maps(self, seen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return `logits_of` and the front-end's last feature maps `[batch, T, F, C]`, on which the logits depend."""
        maps = self.front_end.feature_maps(tf.cast(seen, self.front_end.compute_dtype), training=False)
        tokens = self.place(self.front_end.tokens_of(maps, training=False))
        return self._logits_of_tokens(tokens), maps

    def analyze(self, waveform: Any, outputs: Sequence[str] = OUTPUTS) -> dict[str, tf.Tensor]:
        """Return any of the model's outputs, from one pass through a function traced once per choice of outputs.

        Args:
            waveform: float32 [B, samples].
            outputs: any of "tags" float32 [B, n_tags] in 0..1, all 0 if a waveform is silent; "attention" float32
                [B, layers, heads, 1+T, 1+T], each row summing to one; "contributions" float32 [B, n_tags, T] in 0..1,
                each tag's probability when the last layer attends to that token only; "embedding" float32 [B, D], [CLS]
                after the encoder; "spectrogram" float32 [B, frames, n_mels].

        Raises:
            ValueError: If an output does not exist.
        """
        return self.analyzer(outputs)(tf.convert_to_tensor(waveform, tf.float32))

    def analyzer(self, outputs: Sequence[str]) -> Any:
        """Return the `tf.function` (waveform float32 `[None, None]`) behind `analyze`, which exports use too."""
        key = tuple(sorted(set(outputs)))
        unknown = [name for name in key if name not in OUTPUTS]
        if unknown or not key:
            raise ValueError(f"outputs: expected some of {', '.join(OUTPUTS)}. Received: {tuple(outputs)!r}.")
        if key not in self._analyzers:
            signature = [tf.TensorSpec([None, None], tf.float32, name="waveform")]
            # No layer branches on a tensor, so autograph is off: tracing, which dominates the first call, is faster.
            # TensorFlow's warning counts the retracing of a function over all models, but of each partial separately.
            analyze = functools.partial(self._analyze, outputs=key)
            self._analyzers[key] = tf.function(analyze, input_signature=signature, autograph=False)
        return self._analyzers[key]

    def _analyze(self, waveform: tf.Tensor, outputs: tuple[str, ...]) -> dict[str, tf.Tensor]:
        found = {}
        seen = self.see(waveform)
        # The raw-waveform front-end does not use it; it is only for pictures.
        found["spectrogram"] = self.spectrogram(seen) if self.front_end.takes_waveform else seen
        if outputs != ("spectrogram",):
            tokens = self.embed(seen, training=False)
            context, scores = self.encoder.encode_context(tokens, False, "attention" in outputs)
            if "attention" in outputs:
                cls, found["attention"] = self.encoder.finish_with_scores(context, scores)
            else:
                cls = self.encoder.finish(context)
            found["embedding"] = tf.cast(cls, tf.float32)
            found["tags"] = self.probabilities(self.head(cls, training=False)) * heard_in(waveform)
            if "contributions" in outputs:
                contributions = self.probabilities(self._contributions(context, False, False))
                found["contributions"] = tf.transpose(contributions, [0, 2, 1])
        return {name: found[name] for name in outputs}

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """Turn logits `[..., n_tags]` into probabilities: one sigmoid per tag, or a softmax over all tags."""
        return tf.nn.softmax(logits) if self.model_config.head.activation == "softmax" else tf.sigmoid(logits)

    def _contributions(self, context: tf.Tensor, encoder_training: bool | None, training: bool | None) -> tf.Tensor:
        """Return logits `[batch, T, n_tags]` when the last layer attends to one token only, without [CLS]."""
        return self.head(self.encoder.attend_single(context, encoder_training)[:, 1:], training=training)

    def see(self, waveform: tf.Tensor) -> tf.Tensor:
        """Return the front-end's input for whole tokens: spectrogram `[batch, frames, n_mels]`, or waveform."""
        n_samples = tf.shape(waveform)[1]
        if self._centered:
            # At least one token, and enough samples for the reflection at the ends.
            spectrogram = self.spectrogram(
                _zero_padded(waveform, max(self.token_samples, self.model_config.spectrogram.n_fft // 2 + 1))
            )
            # A frame centred on the clip's very end may be one too many, and would start another token.
            spare = 0 if self.front_end.rounds_up else self.front_end.frames_per_token - 1
            return spectrogram[:, : self.n_tokens(n_samples) * self.front_end.frames_per_token + spare]
        heard = _zero_padded(waveform, 1)
        if not self.front_end.takes_waveform:
            # The last frame may lie beyond the end of the clip in part.
            heard = self.spectrogram(heard)[:, : tf.maximum(n_samples // self._frame_samples, 1)]
        n_tokens = tf.maximum((n_samples + self.token_samples - 1) // self.token_samples, 1)
        return _mirrored(heard, n_tokens * self.front_end.frames_per_token)

    def embed(self, seen: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the encoder's input `[batch, 1 + T, width]` for the front-end's input (`see`)."""
        return self.place(self.front_end(seen, training=training if self._front_end_learns else False))

    def place(self, tokens: tf.Tensor) -> tf.Tensor:
        """Return the encoder's input for the front-end's tokens: with [CLS] and positions."""
        tokens = self.class_token(tokens)
        return tokens if self.positions is None else self.positions(tokens)

    def _logits_of_tokens(self, tokens: tf.Tensor, return_attention_scores: bool = False) -> Any:
        context, scores = self.encoder.encode_context(tokens, False, return_attention_scores)
        if return_attention_scores:
            cls, last = self.encoder.finish_with_last_scores(context, False)
            return self.head(cls, training=False), [*scores, last]
        return self.head(self.encoder.finish(context, training=False), training=False)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return `[batch, n_tags]`."""
        return input_shape[0], len(self.tags)

    def compute_output_spec(self, waveform: keras.KerasTensor, **kwargs: Any) -> keras.KerasTensor:
        """Return the symbolic output, float32 under every dtype policy."""
        return keras.KerasTensor(self.compute_output_shape(waveform.shape), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments, as plain values."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "tags": list(self.tags),
            "audio": dataclasses.asdict(self.audio_config),
            "model": dataclasses.asdict(self.model_config),
            "training": dataclasses.asdict(self.training_config),
            "frozen": self.frozen,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> MusicTagger:
        """Return the model of a configuration from `get_config`."""
        return cls(**config)


def heard_in(waveforms: tf.Tensor) -> tf.Tensor:
    """Return 0 for each silent waveform (`keras_tagger.audio.levels`) and 1 for the others, float32 `[B, 1]`.

    Args:
        waveforms: float32 `[B, samples]`.
    """
    distance = tf.reduce_max(waveforms, axis=1, keepdims=True) - tf.reduce_min(waveforms, axis=1, keepdims=True)
    return tf.cast(distance > 2 * SILENT_PEAK, tf.float32)


def _zero_padded(waveform: tf.Tensor, least: int) -> tf.Tensor:
    """Pad waveforms `[batch, samples]` with zeros to at least `least` samples."""
    return tf.pad(waveform, [[0, 0], [0, tf.maximum(least - tf.shape(waveform)[1], 0)]])


def _mirrored(values: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Extend values `[batch, n, ...]` along their second axis by reflection at both ends, to `length` or n."""
    n = tf.shape(values)[1]
    period = tf.maximum(2 * (n - 1), 1)
    places = tf.range(n, length) % period
    return tf.concat([values, tf.gather(values, tf.minimum(places, period - places), axis=1)], axis=1)


def _mode(layer: keras.layers.Layer, training: bool | None) -> bool | None:
    """Keep frozen layers in inference mode: no dropout, and unchanged statistics of batch norm."""
    return training if layer.trainable else False


def _section(kind: Any, values: Any, key: str) -> Any:
    return values if isinstance(values, kind) else section_from_dict(kind, values, key)
