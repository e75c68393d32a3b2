"""Which tag of a teacher is which tag of a student."""

from __future__ import annotations

from keras_tagger.teachers.matching import match_tags
from keras_tagger.teachers.musicnn import TAGS

MUSICNN = (*TAGS["MTT"], *(f"msd/{tag}" for tag in TAGS["MSD"]))


def test_each_vocabulary_finds_its_own_tags():
    assert match_tags(TAGS["MTT"], MUSICNN) == {tag: tag for tag in TAGS["MTT"]}
    assert match_tags(TAGS["MSD"], MUSICNN) == {tag: f"msd/{tag}" for tag in TAGS["MSD"]}
    assert match_tags(MUSICNN, MUSICNN) == {tag: tag for tag in MUSICNN}


def test_a_name_of_both_vocabularies_is_that_of_the_one_with_more_of_the_tags():
    assert match_tags(["rock", "opera", "harp"], MUSICNN) == {"rock": "rock", "opera": "opera", "harp": "harp"}
    assert match_tags(["rock", "jazz", "soul"], MUSICNN) == {"rock": "msd/rock", "jazz": "msd/jazz", "soul": "msd/soul"}
    # Names that only the other one has are found there.
    assert match_tags(["rock", "opera", "harp", "jazz"], MUSICNN)["jazz"] == "msd/jazz"


def test_case_and_spaces_do_not_matter_unless_a_name_is_equal():
    assert match_tags(["Jazz", "hip-hop", "classic  rock"], MUSICNN) == {
        "Jazz": "msd/jazz",
        "hip-hop": "msd/Hip-Hop",
        "classic  rock": "msd/classic rock",
    }
    assert match_tags(["rock", "Rock"], ["Rock", "rock"]) == {"rock": "rock", "Rock": "Rock"}


def test_a_slash_in_a_name_is_no_vocabulary():
    assert match_tags(["R&B/Soul", "Soul"], ["R&B/Soul"]) == {"R&B/Soul": "R&B/Soul"}


def test_nothing_in_common():
    assert match_tags(["kazoo"], MUSICNN) == {}
