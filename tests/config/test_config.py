"""The configuration: errors that name the key, round trips, presets; and every file of configs/ trains."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import keras_tagger
import tiny
from keras_tagger.config import (
    AudioConfig,
    EncoderConfig,
    ExperimentConfig,
    ModelConfig,
    config_from_dict,
    flat,
    parse_override,
    presets,
    section_from_dict,
)
from keras_tagger.errors import ConfigError
from keras_tagger.storage.loading import load_config

AUTHORS = ("won2019", "won2019_raw", "won2020", "won2021")
CONFIGS = sorted((Path(keras_tagger.__file__).parent / "config" / "experiments").glob("*.yaml"))

# nested values that are not allowed -> what the error says
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"audio": {"sample_rate": 0}}, "audio.sample_rate: expected a positive number of Hz. Received: 0."),
    ({"audio": {"sample_rate": "fast"}}, "audio.sample_rate: expected a whole number. Received: 'fast'."),
    ({"audio": {"sample_rate": True}}, "audio.sample_rate: expected a whole number. Received: True."),
    ({"audio": {"sample_rate": 16000.5}}, "audio.sample_rate: expected a whole number. Received: 16000.5."),
    ({"audio": {"window_seconds": -1}}, "audio.window_seconds: expected a positive time. Received: -1.0."),
    ({"audio": {"window_seconds": float("nan")}}, "audio.window_seconds: expected a finite number."),
    ({"audio": {"window_seconds": float("inf")}}, "audio.window_seconds: expected a finite number. Received: inf."),
    ({"audio": {"window_seconds": True}}, "audio.window_seconds: expected a number. Received: True."),
    ({"audio": {"hop": 3}}, "audio.hop: unknown key. Expected one of sample_rate, window_seconds."),
    (
        {"training": {"contribution_loss": 0.5, "augment": {"mixup_alpha": 0.2}}},
        "training.contribution_loss: expected 0 with mixup",
    ),
    ({"training": {"contribution_loss": -1}}, "training.contribution_loss: expected 0 or more. Received: -1.0."),
    ({"training": {"augment": {"equalize_db": -1}}}, "training.augment.equalize_db: expected 0 or more."),
    ({"data": {"positive": 1.0}}, "data.positive: expected 0 <= label < 1. Received: 1.0."),
    ({"data": {"dataset": "fma", "root": "x"}}, "data.dataset: expected one of mtat, mtg_jamendo, msd, gtzan."),
    ({"data": {"dataset": "mtat"}}, "data.root: expected the folder that holds mtat. Received: ''."),
    ({"data": {"dataset": "mtat", "root": "x", "path": "y"}}, "data.path: expected no value if data.dataset is set"),
    ({"data": {"dataset": "msd", "root": "x", "subset": "top50"}}, "data.subset: expected one of conventional, cals."),
    ({"data": {"dataset": "mtg_jamendo", "root": "x", "split_index": 5}}, "data.split_index: expected 0 to 4."),
    ({"data": {"root": "x"}}, "data.root: expected no value unless data.dataset is set"),
    ({"data": {"subset": "x"}}, "data.subset: expected no value unless data.dataset is set"),
    ({"data": {"split_index": 1}}, "data.split_index: expected no value unless data.dataset is set"),
    ({"data": {"dataset": "msd", "root": "x", "split_index": 1}}, "data.split_index: expected 0, as msd has one split"),
    ({"data": {"n_chunks": -1}}, "data.n_chunks: expected 0 or more. Received: -1."),
    ({"model": {"head": {"activation": "relu"}}}, "model.head.activation: expected one of sigmoid, softmax."),
    (
        {"model": {"head": {"activation": "softmax"}}, "training": {"contribution_loss": 1}},
        "training.contribution_loss: expected 0 if model.head.activation is softmax.",
    ),
    (
        {"model": {"head": {"activation": "softmax"}}, "training": {"temperature": 2}},
        "training.temperature: expected 1 if model.head.activation is softmax.",
    ),
    ({"data": {"min_positives": 0}}, "data.min_positives: expected >= 1. Received: 0."),
    ({"audio": [1]}, "audio: expected keys and values. Received: [1]."),
    ({"model": 3}, "model: expected keys and values. Received: 3."),
    ({"model": {"attention": 3}}, "model.attention: expected keys and values. Received: 3."),
    ({"model": {"spectrogram": {"n_fft": 0}}}, "model.spectrogram.n_fft: expected an even number >= 2. Received: 0."),
    ({"model": {"spectrogram": {"n_fft": 511}}}, "model.spectrogram.n_fft: expected an even number"),
    ({"model": {"spectrogram": {"hop_length": 1024}}}, "model.spectrogram.hop_length: expected 1 to n_fft (512)"),
    ({"model": {"spectrogram": {"n_mels": 0}}}, "model.spectrogram.n_mels: expected at least 1. Received: 0."),
    ({"model": {"spectrogram": {"f_min": 9000}}}, "model.spectrogram.f_min: expected 0 <= f_min < f_max (8000.0 Hz)."),
    (
        {"model": {"spectrogram": {"f_max": 9000}}},
        "model.spectrogram.f_max: expected at most half of audio.sample_rate",
    ),
    ({"model": {"spectrogram": {"gain": 0}}}, "model.spectrogram.gain: expected a positive number. Received: 0.0."),
    ({"model": {"spectrogram": {"power": 3}}}, "model.spectrogram.power: expected one of 1, 2. Received: 3."),
    ({"model": {"spectrogram": {"power": True}}}, "model.spectrogram.power: expected one of 1, 2. Received: True."),
    (
        {"model": {"front_end": {"kind": "big"}}},
        "model.front_end.kind: expected one of compact, pons, timbral, sample, residual, pooled.",
    ),
    ({"model": {"front_end": {"channels": []}}}, "model.front_end.channels: expected positive numbers."),
    ({"model": {"front_end": {"channels": [1, "x"]}}}, "model.front_end.channels[1]: expected a whole number."),
    ({"model": {"front_end": {"channels": 8}}}, "model.front_end.channels: expected a list. Received: 8."),
    ({"model": {"front_end": {"kind": "timbral"}}}, "model.front_end.channels: expected one number (c)"),
    ({"model": {"front_end": {"kind": "sample"}}}, "model.front_end.channels: expected one number (c) for the sample"),
    (
        {"model": {"front_end": {"kind": "pooled", "channels": [8, 8]}}},
        "model.front_end.channels: expected at least three",
    ),
    (
        {"model": {"front_end": {"second_ear": {"channels": [4, 4, 4]}}}},
        "model.front_end.second_ear.channels: expected an empty list for the compact front-end. Received: [4, 4, 4].",
    ),
    (
        {"preset": "pons", "model": {"front_end": {"second_ear": {"channels": [4, 4]}}}},
        "model.front_end.second_ear.channels: expected at least three positive numbers, or an empty list. Received:",
    ),
    (
        {"preset": "pons", "model": {"front_end": {"second_ear": {"n_heads": 5}}}},
        "model.front_end.second_ear.width: expected a positive multiple of n_heads (5). Received: 192.",
    ),
    (
        {"preset": "pons", "model": {"front_end": {"second_ear": {"n_layers": 0}}}},
        "model.front_end.second_ear.n_layers: expected at least 1. Received: 0.",
    ),
    (
        {"model": {"front_end": {"kind": "residual", "channels": [8, 192]}}},
        "model.front_end.channels: expected at least three",
    ),
    (
        {"model": {"front_end": {"kind": "residual", "channels": [8, 8, 8]}}},
        "model.encoder.width: expected the last of model.front_end.channels (8), which becomes the token width.",
    ),
    (
        {"model": {"front_end": {"kind": "sample", "channels": [8]}}, "training": {"augment": {"n_time_masks": 1}}},
        "training.augment: expected no masks with the sample front-end",
    ),
    (
        {"model": {"front_end": {"kind": "sample", "channels": [8]}}, "training": {"augment": {"n_freq_masks": 1}}},
        "training.augment: expected no masks with the sample front-end",
    ),
    ({"model": {"spectrogram": {"top_db": 80}}}, "model.spectrogram.top_db: expected 0 if compression is log1p."),
    ({"model": {"spectrogram": {"top_db": -1}}}, "model.spectrogram.top_db: expected 0 or more. Received: -1.0."),
    ({"model": {"spectrogram": {"framing": "left"}}}, "model.spectrogram.framing: expected one of owned, centered."),
    ({"model": {"attention": {"kind": "sparse"}}}, "model.attention.kind: expected one of absolute, relative, rotary,"),
    ({"model": {"attention": {"window": 0}}}, "model.attention.window: expected at least 1. Received: 0."),
    (
        {"model": {"attention": {"kind": "rotary"}, "encoder": {"width": 36, "n_heads": 4}}},
        "model.encoder.width: expected a multiple of twice n_heads (8), for rotary attention. Received: 36.",
    ),
    ({"training": {"decay": "l2"}}, "training.decay: expected one of decoupled, coupled. Received: 'l2'."),
    (
        {"model": {"attention": {"positions": 1}}},
        "model.attention.positions: expected one of sinusoidal, learned, none.",
    ),
    ({"model": {"attention": {"max_positions": 1}}}, "model.attention.max_positions: expected at least 2."),
    ({"model": {"encoder": {"n_heads": 5}}}, "model.encoder.width: expected a multiple of n_heads (5). Received: 192."),
    ({"model": {"encoder": {"n_layers": 0}}}, "model.encoder.n_layers: expected at least 1. Received: 0."),
    ({"model": {"encoder": {"dropout": 1.0}}}, "model.encoder.dropout: expected 0 <= rate < 1. Received: 1.0."),
    ({"model": {"encoder": {"epsilon": 0}}}, "model.encoder.epsilon: expected a positive number."),
    (
        {"model": {"encoder": {"norm": "mid"}}},
        "model.encoder.norm: expected one of pre, post, rezero. Received: 'mid'.",
    ),
    ({"model": {"encoder": {"width": 3, "n_heads": 1}}}, "model.encoder.width: expected an even number (sinusoidal"),
    ({"model": {"head": {"pooler": 1}}}, "model.head.pooler: expected true or false. Received: 1."),
    ({"model": {"head": {"dropout": -0.1}}}, "model.head.dropout: expected 0 <= rate < 1. Received: -0.1."),
    ({"model": {"cls_token": "none"}}, "model.cls_token: expected one of learned, fixed. Received: 'none'."),
    ({"data": {"tags": ["a", "a"]}}, "data.tags: expected each tag once. Received: ['a', 'a']."),
    ({"data": {"tags": "abc"}}, "data.tags: expected a list. Received: 'abc'."),
    ({"data": {"tags": [1]}}, "data.tags[0]: expected text. Received: 1."),
    ({"data": {"split": {"valid": 0.5, "test": 0.5}}}, "data.split: expected valid + test below 1."),
    ({"data": {"split": {"valid": 2}}}, "data.split.valid: expected 0 <= share < 1. Received: 2.0."),
    ({"data": {"min_clips_per_tag": 0}}, "data.min_clips_per_tag: expected >= 1. Received: 0."),
    ({"data": {"segment_seconds": 0}}, "data.segment_seconds: expected a positive time."),
    ({"data": {"workers": -1}}, "data.workers: expected 0 or more. Received: -1."),
    ({"training": {"epochs": 0}}, "training.epochs: expected at least 1. Received: 0."),
    ({"training": {"learning_rate": 0}}, "training.learning_rate: expected a positive number."),
    ({"training": {"learning_rate": "fast"}}, "training.learning_rate: expected a number. Received: 'fast'."),
    ({"training": {"seed": -1}}, "training.seed: expected 0 or more. Received: -1."),
    ({"training": {"optimizer": "lion"}}, "training.optimizer: expected one of adamw, adam, sgd."),
    ({"training": {"precision": "float16"}}, "training.precision: expected one of float32, mixed_bfloat16"),
    ({"training": {"freeze": "head"}}, "training.freeze: expected one of none, statistics, front_end, all_but_head."),
    ({"training": {"freeze": "front_end"}}, "training.freeze: expected none if training.init is empty."),
    ({"training": {"augment": {"gain_db": -1}}}, "training.augment.gain_db: expected 0 or more."),
    ({"training": {"augment": {"time_mask_frames": 0}}}, "training.augment.time_mask_frames: expected at least 1."),
    ({"training": {"phases": [{"from_epoch": 1}]}}, "training.phases[0].optimizer: expected a value."),
    (
        {"training": {"phases": [{"from_epoch": 0, "optimizer": "sgd", "learning_rate": 0.1}]}},
        "training.phases.from_epoch: expected 1 or more. Received: 0.",
    ),
    (
        {"training": {"phases": [{"from_epoch": 1, "optimizer": "sgd", "learning_rate": 0.0}]}},
        "training.phases.learning_rate: expected a positive number. Received: 0.0.",
    ),
    (
        {"training": {"phases": [{"from_epoch": 1, "optimizer": "sgd", "learning_rate": 1.0, "weight_decay": -1}]}},
        "training.phases.weight_decay: expected 0 or more. Received: -1.0.",
    ),
    ({"training": {"seed": 2**32}}, "training.seed: expected at most 4294967295."),
    ({"training": {"phases": 3}}, "training.phases: expected a list. Received: 3."),
    ({"board": {"top_tags": 0}}, "board.top_tags: expected at least 1. Received: 0."),
    ({"board": {"preview_seconds": 0}}, "board.preview_seconds: expected a positive time."),
    ({"board": {"preview_clips": -1}}, "board.preview_clips: expected 0 or more."),
    ({"name": "a/b"}, "name: expected a file name. Received: 'a/b'."),
    ({"name": ""}, "name: expected a file name. Received: ''."),
    ({"name": "a\\b"}, "name: expected a file name. Received: 'a\\\\b'."),
    ({"name": "a\0"}, "name: expected a file name. Received: 'a\\x00'."),
    ({"name": "."}, "name: expected a file name. Received: '.'."),
    ({"name": ".."}, "name: expected a file name. Received: '..'."),
    (
        {"preset": "bert"},
        "preset: expected one of compact, pons, won2019, won2019_raw, won2020, won2021. Received: 'bert'.",
    ),
    ({"modell": {}}, "modell: unknown key. Expected one of name, preset, audio, model, data, training, board."),
]


@pytest.mark.parametrize(("values", "message"), WRONG, ids=[message.split(":")[0] for _, message in WRONG])
def test_errors_name_the_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(values)
    assert str(caught.value).startswith(message)
    assert "Received: " in str(caught.value)
    assert "\n" not in str(caught.value)


# key, the last value that is refused, the first that is allowed
LIMITS: list[tuple[str, float, float]] = [
    ("audio.window_seconds", 0.0, 1e-3),
    ("data.positive", -1e-3, 0.0),
    ("data.positive", 1.0, 0.999),
    ("data.split.valid", -1e-3, 0.0),
    ("data.split.valid", 1.0, 0.899),
    ("data.split.test", -1e-3, 0.0),
    ("data.split.test", 1.0, 0.899),
    ("data.split.seed", -1, 0),
    ("data.segment_seconds", 0.0, 1e-3),
    *((f"data.{name}", 0, 1) for name in ("min_positives", "min_clips_per_tag")),
    *((f"data.{name}", -1, 0) for name in ("n_chunks", "workers")),
    *(("model.spectrogram.hop_length", *values) for values in ((0, 2), (514, 512), (255, 254))),
    ("model.spectrogram.n_mels", 0, 1),
    ("model.spectrogram.f_min", -1e-3, 0.0),
    ("model.spectrogram.f_min", 8000.0, 7999.0),
    ("model.spectrogram.f_max", 8001.0, 8000.0),
    ("model.spectrogram.gain", 0.0, 1e-3),
    ("model.spectrogram.top_db", -1e-3, 0.0),
    ("model.attention.max_positions", 1, 2),
    *((f"model.attention.{name}", 0, 1) for name in ("max_distance", "window")),
    *((f"model.encoder.{name}", 0, 1) for name in ("n_layers", "n_heads", "feed_forward")),
    ("model.encoder.width", 0, 4),
    *((f"model.encoder.{name}", -1e-3, 0.0) for name in ("dropout", "attention_dropout", "feed_forward_dropout")),
    *((f"model.encoder.{name}", 1.0, 0.999) for name in ("dropout", "attention_dropout", "feed_forward_dropout")),
    ("model.encoder.epsilon", 0.0, 1e-12),
    ("model.head.dropout", -1e-3, 0.0),
    ("model.head.dropout", 1.0, 0.999),
    *(
        (f"training.{name}", 0, 1)
        for name in ("epochs", "batch_size", "accumulate_steps", "checkpoint_steps", "steps_per_execution")
    ),
    *((f"training.{name}", -1, 0) for name in ("epoch_crops", "early_stopping_epochs", "seed")),
    ("training.seed", 2**32, 2**32 - 1),
    *((f"training.{name}", -1e-3, 0.0) for name in ("weight_decay", "warmup_epochs", "clip_norm", "contribution_loss")),
    ("training.learning_rate", 0.0, 1e-9),
    ("training.temperature", 0.999, 1.0),
    *((f"training.augment.{name}", -1e-3, 0.0) for name in ("gain_db", "equalize_db", "mixup_alpha")),
    *((f"training.augment.{name}", -1, 0) for name in ("n_time_masks", "n_freq_masks")),
    *((f"training.augment.{name}", 0, 1) for name in ("time_mask_frames", "freq_mask_bins")),
    *((f"model.front_end.second_ear.{name}", 0, 1) for name in ("n_layers", "feed_forward")),
    *((f"board.{name}", -1, 0) for name in ("preview_clips", "embedding_clips")),
    ("board.preview_seconds", 0.0, 1e-3),
    ("board.top_tags", 0, 1),
]


@pytest.mark.parametrize(("key", "refused", "allowed"), LIMITS, ids=lambda value: str(value))
def test_limits_are_exact(key: str, refused: float, allowed: float) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({}, {key: refused})
    assert str(caught.value).startswith(f"{key}: expected ")
    assert str(caught.value).endswith(f" Received: {refused!r}.")
    assert flat(load_config({}, {key: allowed}).to_dict())[key] == allowed


def test_every_number_has_limits() -> None:
    numbers = {key for key, value in flat(ExperimentConfig().to_dict()).items() if type(value) in (int, float)}
    # What these may be depends on other keys, or is one of a few; their errors are above.
    others = {"audio.sample_rate", "data.split_index", "model.spectrogram.n_fft", "model.spectrogram.power"}
    others |= {f"model.front_end.second_ear.{name}" for name in ("n_heads", "width")}
    assert numbers - {key for key, *_ in LIMITS} == others


def phase_values(*starts: int) -> list[dict[str, Any]]:
    return [{"from_epoch": start, "optimizer": "sgd", "learning_rate": 0.1} for start in starts]


@pytest.mark.parametrize("starts", [(3, 2), (2, 2)])
def test_phases_in_rising_order(starts: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"training\.phases: expected increasing values of from_epoch"):
        config_from_dict({"training": {"phases": phase_values(*starts)}})


def test_values_take_their_types() -> None:
    config = config_from_dict(
        {
            "audio": {"window_seconds": 5},
            "model": {"front_end": {"channels": [8, 16]}},
            "training": {"learning_rate": "5e-4", "phases": phase_values(2, 4)},
        }
    )
    assert (config.audio.window_seconds, type(config.audio.window_seconds)) == (5.0, float)
    assert config.model.front_end.channels == (8, 16)
    assert config.training.learning_rate == 0.0005
    assert [phase.from_epoch for phase in config.training.phases] == [2, 4]


@pytest.mark.parametrize("name", ["compact", "pons", *AUTHORS])
def test_presets_round_trip(name: str, tmp_path: Path) -> None:
    config = presets()[name]
    assert (config.name, config.preset) == (name, name)
    (tmp_path / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(tmp_path / "config.yaml") == config
    assert config_from_dict(config.to_dict()) == config
    # Every key is written out: nothing comes from the preset.
    assert config_from_dict({**config.to_dict(), "preset": ""}) == dataclasses.replace(config, preset="")
    assert yaml.safe_load(config.to_yaml()) == config.to_dict()


def test_authors_presets_are_as_published() -> None:
    found = presets()
    raw, won2020, won2021 = (found[name] for name in ("won2019_raw", "won2020", "won2021"))
    assert (raw.model.front_end.kind, raw.audio.window_seconds * raw.audio.sample_rate) == ("sample", 65610)
    assert raw.model.encoder == found["won2019"].model.encoder
    assert raw.training == found["won2019"].training
    assert (won2020.audio.sample_rate, won2020.audio.window_seconds) == (16000, 15.0)
    assert (won2020.model.front_end.channels, won2020.model.spectrogram.n_mels) == ((128, 128, *[256] * 5), 128)
    assert (won2020.model.encoder.width, won2020.model.encoder.attention_dropout) == (256, 0.5)
    assert (won2020.model.attention.positions, won2020.training.decay) == ("none", "coupled")
    training = won2020.training
    assert (training.optimizer, training.learning_rate, training.weight_decay) == ("adam", 1e-4, 1e-4)
    phases = [(phase.from_epoch, phase.optimizer, phase.learning_rate) for phase in training.phases]
    assert phases == [(80, "sgd", 1e-3), (100, "sgd", 1e-4), (120, "sgd", 1e-5)]
    assert {(phase.weight_decay, phase.decay) for phase in training.phases} == {(1e-4, "coupled")}
    assert (won2020.model.encoder.n_layers, won2020.model.encoder.n_heads) == (2, 8)
    assert (won2020.model.encoder.norm, won2020.model.encoder.dropout) == ("post", 0.4)
    assert (won2021.audio.sample_rate, won2021.audio.window_seconds) == (22050, 10.0)
    assert (won2021.model.attention.positions, won2021.model.attention.max_positions) == ("learned", 513)
    assert (won2021.model.encoder.n_layers, won2021.model.encoder.attention_bias) == (4, False)
    assert (won2021.model.encoder.norm, won2021.model.head.pooler) == ("pre", False)
    assert (won2021.training.batch_size, won2021.training.early_stopping_epochs) == (32, 40)
    assert (won2021.training.optimizer, won2021.training.learning_rate, won2021.training.phases) == ("adam", 1e-4, ())
    assert {name: found[name].training.epochs for name in AUTHORS} == {
        **dict.fromkeys(("won2019", "won2019_raw"), 120),
        **dict.fromkeys(("won2020", "won2021"), 200),
    }
    # None of them warms up, holds gradients or changes the level of crops.
    assert {
        (c.training.schedule, c.training.warmup_epochs, c.training.clip_norm, c.training.augment.gain_db)
        for c in map(found.get, AUTHORS)
    } == {("constant", 0.0, 0.0, 0.0)}
    # Only the first model's decibels are relative to the clip, as librosa's are.
    tops = {name: found[name].model.spectrogram.top_db for name in AUTHORS}
    assert tops == {"won2019": 80.0, "won2019_raw": 0.0, "won2020": 0.0, "won2021": 0.0}
    scales = {(c.model.spectrogram.mel_scale, c.model.spectrogram.mel_norm) for c in (won2020, won2021)}
    assert scales == {("htk", "none")}


def test_attention_that_knows_distances_has_no_positions_unless_asked() -> None:
    def positions(**attention: Any) -> str:
        return config_from_dict({"preset": "compact", "model": {"attention": attention}}).model.attention.positions

    assert [positions(kind=kind) for kind in ("absolute", "local", "linear")] == ["sinusoidal"] * 3
    assert [positions(kind=kind) for kind in ("relative", "rotary", "alibi")] == ["none"] * 3
    assert positions(kind="rotary", positions="learned") == "learned"


def test_presets_are_as_published() -> None:
    found = presets()
    assert sorted(found) == ["compact", "pons", *AUTHORS]
    won = found["won2019"]
    assert (won.model.encoder.n_layers, won.model.encoder.n_heads, won.model.encoder.width) == (2, 8, 512)
    assert (won.model.encoder.feed_forward, won.model.encoder.norm, won.model.encoder.epsilon) == (2048, "post", 1e-12)
    assert (won.model.encoder.dropout, won.model.encoder.attention_dropout, won.model.head.dropout) == (0.4, 0.4, 0.5)
    assert (won.model.cls_token, won.model.head.pooler, won.model.front_end.channels) == ("fixed", True, (16,))
    assert (won.training.optimizer, won.training.learning_rate, won.training.batch_size) == ("adam", 1e-4, 16)
    phases = [(phase.from_epoch, phase.optimizer, phase.learning_rate) for phase in won.training.phases]
    assert phases == [(60, "sgd", 1e-3), (80, "sgd", 1e-4), (100, "sgd", 1e-5)]
    assert {(phase.weight_decay, phase.decay) for phase in won.training.phases} == {(1e-4, "coupled")}
    assert (won.audio.window_seconds * won.audio.sample_rate, won.model.spectrogram.n_mels) == (256 * 256, 96)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_files_round_trip(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    (tmp_path / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(tmp_path / "config.yaml") == config
    assert config_from_dict({**config.to_dict(), "preset": ""}) == dataclasses.replace(config, preset="")


def test_own_values_stand_over_the_presets() -> None:
    config = config_from_dict({"preset": "won2019", "model": {"encoder": {"n_layers": 3}}})
    assert config.model.encoder.n_layers == 3
    assert dataclasses.replace(config.model.encoder, n_layers=2) == presets()["won2019"].model.encoder


def test_overrides_stand_over_everything(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("preset: compact\ntraining: {epochs: 4, batch_size: 8}\n", encoding="utf-8")
    config = load_config(tmp_path / "a.yaml", {"training.epochs": 3, "model.encoder.width": 96})
    assert (config.training.epochs, config.training.batch_size, config.model.encoder.width) == (3, 8, 96)
    again = load_config(config, {"training.epochs": 5})
    assert dataclasses.replace(again, training=config.training) == config
    assert again.training.epochs == 5


def test_wrong_override_names_its_key() -> None:
    with pytest.raises(ConfigError, match=r"^training\.epoch: unknown key"):
        load_config({}, {"training.epoch": 3})
    with pytest.raises(ConfigError, match=r"^training\.epochs: expected a whole number"):
        load_config({}, {"training.epochs.more": 3})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.epochs=3", ("training.epochs", 3)),
        ("data.path=a=b", ("data.path", "a=b")),
        ("data.tags=[a, b]", ("data.tags", ["a", "b"])),
        (" audio.window_seconds = 2.5", ("audio.window_seconds", 2.5)),
    ],
)
def test_parse_override(text: str, expected: tuple[str, Any]) -> None:
    assert parse_override(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training.epochs", "--set: expected KEY=VALUE, such as training.epochs=3. Received: 'training.epochs'."),
        ("=3", "--set: expected KEY=VALUE, such as training.epochs=3. Received: '=3'."),
        ("data.tags=[a", "--set data.tags: expected a YAML value. Received: '[a'."),
    ],
)
def test_parse_override_errors(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_override(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [1", "expected a YAML file"),
        (b"\xff\xfe\x00", "expected a YAML file"),
        (b"- 1\n", "expected keys and values"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(tmp_path / "bad.yaml")
    assert "bad.yaml" in str(caught.value)


def test_missing_file_empty_file_and_other_types(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml, which does not exist"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="expected a YAML file, a dictionary or an ExperimentConfig. Received: int"):
        load_config(3)  # type: ignore[arg-type]
    (tmp_path / "empty.yaml").write_text("", encoding="utf-8")
    assert load_config(tmp_path / "empty.yaml") == ExperimentConfig()


def test_sections_alone() -> None:
    assert section_from_dict(AudioConfig, {"sample_rate": 8000}, "audio") == AudioConfig(8000)
    section = section_from_dict(ModelConfig, {"encoder": {"width": 64}}, "model")
    assert section.encoder == EncoderConfig(width=64)
    with pytest.raises(ConfigError, match=r"^model\.encoder\.wide: unknown key"):
        section_from_dict(ModelConfig, {"encoder": {"wide": 64}}, "model")


def what_a_step_depends_on(path: Path) -> tuple[Any, ...]:
    config = load_config(path)
    return config.audio, config.model, config.training


# The authors' models come as a file per data set; a step on tones is the same for all of a model.
DISTINCT = list({what_a_step_depends_on(path): path for path in reversed(CONFIGS)}.values())


# Fitted as a whole; of the others, only the model takes a step.
FITTED = ("demo", "finetune")


def test_one_file_per_model_and_data_set() -> None:
    found = {path.stem for path in CONFIGS if load_config(path).preset in AUTHORS}
    assert found == {f"{name}_{data}" for name in AUTHORS for data in ("mtat", "msd", "jamendo")}
    for name, preset in presets().items():
        if name not in AUTHORS:
            continue
        values = [config for config in map(load_config, CONFIGS) if config.preset == name]
        assert {(config.audio, config.model, config.training) for config in values} == {
            (preset.audio, preset.model, preset.training)
        }
        assert {
            config.name.removeprefix(f"{name}_"): (config.data.dataset, config.data.subset) for config in values
        } == {
            **{"mtat": ("mtat", "clean"), "msd": ("msd", "cals" if name == "won2021" else "conventional")},
            **{"jamendo": ("mtg_jamendo", "top50")},
        }
        assert {config.data.split_index for config in values} == {0}
        assert {config.data.n_chunks for config in values} == {16}


CHANGED = {
    **{"training.epochs": 1, "training.batch_size": 3, "audio.window_seconds": 1.0},
    **{f"board.{key}": value for key, value in tiny.NO_BOARD.items()},
}


def assert_a_step_of_adam(model: Any, before: list[np.ndarray], trained: list[bool], config: Any) -> None:
    """Assert that one step has moved the weights that are trained, and only these."""
    frozen, head_only = config.training.freeze != "none", config.training.freeze == "all_but_head"
    steps = []
    for weight, old, is_trained in zip(model.weights, before, trained, strict=True):
        move = np.abs(weight.numpy() - old).max()
        if is_trained:
            steps.append(move / config.training.learning_rate)
            assert not (frozen and "front_end" in weight.path)
            assert "head" in weight.path or not head_only
        else:
            assert (move > 0) == ("/moving_" in weight.path and not frozen), weight.path
    # The first step of Adam is the learning rate, whatever the gradient is; decay adds a little. A few weights have no
    # gradient but rounding: a bias of keys changes no attention.
    assert 0.99 < np.median(steps) < 1.05
    assert max(steps) < 1.1
    assert np.mean(np.array(steps) > 0.25) > 0.8
    assert len(steps) == 2 if head_only else len(steps) > 20


@pytest.mark.parametrize("path", [path for path in DISTINCT if path.stem not in FITTED], ids=lambda path: path.stem)
def test_the_models_of_config_files_take_a_training_step(path: Path) -> None:
    """The model of the file itself, on a few tones; tools/check_configs.py fits and exports all, with whole windows."""
    from keras_tagger.models.music_tagger import MusicTagger
    from keras_tagger.train.schedule import coupled_decay, phase_optimizer

    config = keras_tagger.load_config(path, CHANGED)
    model = MusicTagger(("a", "b", "c"), config.audio, config.model, config.training)
    model.build()
    model.freeze(config.training.freeze)
    model.compile(optimizer=phase_optimizer(config.training, 0, 1))
    model.coupled_decay = coupled_decay(config.training, 0)
    before = [weight.numpy() for weight in model.weights]
    trained = [any(weight is one for one in model.trainable_weights) for weight in model.weights]
    waves = np.stack([tiny.tone(pitch, 1.0, 1) for pitch in (200.0, 800.0, 3000.0)])
    model.train_step((waves, np.eye(3, dtype=np.float32)))
    assert 0 < float(model.get_metrics_result()["loss"]) < 5
    assert_a_step_of_adam(model, before, trained, config)
    scores = model.analyze(waves, ("tags",))["tags"].numpy()
    assert scores.shape == (3, 3)
    assert ((scores > 0) & (scores < 1)).all()
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-5) == (path.stem == "gtzan")


@pytest.mark.parametrize("name", FITTED)
def test_config_files_are_fitted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A file with random weights, traced, and one that starts from an init."""
    if name != "demo":
        request.getfixturevalue("eagerly")
    from keras_tagger.train.fit import fit
    from keras_tagger.train.loop import Loop

    path = next(path for path in CONFIGS if path.stem == name)
    before: list[np.ndarray] = []
    trained: list[bool] = []
    run_loop = Loop.run

    def remember_and_run(loop: Loop) -> None:
        trainable = {id(weight) for weight in loop.model.trainable_weights}
        before.extend(weight.numpy() for weight in loop.model.weights)
        trained.extend(id(weight) in trainable for weight in loop.model.weights)
        run_loop(loop)

    monkeypatch.setattr(Loop, "run", remember_and_run)
    manifest = tiny.write_tones(tmp_path / "tones", {"train": 1}, seconds=(1.0, 1.1))
    run = fit(path, manifest, run_dir=tmp_path / "run", **CHANGED)
    wanted = keras_tagger.load_config(path, CHANGED)
    assert run.report.training["steps"] == 1
    assert [row["epoch"] for row in run.history] == [1]
    assert 0 < run.history[0]["loss"] < 5
    stored = load_config(run.dir / "config.yaml")
    assert (stored.audio, stored.model, stored.training) == (wanted.audio, wanted.model, wanted.training)
    assert_a_step_of_adam(run.tagger.model, before, trained, wanted)
    scores = run.tagger.scores(manifest.parent / "train_low_0.wav")
    assert scores.shape == (3,)
    assert ((scores > 0) & (scores < 1)).all()


def test_packaged_configurations_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in CONFIGS:
        expected = load_config(path)
        assert load_config(path.stem) == load_config(f"configs/{path.name}") == load_config(Path("configs") / path.name)
        assert load_config(path.stem) == expected
    for name, preset in presets().items():
        assert load_config(name) == preset
    # What exists counts first.
    Path("demo").write_text("name: mine", encoding="utf-8")
    assert load_config("demo").name == "mine"
    for wrong in ("configs/compact.yaml", "other/demo.yaml", "won2018"):
        with pytest.raises(
            ConfigError, match=f"expected a YAML file or one of albums, .*Received: {wrong}, which does"
        ):
            load_config(wrong)
