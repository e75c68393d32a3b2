"""M3U playlists, read back by a parser of the format and by the package's own."""

from __future__ import annotations

import os

import m3u8
import numpy as np
import pytest

from keras_tagger.audio.paths import read_playlist
from keras_tagger.errors import LibraryError
from keras_tagger.files import write_text
from keras_tagger.library.playlist import Entry, m3u, read_scores


def test_a_playlist_is_read_back(tmp_path):
    names = ["plain.mp3", "#1 hit.flac", "Größe – 音.ogg", os.fsdecode(b"latin-\xfc.wav"), "two\nlines.m4a"]
    paths = [str(tmp_path / "music" / name) for name in names]
    (tmp_path / "music").mkdir()
    for path in paths:
        open(path, "wb").close()
    target = tmp_path / "lists" / "mix.m3u8"
    write_text(target, m3u([Entry(path, 61.6 if number else None) for number, path in enumerate(paths)], target.parent))
    assert [os.path.realpath(path) for path in read_playlist(target)] == [os.path.realpath(path) for path in paths]
    segments = m3u8.loads(target.read_text("utf-8", "surrogateescape")).segments
    assert [segment.uri for segment in segments[:3]] == [
        "../music/plain.mp3",
        "../music/#1 hit.flac",
        f"../music/{names[2]}",
    ]
    assert [segment.duration for segment in segments] == [-1, 62, 62, 62, 62]
    assert segments[2].title == "Größe – 音"


def test_scores_that_were_saved(tmp_path):
    path = tmp_path / "tags.jsonl"
    path.write_text(
        '{"file": "a.mp3", "tags": {"voice": 0.75, "vocals": 0.5}, "present": ["vocals"], "unheard": []}\n'
        '{"file": "b.mp3", "error": "damaged"}\n'
    )
    ((file, tags),) = read_scores(path)
    assert (file, tags.names, tags[0].present) == ("a.mp3", ("vocals",), True)
    np.testing.assert_allclose(tags.scores, [0.75])
    path.write_text("guitar\n")
    with pytest.raises(LibraryError, match="expected what keras-tagger tag --format jsonl wrote"):
        list(read_scores(path))
