"""From files to rows."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

import tiny
from keras_tagger import audio
from keras_tagger.catalog import Describer, Entry, Options, rows
from keras_tagger.errors import CatalogError

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    """Low, then middle, then high tones, two seconds each."""
    path = tmp_path_factory.mktemp("songs") / "song.wav"
    tones = [tiny.tone(pitch, 2.0, seed) for seed, pitch in enumerate((150.0, 700.0, 3000.0))]
    soundfile.write(path, np.concatenate(tones), tiny.RATE)
    return str(path)


def test_a_row_says_what_the_tagger_says(music, song):
    options = Options(taggram=True, top_contributions=2, sha256=True)
    (row,) = Describer(music, options, {"model": "tiny"}).rows([Entry(song, 5, 6)])
    tags, maps = music.tag(song, top=None), music.contributions(song)
    assert (row["path"], row["size"], row["mtime_ns"], row["model"]) == (song, 5, 6, "tiny")
    assert row["seconds"] == row["heard_seconds"] == 6.0
    assert row["scores"] == pytest.approx([tags[name].score for name in music.tags], abs=1e-3)
    assert set(row["present"]) == {entry.name for entry in tags if entry.present}
    assert row["embedding"] == pytest.approx(music.embed(song), abs=1e-2)
    assert row["taggram"] == pytest.approx(music.taggram(song).values.T, abs=1e-3)
    assert row["warnings"] == []
    best = tags.top(2, "margin").names
    assert [moment["tag"] for moment in row["contributions"]] == list(best)
    for moment in row["contributions"]:
        curve = maps.row(moment["tag"])
        assert moment["value"] == pytest.approx(curve.max(), abs=1e-3)
        assert curve[np.argmin(abs(maps.times - moment["seconds"]))] == pytest.approx(curve.max(), abs=1e-3)


def test_bad_files_are_rows_with_a_sentence(music, song, tmp_path):
    (tmp_path / "noise.mp3").write_bytes(b"no audio")
    entries = [Entry(str(tmp_path / "noise.mp3")), Entry(song), Entry("none.mp3"), Entry("x", error="Expected y.")]
    bad, good, missing, known = Describer(music).rows(entries)
    assert bad["error"].startswith("Expected audio (")
    assert "error" not in good
    assert missing["error"] == "Expected an audio file. Received: 'none.mp3', which does not exist."
    assert known["error"] == "Expected y."


def test_sampled_listening(music, song):
    def scores(options):
        (row,) = Describer(music, options).rows([Entry(song)])
        assert row["seconds"] == 6.0
        return row["heard_seconds"], row["scores"]

    def expected(*excerpts):
        wave = soundfile.read(song, dtype="float32")[0]
        parts = [wave[round(start * tiny.RATE) :][: round(length * tiny.RATE)] for start, length in excerpts]
        return np.mean([music.scores((part, tiny.RATE)) for part in parts], axis=0)

    window = music.model.window_samples / tiny.RATE
    heard, found = scores(Options(seconds=window))
    assert heard == pytest.approx(window, abs=1e-3)
    assert found == pytest.approx(expected((3 - window / 2, window)), abs=2e-3)
    heard, found = scores(Options(seconds=3 * window, spread=True))
    assert heard == pytest.approx(3 * window, abs=1e-3)
    assert found == pytest.approx(expected(*[(centre - window / 2, window) for centre in (1, 3, 5)]), abs=2e-3)
    assert scores(Options(seconds=60))[0] == 6.0


def test_vorbis_is_decoded_once_and_sampled_alike(music, song, tmp_path, monkeypatch):
    """It cannot be entered anywhere, so its windows are cut from one pass over it."""
    wave = soundfile.read(song, dtype="float32")[0]
    soundfile.write(tmp_path / "song.ogg", wave, tiny.RATE)
    window = music.model.window_samples / tiny.RATE
    options = Options(seconds=3 * window, spread=True)
    begun = []
    monkeypatch.setattr(rows, "blocks", lambda *arguments: begun.append(arguments) or audio.blocks(*arguments))
    (found,) = Describer(music, options).rows([Entry(str(tmp_path / "song.ogg"))])
    assert len(begun) == 1
    monkeypatch.setattr(rows, "seeks", lambda info: True)
    (expected,) = Describer(music, options).rows([Entry(str(tmp_path / "song.ogg"))])
    assert len(begun) == 1
    assert found["scores"] == pytest.approx(expected["scores"], abs=2e-3)
    assert found["heard_seconds"] == expected["heard_seconds"]
    assert found["embedding"] == pytest.approx(expected["embedding"], abs=2e-2)


def test_a_silent_beginning_does_not_silence_a_sample(music, tmp_path):
    path = tmp_path / "late.wav"
    soundfile.write(path, np.concatenate([np.zeros(4 * tiny.RATE), tiny.tone(700.0, 2.0, 1)]), tiny.RATE)
    (row,) = Describer(music, Options(seconds=3, spread=True)).rows([Entry(str(path))])
    assert row["scores"].max() > 0
    assert row["warnings"] == []


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"spread": True}, {"top_contributions": -1}])
def test_impossible_options(wrong):
    with pytest.raises(CatalogError, match="expected .* Received: "):
        Options(**wrong)
