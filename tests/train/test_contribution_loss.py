"""Training on times: with the contribution loss, the maps of a small model show when a tone is heard."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import soundfile

import tiny
from keras_tagger.train.fit import fit

HALF = 1.024
CONFIG = tiny.merged(
    tiny.LEARNER,
    {
        "name": "times",
        "audio": {"window_seconds": 2 * HALF},
        "training": {"epochs": 10, "contribution_loss": 1.0},
        "board": tiny.NO_BOARD,
    },
)


def write_halves(folder, count):
    """Clips of two tones, one after the other, with the times of each."""
    rng = np.random.default_rng(5)
    tags = list(tiny.PITCHES_HZ)
    rows = []
    for index in range(count):
        first, second = rng.choice(tags, 2, replace=False)
        halves = [
            tiny.tone(rng.uniform(*tiny.PITCHES_HZ[tag]), HALF, 10 * index + i) for i, tag in enumerate((first, second))
        ]
        soundfile.write(folder / f"{index}.wav", np.concatenate(halves), tiny.RATE)
        times = {tag: [] for tag in tags} | {first: [[0.0, HALF]], second: [[HALF, 2 * HALF]]}
        content = {"seconds": 2 * HALF, "stretch_seconds": HALF / 2, "tags": times}
        (folder / f"{index}.json").write_text(json.dumps(content))
        split = "valid" if index >= count - 12 else "train"
        rows.append({"path": f"{index}.wav", "tags": {}, "labels": f"{index}.json", "split": split})
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "m.jsonl"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("times")
    return fit(CONFIG, write_halves(folder, 60), run_dir=folder / "run")


def test_maps_show_when_a_tone_is_heard(run):
    """On held-out clips, where every clip has two of three tags and only the times tell them apart."""
    folder = run.dir.parent
    inside, outside = [], []
    for index in range(48, 60):
        times = json.loads((folder / f"{index}.json").read_text())["tags"]
        heat = run.tagger.contributions(folder / f"{index}.wav")
        for row, tag in enumerate(heat.tags):
            for start, end in times[tag]:
                heard = (heat.times > start) & (heat.times < end)
                inside.append(heat.values[row, heard].mean())
                outside.append(heat.values[row, ~heard].mean())
    assert len(inside) == 24
    assert np.mean(np.array(inside) > np.array(outside)) == 1.0
    assert np.mean(inside) > 0.7
    assert np.mean(outside) < 0.3


def test_tags_are_learnt_too(run):
    assert run.report.split == "valid"
    assert run.report.n_clips == 12
    assert run.report.roc_auc > 0.95


@pytest.mark.usefixtures("eagerly")
def test_without_dense_labels_it_changes_nothing_and_says_so(tones, tmp_path, caplog):
    losses = {}
    for weight in (0.0, 1.0):
        over = {"training": {"epochs": 1, "batch_size": 32, "contribution_loss": weight}, "board": tiny.NO_BOARD}
        with caplog.at_level(logging.WARNING, logger="absl"):
            caplog.clear()
            losses[weight] = fit(tiny.merged(tiny.LEARNER, over), tones, run_dir=tmp_path / str(weight)).history[0][
                "loss"
            ]
        said = [record.getMessage() for record in caplog.records if "contribution_loss" in record.getMessage()]
        assert len(said) == int(weight)
        assert all("expected training clips with dense labels" in text for text in said)
    assert losses[1.0] == pytest.approx(losses[0.0], rel=1e-6)
