"""Manifests and folder layouts against hand-written files."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from keras_tagger.data.manifest import Clip, Manifest, read_folders, read_manifest
from keras_tagger.data.sources import open_source
from keras_tagger.errors import ManifestError, ManifestNotFoundError


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_csv_with_bom_crlf_soft_labels_and_unknown_columns(tmp_path):
    text = (
        "\ufeffpath,package,tags,start,end,split,group\r\n"
        '"a, b.ogg",p,guitar;rock,,,train,g1\r\n'
        "\r\n"
        "sub/ü.wav,p,guitar:0.25; genre:rock ; key:7:0.5,1.5,3,test,\r\n"
        "gs://bucket/c.mp3,p,,,,,\r\n"
    )
    manifest = read_manifest(write(tmp_path / "m.csv", text))
    assert manifest.tags == ("genre:rock", "guitar", "key:7", "rock")
    assert manifest.clips[0] == Clip(
        str(tmp_path / "a, b.ogg"), {"guitar": 1.0, "rock": 1.0}, split="train", group="g1"
    )
    assert manifest.clips[1] == Clip(
        str(tmp_path / "sub/ü.wav"), {"guitar": 0.25, "genre:rock": 1.0, "key:7": 0.5}, 1.5, 3.0, "test", None
    )
    assert manifest.clips[2].track == "gs://bucket/c.mp3"
    np.testing.assert_array_equal(
        manifest.labels(), np.array([[0, 1, 0, 1], [1, 0.25, 0.5, 0], [0, 0, 0, 0]], np.float32)
    )
    assert manifest.labels().dtype == np.float32
    assert manifest.clips[1].clip_id == f"{tmp_path}/sub/ü.wav#t=1.5,3"
    assert [len(manifest.select(split)) for split in ("train", "valid", "test")] == [1, 0, 1]


@pytest.mark.parametrize("name", ["m.jsonl", "m.json"])
def test_json_lines_and_array_agree(tmp_path, name):
    rows = [
        {"path": "a.ogg", "tags": ["rock", "a;b"], "split": "valid"},
        {"path": "b.ogg", "tags": {"rock": 0.5}, "start": 2, "end": 4.5, "group": 7},
    ]
    lines = read_manifest(write(tmp_path / name, "\n".join(map(json.dumps, rows)) + "\n\n"))
    array = read_manifest(write(tmp_path / name, json.dumps(rows, indent=1)))
    assert lines == array
    assert lines.clips[1] == Clip(str(tmp_path / "b.ogg"), {"rock": 0.5}, 2.0, 4.5, None, "7")
    assert lines.tags == ("a;b", "rock")


def test_vocabulary(tmp_path):
    path = write(tmp_path / "m.csv", "path,tags\na,x;y\nb,x\nc,z:0\n")
    assert read_manifest(path).tags == ("x", "y")
    assert read_manifest(path, min_clips_per_tag=2).tags == ("x",)
    chosen = read_manifest(path, tags=["y", "other", "x"])
    assert chosen.tags == ("y", "other", "x")
    np.testing.assert_array_equal(chosen.labels(), [[1, 0, 1], [0, 0, 1], [0, 0, 0]])
    with pytest.raises(ManifestError, match=r"at least 3 clips\. Received: tags with at most 2"):
        read_manifest(path, min_clips_per_tag=3)
    with pytest.raises(ManifestError, match=r"a tag of \['w'\]"):
        read_manifest(path, tags=["w"])
    with pytest.raises(ManifestError, match=r"a vocabulary without duplicates\. Received: \['x', 'x'\]"):
        read_manifest(path, tags=["x", "x"])
    with pytest.raises(ManifestError, match="expected a manifest file. Received: .*, which is a folder"):
        read_manifest(tmp_path)


def test_labels_that_are_not_known(tmp_path):
    found = read_manifest(write(tmp_path / "m.csv", "path,tags\na,x:?;y\nb,x;x;y:?;y:?\n"))
    np.testing.assert_array_equal(found.labels(), [[np.nan, 1], [1, np.nan]])
    found.save(tmp_path / "again.csv")
    assert "\na,x:?;y," in (tmp_path / "again.csv").read_text()
    rows = [{"path": "a", "tags": {"x": None, " y ": 1}}, {"path": "b", "tags": {"x": 1, "y": None}}]
    lines = read_manifest(write(tmp_path / "m.jsonl", "\ufeff" + "\n".join(map(json.dumps, rows))))
    np.testing.assert_array_equal(lines.labels(), found.labels())
    assert lines.tags == ("x", "y")


def test_a_line_of_json_ends_where_the_file_says(tmp_path):
    """Unicode line separators within text do not end a line, and a cell of CSV holds tags with separators."""
    row = json.dumps({"path": "a", "tags": ["one\u2028two", "a;b"]}, ensure_ascii=False)
    manifest = read_manifest(write(tmp_path / "m.jsonl", row + "\n"))
    assert manifest.tags == ("a;b", "one\u2028two")
    manifest.save(tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv").clips == manifest.clips


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a CSV header"),
        ("path,tags\n", "at least one clip"),
        ("song,tags\na,x\n", "line 1: expected one column path. Received: the columns song, tags"),
        ("path,tags,tags\na,x,y\n", "line 1: expected one column tags"),
        ("path,tags,split\na,x,train\nb,x,dev\n", "line 3, column split: expected one of train, valid, test"),
        ("path,tags,start,end\na,x,3,3\n", "line 2, column end: expected seconds after the start at 3"),
        ("path,tags,start\na,x,-1\n", "line 2, column start: expected seconds of at least 0. Received: -1"),
        (
            "path,tags,start\na,x,1:30\n",
            "line 2, column start: expected a number of seconds. Received: '1:30'",
        ),
        ("path,tags\na,x:1.5\n", "line 2, column tags: expected a label of 'x' in 0..1. Received: 1.5"),
        ("path,tags\na,x:nan\n", "line 2, column tags: expected a label of 'x' in 0..1. Received: nan"),
        ("path,tags\na,x:0.1;x:0.2\n", "line 2, column tags: expected one label of 'x'"),
        ("path,tags\n  ,x\n", "line 2, column path: expected a path"),
        ("path,tags\na,x\nb,x\n./a,y\n", "line 4: expected no duplicate clips. Received: .* line 2"),
        ("path,tags\na,b,x\n", "line 2, column tags: expected 2 cells .*Received: 3"),
        (b"path,tags\n\xff,x\n", "expected UTF-8 text"),
        ("path,tags\na,\n", "expected a tag"),
    ],
)
def test_csv_errors_name_file_line_and_column(tmp_path, text, message):
    path = write(tmp_path / "bad.csv", text)
    with pytest.raises(ManifestError, match=message) as error:
        read_manifest(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"path": "a", "tags": []\n', "line 1: expected JSON"),
        ('{"path": "a", "tags": ["x"]}\n["b"]\n', "line 2: expected a JSON object"),
        ('{"path": "a"}\n', "line 1: expected the key tags"),
        ('{"path": 3, "tags": ["x"]}\n', "line 1, column path: expected a path. Received: 3"),
        ('{"path": "a", "tags": {"x": true}}\n', "line 1, column tags: expected a label of 'x'"),
        ('{"path": "a", "tags": ["  "]}\n', "line 1, column tags: expected tags as text. Received: '  '"),
        ('{"path": "a", "tags": 4}\n', "line 1, column tags: expected a list of tags"),
        ('{"path": "a", "tags": ["x"], "start": true}\n', "line 1, column start: expected a number"),
        ('[{"path": "a", "tags": ["x"], "split": "val"}]', "entry 1, column split"),
    ],
)
def test_json_errors(tmp_path, text, message):
    with pytest.raises(ManifestError, match=message):
        read_manifest(write(tmp_path / "bad.jsonl", text))


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_save_and_read_again(tmp_path, name):
    clips = (
        Clip(
            str(tmp_path / "in/a, b.ogg"),
            {"rock": 1.0, "tempo:120": 1.0, "x": 1 / 3},
            0.1,
            None,
            "train",
            "g",
        ),
        Clip("s3://bucket/b.ogg", {"rock": 0.0}, 0.0, 7.25, "test"),
        Clip("/elsewhere/c.ogg", {}),
    )
    manifest = Manifest(clips, ("rock", "tempo:120", "x"))
    manifest.save(tmp_path / "in" / name)
    again = read_manifest(tmp_path / "in" / name)
    assert again.clips == clips
    assert again.tags == manifest.tags
    assert os.listdir(tmp_path / "in") == [name]
    text = (tmp_path / "in" / name).read_text()
    assert str(tmp_path) not in text
    # What lies elsewhere is found wherever the manifest goes.
    assert "/elsewhere/c.ogg" in text
    assert ".." not in text


def test_clip_refuses_the_impossible():
    with pytest.raises(ManifestError, match="column split"):
        Clip("a", {}, split="eval")
    with pytest.raises(ManifestError, match="label of 'x'"):
        Clip("a", {"x": -0.1})


@pytest.mark.parametrize("tags", ["rock", ["rock"]])
def test_tags_of_a_clip_have_labels(tags):
    with pytest.raises(
        ManifestError, match=r"column tags: expected labels by tag, such as \{'guitar': 1.0\}. Received"
    ):
        Clip("a", tags)


def test_a_vocabulary_is_no_text(tmp_path):
    write(tmp_path / "set/rock/a.ogg", "1")
    path = write(tmp_path / "m.csv", "path,tags\na,r;o\n")
    for source in (tmp_path / "set", path):
        with pytest.raises(ManifestError, match="tags: expected a list of names. Received: 'rock'"):
            open_source(source, tags="rock")


def test_the_id_has_the_times_to_the_last_digit():
    assert Clip("a", {}, 1234.5678).clip_id == "a#t=1234.5678"
    assert Clip("a", {}, 0.0, 86400.125).clip_id == "a#t=0,86400.125"


def test_track_is_the_file_behind_links(tmp_path):
    write(tmp_path / "a.ogg", "audio")
    os.symlink(tmp_path / "a.ogg", tmp_path / "b.ogg")
    assert Clip(str(tmp_path / "b.ogg"), {}).track == Clip(str(tmp_path / "x/../a.ogg"), {}).track


def test_folders(tmp_path):
    root = tmp_path / "set"
    for name, content in {
        "rock/one.ogg": "1",
        "rock/deep/er/two": "OggS 2",
        "rock/track1.ogg": "same name, other song",
        "pop/track1.ogg": "same name, another song",
        "pop/deep/er/two": "OggS 2",
        "pop/cover.JPG": "-",
        "pop/.hidden.ogg": "-",
        "licences/rock.txt": "-",
        ".debs/x.deb": "-",
        "manifest.csv": "-",
    }.items():
        write(root / name, content)
    os.symlink("../rock/one.ogg", root / "pop" / "uno.ogg")
    os.link(root / "rock/one.ogg", root / "rock/zzz.ogg")
    os.symlink("..", root / "rock" / "loop")
    manifest = read_folders(root)
    assert manifest.tags == ("pop", "rock")
    found = {os.path.relpath(clip.path, root): sorted(clip.tags) for clip in manifest.clips}
    assert found == {
        "pop/deep/er/two": ["pop", "rock"],
        "pop/track1.ogg": ["pop"],
        "pop/uno.ogg": ["pop", "rock"],
        "rock/track1.ogg": ["rock"],
    }
    assert list(found) == sorted(found)
    assert all(clip.group is None and clip.split is None for clip in manifest.clips)


def test_equal_names_of_different_songs_stay_apart(tmp_path):
    write(tmp_path / "a/track1.ogg", "first song")
    write(tmp_path / "b/track1.ogg", "other song")
    # Of one size and one time, as after unpacking.
    for folder in "ab":
        os.utime(tmp_path / folder / "track1.ogg", (1e9, 1e9))
    assert [sorted(clip.tags) for clip in read_folders(tmp_path).clips] == [["a"], ["b"]]


def test_open_source(tmp_path):
    write(tmp_path / "set/rock/a.ogg", "1")
    path = write(tmp_path / "m.csv", "path,tags\na,x;y\n")
    assert open_source(tmp_path / "set").tags == ("rock",)
    assert open_source(write(tmp_path / "m.tsv", "path\ttags\na\tx\n")).tags == ("x",)
    assert open_source(write(tmp_path / "M.JSONL", '{"path": "a", "tags": ["x"]}')).tags == ("x",)
    with pytest.raises(ManifestNotFoundError, match="expected a manifest or a folder. Received: an empty path"):
        open_source("")
    assert open_source(path, tags=["y"]).tags == ("y",)
    assert open_source(write(tmp_path / "M.CSV", "path,tags\na,x\n")).tags == ("x",)
    with pytest.raises(ManifestNotFoundError, match="does not exist"):
        open_source(tmp_path / "none")
    with pytest.raises(ManifestError, match=r"expected a table of labels \(\.csv"):
        open_source(write(tmp_path / "x.xlsx", "1"))
    with pytest.raises(ManifestError, match="flat: expected labels: a folder per tag .* Received: 1 audio file "):
        open_source(write(tmp_path / "flat/a.ogg", "1").parent)


def test_demo_is_the_shipped_clips():
    manifest = open_source("demo")
    assert len(manifest) == 7
    assert {clip.split for clip in manifest.clips} == {"train"}
    assert all(Path(clip.path).exists() for clip in manifest.clips)


def test_links_that_lead_nowhere_are_reported(tmp_path):
    from keras_tagger.data.check import check

    write(tmp_path / "set/rock/a.ogg", "1")
    for tag in ("rock", "pop"):
        write(tmp_path / f"set/{tag}/notes.txt", "-")
        os.symlink("../gone.ogg", tmp_path / f"set/{tag}/b.ogg")
    os.symlink("gone.jpg", tmp_path / "set/pop/cover.jpg")
    manifest = read_folders(tmp_path / "set")
    found = {os.path.relpath(clip.path, tmp_path / "set"): sorted(clip.tags) for clip in manifest.clips}
    assert found == {"pop/b.ogg": ["pop"], "rock/a.ogg": ["rock"], "rock/b.ogg": ["rock"]}
    reasons = {Path(entry["path"]).parent.name: entry["reason"] for entry in check(manifest, workers=1).unreadable}
    assert "does not exist" in reasons["pop"]


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_names_that_are_not_utf8_survive(tmp_path, name):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.ogg")
    with open(path, "wb"):
        pass
    Manifest((Clip(path, {"x": 1.0}),), ("x",)).save(tmp_path / name)
    (found,) = read_manifest(tmp_path / name).clips
    assert os.fsencode(found.path).endswith(b"/caf\xe9.ogg")
    assert os.path.exists(found.path)


@pytest.mark.parametrize("row", [b"caf\xe9.ogg,x", b"a,\xe9", b'"a, \xff b",x'])
def test_other_text_that_is_not_utf8_is_refused(tmp_path, row):
    """A path is allowed to be other bytes only if the file exists."""
    path = write(tmp_path / "m.csv", b"path,tags\nb,x\n" + row + b"\n")
    with pytest.raises(
        ManifestError, match=r"m\.csv, line 3, column (path|tags): expected UTF-8 text\. Received: text in"
    ):
        read_manifest(path)


@pytest.mark.parametrize(
    ("cell", "tags"),
    [
        ("rock;guitar", {"rock": 1.0, "guitar": 1.0}),
        ("rock|guitar", {"rock": 1.0, "guitar": 1.0}),
        ("rock, guitar", {"rock": 1.0, "guitar": 1.0}),
        ("['rock', 'guitar']", {"rock": 1.0, "guitar": 1.0}),
        ("['rock' 'guitar']", {"rock": 1.0, "guitar": 1.0}),
        ("{'rock', 'guitar'}", {"rock": 1.0, "guitar": 1.0}),
        ("('rock', 'guitar')", {"rock": 1.0, "guitar": 1.0}),
        ('["rock", "guitar"]', {"rock": 1.0, "guitar": 1.0}),
        ("[rock, guitar]", {"rock": 1.0, "guitar": 1.0}),
        ('["rock, guitar"]', {"rock, guitar": 1.0}),
        ("{'rock': 0.8, 'guitar': 0.1}", {"rock": 0.8, "guitar": 0.1}),
        ('{"rock": 0.8, "guitar": 0.25}', {"rock": 0.8, "guitar": 0.25}),
        ("rock:0.8,guitar:0.1", {"rock": 0.8, "guitar": 0.1}),
        ("rock:0,8;guitar:0,1", {"rock": 0.8, "guitar": 0.1}),
        ("rock:0,8", {"rock": 0.8}),
        ("rock,70s", {"rock": 1.0, "70s": 1.0}),
        ("[live]", {"[live]": 1.0}),
        ("rock (live, 1970)|guitar", {"rock (live, 1970)": 1.0, "guitar": 1.0}),
        (" rock ;; guitar ; ", {"rock": 1.0, "guitar": 1.0}),
        ("[]", {}),
        ("  ", {}),
        ("7", {"7": 1.0}),
    ],
)
@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_cells_of_several_tags(tmp_path, name, cell, tags):
    with open(tmp_path / name, "w", newline="") as file:
        if name == "m.csv":
            csv.writer(file).writerows([["path", "tags"], ["a.ogg", cell], ["b.ogg", "pop"]])
        else:
            file.write("\n".join(json.dumps({"path": p, "tags": t}) for p, t in (("a.ogg", cell), ("b.ogg", "pop"))))
    manifest = read_manifest(tmp_path / name)
    assert manifest.clips[0].tags == tags
    # Whatever the tags contain, a saved manifest says the same.
    for again in ("again.csv", "again.jsonl"):
        manifest.save(tmp_path / again)
        assert read_manifest(tmp_path / again).clips == manifest.clips


def test_other_separators_are_told_once(tmp_path, caplog):
    write(tmp_path / "m.csv", "path,tags\na,\"rock,guitar\"\nb,['rock']\nc,pop\n")
    read_manifest(tmp_path / "m.csv")
    (told,) = caplog.messages
    assert told == (
        f"{tmp_path / 'm.csv'}, column tags: expected ';' between tags. Received: another form in 2 of 3 cells, which "
        "were read as several tags, for example 'rock,guitar' as 'rock' and 'guitar'."
    )


def test_a_comma_within_a_tag_is_told_and_kept(tmp_path, caplog):
    write(tmp_path / "m.csv", 'path,tags\na,"rock, pop;guitar"\nb,"drum, bass"\nc,drum:0.5;pop\n')
    assert read_manifest(tmp_path / "m.csv").tags == ("drum", "drum, bass", "guitar", "pop", "rock, pop")
    (told,) = caplog.messages
    assert "tags with a comma in 2 of 3 cells, for example 'rock, pop;guitar', were not split" in told
    caplog.clear()
    write(tmp_path / "m.jsonl", '{"path": "a", "tags": ["rock, pop", "x|y"]}')
    manifest = read_manifest(tmp_path / "m.jsonl")
    assert manifest.tags == ("rock, pop", "x|y")
    manifest.save(tmp_path / "again.csv")
    assert read_manifest(tmp_path / "again.csv").clips == manifest.clips
    assert caplog.messages == []


def test_tags_that_are_probably_one_and_missing_values_are_told(tmp_path, caplog):
    write(tmp_path / "m.csv", "path,tags\na,Rock;caf\u00e9\nb,rock;cafe\u0301\nc,rock\nd,nan\ne,N/A\n")
    read_manifest(tmp_path / "m.csv")
    alike, missing = caplog.messages
    assert "differ only in case, spaces or Unicode form" in alike
    assert "'Rock' (1) and 'rock' (2)" in alike
    assert "'cafe\\u0301' (1) and 'caf\\xe9' (1)" in alike
    assert missing.endswith("missing values are probably not meant to be tags: N/A, nan.")
    caplog.clear()
    read_manifest(tmp_path / "m.csv", tags=["rock"])
    assert caplog.messages == []


@pytest.mark.parametrize(
    "content",
    [
        'path;tags;split\na.ogg;"rock;guitar";train\n',
        "path\ttags\tsplit\na.ogg\trock;guitar\ttrain\n",
        '"tags","path","split"\r\n"rock;guitar","a.ogg","train"\r\n',
        "path;tags;split\r\na.ogg;rock|guitar;train\r\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_spreadsheets_write(tmp_path, content, encoding):
    manifest = read_manifest(write(tmp_path / "m.csv", content.encode(encoding)))
    (clip,) = manifest.clips
    assert (clip.path, dict(clip.tags), clip.split) == (
        str(tmp_path / "a.ogg"),
        {"rock": 1.0, "guitar": 1.0},
        "train",
    )


def test_utf16_without_its_mark_and_cut_short(tmp_path):
    with pytest.raises(ManifestError, match=r"m\.csv, line 1: expected one column path"):
        read_manifest(write(tmp_path / "m.csv", "path,tags\na,x\n".encode("utf-16-le")))
    with pytest.raises(ManifestError, match="expected UTF-8 text. Received: damaged UTF-16"):
        read_manifest(write(tmp_path / "m.csv", "path,tags\na,x\n".encode("utf-16")[:-1]))
    rows = '{"path": "a", "tags": ["\u00fc"]}'.encode("utf-16")
    assert read_manifest(write(tmp_path / "m.jsonl", rows)).tags == ("\u00fc",)


def test_paths_of_windows_and_of_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path / "sub/a.ogg", "1")
    write(tmp_path / "home/b.ogg", "1")
    write(tmp_path / "odd\\name.ogg", "1")
    write(tmp_path / "m.csv", "path,tags\nsub\\a.ogg,x\n~/b.ogg,x\nodd\\name.ogg,x\nno\\file.ogg,x\n")
    found = [os.path.relpath(clip.path, tmp_path) for clip in read_manifest(tmp_path / "m.csv").clips]
    assert found == ["sub/a.ogg", "home/b.ogg", "odd\\name.ogg", "no\\file.ogg"]
    write(tmp_path / "home/m.csv", "path,tags\na,x\n")
    assert open_source("~/m.csv").tags == ("x",)


def test_folders_of_devices_are_no_tags_and_empty_ones_are_told(tmp_path, caplog):
    root = tmp_path / "set"
    for folder in ("@eaDir", ".AppleDouble", "__MACOSX", ".git", "lost+found", "#recycle", "$RECYCLE.BIN"):
        write(root / folder / "a.mp3", "-")
        write(root / "rock" / folder / "a.mp3", "-")
    for name in ("rock/one.ogg", "rock/._one.ogg", "rock/Thumbs.db", "empty/cover.jpg", "void/x.txt", "loose.mp3"):
        write(root / name, "-")
    manifest = read_folders(root)
    assert manifest.tags == ("rock",)
    assert [os.path.relpath(clip.path, root) for clip in manifest.clips] == ["rock/one.ogg"]
    assert caplog.messages == [
        f"{root}: folders without audio files give no tag: empty, void.",
        f"{root}: audio files outside the tag folders are ignored: loose.mp3.",
        f"{root}: every clip has the tag rock, because tags are the folders directly below.",
    ]


def test_folders_of_splits_are_told(tmp_path, caplog):
    write(tmp_path / "train/rock/a.ogg", "1")
    write(tmp_path / "test/rock/b.ogg", "1")
    assert read_folders(tmp_path).tags == ("test", "train")
    (told,) = caplog.messages
    assert "the folders test, train were read as tags" in told
