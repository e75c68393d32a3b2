"""Tones, and a model that is made up, so that stores and searches need none."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
from made_rows import INFO, TAGS

import tiny
from keras_tagger.catalog import Options
from keras_tagger.catalog.store import About


@pytest.fixture
def about() -> About:
    """A model of five tags, one of which it has not heard, and embeddings of four numbers."""
    return About("made", "5a" * 32, TAGS, INFO, 4, Options())


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Six tones and a file that is none."""
    folder = tmp_path / "songs"
    folder.mkdir()
    for number in range(6):
        soundfile.write(folder / f"{number}.wav", tiny.tone(200.0 * (number + 1), 1.5, number), tiny.RATE)
    (folder / "noise.mp3").write_bytes(b"no audio")
    return folder
