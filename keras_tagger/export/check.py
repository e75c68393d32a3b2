"""Check whether TensorFlow Serving can serve a SavedModel: `keras-tagger export --check DIR`.

The check verifies that signatures use only TensorFlow's own ops, without Python calls, forced XLA or a fixed device;
that inputs and outputs are dense and batch-major, and outputs have full precision; that the SavedModel loads in a
session where keras, kapre and tensorflow-io cannot be imported; and that every signature answers its warm-up requests.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from keras_tagger.errors import ModelError
from keras_tagger.export import inspection, layout

TIMEOUT_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class ExportCheck:
    """The result of a check.

    Attributes:
        path: The version that was checked.
        runs: For each signature, the shapes of inputs and outputs of every run.
        problems: Reasons why the version cannot be served; empty if there are none.
    """

    path: Path
    runs: dict[str, Sequence[str]]
    problems: Sequence[str]

    @property
    def ok(self) -> bool:
        """Whether the version can be served."""
        return not self.problems

    def __str__(self) -> str:
        lines = [str(self.path)]
        for signature, runs in self.runs.items():
            lines += [f"  {signature:<16} {run}" for run in runs] or [f"  {signature:<16} not run"]
        lines += [f"  not fit: {problem}" for problem in self.problems]
        return "\n".join([*lines, "  fit for TensorFlow Serving" if self.ok else "  not fit for TensorFlow Serving"])


def check_export(directory: str | os.PathLike[str]) -> ExportCheck:
    """Check an exported model in a separate Python process.

    Args:
        directory: A version, or the directory of its versions, of which the newest is checked.

    Raises:
        ModelError: If there is no version.

    Example:
        >>> check_export("exported").ok
        True
    """
    path = newest_version(Path(directory))
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    program = Path(inspection.__file__).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as elsewhere:
        try:
            run = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    program,
                    str(path.resolve()),
                    layout.WARMUP_REQUESTS,
                    str(layout.MAX_WARMUP_RECORDS),
                ],
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                cwd=elsewhere,
                timeout=TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return ExportCheck(
                path, {}, [f"expected the check to end within {TIMEOUT_SECONDS} s. Received: no result."]
            )
    lines = run.stdout.splitlines()
    if run.returncode or not lines:
        last = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
        return ExportCheck(path, {}, [f"expected a SavedModel that can be loaded and run. Received: {last[:300]}"])
    found = json.loads(lines[-1])
    return ExportCheck(path, {entry["name"]: entry["runs"] for entry in found["signatures"]}, found["problems"])


def newest_version(directory: Path) -> Path:
    """Return the directory itself if it is a SavedModel, else its newest version.

    Raises:
        ModelError: If there is no version.
    """
    if (directory / layout.SAVED_MODEL).exists():
        return directory
    found = layout.versions(directory)
    if not found:
        raise ModelError(f"expected a SavedModel, or a folder with numbered versions of one. Received: {directory}.")
    return found[max(found)]
