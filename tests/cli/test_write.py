"""The commands `write` and `playlist`, and the formats of other programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jams
import pandas
import pytest
import webvtt

sys.path.insert(0, str(Path(__file__).parents[1] / "library"))

import mixed_files

from keras_tagger.audio.paths import read_playlist
from keras_tagger.library.formats import open_music

FIELDS = "genre: {low: Bass, mid: Middle}\nmood: {high: Bright}\n"
KINDS = ("song.flac", "id3v24_v1.mp3", "song.ogg")


@pytest.fixture(scope="module")
def model(music, tmp_path_factory):
    """The tiny tagger with random weights in a file."""
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    music.save(path)
    return path


@pytest.fixture(autouse=True)
def _loaded(monkeypatch, music):
    """Loading and tracing the model for each command would take most of the time."""
    monkeypatch.setattr("keras_tagger.tagger.load", lambda _: music)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    return mixed_files.make(tmp_path_factory.mktemp("originals"))


@pytest.fixture
def folder(originals, tmp_path):
    """Three files of different formats."""
    found = tmp_path / "music"
    found.mkdir()
    for path in originals:
        if path.name in KINDS:
            (found / path.name).write_bytes(path.read_bytes())
    return found


@pytest.fixture
def write(call, model, tmp_path):
    (tmp_path / "fields.yaml").write_text(FIELDS)
    common = ("--model", model, "--fields", tmp_path / "fields.yaml", "--journal", tmp_path / "journal.sqlite")
    return lambda *arguments: call("write", *arguments, *common)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_dry_run_apply_rerun_and_undo(write, folder, music):
    before = contents(folder)
    present = {entry.name for entry in music.tag(folder / "song.flac") if entry.present}
    genres = [value for tag, value in (("low", "Bass"), ("mid", "Middle")) if tag in present]
    moods = ["Bright"] if "high" in present else []
    assert genres
    assert moods
    status, out, err = write(folder)
    assert (status, err) == (0, "")
    assert f"{folder / 'song.flac'}\n  genre       + {'; '.join(genres)}\n" in out
    assert out.endswith("3 files would be written. Add --apply to write.\n")
    assert contents(folder) == before
    status, out, _ = write(folder, "--apply")
    assert (status, out.splitlines()[-1]) == (0, "3 files written.")
    for path in folder.iterdir():
        assert sorted(open_music(path).get("genre")) == sorted(genres)
        assert open_music(path).get("mood") == moods
    written = contents(folder)
    status, out, _ = write(folder, "--apply")
    assert (status, out) == (0, "0 files written, 3 done before.\n")
    assert contents(folder) == written
    status, out, _ = write(folder, "--undo")
    assert (status, out) == (0, "3 files restored, 0 files left as they are.\n")
    assert contents(folder) == before


def test_existing_values_and_files_that_cannot_be_used(write, folder):
    music = open_music(folder / "song.ogg")
    music.set("genre", ["Mine"])
    music.set("mood", ["Mine"])
    music.save(folder / "song.ogg")
    (folder / "song.flac").chmod(0o444)
    (folder / "text.mp3").write_text("no music")
    before = contents(folder)
    status, out, err = write(folder, folder / "song.ogg", "--apply", "--keep_mtime")
    assert status == 1
    assert "song.flac', which is read-only" in err
    assert "text.mp3" in err
    assert "  genre       = Mine   (not written: " in out
    assert out.splitlines()[-1] == "1 file written, 1 with nothing to write, 2 skipped, see above."
    after = contents(folder)
    assert {name for name in before if before[name] != after[name]} == {"id3v24_v1.mp3"}
    status, out, _ = write(folder / "song.ogg", "--replace")
    assert "  genre       - Mine\n              + " in out


@pytest.mark.parametrize("kind", ["json", "jams", "xmp"])
def test_sidecars_leave_the_files_alone(write, folder, kind):
    before = contents(folder)
    status, out, _ = write(folder, "--sidecar", kind)
    assert (status, contents(folder)) == (0, before)
    assert out.endswith("3 files would be written. Add --apply to write.\n")
    status, _, _ = write(folder, "--sidecar", kind, "--apply")
    after = contents(folder)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {f"{name}.{kind}" for name in KINDS}
    assert write(folder, "--sidecar", kind, "--apply")[1] == "0 files written, 3 done before.\n"


def test_a_playlist_by_query(call, model, folder, tmp_path, music):
    status, out, _ = call("playlist", "mid & !sideways", folder, "--model", model)
    assert (status, out) == (1, "")
    scores = {str(path): music.tag(path, top=None)["low"].score for path in folder.iterdir()}
    middle = sorted(scores.values())[1]
    target = tmp_path / "lists" / "low.m3u8"
    query = f"low >= {middle - 1e-4:.6f}"
    status, out, _ = call("playlist", query, folder, "--model", model, "--by", "low", "--output", target)
    wanted = sorted((path for path, score in scores.items() if score >= middle), key=lambda path: -scores[path])
    assert (status, out) == (0, f"{target}: 2 files\n")
    assert [str(Path(path).resolve()) for path in read_playlist(target)] == wanted
    # The same from saved scores.
    call("tag", folder, "--model", model, "--output", tmp_path / "tags.jsonl")
    again = call("playlist", query, "--scores", tmp_path / "tags.jsonl", "--by", "low", "--most", 1)
    assert again[1].splitlines()[2].endswith(Path(wanted[0]).name)
    assert call("playlist", "low")[0] == 1


def test_formats_of_other_programs(call, model, folder, tmp_path, music):
    out = tmp_path / "out"
    assert call("tag", folder, "--model", model, "--format", "jams", "--output", out)[0] == 0
    assert {path.name for path in out.iterdir()} == {"song.jams", "song_2.jams", "id3v24_v1.jams"}
    expected = music.tag(folder / "id3v24_v1.mp3")
    found = jams.load(str(out / "id3v24_v1.jams"), strict=True)
    assert [row.value for row in found.annotations[0].data] == list(expected.names)
    assert found.file_metadata.duration == pytest.approx(expected.seconds)
    file = folder / "song.ogg"
    assert call("tag", file, "--model", model, "--format", "audacity")[1].startswith("0.000000\t0.5")
    assert len(webvtt.from_string(call("tag", file, "--model", model, "--format", "webvtt")[1])) == 1
    assert call("tag", file, "--model", model, "--output", tmp_path / "a.svl")[0] == 0
    assert 'sampleRate="32000"' in (tmp_path / "a.svl").read_text()
    assert call("tag", folder, "--model", model, "--output", tmp_path / "tags.parquet")[0] == 0
    table = pandas.read_parquet(tmp_path / "tags.parquet")
    assert len(table) == 9
    assert list(table.columns) == ["file", "tag", "score", "present", "heard", "margin"]
    status, _, err = call("tag", folder, "--model", model, "--format", "svl")
    assert status == 1
    assert "--output: expected a folder, for several files in the format svl. Received: none." in err


def test_maps_in_formats_of_other_programs(call, model, folder, tmp_path):
    for suffix, beginning in (
        (".jams", '{"file_metadata"'),
        (".svl", "<?xml"),
        (".vtt", "WEBVTT"),
        (".txt", "0."),
        (".csv", "time,low"),
    ):
        target = tmp_path / f"map{suffix}"
        arguments = ("--model", model, "--method", "contributions", "--tags", "low", "--out", target)
        assert call("explain", folder / "song.ogg", *arguments)[0] == 0
        assert target.read_text("utf-8").startswith(beginning)
    assert json.loads((tmp_path / "map.jams").read_text())["annotations"][0]["data"][0]["value"] == "low"
