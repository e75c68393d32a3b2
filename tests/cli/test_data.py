"""The commands `data check` and `data prepare`."""

from __future__ import annotations

import json
import shutil

import pytest

import public_sets as sets
from keras_tagger.data.manifest import read_manifest
from keras_tagger.data.prepared import open_prepared
from keras_tagger.data.splits import assign_splits


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
        (("compare", "absent", "absent"), "expected a report.json or its directory. Received: absent"),
    ],
    ids=lambda value: "-".join(value[1:3]) if isinstance(value, tuple) else "",
)
def test_mistakes_get_one_sentence(call, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(*arguments)
    assert (status, out) == (1, "")
    assert [line for line in err.splitlines() if said in line and line.startswith("keras-tagger: ")]
