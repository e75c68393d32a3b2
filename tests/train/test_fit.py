"""`fit` on tones: it learns them, and leaves the run directory it promises."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow as tf

import tiny
from keras_tagger.config import load_config
from keras_tagger.data.manifest import read_manifest
from keras_tagger.data.prepare import prepare
from keras_tagger.data.prepared import open_prepared
from keras_tagger.errors import ConfigError, ManifestError
from keras_tagger.evaluation.evaluate import evaluate
from keras_tagger.storage.run_dir import RunDir
from keras_tagger.tagger import load
from keras_tagger.train.board import preview_clips
from keras_tagger.train.checkpoint import read_progress
from keras_tagger.train.fit import fit
from keras_tagger.train.history import HISTORY
from keras_tagger.train.loop import Loop
from keras_tagger.views.preview import figure_to_png, make_preview, preview_figure
from layer_harness import convolves_half
from tiny import CONFIG, LEARNER, NO_BOARD, RATE, TAGS, merged

QUICK = merged(
    CONFIG,
    {
        "model": {"front_end": {"channels": [4, 8]}, "encoder": {"n_layers": 1}},
        "training": {"batch_size": 8},
    },
)


def test_learns_tones(tiny_run: Any) -> None:
    assert tiny_run.report.split == "test"
    assert tiny_run.report.n_clips == 6
    assert tiny_run.report.roc_auc == 1.0
    assert tiny_run.report.pr_auc == 1.0
    # New tones: each tag scores highest on its own. How high depends on the rounding of the processor.
    pitches = {"low": 150.0, "mid": 750.0, "high": 3000.0}
    scores = np.stack([tiny_run.tagger.scores((tiny.tone(pitch, 2.2, 77), RATE)) for pitch in pitches.values()])
    for tag, best in zip(tiny_run.tagger.tags, scores.argmax(axis=0), strict=True):
        assert list(pitches)[best] == tag
    losses = [row["loss"] for row in tiny_run.history]
    # Telling nothing apart costs the entropy of one tag in three, 0.64.
    assert losses[-1] < 0.3 < losses[0]


def test_run_directory(tiny_run: Any, tones: Path) -> None:
    found = {entry.name for entry in tiny_run.dir.iterdir()}
    assert found == {
        *("config.yaml", "tags.txt", "tags.json", "manifest.csv", "model.keras", "checkpoints", "logs"),
        *("history.csv", "report.json", "report.csv", "report.html", "scores.npz"),
    }
    assert [entry.name for entry in (tiny_run.dir / "checkpoints").iterdir()] == ["last.npz"]
    assert (tiny_run.dir / "tags.txt").read_text(encoding="utf-8") == "high\nlow\nmid\n"
    stored = load_config(tiny_run.dir / "config.yaml")
    assert stored == tiny_run.tagger.config == load_config(LEARNER, {"data.path": str(tones)})
    kept, given = read_manifest(tiny_run.dir / "manifest.csv"), read_manifest(tones)
    assert (len(kept), kept.clips, kept.tags) == (24, given.clips, given.tags)
    info = json.loads((tiny_run.dir / "tags.json").read_text(encoding="utf-8"))
    assert [(entry["tag"], entry["train_clips"]) for entry in info] == [(tag, 4) for tag in TAGS]


def test_history(tiny_run: Any) -> None:
    with (tiny_run.dir / "history.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HISTORY
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9))
    for row, kept in zip(rows, tiny_run.history, strict=True):
        assert {name: float(value) for name, value in row.items()} == pytest.approx(dict(kept))
    for row in tiny_run.history:
        assert 0 <= row["input_wait_share"] <= 1
        assert 0 <= row["valid_roc_auc"] <= 1
    assert rows[-1]["valid_roc_auc"] == "1.0"
    # After the steps of half an epoch a cosine to zero, of which the rate after every epoch is told.
    steps = read_progress(tiny_run.dir / "checkpoints" / "last.npz").total_steps / 8
    done = (np.arange(1, 9) * steps - round(steps / 2)) / (8 * steps - round(steps / 2))
    rates = [row["learning_rate"] for row in tiny_run.history]
    np.testing.assert_allclose(rates, 0.01 * 0.5 * (1 + np.cos(np.pi * done)), atol=1e-8)
    # Of the first epoch's steps, the first makes the graph and is not counted.
    crop_seconds = tiny_run.tagger.model.crop_samples / RATE
    heard = [row["audio_seconds_per_second"] * row["seconds"] for row in tiny_run.history]
    assert heard == pytest.approx([(steps - (epoch == 0)) * 4 * crop_seconds for epoch in range(8)])


def test_report_file(tiny_run: Any, tones: Path) -> None:
    content = json.loads((tiny_run.dir / "report.json").read_text(encoding="utf-8"))
    assert (content["roc_auc"], content["pr_auc"], content["n_clips"]) == (1.0, 1.0, 6)
    assert [row["tag"] for row in content["per_tag"]] == list(TAGS)
    training = content["training"]
    # Windows are of whole tokens; a clip has as many crops as windows fit it, rounded, and a batch is of four.
    crop = tiny_run.tagger.model.crop_samples
    assert crop == 8000 // 2048 * 2048
    lengths = [soundfile.info(clip.path).frames for clip in read_manifest(tones).select("train").clips]
    steps = 8 * (sum(int(length / crop + 0.5) for length in lengths) // 4)
    assert (training["epochs"], training["steps"]) == (8, steps)
    # A tie is kept as the newest, and the last epoch is perfect.
    assert training["best_epoch"] == 8
    assert training["train_seconds"] == pytest.approx(sum(row["seconds"] for row in tiny_run.history))
    waited = sum(row["seconds"] * row["input_wait_share"] for row in tiny_run.history)
    assert training["input_wait_share"] == pytest.approx(waited / training["train_seconds"])
    heard = (steps - 1) * 4 * crop / RATE
    assert training["audio_seconds_per_second"] == pytest.approx(heard / training["train_seconds"])


def test_the_runs_tagger_is_the_saved_one(tiny_run: Any, tones: Path) -> None:
    report = evaluate(load(tiny_run.dir), tones, progress=False)
    # From files, not from prepared audio; both hold 16 bits.
    assert report.roc_auc == tiny_run.report.roc_auc
    found, kept = report.clip_scores, tiny_run.report.clip_scores
    assert found.tags == kept.tags
    by_clip = dict(zip(found.clips, found.scores, strict=True))
    assert len(by_clip) == 6
    np.testing.assert_allclose([by_clip[clip] for clip in kept.clips], kept.scores, atol=1e-3)
    assert np.ptp(kept.scores, axis=0).min() > 0.5


def events(run_dir: Path) -> dict[str, list[tuple[int, Any]]]:
    found: dict[str, list[tuple[int, Any]]] = {}
    for path in sorted((run_dir / "logs").glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value))
    return found


def test_tensorboard_events(tiny_run: Any, tones: Path) -> None:
    found = events(tiny_run.dir)
    scalars = {tag for tag in found if tag.startswith(("train/", "valid/", "test/")) and "/pr_curves" not in tag}
    assert scalars == {
        *("train/loss", "train/learning_rate", "train/seconds"),
        *("train/audio_seconds_per_second", "train/input_wait_share"),
        *("valid/loss", "valid/roc_auc", "valid/pr_auc", "test/roc_auc", "test/pr_auc"),
    }
    for tag in (tag for tag in scalars if not tag.startswith("test/")):
        column = tag.replace("valid/", "valid_").removeprefix("train/")
        written = [(step, float(tf.make_ndarray(value.tensor))) for step, value in found[tag]]
        assert [step for step, _ in written] == list(range(1, 9))
        np.testing.assert_allclose([value for _, value in written], [row[column] for row in tiny_run.history], 1e-6)
    for name in ("roc_auc", "pr_auc"):
        ((step, value),) = found[f"test/{name}"]
        assert (step, float(tf.make_ndarray(value.tensor))) == (8, getattr(tiny_run.report, name))
    (text,) = found["config/text_summary"] if "config/text_summary" in found else found["config"]
    assert (tiny_run.dir / "config.yaml").read_text(encoding="utf-8").strip() in tf.make_ndarray(
        text[1].tensor
    ).reshape(-1)[0].decode()
    # The first held-out clip, two seconds of it.
    (folder,) = (tiny_run.dir.parent / "prepared").iterdir()
    clip, heard = next(open_prepared(folder).iter_clips("valid"))
    heard = heard[: 2 * RATE]
    name = f"{tones.parent.name}/{Path(clip.path).stem}"
    (images,) = [values for tag, values in found.items() if tag.startswith(f"preview/{name}")]
    assert [tag for tag in found if tag.startswith("preview/") and name not in tag] == []
    assert [step for step, _ in images] == list(range(1, 9))
    width, height, png = tf.make_ndarray(images[-1][1].tensor)[:3]
    # The last epoch's is the best model, which the run's tagger is.
    preview = make_preview(tiny_run.tagger, (heard, RATE), name, tuple(clip.tags), seconds=2.0, top=2)
    expected = tf.io.decode_png(figure_to_png(preview_figure(preview)), channels=3).numpy()
    assert expected.shape == (int(height), int(width), 3)
    np.testing.assert_array_equal(tf.io.decode_png(png), expected)
    (clips,) = [values for tag, values in found.items() if tag.startswith("clips/")]
    assert [step for step, _ in found[f"clip/{name}"]] == [1]
    for step in range(1, 9):
        assert [at for at, _ in found[f"maps/{name}/{step}"]] == [step]
    assert [step for step, _ in clips] == [0]
    wave, rate = tf.audio.decode_wav(tf.make_ndarray(clips[0][1].tensor).reshape(-1)[0])
    assert int(rate) == RATE
    np.testing.assert_allclose(wave[:, 0], heard, atol=2 / 32768)


def test_previews_are_held_out_clips_of_different_tags(tones: Path, tmp_path: Path) -> None:
    """In the order of the data; when all tags are there, or none is new, the next ones."""
    manifest = read_manifest(tones).select("valid")
    # A soft label that is no tag of the clip is not seen with it.
    soft = {"high": {"high": 1.0, "mid": 0.3}}
    clips = tuple(dataclasses.replace(clip, tags=soft.get(next(iter(clip.tags)), clip.tags)) for clip in manifest.clips)
    data = prepare(dataclasses.replace(manifest, clips=clips), tmp_path / "prepared", RATE, 5.0)

    def chosen(count: int) -> list[tuple[str, tuple[str, ...]]]:
        settings = load_config(LEARNER, {"board.preview_clips": count, "board.preview_seconds": 0.75})
        found = preview_clips(data, settings)
        for name, waveform, _ in found:
            path = tones.parent / f"{name.split('/')[1]}.wav"
            heard, _ = soundfile.read(path, dtype="float32", frames=12000)
            np.testing.assert_allclose(waveform, heard, atol=1 / 32768)
        return [(name.removeprefix(f"{tones.parent.name}/valid_"), truth) for name, _, truth in found]

    names = [Path(clip.path).stem.removeprefix("valid_") for clip in data.select("valid")]
    every = [(name, (name.split("_")[0],)) for name in names]
    firsts = [next(clip for clip in every if clip[1] == (tag,)) for tag in TAGS]
    three = [clip for clip in every if clip in firsts]
    assert three != every[:3]
    assert [chosen(count) for count in (0, 1, 2, 3)] == [[], three[:1], three[:2], three]
    fourth = next(clip for clip in every if clip not in three)
    assert chosen(4) == [clip for clip in every if clip in (*three, fourth)]
    assert chosen(9) == every


def test_a_run_is_not_overwritten(tiny_run: Any, tones: Path) -> None:
    before = (tiny_run.dir / "report.json").stat().st_mtime_ns
    with pytest.raises(ConfigError, match="run_dir: expected a new directory. Received: .*tiny, which holds a run"):
        fit(LEARNER, tones, run_dir=tiny_run.dir)
    assert (tiny_run.dir / "report.json").stat().st_mtime_ns == before


def assert_given_back(run: Any, config: Any, data: Path) -> None:
    """Resuming a finished run changes no file, and gives what training it gave."""
    before = {entry.name: entry.stat().st_mtime_ns for entry in run.dir.iterdir()}
    again = fit(config, data, run_dir=run.dir, resume=True)
    assert {entry.name: entry.stat().st_mtime_ns for entry in run.dir.iterdir()} == before
    assert again.report.to_dict() == run.report.to_dict()
    assert [dict(row) for row in again.history] == [pytest.approx(dict(row)) for row in run.history]
    assert (again.tagger.config, again.tagger.info) == (run.tagger.config, run.tagger.info)
    wave = tiny.tone(700.0, 1.5, 5)
    np.testing.assert_allclose(again.tagger.scores((wave, RATE)), run.tagger.scores((wave, RATE)), atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("training.learning_rate", 0.02, r"^training\.learning_rate: expected 0\.01, with which .* Received: 0\.02"),
        ("training.epochs", 7, r"^training\.epochs: expected at least 8, the epochs that .* has\. Received: 7"),
        ("model.encoder.norm", "post", r"^model\.encoder\.norm: expected 'pre'"),
        ("training.augment.mixup_alpha", 0.5, r"^training\.augment\.mixup_alpha: expected 0\.0"),
    ],
)
def test_resuming_with_another_configuration(
    tiny_run: Any, tones: Path, tmp_path: Path, key: str, value: Any, words: str
) -> None:
    # A copy, so that a configuration that is not refused does not train the shared run on.
    folder = shutil.copytree(tiny_run.dir, tmp_path / "run")
    with pytest.raises(ConfigError, match=words):
        fit(LEARNER, tones, run_dir=folder, resume=True, **{key: value})


@pytest.mark.usefixtures("eagerly")
def test_resuming_with_other_data_and_when_all_is_done(few_tones: Path, tmp_path: Path) -> None:
    config = merged(QUICK, {"training": {"epochs": 1}})
    fit(config, few_tones, run_dir=tmp_path / "run")
    rows = few_tones.read_text(encoding="utf-8").splitlines()
    other = few_tones.parent / "other.csv"
    other.write_text("\n".join(rows[:-1]) + "\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*")}
    with pytest.raises(ConfigError, match="data: expected the data that .*run was started with"):
        fit(config, other, run_dir=tmp_path / "run", resume=True, **{"training.epochs": 2})
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*")} == before
    (tmp_path / "run" / "report.json").unlink()
    with pytest.raises(ConfigError, match="data: expected the data that .*run was started with"):
        fit(config, other, run_dir=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "manifest.csv").read_bytes() == before[tmp_path / "run" / "manifest.csv"]
    # Each has its own prepared folder beside the runs; the first run's is whole and goes on.
    assert len(list((tmp_path / "prepared").iterdir())) == 2
    run = fit(config, few_tones, run_dir=tmp_path / "run", resume=True)
    assert run.report.n_clips == 3
    assert_given_back(run, config, few_tones)


def test_a_file_in_the_way(tones: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="run_dir: expected a directory. Received: an empty path"):
        fit(CONFIG, tones, run_dir="")
    with pytest.raises(ConfigError, match="run_dir: expected a directory. Received: .*file, a file"):
        fit(CONFIG, tones, run_dir=tmp_path / "file")


def test_sizes_that_do_not_go_together_are_told_before_the_data_are_prepared(tones: Path, tmp_path: Path) -> None:
    config = merged(CONFIG, {"model": {"attention": {"positions": "learned", "max_positions": 2}}})
    with pytest.raises(ConfigError, match=r"model\.attention\.max_positions: expected at least \d+, .* Received: 2\."):
        fit(config, tones, run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_data_that_cannot_be_used(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"^data\.path: expected a manifest"):
        fit(CONFIG, run_dir=tmp_path / "run")
    with pytest.raises(ManifestError, match=r"data: expected pairs of \(path, tags\)\. Received: "):
        fit(CONFIG, [str(tones)], run_dir=tmp_path / "run")
    prepared = prepare(read_manifest(tones), tmp_path / "prepared", 8000, 1.0)
    with pytest.raises(ManifestError, match="expected audio prepared at 16000 Hz. Received: 8000 Hz"):
        fit(CONFIG, prepared, run_dir=tmp_path / "run")
    clips = read_manifest(tones).select("test")
    only_test = prepare(clips, tmp_path / "only_test", RATE, 1.0)
    with pytest.raises(ManifestError, match="expected clips in split train. Received: only test, in"):
        fit(CONFIG, only_test, run_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.usefixtures("eagerly")
def test_corrupt_files_are_reported(tmp_path: Path) -> None:
    manifest = tiny.write_tones(tmp_path / "tones", {"train": 2, "valid": 1})
    (tmp_path / "tones" / "train_low_0.wav").write_text("no audio")
    # Some labels may be gone: two of the three tags still have a clip.
    run = fit(QUICK, manifest, run_dir=tmp_path / "run", **{"training.epochs": 1})
    assert [Path(entry["path"]).name for entry in run.report.failed] == ["train_low_0.wav"]
    assert "train_low_0.wav" in run.report.failed[0]["reason"]
    assert (run.report.n_clips, run.report.split) == (3, "valid")
    stored = json.loads((run.dir / "report.json").read_text(encoding="utf-8"))
    assert len(stored["failed"]) == 1


@pytest.mark.skipif(not convolves_half(), reason="ONEDNN_MAX_CPU_ISA excludes half precision")
def test_half_precision(tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = merged(LEARNER, {"board": NO_BOARD, "training": {"epochs": 4, "precision": "mixed_bfloat16"}})
    trained_in: list[str] = []
    run_loop = Loop.run

    def look_and_run(loop: Loop) -> None:
        trained_in.extend((loop.model.dtype_policy.name, loop.model.encoder.blocks[0].expand.compute_dtype))
        run_loop(loop)

    monkeypatch.setattr(Loop, "run", look_and_run)
    run = fit(config, tones, run_dir=tmp_path / "run")
    assert trained_in == ["mixed_bfloat16", "bfloat16"]
    assert run.tagger.model.dtype_policy.name == "float32"
    assert run.tagger.model.encoder.blocks[0].expand.compute_dtype == "float32"
    assert run.history[-1]["loss"] < run.history[0]["loss"] - 0.1
    assert run.report.roc_auc > 0.8
    wave = tiny.tone(700.0, 1.5, 5)
    loaded = load(run.dir)
    np.testing.assert_allclose(loaded.scores((wave, RATE)), run.tagger.scores((wave, RATE)), atol=1e-6)


def write_noise(folder: Path) -> Path:
    """Noise with tags that it has nothing to do with: validation goes up and down."""
    folder.mkdir()
    lines = ["path,tags,split"]
    for index in range(24):
        soundfile.write(folder / f"{index}.wav", tiny.noise(RATE, seed=index), RATE)
        lines.append(f"{index}.wav,{'ab'[index % 2]},{'train' if index < 8 else 'valid'}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "manifest.csv"


@pytest.mark.usefixtures("eagerly")
def test_early_stopping_and_phases(tmp_path: Path) -> None:
    """With what the history says: when it stopped, and from which weights each phase went on."""
    config = merged(
        QUICK,
        {
            "training": {
                "epochs": 40,
                "early_stopping_epochs": 3,
                "phases": [{"from_epoch": 2, "optimizer": "sgd", "learning_rate": 0.01}],
            }
        },
    )
    run = fit(config, write_noise(tmp_path / "noise"), run_dir=tmp_path / "run")
    scores = [row["valid_roc_auc"] for row in run.history]
    assert len(scores) < 40
    best = max(range(len(scores)), key=lambda epoch: (scores[epoch], epoch))
    # A tie is kept as the newest, but only a better score delays the stop.
    assert len(scores) - 1 - scores.index(max(scores)) == 3
    assert run.report.training["best_epoch"] == best + 1
    assert run.report.roc_auc == pytest.approx(max(scores), abs=1e-9)
    rates = [row["learning_rate"] for row in run.history]
    assert rates[2:] == pytest.approx([0.01] * (len(rates) - 2))
    assert rates[1] < 0.006


@pytest.mark.usefixtures("eagerly")
def test_a_phase_starts_from_the_best_weights(tones: Path, tmp_path: Path) -> None:
    """A first phase that destroys the model after its first epoch; a second that hardly moves it."""
    config = merged(
        QUICK,
        {
            "training": {
                **{"epochs": 3, "optimizer": "adam", "weight_decay": 0.0, "warmup_epochs": 0.0, "schedule": "constant"},
                "phases": [{"from_epoch": 2, "optimizer": "sgd", "learning_rate": 1e-9}],
            },
        },
    )
    settings = load_config(config)
    prepared = prepare(read_manifest(tones), tmp_path / "prepared", RATE, 5.0)
    model = tiny.random_tagger({"model": QUICK["model"]}).model
    seen: list[dict[str, np.ndarray]] = []

    def on_epoch(epoch: int, row: dict[str, float], tagger: Any, report: Any) -> None:
        seen.append({weight.path: weight.numpy() for weight in model.trainable_weights})
        if epoch == 1:
            # As if the second epoch had been the worse one.
            best = load(tmp_path / "run").model
            for weight in best.weights:
                weight.assign(np.full(weight.shape, 0.125))
            best.save(tmp_path / "run" / "model.keras")

    loop = Loop(model, settings, open_prepared(prepared.dir), RunDir(tmp_path / "run"), on_epoch)
    loop.run()
    assert loop.steps_per_epoch > 2
    assert loop.progress.total_steps == 3 * loop.steps_per_epoch
    # The last phase hardly moves the weights, so its loss is that of a constant model.
    assert np.isfinite([row["loss"] for row in loop.history]).all()
    assert len(seen) == 3
    for path, value in seen[2].items():
        np.testing.assert_allclose(value, 0.125, atol=1e-5, err_msg=path)
    assert max(np.abs(value - 0.125).max() for value in seen[1].values()) > 0.1
