"""JAMS files, read back and validated by the package `jams`."""

from __future__ import annotations

import io
import json

import jams
import numpy as np
import pytest

from keras_tagger.heatmap import Heatmap
from keras_tagger.tags import make_tags


def read(content):
    return jams.load(io.StringIO(json.dumps(content)), validate=True, strict=True, fmt="jams")


def test_tags():
    tags = make_tags(["voice", "größe"], np.array([0.75, 0.25]), None, None, False, seconds=30.25)
    found = read(tags.to_jams())
    assert found.file_metadata.duration == 30.25
    (annotation,) = found.search(namespace="tag_open")
    rows = [(row.time, row.duration, row.value, row.confidence) for row in annotation.data]
    assert rows == [(0.0, 30.25, "voice", 0.75), (0.0, 30.25, "größe", 0.25)]
    assert annotation.annotation_metadata.data_source == "program"


def test_a_map():
    values = np.array([[0.25, 0.5, 1.0], [0.0, 0.125, 0.0]], np.float32)
    heat = Heatmap(values, ["guitar", "drums"], np.array([0.5, 1.5, 2.5]), "contributions")
    found = read(heat.to_jams())
    for annotation, name, row in zip(found.annotations, heat.tags, values, strict=True):
        intervals, names = annotation.to_interval_values()
        np.testing.assert_allclose(intervals, [[0, 1], [1, 2], [2, 3]])
        assert names == [name] * 3
        assert [observation.confidence for observation in annotation.data] == row.tolist()
    # What JAMS does with it: the value at a time.
    assert found.annotations[0].to_samples([1.2], confidence=True) == ([["guitar"]], [[0.5]])


def test_a_map_that_is_shown_before_its_first_centre_has_no_negative_times():
    heat = Heatmap(np.ones((1, 2), np.float32), ["a"], np.array([0.2, 1.2]), "attention")
    assert read(heat.to_jams()).annotations[0].data[0].time == pytest.approx(0.0)
