"""The map from tags to fields."""

from __future__ import annotations

import numpy as np
import pytest

from keras_tagger.data.datasets.vocabularies import MSD_50, MTAT_50
from keras_tagger.errors import ConfigError
from keras_tagger.library.fields import read_field_map
from keras_tagger.tags import TagInfo, make_tags

NAMES = ["guitar", "rock", "slow", "piano", "sitar", "vocal", "voice"]
SCORES = np.array([0.6, 0.9, 0.4, 0.2, 0.9, 0.7, 0.8], np.float32)
INFO = {name: TagInfo(0.5) for name in NAMES} | {"slow": TagInfo(0.1), "sitar": TagInfo(0.5, has_evidence=False)}


def test_the_map_of_the_package_knows_both_vocabularies():
    values = read_field_map().values
    assert list(values) == ["genre", "mood", "instrument"]
    known = {tag for by_tag in values.values() for tag in by_tag}
    assert known == {*MTAT_50, *MSD_50}


def test_thresholds_and_evidence_decide():
    tags = make_tags(NAMES, SCORES, INFO, None, False)
    # slow is far above its threshold; nobody has heard a sitar; two names of one thing are one value.
    assert read_field_map().fields(tags) == {
        "genre": ["Rock"],
        "mood": ["Slow"],
        "instrument": ["Vocals", "Guitar"],
    }
    assert read_field_map().fields(tags, most=1)["instrument"] == ["Vocals"]


def test_tags_without_thresholds_are_refused():
    with pytest.raises(ConfigError, match="expected tags with thresholds"):
        read_field_map().fields(make_tags(NAMES, SCORES, None, None, False))


def test_a_map_of_the_user(tmp_path):
    path = tmp_path / "fields.yaml"
    path.write_text("genre: {rock: [Rock, Loud Rock]}\nusage: {slow: Sleep}\n")
    field_map = read_field_map(path)
    tags = make_tags(NAMES, SCORES, INFO, None, False)
    assert field_map.fields(tags) == {"genre": ["Rock", "Loud Rock"], "usage": ["Sleep"]}
    assert field_map.digest != read_field_map().digest


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("bpm: {fast: '180'}", r"expected genre, mood, instrument or a field of your own\. Received: 'bpm'"),
        ("genre: [rock]", "genre: expected tags and values"),
        ("genre: {rock: 3}", "genre: rock: expected a value or a list"),
        ("- genre", "expected field, tag and value"),
        ("genre: {", "expected a YAML file of fields"),
    ],
)
def test_a_map_that_cannot_be_used(tmp_path, text, match):
    path = tmp_path / "fields.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=match):
        read_field_map(path)
