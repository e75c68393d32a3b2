"""Write files and folders atomically, under a hidden name that is renamed at the end, and read text.

A name of a file may be any bytes. Python holds bytes that are not UTF-8 as surrogates ("surrogateescape"). Text files
get those bytes back, JSON holds them as escapes, TensorFlow gets `to_bytes`, and people see `printable`.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

_LONGEST_NAME = 230  # A name has at most 255 bytes; a hidden one is longer than its file's.


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
    stem = target.stem
    if len(os.fsencode(target.name)) > _LONGEST_NAME:
        stem = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    temporary = target.with_name(f".{stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Yield a UTF-8 text file that replaces `path` if the block ends without an error; see `replacing`."""
    with (
        replacing(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        yield file


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with writing(path) as file:
        file.write(text)


def write_csv(path: str | os.PathLike[str], columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file with a header atomically; a row may lack columns."""
    # The module quotes a line feed, but not a carriage return, at which its reader ends a row, too.
    split = any("\r" in value for row in rows for value in row.values() if isinstance(value, str))
    with writing(path) as file:
        writer = csv.DictWriter(
            file, columns, lineterminator="\n", quoting=csv.QUOTE_ALL if split else csv.QUOTE_MINIMAL
        )
        writer.writeheader()
        writer.writerows(rows)


def to_bytes(text: str) -> bytes:
    r"""Return UTF-8 for TensorFlow, which refuses text with surrogates; `to_text` is the inverse.

    Example:
        >>> to_bytes(os.fsdecode(b"caf\xe9.ogg"))
        b'caf\xe9.ogg'
    """
    return text.encode("utf-8", "surrogateescape")


def to_text(content: bytes) -> str:
    """Decode UTF-8; other bytes become surrogates, as in Python's names of files."""
    return content.decode("utf-8", "surrogateescape")


# Bytes that are not UTF-8, and characters that move the cursor, colour a terminal or reverse the text.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(name: str) -> str:
    r"""Return the name of a file or tag for a screen, a page or a picture.

    Example:
        >>> printable(os.fsdecode(b"caf\xe9\n.ogg"))
        'caf\\xe9\\n.ogg'
    """

    def escaped(match: re.Match[str]) -> str:
        code = ord(match[0])
        return rf"\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(match[0])[1:-1]

    return _UNPRINTABLE.sub(escaped, name)


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


@contextlib.contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """Yield the path of a folder for a library that refuses a path that is not UTF-8: itself or a temporary link."""
    if printable(str(path.absolute())) == str(path.absolute()):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "link"
        link.symlink_to(path.absolute(), target_is_directory=True)
        yield link


def version_number(name: str) -> int | None:
    """Return the version number in a folder's name, or None if it is not ASCII digits below 2^63."""
    return int(name) if name.isascii() and name.isdecimal() and int(name) < 2**63 else None
