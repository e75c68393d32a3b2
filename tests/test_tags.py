"""Tags: order, entries, thresholds, evidence, synonyms, and the text they are kept in."""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_tagger.errors import AudioWarning, ModelError
from keras_tagger.tags import (
    NO_VOICES,
    SYNONYMS,
    VOICES,
    TagInfo,
    Tags,
    TagScore,
    UnknownTagError,
    info_from_json,
    info_to_json,
    judged,
    make_tags,
    margin,
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
    assert columns == ["name", "score", "present", "heard", "margin"]
    assert data == [{"name": "harp", "score": pytest.approx(0.9), "present": True, "heard": False, "margin": None}]
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
    names, scores = ("choir", "choral"), np.array([0.2, 0.9], np.float32)
    margins, present = np.array([-1, np.nan], np.float32), np.array([False, True])
    found = merged(Tags(names, scores, present, np.array([True, False]), margins=margins))
    assert list(found) == [TagScore("choir", float(scores[0]), False, True)]
    assert found["choir"].margin == -1
    found = merged(Tags(names, scores, present, np.array([False, False]), margins=np.full(2, np.nan)))
    assert list(found) == [TagScore("choir", float(scores[1]), True, False)]
    assert found["choir"].margin is None


def test_synonyms_are_names_of_the_published_vocabularies() -> None:
    published = {*PUBLISHED["MTT"], *PUBLISHED["MSD"]}
    listed = [name for group in SYNONYMS for name in group]
    assert {*listed, *VOICES, *NO_VOICES} <= published
    assert not {*VOICES} & {*NO_VOICES}
    # No name that says something about voices is in neither family.
    about = {name for name in published if re.search("voc|voice|sing|male|woman|^man$|choi|choral|opera", name)}
    assert about == {*VOICES, *NO_VOICES} - {"instrumental"}
    assert len(set(listed)) == len(listed)
    for vocabulary, left in (("MTT", 50 - 3 - 2 - 3 - 3 - 1 - 1 - 1), ("MSD", 47)):
        names = merged(Tags(PUBLISHED[vocabulary], np.zeros(50, np.float32))).names
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
        ({"clips_with": 1.5}, "clips_with: expected a number of clips. Received: 1.5"),
        ({"clips_without": "3"}, "clips_without: expected a number of clips. Received: '3'"),
        ({"false_alarm_rate": 5}, "false_alarm_rate: expected a number in 0..1. Received: 5"),
        ({"false_alarm_rate": "5 %"}, "false_alarm_rate: expected a number in 0..1. Received: '5 %'"),
        ({"threshold": None}, "threshold: expected a number in 0..1. Received: None"),
        ({"rule": 1}, "rule: expected a name. Received: 1"),
        ({"evidence_from": True}, "evidence_from: expected a name. Received: True"),
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
    fitted = TagInfo(0.25, True, True, 0, "false_alarms", 0.048, 31, 125, "compact")
    assert info_from_json(info_to_json(["a"], {"a": fitted}), ["a"]) == {"a": fitted}
    # A file of an older version, and what it may leave out.
    old = '[{"tag": "a", "threshold": 0.3, "has_evidence": true, "calibrated": false, "train_clips": null}]'
    assert info_from_json(old, ["a"]) == info_from_json('[{"tag": "a", "threshold": 0.3}]', ["a"])
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


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_margin_is_a_difference_of_log_odds() -> None:
    scores, thresholds = np.array([0.34, 0.28, 0.05]), np.array([0.29, 0.1, 0.5])
    expected = [logit(p) - logit(t) for p, t in zip(scores, thresholds, strict=True)]
    found = margin(scores, thresholds)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # Certain scores and thresholds of 0 and 1 have finite margins, and a threshold itself is no distance away.
    corners = margin([0.0, 1.0, 0.0, 1.0, 0.5, 0.5], [0.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(corners, np.array([0, 0, -2, 2, 1, -1]) * logit(1 - 1e-6), rtol=1e-5)


def test_margins_have_the_sign_of_present() -> None:
    rng = np.random.default_rng(0)
    names, thresholds = [f"tag {i}" for i in range(2000)], rng.random(2000).round(2).clip(0.01, 0.99)
    # Half of the scores are exactly at a threshold, or at the float32 number beside it.
    step = rng.choice([-1, 0, 1], 2000)
    near = np.where(step, np.nextafter(thresholds.astype(np.float32), step.astype(np.float32)), np.float32(thresholds))
    scores = np.where(rng.random(2000) < 0.5, near, rng.random(2000)).astype(np.float32)
    tags = make_tags(names, scores, {n: TagInfo(float(t)) for n, t in zip(names, thresholds, strict=True)}, None, False)
    assert tags.present is not None
    assert tags.margins is not None
    np.testing.assert_array_equal(tags.present, tags.margins >= 0)
    assert 0 < tags.present.sum() < 2000


def test_ranked_by_margin() -> None:
    tags = make_tags(NAMES, SCORES, INFO, None, False, rank="margin")
    # voice exceeds its threshold by most, woman is at its own, harp means nothing though its score is the highest.
    assert tags.names == ("voice", "woman", "vocals", "guitar", "harp")
    np.testing.assert_array_equal(tags.scores, SCORES[[1, 4, 2, 0, 3]])
    assert tags["voice"].margin == pytest.approx(logit(0.4) - logit(0.3), abs=1e-5)
    assert tags["woman"].margin == 0
    assert tags["harp"].margin is None
    by_score = make_tags(NAMES, SCORES, INFO, None, False)
    assert by_score.top(2, "margin").names == by_score.top(rank="margin")[:2].names == ("voice", "woman")
    assert by_score.top(2).names == tags.top(2, "score").names == ("harp", "guitar")
    assert make_tags(NAMES, SCORES, INFO, 2, True, [LEVEL], rank="margin").names == ("vocals", "woman")
    assert by_score.top(1, "margin").warnings == by_score.warnings
    # Tags without examples are last, the highest score first.
    lost = {name: TagInfo(has_evidence=name == "woman") for name in NAMES}
    assert make_tags(NAMES, SCORES, lost, None, False, rank="margin").names[:3] == ("woman", "harp", "guitar")


def test_a_rank_that_cannot_be() -> None:
    with pytest.raises(ModelError, match=r"^rank: expected score or margin\. Received: 'size'\.$"):
        make_tags(NAMES, SCORES, INFO, None, False, rank="size")
    with pytest.raises(ModelError, match=r"^rank: expected 'score' if the thresholds of the tags are unknown\."):
        make_tags(NAMES, SCORES, None, None, False, rank="margin")


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize(
    ("scores", "present"),
    [
        # vocal 2.2 above its threshold, no vocals 0.3: somebody sings.
        ((0.5, 0.05, 0.04, 0.4), ["vocal", "guitar"]),
        ((0.11, 0.05, 0.5, 0.4), ["no vocals", "guitar"]),
        # The family of the tag with the largest margin keeps all that reaches its threshold.
        ((0.5, 0.2, 0.4, 0.1), ["no vocals"]),
        ((0.9, 0.2, 0.4, 0.1), ["vocal", "female voice"]),
        ((0.09, 0.05, 0.02, 0.4), ["guitar"]),
        ((0.09, 0.05, 0.04, 0.4), ["no vocals", "guitar"]),
    ],
)
def test_voices_and_no_voices_are_not_both_present(merge: bool, scores: tuple[float, ...], present: list[str]) -> None:
    info = {"vocal": TagInfo(0.1), "female voice": TagInfo(0.1), "no vocals": TagInfo(0.03), "guitar": TagInfo(0.3)}
    tags = make_tags(list(info), np.array(scores), info, None, merge)
    assert sorted(entry.name for entry in tags if entry.present) == sorted(present)
    assert tags.to_dict() == pytest.approx(dict(zip(info, scores, strict=True)))
    assert [entry.margin >= 0 for entry in tags if entry.margin is not None] == tags.present.tolist()


def test_the_margin_of_a_contradicted_tag_counts_from_the_other() -> None:
    info = {"opera": TagInfo(0.1, has_evidence=False), "vocal": TagInfo(0.1), "instrumental": TagInfo(0.1)}
    scores = np.array([0.9, 0.6, 0.2])
    present, heard, margins = judged(list(info), scores, info)
    assert present.tolist() == [True, True, False]
    assert heard.tolist() == [False, True, True]
    np.testing.assert_allclose(margins, [np.nan, logit(0.6) - logit(0.1), logit(0.2) - logit(0.6)], rtol=1e-5)
    # A tag that training had no example of does not contradict one that it had.
    present, _, margins = judged(list(info), np.array([0.9, 0.05, 0.2]), info)
    assert present.tolist() == [False, False, True]
    assert margins[2] == pytest.approx(logit(0.2) - logit(0.1), abs=1e-5)
