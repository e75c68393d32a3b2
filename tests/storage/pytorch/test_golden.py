"""Presets and import against numbers recorded from the authors' own code, at reduced width.

data/README.md says how they were recorded. The checkpoints are as `torch.save` wrote them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_tagger.tagger import import_checkpoint

DATA = Path(__file__).parent / "data"
TAGS = ("a", "b", "c", "d", "e")
ARCHITECTURES = ("won2019", "won2019_raw", "won2020", "won2021")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def recorded(request: pytest.FixtureRequest) -> tuple[str, Any, dict[str, np.ndarray]]:
    """The architecture, the imported tagger, and the recorded waveforms, spectrograms and probabilities."""
    name = request.param
    values = dict(np.load(DATA / f"{name}.npz"))
    values["waveforms"] = values["waveforms"].astype(np.float32) / 32768
    return name, import_checkpoint(DATA / f"{name}.pth", name, TAGS), values


def test_waveform_to_spectrogram(recorded: tuple[str, Any, dict[str, np.ndarray]]) -> None:
    name, tagger, values = recorded
    found = tagger.model.analyze(values["waveforms"], ("spectrogram",))["spectrogram"].numpy()
    if name == "won2019_raw":
        assert values["spectrograms"].size == 0
        return
    assert found.shape == values["spectrograms"].shape
    np.testing.assert_allclose(found, values["spectrograms"], atol=1e-4)
    assert np.ptp(found) > 60.0


def test_spectrogram_to_probabilities(recorded: tuple[str, Any, dict[str, np.ndarray]]) -> None:
    name, tagger, values = recorded
    model = tagger.model
    seen = values["waveforms"] if name == "won2019_raw" else values["spectrograms"]
    tokens = model.embed(seen, training=False)
    logits = model.head(model.encoder(tokens), training=False)
    np.testing.assert_allclose(model.probabilities(logits), values["probabilities"], atol=2e-6)


def test_waveform_to_probabilities(recorded: tuple[str, Any, dict[str, np.ndarray]]) -> None:
    _, tagger, values = recorded
    found = tagger.model.analyze(values["waveforms"], ("tags",))["tags"]
    np.testing.assert_allclose(found, values["probabilities"], atol=5e-6)
    # The clips differ, and so do the recorded numbers, so that a constant would not pass.
    assert np.abs(values["probabilities"][0] - values["probabilities"][1]).max() > 0.03


def test_a_clip_is_seen_as_the_authors_see_it(recorded: tuple[str, Any, dict[str, np.ndarray]]) -> None:
    """`Tagger` passes a clip of at most one window to the model unchanged."""
    _, tagger, values = recorded
    rate = tagger.model.audio_config.sample_rate
    found = tagger.scores((values["waveforms"][1], rate))
    np.testing.assert_allclose(found, values["probabilities"][1], atol=5e-6)
