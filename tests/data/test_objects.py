"""Labelled audio in Python objects; tests/train/test_anyone.py trains on them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas
import pytest
import tensorflow as tf

from keras_tagger.data.manifest import Clip
from keras_tagger.data.sources import open_source
from keras_tagger.errors import ManifestError

PAIRS = [("one.mp3", ["rock", "loud"]), (Path("two.mp3"), "jazz"), ("three.mp3", {"jazz": 0.3, "rock": None})]
FRAME = pandas.DataFrame(
    {
        "Filename": ["one.mp3", "two.mp3"],
        "genre": ["rock;loud", "jazz"],
        "split": ["train", None],
        "start": [1.0, np.nan],
    }
)


def plain(data):
    return [
        (os.path.basename(clip.path), {tag: label for tag, label in clip.tags.items() if label == label})
        for clip in open_source(data).clips
    ]


def test_pairs_and_dictionaries():
    expected = [
        ("one.mp3", {"rock": 1.0, "loud": 1.0}),
        ("two.mp3", {"jazz": 1.0}),
        ("three.mp3", {"jazz": 0.3}),
    ]
    assert plain(PAIRS) == plain(dict(PAIRS)) == plain(iter(PAIRS)) == expected
    manifest = open_source(PAIRS)
    assert manifest.tags == ("jazz", "loud", "rock")
    assert np.isnan(manifest.clips[2].tags["rock"])
    assert manifest.clips[0].path == os.path.abspath("one.mp3")
    assert open_source(PAIRS, tags=["rock", "jazz"]).tags == ("rock", "jazz")
    rows = [{"path": "one.mp3", "tags": ("rock",), "split": "test", "group": "band"}]
    assert open_source(rows).clips[0] == Clip(os.path.abspath("one.mp3"), {"rock": 1.0}, split="test", group="band")
    assert open_source([Clip("one.mp3", {"rock": 1.0}, 3.0, 5.0)]).clips[0].end_seconds == 5.0


def test_data_frames():
    first, second = open_source(FRAME).clips
    assert (first.tags, first.split, first.start_seconds) == ({"rock": 1.0, "loud": 1.0}, "train", 1.0)
    assert (second.tags, second.split, second.start_seconds) == ({"jazz": 1.0}, None, 0.0)
    wide = pandas.DataFrame({"path": ["a.mp3", "b.mp3"], "rock": [1, 0], "calm": [0.25, np.nan], "year": [1999, 2001]})
    first, second = open_source(wide).clips
    assert (first.tags, second.tags["rock"]) == ({"calm": 0.25, "rock": 1.0}, 0.0)
    assert np.isnan(second.tags["calm"])
    with pytest.raises(ManifestError, match="data: expected a column path. Received: the columns song, tags"):
        open_source(pandas.DataFrame({"song": ["a"], "tags": ["b"]}))


def test_by_split():
    manifest = open_source({"train": PAIRS, "test": FRAME[["Filename", "genre"]].assign(Filename=["x.mp3", "y.mp3"])})
    assert [clip.split for clip in manifest.clips] == ["train"] * 3 + ["test"] * 2
    assert manifest.tags == ("jazz", "loud", "rock")


def test_datasets(tmp_path):
    rng = np.random.default_rng(0)
    waves = rng.uniform(-0.5, 0.5, (4, 800)).astype(np.float32)
    labels = np.array([[1, 0], [0, 1], [0.5, np.nan], [1, 1]], np.float32)
    single = tf.data.Dataset.from_tensor_slices((waves, labels))
    manifest = open_source(single, ["rock", "jazz"], sample_rate=8000, work_dir=tmp_path)
    np.testing.assert_array_equal(manifest.labels(), labels)
    from keras_tagger import audio

    found = audio.load(manifest.clips[2].path, 8000)
    np.testing.assert_allclose(found, waves[2], atol=2**-14)
    # Batches of the same clips are the same clips, which are written once.
    again = open_source(single.batch(3), sample_rate=8000, work_dir=tmp_path)
    assert [clip.path for clip in again.clips] == [clip.path for clip in manifest.clips]
    assert again.tags == ("tag_0", "tag_1")
    assert len(list(tmp_path.iterdir())) == 1
    for wrong, message in (
        (single.repeat(), "expected a finite tf.data.Dataset"),
        (single.take(0), "expected a tf.data.Dataset with examples"),
        (single.map(lambda wave, label: wave), r"expected a tf.data.Dataset of \(waveform \[samples\], labels"),
    ):
        with pytest.raises(ManifestError, match=message):
            open_source(wrong, work_dir=tmp_path)
    with pytest.raises(ManifestError, match="expected a name for each of the 2 labels.*Received: 1 names"):
        open_source(single, ["rock"], work_dir=tmp_path)


@pytest.mark.parametrize("wrong", [3, object(), b"song.mp3", [1, 2], ["song.mp3"], [("a.mp3", "rock", 3)]])
def test_anything_else(wrong):
    with pytest.raises(ManifestError, match="data: expected (a path, a list of|pairs of)"):
        open_source(wrong)
