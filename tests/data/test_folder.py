"""The labels of a folder of music: a table, text files beside songs, folders; and one sentence if there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from keras_tagger.data.folder import read_labelled_folder
from keras_tagger.data.manifest import Manifest
from keras_tagger.data.sources import open_source
from keras_tagger.errors import ManifestError


def music(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"RIFF")
    return root


def tags_of(manifest: Manifest) -> dict[str, dict[str, float]]:
    return {Path(clip.path).name: dict(clip.tags) for clip in manifest.clips}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "path,tags\none.mp3,rock\ntwo.mp3,jazz;calm\n"),
        ("labels.tsv", "Filename\tGenre\none.mp3\trock\ntwo.mp3\tjazz;calm\n"),
        ("labels.csv", "file;title;tags\none.mp3;One;rock\ntwo.mp3;Two;jazz|calm\n"),
        ("labels.csv", "path,year,calm,jazz,rock\none.mp3,1999,0,0,1\ntwo.mp3,2001,1,1.0,0\n"),
        ("labels.jsonl", '{"path": "one.mp3", "tags": ["rock"]}\n{"path": "two.mp3", "tags": ["jazz", "calm"]}\n'),
        # Names without folder or extension, as catalogues have them.
        ("labels.csv", "filename,label\none,rock\nelsewhere/two.mp3,jazz;calm\n"),
    ],
)
@pytest.mark.parametrize("folder", ["", "audio"])
def test_a_table(tmp_path, name, text, folder):
    music(tmp_path, f"{folder}/one.mp3".strip("/"), f"{folder}/two.mp3".strip("/"))
    (tmp_path / name).write_text(text)
    manifest = read_labelled_folder(tmp_path)
    found = {song: {tag for tag, label in tags.items() if label > 0} for song, tags in tags_of(manifest).items()}
    assert found == {"one.mp3": {"rock"}, "two.mp3": {"jazz", "calm"}}
    assert manifest.tags == ("calm", "jazz", "rock")
    assert all(Path(clip.path).is_file() for clip in manifest.clips)


def test_an_empty_cell_in_a_column_of_a_tag_is_unknown(tmp_path):
    (tmp_path / "m.csv").write_text("path,rock,calm\na.mp3,1,\nb.mp3,0,0.5\n")
    first, second = open_source(tmp_path / "m.csv").clips
    assert first.tags["rock"] == 1.0
    assert first.tags["calm"] != first.tags["calm"]
    assert second.tags == {"calm": 0.5, "rock": 0.0}


def test_tables_that_are_no_labels_are_ignored(tmp_path):
    music(tmp_path, "rock/one.mp3", "jazz/two.mp3")
    (tmp_path / "tags.csv").write_text("file,tag,score\none.mp3,guitar,0.4\n")
    (tmp_path / "notes.csv").write_text("title,year\nOne,1999\n")
    assert read_labelled_folder(tmp_path).tags == ("jazz", "rock")


def test_wrong_tables(tmp_path):
    music(tmp_path, "one.mp3")
    (tmp_path / "a.csv").write_text("path,tags\nnone.mp3,rock\nother.mp3,jazz\n")
    with pytest.raises(ManifestError, match=r"expected the names of audio files.*none\.mp3' and 1 others that do not"):
        read_labelled_folder(tmp_path)
    (tmp_path / "b.tsv").write_text("path\ttags\none.mp3\trock\n")
    with pytest.raises(ManifestError, match=r"expected one table of labels\. Received: a\.csv, b\.tsv \(name one"):
        read_labelled_folder(tmp_path)
    (tmp_path / "b.tsv").unlink()
    (tmp_path / "a.csv").write_text("path,title\none.mp3,One\n")
    with pytest.raises(ManifestError, match="expected a column tags, or a column of numbers in 0..1 for each tag"):
        read_labelled_folder(tmp_path)


def test_text_files_beside_songs(tmp_path, caplog):
    music(tmp_path, "a/one.mp3", "two.flac", "three.wav")
    (tmp_path / "a" / "one.txt").write_text("rock, loud\n")
    (tmp_path / "two.txt").write_text("jazz\ncalm\n")
    with caplog.at_level("WARNING", logger="absl"):
        manifest = read_labelled_folder(tmp_path)
    assert tags_of(manifest) == {"one.mp3": {"rock": 1.0, "loud": 1.0}, "two.flac": {"jazz": 1.0, "calm": 1.0}}
    assert "songs without a text file of tags are left out: three.wav" in caplog.text


def test_lyrics_are_no_tags(tmp_path):
    music(tmp_path, "rock/one.mp3", "jazz/two.mp3")
    (tmp_path / "rock" / "one.txt").write_text("This is the first line of a rather long and winding song\n" * 30)
    assert tags_of(read_labelled_folder(tmp_path)) == {"one.mp3": {"rock": 1.0}, "two.mp3": {"jazz": 1.0}}


def test_no_labels(tmp_path):
    music(tmp_path / "mine", "one.mp3", "two.mp3")
    with pytest.raises(ManifestError) as caught:
        open_source(tmp_path / "mine")
    sentence = str(caught.value).replace(str(tmp_path), "")
    assert sentence == (
        "/mine: expected labels: a folder per tag (/mine/rock/one.mp3), a table with the columns path and tags "
        "(/mine/labels.csv), or the tags of each song in a text file beside it (one.txt). "
        "Received: 2 audio files without any of these."
    )
