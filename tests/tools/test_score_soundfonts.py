"""tools/pretrain/score_soundfonts.py: what it says when something is missing."""

from __future__ import annotations

import shutil

import pytest

from keras_tagger.errors import ManifestNotFoundError
from pretrain.score_soundfonts import SOUNDFONTS, find_soundfonts


def test_without_fluidsynth_or_soundfonts_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ManifestNotFoundError, match="expected the program fluidsynth"):
        find_soundfonts(str(tmp_path), ["test"])
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/fluidsynth")
    with pytest.raises(ManifestNotFoundError, match="expected the soundfont MuseScore General. .* does not exist"):
        find_soundfonts(str(tmp_path), ["test"])


def test_each_split_has_the_soundfonts_that_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/fluidsynth")
    for path in SOUNDFONTS.values():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"RIFF")
    paths = {name: str(tmp_path / path) for name, path in SOUNDFONTS.items()}
    test = {"MuseScore General": paths["MuseScore General"]}
    others = {name: path for name, path in paths.items() if name not in test}
    assert len(others) == 2
    assert find_soundfonts(str(tmp_path), ["test"]) == test
    assert find_soundfonts(str(tmp_path), ["train"]) == find_soundfonts(str(tmp_path), ["valid"]) == others
    assert find_soundfonts(str(tmp_path), ["train", "test"]) == paths
    assert find_soundfonts(str(tmp_path), []) == {}
