"""Recordings that are copied from git repositories."""

from __future__ import annotations

import csv
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_tagger.errors import ManifestError
from pretrain import clips, recordings
from pretrain.recordings import Recordings

RATE = 16000
SOURCES = (
    Recordings("owner/songs", r"sung/.*\.wav", "CC0-1.0", "LICENSE", ("singing", "female voice")),
    Recordings("owner/songs", r"old/(?P<instrument>[a-z]+)/.*\.wav", "CC-BY-4.0", "LICENSE", (), "notes", deleted=True),
    Recordings("owner/absent", r".*\.wav", "CC0-1.0", "LICENSE", ("singing",)),
)


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def clones(tmp_path: Path) -> Path:
    """A repository with a song, an unlisted file and an empty one, and a note that was deleted later."""
    folder = tmp_path / "clones/owner+songs"
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    for name, seconds in (("sung/Märchen 1.wav", 8), ("other/b.wav", 1), ("old/viola/viola_A3.wav", 1)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.random.default_rng(0).uniform(-0.3, 0.3, seconds * RATE), RATE)
    (folder / "sung/empty.wav").touch()
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    git(folder, "rm", "-q", "-r", "old")
    git(folder, "commit", "-qm", "second")
    return tmp_path / "clones"


def test_listed_files_become_a_corpus_for_clips(clones: Path, tmp_path: Path):
    rows = recordings.copy_recordings(clones, tmp_path / "out", "voices", SOURCES)
    assert [(row["path"], row["tags"], row["licence"], row["seconds"]) for row in rows] == [
        ("owner-songs/sung_M_rchen_1.wav", "owner-songs;singing;female voice", "CC0-1.0", 8.0)
    ]
    with open(tmp_path / "out/manifest.csv", encoding="utf-8", newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [row["path"] for row in rows]
    cut = clips.cut_corpus(tmp_path / "out", tmp_path / "clips")
    assert [(row["tags"], row["split"], row["licence"]) for row in cut] == [
        (["owner-songs", "singing", "female voice"], "train", "CC0-1.0")
    ]


def test_deleted_files_are_found_in_the_history(clones: Path, tmp_path: Path):
    rows = recordings.copy_recordings(clones, tmp_path / "out", "notes", SOURCES)
    assert [(row["track"], row["tags"]) for row in rows] == [("viola_viola_A3", "owner-songs;viola")]
    assert (tmp_path / "out" / rows[0]["path"]).is_file()


def test_without_clones(tmp_path: Path):
    with pytest.raises(ManifestError, match="expected clones of repositories with voices"):
        recordings.copy_recordings(tmp_path, tmp_path / "out", "voices", SOURCES)


def test_bare_clones_are_found(clones: Path):
    git(clones, "clone", "-q", "--bare", "owner+songs", "owner+bare")
    assert recordings.find_clone(clones, "owner/bare") == clones / "owner+bare"
    assert recordings.find_clone(clones, "owner/songs") == clones / "owner+songs/.git"


def test_only_licences_that_permit_changed_copies():
    for source in recordings.REPOSITORIES:
        for licence in source.licence.split(", "):
            assert re.fullmatch(r"CC0(-1\.0)?|CC-BY(-SA)?(-\d\.\d)?|public-domain", licence), source
        re.compile(source.pattern)
