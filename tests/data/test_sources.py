"""Opening audio: names of data, and without labels folders, playlists, manifests, and what stands for an artist."""

from __future__ import annotations

from pathlib import Path

import pytest

from keras_tagger.data.prepared import INDEX
from keras_tagger.data.sources import open_source, open_unlabelled
from keras_tagger.errors import ManifestError, ManifestNotFoundError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def groups(path: Path) -> dict[str, str | None]:
    manifest, _ = open_unlabelled(path)
    return {Path(clip.path).name: clip.group and Path(clip.group).name for clip in manifest.clips}


def test_a_folder_is_searched_at_any_depth(tmp_path):
    touch(tmp_path, "a/1.mp3", "a/b/2.flac", "3.ogg", "cover.jpg", ".hidden/4.mp3")
    manifest, errors = open_unlabelled(tmp_path)
    assert [Path(clip.path).relative_to(tmp_path).as_posix() for clip in manifest.clips] == [
        "3.ogg",
        "a/1.mp3",
        "a/b/2.flac",
    ]
    assert (manifest.tags, errors) == ((), [])
    assert all(not clip.tags for clip in manifest.clips)


def test_artists_are_the_highest_folders_of_which_there_are_enough(tmp_path):
    names = [f"artist {i}/album {j}/{i}{j}.mp3" for i in range(5) for j in range(2)]
    touch(tmp_path / "library" / "mp3", *names)
    expected = {f"{i}{j}.mp3": f"artist {i}" for i in range(5) for j in range(2)}
    assert groups(tmp_path) == expected
    # With fewer artists, albums are the groups.
    touch(tmp_path / "few", *(f"artist {i}/album {i}{j}/{i}{j}.mp3" for i in range(2) for j in range(3)))
    assert groups(tmp_path / "few") == {f"{i}{j}.mp3": f"album {i}{j}" for i in range(2) for j in range(3)}


def test_with_few_folders_every_file_is_on_its_own(tmp_path, caplog):
    touch(tmp_path, "a/1.mp3", "a/2.mp3", "b/3.mp3")
    with caplog.at_level("WARNING", logger="absl"):
        assert set(groups(tmp_path).values()) == {None}
    assert "in fewer than 5 folders, so they are not taken as artists" in caplog.text


def test_groups_and_splits_of_a_manifest_count(tmp_path, caplog):
    touch(tmp_path, *(f"{i}/song.mp3" for i in range(6)))
    rows = [{"path": f"{i}/song.mp3", "split": "test" if i == 0 else None} for i in range(6)]
    rows[1]["group"] = "the band"
    lines = [f"{row['path']},rock,{row['split'] or ''},{row.get('group', '')}" for row in rows]
    (tmp_path / "music.csv").write_text("\n".join(["path,tags,split,group", *lines]))
    manifest, _ = open_unlabelled(tmp_path / "music.csv")
    found = [(clip.split, clip.group and Path(clip.group).name) for clip in manifest.clips]
    assert found[:2] == [("test", None), (None, "the band")]
    assert {clip.tags.get("rock") for clip in manifest.clips} == {None}


def test_a_manifest_needs_no_tags(tmp_path):
    (tmp_path / "music.csv").write_text("path,start,end\na.mp3,10,20\n")
    (clip,) = open_unlabelled(tmp_path / "music.csv")[0].clips
    assert (clip.path, clip.start_seconds, clip.end_seconds) == (str(tmp_path / "a.mp3"), 10.0, 20.0)
    (tmp_path / "list.csv").write_text("path\na.mp3\nb.mp3\n")
    (tmp_path / "list.jsonl").write_text('{"path": "a.mp3"}\n{"path": "b.mp3", "tags": ["rock"]}\n')
    for name in ("list.csv", "list.jsonl"):
        assert [Path(clip.path).name for clip in open_unlabelled(tmp_path / name)[0].clips] == ["a.mp3", "b.mp3"]


def test_a_playlist_with_an_address_that_cannot_be_read(tmp_path):
    touch(tmp_path, "a.mp3", "b.mp3")
    (tmp_path / "mix.m3u").write_text("a.mp3\nhttps://example.com/radio\nb.mp3\na.mp3\n")
    manifest, errors = open_unlabelled(tmp_path / "mix.m3u")
    assert [Path(clip.path).name for clip in manifest.clips] == ["a.mp3", "b.mp3"]
    ((entry, error),) = errors
    assert entry == "https://example.com/radio"
    assert "must be downloaded first" in str(error)


def test_what_holds_no_music_is_refused(tmp_path):
    with pytest.raises(ManifestNotFoundError, match="none' *, which does not exist"):
        open_unlabelled(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="folder with audio files.*empty"):
        open_unlabelled(tmp_path / "empty")
    (tmp_path / "empty" / INDEX).write_text("{}")
    with pytest.raises(ManifestError, match="expected audio files or a manifest.*a prepared folder"):
        open_unlabelled(tmp_path / "empty")


def test_a_manifest_is_known_by_its_folder(tmp_path):
    for name in ("manifest.csv", "labels.csv"):
        (tmp_path / name).write_text("path,tags\na.wav,low\n")
    assert open_source(tmp_path / "manifest.csv").name == tmp_path.name
    assert open_source(tmp_path / "labels.csv").name == "labels"
    assert open_source("demo").name == "demo"
