"""The state of a run in one file, from which an interrupted run resumes."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ModelError
from keras_tagger.files import replacing


@dataclass
class Progress:
    """The position of a run.

    Attributes:
        epoch: Number of finished epochs.
        step: Steps done in the current epoch.
        total_steps: Steps done in the whole run.
        best_score: Best ROC-AUC so far (accuracy for exclusive tags); see `Loop.score_split`.
        best_epoch: Last epoch, counted from 0, with the best score; -1 if there is none.
        improved_epoch: First epoch with the best score; -1 if there is none.
        data: Fingerprint of the prepared data.
        loss_sum: Sum of the losses of the current epoch.
        seconds: Duration of its steps, including waits, without those that traced the graph.
        wait_seconds: Time these steps waited for input.
        timed_steps: Number of these steps.
        train_seconds: `seconds` over all finished epochs.
        train_wait_seconds: `wait_seconds` over all finished epochs.
        train_timed_steps: `timed_steps` over all finished epochs.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    best_score: float = float("-inf")
    best_epoch: int = -1
    improved_epoch: int = -1
    data: str = ""
    loss_sum: float = 0.0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    timed_steps: int = 0
    train_seconds: float = 0.0
    train_wait_seconds: float = 0.0
    train_timed_steps: int = 0


def save_checkpoint(path: str | os.PathLike[str], variables: Sequence[Any], progress: Progress) -> None:
    """Write variables (Keras', in a fixed order) and progress as one `.npz`, atomically."""
    arrays = {f"{index:04d}": np.asarray(variable.numpy()) for index, variable in enumerate(variables)}
    # numpy has no bfloat16 of its own to store.
    arrays = {
        key: value.astype(np.float32) if value.dtype.kind == "V" or value.dtype.name == "bfloat16" else value
        for key, value in arrays.items()
    }
    state = json.dumps(dataclasses.asdict(progress))
    with replacing(path) as temporary:
        np.savez(temporary, progress=np.array(state), **arrays)


def read_progress(path: str | os.PathLike[str]) -> Progress:
    """Return the progress in a checkpoint; raise `ModelError` if the file is broken."""
    return _read(Path(path))[0]


def load_checkpoint(path: str | os.PathLike[str], variables: Sequence[Any]) -> Progress:
    """Assign a checkpoint's values to the variables and return its progress.

    Raises:
        ModelError: If the file is broken or belongs to another model.
    """
    progress, arrays = _read(Path(path))
    shapes = [tuple(variable.shape) for variable in variables]
    if [array.shape for array in arrays] != shapes:
        raise ModelError(f"expected a checkpoint of the model in the run's config. Received: {path}.")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return progress


def _read(path: Path) -> tuple[Progress, list[npt.NDArray[Any]]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            progress = Progress(**json.loads(str(stored["progress"])))
            return progress, [stored[f"{index:04d}"] for index in range(len(stored.files) - 1)]
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ModelError(f"expected a checkpoint of a run. Received: {path} ({error}).") from None
