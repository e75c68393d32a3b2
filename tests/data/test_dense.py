"""Dense labels: their files, the labels of clips, and the labels of crops."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import soundfile

from keras_tagger.data.dense import DenseLabels, read_dense, write_dense
from keras_tagger.data.manifest import read_manifest
from keras_tagger.data.pipeline import n_stretches, training_dataset
from keras_tagger.data.prepare import prepare
from keras_tagger.data.prepared import open_prepared
from keras_tagger.errors import ManifestError, ManifestNotFoundError

NAN = float("nan")
RATE = 1000


def write_patches(path, values, hop=1.0, length=2.0, tags=("a", "b"), pool="mean"):
    np.savez(
        path,
        values=np.array(values, np.float16),
        tags=np.array(tags),
        hop_seconds=hop,
        length_seconds=length,
        pool=pool,
    )
    return path


def write_times(path, tags, seconds=4.0, stretch=1.0):
    path.write_text(json.dumps({"seconds": seconds, "stretch_seconds": stretch, "tags": tags, "piece": "ignored"}))
    return path


def test_patches_are_averaged(tmp_path):
    labels = read_dense(write_patches(tmp_path / "x.npz", [[0.5, 0.25], [1.0, 0.25], [0.0, 1.0]]))
    assert (labels.tags, labels.hop_seconds, labels.length_seconds) == (("a", "b"), 1.0, 2.0)
    assert labels.clip_tags() == {"a": 0.5, "b": 0.5}
    np.testing.assert_array_equal(labels.columns(("b", "z")), [[0.25, NAN], [0.25, NAN], [1.0, NAN]])


def test_a_tag_that_a_patch_does_not_know_is_unknown_for_the_clip(tmp_path):
    found = read_dense(write_patches(tmp_path / "x.npz", [[0.5, NAN], [1.0, 0.25]])).clip_tags()
    assert found["a"] == 0.75
    assert np.isnan(found["b"])


@pytest.mark.parametrize(
    ("seconds", "stretch", "count"),
    # 0.3 / 0.1 is a little less than 3; what is left at the end is no stretch; a short clip is one.
    [(0.3, 0.1, 3), (4.7, 1.0, 4), (4.0, 1.0, 4), (0.4, 1.0, 1)],
)
def test_whole_stretches_of_a_clip(tmp_path, seconds, stretch, count):
    labels = read_dense(write_times(tmp_path / "x.json", {"a": [[0.0, seconds]]}, seconds, stretch))
    assert labels.values.shape == (count, 1)
    assert (labels.hop_seconds, labels.length_seconds, labels.pool) == (stretch, stretch, "max")


def test_times_become_stretches(tmp_path):
    labels = read_dense(
        write_times(tmp_path / "x.json", {"a": [[0.2, 0.4], [1.0, 1.5], [3.0, 4.0]], "b": [], "c": [[0.9, 1.2]]})
    )
    # By hand: 0.2 of the first second is in doubt, half of the second is enough, the third is silent.
    np.testing.assert_array_equal(labels.values, [[NAN, 0, NAN], [1, 0, NAN], [0, 0, 0], [1, 0, 0]])
    found = labels.clip_tags()
    assert (found["a"], found["b"]) == (1.0, 0.0)
    assert np.isnan(found["c"])


def test_notes_of_a_chord_count_once(tmp_path):
    """Three simultaneous notes of 0.3 s are not 0.9 s of a tag."""
    chord = [[0.1, 0.4], [0.0, 0.3], [0.1, 0.3]]
    labels = read_dense(write_times(tmp_path / "x.json", {"a": chord, "b": [[1.0, 3.0], [1.2, 1.4], [2.9, 3.6]]}))
    np.testing.assert_array_equal(labels.values, [[NAN, 0], [0, 1], [0, 1], [0, 1]])


@pytest.mark.parametrize(
    ("content", "received"),
    [
        ({"tags": {"a": [[0.0, 1.0], [3.0, 2.0]]}}, "a from 3 to 2 s"),
        ({"tags": {"a": [[NAN, 1.0]]}}, "a from nan to 1 s"),
        ({"tags": {"a": [[0.0, float("inf")]]}}, "a from 0 to inf s"),
        ({"tags": {"a": [["soon", 1.0]]}}, "'soon'"),
        ({"tags": {"a": []}, "seconds": -4.0}, "seconds -4 and stretch_seconds 1"),
        ({"tags": {"a": []}, "seconds": 1e12}, "seconds 1e+12 and stretch_seconds 1"),
        ({"tags": {"a": []}, "stretch": float("inf")}, "seconds 4 and stretch_seconds inf"),
        ({"tags": {"a": []}, "stretch": 1e-9}, "seconds 4 and stretch_seconds 1e-09"),
    ],
)
def test_impossible_times_are_refused(tmp_path, content, received):
    path = write_times(tmp_path / "x.json", **content)
    with pytest.raises(ManifestError, match=r"x\.json: expected dense labels \(.npz or .json\)\. Received: ") as error:
        read_dense(path)
    assert received in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": [[0.5, 1.5]]}, "values in 0..1 or NaN"),
        ({"values": [[0.5, -0.25]]}, "values in 0..1 or NaN"),
        ({"values": np.zeros((0, 2))}, "at least one stretch and tag. Received: (0, 2)"),
        ({"values": [[0.5]]}, "a column per tag. Received: (1, 1)"),
        ({"tags": ("a", "a")}, "no duplicate tags"),
        ({"hop": 0.0}, "a hop and length of 0.001 to 100000"),
        ({"hop": float("inf")}, "a hop and length of 0.001 to 100000"),
        ({"hop": 1e-9}, "a hop and length of 0.001 to 100000"),
        ({"length": float("inf")}, "a hop and length of 0.001 to 100000"),
        ({"length": NAN}, "a hop and length of 0.001 to 100000"),
        ({"tags": (("a", "b"),)}, "Received: tags of shape (1, 2)"),
        ({"pool": "median"}, "one of the pools mean, max. Received: median"),
    ],
)
def test_impossible_labels_are_refused(tmp_path, change, message):
    path = write_patches(tmp_path / "x.npz", **{"values": [[0.5, 0.5]], **change})
    with pytest.raises(ManifestError) as error:
        read_dense(path)
    assert message in str(error.value)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(ManifestNotFoundError, match="which does not exist"):
        read_dense(tmp_path / "no.npz")
    (tmp_path / "x.npz").write_bytes(b"PK nothing")
    (tmp_path / "x.json").write_text('{"seconds": 3}')
    for name in ("x.npz", "x.json"):
        with pytest.raises(ManifestError, match=rf"{name}: expected dense labels \(.npz or .json\). Received: "):
            read_dense(tmp_path / name)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Three clips of 8 s with patches, intervals and plain tags; tag b of the last is unknown."""
    folder = tmp_path_factory.mktemp("dense")
    for index in range(3):
        ramp = (1000 * (index + 1) + np.arange(8 * RATE) // 10).astype(np.int16)
        soundfile.write(folder / f"{index}.wav", ramp, RATE, subtype="PCM_16")
    write_patches(folder / "0.npz", [[i / 8, 1 - i / 8] for i in range(7)], hop=1.0, length=2.0)
    write_times(folder / "1.json", {"a": [[2.0, 3.0]], "c": []}, seconds=8.0, stretch=0.5)
    rows = [
        {"path": "0.wav", "labels": "0.npz", "split": "train"},
        {"path": "1.wav", "labels": "1.json", "tags": {}, "split": "train"},
        {"path": "2.wav", "tags": {"c": 1.0, "b": None}, "split": "train"},
    ]
    rows[0]["tags"] = None
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = read_manifest(folder / "m.jsonl")
    return manifest, prepare(manifest, folder / "out", RATE, segment_seconds=4.0)


def test_what_is_not_named_is_unknown(mixed):
    manifest, prepared = mixed
    expected = [[0.375, 0.625, NAN], [1.0, NAN, 0.0], [0.0, NAN, 1.0]]
    assert manifest.tags == ("a", "b", "c")
    np.testing.assert_array_equal(manifest.labels(), np.array(expected, np.float32))
    again = open_prepared(prepared.dir)
    order = np.argsort([clip.index for clip in again.clips])
    np.testing.assert_array_equal(again.labels("train")[order], np.array(expected, np.float32))


def test_a_manifest_keeps_labels_and_unknowns(mixed, tmp_path):
    manifest, _ = mixed
    for name in ("again.csv", "again.jsonl"):
        manifest.save(tmp_path / name)
        again = read_manifest(tmp_path / name)
        assert again.tags == manifest.tags
        np.testing.assert_array_equal(again.labels(), manifest.labels())
        assert [clip.labels for clip in again.clips] == [clip.labels for clip in manifest.clips]


def test_tags_and_labels_exclude_each_other(tmp_path):
    write_times(tmp_path / "x.json", {"a": []})
    (tmp_path / "m.csv").write_text("path,tags,labels\nx.wav,a,x.json\n")
    with pytest.raises(
        ManifestError, match=r"line 2: expected either tags or labels. Received: both, \['a'\] and 'x.json'"
    ):
        read_manifest(tmp_path / "m.csv")


def test_a_crop_has_the_labels_of_the_stretches_inside_it(mixed, tmp_path):
    manifest, _ = mixed
    # Every copy has crops at other places.
    copies = dataclasses.replace(manifest, clips=manifest.clips * 10)
    prepared = prepare(copies, tmp_path / "out", RATE, segment_seconds=4.0)
    window = 2500
    assert n_stretches(prepared, "train", window) == 5
    seen, begins = set(), set()
    for epoch in range(2):
        for wave, labels, values, bounds in training_dataset(
            prepared, "train", window, 4, seed=1, epoch=epoch, with_stretches=True
        ):
            for crop, label, stretches, limits in zip(
                np.rint(wave.numpy() * 32767), labels.numpy(), values.numpy(), bounds.numpy(), strict=True
            ):
                assert stretches.shape == (5, 3)
                clip = int(crop[0]) // 1000 - 1
                inside = limits[:, 1] > 0
                assert np.isnan(stretches[~inside]).all()
                seen.add(clip)
                if clip == 2:
                    assert not inside.any()
                    np.testing.assert_array_equal(label, [0, NAN, 1])
                    continue
                # Sample n of a clip has the value 1000 (clip + 1) + n // 10: where does the crop begin?
                begin = 10 * (crop[0] - 1000 * (clip + 1))
                begins.add((clip, begin))
                starts = begin + limits[inside, 0]
                if not inside.any():  # shorter than a stretch and its hop: the clip's labels
                    assert clip == 0
                    np.testing.assert_array_equal(label, np.array([0.375, 0.625, NAN], np.float32))
                    continue
                hop, length = (1000, 2000) if clip == 0 else (500, 500)
                assert (limits[inside, 1] - limits[inside, 0] == length).all()
                index = np.rint(starts / hop).astype(int)
                assert np.abs(starts - index * hop).max() <= 11
                if clip == 0:
                    np.testing.assert_allclose(stretches[inside, 0], index / 8)
                    np.testing.assert_allclose(label[:2], [index.mean() / 8, 1 - index.mean() / 8], atol=1e-6)
                    assert np.isnan(label[2])
                else:
                    np.testing.assert_array_equal(stretches[inside, 0], (index == 4) | (index == 5))
                    # The note is from 2 to 3 s; a crop that only cuts into a stretch of it does not know.
                    if begin <= 2480 and begin + window >= 2520:
                        assert label[0] == 1
                    elif begin > 3020 or begin + window < 1980:
                        assert label[0] == 0
                    assert label[2] == 0
                    assert np.isnan(label[1])
    assert seen == {0, 1, 2}
    assert len(begins) > 120


def test_what_is_written_is_read(tmp_path):
    values = np.array([[0.25, np.nan], [1.0, 0.0]], np.float32)
    write_dense(tmp_path / "new" / "a.npz", DenseLabels(("x", "y"), values, 1.5, 3.0, "mean"))
    found = read_dense(tmp_path / "new" / "a.npz")
    assert (found.tags, found.hop_seconds, found.length_seconds, found.pool) == (("x", "y"), 1.5, 3.0, "mean")
    np.testing.assert_array_equal(found.values, values)
