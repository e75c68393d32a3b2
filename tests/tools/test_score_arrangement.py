"""tools/pretrain/score_arrangement.py: turns, ranges, chords."""

from __future__ import annotations

import numpy as np
import pytest

from pretrain.score_arrangement import accompaniment, arrange, excerpt, fit, take_turns, with_entries, within
from pretrain.score_instruments import KINDS, Kind


def test_in_turns_one_follows_the_other():
    rng = np.random.default_rng(0)
    lines = [[(i / 4, (i + 1) / 4, 60 + j) for i in range(120)] for j in range(2)]
    kept = take_turns(lines, 30.0, rng)
    assert all(0.2 * 30 < sum(end - start for start, end, _ in line) < 0.8 * 30 for line in kept)
    frames = np.zeros((2, 3000), bool)
    for i, line in enumerate(kept):
        for start, end, _ in line:
            frames[i, round(start * 100) : round(end * 100)] = True
    assert (frames[0] & frames[1]).mean() < 0.25
    assert 5 <= np.abs(np.diff(frames[0].astype(int))).sum() <= 120


def test_lines_are_moved_by_octaves_into_the_range():
    line = [(0.0, 1.0, 40), (1.0, 2.0, 43), (2.0, 3.0, 60)]
    kind = Kind((73,), 60, 94)
    assert fit(line, kind) == [(0.0, 1.0, 64), (1.0, 2.0, 67), (2.0, 3.0, 84)]
    assert fit([(0.0, 1.0, 62)] * 3 + [(1.0, 2.0, 100)], kind)[3] == (1.0, 2.0, 88)


def test_chords_are_those_of_the_piece():
    lines = [[(0.0, 2.0, 60), (2.0, 4.0, 62)], [(0.0, 2.0, 64), (2.0, 4.0, 65)], [(0.0, 2.0, 67), (2.0, 4.0, 69)]]
    played = accompaniment(lines, KINDS["strings"], 1.0, 4.0, np.random.default_rng(0))
    assert {pitch % 12 for start, _, pitch in played if start < 2.0} == {0, 4, 7}
    assert {pitch % 12 for start, _, pitch in played if start >= 2.0} == {2, 5, 9}


@pytest.mark.parametrize("seed", range(8))
def test_chords_are_held_broken_or_their_roots(seed):
    lines = [[(0.0, 2.0, 60), (2.0, 4.0, 62)], [(0.0, 2.0, 64), (2.0, 4.0, 65)], [(0.0, 2.0, 67), (2.0, 4.0, 69)]]
    first, second = (48, 52, 55), (50, 53, 57)
    broken = [
        (i / 2, (i + 1) / 2, chord[j])
        for i, (chord, j) in enumerate((c, j) for c in (first, second) for j in (0, 1, 2, 1))
    ]
    held = [(2.0 * i, 2.0 * (i + 1), pitch) for i, chord in enumerate((first, second)) for pitch in chord]
    beats = [(i, i + 0.6, pitch) for i, chord in enumerate((first, first, second, second)) for pitch in chord]
    roots = [(0.0, 1.8, 48), (2.0, 3.8, 50)]
    for name, styles in (("strings", (held, beats, broken)), ("flute", (roots, broken))):
        played = accompaniment(lines, KINDS[name], 1.0, 4.0, np.random.default_rng(seed))
        assert any(len(style) == len(played) and np.allclose(style, played) for style in styles)
    # Where nothing sounds, nothing is added.
    late = [[(2.0, 4.0, pitch)] for pitch in (60, 64, 67)]
    assert (
        min(start for start, *_ in accompaniment(late, KINDS["strings"], 1.0, 4.0, np.random.default_rng(seed))) == 2.0
    )


def test_an_excerpt_of_a_short_piece_repeats_it():
    parts = [[[float(i), 1.0, 60 + i] for i in range(5)], [[float(i), 1.0, 40 + i] for i in range(5)]]
    (high, low), beat = excerpt(parts, 20.0, np.random.default_rng(0))
    assert 0.6 * 0.75 <= beat <= 0.6 * 1.35
    scale = beat if beat <= 0.75 else beat / 2
    starts = np.arange(0.0, 20.0 - 0.05, scale)
    expected = [(start, min(start + scale, 20.0), 60 + i % 5) for i, start in enumerate(starts)]
    np.testing.assert_allclose(high, expected, atol=1e-9)
    assert [(start, end, pitch - 20) for start, end, pitch in high] == low


@pytest.mark.parametrize("length", [4.0, 0.0625])
def test_an_excerpt_of_a_long_piece_is_a_part_of_it_at_a_tempo_for_its_notes(length):
    parts = [[[i * length, length, i] for i in range(4000)]]
    begins = set()
    for seed in range(5):
        (line,), beat = excerpt(parts, 20.0, np.random.default_rng(seed))
        step = line[2][0] - line[1][0]
        assert 0.14 <= step <= 0.75
        factor = np.log2(step / (length * beat))
        assert factor == pytest.approx(round(factor), abs=1e-6)
        pitches = [pitch for *_, pitch in line]
        assert pitches == list(range(pitches[0], pitches[0] + len(line)))
        assert 0.0 <= line[0][0] <= 0.2  # what is left of a note before it is dropped
        assert 19.0 < line[-1][1] <= 20.0
        begins.add(pitches[0])
    assert len(begins) > 1


def test_one_melodic_instrument_has_the_melody_or_the_bass():
    lines = [[(0.0, 1.0, 72)], [(0.0, 1.0, 60)], [(0.0, 1.0, 48)]]
    for seed in range(5):
        rng = np.random.default_rng(seed)
        assert arrange(lines, [KINDS["flute"]], 0.5, 1.0, rng) == [[(0.0, 1.0, 72)]]
        assert arrange(lines, [KINDS["cello"]], 0.5, 1.0, rng) == [[(0.0, 1.0, 48)]]
        # One that plays chords has them all; of two that play lines each has one.
        every = sorted(note for line in lines for note in line)
        assert sorted(arrange(lines, [KINDS["piano"]], 0.5, 1.0, rng)[0]) == every
        two = arrange(lines, [KINDS["violin"], KINDS["flute"]], 0.5, 1.0, rng)
        assert [len(score) for score in two] == [1, 1]
    assert arrange(lines, [], 0.5, 1.0, np.random.default_rng(0)) == []


def test_notes_within_a_stretch_are_cut_to_it():
    line = [(0.0, 1.0, 60), (1.0, 2.0, 62), (2.0, 3.0, 64), (3.0, 4.0, 65)]
    assert within(line, 0.5, 2.25) == [(0.5, 1.0, 60), (1.0, 2.0, 62), (2.0, 2.25, 64)]
    # 0.05 s of a note are none; 0.1 s are.
    assert within(line, 0.95, 2.05) == [(1.0, 2.0, 62)]
    assert within(line, 0.9, 2.1) == [(0.9, 1.0, 60), (1.0, 2.0, 62), (2.0, 2.1, 64)]


def test_some_enter_later_end_earlier_or_rest_but_one_plays_on():
    scores = [[(i / 2, (i + 1) / 2, 60 + j) for i in range(60)] for j in range(3)]
    kinds = set()
    for seed in range(40):
        kept = with_entries(scores, 30.0, np.random.default_rng(seed))
        assert len(kept) == 3
        assert any(score == whole for score, whole in zip(kept, scores, strict=True))
        for score, whole in zip(kept, scores, strict=True):
            assert score
            edges = np.array([(start, end) for start, end, _ in score])
            # What is left is of the notes; at a beginning and an end at least 4 s.
            begun = np.floor(2 * edges[:, 0]) / 2
            assert ((edges[:, 0] < edges[:, 1]) & (edges[:, 1] <= begun + 0.5)).all()
            begins, ends = edges[0, 0] == 0.0, edges[-1, 1] == 30.0
            assert begins or ends
            kinds.add((bool(begins), bool(ends), score == whole))
            assert (edges[:, 1] - edges[:, 0]).sum() >= 3.9
    assert kinds == {(True, True, True), (True, True, False), (True, False, False), (False, True, False)}
