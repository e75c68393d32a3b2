"""What was stored before the layers were rebuilt still loads, and gives the same numbers."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_tagger as kt
from keras_tagger.audio import load as load_audio
from keras_tagger.client import Client
from keras_tagger.config import load_config
from keras_tagger.models.music_tagger import MusicTagger
from keras_tagger.serving.server import Server
from keras_tagger.storage import pretrained
from keras_tagger.train.checkpoint import load_checkpoint
from keras_tagger.train.schedule import phase_optimizer

BEFORE = Path(__file__).parent / "data" / "before"
CLIP = Path(kt.__file__).parent / "clips" / "jazz_vibes.ogg"
# Storing and loading lose nothing; the order of additions differs between processors.
TOLERANCE = 2e-5
EXPECTED = dict(np.load(BEFORE / "expected.npz"))


def check(tagger: kt.Tagger) -> None:
    audio = (EXPECTED["waveform"], 16000)
    np.testing.assert_allclose(tagger.scores(audio), EXPECTED["scores"], atol=TOLERANCE)
    np.testing.assert_allclose(tagger.embed(audio), EXPECTED["embedding"], atol=1e-4)
    np.testing.assert_allclose(tagger.contributions(audio).values, EXPECTED["contributions"], atol=TOLERANCE)
    np.testing.assert_allclose(tagger.taggram(audio, 0.5).values, EXPECTED["taggram"], atol=TOLERANCE)
    attention = tagger.attention(audio).heatmap("all").values
    np.testing.assert_allclose(attention, EXPECTED["attention"], rtol=1e-3, atol=1e-4)
    assert list(tagger.tags) == EXPECTED["tags"].tolist()


def test_a_run_directory_loads() -> None:
    check(kt.load(BEFORE / "run"))


def test_a_keras_file_loads_with_keras() -> None:
    model = keras.saving.load_model(BEFORE / "run" / "model.keras")
    window = EXPECTED["waveform"][np.newaxis, : model.window_samples]
    ours = kt.load(BEFORE / "run" / "model.keras").model
    assert len(model.weights) == len(ours.weights) > 20
    np.testing.assert_allclose(model(window), ours(window), atol=1e-6)
    assert model.dtype_policy.name == "float32"


def test_packaged_weights_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "weights_folder", lambda: BEFORE / "weights")
    # Packaged kernels are float16.
    tagger = kt.load("tones")
    np.testing.assert_allclose(tagger.scores((EXPECTED["waveform"], 16000)), EXPECTED["scores"], atol=2e-3)


@pytest.mark.parametrize("name", ["compact", "compact-msd"])
def test_shipped_weights_give_the_same_scores(name: str) -> None:
    waveform = load_audio(CLIP, 16000)
    # Only whole tokens: how a part of one is seen has changed since.
    waveform = waveform[: len(waveform) // 2048 * 2048]
    expected = np.load(BEFORE / "shipped.npz")[name]
    np.testing.assert_allclose(kt.load(name).scores((waveform, 16000)), expected, atol=1e-4)


def test_a_killed_runs_checkpoint_fits_model_and_optimiser(tmp_path: Path) -> None:
    run = tmp_path / "killed"
    shutil.copytree(BEFORE / "killed", run)
    config = load_config(run / "config.yaml")
    tags = (run / "tags.txt").read_text(encoding="utf-8").split()
    model = MusicTagger(tags, config.audio, config.model)
    model.build()
    optimizer = phase_optimizer(config.training, 0, 16)
    optimizer.build(model.trainable_variables)
    stored = np.load(run / "checkpoints" / "last.npz")
    variables = [*model.variables, *optimizer.variables]
    progress = load_checkpoint(run / "checkpoints" / "last.npz", variables)
    assert (progress.epoch, progress.total_steps) == (1, 16)
    for index, variable in enumerate(variables):
        np.testing.assert_array_equal(variable.numpy(), stored[f"{index:04d}"], err_msg=variable.path)
    assert int(optimizer.iterations.numpy()) == 16


def test_an_export_is_served(tmp_path: Path) -> None:
    with zipfile.ZipFile(BEFORE / "export.zip") as archive:
        archive.extractall(tmp_path)
    audio = (EXPECTED["waveform"], 16000)
    with Server(tmp_path, port=0) as server, Client(f"127.0.0.1:{server.port}") as client:
        tags = client.tag(audio, top=None)
        assert tags.to_dict() == pytest.approx(dict(zip(EXPECTED["tags"], EXPECTED["scores"], strict=True)), abs=2e-5)
        # It was exported without thresholds.
        assert [tag.present for tag in tags] == [None] * len(EXPECTED["tags"])
        maps = client.contributions(audio)
        assert maps.tags == tuple(EXPECTED["tags"])
        np.testing.assert_allclose(maps.values, EXPECTED["contributions"], atol=TOLERANCE)
        np.testing.assert_allclose(client.embed(audio), EXPECTED["embedding"], atol=1e-4)
