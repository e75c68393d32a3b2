"""tools/pretrain/score_arrangement.py: turns, ranges, chords."""

from __future__ import annotations

import numpy as np

from pretrain.score_arrangement import accompaniment, fit, take_turns
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
