"""tools/pretrain/teacher.py: the labels of a manifest; with musicnn's wheel, those of musicnn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import musicnn_wheel
import tiny
from keras_tagger import audio
from keras_tagger.data.manifest import Clip, read_manifest
from keras_tagger.errors import ModelError
from keras_tagger.teachers import musicnn
from keras_tagger.teachers.models import TaggerTeacher
from musicnn_wheel import CLIPS, RECORDED, ROOT, WHEEL, needs_wheel, sigmoid
from pretrain import teacher


@pytest.fixture(scope="module")
def random_network():
    return musicnn_wheel.random_network()


@pytest.fixture(scope="module")
def random_teacher(random_network):
    return musicnn.MusicnnTeacher({"": random_network})


@pytest.fixture
def labelled(random_teacher, tmp_path):
    """A folder of three readable clips and two that are not, and its labels."""
    music = tmp_path / "music"
    tiny.write_tones(music, {"train": 1}, seconds=(4.0, 6.0))
    (music / "broken.wav").write_bytes(b"RIFF nothing")
    (music / "manifest.csv").write_text(
        "path,tags,start,end\ntrain_low_0.wav,low,,\ntrain_low_0.wav,low,0.5,4\nbroken.wav,low,,\n"
        "train_mid_0.wav,mid,,\nmissing.wav,mid,,\n"
    )
    manifest = read_manifest(music / "manifest.csv")
    index = teacher.label_manifest(random_teacher, manifest, tmp_path / "labels", hop_seconds=0.5)
    return manifest, tmp_path / "labels", index


def rows_of(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text("utf-8").splitlines()]


def test_labels_are_those_of_the_patches(random_network, random_teacher, labelled):
    manifest, out, index = labelled
    assert json.loads((out / "index.json").read_text("utf-8")) == index
    assert index["tags"] == list(random_teacher.tags)
    assert index["hop_seconds"] == 0.5
    rows = rows_of(out)
    assert [(row["path"], row.get("start"), row.get("end")) for row in rows] == [
        ("../music/train_low_0.wav", None, None),
        ("../music/train_low_0.wav", 0.5, 4.0),
        ("../music/train_mid_0.wav", None, None),
    ]
    assert {row["labels"] for row in rows} | {"index.json", "manifest.jsonl"} == {path.name for path in out.iterdir()}
    waveform = audio.load(manifest.clips[1].path, 16000, 0.5, 4.0)
    logits, times = random_network.patches(waveform, 0.5)
    assert len(times) == 2
    with np.load(out / rows[1]["labels"]) as labels:
        assert labels["values"].dtype == np.float16
        np.testing.assert_allclose(labels["values"], sigmoid(logits), atol=5e-4)
        assert labels["tags"].tolist() == list(random_teacher.tags)
        assert labels["hop_seconds"] == 0.5
        assert labels["length_seconds"] == pytest.approx(2.992)
        assert labels["pool"] == "mean"


def test_what_cannot_be_read_is_reported(labelled):
    _, _, index = labelled
    assert [failed["id"] for failed in index["failed"]] == ["broken.wav", "missing.wav"]
    assert all("expected" in failed["reason"].lower() for failed in index["failed"])


def test_labelling_goes_on_where_it_was(random_teacher, labelled):
    manifest, out, _ = labelled
    kept, lost = (out / row["labels"] for row in rows_of(out)[:2])
    before = lost.read_bytes()
    lost.unlink()
    times = kept.stat().st_mtime_ns
    broken = Path(manifest.clips[2].path)
    broken.write_bytes(Path(manifest.clips[0].path).read_bytes())
    again = teacher.label_manifest(random_teacher, manifest, out, hop_seconds=0.5)
    assert kept.stat().st_mtime_ns == times
    with np.load(lost) as labels:
        first = labels["values"]
    lost.write_bytes(before)
    with np.load(lost) as labels:
        np.testing.assert_array_equal(first, labels["values"])
    assert [Path(row["path"]).name for row in rows_of(out)] == [
        "train_low_0.wav",
        "train_low_0.wav",
        "broken.wav",
        "train_mid_0.wav",
    ]
    assert [failed["id"] for failed in again["failed"]] == ["missing.wav"]


def test_labels_of_other_settings_are_not_mixed(random_network, random_teacher, labelled):
    manifest, out, _ = labelled
    with pytest.raises(ModelError, match=r"expected labels with hop_seconds=0.5. Received: 1.0\."):
        teacher.label_manifest(random_teacher, manifest, out, hop_seconds=1.0)
    other = musicnn.MusicnnTeacher({"": musicnn.Musicnn("MSD", random_network.model)})
    with pytest.raises(ModelError, match=r"expected labels with teacher=\['musicnn 0.1.0, MTT'\]. Received: .*MSD"):
        teacher.label_manifest(other, manifest, out, hop_seconds=0.5)


def test_ids_are_relative_to_the_manifest():
    assert teacher.relative_id(Clip("/a/b/c.ogg", {"x": 1.0}), "/a") == "b/c.ogg"
    assert teacher.relative_id(Clip("/a/b/c.ogg", {"x": 1.0}, 1.0, 2.5), "/a") == "b/c.ogg#t=1,2.5"
    assert teacher.relative_id(Clip("gs://a/c.ogg", {"x": 1.0}), "/a") == "gs://a/c.ogg"


def test_a_tagger_of_your_own_labels_too(labelled, tmp_path):
    manifest, _, _ = labelled
    own = TaggerTeacher(tiny.random_tagger(), "own")
    index = teacher.label_manifest(own, manifest, tmp_path / "own")
    assert (index["teacher"], index["tags"]) == (["own"], list(tiny.TAGS))
    assert len(rows_of(tmp_path / "own")) == 3


@needs_wheel
def test_program_labels_a_manifest(tmp_path):
    (tmp_path / "clips.csv").write_text(f"path,tags\n{CLIPS / 'flute_solo.ogg'},flute\n")
    command = [sys.executable, ROOT / "tools/pretrain/teacher.py", "--manifest", tmp_path / "clips.csv"]
    done = subprocess.run(
        [*command, "--out", tmp_path / "labels", "--hop_seconds", str(musicnn.PATCH_SECONDS), "--hidden", "MTT"],
        env={**os.environ, musicnn.WHEEL_VARIABLE: str(WHEEL), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 clips labelled, 0 failed: ")
    index = json.loads((tmp_path / "labels/index.json").read_text("utf-8"))
    (row,) = rows_of(tmp_path / "labels")
    with np.load(tmp_path / "labels" / row["labels"]) as labels:
        found = labels["values"]
    with np.load(RECORDED / "musicnn_flute_solo.npz") as recorded:
        expected = recorded["taggram_MTT"]
    assert len(index["tags"]) == 250
    np.testing.assert_allclose(found[:, :50], expected, atol=3e-3)
    assert index["tags"][int(np.argmax(expected.mean(axis=0)))] == "flute"
