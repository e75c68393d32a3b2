"""Whether a SavedModel is one that TensorFlow Serving serves: `keras-tagger export --check DIR`.

What is looked at: signatures reach TensorFlow's own ops alone, no Python, no forced XLA, no fixed device; inputs and
outputs are dense and batch-major, outputs in full precision; it loads by the session loader where keras, kapre and
tensorflow-io cannot be imported; and every signature answers its warm-up requests, by the names of feeds and fetches.
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
from keras_tagger.export import inspection

TIMEOUT_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class ExportCheck:
    """What was found in a version: what each signature was run on, and what is wrong (nothing, if it is fit)."""

    path: Path
    runs: dict[str, Sequence[str]]
    problems: Sequence[str]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        lines = [str(self.path)]
        for signature, runs in self.runs.items():
            lines += [f"  {signature:<16} {run}" for run in runs] or [f"  {signature:<16} not run"]
        lines += [f"  not fit: {problem}" for problem in self.problems]
        return "\n".join([*lines, "  fit for TensorFlow Serving" if self.ok else "  not fit for TensorFlow Serving"])


def check_export(directory: str | os.PathLike[str]) -> ExportCheck:
    """Check a version, or the newest version below a directory, in an interpreter of its own.

    Raises:
        ModelError: there is no version.
    """
    path = _version(Path(directory))
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    program = Path(inspection.__file__).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as elsewhere:
        try:
            run = subprocess.run(
                [sys.executable, "-c", program, str(path.resolve())],
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                cwd=elsewhere,
                timeout=TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return ExportCheck(path, {}, [f"expected an answer within {TIMEOUT_SECONDS} s. Received: none."])
    lines = run.stdout.splitlines()
    if run.returncode or not lines:
        last = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
        return ExportCheck(path, {}, [f"expected a SavedModel that can be loaded and run. Received: {last[:300]}"])
    found = json.loads(lines[-1])
    return ExportCheck(path, {entry["name"]: entry["runs"] for entry in found["signatures"]}, found["problems"])


def _version(directory: Path) -> Path:
    """The directory itself if it is a SavedModel, else the highest number below it."""
    if (directory / "saved_model.pb").exists():
        return directory
    numbers = [entry for entry in directory.glob("*") if entry.name.isascii() and entry.name.isdigit()]
    if not numbers:
        raise ModelError(f"expected a SavedModel, or a folder with numbered versions of one. Received: {directory}.")
    return max(numbers, key=lambda entry: int(entry.name))
