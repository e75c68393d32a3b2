"""tools/pretrain/score_soundfonts.py: what it says when something is missing."""

from __future__ import annotations

import shutil

import pytest

from keras_tagger.errors import ManifestNotFoundError
from pretrain.score_soundfonts import find_soundfonts


def test_without_fluidsynth_or_soundfonts_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ManifestNotFoundError, match="expected the program fluidsynth"):
        find_soundfonts(str(tmp_path), ["test"])
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/fluidsynth")
    with pytest.raises(ManifestNotFoundError, match="expected the soundfont MuseScore General. Received: no file"):
        find_soundfonts(str(tmp_path), ["test"])
