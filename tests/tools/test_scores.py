"""tools/pretrain/scores.py: what a plan's labels are, MIDI, plans, splits, resuming; with fluidsynth, the sound.

Nothing here needs music21 but one test, and nothing is rendered without fluidsynth and its soundfonts.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_tagger.errors import AudioError, ManifestError, ManifestNotFoundError
from pretrain import score_pieces, scores
from pretrain.scores import DRUMS, Instrument, Plan

ROOT = Path(__file__).parents[2]
SOUNDFONTS = Path("/usr/share/sounds")
missing = [name for name, path in scores.SOUNDFONTS.items() if not (SOUNDFONTS / path).is_file()]
needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or bool(missing),
    reason=f"expected fluidsynth and, in {SOUNDFONTS}, {', '.join(scores.SOUNDFONTS.values())}",
)


def instrument(program, *notes, decays=False):
    """Notes of middle C as (start, end), or in full."""
    return Instrument(program, [note if len(note) == 4 else (*note, 60, 90) for note in notes], decays=decays)


def made_piece(name, n_parts=4, n_notes=64):
    rng = np.random.default_rng(len(name))
    parts = [
        [[i * 1.0, 1.0, int(72 - 8 * part + rng.integers(0, 8))] for i in range(n_notes)] for part in range(n_parts)
    ]
    return {"piece": name, "work": score_pieces.work_of(name), "parts": parts}


PIECES = [made_piece(f"bach/bwv{i}.mxl", 1 + i % 5, 20 + 10 * i) for i in range(1, 9)]


def test_times_are_those_of_the_notes():
    tags = scores.label(
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
    assert set(tags) == {*scores.PRESENT, "choral", *scores.NO_VOICE_TAGS, *scores.VOICE_TAGS}  # solo is unknown


def test_two_programs_of_a_tag_are_joined():
    tags = scores.label([instrument(24, (0.0, 2.0), decays=True), instrument(30, (1.0, 3.0), decays=True)], 20.0)
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
    tags = scores.label([instrument(program, (0.0, 20.0)) for program in programs], 20.0)
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
    assert scores.label(instruments, 20.0).get("solo") == expected


def read_midi(content):
    """Channel events of a MIDI file of one track, each with its tick."""
    assert content[:14] == b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x01\xe0"
    assert content[14:18] == b"MTrk"
    assert int.from_bytes(content[18:22], "big") == len(content) - 22
    events, tick, i = [], 0, 22
    while i < len(content):
        delta = 0
        while True:
            delta, i = delta << 7 | content[i] & 0x7F, i + 1
            if content[i - 1] < 0x80:
                break
        tick += delta
        if content[i] == 0xFF:
            end = i + 3 + content[i + 2]
        else:
            end = i + (2 if content[i] >> 4 == 0xC else 3)
        events.append((tick, content[i:end]))
        i = end
    return events


def test_midi_is_what_the_standard_says():
    violin = dataclasses.replace(instrument(40, (0.0, 0.5, 60, 100), (0.5, 1.0, 60, 101)), controls={91: 40})
    drums = instrument(DRUMS + 16, (0.25, 0.3, 38, 90))
    events = read_midi(scores.midi_bytes([violin, drums], 20.0))
    assert events == [
        (0, b"\xff\x51\x03\x07\xa1\x20"),  # 500,000 us to the quarter note of 480 ticks
        (0, b"\xc0\x28"),
        (0, b"\xb0\x5b\x28"),
        (0, b"\x90\x3c\x64"),
        (480, b"\x80\x3c\x00"),  # ends before it begins anew
        (480, b"\x90\x3c\x65"),
        (960, b"\x80\x3c\x00"),
        (19199, b"\xb0\x78\x00"),
        (19200, b"\xc9\x10"),
        (19440, b"\x99\x26\x5a"),
        (19488, b"\x89\x26\x00"),
        (38399, b"\xb9\x78\x00"),
        (38399, b"\xff\x2f\x00"),
    ]


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "00"), (127, "7f"), (128, "8100"), (16383, "ff7f"), (2097152, "81808000")]
)
def test_numbers_of_variable_length_are_those_of_the_standard(value, expected):
    assert scores._variable_length(value).hex() == expected


def test_a_plan_is_a_function_of_seed_split_and_number():
    plans = [scores.make_plan(PIECES, "train", number, 3) for number in range(6)]
    assert plans == [scores.make_plan(PIECES, "train", number, 3) for number in range(6)]
    others = [scores.make_plan(PIECES, "train", 0, 4), scores.make_plan(PIECES, "valid", 0, 3), plans[1]]
    assert all(plans[0] != other for other in others)


@pytest.fixture(scope="module")
def plans():
    return [scores.make_plan(PIECES, "test", number, 0) for number in range(240)]


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
                kind = next(kind for kind in scores.KINDS.values() if played.program in kind.programs)
                pitches = [pitch for _, _, pitch, _ in played.notes]
                assert kind.low <= min(pitches) <= max(pitches) <= kind.high


def test_plans_have_every_tag_about_equally_often(plans):
    labels = [scores.label(plan.instruments, plan.seconds) for plan in plans]
    for tag in scores.PRESENT:
        known = [bool(tags[tag]) for tags in labels if tag in tags]
        assert 0.08 * len(plans) <= sum(known) <= 0.3 * len(plans), tag
        assert len(known) - sum(known) >= 0.4 * len(plans), tag
    textures = [plan.texture for plan in plans]
    assert 0.3 <= textures.count("single") / len(plans) <= 0.5
    assert 0.08 <= textures.count("turns") / len(plans) <= 0.24


def test_intervals_are_sorted_and_within_the_clip(plans):
    for plan in plans:
        for times in scores.label(plan.instruments, plan.seconds).values():
            flat = [time for interval in times for time in interval]
            assert flat == sorted(flat)
            assert all(start < end for start, end in times)
            assert not flat or (flat[0] >= 0.0 and flat[-1] <= plan.seconds)


def test_in_turns_one_follows_the_other():
    rng = np.random.default_rng(0)
    lines = [[(i / 4, (i + 1) / 4, 60 + j) for i in range(120)] for j in range(2)]
    kept = scores.take_turns(lines, 30.0, rng)
    assert all(0.2 * 30 < sum(end - start for start, end, _ in line) < 0.8 * 30 for line in kept)
    frames = np.zeros((2, 3000), bool)
    for i, line in enumerate(kept):
        for start, end, _ in line:
            frames[i, round(start * 100) : round(end * 100)] = True
    assert (frames[0] & frames[1]).mean() < 0.25
    assert 5 <= np.abs(np.diff(frames[0].astype(int))).sum() <= 120


def test_lines_are_moved_by_octaves_into_the_range():
    line = [(0.0, 1.0, 40), (1.0, 2.0, 43), (2.0, 3.0, 60)]
    kind = scores.Kind((73,), 60, 94)
    assert scores.fit(line, kind) == [(0.0, 1.0, 64), (1.0, 2.0, 67), (2.0, 3.0, 84)]
    assert scores.fit([(0.0, 1.0, 62)] * 3 + [(1.0, 2.0, 100)], kind)[3] == (1.0, 2.0, 88)


def test_chords_are_those_of_the_piece():
    lines = [[(0.0, 2.0, 60), (2.0, 4.0, 62)], [(0.0, 2.0, 64), (2.0, 4.0, 65)], [(0.0, 2.0, 67), (2.0, 4.0, 69)]]
    played = scores.accompaniment(lines, scores.KINDS["strings"], 1.0, 4.0, np.random.default_rng(0))
    assert {pitch % 12 for start, _, pitch in played if start < 2.0} == {0, 4, 7}
    assert {pitch % 12 for start, _, pitch in played if start >= 2.0} == {2, 5, 9}


@pytest.mark.parametrize(
    ("piece", "work"),
    [
        ("bach/bwv112.5-sc.mxl", "bach/bwv112"),
        ("bach/bwv112.5.mxl", "bach/bwv112"),
        ("beethoven/opus18no1/movement3.mxl", "beethoven/opus18no1"),
        ("palestrina/Agnus_I_07.krn", "palestrina/mass 07"),
        ("palestrina/Kyrie_07.krn", "palestrina/mass 07"),
        ("monteverdi/madrigal.3.12.mxl", "monteverdi/madrigal.3"),
        ("ryansMammoth/MissMcLeodsReel2.abc", "ryansMammoth/MissMcLeodsReel"),
        ("trecento/PMFC_12_4-Gloria Rvat 1419_bak.xml", "trecento/PMFC_12_4-Gloria Rvat 1419"),
        ("oneills1850/0001-0050.abc#12", "oneills1850/0001-0050.abc#12"),
        ("josquin/milleRegrets.abc#1", "josquin/milleRegrets"),
    ],
)
def test_movements_and_versions_are_one_work(piece, work):
    assert score_pieces.work_of(piece) == work


def test_splits_are_by_work_and_have_about_their_shares():
    works = [f"composer/work{i}" for i in range(4000)]
    splits = [score_pieces.split_of(work) for work in works]
    assert splits == [score_pieces.split_of(work) for work in works]
    for split, share in (("train", 0.63), ("valid", 0.12), ("test", 0.25)):
        assert abs(splits.count(split) / len(works) - share) < 0.03


def test_tunes_of_a_file(tmp_path):
    (tmp_path / "a.abc").write_text("% two tunes\nX: 1\nT: One\nK:G\nGABc\n\nX: 2\nT: Two\nK:D\ndefg\n")
    assert score_pieces._tunes(tmp_path / "a.abc") == ["X: 1\nT: One\nK:G\nGABc\n\n", "X: 2\nT: Two\nK:D\ndefg\n"]


def test_music21_gives_notes_with_ties_joined(tmp_path):
    pytest.importorskip("music21", reason="expected music21 (pip install music21)")
    tune = "X:1\nT:Ties\nM:4/4\nL:1/4\nK:C\nC2 z E-|E2 [CG]2|\n"
    (tmp_path / "a.abc").write_text(f"{tune}\n{tune}")
    notes = [[0.0, 2.0, 60], [3.0, 3.0, 64], [6.0, 2.0, 60], [6.0, 2.0, 67]]
    assert score_pieces.parse(tmp_path, "a.abc#1") == [notes]


def test_without_music21_or_soundfonts_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ManifestNotFoundError, match=r"expected music21, .*pip install music21. Received: no such package"
    ):
        score_pieces.find_corpus()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ManifestNotFoundError, match="expected the program fluidsynth"):
        scores.find_soundfonts(str(tmp_path), ["test"])
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/fluidsynth")
    with pytest.raises(ManifestNotFoundError, match="expected the soundfont MuseScore General. Received: no file"):
        scores.find_soundfonts(str(tmp_path), ["test"])


def test_clips_of_another_seed_are_not_mixed(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/00000.json").write_text('{"seed": 1}')
    train = [piece for piece in PIECES if score_pieces.split_of(piece["work"]) == "train"]
    with pytest.raises(ManifestError, match="expected a clip of seed 0. Received: one of seed 1"):
        scores.render_set(tmp_path, train, {}, {"train": 1}, 0, 1)
    assert scores.render_set(tmp_path, train, {}, {"train": 1}, 1, 1) == []  # it is there: nothing to do


def test_a_split_without_pieces_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="expected pieces for the split test. Received: none of 0"):
        scores.render_set(tmp_path, [], {}, {"test": 1}, 0, 1)


def scale_plan(program, soundfont="TimGM6mb", seconds=20.0):
    """A scale with rests: two seconds of notes, two of nothing."""
    notes = [(i / 2, i / 2 + 0.45, 60 + i % 12, 100) for i in range(38) if i % 8 < 4]
    played = Instrument(program, notes, decays=program in (0, 6, 25, 46, 104))
    return Plan("scale", "scale", "single", seconds, soundfont, -3.0, {"synth.reverb.active": 0}, [played])


@needs_fluidsynth
@pytest.mark.parametrize("program", [0, 6, 25, 29, 40, 42, 48, 46, 52, 73, 104, 81, DRUMS])
def test_an_instrument_is_heard_when_its_label_says(program):
    plan = scale_plan(program)
    if program == DRUMS:
        plan.instruments[0].notes = [(*note[:2], 38, 100) for note in plan.instruments[0].notes]
    waveform = scores.render(plan, str(SOUNDFONTS / scores.SOUNDFONTS[plan.soundfont]))
    assert waveform.dtype == np.float32
    assert waveform.shape == (320000,)
    assert np.abs(waveform).max() == pytest.approx(10 ** (-3 / 20), abs=1e-4)
    frames = np.sqrt(np.mean(waveform.reshape(-1, 1600) ** 2, axis=1))  # tenths of a second
    heard = np.zeros(200, bool)
    for start, end in scores.sounding(plan.instruments[0], plan.seconds):
        heard[int(start * 10) : int(np.ceil(end * 10))] = True
    assert 0.3 < heard.mean() < 0.8
    # From 0.4 s after a label's end on, what is left is 20 dB softer than what labels cover.
    silent = ~heard & ~np.roll(heard, 1) & ~np.roll(heard, 2) & ~np.roll(heard, 3) & ~np.roll(heard, 4)
    assert np.median(frames[heard]) > 10 * np.median(frames[silent])
    assert frames[0] > 0.1 * np.median(frames[heard])  # music begins at once


@needs_fluidsynth
def test_levels_are_those_of_the_plan():
    loud, soft = scale_plan(81), scale_plan(46)
    soft.instruments[0].level_db = -9.0
    font = str(SOUNDFONTS / scores.SOUNDFONTS["TimGM6mb"])
    alone = [scores.render(plan, font) for plan in (loud, soft)]
    both = scores.render(dataclasses.replace(loud, instruments=loud.instruments + soft.instruments), font)
    # The mix is a sum of the two, whatever its gain; find the two factors.
    factors = np.linalg.lstsq(np.stack(alone, axis=1), both, rcond=None)[0]
    np.testing.assert_allclose(np.stack(alone, axis=1) @ factors, both, atol=5e-3)
    levels = [factor * scores.level(waveform) for factor, waveform in zip(factors, alone, strict=True)]
    assert 20 * np.log10(levels[1] / levels[0]) == pytest.approx(-9.0, abs=0.1)


def test_level_is_that_of_the_louder_blocks():
    block = np.sin(2 * np.pi * 100 * np.arange(6400) / 16000)
    waveform = np.concatenate([gain * block for gain in (0.0, 0.1, 0.5, 0.5, 0.5, 0.0)])
    assert scores.level(waveform) == pytest.approx(0.5 / np.sqrt(2), rel=1e-6)
    # A single chord at the very end.
    assert scores.level(np.concatenate([np.zeros(6400), 0.5 * block[:1600]])) == pytest.approx(
        0.5 / np.sqrt(2), rel=1e-6
    )
    assert scores.level(np.zeros(20000)) == 0.0


@needs_fluidsynth
def test_what_cannot_be_heard_is_an_error():
    font = str(SOUNDFONTS / scores.SOUNDFONTS["TimGM6mb"])
    plan = scale_plan(0)
    plan.instruments[0].notes = []
    with pytest.raises(AudioError, match="expected notes in the excerpt of scale. Received: none"):
        scores.render(plan, font)


@needs_fluidsynth
def test_a_set_goes_on_where_it_was(tmp_path):
    fonts = scores.find_soundfonts(str(SOUNDFONTS), scores.SPLITS)
    clips = [(tmp_path, PIECES, fonts, "train", number, 0) for number in range(3)]
    for clip in clips:
        scores.render_clip(*clip)
    pieces = [made_piece(f"bach/bwv{i}.mxl") for i in range(1, 40)]
    kept, lost = tmp_path / "train/00000.json", tmp_path / "train/00001.json"
    before, content = kept.stat().st_mtime_ns, lost.with_suffix(".flac").read_bytes()
    lost.unlink()
    assert scores.render_set(tmp_path, pieces, fonts, {"train": 3}, 0, 1) == []
    assert kept.stat().st_mtime_ns == before
    assert lost.with_suffix(".flac").read_bytes() != content  # other pieces
    scores.render_clip(*clips[1])
    assert lost.with_suffix(".flac").read_bytes() == content
    rows = scores.write_manifest(tmp_path, {"train": 3, "test": 2})
    assert [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()] == rows
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == [
        f"0000{i}.{suffix}" for i in range(3) for suffix in ("flac", "json")
    ]
    for row in rows:
        labels = json.loads((tmp_path / row["labels"]).read_text())
        waveform, rate = soundfile.read(tmp_path / row["path"])
        assert rate == 16000
        assert len(waveform) == round(labels["seconds"] * 16000)
        assert 0.1 < np.abs(waveform).max() < 1.0
        assert row["tags"] == {}
        assert row["group"] == labels["work"]
        assert row["split"] == "train"
    assert "train: 3 clips" in scores.table(tmp_path, rows)


def test_program_says_what_is_missing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pretrain.scores", "--out", tmp_path, "--soundfonts", tmp_path],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tools'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().startswith("error: expected the ")
