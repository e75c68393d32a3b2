"""Write files and folders whole or not at all: under a hidden name that is renamed at the end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a hidden sibling of `path`; it takes the path's name if the block ends without an error.

    Missing parent folders are made. The sibling has the path's suffix.

    Example:
        >>> with replacing("scores.csv") as temporary:
        ...     temporary.write_text("tag,score\\n")
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: Any, indent: int | None = None) -> None:
    """Write a JSON file that ends with a newline, whole or not at all."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=indent) + "\n")


@contextlib.contextmanager
def hidden_folder(parent: str | os.PathLike[str], prefix: str) -> Iterator[Path]:
    """Yield a new hidden folder below `parent`, to be filled and renamed by the block.

    If the block leaves it there, it is removed. Its mode allows everyone to read, as that of a folder made by `mkdir`.

    Raises:
        OSError: the parent cannot be made or written to.
    """
    Path(parent).mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{prefix}-", dir=parent))
    temporary.chmod(0o755)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def version_number(name: str) -> int | None:
    """Return the number that a version's folder is named by, or None if the name is not one (ASCII digits, < 2^63)."""
    return int(name) if name.isascii() and name.isdecimal() and int(name) < 2**63 else None
