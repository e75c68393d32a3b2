"""The journal of what was written into music files, from which every write can be undone.

It is an SQLite database with a row per write: the file, the digests of its bytes before and after, and the delta that
makes the bytes before from those after. A row is on disk before its file is replaced, so a write that is killed at any
moment can be undone or has not happened. A file is found by its content, so it may have been renamed since.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keras_tagger.errors import LibraryError

_TABLE = """
CREATE TABLE IF NOT EXISTS writes (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL,
    open INTEGER DEFAULT 1,  -- until the file is replaced
    temporary BLOB,
    before TEXT,
    after TEXT,
    mtime_ns INTEGER,
    delta BLOB,
    provenance TEXT NOT NULL,
    written REAL NOT NULL,
    undone REAL
);
CREATE INDEX IF NOT EXISTS by_content ON writes (after);
"""


@dataclass(frozen=True)
class Write:
    """A write that can be undone.

    Attributes:
        id: Its number in the journal.
        before: SHA-256 of the file before.
        mtime_ns: The file's modification time before.
        delta: Makes the file before from the file after (`keras_tagger.library.delta`).
    """

    id: int
    before: str
    mtime_ns: int
    delta: bytes


def default_journal() -> Path:
    """Return where the journal is kept: in `$XDG_STATE_HOME`, or else in `~/.local/state`."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "keras_tagger" / "journal.sqlite"


def digest_of(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 of bytes as hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return digest_of(iter(lambda: file.read(1 << 20), b""))


class Journal:
    """An open journal. Only one process can have it open.

    Opening it clears up after a process that was killed: its temporary files are removed, and writes that did not
    happen, or were undone, are forgotten.

    Args:
        path: The database; created with its folder if it does not exist.

    Raises:
        LibraryError: If it is not a journal or another process is using it.

    Example:
        >>> with Journal("journal.sqlite") as journal:
        ...     print(journal.cleared)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.cleared = 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(self.path, timeout=1.0)
        try:
            self._database.executescript(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                f"BEGIN EXCLUSIVE; {_TABLE} COMMIT;"
            )
            self._recover()
        except sqlite3.DatabaseError as error:
            self._database.close()
            used = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
            reason = "which another process is using" if used else f"which is not a journal ({error})"
            raise LibraryError(f"expected a journal of writes. Received: {str(path)!r}, {reason}.") from None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    @contextlib.contextmanager
    def writing(self, path: Path, provenance: str) -> Iterator[int]:
        """Yield the number of a new row for a file that the block replaces; it is removed if the block fails."""
        row = self._run(
            "INSERT INTO writes (path, provenance, written) VALUES (?, ?, ?)",
            (os.fsencode(path), provenance, time.time()),
        ).lastrowid
        assert row is not None
        try:
            yield row
        except BaseException:
            self._run("DELETE FROM writes WHERE id = ?", (row,))
            raise
        self._run("UPDATE writes SET open = 0 WHERE id = ?", (row,))

    def note_temporary(self, row: int, temporary: Path) -> None:
        """Store the name of a temporary file before it is made."""
        self._run("UPDATE writes SET temporary = ? WHERE id = ?", (os.fsencode(temporary), row))

    def record(self, row: int, before: str, after: str, mtime_ns: int, delta: bytes) -> None:
        """Store what undoes a write, on the disk itself, before the file is replaced."""
        self._database.execute("PRAGMA synchronous = FULL")
        self._run(
            "UPDATE writes SET before = ?, after = ?, mtime_ns = ?, delta = ? WHERE id = ?",
            (before, after, mtime_ns, delta, row),
        )
        self._database.execute("PRAGMA synchronous = NORMAL")

    def find(self, path: Path, content: str) -> Write | None:
        """Return the last write that made a content (SHA-256), preferably of this path; None if there is none."""
        row = self._run(
            "SELECT id, before, mtime_ns, delta FROM writes WHERE after = ? AND undone IS NULL "
            "ORDER BY path = ? DESC, id DESC LIMIT 1",
            (content, os.fsencode(path)),
        ).fetchone()
        return None if row is None else Write(*row)

    def knows(self, path: Path, content: str) -> bool:
        """Return whether the path has a write, not undone, that found other content than this."""
        query = "SELECT 1 FROM writes WHERE path = ? AND undone IS NULL AND before != ?"
        return self._run(query, (os.fsencode(path), content)).fetchone() is not None

    def reopen(self, write: Write, temporary: Path) -> None:
        """Store the name of the temporary file of an undo before it is made."""
        self._run("UPDATE writes SET open = 1, temporary = ? WHERE id = ?", (os.fsencode(temporary), write.id))

    def mark_undone(self, write: Write) -> None:
        """Remember that a write was undone."""
        self._run("UPDATE writes SET open = 0, undone = ?, delta = NULL WHERE id = ?", (time.time(), write.id))

    def _run(self, command: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        with self._database:
            return self._database.execute(command, values)

    def _recover(self) -> None:
        rows = self._database.execute("SELECT id, path, temporary, after FROM writes WHERE open").fetchall()
        for row, path, temporary, after in rows:
            if temporary is not None:
                Path(os.fsdecode(temporary)).unlink(missing_ok=True)
            target = Path(os.fsdecode(path))
            if after is not None and target.exists() and sha256(target) == after:
                self._run("UPDATE writes SET open = 0 WHERE id = ?", (row,))
            else:
                self._run("DELETE FROM writes WHERE id = ?", (row,))
            self.cleared += 1
