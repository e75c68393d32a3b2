"""The sections of a configuration: frozen dataclasses that validate their values on construction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from keras_tagger.config.data import DataConfig
from keras_tagger.config.data import require as _require


@dataclass(frozen=True)
class AudioConfig:
    """The audio that the model receives.

    Attributes:
        sample_rate: Sample rate of the model's input, in Hz.
        window_seconds: Length of a training crop and of an inference window, in seconds. Both are rounded down to
            whole tokens. If `model.spectrogram.framing` is "centered", crops keep their exact length and windows are
            rounded up.

    Example:
        >>> AudioConfig(window_seconds=15.0)
        AudioConfig(sample_rate=16000, window_seconds=15.0)
    """

    sample_rate: int = 16000
    window_seconds: float = 10.0

    def __post_init__(self) -> None:
        _require(self.sample_rate > 0, "audio.sample_rate", "a positive number of Hz", self.sample_rate)
        _require(self.window_seconds > 0, "audio.window_seconds", "a positive time", self.window_seconds)


@dataclass(frozen=True)
class SpectrogramConfig:
    """The mel spectrogram, computed in the graph by kapre.

    Attributes:
        n_fft: Length of the Hann window and of the FFT, in samples.
        hop_length: Samples between frames.
        n_mels: Number of mel bands.
        f_min, f_max: Edges of the filter bank, in Hz.
        power: 1 for a magnitude mel spectrogram, 2 for a power mel spectrogram.
        compression: "log1p" is log(1 + gain * mel), "decibel" is 10 log10(max(mel, 1e-10)) (torchaudio's
            AmplitudeToDB of power), "amplitude_decibel" is 20 log10(max(mel, 1e-5)) (librosa's amplitude_to_db). All
            are elementwise, so a frame never depends on the rest of the clip.
        gain: Gain of "log1p".
        top_db: Values more than this many decibels below the clip's maximum are clipped to that level (librosa's
            default is 80); 0 is off. Frames then depend on the rest of the clip; use it only for models that were
            trained with it.
        framing: "owned" centres frame i on its own hop of samples and pads the clip with silence; "centered" centres
            frame i on sample i * hop_length and pads the clip by reflection (librosa, torchaudio).
        mel_scale, mel_norm: "slaney" or "htk" scale; "slaney" area normalisation or "none".
        stored: If true, the window and the filter bank are weights of the model. Imported checkpoints bring the ones
            that they were trained with, which are rounded differently.

    Example:
        >>> SpectrogramConfig(n_mels=128, compression="decibel", power=2)
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
            "0 if compression is log1p",
            self.top_db,
        )


@dataclass(frozen=True)
class SecondEarConfig:
    """A second body, of the kind of the preset compact, that hears the same spectrogram as the front-end.

    Attributes:
        channels: Channels of each stage of its convolutions, at least three; empty for no second ear.
        n_layers: Layers of its self-attention.
        n_heads: Heads of each layer.
        width: Channels of its tokens, a multiple of n_heads.
        feed_forward: Channels within the feed-forward part of each layer.

    Example:
        >>> SecondEarConfig(channels=(16, 48, 96, 128))
    """

    channels: tuple[int, ...] = ()
    n_layers: int = 4
    n_heads: int = 4
    width: int = 192
    feed_forward: int = 768

    def __post_init__(self) -> None:
        key = "model.front_end.second_ear"
        expected = "at least three positive numbers, or an empty list"
        enough = not self.channels or (len(self.channels) >= 3 and min(self.channels) > 0)
        _require(enough, f"{key}.channels", expected, list(self.channels))
        for name in ("n_layers", "n_heads", "feed_forward"):
            _require(getattr(self, name) > 0, f"{key}.{name}", "at least 1", getattr(self, name))
        multiple = self.width > 0 and self.width % max(self.n_heads, 1) == 0
        _require(multiple, f"{key}.width", f"a positive multiple of n_heads ({self.n_heads})", self.width)


@dataclass(frozen=True)
class FrontEndConfig:
    """The convolutional front-end, which turns local timbre into one token per hop.

    Attributes:
        kind: "compact" (this package's own), "pons" (musicnn's filters, Pons and Serra 2019), "timbral" (Won et al.
            2019, after Pons et al. 2018), "sample" (same paper, on the raw waveform, after Lee et al. 2017),
            "residual" (Won et al. 2020) or "pooled" (Won et al. 2021).
        channels: Channels of each stage for compact, residual and pooled; a single number, c, for timbral and sample;
            the seven numbers of `keras_tagger.layers.PonsFrontEnd` for pons.
        second_ear: A body like that of the preset compact, beside the filters of pons.

    Example:
        >>> FrontEndConfig(kind="timbral", channels=(16,))
    """

    kind: Literal["compact", "pons", "timbral", "sample", "residual", "pooled"] = "compact"
    channels: tuple[int, ...] = (16, 48, 96, 128)
    second_ear: SecondEarConfig = field(default_factory=SecondEarConfig)

    def __post_init__(self) -> None:
        key = "model.front_end.channels"
        _require(len(self.channels) > 0 and min(self.channels) > 0, key, "positive numbers", list(self.channels))
        if self.kind in ("timbral", "sample"):
            _require(len(self.channels) == 1, key, f"one number (c) for the {self.kind} front-end", list(self.channels))
        if self.kind == "pons":
            _require(len(self.channels) == 7, key, "seven numbers for the pons front-end", list(self.channels))
        if self.kind in ("residual", "pooled"):
            _require(len(self.channels) >= 3, key, "at least three numbers", list(self.channels))
        if self.second_ear.channels:
            key = "model.front_end.second_ear.channels"
            received = list(self.second_ear.channels)
            _require(self.kind == "pons", key, f"an empty list for the {self.kind} front-end", received)


@dataclass(frozen=True)
class AttentionConfig:
    """The kind of self-attention and how positions are encoded.

    Attributes:
        kind: "absolute" (by content, with positions added to the tokens), "relative", "rotary", "alibi", "local" or
            "linear"; see `keras_tagger.layers.attention`.
        positions: Position encoding added to the tokens: "sinusoidal", "learned" or "none". If it is not set, it is
            "none" for the kinds that use distances themselves (relative, rotary, alibi).
        max_distance: For "relative": longer distances, in tokens, are clipped to this one.
        window: For "local": number of tokens on either side that a token attends to.
        max_positions: For learned positions: longest input, in tokens including [CLS].

    Example:
        >>> AttentionConfig(kind="rotary", positions="none")
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
        n_layers: Number of layers.
        n_heads: Number of attention heads per layer.
        width: Width of a token.
        feed_forward: Width of the hidden layer of the feed-forward block.
        norm: "pre" or "post" layer normalisation, or "rezero": none, but a trained factor for each residual branch.
        dropout: Dropout rate after positions, attention and feed-forward, 0..1.
        attention_dropout: Dropout rate of attention weights, 0..1.
        epsilon: Epsilon of layer normalisation.
        feed_forward_dropout: Dropout rate between the two layers of the feed-forward block, 0..1.
        input_dropout: Whether `dropout` is also applied to the input tokens, after positions are added.
        input_norm: Whether the input tokens are layer-normalised after positions are added (as BERT's embeddings are).
        attention_bias: Whether queries, keys and values have biases.

    Example:
        >>> EncoderConfig(n_layers=2, n_heads=8, width=512)
    """

    n_layers: int = 4
    n_heads: int = 4
    width: int = 192
    feed_forward: int = 768
    norm: Literal["pre", "post", "rezero"] = "pre"
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
    """The head, which maps the last [CLS] token to one logit per tag.

    Attributes:
        pooler: Whether a dense tanh layer precedes the output (the pooler of BERT and of Won et al. 2019).
        dropout: Dropout rate before the output, 0..1.
        activation: "sigmoid" gives independent probabilities; "softmax" is for music with exactly one tag per clip.
            It also determines the training loss and the score that chooses the best epoch.

    Example:
        >>> HeadConfig(activation="softmax")
    """

    pooler: bool = False
    dropout: float = 0.1
    activation: Literal["sigmoid", "softmax"] = "sigmoid"

    def __post_init__(self) -> None:
        _require(0 <= self.dropout < 1, "model.head.dropout", "0 <= rate < 1", self.dropout)


@dataclass(frozen=True)
class ModelConfig:
    """The model: spectrogram, front-end, encoder and head.

    Attributes:
        cls_token: "learned", or "fixed" (uniform in [0, 1) and never trained, as in Won et al. 2019).
        initial: Initial weights: "keras" (Glorot, small vectors), "pytorch" (`keras_tagger.models.initial_values`), or
            "pytorch_copied", where all encoder layers start as copies of one.

    Example:
        >>> ModelConfig(encoder=EncoderConfig(n_layers=2), cls_token="fixed")
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
            f"the last of model.front_end.channels ({self.front_end.channels[-1]}), which becomes the token width",
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
    """Augmentation of training crops.

    Attributes:
        gain_db: Each crop's level is changed by a uniform draw from -gain_db..gain_db, in decibels.
        equalize_db: Each crop's spectrum is multiplied by a smooth curve through uniform draws from
            -equalize_db..equalize_db, in decibels, at six log-spaced frequencies. It imitates different rooms and
            recordings.
        mixup_alpha: Beta parameter of mixup (Zhang et al. 2018) on waveforms and labels; 0 is off.
        n_time_masks: Number of time masks of SpecAugment (Park et al. 2019), by kapre; 0 is off.
        time_mask_frames: Longest time mask, in frames.
        n_freq_masks: Number of frequency masks of SpecAugment; 0 is off.
        freq_mask_bins: Widest frequency mask, in mel bands.

    Example:
        >>> AugmentConfig(gain_db=0.0, mixup_alpha=0.2)
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
    """A further phase of training, which starts from the best weights so far (as in Won et al. 2019).

    Attributes:
        from_epoch: First epoch of the phase, counted from 0.
        optimizer, learning_rate, weight_decay, decay, schedule: As in `TrainingConfig`.

    Example:
        >>> PhaseConfig(from_epoch=60, optimizer="sgd", learning_rate=1e-3)
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
    """How the model is trained.

    Attributes:
        epochs: Passes over the training crops.
        batch_size: Crops per step, over all workers.
        accumulate_steps: Parts of a batch that are processed one after the other, before the step is made with the mean
            of their gradients. It saves memory; batch normalisation sees a part at a time.
        strategy: "none" trains in this process. "mirrored" divides each batch among the GPUs of this machine.
            "multi_worker" divides it among workers (processes on one or several machines), which `TF_CONFIG` or
            `keras-tagger fit --workers` names. A run may be resumed with another strategy or number of workers.
        epoch_crops: Largest number of crops in an epoch, drawn anew at random from all music in each; 0 is no limit.
        optimizer: "adamw", "adam" or "sgd" (Nesterov momentum 0.9).
        learning_rate: Peak learning rate.
        weight_decay: Weight decay; 0 is off.
        decay: "decoupled" decays kernels only (Loshchilov and Hutter 2019). "coupled" adds the gradient of
            weight_decay / 2 * |weights|^2 for all weights (the weight_decay of PyTorch's Adam and SGD).
        schedule: "cosine" (to zero at the end of the phase) or "constant".
        warmup_epochs: Epochs over which the learning rate rises linearly from zero, in the first phase only.
        clip_norm: Maximum global norm of the gradients; 0 is off.
        phases: Phases that follow the first one.
        contribution_loss: Weight of the loss that compares each tag's contributions, averaged over each segment of the
            dense labels (`keras_tagger.data.dense`), with that segment's labels; 0 is off.
        temperature: The tag loss divides logits by this. Above 1, small probabilities of soft labels count for more
            (`keras_tagger.models.losses.tag_loss`).
        class_weights: "balanced" weighs labels so that the clips with a tag count as much in total as the clips without
            it (with softmax: all tags equally); "none" counts all labels equally.
        sampling: "balanced" draws crops so that rare tags are heard as often as common ones: a clip is drawn in inverse
            proportion to the number of clips of its rarest tag. "uniform" hears all audio equally often.
        early_stopping_epochs: Training stops after this many epochs without a better ROC-AUC (with softmax: accuracy)
            of the validation clips, or of the training clips if there are none; 0 is off.
        checkpoint_steps: Steps between checkpoints; an interrupted run resumes from the last one.
        steps_per_execution: Steps per call of the graph. More than 1 saves time if steps are short.
        precision: Keras dtype policy. The spectrogram is always float32.
        init: Model to start from: a pretrained name, a run directory or a `.keras` file; empty means random weights.
            All weights below the head are copied, and from the head those of tags that the data also has. Without a
            preset, values of `audio` and `model` that are not set come from this model.
        freeze: Parts of the initial model that are not trained: "none", "statistics" (of batch normalisation),
            "front_end", or "all_but_head".
        seed: Seed of initial weights, order, crops, augmentation and dropout.
        augment: See `AugmentConfig`.

    Example:
        >>> TrainingConfig(epochs=10, init="compact", freeze="front_end")
    """

    epochs: int = 20
    batch_size: int = 16
    accumulate_steps: int = 1
    strategy: Literal["none", "mirrored", "multi_worker"] = "none"
    epoch_crops: int = 0
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
    class_weights: Literal["none", "balanced"] = "none"
    sampling: Literal["uniform", "balanced"] = "uniform"
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
        for name in ("epochs", "batch_size", "accumulate_steps", "checkpoint_steps", "steps_per_execution"):
            _require(getattr(self, name) >= 1, f"{key}.{name}", "at least 1", getattr(self, name))
        _require(
            self.batch_size % self.accumulate_steps == 0,
            f"{key}.batch_size",
            f"a multiple of training.accumulate_steps ({self.accumulate_steps})",
            self.batch_size,
        )
        for name in ("epoch_crops", "weight_decay", "warmup_epochs", "clip_norm", "early_stopping_epochs", "seed"):
            _require(getattr(self, name) >= 0, f"{key}.{name}", "0 or more", getattr(self, name))
        _require(self.seed < 2**32, f"{key}.seed", f"at most {2**32 - 1}", self.seed)
        _require(self.learning_rate > 0, f"{key}.learning_rate", "a positive number", self.learning_rate)
        _require(
            self.freeze == "none" or bool(self.init), f"{key}.freeze", "none if training.init is empty", self.freeze
        )
        _require(self.contribution_loss >= 0, f"{key}.contribution_loss", "0 or more", self.contribution_loss)
        _require(self.temperature >= 1, f"{key}.temperature", "1 or more", self.temperature)
        _require(
            not (self.contribution_loss and self.augment.mixup_alpha),
            f"{key}.contribution_loss",
            "0 with mixup, which mixes the labels of segments",
            self.contribution_loss,
        )
        starts = [phase.from_epoch for phase in self.phases]
        _require(starts == sorted(set(starts)), f"{key}.phases", "increasing values of from_epoch", starts)


@dataclass(frozen=True)
class BoardConfig:
    """What `fit` writes to TensorBoard beside scalars.

    Attributes:
        preview_clips: Number of fixed clips that are explained at the end of each epoch, as pictures and in the tab
            "Listen"; 0 is off.
        preview_seconds: Seconds shown of each clip, from its start.
        top_tags: Contribution rows per picture.
        embedding_clips: Number of held-out clips that the embedding projector shows after training; 0 is off.

    Example:
        >>> BoardConfig(preview_clips=0)
    """

    preview_clips: int = 3
    preview_seconds: float = 30.0
    top_tags: int = 5
    embedding_clips: int = 200

    def __post_init__(self) -> None:
        _require(self.preview_clips >= 0, "board.preview_clips", "0 or more", self.preview_clips)
        _require(self.preview_seconds > 0, "board.preview_seconds", "a positive time", self.preview_seconds)
        _require(self.top_tags >= 1, "board.top_tags", "at least 1", self.top_tags)
        _require(self.embedding_clips >= 0, "board.embedding_clips", "0 or more", self.embedding_clips)


@dataclass(frozen=True)
class ExperimentConfig:
    """All settings of an experiment; each section is documented in its own class.

    Attributes:
        name: Name of the run directory, `runs/NAME`.
        preset: Preset that audio, model and training started from, or "".

    Example:
        >>> config = keras_tagger.load_config({"preset": "compact", "data": {"path": "my_music/"}})
        >>> config.training.epochs
        20
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
            "no masks with the sample front-end, which uses no spectrogram",
            {"n_time_masks": augment.n_time_masks, "n_freq_masks": augment.n_freq_masks},
        )
        _require(
            self.model.head.activation == "sigmoid" or not self.training.contribution_loss,
            "training.contribution_loss",
            "0 if model.head.activation is softmax",
            self.training.contribution_loss,
        )
        _require(
            self.model.head.activation == "sigmoid" or self.training.temperature == 1,
            "training.temperature",
            "1 if model.head.activation is softmax",
            self.training.temperature,
        )
        _require(
            bool(self.name) and not set(self.name) & set("/\\\0") and self.name not in (".", ".."),
            "name",
            "a file name",
            self.name,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a plain nested dictionary; `config_from_dict` is its inverse.

        Example:
            >>> ExperimentConfig().to_dict()["training"]["epochs"]
            20
        """
        return dataclasses.asdict(self, dict_factory=_plain)

    def to_yaml(self) -> str:
        """Return the resolved configuration as YAML text, with every key.

        Example:
            >>> print(keras_tagger.presets()["compact"].to_yaml())
        """
        import yaml

        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in items}
