"""The commands `data check` and `data prepare`."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys

import numpy as np
import pytest
import soundfile

import public_sets as sets
from keras_tagger.data.manifest import read_manifest
from keras_tagger.data.prepared import open_prepared
from keras_tagger.data.splits import assign_splits
from keras_tagger.errors import AudioWarning


def test_data_check_and_prepare(call, tones, tmp_path):
    status, out, _ = call("data", "check", tones, "--json")
    assert (status, json.loads(out)["clips"]) == (0, 24)
    rows = tones.read_text().splitlines()
    broken = tones.parent / "broken.csv"
    (tones.parent / "broken.mp3").write_bytes(b"")
    broken.write_text("\n".join([*rows, "broken.mp3,low,train"]) + "\n")
    status, out, _ = call("data", "check", broken)
    assert status == 1
    assert "broken.mp3" in out
    status, out, _ = call("data", "prepare", broken, "--out", tmp_path / "prepared")
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert [line[:3] for line in lines[:3]] == [
        ["train", "12", "clips"],
        ["valid", "6", "clips"],
        ["test", "6", "clips"],
    ]
    assert out.splitlines()[3] == f"prepared: {tmp_path / 'prepared'} (1 unreadable files skipped)"
    assert (tmp_path / "prepared" / "index.json").exists()


def test_data_prepare_with_splits_of_its_own(call, tones, tmp_path):
    bare = tones.parent / "bare.csv"
    bare.write_text("\n".join(row.rsplit(",", 1)[0] for row in tones.read_text().splitlines()) + "\n")
    how = ("--valid", 0.25, "--test", 0.125, "--seed", 4, "--sample_rate", 8000, "--workers", 1)
    status, out, err = call("data", "prepare", bare, "--out", tmp_path / "prepared", *how)
    assert status == 0, err
    prepared = open_prepared(tmp_path / "prepared")
    assert prepared.sample_rate == 8000
    wanted = {clip.path: clip.split for clip in assign_splits(read_manifest(bare), 0.25, 0.125, 4).clips}
    assert {clip.path: clip.split for clip in prepared.clips} == wanted
    assert wanted != {clip.path: clip.split for clip in assign_splits(read_manifest(bare), 0.25, 0.125).clips}
    for line, split in zip(out.splitlines(), ("train", "valid", "test"), strict=False):
        hours = sum(clip.seconds for clip in prepared.select(split)) / 3600
        assert line.split() == [split, str(prepared.n_clips(split)), "clips", f"{hours:.2f}", "h"]


def test_check_counts_a_data_set(call, tmp_path):
    root = sets.make_mtat(tmp_path / "mtat")
    status, out, _ = call("data", "check", "mtat", "--root", root)
    rows = [line.split() for line in out.splitlines()]
    assert status == 0
    assert ["split", "annotated", "published", "with", "audio"] in rows
    assert ["train", "2", "15247", "2"] in rows
    assert ["guitar", "1", "1", "1", "3"] in rows
    status, out, _ = call("data", "check", "mtat", "--root", root, "--subset", "all", "--decode", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["splits"]["train"] == {"annotated": 3, "published": 18709, "with_audio": 3}
    assert found["decoded"]["splits"]["valid"]["clips"] == 1
    shutil.rmtree(root / "f")
    status, out, _ = call("data", "check", "mtat", "--root", root, "--decode")
    assert status == 1
    assert "mtat: expected the audio of 5 clips" in out
    assert "4 clips of 4 tracks" in out


def test_prepare_a_data_set(call, tmp_path):
    root = sets.make_jamendo(tmp_path / "jamendo", "genre", 2, audio="audio")
    arguments = ("--root", root, "--subset", "genre", "--split_index", 2, "--out", tmp_path / "prepared")
    status, out, _ = call("data", "prepare", "mtg_jamendo", *arguments)
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines()[:3]] == [["train", "3"], ["valid", "1"], ["test", "2"]]
    shutil.rmtree(root / "audio" / "13")
    status, _, err = call("data", "prepare", "mtg_jamendo", *arguments)
    assert status == 1
    assert "a folder without 1 of them (first: 13/213.mp3)" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("data", "check", "mtat"), "expected --root DIR, the folder of mtat. Received: no --root."),
        (("data", "check", "fma", "--root", "."), "data.dataset: expected one of mtat, mtg_jamendo, msd, gtzan."),
        (("data", "check", "gtzan", "--root", "absent"), "the audio from the Marsyas page"),
        (("data", "check", "my.csv", "--subset", "clean"), "--subset: expected --root"),
        (
            ("data", "check", "my.csv", "x.wav"),
            "expected one manifest, or audio without labels. Received: my.csv x.wav.",
        ),
        (("data", "check", "gtzan", "mtat", "--root", "x"), "--root: expected the name of one data set."),
        (("data", "check", "x.wav", "--subset", "clean"), "--subset: expected --root"),
        (("compare", "absent", "absent"), "expected a report.json or its directory. Received: absent"),
    ],
    ids=lambda value: "-".join(value[1:3]) if isinstance(value, tuple) else "",
)
def test_mistakes_get_one_sentence(call, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(*arguments)
    assert (status, out) == (1, "")
    assert [line for line in err.splitlines() if said in line and line.startswith("keras-tagger: ")]


def test_check_audio_without_labels(call, tones, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flat").mkdir()
    clips = sorted(tones.parent.glob("train_low_*.wav"))
    for index, path in enumerate(clips[:2]):
        shutil.copy(path, tmp_path / "flat" / f"{index}.wav")
    (tmp_path / "flat" / "bad.mp3").write_text("no music")
    status, out, err = call("data", "check", "flat", "--json")
    found = json.loads(out)
    assert (status, err) == (1, "")
    assert (found["clips"], found["splits"]["(none)"]["clips"], found["tags"], found["untagged"]) == (3, 2, {}, [])
    assert [entry["id"] for entry in found["unreadable"]] == ["flat/bad.mp3"]
    assert found["warnings"] == []
    (tmp_path / "mix.m3u").write_text("flat/0.wav\ngone.wav\nhttp://example.com/a.mp3\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(clips[2].read_bytes())))
    status, _, err = call("data", "check", "mix.m3u", "-", "flat", "--output", "found.csv")
    assert status == 1
    assert err.startswith("keras-tagger: Expected files in the playlist 'mix.m3u'")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "found.csv").read_text())))
    seconds = [soundfile.info(str(path)).duration for path in clips[:3]]
    assert [(row["file"], row["problem"], row["seconds"] and float(row["seconds"])) for row in rows] == [
        ("http://example.com/a.mp3", "unreadable", ""),
        ("flat/0.wav", "", pytest.approx(seconds[0], abs=1e-3)),
        ("gone.wav", "unreadable", ""),
        ("-", "", pytest.approx(seconds[2], abs=1e-3)),
        ("flat/0.wav", "", pytest.approx(seconds[0], abs=1e-3)),
        ("flat/1.wav", "", pytest.approx(seconds[1], abs=1e-3)),
        ("flat/bad.mp3", "unreadable", ""),
    ]
    assert rows[2]["message"] == "Expected an audio file. Received: 'gone.wav', which does not exist."


def test_check_writes_a_row_per_clip_of_a_manifest(call, tones, tmp_path):
    status, out, _ = call("data", "check", tones, "--format", "jsonl")
    found = [json.loads(line) for line in out.splitlines()]
    manifest = read_manifest(tones)
    assert (status, [row["file"] for row in found]) == (0, [clip.clip_id for clip in manifest.clips])
    assert [list(row) for row in found] == [["file", "seconds", "warnings"]] * len(manifest)
    assert call("data", "check", tones, "--output", tmp_path / "summary.txt")[1] == ""
    assert (tmp_path / "summary.txt").read_text() == call("data", "check", tones)[1]
    before = manifest.clips[0].path
    status, _, err = call("data", "check", tones, "--output", before)
    assert (status, "--output: expected a file that is not an input" in err) == (1, True)


def test_warnings_are_listed(call, tmp_path, monkeypatch):
    """Clips that a listener must know about are no failure."""
    soundfile.write(tmp_path / "x.wav", np.zeros(8000), 8000)

    def blocks(path, **how):
        how["warnings"].append(AudioWarning("silent", "x.wav is silent."))
        return [np.zeros(16000, np.float32)]

    monkeypatch.setattr("keras_tagger.audio.blocks", blocks)
    status, out, _ = call("data", "check", tmp_path / "x.wav")
    assert status == 0
    assert f"warnings: 1\n  {tmp_path / 'x.wav'}: x.wav is silent." in out
    found = json.loads(call("data", "check", tmp_path / "x.wav", "--json")[1])["warnings"]
    assert [(entry["kind"], entry["message"]) for entry in found] == [("silent", "x.wav is silent.")]
    rows = list(csv.reader(call("data", "check", tmp_path / "x.wav", "--format", "csv")[1].splitlines()))
    assert rows[1] == [str(tmp_path / "x.wav"), "1.000", "silent", "x.wav is silent."]
