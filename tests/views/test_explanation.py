"""Explanations as files, and the page."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

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


def test_a_page_holds_all_it_needs(tmp_path: Path) -> None:
    wave = noise(RATE)
    heat = Heatmap(np.ones((2, 10)), ("<b>", "c"), np.arange(10) * 0.1 + 0.05, "made", scores=[0.9, 0.1])
    text = write(heat, tmp_path / "map.html", (wave, RATE), "Tom & Jerry").read_text("utf-8")
    assert "Tom &amp; Jerry" in text
    assert '<td>&lt;b&gt;</td><td class="number">0.90</td>' in text
    assert not re.search(r"https?://|@import|url\(|(src|href)=\"(?!data:)", text)
    picture, *sounds = re.findall(r"src=\"data:(?:image/png|audio/flac);base64,([^\"]+)\"", text)
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert len(sounds) == 5  # the clip, and of each tag the kept part and the rest
    parts = [soundfile.read(io.BytesIO(base64.b64decode(sound)))[0] for sound in sounds]
    np.testing.assert_allclose(parts[0], np.clip(wave, -1, 1), atol=1e-4)
    np.testing.assert_allclose(parts[1] + parts[2], parts[0], atol=1e-4)
    # The line over the picture covers the axes, in time and in place.
    left, width, start, seconds = (
        float(re.search(pattern, text)[1])  # type: ignore[index]
        for pattern in (r"left = ([\d.]+) /", r"width = ([\d.]+) /", r"start = ([\d.]+)", r"seconds = ([\d.]+)")
    )
    assert (start, seconds) == (0.0, 1.0)
    assert 0 < left < 30
    assert 50 < width < 100 - left


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    heat = Heatmap(np.ones((1, 2)), ("a",), np.arange(2) + 0.5, "made")
    with pytest.raises(ModelError, match=r"ends in \.png, \.json, \.html, \.npz for a map. Received: '.*map\.pdf'"):
        write(heat, tmp_path / "map.pdf", b"")
