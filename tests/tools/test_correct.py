"""The teacher's labels of rendered scores, corrected by the scores."""

from __future__ import annotations

import json

import numpy as np
import pytest

from keras_tagger.data.dense import DenseLabels, read_dense, write_dense
from keras_tagger.errors import ManifestError
from pretrain.correct import correct, correct_manifest

PRESENT, ABSENT = 0.4, 0.08
TAGS = ("harp", "piano", "female", "no vocals", "techno")


def _dense(*values):
    """Patches of 3 s, one every 2 s."""
    return DenseLabels(TAGS, np.array(values, np.float32), 2.0, 3.0, "mean")


def test_what_sounds_is_raised_and_what_does_not_is_lowered():
    dense = _dense([0.01, 0.9, 0.5, 0.1, 0.3], [0.6, 0.02, 0.05, 0.1, 0.3])
    found = correct(
        dense, {"harp": [[0.0, 30.0]], "piano": [], "female": [], "no vocals": [[0.0, 30.0]]}, PRESENT, ABSENT
    )
    np.testing.assert_allclose(found[0], [PRESENT, ABSENT, ABSENT, 0.1, 0.3])
    # What is on the right side already stays the teacher's.
    np.testing.assert_allclose(found[1], [0.6, 0.02, 0.05, 0.1, 0.3])


def test_times_are_those_of_patches():
    dense = _dense(*[[0.2, 0.2, 0.2, 0.2, 0.2]] * 4)  # 0-3, 2-5, 4-7, 6-9 s
    found = correct(dense, {"harp": [[2.5, 2.7], [6.5, 7.0]]}, PRESENT, ABSENT)
    # 0.2 s of the first two patches is too short to say; 0.5 s of the last two is enough.
    np.testing.assert_allclose(found[:, 0], [0.2, 0.2, PRESENT, PRESENT])
    np.testing.assert_allclose(found[:, 1:], 0.2)


def test_what_the_score_does_not_know_stays():
    dense = _dense([0.2, 0.2, 0.2, 0.2, 0.2])
    np.testing.assert_array_equal(correct(dense, {"techno": [[0.0, 3.0]]}, PRESENT, ABSENT), dense.values)


def test_a_manifest(tmp_path):
    scores, labels, out = (tmp_path / name for name in ("scores", "labels", "out"))
    for folder in (scores, labels):
        folder.mkdir()
    (scores / "a.json").write_text(json.dumps({"seconds": 3.0, "stretch_seconds": 0.5, "tags": {"harp": [[0, 3]]}}))
    (scores / "manifest.jsonl").write_text('{"path": "a.flac", "tags": {}, "labels": "a.json", "split": "train"}\n')
    np.savez(labels / "b.npz", values=[[0.01]], tags=["harp"], hop_seconds=2.0, length_seconds=3.0, pool="mean")
    row = {"path": "../scores/a.flac", "tags": {}, "labels": "b.npz", "split": "train", "group": "piece"}
    (labels / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    assert correct_manifest(scores / "manifest.jsonl", labels / "manifest.jsonl", out, PRESENT, ABSENT) == 1
    assert json.loads((out / "manifest.jsonl").read_text()) == row
    assert read_dense(out / "b.npz").clip_tags() == pytest.approx({"harp": PRESENT}, abs=1e-3)


def test_only_corrected_tags_have_labels_if_wanted(tmp_path):
    scores, labels, out = (tmp_path / name for name in ("scores", "labels", "out"))
    for folder in (scores, labels):
        folder.mkdir()
    (scores / "a.json").write_text(json.dumps({"seconds": 3.0, "stretch_seconds": 0.5, "tags": {"harp": [[0, 3]]}}))
    (scores / "manifest.jsonl").write_text('{"path": "a.flac", "tags": {}, "labels": "a.json", "split": "train"}\n')
    write_dense(labels / "b.npz", _dense([0.01, 0.2, 0.2, 0.2, 0.2]))
    (labels / "manifest.jsonl").write_text('{"path": "../scores/a.flac", "tags": {}, "labels": "b.npz"}\n')
    paths = (scores / "manifest.jsonl", labels / "manifest.jsonl", out)
    correct_manifest(*paths, PRESENT, ABSENT, only_corrected=True)
    found = read_dense(out / "b.npz").clip_tags()
    kept = {"harp": PRESENT, "piano": 0.2, "female": 0.2, "no vocals": np.nan, "techno": np.nan}
    assert found == pytest.approx(kept, abs=1e-3, nan_ok=True)


def test_a_clip_that_is_no_score_is_refused(tmp_path):
    np.savez(tmp_path / "b.npz", values=[[0.01]], tags=["harp"], hop_seconds=2.0, length_seconds=3.0, pool="mean")
    (tmp_path / "m.jsonl").write_text('{"path": "a.flac", "tags": {}, "labels": "b.npz", "split": "train"}\n')
    with pytest.raises(ManifestError, match=r"expected intervals of every clip .* Received: none of '.*a.flac'"):
        correct_manifest(tmp_path / "m.jsonl", tmp_path / "m.jsonl", tmp_path / "out", PRESENT, ABSENT)
