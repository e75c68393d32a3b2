"""Names of files and folders that are not UTF-8, or that a terminal, a page or a table must not take literally."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow as tf

import tiny
from keras_tagger.cli import main
from keras_tagger.config import load_config
from keras_tagger.data.manifest import read_folders, read_manifest
from keras_tagger.evaluation.report import load_report
from keras_tagger.heatmap import Heatmap
from keras_tagger.storage.run_dir import RunDir
from keras_tagger.tagger import load
from keras_tagger.train.fit import fit
from keras_tagger.views.explanation import write

TAG = os.fsdecode(b"r\xe9ggae")
NAMES = [
    os.fsdecode(b"caf\xe9.wav"),
    "cafe\u0301.wav",
    "new\nline, and \"quote\"; a 'tab'\t.wav",
    "return\r.wav",
    "-<b>\x1b[31m \u202e\U0001f3b5.wav",
    "n" * 246 + ".wav",
]
CONFIG = tiny.merged(
    tiny.LEARNER,
    {
        "model": {"front_end": {"channels": [4]}, "encoder": {"width": 8, "feed_forward": 8}},
        "training": {"epochs": 1, "batch_size": 8},
        "data": {"split": {"valid": 0.2, "test": 0.4}},
    },
)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of tones, one of them named in another encoding, with a file that is not audio."""
    root = tmp_path_factory.mktemp("names") / os.fsdecode(b"Musik\xe4")
    for tag, pitch in ((TAG, 300.0), ("low", 120.0)):
        (root / tag).mkdir(parents=True)
        for index, name in enumerate(NAMES):
            with (root / tag / name).open("wb") as file:
                soundfile.write(file, tiny.tone(pitch, 0.6, index + int(pitch)), tiny.RATE, format="WAV")
    (root / "low" / os.fsdecode(b"bad\xe9\n.wav")).write_bytes(b"no audio")
    return root


@pytest.fixture(scope="module")
def run(music: Path) -> Any:
    """A run on that folder, in such a folder."""
    tf.config.run_functions_eagerly(True)
    try:
        return fit(CONFIG, music, run_dir=music.parent / os.fsdecode(b"run\xe9"))
    finally:
        tf.config.run_functions_eagerly(False)


def read_utf8(path: Path) -> str:
    return path.read_bytes().decode("utf-8")


def test_a_run_keeps_the_bytes_of_names(music: Path, run: Any) -> None:
    files = RunDir(run.dir)
    assert run.tagger.tags == ("low", TAG)
    assert load(run.dir).tags == ("low", TAG)
    assert files.tags_text.read_bytes() == b"low\nr\xe9ggae\n"
    assert [entry["tag"] for entry in json.loads(read_utf8(files.tags_json))] == ["low", TAG]
    assert load_config(files.config).data.path == str(music)
    kept, given = read_manifest(files.manifest), read_folders(music)
    assert [(clip.path, clip.tags) for clip in kept.clips] == [(clip.path, clip.tags) for clip in given.clips]
    assert len(kept) == 2 * len(NAMES) + 1


def test_a_report_keeps_names_as_data_and_shows_escapes(run: Any) -> None:
    report = load_report(run.dir)
    assert [row["tag"] for row in report.per_tag] == ["low", TAG]
    assert report.clip_scores is not None
    assert list(report.clip_scores.tags) == ["low", TAG]
    assert [Path(entry["path"]).name for entry in report.failed] == [os.fsdecode(b"bad\xe9\n.wav")]
    rows = csv.DictReader((run.dir / "report.csv").read_text("utf-8", "surrogateescape").splitlines())
    assert [row["tag"] for row in rows] == ["low", TAG]
    for shown in (read_utf8(run.dir / "report.html"), str(report)):
        assert r"r\xe9ggae" in shown
        assert r"bad\xe9\n.wav" in shown


def test_tensorboard_shows_escapes(run: Any) -> None:
    (events,) = RunDir(run.dir).logs.glob("events.*")
    records = tf.data.TFRecordDataset([os.fsencode(events)])
    tags = [value.tag for record in records for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value]
    shown = [tag.removeprefix("preview/") for tag in tags if tag.startswith("preview/")]
    assert len(shown) == CONFIG["board"]["preview_clips"]
    assert all(name.startswith(("low/", r"r\xe9ggae/")) for name in shown)


def test_commands_show_escapes_and_write_bytes(
    music: Path, run: Any, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    file = str(music / TAG / NAMES[0])
    assert main(["tag", "--model", str(run.dir), "--json", file]) == 0
    found = json.loads(capfdbinary.readouterr().out)
    assert found["file"] == file
    assert set(found["tags"]) == {"low", TAG}
    assert main(["tag", "--model", str(run.dir), "--csv", str(music / TAG / "return\r.wav")]) == 0
    rows = list(csv.reader(io.StringIO(capfdbinary.readouterr().out.decode("utf-8", "surrogateescape"), newline="")))
    assert {row[0] for row in rows[1:]} == {str(music / TAG / "return\r.wav")}
    assert {row[1] for row in rows[1:]} == {"low", TAG}
    assert main(["tag", "--model", str(run.dir), file, str(music / "gone\x1b.wav")]) == 1
    out, errors = (text.decode("utf-8") for text in capfdbinary.readouterr())
    assert r"Musik\xe4" in out
    assert r"caf\xe9.wav" in out
    assert r"r\xe9ggae" in out
    assert r"gone\x1b.wav" in errors
    assert main(["data", "check", str(music)]) == 1
    out = capfdbinary.readouterr().out.decode("utf-8")
    assert r"r\xe9ggae" in out
    assert r"bad\xe9\n.wav: Expected audio" in out
    page, heard = tmp_path / os.fsdecode(b"o\xe9.html"), tmp_path / os.fsdecode(b"heard\xe9.wav")
    words = [file, "--model", str(run.dir), "--tags", TAG, "--out", str(page), "--listen", str(heard)]
    assert main(["explain", *words]) == 0
    assert r"<title>caf\xe9.wav" in read_utf8(page)
    # The player reads its tags from JSON.
    assert json.dumps(r"r\xe9ggae") in read_utf8(page)
    assert soundfile.info(os.fsencode(heard)).samplerate == tiny.RATE


def test_a_map_keeps_the_name_of_its_tag(tmp_path: Path) -> None:
    heat = Heatmap(np.ones((1, 2)), (TAG,), np.array([0.1, 0.2]), "contributions")
    for name in ("o.png", "o.json", "o.npz"):
        write(heat, tmp_path / name, "unused.wav")
    assert json.loads(read_utf8(tmp_path / "o.json"))["tags"] == [TAG]
    with np.load(tmp_path / "o.npz") as stored:
        assert stored["tags"].tolist() == [TAG]
    assert heat.labels() == [r"r\xe9ggae"]


def test_evaluate_reads_the_manifest_of_the_run(run: Any, tmp_path: Path) -> None:
    target = tmp_path / os.fsdecode(b"out\xe9")
    first = load_report(run.dir)
    for data in ([], ["--data", str(run.dir / "manifest.csv")]):
        assert main(["evaluate", str(run.dir), *data, "--out", str(target / str(len(data)))]) == 0
        found = load_report(target / str(len(data)))
        assert (found.n_clips, found.roc_auc) == (first.n_clips, first.roc_auc)


def test_no_temporary_file_is_left(music: Path, run: Any) -> None:
    below = [name for _, folders, files in os.walk(music.parent) for name in (*folders, *files)]
    assert [name for name in below if name.startswith(".")] == []
