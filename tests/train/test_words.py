"""What `fit` says when its data cannot show everything: no validation clips, nothing to learn, undefined scores."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import tiny
from keras_tagger.data.manifest import Clip, Manifest, read_manifest
from keras_tagger.data.prepare import prepare
from keras_tagger.errors import ConfigError, ManifestError
from keras_tagger.train.fit import fit
from keras_tagger.train.history import read_history
from tiny import RATE, TAGS

QUICK = tiny.merged(
    tiny.CONFIG,
    {
        "audio": {"window_seconds": 0.5},
        "model": {"front_end": {"channels": [4, 8]}, "encoder": {"n_layers": 1}},
        "training": {"batch_size": 8, "epochs": 2},
    },
)
pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Three short tones, all for training."""
    return read_manifest(tiny.write_tones(tmp_path_factory.mktemp("words"), {"train": 1}, seconds=(0.5, 0.6)))


def scalars(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for path in (run_dir / "logs").glob("events.out.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return found


def test_without_a_validation_split_nothing_is_called_valid(
    tones: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(QUICK, tones, run_dir=tmp_path / "run")
    (told,) = [message for message in caplog.messages if "validation" in message]
    assert told.startswith(
        "No validation split: the best epoch is chosen by train ROC-AUC, the score of the clips that"
    )
    assert {name for name in run.history[0] if "auc" in name} == {"train_roc_auc", "train_pr_auc"}
    with (run.dir / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["train_roc_auc"]) for row in rows] == [row["train_roc_auc"] for row in run.history]
    found = scalars(run.dir)
    assert [value for _, value in found["train/roc_auc"]] == pytest.approx(
        [row["train_roc_auc"] for row in run.history]
    )
    assert [step for step, _ in found["train/pr_auc"]] == [1, 2]
    assert "train macro ROC-AUC" in capsys.readouterr().err
    assert run.report.training["best_epoch_by"] == "train ROC-AUC"
    assert f"best epoch: {run.report.training['best_epoch']} (by train ROC-AUC)" in repr(run)
    assert "Measured on the training clips" in run.report.warning()
    texts = [path.read_text() for path in run.dir.glob("*.*") if path.suffix in (".csv", ".json", ".html")]
    assert len(texts) == 6
    assert not any("valid" in text for text in texts)
    # TensorBoard's other logs are the configuration, which has settings for validation.
    assert not any("valid" in tag for tag in found)
    # A run directory of an older version called the same scores valid.
    (run.dir / "history.csv").write_text((run.dir / "history.csv").read_text().replace("train_", "valid_"))
    assert "valid_roc_auc" in fit(QUICK, tones, run_dir=run.dir, resume=True).history[0]


def test_an_older_run_without_a_validation_split_is_continued(tones: Manifest, tmp_path: Path) -> None:
    stopped = tmp_path / "run"

    class Stop(tf.keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(QUICK, tones, run_dir=stopped, callbacks=[Stop()])
    (stopped / "history.csv").write_text((stopped / "history.csv").read_text().replace("train_", "valid_"))
    run = fit(QUICK, tones, run_dir=stopped, resume=True)
    assert [set(row) >= {"train_roc_auc", "train_pr_auc"} for row in run.history] == [True, True]
    assert [dict(row) for row in read_history(stopped / "history.csv")] == [pytest.approx(row) for row in run.history]


def test_a_validation_split_that_defines_no_score(
    tones: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """One validation clip has no clip without its tags: the last epoch is kept, and early stopping has no reason."""
    held_out = Clip(tones.clips[0].path, tones.clips[0].tags, end_seconds=0.4, split="valid")
    clips = (*tones.clips[1:], held_out)
    assert len({next(iter(clip.tags)) for clip in clips}) == 3
    settings = {"training.early_stopping_epochs": 1, "training.epochs": 3}
    run = fit(QUICK, Manifest(clips, tones.tags), run_dir=tmp_path / "run", **settings)
    assert any(message.startswith("valid ROC-AUC is undefined, because no tag has both") for message in caplog.messages)
    missing = next(iter(held_out.tags))
    assert f"Nothing can be learned about tags that no training clip has: {missing}." in caplog.messages
    assert (len(run.history), run.report.training["best_epoch"]) == (3, 3)
    assert run.report.training["best_epoch_by"] == "being the last"
    assert all(math.isnan(row["valid_roc_auc"]) for row in run.history)
    assert math.isnan(read_history(run.dir / "history.csv")[0]["valid_roc_auc"])
    assert "valid/roc_auc" not in scalars(run.dir)
    texts = [path.read_text() for path in run.dir.glob("*.*") if path.suffix in (".csv", ".json", ".html")]
    assert not any("nan" in text.lower() for text in [*texts, repr(run), str(run.report), capsys.readouterr().err])
    assert "valid macro ROC-AUC: undefined" in repr(run)
    again = fit(QUICK, Manifest(clips, tones.tags), run_dir=run.dir, resume=True, **settings)
    assert math.isnan(again.history[0]["valid_roc_auc"])


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ([{"low": 1.0}] * 3, r"3 training clips with the same tags \(low\), from which there is nothing to learn"),
        ([{"low": 1.0, "mid": 1.0}], r"1 training clip with the same tags \(low, mid\)"),
        ([{"low": 0.4}] * 2, r"2 training clips with the same tags \(low\)"),
        ([{"low": float("nan")}, {"low": 1.0}], r"2 training clips with the same tags \(low\)"),
    ],
)
@pytest.mark.parametrize("prepared", [False, True])
def test_nothing_to_learn(tones: Manifest, tmp_path: Path, tags: Any, words: str, prepared: bool) -> None:
    clips = tuple(Clip(clip.path, of, split="train") for clip, of in zip(tones.clips, tags, strict=False))
    data: Any = Manifest(clips, tuple(tags[0]))
    if prepared:
        data = prepare(data, tmp_path / "prepared", RATE)
    with pytest.raises(ManifestError, match=f"expected training clips that differ in their tags. Received: {words}"):
        fit(QUICK, data, run_dir=tmp_path / "run")
    # Found before the audio is decoded.
    assert [path.name for path in tmp_path.iterdir()] == (["prepared"] if prepared else [])


def test_the_run_directory_does_not_replace_the_manifest(tones: Manifest, tmp_path: Path) -> None:
    tones.save(tmp_path / "manifest.csv")
    before = (tmp_path / "manifest.csv").read_bytes()
    with pytest.raises(ConfigError, match="run_dir: expected a directory without the data. Received: "):
        fit(QUICK, tmp_path / "manifest.csv", run_dir=tmp_path)
    assert (tmp_path / "manifest.csv").read_bytes() == before


def test_nothing_to_learn_after_files_failed(tones: Manifest, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_text("no audio")
    clips = (tones.clips[0], Clip(str(tmp_path / "broken.wav"), {TAGS[2]: 1.0}, split="train"))
    with pytest.raises(ManifestError, match="Received: 1 training clip with the same tags"):
        fit(QUICK, Manifest(clips, tones.tags), run_dir=tmp_path / "run")
