"""tools/pretrain/ship.py: two taggers cut out of one with both vocabularies."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

import tiny
from keras_tagger.data.manifest import read_manifest
from keras_tagger.data.prepare import prepare
from keras_tagger.errors import ModelError
from keras_tagger.evaluation.thresholds import best_threshold
from keras_tagger.storage.pretrained import read_packaged
from keras_tagger.tags import TagInfo
from keras_tagger.teachers.musicnn import TAGS
from pretrain import ship

BOTH = (*(f"msd/{tag}" for tag in reversed(TAGS["MSD"])), *reversed(TAGS["MTT"]))
RATE = 16000


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Clips of noise: soft labels for guitar, piano and msd/rock; nothing of cello in training; all known."""
    folder = tmp_path_factory.mktemp("noise")
    rows = []
    for index in range(30):
        soundfile.write(folder / f"{index}.wav", tiny.noise(RATE, seed=index), RATE)
        split = "train" if index < 6 else "valid"
        labels = {
            "guitar": 0.45 - 0.3 * (index % 2),
            "msd/rock": float(index % 2),
            "piano": 0.31 if index == 3 else 0.29,
        }
        labels |= {"cello": 1.0} if split == "valid" and index % 2 else {}
        tags = ";".join(f"{tag}:{label:.3f}" for tag, label in labels.items() if label)
        rows.append({"path": f"{index}.wav", "tags": tags, "split": split})
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("path", "tags", "split"))
        writer.writeheader()
        writer.writerows(rows)
    return prepare(read_manifest(folder / "manifest.csv", BOTH), folder / "prepared", RATE, 5.0)


@pytest.fixture(scope="module")
def whole() -> Any:
    """A tagger with both vocabularies."""
    return tiny.random_tagger(tags=BOTH)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "ATTRIBUTION.md").write_text("By somebody.", encoding="utf-8")
    return tmp_path / "weights"


@pytest.mark.parametrize(("tags", "vocabulary", "prefix"), [("mtat", "MTT", ""), ("msd", "MSD", "msd/")])
def test_shipped_columns_and_info(
    prepared: Any, whole: Any, out: Path, tags: str, vocabulary: str, prefix: str
) -> None:
    shipped = ship.ship(whole, prepared, "toy", tags, out, report={"roc_auc": 0.75})
    assert shipped.tags == TAGS[vocabulary]
    wave = (tiny.noise(20000, seed=50), RATE)
    expected = whole.scores(wave)[[BOTH.index(prefix + tag) for tag in shipped.tags]]
    np.testing.assert_allclose(shipped.scores(wave), expected, atol=2e-3)
    assert np.std(expected) > 0.1

    labels = {split: prepared.labels(split) > 0.3 for split in ("train", "valid")}
    clips = list(prepared.iter_clips("valid"))
    for tag in ("guitar", "cello", "piano") if tags == "mtat" else ("rock", "guitar"):
        column = BOTH.index(prefix + tag)
        info, count = shipped.info[tag], int(labels["train"][:, column].sum())
        assert (info.train_clips, info.has_evidence) == (count, count > 0)
        enough = min(labels["valid"][:, column].sum(), (~labels["valid"][:, column]).sum()) >= 10
        assert info.calibrated == (enough and count > 0)
        threshold = 0.3
        if info.calibrated:
            scores = np.array([whole.scores((waveform, RATE))[column] for _, waveform in clips])
            threshold = best_threshold(labels["valid"][:, column], scores)
        assert info.threshold == pytest.approx(threshold, abs=1e-4)
    if tags == "mtat":
        assert shipped.info["cello"] == TagInfo(0.3, False, False, 0)
        assert shipped.info["piano"] == TagInfo(0.3, True, False, 1)
        assert shipped.info["guitar"].calibrated
    else:
        assert (shipped.info["rock"].calibrated, shipped.info["rock"].train_clips) == (True, 3)
        assert shipped.info["jazz"] == TagInfo(0.3, False, False, 0)

    stored = read_packaged("toy", out)
    assert (stored.attribution, stored.description) == ("By somebody.", ship.DESCRIPTIONS[tags])
    assert stored.provenance["data"] == {
        **{"fingerprint": prepared.fingerprint, "positive": 0.3, "clips": {"train": 6, "valid": 24}},
        **{"hours": {"train": 0.0, "valid": 0.01}},
    }
    assert stored.provenance["report"] == {"roc_auc": 0.75}
    assert stored.provenance["training"]["batch_size"] == 4


def test_what_cannot_be_shipped(tagger: Any, prepared: Any, out: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a run with the tags guitar, .* Received: none named 'guitar'"):
        ship.ship(tagger, prepared, "toy", "mtat", out)
    with pytest.raises(ModelError, match=r"expected ATTRIBUTION\.md"):
        ship.ship(tagger, prepared, "toy", "all", tmp_path)
    assert [path.name for path in out.iterdir()] == ["ATTRIBUTION.md"]


def test_the_program(tiny_run: Any, out: Path) -> None:
    """On a finished run and its own data."""
    root = Path(__file__).parents[2]
    (data,) = (tiny_run.dir.parent / "prepared").iterdir()
    command = [sys.executable, "-m", "pretrain.ship", f"--run_dir={tiny_run.dir}", f"--data={data}", "--name=tones"]
    command += ["--tags=all", f"--out={out}", "--min_clips=2", "--description=Tones."]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "tools"), str(root)])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.split()[:3] for line in done.stdout.splitlines()[:3]] == [[tag, "4", "clips"] for tag in tiny.TAGS]
    assert "no evidence in training: none" in done.stdout
    registry = json.loads((out / "registry.json").read_text(encoding="utf-8"))
    assert registry["tones"]["description"] == "Tones."
    stored = read_packaged("tones", out)
    assert stored.provenance["report"]["roc_auc"] == 1.0
    assert all(info.calibrated for info in stored.info.values())


def test_the_program_ends_with_one_sentence(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship, "FLAGS", SimpleNamespace(run_dir="none", data="none", thresholds=None))
    with pytest.raises(SystemExit, match=r"^error: .* Received: 'none', which does not exist\.$"):
        ship.main(["ship"])
    assert [path.name for path in out.iterdir()] == ["ATTRIBUTION.md"]


def test_one_file_has_both_vocabularies(tagger: Any, out: Path) -> None:
    both = tagger.select(["low", "mid", "high"], {"mid": "msd/mid", "high": "msd/high"})
    row = {"threshold": 0.25, "false_alarms": 0.04, "recall": 0.8, "n_without": 50, "n_with": 12, "source": "labels"}
    heard = {**row, "threshold": 0.125, "source": "teacher"}
    fitted = {"thresholds": {"MTAT": {"low": row}, "MSD": {"mid": heard, "high": row}}}
    ship.ship_both(both, fitted, "tones", out)
    first, second = read_packaged("tones", out), read_packaged("tones-msd", out)
    assert (first.tags, second.tags) == (("low",), ("mid", "high"))
    common = {"calibrated": True, "false_alarm_rate": 0.04, "clips_with": 12, "clips_without": 50}
    assert first.info == {"low": TagInfo(0.25, rule="false_alarms", evidence_from="musicnn", **common)}
    assert second.info["mid"] == TagInfo(0.125, rule="teacher", evidence_from="musicnn", **common)
    assert [path.name for path in sorted(out.iterdir())] == ["ATTRIBUTION.md", "registry.json", "tones.npz"]
    with pytest.raises(ModelError, match=r"expected a threshold of every tag. Received: none of 'msd/high'\."):
        ship.ship_both(both, {"thresholds": {"MTAT": {"low": row}, "MSD": {"mid": row}}}, "tones", out)
