"""Checkpoints: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from keras_tagger.errors import ModelError
from keras_tagger.train.checkpoint import Progress, load_checkpoint, read_progress, save_checkpoint
from tiny import random_tagger

PROGRESS = Progress(epoch=3, step=7, total_steps=97, best_score=0.75, best_epoch=1, loss_sum=1.5, seconds=9.25)


def variables(width: int = 3, seed: int = 0) -> list[keras.Variable]:
    rng = np.random.default_rng(seed)
    return [
        keras.Variable(rng.standard_normal((2, width)), dtype="float32"),
        keras.Variable(rng.integers(0, 2**31, 2), dtype="uint32", trainable=False),
        keras.Variable(rng.integers(0, 2**40), dtype="int64", trainable=False),
        keras.Variable(rng.standard_normal(4), dtype="bfloat16"),
    ]


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.npz"
    saved, others = variables(), variables(seed=1)
    save_checkpoint(path, saved, PROGRESS)
    assert read_progress(path) == PROGRESS
    assert load_checkpoint(path, others) == PROGRESS
    for one, other in zip(saved, others, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(np.asarray(one.numpy(), np.float64), np.asarray(other.numpy(), np.float64))
    assert [entry.name for entry in path.parent.iterdir()] == ["last.npz"]


def test_progress_of_a_new_run_round_trips(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.npz", [], Progress())
    assert read_progress(tmp_path / "a.npz").best_score == float("-inf")


def test_another_models_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.npz"
    save_checkpoint(path, variables(), PROGRESS)
    others = variables(width=4, seed=1)
    before = others[1].numpy()
    with pytest.raises(ModelError, match=r"expected a checkpoint of the model in the run's config.*last\.npz"):
        load_checkpoint(path, others)
    with pytest.raises(ModelError, match="expected a checkpoint of the model"):
        load_checkpoint(path, variables()[:3])
    np.testing.assert_array_equal(others[1].numpy(), before)


@pytest.mark.parametrize("content", [b"", b"text", "half", "other"])
def test_broken_files_are_refused(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "last.npz"
    save_checkpoint(path, variables(), PROGRESS)
    if content == "half":
        content = path.read_bytes()[:-100]
    if content == "other":
        np.savez(path, x=np.zeros(3))
    else:
        path.write_bytes(content)
    for read in (read_progress, lambda path: load_checkpoint(path, variables())):
        with pytest.raises(ModelError, match=r"expected a checkpoint of a run. Received: .*last\.npz") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "last.npz"
    np.savez(path, progress=np.array([Progress()], dtype=object))
    with pytest.raises(ModelError, match="expected a checkpoint of a run"):
        read_progress(path)


def test_models_variables_hold_the_dropout_seeds(tmp_path: Path) -> None:
    """After restoring, dropout draws what it would have drawn."""
    model = random_tagger().model
    waves = np.random.default_rng(0).standard_normal((1, 5000)).astype(np.float32)
    model(waves, training=True)
    save_checkpoint(tmp_path / "a.npz", model.variables, PROGRESS)
    expected = model(waves, training=True).numpy()
    assert np.abs(model(waves, training=True).numpy() - expected).max() > 1e-3
    load_checkpoint(tmp_path / "a.npz", model.variables)
    np.testing.assert_allclose(model(waves, training=True), expected, atol=1e-6)
