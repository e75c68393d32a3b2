"""The sections of a configuration: frozen dataclasses that check their own values when they are made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from keras_tagger.config.data import DataConfig
from keras_tagger.config.data import require as _require


@dataclass(frozen=True)
class AudioConfig:
    """What the model hears.

    Attributes:
        sample_rate: samples per second of the model's input, Hz.
        window_seconds: length of a training crop and of an inference window; rounded down to whole tokens, but where
            `model.spectrogram.framing` is "centered" a crop is exactly as long and a window is rounded up.
    """

    sample_rate: int = 16000
    window_seconds: float = 10.0

    def __post_init__(self) -> None:
        _require(self.sample_rate > 0, "audio.sample_rate", "a positive number of Hz", self.sample_rate)
        _require(self.window_seconds > 0, "audio.window_seconds", "a positive time", self.window_seconds)


@dataclass(frozen=True)
class SpectrogramConfig:
    """Mel spectrogram, computed in the graph by kapre.

    Attributes:
        n_fft: window (Hann) and FFT length, samples.
        hop_length: samples between frames.
        n_mels: mel bands.
        f_min, f_max: edges of the filterbank, Hz.
        power: 1 for magnitude, 2 for power mel.
        compression: "log1p" is log(1 + gain * mel), "decibel" is 10 log10(max(mel, 1e-10)) (torchaudio's
            AmplitudeToDB of power), "amplitude_decibel" is 20 log10(max(mel, 1e-5)) (librosa's amplitude_to_db); all
            look at one value at a time, so a frame never depends on the rest of the clip.
        gain: of log1p.
        top_db: values more than this below the clip's largest are raised to there (librosa's, 80); 0 is off. It makes
            frames depend on the rest of the clip, and is for models that were trained so.
        framing: "owned": frame i is centred on its own samples, and there is silence around the clip; "centered": frame
            i is centred on sample i * hop_length, and the clip is reflected at its ends (librosa, torchaudio).
        mel_scale, mel_norm: "slaney" or "htk" scale; "slaney" area normalisation or "none".
        stored: whether window and filterbank are weights of the model: an imported checkpoint brings those it was
            trained with, whose rounding is not this package's.
    """

    n_fft: int = 512
    hop_length: int = 256
    n_mels: int = 96
    f_min: float = 0.0
    f_max: float = 8000.0
    power: Literal[1, 2] = 1
    compression: Literal["log1p", "decibel", "amplitude_decibel"] = "log1p"
    gain: float = 10000.0
    top_db: float = 0.0
    framing: Literal["owned", "centered"] = "owned"
    mel_scale: Literal["slaney", "htk"] = "slaney"
    mel_norm: Literal["slaney", "none"] = "slaney"
    stored: bool = False

    def __post_init__(self) -> None:
        key = "model.spectrogram"
        _require(self.n_fft >= 2 and self.n_fft % 2 == 0, f"{key}.n_fft", "an even number >= 2", self.n_fft)
        _require(
            0 < self.hop_length <= self.n_fft and (self.n_fft - self.hop_length) % 2 == 0,
            f"{key}.hop_length",
            f"1 to n_fft ({self.n_fft}) samples, even",
            self.hop_length,
        )
        _require(self.n_mels > 0, f"{key}.n_mels", "at least 1", self.n_mels)
        _require(0 <= self.f_min < self.f_max, f"{key}.f_min", f"0 <= f_min < f_max ({self.f_max} Hz)", self.f_min)
        _require(self.gain > 0, f"{key}.gain", "a positive number", self.gain)
        _require(self.top_db >= 0, f"{key}.top_db", "0 or more", self.top_db)
        _require(
            self.top_db == 0 or self.compression != "log1p",
            f"{key}.top_db",
            "0 where compression is log1p",
            self.top_db,
        )


@dataclass(frozen=True)
class FrontEndConfig:
    """The convolutional front-end: local timbre, one token per hop.

    Attributes:
        kind: "compact" (ours), "timbral" (Won et al. 2019, after Pons et al. 2018), "sample" (the same paper's, of the
            raw waveform, after Lee et al. 2017), "residual" (Won et al. 2020) or "pooled" (Won et al. 2021).
        channels: compact, residual, pooled: channels of each stage; timbral, sample: one number, c.
    """

    kind: Literal["compact", "timbral", "sample", "residual", "pooled"] = "compact"
    channels: tuple[int, ...] = (16, 48, 96, 128)

    def __post_init__(self) -> None:
        key = "model.front_end.channels"
        _require(len(self.channels) > 0 and min(self.channels) > 0, key, "positive numbers", list(self.channels))
        if self.kind in ("timbral", "sample"):
            _require(len(self.channels) == 1, key, f"one number (c) for the {self.kind} front-end", list(self.channels))
        if self.kind in ("residual", "pooled"):
            _require(len(self.channels) >= 3, key, "at least three numbers", list(self.channels))


@dataclass(frozen=True)
class AttentionConfig:
    """How tokens attend to each other and know their place.

    Attributes:
        kind: "absolute" (by content, with positions added to the tokens), "relative", "rotary", "alibi", "local" or
            "linear": see `keras_tagger.layers.attention`.
        positions: "sinusoidal", "learned" or "none", added to the tokens. Where a configuration names a kind that knows
            distances itself (relative, rotary, alibi) and no positions, "none".
        max_distance: of "relative": longer distances, in tokens, count as that.
        window: of "local": how many tokens to either side a token attends to.
        max_positions: longest input, in tokens with [CLS], that learned positions can take.
    """

    kind: Literal["absolute", "relative", "rotary", "alibi", "local", "linear"] = "absolute"
    positions: Literal["sinusoidal", "learned", "none"] = "sinusoidal"
    max_positions: int = 1024
    max_distance: int = 64
    window: int = 16

    def __post_init__(self) -> None:
        _require(self.max_positions > 1, "model.attention.max_positions", "at least 2", self.max_positions)
        for name in ("max_distance", "window"):
            _require(getattr(self, name) >= 1, f"model.attention.{name}", "at least 1", getattr(self, name))


@dataclass(frozen=True)
class EncoderConfig:
    """The Transformer encoder.

    Attributes:
        n_layers, n_heads, width, feed_forward: its sizes.
        norm: "pre" or "post" layer normalisation.
        dropout: after positions, attention and feed-forward, 0..1.
        attention_dropout: on attention weights, 0..1.
        epsilon: of layer normalisation.
        feed_forward_dropout: between the two layers of the feed-forward, 0..1.
        input_dropout: whether `dropout` acts on the tokens, after positions, too.
        input_norm: whether tokens are layer-normalised after positions (BERT's embeddings).
        attention_bias: whether queries, keys and values have biases.
    """

    n_layers: int = 4
    n_heads: int = 4
    width: int = 192
    feed_forward: int = 768
    norm: Literal["pre", "post"] = "pre"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    epsilon: float = 1e-6
    feed_forward_dropout: float = 0.0
    input_dropout: bool = True
    input_norm: bool = False
    attention_bias: bool = True

    def __post_init__(self) -> None:
        key = "model.encoder"
        for name in ("n_layers", "n_heads", "width", "feed_forward"):
            _require(getattr(self, name) > 0, f"{key}.{name}", "at least 1", getattr(self, name))
        _require(
            self.width % self.n_heads == 0,
            f"{key}.width",
            f"a multiple of n_heads ({self.n_heads})",
            self.width,
        )
        for name in ("dropout", "attention_dropout", "feed_forward_dropout"):
            _require(0 <= getattr(self, name) < 1, f"{key}.{name}", "0 <= rate < 1", getattr(self, name))
        _require(self.epsilon > 0, f"{key}.epsilon", "a positive number", self.epsilon)


@dataclass(frozen=True)
class HeadConfig:
    """From the last [CLS] token to one logit per tag.

    Attributes:
        pooler: True puts a dense tanh layer before the output (BERT's pooler, the paper's).
        dropout: before the output, 0..1.
        activation: from logits to probabilities: "sigmoid" of each tag by itself, or "softmax" over all, for music of
            which every clip has one tag; the loss of training and what validation measures follow from it.
    """

    pooler: bool = False
    dropout: float = 0.1
    activation: Literal["sigmoid", "softmax"] = "sigmoid"

    def __post_init__(self) -> None:
        _require(0 <= self.dropout < 1, "model.head.dropout", "0 <= rate < 1", self.dropout)


@dataclass(frozen=True)
class ModelConfig:
    """The model: spectrogram, front-end, encoder, head.

    Attributes:
        cls_token: "learned", or "fixed" (the paper's: uniform in [0, 1), never trained).
        initial: initial values of the weights: "keras" (Glorot's, small vectors), "pytorch"
            (`keras_tagger.models.initial_values`), or "pytorch_copied", where all layers of the encoder start as copies
            of one.
    """

    spectrogram: SpectrogramConfig = field(default_factory=SpectrogramConfig)
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    cls_token: Literal["learned", "fixed"] = "learned"
    initial: Literal["keras", "pytorch", "pytorch_copied"] = "keras"

    def __post_init__(self) -> None:
        _require(
            self.front_end.kind != "residual" or self.front_end.channels[-1] == self.encoder.width,
            "model.encoder.width",
            f"the last of model.front_end.channels ({self.front_end.channels[-1]}), whose channels are the tokens",
            self.encoder.width,
        )
        _require(
            self.attention.kind != "rotary" or self.encoder.width % (2 * self.encoder.n_heads) == 0,
            "model.encoder.width",
            f"a multiple of twice n_heads ({2 * self.encoder.n_heads}), for rotary attention",
            self.encoder.width,
        )
        _require(
            self.attention.positions != "sinusoidal" or self.encoder.width % 2 == 0,
            "model.encoder.width",
            "an even number (sinusoidal positions)",
            self.encoder.width,
        )


@dataclass(frozen=True)
class AugmentConfig:
    """Changes made to training crops.

    Attributes:
        gain_db: each crop's level is changed by a uniform draw from -gain_db..gain_db.
        equalize_db: each crop's spectrum is multiplied by a smooth curve, drawn in decibels from
            -equalize_db..equalize_db at six frequencies an equal ratio apart (as between rooms and recordings).
        mixup_alpha: Beta parameter of mixup (Zhang et al. 2018) on waveforms and labels; 0 is off.
        n_time_masks, time_mask_frames, n_freq_masks, freq_mask_bins: SpecAugment (Park et al. 2019), by kapre;
            either number of masks may be 0.
    """

    gain_db: float = 6.0
    equalize_db: float = 0.0
    mixup_alpha: float = 0.0
    n_time_masks: int = 0
    time_mask_frames: int = 40
    n_freq_masks: int = 0
    freq_mask_bins: int = 10

    def __post_init__(self) -> None:
        for name in ("gain_db", "equalize_db", "mixup_alpha", "n_time_masks", "n_freq_masks"):
            _require(getattr(self, name) >= 0, f"training.augment.{name}", "0 or more", getattr(self, name))
        for name in ("time_mask_frames", "freq_mask_bins"):
            _require(getattr(self, name) > 0, f"training.augment.{name}", "at least 1", getattr(self, name))


@dataclass(frozen=True)
class PhaseConfig:
    """A further phase of training; it starts from the best weights so far (the paper's schedule).

    Attributes:
        from_epoch: first epoch (counted from 0) of the phase.
        optimizer, learning_rate, weight_decay, decay, schedule: as in `TrainingConfig`.
    """

    from_epoch: int
    optimizer: Literal["adamw", "adam", "sgd"]
    learning_rate: float
    weight_decay: float = 0.0
    decay: Literal["decoupled", "coupled"] = "decoupled"
    schedule: Literal["cosine", "constant"] = "constant"

    def __post_init__(self) -> None:
        _require(self.from_epoch > 0, "training.phases.from_epoch", "1 or more", self.from_epoch)
        _require(self.learning_rate > 0, "training.phases.learning_rate", "a positive number", self.learning_rate)
        _require(self.weight_decay >= 0, "training.phases.weight_decay", "0 or more", self.weight_decay)


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is fitted.

    Attributes:
        epochs: passes over the training crops.
        batch_size: crops per step.
        optimizer: "adamw", "adam" or "sgd" (Nesterov momentum 0.9).
        learning_rate: its peak.
        weight_decay: how strongly weights are pulled to zero; 0 is off.
        decay: "decoupled", on kernels only (Loshchilov and Hutter 2019), or "coupled": the gradient of
            weight_decay / 2 * |weights|^2 is added, for all weights (the weight_decay of PyTorch's Adam and SGD).
        schedule: "cosine" (to zero at the end of the phase) or "constant".
        warmup_epochs: linear rise of the learning rate from zero, first phase only.
        clip_norm: gradients' global norm is held to this; 0 is off.
        phases: what comes after the first phase.
        contribution_loss: weight of the loss that holds tag-wise contributions, averaged over each stretch of the
            dense labels (`keras_tagger.data.dense`), against the stretch's labels; 0 is off.
        temperature: above 1, the loss of tags divides logits by it, so that small probabilities of soft labels count
            for more (`keras_tagger.models.losses.tag_loss`).
        early_stopping_epochs: stop after that many epochs without a better validation ROC-AUC (softmax: accuracy); 0 is
            off.
        checkpoint_steps: steps between checkpoints from which a killed run resumes.
        steps_per_execution: steps that are made in one call of the graph; more than 1 saves time if steps are short.
        precision: Keras dtype policy; the spectrogram stays float32.
        init: the model to start from: a pretrained name, a run directory or a `.keras` file; empty is random weights.
            Its body is taken, and of its head the tags that the data have too. Without a preset, what the
            configuration does not set of `audio` and `model` is the init's.
        freeze: parts of the init that stay as they are: "none", "statistics" (of batch normalisation), "front_end", or
            "all_but_head".
        seed: of weights, order, crops, augmentation and dropout.
        augment: see `AugmentConfig`.
    """

    epochs: int = 20
    batch_size: int = 16
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    decay: Literal["decoupled", "coupled"] = "decoupled"
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: float = 1.0
    clip_norm: float = 1.0
    phases: tuple[PhaseConfig, ...] = ()
    contribution_loss: float = 0.0
    temperature: float = 1.0
    early_stopping_epochs: int = 0
    checkpoint_steps: int = 100
    steps_per_execution: int = 1
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    init: str = ""
    freeze: Literal["none", "statistics", "front_end", "all_but_head"] = "none"
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        key = "training"
        for name in ("epochs", "batch_size", "checkpoint_steps", "steps_per_execution"):
            _require(getattr(self, name) >= 1, f"{key}.{name}", "at least 1", getattr(self, name))
        for name in ("weight_decay", "warmup_epochs", "clip_norm", "early_stopping_epochs", "seed"):
            _require(getattr(self, name) >= 0, f"{key}.{name}", "0 or more", getattr(self, name))
        _require(self.seed < 2**32, f"{key}.seed", f"at most {2**32 - 1}, as random numbers' seeds are", self.seed)
        _require(self.learning_rate > 0, f"{key}.learning_rate", "a positive number", self.learning_rate)
        _require(
            self.freeze == "none" or bool(self.init), f"{key}.freeze", "none where training.init is empty", self.freeze
        )
        _require(self.contribution_loss >= 0, f"{key}.contribution_loss", "0 or more", self.contribution_loss)
        _require(self.temperature >= 1, f"{key}.temperature", "1 or more", self.temperature)
        _require(
            not (self.contribution_loss and self.augment.mixup_alpha),
            f"{key}.contribution_loss",
            "0 with mixup, which leaves no stretch with labels of its own",
            self.contribution_loss,
        )
        starts = [phase.from_epoch for phase in self.phases]
        _require(starts == sorted(set(starts)), f"{key}.phases", "from_epoch in rising order", starts)


@dataclass(frozen=True)
class BoardConfig:
    """What TensorBoard is shown during `fit`.

    Attributes:
        preview_clips: number of fixed clips drawn at the end of each epoch; 0 is off.
        preview_seconds: how much of each is shown, from its start.
        top_tags: contribution rows per picture.
    """

    preview_clips: int = 3
    preview_seconds: float = 30.0
    top_tags: int = 5

    def __post_init__(self) -> None:
        _require(self.preview_clips >= 0, "board.preview_clips", "0 or more", self.preview_clips)
        _require(self.preview_seconds > 0, "board.preview_seconds", "a positive time", self.preview_seconds)
        _require(self.top_tags >= 1, "board.top_tags", "at least 1", self.top_tags)


@dataclass(frozen=True)
class ExperimentConfig:
    """Everything `fit` needs; see the sections' own docstrings.

    Attributes:
        name: of the run directory `runs/NAME`.
        preset: the preset that audio, model and training started from, or "".
    """

    name: str = "run"
    preset: str = ""
    audio: AudioConfig = field(default_factory=AudioConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    board: BoardConfig = field(default_factory=BoardConfig)

    def __post_init__(self) -> None:
        _require(
            self.model.spectrogram.f_max <= self.audio.sample_rate / 2,
            "model.spectrogram.f_max",
            f"at most half of audio.sample_rate ({self.audio.sample_rate / 2:g} Hz)",
            self.model.spectrogram.f_max,
        )
        augment = self.training.augment
        _require(
            self.model.front_end.kind != "sample" or not (augment.n_time_masks or augment.n_freq_masks),
            "training.augment",
            "no masks for the sample front-end, which sees no spectrogram",
            {"n_time_masks": augment.n_time_masks, "n_freq_masks": augment.n_freq_masks},
        )
        _require(
            self.model.head.activation == "sigmoid" or not self.training.contribution_loss,
            "training.contribution_loss",
            "0 where model.head.activation is softmax",
            self.training.contribution_loss,
        )
        _require(
            self.model.head.activation == "sigmoid" or self.training.temperature == 1,
            "training.temperature",
            "1 where model.head.activation is softmax",
            self.training.temperature,
        )
        _require(
            bool(self.name) and not set(self.name) & set("/\\\0") and self.name not in (".", ".."),
            "name",
            "a file name",
            self.name,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a plain nested dictionary; `config_from_dict` is its inverse."""
        return dataclasses.asdict(self, dict_factory=_plain)

    def to_yaml(self) -> str:
        """Return the resolved configuration as YAML text, with every key."""
        import yaml

        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in items}
