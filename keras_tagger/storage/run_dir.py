"""The names of the files in a run directory, which only this module knows.

    runs/NAME/  config.yaml  tags.txt  tags.json  manifest.csv  model.keras  checkpoints/last.npz  logs/
                history.csv  report.json  report.csv  report.html  scores.npz  imported.json  distill.json  labels/

`model.keras` is the best model so far, `checkpoints/last.npz` the newest state, and `logs/` is for TensorBoard. Only
the directory of an imported checkpoint has `imported.json`, and only that of a distilled model `distill.json` and
`labels/`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


class _Place:
    """A path in a `RunDir`, by its name there."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: RunDir, owner: type[RunDir]) -> Path:
        return run.path / self._name


# A `.keras` file has a member of the same name and content.
TAGS_JSON = "tags.json"


@dataclass(frozen=True)
class RunDir:
    """The paths in a run directory.

    Attributes:
        path: The directory; it need not exist.

    Example:
        >>> RunDir("runs/demo").model
        PosixPath('runs/demo/model.keras')
    """

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", Path(path))

    config = _Place("config.yaml")
    """The resolved configuration, YAML."""

    tags_text = _Place("tags.txt")
    """The tags, one per line."""

    tags_json = _Place(TAGS_JSON)
    """The threshold and quality of each tag (`keras_tagger.tags.TagInfo`)."""

    manifest = _Place("manifest.csv")
    """The clips of the run with their splits."""

    model = _Place("model.keras")
    """The best model so far."""

    checkpoint = _Place("checkpoints/last.npz")
    """The state from which an interrupted run resumes."""

    logs = _Place("logs")
    """TensorBoard's folder."""

    history = _Place("history.csv")
    """One row per epoch."""

    report = _Place("report.json")
    """The scores on the held-out clips."""

    imported = _Place("imported.json")
    """The origin of an imported checkpoint."""

    distillation = _Place("distill.json")
    """The settings of a distillation and, when it has finished, the agreement with the teacher."""

    labels = _Place("labels")
    """The dense labels that a distilled model was trained on."""
