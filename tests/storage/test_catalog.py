"""Listing models without loading them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from keras_tagger.errors import ModelNotFoundError
from keras_tagger.storage.catalog import StoredModel, find_models, packaged_models


@pytest.fixture(scope="module")
def work(music: Any, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of every kind."""
    work = tmp_path_factory.mktemp("work")
    (work / "runs" / "mine" / "logs").mkdir(parents=True)
    music.save(work / "runs" / "mine" / "model.keras")
    (work / ".hidden").mkdir()
    for copy in ("other.keras", ".hidden/model.keras"):
        shutil.copy(work / "runs" / "mine" / "model.keras", work / copy)
    (work / "broken.keras").write_text("no model")
    shutil.copytree(exported, work / "exported" / "1")
    shutil.copytree(exported, work / "exported" / "12")
    (work / "exported" / "13").mkdir()
    (work / "foreign").mkdir()
    (work / "foreign" / "saved_model.pb").write_bytes(b"x" * 10)
    return work


def test_packaged_models() -> None:
    compact, msd, pons, pons_msd = packaged_models()
    assert compact == StoredModel(
        *("compact", "pretrained", 50, "compact", 16000, 10.24),
        size=compact.size,
        licence="Apache-2.0",
        description="MagnaTagATune's 50 tags: instruments, voices, genres, tempo and mood.",
    )
    assert [model.name for model in (msd, pons, pons_msd)] == ["compact-msd", "pons", "pons-msd"]
    assert (compact.size, pons.size) == (msd.size, pons_msd.size)
    assert 4e6 < compact.size < 6e6


def test_models_in_a_folder(work: Path, music: Any) -> None:
    found = {model.name.removeprefix(f"{work}/"): model for model in find_models(work)}
    assert list(found) == ["broken.keras", "exported", "foreign", "other.keras", "runs/mine"]
    assert [model.kind for model in found.values()] == ["file", "export", "export", "file", "run"]
    run = found["runs/mine"]
    window = music.config.audio.window_seconds
    assert (run.tags, run.sample_rate, run.window_seconds, run.preset) == (3, 16000, window, "")
    assert run.size == (work / "runs" / "mine" / "model.keras").stat().st_size
    export = found["exported"]
    assert (export.tags, export.versions, export.window_seconds) == (3, (1, 12), window)
    assert export.size > 10_000
    # Any other SavedModel can be served too.
    assert (found["foreign"].tags, found["foreign"].versions, found["foreign"].size) == (0, (), 10)
    assert found["broken.keras"].error.startswith("expected a .keras file. Received: ")
    assert [model.error for name, model in found.items() if name != "broken.keras"] == [""] * 4


def test_a_path_may_be_a_model_itself(work: Path) -> None:
    assert [
        model.kind
        for path in ("other.keras", "runs/mine", "exported", "exported/1")
        for model in find_models(work / path)
    ] == [
        *("file", "run", "export", "export"),
    ]
    assert find_models(work / "exported" / "1")[0].versions == ()


def test_a_folder_without_models(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="which holds none"):
        find_models(tmp_path)
    with pytest.raises(ModelNotFoundError, match="which does not exist"):
        find_models(tmp_path / "absent")
