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

    @property
    def config(self) -> Path:
        """The resolved configuration, YAML."""
        return self.path / "config.yaml"

    @property
    def tags_text(self) -> Path:
        """The tags, one per line."""
        return self.path / "tags.txt"

    @property
    def tags_json(self) -> Path:
        """The threshold and quality of each tag (`keras_tagger.tags.TagInfo`)."""
        return self.path / TAGS_JSON

    @property
    def manifest(self) -> Path:
        """The clips of the run with their splits."""
        return self.path / "manifest.csv"

    @property
    def model(self) -> Path:
        """The best model so far."""
        return self.path / "model.keras"

    @property
    def checkpoint(self) -> Path:
        """The state from which an interrupted run resumes."""
        return self.path / "checkpoints" / "last.npz"

    @property
    def logs(self) -> Path:
        """TensorBoard's folder."""
        return self.path / "logs"

    @property
    def history(self) -> Path:
        """One row per epoch."""
        return self.path / "history.csv"

    @property
    def report(self) -> Path:
        """The scores on the held-out clips."""
        return self.path / "report.json"

    @property
    def imported(self) -> Path:
        """The origin of an imported checkpoint."""
        return self.path / "imported.json"

    @property
    def distillation(self) -> Path:
        """The settings of a distillation and, when it has finished, the agreement with the teacher."""
        return self.path / "distill.json"

    @property
    def labels(self) -> Path:
        """The dense labels that a distilled model was trained on."""
        return self.path / "labels"


# A `.keras` file has a member of the same name and content.
TAGS_JSON = "tags.json"
