"""Training that starts from a model: what is taken over, what stays frozen, and exact resuming."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tiny
from keras_tagger.data.manifest import read_manifest
from keras_tagger.errors import ConfigError, ModelNotFoundError
from keras_tagger.models.transfer import inherited_info
from keras_tagger.storage import pretrained as packaged
from keras_tagger.storage.loading import load_config
from keras_tagger.tagger import load
from keras_tagger.tags import TagInfo
from keras_tagger.train import loop
from keras_tagger.train.fit import fit
from tiny import LEARNER, RATE

# The runs of tests/train/test_resume.py and test_fit.py are traced.
pytestmark = pytest.mark.usefixtures("eagerly")

# No model and no preset: they are the init's. A step that moves nothing that one could see.
STILL: dict[str, Any] = {
    "name": "still",
    "training": {
        **{"epochs": 1, "batch_size": 16, "epoch_crops": 16},
        **{"optimizer": "sgd", "learning_rate": 1e-9, "warmup_epochs": 0.0},
    },
    "board": tiny.NO_BOARD,
}
WAVE = tiny.tone(700.0, 1.5, 5)


@pytest.fixture(scope="module")
def other_tags(tones: Path) -> Path:
    """The tones with "wide" for "high"."""
    path = tones.parent / "wide.csv"
    path.write_text(tones.read_text(encoding="utf-8").replace(",high,", ",wide,"), encoding="utf-8")
    return path


def values(layer: Any) -> list[np.ndarray]:
    return [np.array(weight.numpy()) for weight in layer.weights]


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(values(one), values(other), strict=True))


def test_body_and_shared_tags_are_taken(tiny_run: Any, other_tags: Path, tmp_path: Path) -> None:
    run = fit(STILL, other_tags, run_dir=tmp_path / "run", init=tiny_run.dir, **{"training.freeze": "all_but_head"})
    assert run.tagger.tags == ("low", "mid", "wide")
    assert (run.tagger.config.audio, run.tagger.config.model) == (
        tiny_run.tagger.config.audio,
        tiny_run.tagger.config.model,
    )
    old, new = tiny_run.tagger.model, run.tagger.model
    assert same(old.front_end, new.front_end)
    assert same(old.encoder, new.encoder)
    assert same(old.class_token, new.class_token)
    # high, low, mid -> low, mid, wide.
    for before, after in zip(values(old.head.logits), values(new.head.logits), strict=True):
        np.testing.assert_allclose(after[..., :2], before[..., 1:], atol=1e-6)
        assert np.abs(after[..., 2] - before[..., 0]).max() > 1e-3
    np.testing.assert_allclose(run.tagger.scores((WAVE, RATE))[:2], tiny_run.tagger.scores((WAVE, RATE))[1:], atol=1e-5)
    # The frozen parts can be trained again by whoever has the model.
    assert len(new.trainable_variables) == len(old.trainable_variables)


def test_evidence_is_inherited_and_a_resumed_run_keeps_it(
    tiny_run: Any, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No training clip has "high": nothing is known about it in the first run, and it is absent in the second."""
    rows = tones.read_text(encoding="utf-8").splitlines()
    path = tones.parent / "without.csv"
    path.write_text("\n".join(row for row in rows if not (",high," in row and ",train" in row)), encoding="utf-8")
    data = read_manifest(path)
    unknown = dataclasses.replace(
        data,
        clips=tuple(
            dataclasses.replace(c, tags={**c.tags, "high": np.nan}) if c.split == "train" else c for c in data.clips
        ),
    )

    def killed(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    save = loop.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(STILL, unknown, run_dir=tmp_path / "run", init=tiny_run.dir)
    info = fit(STILL, unknown, run_dir=tmp_path / "run", init=tiny_run.dir, resume=True).tagger.info
    threshold = tiny_run.tagger.info["high"].threshold
    assert info["high"] == TagInfo(threshold, train_clips=0, evidence_from="tiny")
    assert (info["low"].train_clips, info["low"].evidence_from) == (4, "tiny")
    assert load(tmp_path / "run").info == info
    absent = fit(STILL, data, run_dir=tmp_path / "absent", init=tiny_run.dir / "model.keras").tagger.info
    assert absent["high"] == TagInfo(has_evidence=False, train_clips=0)
    assert absent["low"] == info["low"]


def test_the_origin_of_evidence() -> None:
    info = {
        "own": TagInfo(0.25, True, True, 3, "f1", 0.1, 20, 30, "elder"),
        "passed on": TagInfo(0.75, train_clips=0, evidence_from="elder"),
        "unknown": TagInfo(),
        "unheard": TagInfo(has_evidence=False, train_clips=0),
        "left out": TagInfo(train_clips=3),
    }
    columns = {"mine": "own", "passed on": "passed on", "unknown": "unknown", "unheard": "unheard"}
    assert inherited_info(info, columns, "parent") == {
        "mine": TagInfo(0.25, evidence_from="parent"),
        "passed on": TagInfo(0.75, evidence_from="elder"),
        "unknown": TagInfo(evidence_from="parent"),
    }


def test_a_new_head_learns_on_a_frozen_body(tiny_run: Any, other_tags: Path, tmp_path: Path) -> None:
    training = {"epochs": 2, "epoch_crops": 0, "optimizer": "adam", "learning_rate": 0.1, "freeze": "all_but_head"}
    config = tiny.merged(STILL, {"training": training})
    run = fit(config, other_tags, run_dir=tmp_path / "run", init=str(tiny_run.dir / "model.keras"))
    assert same(tiny_run.tagger.model.front_end, run.tagger.model.front_end)
    # 1.0 or nearly so, by the rounding of the processor; a head that has not learnt is at about 0.5.
    assert run.report.roc_auc > 0.9
    assert run.history[-1]["loss"] < run.history[0]["loss"]


@pytest.mark.parametrize("freeze", ["front_end", "statistics", "none"])
def test_a_frozen_front_end_keeps_its_statistics(tiny_run: Any, freeze: str) -> None:
    old, new = tiny_run.tagger.model, load(tiny_run.dir).model
    new.freeze(freeze)
    new.compile(optimizer=keras.optimizers.SGD(0.01))
    new.train_step((tiny.noise(8000, batch=4), np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]))
    assert np.array_equal(old.front_end.project.kernel, new.front_end.project.kernel) == (freeze == "front_end")
    assert same(old.front_end, new.front_end) == (freeze == "front_end")
    assert not same(old.encoder, new.encoder)
    moved = np.abs(new.front_end.input_norm.moving_mean.numpy() - old.front_end.input_norm.moving_mean.numpy()).max()
    assert (moved > 1e-4) == (freeze == "none")


def test_frozen_parts_do_not_drop_out() -> None:
    model = tiny.random_tagger({"model": {"encoder": {"dropout": 0.5}, "head": {"dropout": 0.0}}}).model
    wave = tiny.noise(16000, seed=1)[None]
    quiet = model(wave, training=False).numpy()
    assert np.abs(model(wave, training=True).numpy() - quiet).max() > 1e-3
    # The step before moved the batch norm's statistics.
    quiet = model(wave, training=False).numpy()
    model.freeze("all_but_head")
    np.testing.assert_allclose(model(wave, training=True).numpy(), quiet, atol=1e-6)
    assert [weight.path.split("/")[-2] for weight in model.trainable_variables] == ["logits", "logits"]
    model.freeze("front_end")
    assert not model.front_end.trainable_variables
    assert model.encoder.trainable_variables
    with pytest.raises(ValueError, match="expected none, statistics, front_end or all_but_head. Received: 'head'"):
        model.freeze("head")


def test_by_a_pretrained_name(tiny_run: Any, few_tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged.write_packaged(tiny_run.tagger, "toy", "A toy.", {}, "", tmp_path / "weights")
    monkeypatch.setattr(packaged, "weights_folder", lambda: tmp_path / "weights")
    run = fit(STILL, few_tones, run_dir=tmp_path / "run", init="toy", **{"training.freeze": "all_but_head"})
    assert same(load("toy").model.front_end, run.tagger.model.front_end)
    np.testing.assert_allclose(run.tagger.scores((WAVE, RATE)), load("toy").scores((WAVE, RATE)), atol=1e-5)
    assert {entry.evidence_from for entry in run.tagger.info.values()} == {"toy"}
    stored = load_config(run.dir / "config.yaml")
    assert (stored.training.init, stored.training.freeze) == ("toy", "all_but_head")
    # What the run keeps needs the init no more.
    monkeypatch.setattr(packaged, "weights_folder", lambda: Path(tmp_path / "nothing"))
    assert load_config(run.dir / "config.yaml") == run.tagger.config


def test_what_the_configuration_sets_stands(tiny_run: Any) -> None:
    init = {"training": {"init": str(tiny_run.dir)}}
    adopted = load_config(init)
    assert (adopted.audio, adopted.model) == (tiny_run.tagger.config.audio, tiny_run.tagger.config.model)
    own = load_config(tiny.merged(init, {"audio": {"window_seconds": 2.0}, "model": {"encoder": {"n_layers": 3}}}))
    assert (own.audio.window_seconds, own.model.encoder.n_layers, own.model.encoder.width) == (2.0, 3, 16)
    assert load_config(tiny.merged(init, {"preset": "compact"})).model == load_config({"preset": "compact"}).model
    assert load_config({}, {"training.init": str(tiny_run.dir)}).model == adopted.model


@pytest.mark.parametrize(
    ("over", "words"),
    [
        (
            {"model": {"encoder": {"n_layers": 2}}},
            r"^model\.encoder\.n_layers: expected 1, as in training\.init",
        ),
        ({"model": {"spectrogram": {"power": 2}}}, r"^model\.spectrogram\.power: expected 1, .*Received: 2\.$"),
        ({"audio": {"sample_rate": 22050}}, r"^audio\.sample_rate: expected 16000, .*Received: 22050\.$"),
        ({"preset": "compact"}, r"^model\.spectrogram\.n_mels: expected 32, .*Received: 96\.$"),
    ],
)
def test_another_model_is_refused(tiny_run: Any, tones: Path, tmp_path: Path, over: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        fit(tiny.merged(STILL, over), tones, run_dir=tmp_path / "run", init=tiny_run.dir)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_window_and_dropout_may_differ(tiny_run: Any, few_tones: Path, tmp_path: Path) -> None:
    over = {"audio": {"window_seconds": 0.3}, "model": {"encoder": {"dropout": 0.3}, "head": {"dropout": 0.1}}}
    run = fit(tiny.merged(STILL, over), few_tones, run_dir=tmp_path / "run", init=tiny_run.dir)
    assert run.tagger.model.window_samples == 2 * 2048
    np.testing.assert_allclose(
        run.tagger.model.encoder.weights[0].numpy(), tiny_run.tagger.model.encoder.weights[0].numpy(), atol=1e-5
    )


def test_an_init_that_is_not_there(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^training\.init: expected a pretrained name .* Received: 'nothing'"):
        fit(STILL, tones, run_dir=tmp_path / "run", init="nothing")
    with pytest.raises(ModelNotFoundError, match="Received: 'nothing'"):
        fit(LEARNER, tones, run_dir=tmp_path / "run", init="nothing")
    with pytest.raises(ConfigError, match=r"^training\.freeze: expected none if training\.init is empty"):
        fit(LEARNER, tones, run_dir=tmp_path / "run", **{"training.freeze": "front_end"})


def test_resuming_is_exact(tiny_run: Any, few_tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a frozen front-end; tests/train/test_resume.py resumes a run that trains everything."""
    config = tiny.merged(
        STILL,
        {
            "model": {"encoder": {"dropout": 0.2}},
            "training": {
                **{"epochs": 2, "batch_size": 32, "epoch_crops": 0, "checkpoint_steps": 1},
                **{"optimizer": "adamw", "learning_rate": 0.003, "init": str(tiny_run.dir), "freeze": "front_end"},
            },
        },
    )
    whole = fit(config, few_tones, run_dir=tmp_path / "whole")
    save, calls = loop.save_checkpoint, []

    def interrupted(*arguments: Any) -> None:
        save(*arguments)
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(config, few_tones, run_dir=tmp_path / "killed")
    again = fit(config, few_tones, run_dir=tmp_path / "killed", resume=True)
    for one, other in zip(again.tagger.model.weights, whole.tagger.model.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6, rtol=1e-5, err_msg=one.path)
    assert [row["loss"] for row in again.history] == pytest.approx([row["loss"] for row in whole.history], rel=1e-5)
    assert same(again.tagger.model.front_end, tiny_run.tagger.model.front_end)
    assert not same(again.tagger.model.encoder, tiny_run.tagger.model.encoder)
    # Another start is another run.
    with pytest.raises(ConfigError, match=r"^training\.init: expected"):
        fit(config, few_tones, run_dir=tmp_path / "killed", resume=True, init=tiny_run.dir / "model.keras")
