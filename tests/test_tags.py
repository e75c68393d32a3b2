"""Tags: order, entries, thresholds, evidence, synonyms, and the text they are kept in."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_tagger.errors import AudioWarning, ModelError
from keras_tagger.tags import (
    SYNONYMS,
    TagInfo,
    Tags,
    TagScore,
    UnknownTagError,
    info_from_json,
    info_to_json,
    make_tags,
    merged,
)
from keras_tagger.teachers.musicnn import TAGS as PUBLISHED

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
    assert tags.present is not None
    assert tags.heard is not None
    # 0.1 as float32 is a little more than 0.1: a score at its threshold is present.
    assert tags.present.tolist() == [True, False, False, True, True]
    assert tags.heard.tolist() == [False, True, True, True, True]
    top = make_tags(NAMES, SCORES, INFO, 2, False)
    assert [(tag.name, tag.present, tag.heard) for tag in top] == [("harp", True, False), ("guitar", False, True)]


@pytest.fixture
def tags() -> Tags:
    return make_tags(NAMES, SCORES, INFO, None, False)


def test_a_sequence_of_entries(tags: Tags) -> None:
    assert len(tags) == 5
    assert tags[0] == TagScore("harp", pytest.approx(0.9), True, False)
    assert tags[-1].name == "woman"
    assert tags["guitar"] == tags[1] == TagScore("guitar", pytest.approx(0.7), False, True)
    assert float(tags["guitar"]) == tags["guitar"].score == float(SCORES[0])
    assert [entry.name for entry in tags if entry.present] == ["harp", "voice", "woman"]
    assert [entry.score for entry in tags] == tags.scores.tolist()
    assert "guitar" in tags
    assert "kazoo" not in tags
    assert tags[1] in tags
    assert TagScore("guitar", 0.5) not in tags
    assert next(reversed(tags)) == tags[4]


def test_a_slice_is_tags(tags: Tags) -> None:
    some = tags[1:3]
    assert isinstance(some, Tags)
    assert some.names == ("guitar", "vocals")
    assert list(some) == [tags[1], tags[2]]
    assert list(tags[9:]) == []


def test_a_tag_that_is_not_there(tags: Tags) -> None:
    with pytest.raises(KeyError) as caught:
        tags["kazoo"]
    assert isinstance(caught.value, UnknownTagError)
    assert isinstance(caught.value, ModelError)
    text = "expected one of the tags harp, guitar, vocals, voice, woman. Received: 'kazoo'."
    assert str(caught.value) == text
    with pytest.raises(IndexError):
        tags[5]


def test_thresholds_that_nobody_knows() -> None:
    tags = make_tags(NAMES, SCORES, None, None, True)
    assert tags.names == ("harp", "guitar", "vocals", "woman")
    assert (tags.present, tags.heard) == (None, None)
    assert tags["harp"] == TagScore("harp", pytest.approx(0.9), None, None)
    assert tags[:1].present is None
    assert "present" not in tags._repr_html_()


def test_texts_and_tables(tags: Tags) -> None:
    assert str(tags) == "harp 0.90, guitar 0.70, vocals 0.60, voice 0.40, woman 0.10"
    assert repr(tags) == "Tags(harp 0.90, guitar 0.70, vocals 0.60, ... 5 in all)"
    assert repr(tags[:1]) == "Tags(harp 0.90)"
    assert list(tags.to_dict().items())[:2] == [("harp", float(SCORES[3])), ("guitar", float(SCORES[0]))]
    odd = make_tags(["<b>&"], np.ones(1), {"<b>&": TagInfo(has_evidence=False)}, None, False)
    table = odd._repr_html_()
    assert "&lt;b&gt;&amp;</td><td>1.000</td>" in table
    assert ">present, not heard in training</td>" in table
    assert "<b>" not in table
    assert "color" not in table


def test_to_dataframe_has_a_column_for_each_field(tags: Tags, monkeypatch: pytest.MonkeyPatch) -> None:
    # pandas is not among the dependencies: the arguments are those of its DataFrame.
    module = types.ModuleType("pandas")
    module.DataFrame = lambda data, columns: (data, columns)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", module)
    data, columns = tags[:1].to_dataframe()
    assert columns == ["name", "score", "present", "heard"]
    assert data == [{"name": "harp", "score": pytest.approx(0.9), "present": True, "heard": False}]
    monkeypatch.setitem(sys.modules, "pandas", None)
    expected = r'to_dataframe needs pandas\. Install it with: pip install "keras_tagger\[dataframe\]"'
    with pytest.raises(ImportError, match=expected):
        tags.to_dataframe()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (lambda tags: tags.as_dict(), "to_dict()", {"harp": float(SCORES[3])}),
        (lambda tags: list(tags.items()), "to_dict().items()", [("harp", float(SCORES[3]))]),
        (lambda tags: list(tags.keys()), "names", ["harp"]),
        (lambda tags: list(tags.values()), "scores", [float(SCORES[3])]),
    ],
)
def test_deprecated_names(tags: Tags, old: Callable[[Tags], Any], new: str, expected: Any) -> None:
    with pytest.warns(DeprecationWarning, match=r"is deprecated; use Tags\.") as caught:
        assert old(tags[:1]) == expected
    assert str(caught[0].message).endswith(f"use Tags.{new}.")
    assert caught[0].filename == __file__


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


SILENT = AudioWarning("silent", "'a.wav' is silent: there is <nothing> to hear.")
LEVEL = AudioWarning("level", "'a.wav': the samples reach 20000.")


def test_warnings_stay_with_the_tags() -> None:
    tags = make_tags(NAMES, SCORES, INFO, 4, True, [LEVEL])
    assert tags.warnings == tags[:2].warnings == (LEVEL,)
    assert str(tags[:2]) == "harp 0.90, guitar 0.70 (level)"
    assert repr(tags) == "Tags(harp 0.90, guitar 0.70, vocals 0.60, ... 4 in all (level))"
    assert make_tags(NAMES, SCORES, INFO, 4, True).warnings == ()


def test_a_page_shows_the_warnings_escaped() -> None:
    shown = make_tags(NAMES, SCORES, INFO, None, False, [SILENT, LEVEL])._repr_html_()
    assert shown.endswith(
        "</table><p>&#x27;a.wav&#x27; is silent: there is &lt;nothing&gt; to hear.</p>"
        "<p>&#x27;a.wav&#x27;: the samples reach 20000.</p>"
    )


@pytest.mark.parametrize("merge", [False, True])
def test_nothing_is_present_in_silence(merge: bool) -> None:
    info = {**INFO, "harp": TagInfo(threshold=0.0)}
    tags = make_tags(NAMES, SCORES, info, None, merge, [SILENT])
    assert not tags.scores.any()
    assert tags.present is not None
    assert not tags.present.any()
    assert str(tags[:1]) == "guitar 0.00 (silent)"
    assert make_tags(NAMES, SCORES, None, None, merge, [SILENT]).present is None
