"""tools/pretrain/score_labels.py: times of notes, and what is known with which programs."""

from __future__ import annotations

import pytest

from made_scores import instrument
from pretrain.score_instruments import DRUMS
from pretrain.score_labels import NO_VOICE_TAGS, PRESENT, VOICE_TAGS, label


def test_times_are_those_of_the_notes():
    tags = label(
        [
            instrument(0, (0.0, 1.0), (1.05, 2.0), (5.0, 31.0), decays=True),  # piano: notes as they are held
            instrument(73, (2.0, 3.0), (3.0, 3.5), (10.0, 11.0)),  # flute: a release of 0.1 s
            instrument(46, (4.0, 5.0), decays=True),  # harp: rings for 0.6 s
            instrument(DRUMS + 8, (1.0, 1.1, 38, 90), (20.0, 20.1, 49, 90), (29.9, 29.95, 36, 90)),
        ],
        30.0,
    )
    assert tags["piano"] == [[0.0, 2.0], [5.0, 30.0]]
    assert tags["flute"] == [[2.0, 3.6], [10.0, 11.1]]
    assert tags["harp"] == [[4.0, 5.6]]
    assert tags["drums"] == [[1.0, 1.4], [20.0, 21.5], [29.9, 30.0]]
    for tag in ("harpsichord", "guitar", "violin", "cello", "strings", "choir", "sitar", "synth", "choral"):
        assert tags[tag] == []
    assert set(tags) == {*PRESENT, "choral", *NO_VOICE_TAGS, *VOICE_TAGS}  # solo is unknown


def test_two_programs_of_a_tag_are_joined():
    tags = label([instrument(24, (0.0, 2.0), decays=True), instrument(30, (1.0, 3.0), decays=True)], 20.0)
    assert tags["guitar"] == [[0.0, 3.0]]


@pytest.mark.parametrize(
    ("programs", "known", "unknown"),
    [
        ((40, 0), {"violin": 1, "cello": 0, "piano": 1}, {"strings"}),
        ((41,), {"violin": 0, "cello": 0}, {"strings"}),
        ((43, 42), {"violin": 0, "cello": 1}, {"strings"}),
        ((48,), {"strings": 1, "synth": 0}, {"violin", "cello"}),
        ((45, 6), {"strings": 1, "harpsichord": 1}, {"violin", "cello"}),
        ((50,), {"piano": 0}, {"strings", "synth", "violin", "cello"}),
        ((4,), {"harpsichord": 0, "synth": 0}, {"piano"}),
        ((7,), {"piano": 0}, {"harpsichord"}),
        ((74, 72), {"violin": 0}, {"flute"}),
        ((52,), {"choir": 1, "choral": 1, "no vocals": 0, "no voice": 0}, {"vocal", "female voice", "opera", "man"}),
        ((54,), {"piano": 0}, {"choir", "choral", "no vocals", "vocal", "synth", "opera"}),
        ((85,), {"synth": 1}, {"choir", "choral", "no vocal", "singing"}),
        ((81, 38, 62), {"synth": 1, "choir": 0, "no vocals": 1, "no vocal": 1, "no voice": 1, "male": 0}, set()),
        ((33,), {"cello": 0}, {"guitar"}),
        ((29,), {"guitar": 1}, set()),
        ((104, 105), {"sitar": 1, "guitar": 0}, set()),
        ((114,), {"synth": 0}, {"drums"}),
        ((DRUMS,), {"drums": 1, "piano": 0}, {"solo"}),
    ],
)
def test_what_is_known_with_which_programs(programs, known, unknown):
    tags = label([instrument(program, (0.0, 20.0)) for program in programs], 20.0)
    assert {tag: int(bool(tags[tag])) for tag in known} == known
    assert not unknown & set(tags)
    assert not {"beat", "beats", "classical", "slow"} & set(tags)


@pytest.mark.parametrize(
    ("instruments", "expected"),
    [
        ([instrument(73, (1.0, 9.0))], [[1.0, 9.1]]),
        ([instrument(48, (1.0, 9.0))], None),  # a section
        ([instrument(DRUMS, (1.0, 9.0))], None),
        ([instrument(73, (0.0, 20.0)), instrument(0, (0.0, 20.0))], None),
        ([instrument(73, (0.0, 20.0)), instrument(0, (0.0, 20.0)), instrument(19, (2.0, 20.0))], []),
        ([instrument(73, (0.0, 20.0)), instrument(0, (0.0, 20.0)), instrument(19, (8.0, 20.0))], None),
        ([instrument(73, (0.0, 20.0)), instrument(DRUMS, *[(i / 2, i / 2 + 0.1) for i in range(40)])], []),
        ([instrument(73, (0.0, 20.0)), instrument(0)], [[0.0, 20.0]]),  # who has no notes is not there
    ],
)
def test_solo(instruments, expected):
    assert label(instruments, 20.0).get("solo") == expected
