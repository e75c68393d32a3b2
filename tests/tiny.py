"""What the tests of the model, training and export share: a tiny configuration, tones for music, random weights."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

RATE = 16000
TAGS = ("high", "low", "mid")
PITCHES_HZ = {"low": (110.0, 220.0), "mid": (600.0, 900.0), "high": (2500.0, 4000.0)}

# Nothing but scalars and text for TensorBoard.
NO_BOARD = {"preview_clips": 0, "embedding_clips": 0}

CONFIG: dict[str, Any] = {
    "name": "tiny",
    "preset": "compact",
    "audio": {"window_seconds": 1.0},
    "model": {
        "spectrogram": {"n_mels": 32},
        "front_end": {"channels": [4, 8, 8, 8]},
        "encoder": {"n_layers": 2, "n_heads": 2, "width": 16, "feed_forward": 32},
    },
    "training": {"epochs": 2, "batch_size": 4, "learning_rate": 0.01, "seed": 3},
    "board": NO_BOARD,
}


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the nested values of `over`."""
    result = dict(base)
    for key, value in over.items():
        inner = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if inner else value
    return result


# Learns the tones in 8 epochs of 12 steps.
LEARNER = merged(
    CONFIG,
    {
        "name": "learner",
        "audio": {"window_seconds": 0.5},
        "model": {
            "front_end": {"channels": [8, 16, 16]},
            "encoder": {"n_layers": 1, "dropout": 0.0, "attention_dropout": 0.0},
            "head": {"dropout": 0.0},
        },
        "training": {"epochs": 8, "warmup_epochs": 0.5, "seed": 2},
        "board": {"preview_clips": 1, "preview_seconds": 2.0, "top_tags": 2, "embedding_clips": 200},
    },
)


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Run every `tf.function` eagerly, as tracing a training step takes longer than the few steps of most tests."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@contextlib.contextmanager
def exporting(*names: str) -> Iterator[None]:
    """Let exports have the named signatures only: tracing all of them takes most of an export."""
    from keras_tagger.export import saved_model

    with pytest.MonkeyPatch.context() as patch:
        every = saved_model.signatures
        patch.setattr(saved_model, "signatures", lambda trained: {name: every(trained)[name] for name in names})
        yield


def tone(pitch_hz: float, seconds: float, seed: int) -> np.ndarray:
    """A sine with two harmonics in a little noise, float32 [samples]."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    wave = sum(
        np.sin(2 * np.pi * pitch_hz * k * time + rng.uniform(0, 6.3)) / k for k in (1, 2, 3) if k * pitch_hz < 7900
    )
    return (0.2 * wave + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


def write_tones(folder: Path, per_split: dict[str, int], seconds: tuple[float, float] = (1.0, 3.0)) -> Path:
    """Tones of each tag and a manifest of them, which is returned; lengths are spread over `seconds`."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for split, count in per_split.items():
        for index in range(count):
            for tag, (low, high) in PITCHES_HZ.items():
                name = f"{split}_{tag}_{index}.wav"
                length = rng.uniform(*seconds)
                soundfile.write(folder / name, tone(rng.uniform(low, high), length, len(rows)), RATE)
                rows.append({"path": name, "tags": tag, "split": split})
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("path", "tags", "split"), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return manifest


def randomize(layer: Any, seed: int = 0) -> None:
    """Give every weight a random value, so that no bias or moving average is at its neutral start."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        kind = weight.name.rsplit("/", 1)[-1]
        if kind in ("moving_variance", "gamma"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif kind in ("moving_mean", "beta", "bias"):
            weight.assign(rng.normal(0.0, 0.1, weight.shape))
        elif weight.trainable and kind not in ("vector", "table"):
            fan_in = np.prod(weight.shape[:-1])
            weight.assign(rng.normal(0.0, 1.0 / np.sqrt(fan_in), weight.shape))
        elif weight.trainable:
            weight.assign(rng.normal(0.0, 1.0, weight.shape))


def random_tagger(over: dict[str, Any] | None = None, tags: tuple[str, ...] = TAGS, seed: int = 0) -> Any:
    """A `Tagger` of the tiny configuration with random weights."""
    from keras_tagger.config import config_from_dict
    from keras_tagger.models.music_tagger import MusicTagger
    from keras_tagger.tagger import Tagger

    config = config_from_dict(merged(CONFIG, over or {}))
    model = MusicTagger(tags, config.audio, config.model)
    model.build()
    randomize(model, seed)
    return Tagger(model, config)


def noise(n_samples: int, seed: int = 0, batch: int | None = None) -> np.ndarray:
    """Noise whose level and colour change over time, float32 [samples] or [batch, samples], within -1..1."""
    rng = np.random.default_rng(seed)
    shape = (batch or 1, n_samples)
    white = rng.standard_normal(shape)
    low = np.cumsum(white, axis=1) / np.sqrt(n_samples)
    slow = np.sin(np.arange(n_samples) / 5000.0 + rng.uniform(0, 6, (shape[0], 1)))
    mixed = np.clip(0.1 * white * (1 + slow) + 0.2 * low * (1 - slow), -1, 1).astype(np.float32)
    return mixed if batch else mixed[0]
