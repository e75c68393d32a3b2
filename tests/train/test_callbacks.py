"""Keras callbacks in `fit`, several steps per execution, and a loss that is not finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_tagger.errors import ModelError
from keras_tagger.train.fit import fit
from tiny import LEARNER, NO_BOARD, merged

QUIET = merged(LEARNER, {"board": NO_BOARD})


class Listener(keras.callbacks.Callback):
    """Remembers what it is told, and stops after the second epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.told.append("begin")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        assert np.isfinite(float(logs["loss"]))
        self.told.append(batch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.told.append((epoch, set(logs) >= {"loss", "valid_roc_auc"}))
        self.model.stop_training = epoch == 1

    def on_train_end(self, logs: Any = None) -> None:
        self.told.append("end")


def test_callbacks_are_told_and_may_stop(tones: Path, tmp_path: Path) -> None:
    listener = Listener()
    config = merged(QUIET, {"training": {"steps_per_execution": 6, "checkpoint_steps": 10}})
    run = fit(config, tones, run_dir=tmp_path / "run", callbacks=[listener])
    assert len(run.history) == 2
    # Sixteen steps an epoch; an execution ends at a checkpoint.
    epoch = [5, 9, 15]
    assert listener.told == ["begin", *epoch, (0, True), *epoch, (1, True), "end"]
    assert "epochs: 2" in repr(run)


@pytest.mark.usefixtures("eagerly")
def test_a_loss_that_is_not_finite_stops_the_run(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^training: expected a finite loss; .* Received: nan in epoch"):
        fit(QUIET, tones, run_dir=tmp_path / "run", **{"training.learning_rate": 1e30, "training.optimizer": "sgd"})
