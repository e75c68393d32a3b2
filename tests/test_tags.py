"""Tags: order, thresholds, evidence, synonyms, and the text they are kept in."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from keras_tagger.errors import ModelError
from keras_tagger.tags import (
    SYNONYMS,
    TagInfo,
    info_from_json,
    info_to_json,
    make_tags,
    merged,
)
from pretrain.teacher import TAGS as PUBLISHED

NAMES = ("guitar", "voice", "vocals", "harp", "woman")
SCORES = np.array([0.7, 0.4, 0.6, 0.9, 0.1], np.float32)
INFO = {
    "guitar": TagInfo(threshold=0.8),
    "voice": TagInfo(threshold=0.3),
    "vocals": TagInfo(threshold=0.65),
    "harp": TagInfo(has_evidence=False),
    "woman": TagInfo(threshold=0.1),
}


def test_best_first_with_thresholds_and_evidence() -> None:
    tags = make_tags(NAMES, SCORES, INFO, None, False)
    assert tags.names == ("harp", "guitar", "vocals", "voice", "woman")
    np.testing.assert_array_equal(tags.scores, SCORES[[3, 0, 2, 1, 4]])
    # 0.1 as float32 is a little more than 0.1: a score at its threshold is present.
    assert tags.present.tolist() == [True, False, False, True, True]
    assert tags.heard.tolist() == [False, True, True, True, True]
    top = make_tags(NAMES, SCORES, INFO, 2, False)
    assert (top.names, top.present.tolist(), top.heard.tolist()) == (("harp", "guitar"), [True, False], [False, True])


def test_merged_is_the_largest_under_one_of_the_names() -> None:
    tags = make_tags(NAMES, SCORES, INFO, None, True)
    # vocals comes before voice in the table; woman is alone and stays.
    assert tags.names == ("harp", "guitar", "vocals", "woman")
    np.testing.assert_array_equal(tags.scores, SCORES[[3, 0, 2, 4]])
    # voice reaches its own threshold.
    assert tags.present.tolist() == [True, False, True, True]
    assert make_tags(NAMES, SCORES, INFO, 3, True).names == ("harp", "guitar", "vocals")


def test_names_without_evidence_speak_only_alone() -> None:
    scores, present = np.array([0.2, 0.9], np.float32), np.array([False, True])
    names, found, there, heard = merged(("choir", "choral"), scores, present, np.array([True, False]))
    assert (names, there.tolist(), heard.tolist()) == (("choir",), [False], [True])
    np.testing.assert_array_equal(found, scores[:1])
    _, found, there, heard = merged(("choir", "choral"), scores, present, np.array([False, False]))
    assert (there.tolist(), heard.tolist()) == ([True], [False])
    np.testing.assert_array_equal(found, scores[1:])


def test_synonyms_are_names_of_the_published_vocabularies() -> None:
    published = {*PUBLISHED["MTT"], *PUBLISHED["MSD"]}
    listed = [name for group in SYNONYMS for name in group]
    assert set(listed) <= published
    assert len(set(listed)) == len(listed)
    everything = np.ones(50, bool)
    for vocabulary, left in (("MTT", 50 - 3 - 2 - 3 - 3 - 1 - 1 - 1), ("MSD", 47)):
        names = merged(PUBLISHED[vocabulary], np.zeros(50, np.float32), everything, everything)[0]
        assert len(names) == left
        assert set(names) <= set(PUBLISHED[vocabulary])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"threshold": 1.5}, "threshold: expected a number in 0..1. Received: 1.5"),
        ({"threshold": float("nan")}, "threshold: expected a number in 0..1. Received: nan"),
        ({"threshold": "0.5"}, "threshold: expected a number in 0..1. Received: '0.5'"),
        ({"has_evidence": 1}, "has_evidence: expected true or false. Received: 1"),
        ({"calibrated": None}, "calibrated: expected true or false. Received: None"),
        ({"train_clips": -1}, "train_clips: expected a number of clips. Received: -1"),
    ],
)
def test_impossible_info(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        TagInfo(**values)


def test_info_as_text() -> None:
    info = {"a;b": TagInfo(0.25, True, True, 12), "ü": TagInfo(0.5, False, False, 0)}
    text = info_to_json(["a;b", "ü"], info)
    assert json.loads(text)[0] == {
        **{"tag": "a;b", "threshold": 0.25, "has_evidence": True, "calibrated": True, "train_clips": 12}
    }
    assert "ü" in text
    assert info_from_json(text, ["a;b", "ü"]) == info
    with pytest.raises(ModelError, match="expected the model's tags in order .* Received: a;b, ü"):
        info_from_json(text, ["ü", "a;b"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "expected JSON"),
        ("3", "expected a list of objects"),
        ("[3]", "expected a list of objects"),
        ('[{"tag": "a", "level": 1}]', "expected a list of objects"),
        ('[{"tag": "a", "threshold": 2}]', "threshold: expected"),
        ('[{"tag": "b", "threshold": 0.5}]', r"expected the model's tags in order \(a\). Received: b"),
        ("[]", "expected the model's tags in order"),
    ],
)
def test_text_that_is_no_info(text: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        info_from_json(text, ["a"])
    assert "\n" not in str(caught.value)
