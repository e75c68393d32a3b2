"""`sweep`: one run for each combination of some settings, and their leaderboard."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import logging

from keras_tagger.config import ExperimentConfig
from keras_tagger.errors import ConfigError, ModelError
from keras_tagger.evaluation.leaderboard import Leaderboard, leaderboard
from keras_tagger.storage.loading import load_config
from keras_tagger.train.fit import Run, fit


def sweep(
    config: str | os.PathLike[str] | Mapping[str, Any] | ExperimentConfig | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    data: Any = None,
    sweep_dir: str | os.PathLike[str] = "runs/sweep",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **overrides: Any,
) -> Leaderboard:
    """Train a tagger with each combination of some settings.

    Every combination has a run directory in `sweep_dir`, named after its settings. Called again, `sweep` continues: it
    keeps finished runs, resumes an interrupted one and adds those of values that are new. A run whose loss becomes
    infinite or NaN is logged and left out. After each run, `leaderboard.csv` and `leaderboard.html` are written.

    Runs are ordered by the score of their best epoch on the validation clips, so that the clips of the test split
    choose nothing.

    Args:
        config: As for `fit`.
        grid: The values to try, by dotted key.
        data: As for `fit`.
        sweep_dir: The directory of the runs.
        callbacks: As for `fit`, for all runs.
        overrides: Settings of all runs by dotted key.

    Raises:
        ConfigError: If the grid is empty or a value is not allowed; all combinations are checked before the first run.
        ModelError: If no run succeeds.

    Example:
        >>> board = kt.sweep("finetune", {"training.learning_rate": [1e-4, 1e-3], "training.seed": [0, 1]}, "my_music/")
        >>> kt.load(f"runs/sweep/{board.best}")
    """
    combinations = _combinations(grid)
    if any({**overrides, **settings}.get("training.strategy") == "multi_worker" for settings in combinations.values()):
        raise ConfigError("training.strategy: expected none or mirrored in a sweep. Received: 'multi_worker'.")
    folder = Path(sweep_dir)
    if config is not None:
        for settings in combinations.values():
            load_config(config, {**overrides, **settings})
    runs: dict[str, Run] = {}
    board = None
    for number, (name, settings) in enumerate(combinations.items(), 1):
        logging.info("run %d of %d: %s", number, len(combinations), name)
        try:
            runs[name] = fit(config, data, folder / name, True, None, callbacks, **{**overrides, **settings})
        except ModelError as error:
            logging.error("%s: left out: %s", name, error)
            continue
        board = _board(runs, combinations)
        board.save(folder / "leaderboard.csv")
        board.save(folder / "leaderboard.html")
    if board is None:
        raise ModelError(f"expected a run that succeeds. Received: {len(combinations)} that failed.")
    return board


def _combinations(grid: Mapping[str, Sequence[Any]] | None) -> dict[str, dict[str, Any]]:
    """Return the settings of each run by the run's name."""
    for key, values in (grid or {}).items():
        if isinstance(values, str | bytes) or not isinstance(values, Sequence | np.ndarray) or not len(values):
            raise ConfigError(f"grid: expected a list of values of {key}. Received: {values!r}.")
    if not grid:
        raise ConfigError("grid: expected keys with the values to try. Received: none.")
    short = {key: key.rpartition(".")[2] for key in grid}
    named = {key: name if list(short.values()).count(name) == 1 else key for key, name in short.items()}
    found = {}
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        name = ",".join(f"{named[key]}={value}" for key, value in settings.items())
        found[re.sub(r"[^\w.,=+-]+", "_", name)] = settings
    if len(found) < np.prod([len(values) for values in grid.values()]):
        raise ConfigError("grid: expected values that differ from each other. Received: some twice.")
    return found


def _board(runs: Mapping[str, Run], combinations: Mapping[str, Mapping[str, Any]]) -> Leaderboard:
    first = next(iter(runs.values()))
    exclusive = first.report.accuracy is not None
    validated = all(any(name.startswith("valid_") for name in row) for run in runs.values() for row in run.history)
    chosen = f"{'valid' if validated else 'train'}_{'accuracy' if exclusive else 'roc_auc'}"
    values = {
        name: {**combinations[name], chosen: max((row[chosen] for row in run.history), default=float("nan"))}
        for name, run in runs.items()
    }
    return leaderboard({name: run.report for name, run in runs.items()}, chosen, values=values)
