"""The command line in the process of the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

import tiny
from keras_tagger import tagger
from keras_tagger.cli import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command; returns its exit status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A low tone of two seconds."""
    path = tmp_path / "low.wav"
    soundfile.write(path, tiny.tone(150.0, 2.0, seed=9), tiny.RATE)
    return path


@pytest.fixture(autouse=True)
def kept_models(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load a model once for all commands of a test, and `tiny_run`'s never, so that graphs are not traced again."""
    load = tagger.load
    kept: dict[tuple[str, float], Any] = {}
    if "tiny_run" in request.fixturenames:
        run = request.getfixturevalue("tiny_run")
        kept[str(run.dir), run.dir.stat().st_mtime] = run.tagger

    def load_once(model: str) -> Any:
        if not Path(model).exists():
            return load(model)
        key = (str(model), Path(model).stat().st_mtime)
        if key not in kept:
            kept[key] = load(model)
        return kept[key]

    monkeypatch.setattr(tagger, "load", load_once)
