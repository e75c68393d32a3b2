"""Label tracks and chapters, read back by parsers of their formats."""

from __future__ import annotations

import html
import io
import itertools
import re

import numpy as np
import pytest
import webvtt

from keras_tagger.attention import Attention, AttentionWindow
from keras_tagger.errors import ModelError
from keras_tagger.heatmap import Heatmap
from keras_tagger.interchange.labels import Label, audacity, high_stretches, leading_stretches
from keras_tagger.interchange.labels import webvtt as write_webvtt
from keras_tagger.tags import TagInfo, make_tags

NAMES = ["guitar", "drums & <bass>"]
TAGS = make_tags(NAMES, np.array([0.9, 0.3]), {NAMES[0]: TagInfo(), NAMES[1]: TagInfo(0.2)}, None, False, seconds=12.5)


def read_audacity(text):
    """The rules of Audacity's import: lines of start, end and text between tabs; times are numbers with a point."""
    rows = []
    for line in text.splitlines():
        match = re.fullmatch(r"(\d+\.\d+)\t(\d+\.\d+)\t([^\t]*)", line)
        assert match is not None, line
        assert float(match[1]) <= float(match[2])
        rows.append((float(match[1]), float(match[2]), match[3]))
    return rows


def heat():
    values = np.zeros((2, 100), np.float32)
    values[0, 10:20] = 0.8
    values[1, 40:45] = values[1, 60:65] = 0.6
    return Heatmap(values, NAMES, np.arange(100) * 0.5 + 0.25, "contributions")


def test_stretches_are_where_a_row_is_among_its_highest_tenth():
    assert [(label.start, label.end, label.name, round(label.value, 3)) for label in heat().stretches()] == [
        (5.0, 10.0, "guitar", 0.8),
        (20.0, 22.5, "drums & <bass>", 0.6),
        (30.0, 32.5, "drums & <bass>", 0.6),
    ]
    assert high_stretches(["silence"], np.zeros((1, 5)), np.arange(6.0)) == []


def test_the_highest_row_leads():
    curves = np.array([[0.9, 0.9, 0.1, 0.9, 0.1, 0.1], [0.5] * 6])
    found = leading_stretches(["a", "b"], curves, np.arange(7.0))
    # One second is too short for a chapter.
    assert [(label.start, label.end, label.name) for label in found] == [(0.0, 4.0, "a"), (4.0, 6.0, "b")]


def test_audacity_labels_are_read_back():
    assert read_audacity(TAGS.to_audacity()) == [(0.0, 12.5, "guitar"), (0.0, 12.5, "drums & <bass>")]
    assert read_audacity(heat().to_audacity())[0] == (5.0, 10.0, "guitar")
    assert read_audacity(audacity([Label(1.0, 2.0, "tab\tand\nline", 1.0)])) == [(1.0, 2.0, "tab and line")]


def test_webvtt_is_read_back():
    (chapter,) = webvtt.from_string(TAGS.to_webvtt())
    assert (chapter.start, chapter.end, html.unescape(chapter.text)) == (
        "00:00:00.000",
        "00:00:12.500",
        "guitar, drums & <bass>",
    )
    times = [(cue.start_in_seconds, cue.end_in_seconds) for cue in webvtt.from_buffer(io.StringIO(heat().to_webvtt()))]
    assert times[0][0] == 0
    assert times[-1][1] == 50
    assert all(one[1] == other[0] for one, other in itertools.pairwise(times))
    long = webvtt.from_string(write_webvtt([Label(3600.0, 86400.0015, "day", 1.0)]))[0]
    assert (long.start, long.end) == ("01:00:00.000", "24:00:00.002")


def test_attention_has_the_same_formats():
    weights = np.full((2, 1, 5, 5), 0.2, np.float32)
    attention = Attention((AttentionWindow(0.0, weights, 4),), 0.5)
    frame = attention.to_dataframe()
    assert list(frame.columns) == ["tag", "time", "value"]
    assert len(frame) == 2 * 4
    assert len(attention.to_jams()["annotations"]) == 2
    assert attention.to_webvtt().startswith("WEBVTT")
    assert "layer 1, all heads" in attention.to_audacity()
    assert "colour3dplot" in attention.to_sonic_visualiser()


def test_a_map_over_frequency_is_summed_except_in_a_data_frame():
    values = np.arange(12, dtype=np.float32).reshape(1, 2, 6)
    found = Heatmap(values, ["a"], np.arange(6.0), "gradients", frequencies=np.array([100.0, 200.0]))
    np.testing.assert_array_equal(found.curves(), values.sum(axis=1))
    frame = found.to_dataframe()
    assert list(frame.columns) == ["tag", "time", "frequency", "value"]
    assert frame.query("frequency == 200 and time == 3").value.item() == 9


def test_tags_without_a_length_have_no_labels():
    with pytest.raises(ModelError, match="tags of a clip of known length"):
        make_tags(NAMES, np.array([0.9, 0.3]), None, None, False).to_audacity()


def test_slices_and_merged_tags_keep_the_length():
    assert TAGS[:1].seconds == TAGS.top(1).seconds == 12.5
    assert make_tags(["voice", "vocal"], np.ones(2), None, None, True, seconds=3.0).seconds == 3.0
