"""The processes of one machine."""

from __future__ import annotations

import os
import re
import signal

import numpy as np
import pytest
import soundfile

import tiny
from keras_tagger.catalog import Catalog, Describer, Entry, Options, build
from keras_tagger.catalog.local import PROCESS_BYTES, LocalEngine
from keras_tagger.cli import main
from keras_tagger.errors import CatalogError


def test_a_process_that_is_killed_is_replaced(music, songs, tmp_path):
    """Kill it twice; every file has one row, equal to the row that is made in this process."""
    music.save(tmp_path / "tiny.keras")
    entries = [Entry(str(path)) for path in sorted(songs.iterdir())]
    engine = LocalEngine(str(tmp_path / "tiny.keras"), Options(), {}, cpus=1)
    rows = {}
    for row in engine.rows(entries):
        assert row["path"] not in rows
        rows[row["path"]] = row
        if len(rows) == 2:
            os.kill(engine.process_ids[0], signal.SIGKILL)
    assert engine.process_ids == []
    with tiny.eager():
        expected = list(Describer(music).rows(entries))
    assert [row["path"] for row in expected] == sorted(rows)
    for row in expected:
        found = rows[row["path"]]
        assert found.keys() == row.keys()
        assert found.get("error") == row.get("error")
        if "error" not in row:
            assert found["scores"] == pytest.approx(row["scores"], abs=2e-3)


def test_processes_that_cannot_load_the_model_are_an_error(songs):
    with pytest.raises(
        CatalogError, match=r"expected processes that load the model\. Received: 3 that ended with stat"
    ):
        list(LocalEngine(str(songs / "noise.mp3"), Options(), {}, cpus=1).rows([Entry(str(songs / "0.wav"))]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cpus": 0}, "cpus: expected at least 1"),
        ({"memory": 1000}, "memory: expected at least 1024 MiB"),
    ],
)
def test_impossible_budgets(wrong, message):
    with pytest.raises(CatalogError, match=message):
        LocalEngine("compact", Options(), {}, **wrong)


def test_memory_limits_the_number_of_processes():
    assert LocalEngine("compact", Options(), {}, cpus=8, memory=3 * PROCESS_BYTES).processes == 3


def test_the_command_makes_and_continues_a_catalogue(music, songs, tmp_path, capsys, monkeypatch):
    """With an engine in this process, so that it need not start another."""
    music.save(tmp_path / "tiny.keras")
    asked = []

    def rows(self, entries):
        asked.extend(entries)
        with tiny.eager():
            yield from Describer(music, Options(), {"model": "tiny"}).rows(entries)

    monkeypatch.setattr(LocalEngine, "rows", rows)
    words = ["catalog", str(songs), "--out", str(tmp_path / "made"), "--model", str(tmp_path / "tiny.keras")]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert "6 described" in out
    assert "noise.mp3" in err
    assert len(Catalog(tmp_path / "made")) == 6
    asked.clear()
    assert main(words) == 0
    assert asked == []
    os.utime(songs / "3.wav")
    assert main([*words, "--retry_errors"]) == 1
    assert sorted(os.path.basename(entry.path) for entry in asked) == ["3.wav", "noise.mp3"]
    assert len(Catalog(tmp_path / "made")) == 6
    soundfile.write(songs / "silent.wav", np.zeros(tiny.RATE), tiny.RATE)
    capsys.readouterr()
    assert main(words) == 0
    assert re.search(r"1 described \(.*; 1 with warnings\), 7 unchanged", capsys.readouterr().out)
    assert main([*words, "--seconds", "9"]) == 1
    assert "expected the options that" in capsys.readouterr().err


def test_parts_are_all_files_without_repetition(songs, tmp_path, monkeypatch):
    monkeypatch.setattr(
        LocalEngine, "rows", lambda self, entries: iter([{**e._asdict(), "error": "x"} for e in entries])
    )
    found = []
    for index in range(3):
        built = build([songs], tmp_path / str(index), "compact", part=(index + 1, 3))
        found += [path for path, _ in built.errors]
    assert sorted(found) == sorted(str(path) for path in songs.iterdir())


def test_the_public_names_are_not_modules():
    from keras_tagger import catalog

    assert all(callable(getattr(catalog, name)) for name in catalog.__all__)
