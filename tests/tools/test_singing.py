"""Melodies that a synthetic voice sings."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from pretrain import invented, singing

MELODY: singing.Melody = [(0.0, 1.0, None), (1.0, 2.0, 60), (3.0, 4.0, 61), (7.0, 1.0, None)]


def test_melodies_stay_in_range_and_scale_and_are_gapless():
    for seed in range(20):
        notes = singing.melody(6, 2, invented.SCALES[0], np.random.default_rng(seed))
        assert notes[0][2] is notes[-1][2] is None
        assert [start for start, _, _ in notes[1:]] == [start + length for start, length, _ in notes[:-1]]
        assert notes[-1][0] + notes[-1][1] == 6 * singing.BEATS_PER_BAR
        pitches = [pitch for _, _, pitch in notes if pitch is not None]
        assert pitches
        assert all(
            singing.LOWEST <= pitch <= singing.HIGHEST and (pitch - 2) % 12 in invented.SCALES[0] for pitch in pitches
        )


def test_music_xml_has_full_bars_and_ties_over_bar_lines():
    root = ET.fromstring(singing.music_xml(MELODY, 90.0, np.random.default_rng(0)))
    bars = root.findall(".//measure")
    assert [sum(int(d.text or 0) for d in bar.iter("duration")) for bar in bars] == [8, 8]
    assert root.find(".//sound").attrib == {"tempo": "90.00"}
    notes = [note for bar in bars for note in bar.findall("note")]
    # The note of four beats is cut in two, of which only the first has a syllable.
    assert [note.findtext("pitch/step") for note in notes] == [None, "C", "C", "C", None]
    assert [note.findtext("pitch/alter") for note in notes] == [None, None, "1", "1", None]
    assert [note.find("lyric") is not None for note in notes] == [False, True, True, False, False]
    assert [[tie.get("type") for tie in note.findall("tie")] for note in notes] == [[], [], ["start"], ["stop"], []]


def test_labels_of_a_voice_alone():
    times = singing.times_of(MELODY, 60.0, 6.5, 1)
    # A beat is a second; the clip ends before the last note does.
    assert times["female vocal"] == times["singing"] == times["msd/female vocalists"] == [[1.0, 6.5]]
    assert times["guitar"] == times["drums"] == times["male"] == times["no vocals"] == times["choir"] == []
    # A synthetic voice may be called synth.
    assert "synth" not in times
    group = singing.times_of(MELODY, 60.0, 8.0, 3)
    assert group["solo"] == []
    assert "choir" not in group


def test_other_parts_stay_in_the_scale():
    scale = invented.SCALES[2]
    notes: singing.Melody = [(0.0, 1.0, None), (1.0, 1.0, 60), (2.0, 1.0, 64)]
    assert singing.moved(notes, 2, 0, scale) == [(0.0, 1.0, None), (1.0, 1.0, 64), (2.0, 1.0, 69)]


def test_the_voice_sings_when_the_labels_say():
    pytest.importorskip("pysinsy")
    waveform, times = singing.sing_clip(np.random.default_rng(1))
    heard = np.zeros(len(waveform), bool)
    for start, end in times["singing"]:
        heard[int(start * 16000) : int(end * 16000)] = True
    assert np.mean(waveform[heard] ** 2) > 20 * np.mean(waveform[: int(times["singing"][0][0] * 16000) - 2400] ** 2)
