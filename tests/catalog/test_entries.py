"""Where the files of a catalogue come from."""

from __future__ import annotations

import os

import pandas as pd
import pytest

from keras_tagger.catalog import Entry, find_entries
from keras_tagger.catalog.entries import local_path, opened
from keras_tagger.errors import CatalogError


@pytest.fixture
def music(tmp_path, monkeypatch):
    """A folder with two songs, as the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "album").mkdir()
    for name, size in (("album/a.mp3", 3), ("album/b.ogg", 5)):
        (tmp_path / name).write_bytes(b"x" * size)
        os.utime(tmp_path / name, ns=(7, 7_000_000_001))
    return tmp_path


SONGS = [Entry("album/a.mp3", 3, 7_000_000_001), Entry("album/b.ogg", 5, 7_000_000_001)]


def test_folders_playlists_and_tables_name_the_same_files(music):
    (music / "mix.m3u8").write_text("album/a.mp3\nalbum/b.ogg\n")
    (music / "list.csv").write_text("id,path\n1,album/a.mp3\n2,album/b.ogg\n")
    (music / "list.tsv").write_text("file\tid\nalbum/a.mp3\t1\nalbum/b.ogg\t2\n")
    pd.DataFrame({"url": ["album/a.mp3", "album/b.ogg"]}).to_parquet(music / "list.parquet")
    for source in ("album", "mix.m3u8", "list.csv", "list.tsv", "list.parquet"):
        assert list(find_entries([source])) == SONGS, source


def test_what_cannot_be_read_is_named(music):
    (music / "empty").mkdir()
    missing, nothing = find_entries(["none.mp3", "empty"])
    assert missing == Entry("none.mp3")
    assert nothing.error == "Expected a folder with audio files. Received: 'empty', which holds none."
    (music / "wrong.csv").write_text("name,album\nx,y\n")
    with pytest.raises(
        CatalogError, match=r"expected a table with a column path, file, url\. Received: .* name, album"
    ):
        list(find_entries(["wrong.csv"]))


def test_a_name_that_is_not_utf_8_is_a_url(music):
    name = os.fsdecode(b"album/caf\xe9.ogg")
    with open(name, "wb") as file:
        file.write(b"four")
    entry = list(find_entries(["album"]))[-1]
    assert entry.path == (music / "album").as_uri() + "/caf%E9.ogg"
    assert entry.size == 4
    assert local_path(entry.path) == str(music / name)
    assert next(find_entries([entry.path])) == entry


def test_fsspec_reads_what_has_a_scheme(music):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.pipe({"/bucket/x/a.mp3": b"one", "/bucket/b.ogg": b"three", "/bucket/cover.jpg": b"picture"})
    found = list(find_entries(["memory://bucket/"]))
    assert [(entry.path, entry.size) for entry in found] == [
        ("memory:///bucket/b.ogg", 5),
        ("memory:///bucket/x/a.mp3", 3),
    ]
    assert all(entry.mtime_ns > 1e18 for entry in found)
    content = opened("memory:///bucket/x/a.mp3")
    assert (content.read(), content.name) == (b"one", "memory:///bucket/x/a.mp3")
    with pytest.raises(FileNotFoundError, match="Received: 'memory:///bucket/none.mp3', which does not exist"):
        opened("memory:///bucket/none.mp3")
    with pytest.raises(CatalogError, match="expected a URL that fsspec can list. Received: 'nowhere://x'"):
        list(find_entries(["nowhere://x"]))
