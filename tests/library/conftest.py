"""Files of every format, made once."""

from __future__ import annotations

from pathlib import Path

import mixed_files
import pytest


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file of each kind; do not change them."""
    return mixed_files.make(tmp_path_factory.mktemp("originals"))


@pytest.fixture
def files(originals: list[Path], tmp_path: Path) -> dict[str, Path]:
    """Copies of them by name."""
    folder = tmp_path / "music"
    folder.mkdir()
    for path in originals:
        (folder / path.name).write_bytes(path.read_bytes())
    return {path.name: folder / path.name for path in originals}
