"""Sidecars, read back by the parsers of their formats."""

from __future__ import annotations

import json

import jams
import numpy as np
import pyexiv2
import pytest

from keras_tagger.errors import LibraryError
from keras_tagger.library.sidecars import check_own, is_done, sidecar_path, write_sidecar
from keras_tagger.library.writing import Origin
from keras_tagger.tags import TagInfo, make_tags

ORIGIN = Origin("tiny", "12345678", "1.0", "87654321")
FIELDS = {"genre": ["R&B", "Rock <live>"], "mood": ["Calm"], "instrument": ['12" Guitar']}
TAGS = make_tags(
    ["rock", "calm"], np.array([0.75, 0.25]), {"rock": TagInfo(), "calm": TagInfo(0.2)}, None, False, (), "score", 3.5
)


@pytest.fixture
def written(tmp_path):
    paths = {}
    for kind in ("json", "jams", "xmp"):
        paths[kind] = sidecar_path(tmp_path / "song.mp3", kind)
        write_sidecar(paths[kind], kind, TAGS, FIELDS, ORIGIN)
    return paths


def test_json(written):
    assert written["json"].name == "song.mp3.json"
    found = json.loads(written["json"].read_text("utf-8"))
    assert found == {
        **{"origin": str(ORIGIN), "fields": FIELDS, "tags": {"rock": 0.75, "calm": 0.25}},
        "present": ["rock", "calm"],
    }


def test_jams(written):
    found = jams.load(str(written["jams"]), validate=True, strict=True)
    assert found.file_metadata.duration == 3.5
    assert [(row.value, row.confidence) for row in found.annotations[0].data] == [("rock", 0.75), ("calm", 0.25)]
    assert found.sandbox["keras_tagger"]["fields"] == FIELDS


def test_xmp(written):
    # Exiv2 holds Adobe's own XMP toolkit.
    with pyexiv2.Image(str(written["xmp"])) as image:
        found = image.read_xmp()
    assert found["Xmp.dc.subject"] == ["R&B", "Rock <live>", "Calm", '12" Guitar']
    assert found["Xmp.xmpDM.genre"] == "R&B, Rock <live>"
    assert found["Xmp.xmpDM.instrument"] == '12" Guitar'
    assert found["Xmp.xmp.CreatorTool"] == str(ORIGIN)


def test_a_sidecar_of_this_origin_is_done(written, tmp_path):
    for path in written.values():
        assert is_done(path, ORIGIN)
        assert not is_done(path, Origin("tiny", "12345678", "1.1", "87654321"))
        check_own(path)
    other = tmp_path / "other.mp3.xmp"
    assert not is_done(other, ORIGIN)
    check_own(other)
    other.write_text("<x:xmpmeta/>")
    with pytest.raises(LibraryError, match="expected a sidecar of keras_tagger to replace, or --replace"):
        check_own(other)
