"""tools/pretrain/scores.py: splits, seeds, resuming, and what the program says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_tagger.errors import ManifestError
from made_scores import FOLDER, PIECES, made_piece, needs_fluidsynth
from pretrain.score_pieces import SPLITS, split_of
from pretrain.score_soundfonts import find_soundfonts
from pretrain.scores import render_clip, render_set, table, write_manifest

ROOT = Path(__file__).parents[2]


def test_clips_of_another_seed_are_not_mixed(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/00000.json").write_text('{"seed": 1}')
    train = [piece for piece in PIECES if split_of(piece["work"]) == "train"]
    with pytest.raises(ManifestError, match="expected a clip of seed 0. Received: one of seed 1"):
        render_set(tmp_path, train, {}, {"train": 1}, 0, 1)
    assert render_set(tmp_path, train, {}, {"train": 1}, 1, 1) == []  # it is there: nothing to do


def test_clips_with_and_without_varied_timbres_are_not_mixed(tmp_path):
    train = [piece for piece in PIECES if split_of(piece["work"]) == "train"]
    path = tmp_path / "train/00000.json"
    path.parent.mkdir()
    path.write_text('{"seed": 1}')
    with pytest.raises(ManifestError, match="Received: one without --vary_timbre"):
        render_set(tmp_path, train, {}, {"train": 1}, 1, 1, vary_timbre=True)
    path.write_text('{"seed": 1, "vary_timbre": true}')
    with pytest.raises(ManifestError, match="Received: one with --vary_timbre"):
        render_set(tmp_path, train, {}, {"train": 1}, 1, 1)
    assert render_set(tmp_path, train, {}, {"train": 1}, 1, 1, vary_timbre=True) == []
    # Clips for testing are the same either way.
    (tmp_path / "test").mkdir()
    (tmp_path / "test/00000.json").write_text('{"seed": 1}')
    test = [
        piece for piece in map(made_piece, (f"bach/bwv{i}.mxl" for i in range(99))) if split_of(piece["work"]) == "test"
    ]
    assert render_set(tmp_path, test, {}, {"test": 1}, 1, 1, vary_timbre=True) == []


@needs_fluidsynth
def test_clips_say_that_their_timbres_are_varied(tmp_path):
    fonts = find_soundfonts(str(FOLDER), SPLITS)
    said = []
    for split, vary_timbre in (("train", False), ("train", True), ("test", True)):
        out = tmp_path / f"{split} {vary_timbre}"
        render_clip(out, PIECES, fonts, split, 2, 0, "single", vary_timbre)
        said.append(json.loads((out / split / "00002.json").read_text()))
    assert [labels.pop("vary_timbre", None) for labels in said] == [None, True, None]
    assert said[0] == said[1]
    plain, other = ((tmp_path / f"train {made}/train/00002.flac").read_bytes() for made in (False, True))
    assert plain != other


def test_a_split_without_pieces_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="expected pieces for the split test. Received: none of 0"):
        render_set(tmp_path, [], {}, {"test": 1}, 0, 1)


@needs_fluidsynth
def test_a_set_goes_on_where_it_was(tmp_path):
    fonts = find_soundfonts(str(FOLDER), SPLITS)
    clips = [(tmp_path, PIECES, fonts, "train", number, 0) for number in range(3)]
    for clip in clips:
        render_clip(*clip)
    pieces = [made_piece(f"bach/bwv{i}.mxl") for i in range(1, 40)]
    kept, lost = tmp_path / "train/00000.json", tmp_path / "train/00001.json"
    before, content = kept.stat().st_mtime_ns, lost.with_suffix(".flac").read_bytes()
    lost.unlink()
    assert render_set(tmp_path, pieces, fonts, {"train": 3}, 0, 1) == []
    assert kept.stat().st_mtime_ns == before
    assert lost.with_suffix(".flac").read_bytes() != content  # other pieces
    render_clip(*clips[1])
    assert lost.with_suffix(".flac").read_bytes() == content
    rows = write_manifest(tmp_path, {"train": 3, "test": 2})
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
    assert "train: 3 clips" in table(tmp_path, rows)


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
