"""Explanations as files, and the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from keras_tagger.errors import ModelError
from keras_tagger.heatmap import Heatmap
from keras_tagger.views.explanation import write
from tiny import RATE, noise


def test_numbers_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    heat = Heatmap(rng.random((2, 3, 4)), ("a", "é"), np.arange(4) + 0.5, "made", np.arange(3) + 1.0, [0.25, 0.5])
    with np.load(write(heat, tmp_path / "map.npz", b"")) as stored:
        found = {name: stored[name] for name in stored.files}
    np.testing.assert_array_equal(found["values"], heat.values)
    np.testing.assert_array_equal(found["scores"], [0.25, 0.5])
    assert (found["tags"].tolist(), str(found["method"])) == (["a", "é"], "made")
    np.testing.assert_array_equal(found["frequencies"], [1, 2, 3])
    assert json.loads(write(heat, tmp_path / "map.json", b"").read_text("utf-8")) == heat.to_dict()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.json", "map.npz"]


def test_a_page_shows_the_map_in_a_player(tmp_path: Path) -> None:
    heat = Heatmap(np.ones((2, 10)), ("<b>", "c"), np.arange(10) * 0.1 + 0.05, "made", scores=[0.9, 0.1])
    text = write(heat, tmp_path / "map.html", (noise(RATE), RATE), "Tom & Jerry").read_text("utf-8")
    assert "<title>Tom &amp; Jerry</title>" in text
    inside = re.search(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    assert inside
    document = json.loads(inside[1])
    assert [one["rows"] for one in document["maps"]] == [["<b>", "c"]]
    assert document["audio"]["url"].startswith("data:audio/ogg;base64,")


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    heat = Heatmap(np.ones((1, 2)), ("a",), np.arange(2) + 0.5, "made")
    with pytest.raises(ModelError, match=r"ends in \.png, .*\.npz, .* for a heat map\. Received: '.*map\.docx'"):
        write(heat, tmp_path / "map.docx", b"")
