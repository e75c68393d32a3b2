"""The programs around the teacher: cutting clips, joining manifests, measuring."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import soundfile

import tiny
from keras_tagger import audio
from keras_tagger.data.manifest import read_manifest
from pretrain import clips, join, measure


@pytest.fixture
def corpus(tmp_path):
    """Three tracks of 65, 40 and 8 s, of packages of different splits, and one that is broken."""
    rows = []
    for name, package, seconds in (
        ("a", "naev-data", 65),
        ("b", "warmux-data", 40),
        ("c", "zaz-data", 8),
        ("d", "zaz-data", 0),
    ):
        path = tmp_path / "corpus" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, tiny.noise(seconds * 16000, seed=seconds), 16000)
        rows.append(
            {"path": path.name, "package": package, "group": f"{package}/{name}", "track": name, "licence": "X"}
        )
    with open(tmp_path / "corpus/manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "corpus"


def test_tracks_are_cut_into_clips_by_package(corpus, tmp_path):
    rows = clips.cut_corpus(corpus, tmp_path / "clips")
    # By hand: 65 = 30 + 35, since 5 s are too short for a clip of their own; 40 = 30 + 10.
    assert [(row["path"], row["seconds"], row["split"]) for row in rows] == [
        ("naev-data/000_0000.flac", 30.0, "train"),
        ("naev-data/000_0001.flac", 35.0, "train"),
        ("warmux-data/000_0000.flac", 30.0, "test"),
        ("warmux-data/000_0001.flac", 10.0, "test"),
        ("zaz-data/000_0000.flac", 8.0, "valid"),
    ]
    manifest = read_manifest(tmp_path / "clips/manifest.jsonl")
    joined = np.concatenate([audio.load(clip.path, 16000) for clip in manifest.clips[:2]])
    np.testing.assert_allclose(joined, audio.load(corpus / "a.wav", 16000), atol=1e-4)
    # What is done is not decoded again.
    (corpus / "a.wav").unlink()
    assert clips.cut_corpus(corpus, tmp_path / "clips") == rows


def test_no_package_is_in_two_splits():
    assert not set(clips.SPLITS["test"]) & set(clips.SPLITS["valid"])
    assert len(clips.SPLITS["test"]) >= 3


def test_manifests_are_joined_without_the_test_split(tmp_path):
    for name, splits in (("a", ("train", "test")), ("b", ("valid",))):
        (tmp_path / name).mkdir()
        tiny_rows = [{"path": f"{s}.wav", "labels": f"{s}.npz", "tags": {}, "split": s} for s in splits]
        (tmp_path / name / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tiny_rows))
    found = join.join([tmp_path / "a/m.jsonl", tmp_path / "b/m.jsonl"], tmp_path / "out/all.jsonl")
    assert [(row["path"], row["labels"], row["split"]) for row in found] == [
        ("../a/train.wav", "../a/train.npz", "train"),
        ("../b/valid.wav", "../b/valid.npz", "valid"),
    ]
    assert len(join.join([tmp_path / "a/m.jsonl"], tmp_path / "out/all.jsonl", test=True)) == 2


def test_ranks_of_equals_are_averaged():
    np.testing.assert_array_equal(measure._ranks(np.array([3.0, 1.0, 3.0, 2.0])), [3.5, 1.0, 3.5, 2.0])


def test_a_tagger_measured_against_itself_is_perfect(tmp_path):
    """Labels that are the tagger's own scores: every rank agrees, so do the best five."""
    tags = ("piano", "drums", "flute", "harp", "choir", "sitar")
    tagger = tiny.random_tagger(tags=tags)
    rows = []
    for index in range(12):
        soundfile.write(tmp_path / f"{index}.wav", tiny.noise(24000, seed=index), 16000)
        scores = tagger.scores(tmp_path / f"{index}.wav")
        rows.append({"path": f"{index}.wav", "tags": dict(zip(tags, scores.tolist(), strict=True)), "split": "test"})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = read_manifest(tmp_path / "m.jsonl")
    text = measure.real_table(tagger, manifest)
    assert "| overlap of the best 5 tags, mean | 5.000 of 5 |" in text
    assert "| Spearman correlation across clips, mean over all 6 tags | 1.0000 |" in text
    assert "12 clips" in text
    positive = measure.POSITIVE
    labels = manifest.labels()
    text = measure.scores_table(tagger, manifest, manifest)
    column = manifest.tags.index("piano")
    n_positive = int((labels[:, column] > 0.5).sum())
    assert f"| piano | {n_positive} | {12 - n_positive} |" in text
    assert positive == 0.3
