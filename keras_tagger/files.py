"""Write files and folders atomically, under a hidden name that is renamed at the end, and read text.

A name of a file may be any bytes. Python holds bytes that are not UTF-8 as surrogates ("surrogateescape"). Text files
get those bytes back, JSON holds them as escapes, TensorFlow gets `to_bytes`, and people see `printable`.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

_LONGEST_NAME = 230  # A name has at most 255 bytes; a hidden one is longer than its file's.
_ABANDONED_SECONDS = 24 * 3600.0


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


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(to_bytes(text))


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    plain, quoted = (csv.writer(text, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    for row in rows:
        # The module quotes a line feed, but not a carriage return, at which its reader ends a row, too.
        splits = any(isinstance(cell, str) and "\r" in cell for cell in row)
        (quoted if splits else plain).writerow(row)
    return text.getvalue()


def write_csv(path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file with a header atomically; a row may lack columns."""
    write_text(path, csv_text([columns, *([row.get(column) for column in columns] for row in rows)]))


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


def other_form(path: str) -> str:
    """Return "" or a remark that a missing file exists under a name whose accents are stored otherwise.

    Names from macOS are often in Unicode form NFD, those of other systems in NFC, and both look alike.
    """
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    for form in forms:
        other = unicodedata.normalize(form, path)
        if other != path and os.path.lexists(other):
            return f" (a file of that name in Unicode form {form} does)"
    return ""


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

    It is removed if the block does not rename it, or by the next call with this prefix if the process was killed.
    Everyone may read it, as with a folder made by `mkdir`.

    Raises:
        OSError: If the parent cannot be created or written to.
    """
    Path(parent).mkdir(parents=True, exist_ok=True)
    for left in Path(parent).glob(f".{prefix}-*"):
        _remove_if_abandoned(left)
    temporary, lock = _locked_folder(parent, f".{prefix}-")
    try:
        temporary.chmod(0o755)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def _locked_folder(parent: str | os.PathLike[str], prefix: str) -> tuple[Path, int]:
    """Make a folder, and hold a lock on it for as long as this process lives."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # Another process may remove the folder as abandoned until it is locked.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            with contextlib.suppress(OSError):  # a network file system may not lock folders
                fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a folder whose process has ended; without locks, one that is a day old."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        abandoned = True
    except BlockingIOError:
        abandoned = False
    except OSError:
        abandoned = time.time() - os.fstat(lock).st_mtime > _ABANDONED_SECONDS
    if abandoned:
        shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


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
