"""Queries for music."""

from __future__ import annotations

import numpy as np
import pytest

from keras_tagger.errors import LibraryError
from keras_tagger.library.query import Query
from keras_tagger.tags import TagInfo, make_tags, merged

SCORES = {"metal": 0.7, "rock": 0.3, "female vocal": 0.2, "voice": 0.1, "singing": 0.6, "Hip-Hop": 0.4, "sitar": 0.9}
INFO = {name: TagInfo(0.5) for name in SCORES} | {"rock": TagInfo(0.2), "sitar": TagInfo(has_evidence=False)}
TAGS = merged(make_tags(list(SCORES), np.array(list(SCORES.values())), INFO, None, False))


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("metal", True),
        ("METAL", True),
        ("!metal", False),
        ("rock", True),  # above its own threshold
        ("rock>0.3", False),
        ("rock >= 30%", True),
        ("metal<.8", True),
        ("metal <= 0.5", False),
        ("metal>0.5 & !voice", False),  # somebody sings
        ("vocal", True),  # a synonym that the model does not have
        ('"female vocal" | metal', True),
        ("'female vocal'", False),
        ("hip-hop>0.35", True),
        ("sitar", False),  # which training had no example of
        ("sitar>0.1", False),
        ("metal | rock & !rock", True),  # & binds more tightly
        ("(metal | rock) & !rock", False),
        ("!!metal", True),
        ("!(metal & sitar)", True),
    ],
)
def test_a_clip_matches(text, matches):
    assert Query(text).matches(TAGS) is matches


def test_the_first_model_that_has_a_name_decides():
    other = make_tags(["metal", "jazz"], np.array([0.1, 0.9]), {"metal": TagInfo(), "jazz": TagInfo()}, None, False)
    assert Query("metal & jazz").matches(TAGS, other)
    assert not Query("metal & jazz").matches(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "query: expected a tag, ! or ( at character 1 of ''. Received: the end."),
        ("metal &", "query: expected a tag, ! or ( at character 8 of 'metal &'. Received: the end."),
        ("metal & & rock", "query: expected a tag, ! or ( at character 9 of 'metal & & rock'. Received: '&'."),
        ("(metal", "query: expected & or | or ) at character 7 of '(metal'. Received: the end."),
        ("metal)", "query: expected & or | or the end at character 6 of 'metal)'. Received: ')'."),
        ("new age", "query: expected & or | or the end at character 5 of 'new age'. Received: 'age'."),
        ("metal > rock", "query: expected a number at character 9 of 'metal > rock'. Received: 'rock'."),
        ("metal > 5", "query: expected a number in 0..1 at character 9 of 'metal > 5'. Received: '5'."),
        ("metal = 1", "query: expected tags, comparisons, & | ! and parentheses. Received: '=' at character 7 of"),
        ("__import__('os')", "query: expected & or | or the end at character 11"),
    ],
)
def test_mistakes_are_shown_where_they_are(text, message):
    with pytest.raises(LibraryError) as raised:
        Query(text)
    assert str(raised.value).startswith(message)


def test_an_unknown_tag_comes_with_the_nearest_ones():
    with pytest.raises(LibraryError, match=r"expected a tag of the model, such as metal.*Received: 'metl'"):
        Query("metl").check(list(SCORES))
    with pytest.raises(LibraryError, match="Received: 'polka'"):
        Query("metal & polka").matches(TAGS)


def test_without_thresholds_only_comparisons_are_known():
    tags = make_tags(list(SCORES), np.array(list(SCORES.values())), None, None, False)
    assert Query("metal>0.5").matches(tags)
    with pytest.raises(LibraryError, match="expected a comparison such as metal>0.5"):
        Query("metal").matches(tags)
