"""Fixtures that are dear to make and shared by many tests, and what makes every process of the tests faster."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

import tiny

Shared = Callable[[str, Callable[[Path], object]], Path]

# Rooms with long tests.
LONG = ("train", "models")
# Of the guides, those with the most commands.
LONG_GUIDES = ("test_the_readme_works", "test_fit", "test_command_line", "test_explain", "test_serve")


ROOT = Path(__file__).parents[1]
PRESENT = pytest.StashKey[set[str]]()


def _untracked() -> set[str]:
    """Return what git would add; nothing where there is no repository."""
    command = ["git", "-C", str(ROOT), "ls-files", "--others", "--exclude-standard", "--directory"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return set(done.stdout.split("\n")) - {""}


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Add a process to those of pytest-xdist: some tests wait for a server, a browser or another process."""
    found = yield
    return found if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else found + 1


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        session.config.stash[PRESENT] = _untracked()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what appeared in the working tree during the run, which would be committed one day.

    This is no failure, as another program may have left it.
    """
    if left := _untracked() - config.stash[PRESENT]:
        terminalreporter.write_line(f"WARNING: new in {ROOT}: {', '.join(sorted(left))}", yellow=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run long tests first, so that no process is left with one at the end."""
    tests = Path(__file__).parent
    items.sort(key=lambda item: (item.name not in LONG_GUIDES, item.path.relative_to(tests).parts[0] not in LONG))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives to the end; tracing graphs starts it often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Shared:
    """Make a folder once for all processes of a run: `shared(name, make)` calls `make(folder)` in the first of them."""
    own = tmp_path_factory.getbasetemp()
    root = own if worker_id == "master" else own.parent

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        path, made = root / f"shared_{name}", root / f"shared_{name}.made"
        with filelock.FileLock(root / f"shared_{name}.lock"):
            if not made.exists():
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir()
                make(path)
                made.touch()
        return path

    return folder


@pytest.fixture(scope="session")
def tones(shared: Shared) -> Path:
    """A manifest of short tones of three tags, with splits."""
    counts = {"train": 4, "valid": 2, "test": 2}
    return shared("tones", lambda folder: tiny.write_tones(folder, counts)) / "manifest.csv"


@pytest.fixture(scope="session")
def few_tones(shared: Shared) -> Path:
    """The same with a window or two of each, for a fit whose scores do not matter."""
    counts = {"train": 2, "valid": 1, "test": 1}
    return shared("few_tones", lambda folder: tiny.write_tones(folder, counts, seconds=(0.6, 0.9))) / "manifest.csv"


@pytest.fixture(scope="session")
def tiny_run(tones: Path, shared: Shared) -> Any:
    """A finished run on the tones, as `fit` gives it back; do not write to its folder."""
    from keras_tagger.train.fit import fit

    folder = shared("runs", lambda folder: fit(tiny.LEARNER, tones, run_dir=folder / "tiny"))
    return fit(tiny.LEARNER, tones, run_dir=folder / "tiny", resume=True)


@pytest.fixture(scope="session")
def music() -> Any:
    """The tiny pre-norm tagger with random weights; do not change it."""
    return tiny.random_tagger()


@pytest.fixture(scope="session")
def tagger(music: Any) -> Any:
    """The same; tests of the server have a `tagger` of their own."""
    return music


@pytest.fixture(scope="session")
def post_norm_tagger() -> Any:
    """The tiny tagger as the paper's model is: post-norm, fixed [CLS], pooler, power mel in dB, timbral front-end."""
    tagger = tiny.random_tagger(
        {
            "preset": "won2019",
            "audio": {"window_seconds": 0.5},
            "model": {
                "spectrogram": {"n_mels": 32},
                "front_end": {"channels": [1]},
                "encoder": {"epsilon": 1e-6},
            },
        },
        tags=("a", "b", "c", "d"),
    )
    # Decibels are tens from zero; unless they are scaled, random weights saturate and rounding is all that shows.
    tagger.model.front_end.input_norm.moving_variance.assign([1000.0])
    return tagger


@pytest.fixture(scope="session")
def exported(music: Any, shared: Shared) -> Path:
    """The first exported version of `music`; do not write to its folder."""
    return shared("exported", music.export) / "1"


@pytest.fixture
def export_only() -> Iterator[Callable[..., None]]:
    """Let the exports of a test have the named signatures only (`tiny.exporting`)."""
    with contextlib.ExitStack() as stack:
        yield lambda *names: stack.enter_context(tiny.exporting(*names))


@pytest.fixture
def eagerly() -> Iterator[None]:
    """Run every `tf.function` eagerly (`tiny.eager`)."""
    with tiny.eager():
        yield
