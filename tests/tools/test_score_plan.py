"""tools/pretrain/score_plan.py: plans are functions of their arguments, playable, and of all tags."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from made_scores import PIECES
from pretrain.score_instruments import DRUMS, KINDS
from pretrain.score_labels import PRESENT, UNKNOWN, label
from pretrain.score_midi import midi_bytes
from pretrain.score_pieces import SPLITS
from pretrain.score_plan import TEXTURES, make_plan


def test_a_plan_is_a_function_of_seed_split_and_number():
    plans = [make_plan(PIECES, "train", number, 3) for number in range(6)]
    assert plans == [make_plan(PIECES, "train", number, 3) for number in range(6)]
    others = [make_plan(PIECES, "train", 0, 4), make_plan(PIECES, "valid", 0, 3), plans[1]]
    assert all(plans[0] != other for other in others)


def test_varied_timbres_are_of_training_plans_alone_and_change_nothing_else():
    for split in SPLITS:
        plans = [make_plan(PIECES, split, number, 3) for number in range(24)]
        varied = [make_plan(PIECES, split, number, 3, vary_timbre=True) for number in range(24)]
        assert varied == [make_plan(PIECES, split, number, 3, vary_timbre=True) for number in range(24)]
        assert all(dataclasses.replace(b, instruments=a.instruments) == a for a, b in zip(plans, varied, strict=True))
        assert all(not i.generators and i.key_shift == 0 for plan in plans for i in plan.instruments)
        n_same = sum(a == b for a, b in zip(plans, varied, strict=True))
        assert n_same < 12 if split == "train" else n_same == 24
        for a, b in zip(plans, varied, strict=True):
            assert label(a.instruments, a.seconds) == label(b.instruments, b.seconds)


def test_plans_are_those_of_the_clips_that_were_trained_on():
    plans = [make_plan(PIECES, split, number, 3) for split in SPLITS for number in range(12)]
    content = b"".join(midi_bytes(plan.instruments, plan.seconds + 3.0) for plan in plans)
    assert hashlib.sha256(content).hexdigest()[:16] == "f69790a0f7c1eaaf"


@pytest.mark.parametrize("texture", TEXTURES)
def test_plans_of_one_texture(texture: str):
    plans = [make_plan(PIECES, "train", number, 3, texture) for number in range(12)]
    assert {plan.texture for plan in plans} == {texture}
    sizes = {len(plan.instruments) for plan in plans}
    assert sizes == {1} if texture == "single" else min(sizes) >= 2
    # Where that texture would have been drawn anyway it is the same plan.
    same = [plan == make_plan(PIECES, "train", number, 3) for number, plan in enumerate(plans)]
    assert any(same)
    assert not all(same)


@pytest.fixture(scope="module")
def plans():
    return [make_plan(PIECES, "test", number, 0) for number in range(240)]


def test_plans_are_playable(plans):
    for plan in plans:
        assert 20.0 <= plan.seconds <= 30.0
        assert plan.soundfont == "MuseScore General"
        assert min(instrument.notes[0][0] for instrument in plan.instruments if instrument.notes) == 0.0
        levels = [instrument.level_db for instrument in plan.instruments]
        assert max(levels) - min(levels) <= 12.0
        for played in plan.instruments:
            last = {}
            for start, end, pitch, velocity in played.notes:
                assert 0.0 <= start < end <= plan.seconds
                assert 1 <= velocity <= 127
                assert last.get(pitch, 0.0) <= start
                last[pitch] = end
            if played.program < DRUMS and played.notes:
                kind = next(kind for kind in KINDS.values() if played.program in kind.programs)
                pitches = [pitch for _, _, pitch, _ in played.notes]
                assert kind.low <= min(pitches) <= max(pitches) <= kind.high


def test_plans_have_every_tag_about_equally_often(plans):
    labels = [label(plan.instruments, plan.seconds) for plan in plans]
    for tag in PRESENT:
        known = [bool(tags[tag]) for tags in labels if tag in tags]
        assert 0.08 * len(plans) <= sum(known) <= 0.3 * len(plans), tag
        assert len(known) - sum(known) >= 0.4 * len(plans), tag
    textures = [plan.texture for plan in plans]
    assert 0.3 <= textures.count("single") / len(plans) <= 0.5
    assert 0.08 <= textures.count("turns") / len(plans) <= 0.24


def test_no_instrument_makes_another_s_tag_unknown(plans):
    for plan in plans:
        programs = {instrument.program for instrument in plan.instruments}
        # But steel drums beside drums.
        lost = [tag for tag in PRESENT if programs & {*PRESENT[tag]} and programs & {*UNKNOWN[tag]}]
        assert lost == ["drums"] * bool(programs & {*KINDS["steel drums"].programs} and max(programs) >= DRUMS)
        melodic = [program for program in programs if program < DRUMS]
        kinds = [next(name for name, kind in KINDS.items() if program in kind.programs) for program in melodic]
        assert len(set(kinds)) == len(kinds) == len([i for i in plan.instruments if i.program < DRUMS])
        # One instrument, or drums alone; else two to four and perhaps drums.
        assert len(plan.instruments) == 1 if plan.texture == "single" else 2 <= len(kinds) <= 4
        assert len(plan.instruments) - len(kinds) in (0, 1)
        assert 0.5 <= -plan.peak_db <= 14.0


def test_intervals_are_sorted_and_within_the_clip(plans):
    for plan in plans:
        for times in label(plan.instruments, plan.seconds).values():
            flat = [time for interval in times for time in interval]
            assert flat == sorted(flat)
            assert all(start < end for start, end in times)
            assert not flat or (flat[0] >= 0.0 and flat[-1] <= plan.seconds)
