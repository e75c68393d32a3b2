"""The tabs of TensorBoard beside the scalars of a run, and what logging costs the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from matplotlib.image import imread
from tensorboard.plugins import projector
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from keras_tagger.train.history import read_history, write_history
from tiny import TAGS


@pytest.fixture(scope="module")
def summaries(tiny_run: Any) -> dict[str, list[tuple[int, Any]]]:
    """Every value of the run's event files with its step, by tag."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for path in (tiny_run.dir / "logs").glob("events.out.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value))
    return found


def test_the_loss_of_steps_and_of_validation(tiny_run: Any, summaries: dict[str, Any]) -> None:
    """The points of the steps' curve, weighted by their steps, add up to each epoch's loss."""
    points = [(step, float(tf.make_ndarray(value.tensor))) for step, value in summaries["steps/loss"]]
    total = tiny_run.report.training["steps"]
    assert points[-1][0] == total
    per_epoch = total // 8
    before = [0, *(step for step, _ in points[:-1])]
    for epoch, row in enumerate(tiny_run.history):
        inside = [
            (step - start, value)
            for start, (step, value) in zip(before, points, strict=True)
            if epoch * per_epoch < step <= (epoch + 1) * per_epoch
        ]
        assert sum(count for count, _ in inside) == per_epoch
        assert sum(count * value for count, value in inside) / per_epoch == pytest.approx(row["loss"], rel=1e-4)
    losses = [row["valid_loss"] for row in tiny_run.history]
    assert losses[-1] < 0.3 < losses[0]


def test_scores_and_curves_of_each_tag(summaries: dict[str, Any]) -> None:
    for tag in TAGS:
        scores = [float(tf.make_ndarray(value.tensor)) for _, value in summaries[f"valid_roc_auc/{tag}"]]
        assert (len(scores), scores[-1]) == (8, 1.0)
        curves = summaries[f"valid/{tag}/pr_curves"]
        assert [step for step, _ in curves] == list(range(1, 9))
        true, false, _, missed, precision, recall = tf.make_ndarray(curves[-1][1].tensor)
        # Two of the six validation clips have it, and at some threshold exactly those are found.
        assert (true[0], false[0], missed[0]) == (2, 4, 0)
        assert ((precision == 1) & (recall == 1)).any()
        assert (np.diff(recall) <= 0).all()


def test_hyper_parameters(summaries: dict[str, Any]) -> None:
    def content(tag: str) -> Any:
        ((_, value),) = summaries[tag]
        return HParamsPluginData.FromString(value.metadata.plugin_data.content)

    values = content("_hparams_/session_start_info").session_start_info.hparams
    assert values["training.learning_rate"].number_value == 0.01
    assert values["model.encoder.norm"].string_value == "pre"
    assert "data.path" not in values
    experiment = content("_hparams_/experiment").experiment
    assert {info.name for info in experiment.hparam_infos} == set(values)
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert metrics == ["valid/roc_auc", "valid/pr_auc", "valid/loss", "train/loss"]
    assert set(metrics) <= set(summaries)


def test_embeddings(tiny_run: Any) -> None:
    logs = tiny_run.dir / "logs"
    config = text_format.Parse((logs / "projector_config.pbtxt").read_text(), projector.ProjectorConfig())
    clips, tags = config.embeddings
    vectors = np.loadtxt(logs / clips.tensor_path, delimiter="\t")
    assert vectors.shape == (6, tiny_run.tagger.config.model.encoder.width)
    head, *rows = [line.split("\t") for line in (logs / clips.metadata_path).read_text().splitlines()]
    assert head == ["clip", "true tags", "best tag", "score"]
    assert len(rows) == 6
    # The report says that clips with a tag rank above those without; the best tag of a clip may still be another.
    assert all(row[1] in row[0] and row[2] in tiny_run.tagger.tags and 0 <= float(row[3]) <= 1 for row in rows), rows
    similar = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    alike = np.array([[one[1] == other[1] for other in rows] for one in rows])
    assert similar[alike & ~np.eye(6, dtype=bool)].mean() > similar[~alike].mean() + 0.1
    assert list(clips.sprite.single_image_dim) == [32, 32]
    sprite = imread(logs / clips.sprite.image_path)
    assert sprite.shape[:2] == (96, 96)
    assert sprite[:64, :, :3].std() > 0.05
    kernel = np.loadtxt(logs / tags.tensor_path, delimiter="\t")
    np.testing.assert_allclose(kernel.T, tiny_run.tagger.model.head.logits.kernel, rtol=1e-3, atol=1e-4)
    assert (logs / tags.metadata_path).read_text().splitlines()[1] == "high\tyes"


def test_the_history_of_an_older_version_is_continued(tmp_path: Path) -> None:
    old, new = {"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "valid_loss": 0.75}
    write_history(tmp_path / "history.csv", [old, new])
    first, second = read_history(tmp_path / "history.csv")
    assert np.isnan(first["valid_loss"])
    assert second == new
