"""Clips made of single notes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_tagger.data.dense import read_dense
from keras_tagger.errors import ManifestError
from keras_tagger.files import write_csv
from pretrain import notes, recordings

RATE = 16000


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Half a second of a tone for each of three notes of a flute and a clarinet, with silence before."""
    rows = []
    for instrument, hz in (("flute", 1000.0), ("clarinet", 400.0)):
        for name in ("C4", "E4", "G4"):
            path = tmp_path / "corpus" / f"{instrument}_{name}_1_forte.wav"
            path.parent.mkdir(exist_ok=True)
            tone = 0.5 * np.sin(2 * np.pi * hz * np.arange(RATE // 2) / RATE)
            soundfile.write(path, np.concatenate([np.zeros(RATE // 4), tone]), RATE)
            row = {"path": path.name, "tags": f"src;{instrument}", "track": path.stem}
            rows.append({**row, "group": path.name, "package": "src", "licence": "CC0", "seconds": 0.75})
    write_csv(tmp_path / "corpus/manifest.csv", recordings.COLUMNS, rows)
    return tmp_path / "corpus"


@pytest.mark.parametrize(
    ("name", "pitch"),
    [
        ("cello_As3_1_forte_normal", 58),
        ("Samples_FF_A#2", 46),
        ("notes_gb5_p_rr3", 78),
        ("samples_G5", 79),
        ("arco_g3_pp_up", 55),
        ("flute_C4_025", 60),
        ("percussion_bass drum", None),
    ],
)
def test_the_pitch_is_in_the_name(name: str, pitch: int | None):
    assert notes.pitch_of(name) == pitch


def test_notes_by_instrument_and_pitch(corpus: Path):
    found = notes.read_notes(corpus)
    assert {name: sorted(pitches) for name, pitches in found.items()} == {
        "flute": [60, 64, 67],
        "clarinet": [60, 64, 67],
    }
    # The silence before a note is cut off, up to 5 ms.
    assert 0.49 * RATE < len(notes.trimmed(found["flute"][60][0])) < 0.51 * RATE


def test_a_corpus_without_pitches(corpus: Path):
    write_csv(corpus / "manifest.csv", recordings.COLUMNS, [])
    with pytest.raises(ManifestError, match="expected notes with a pitch in their names"):
        notes.read_notes(corpus)


def test_labels_say_when_an_instrument_sounds(corpus: Path):
    flute = {"flute": notes.read_notes(corpus)["flute"]}
    for seed in range(3):
        waveform, times = notes.note_clip(flute, np.random.default_rng(seed))
        assert waveform.shape == (round(notes.SECONDS * RATE),)
        assert times["flute"] == times["solo"] != []
        assert times["guitar"] == times["vocals"] == []
        assert times["no vocals"] == [[0.0, notes.SECONDS]]
        heard = np.zeros(len(waveform), bool)
        for start, end in times["flute"]:
            heard[int(start * RATE) : int(end * RATE)] = True
        # A room may ring on, but nothing sounds before the first note.
        first = int(times["flute"][0][0] * RATE)
        assert np.abs(waveform[: max(first - 800, 0)]).max(initial=0.0) < 0.05 * np.abs(waveform).max()
        assert np.abs(waveform[heard]).max() == np.abs(waveform).max()


def test_what_instruments_leave_open():
    times = notes.times_of({"viola": [[0.0, 1.0]], "guitar": [[2.0, 3.0], [2.5, 4.0]]})
    assert times["guitar"] == times["msd/guitar"] == [[2.0, 4.0]]
    # A viola may be called violin, cello or strings.
    assert not {"violin", "cello", "strings", "solo"} & times.keys()
    assert "indian" not in times
    assert notes.times_of({"sitar": [[0.0, 1.0]]})["indian"] == [[0.0, 1.0]]


def test_the_command_makes_what_is_missing(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "out"
    monkeypatch.setattr(notes, "FLAGS", type("Flags", (), {"corpus": str(corpus), "out": str(out), "n_clips": 2}))
    notes.FLAGS.seed, notes.FLAGS.jobs = 4, 1
    notes.main([sys.argv[0]])
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == ["00000.flac", "00001.flac"]
    expected, times = notes.note_clip(notes.read_notes(corpus), np.random.default_rng([4, 1]))
    written, _ = soundfile.read(out / "00001.flac", dtype="float32")
    np.testing.assert_allclose(written, expected, atol=1e-4)
    labels = read_dense(out / "00001.json")
    assert set(labels.tags) == set(times)
