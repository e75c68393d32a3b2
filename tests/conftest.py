"""Fixtures that are dear to make and shared by many tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import tiny


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of short tones of three tags, with splits."""
    return tiny.write_tones(tmp_path_factory.mktemp("tones"), {"train": 4, "valid": 2, "test": 2})


@pytest.fixture(scope="session")
def tiny_run(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run on the tones."""
    from keras_tagger.train.fit import fit

    return fit(tiny.LEARNER, tones, run_dir=tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def music() -> Any:
    """The tiny pre-norm tagger with random weights; do not change it."""
    return tiny.random_tagger()


@pytest.fixture(scope="session")
def tagger(music: Any) -> Any:
    """The same; tests of the server have a `tagger` of their own."""
    return music


@pytest.fixture(scope="session")
def post_norm_tagger() -> Any:
    """The tiny tagger as the paper's model is: post-norm, fixed [CLS], pooler, power mel in dB, timbral front-end."""
    tagger = tiny.random_tagger(
        {
            "preset": "won2019",
            "audio": {"window_seconds": 0.5},
            "model": {
                "spectrogram": {"n_mels": 32},
                "front_end": {"channels": [1]},
                "encoder": {"epsilon": 1e-6},
            },
        },
        tags=("a", "b", "c", "d"),
    )
    # Decibels are tens from zero; unless they are scaled, random weights saturate and rounding is all that shows.
    tagger.model.front_end.input_norm.moving_variance.assign([1000.0])
    return tagger


@pytest.fixture(scope="session")
def exported(music: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first exported version of `music`; do not write to its folder."""
    return music.export(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def eagerly() -> Iterator[None]:
    """Run every `tf.function` eagerly, as tracing a training step takes longer than the few steps of most tests."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
