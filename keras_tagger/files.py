"""Write files and folders atomically: under a hidden name that is renamed at the end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    r"""Yield a hidden sibling of `path`, which replaces `path` if the block ends without an error.

    Missing parent folders are created. The sibling has the suffix of `path`.

    Args:
        path: The file to write.

    Example:
        >>> with replacing("scores.csv") as temporary:
        ...     temporary.write_text("tag,score\n")
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
    """Write a UTF-8 text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(content: Any, indent: int | None = None) -> str:
    r"""Return readable JSON with a newline at its end.

    Bytes of a file name that are not UTF-8 become `\udcXX`, which `json.loads` turns back into that name.
    """
    text = json.dumps(content, ensure_ascii=False, indent=indent) + "\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_json(path: str | os.PathLike[str], content: Any, indent: int | None = None) -> None:
    """Write a JSON file (see `json_text`) atomically."""
    write_text(path, json_text(content, indent))


def write_json_lines(path: str | os.PathLike[str], rows: Iterable[Any]) -> None:
    """Write a file with a line of JSON per row (see `json_text`) atomically."""
    write_text(path, "".join(map(json_text, rows)))


@contextlib.contextmanager
def hidden_folder(parent: str | os.PathLike[str], prefix: str) -> Iterator[Path]:
    """Yield a new hidden folder below `parent`, for the block to fill and rename.

    It is removed if the block does not rename it. Everyone may read it, as with a folder made by `mkdir`.

    Raises:
        OSError: If the parent cannot be created or written to.
    """
    Path(parent).mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{prefix}-", dir=parent))
    temporary.chmod(0o755)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def version_number(name: str) -> int | None:
    """Return the version number in a folder's name, or None if it is not ASCII digits below 2^63."""
    return int(name) if name.isascii() and name.isdecimal() and int(name) < 2**63 else None
