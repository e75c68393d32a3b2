"""Write tags into music files, so that a write is whole or not at all, and can be undone."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_tagger.audio import blocks
from keras_tagger.errors import KerasTaggerError, LibraryError
from keras_tagger.files import replacing
from keras_tagger.library.delta import make_delta, restored
from keras_tagger.library.formats import MusicFile, open_music
from keras_tagger.library.journal import Journal, digest_of, sha256

PROVENANCE = "KERAS_TAGGER"
# What happens to values that a field already has.
EXISTING = ("keep", "add", "replace")


@dataclass(frozen=True)
class Origin:
    """What decides which values are written: a file with the same origin has them already.

    Attributes:
        model: The names of the models.
        weights: A digest of their weights.
        version: The version of keras_tagger.
        settings: A digest of the field map and the flags.
    """

    model: str
    weights: str
    version: str
    settings: str

    def __str__(self) -> str:
        return f"keras_tagger {self.version} {self.model} {self.weights} {self.settings}"


@dataclass(frozen=True)
class Change:
    """A field of a file.

    Attributes:
        field: Its name.
        before: The values that the file has.
        after: The values that it gets; the same as `before` if they are kept.
        proposed: The values that the model gives.
    """

    field: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    proposed: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """A music file that can be written.

    Attributes:
        path: The file itself, behind links.
        names: Its number of names (hard links).
        seen: What tells whether the file changes meanwhile: device, inode, size, times of modification and change.
        done: Whether it already has the values of this origin.
        own: Digests of the values that an earlier run wrote, by field.
    """

    path: Path
    names: int
    seen: tuple[int, ...]
    done: bool
    own: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """What a write will do to a file: nothing, if no change has new values.

    Attributes:
        target: The file.
        changes: Its fields.
        provenance: The value of the field `KERAS_TAGGER`.
    """

    target: Target
    changes: tuple[Change, ...]
    provenance: str

    @property
    def writes(self) -> bool:
        """Whether a field gets other values."""
        return any(change.before != change.after for change in self.changes)


def find_target(path: str | os.PathLike[str], origin: Origin) -> Target:
    """Check that a file can be written, and find out what an earlier run wrote.

    Raises:
        LibraryError: If the file is read-only, no regular file, damaged or of a format that has no fields.
    """
    real = Path(os.path.realpath(path))
    try:
        status = real.stat()
    except OSError as error:
        raise LibraryError(f"expected a music file. Received: {os.fspath(path)!r} ({error.strerror}).") from None
    check_writable(real, status)
    stored = _provenance(open_music(real))
    mine = {field.name: stored.get(field.name) for field in dataclasses.fields(Origin)}
    wrote = stored.get("wrote")
    return Target(
        real,
        status.st_nlink,
        _seen(status),
        mine == dataclasses.asdict(origin),
        wrote if isinstance(wrote, dict) else {},
    )


def check_writable(path: Path, status: os.stat_result) -> None:
    """Raise `LibraryError` if a file must not be replaced."""
    reason = ""
    if not stat.S_ISREG(status.st_mode):
        reason = "which is not a regular file"
    # The superuser may write anything, but a file without write permission was protected on purpose.
    elif not status.st_mode & 0o222 or not os.access(path, os.W_OK):
        reason = "which is read-only"
    elif not os.access(path.parent, os.W_OK):
        reason = "whose folder is read-only"
    if reason:
        raise LibraryError(f"expected a file that can be written. Received: {str(path)!r}, {reason}.")


def make_plan(target: Target, fields: Mapping[str, Sequence[str]], origin: Origin, existing: str = "keep") -> Plan:
    """Compare the values of a model with those of a file.

    Values that an earlier run wrote and nobody has changed since are replaced, whatever `existing` says.

    Args:
        target: The file.
        fields: Values by field; a field without values is left alone.
        origin: Where the values come from.
        existing: "keep" leaves a field with values of somebody else alone, "add" adds to them, "replace" replaces them.

    Raises:
        LibraryError: If the file can no longer be read.
    """
    music = open_music(target.path)
    changes = []
    wrote = {}
    for field in dict.fromkeys([*fields, *target.own]):
        before, proposed = music.get(field), list(fields.get(field, ()))
        own = bool(before) and target.own.get(field) == _digest(before)
        if own or (existing == "replace" and proposed):
            after = proposed
        elif existing == "add":
            known = {value.casefold() for value in before}
            after = before + [value for value in proposed if value.casefold() not in known]
        else:
            after = before or proposed
        if after and after == proposed:
            wrote[field] = _digest(after)
        changes.append(Change(field, tuple(before), tuple(after), tuple(proposed)))
    stored = {**dataclasses.asdict(origin), "wrote": wrote}
    return Plan(target, tuple(changes), json.dumps(stored, sort_keys=True))


def write(plan: Plan, journal: Journal, keep_mtime: bool = False) -> None:
    """Write the fields of a plan into its file.

    The new file is made beside the old one and takes its place when it is complete, its audio is the same and the
    journal can undo it. Permissions, owner and extended attributes stay.

    Args:
        plan: The plan.
        journal: Where to record what undoes the write.
        keep_mtime: Whether the file keeps its modification time.

    Raises:
        LibraryError: If the file has changed since it was planned, or cannot be written.
        OSError: If the disk is full or another error of the system occurs; the file is then unchanged.
    """
    path = plan.target.path
    with journal.writing(path, plan.provenance) as row, replacing(path) as temporary:
        journal.note_temporary(row, temporary)
        _check_unchanged(plan.target)
        shutil.copyfile(path, temporary)
        music = open_music(temporary)
        for change in plan.changes:
            if change.before != change.after:
                music.set(change.field, change.after)
        music.set(PROVENANCE, [plan.provenance])
        music.save(temporary)
        if audio_digest(temporary) != audio_digest(path):
            raise LibraryError(f"expected the same audio after writing. Received: other audio for {str(path)!r}.")
        status = _finish(path, temporary)
        if keep_mtime:
            os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
        before, delta = sha256(path), make_delta(temporary, path)
        if digest_of(restored(temporary, delta)) != before:
            raise LibraryError(f"expected a write that can be undone. Received: {str(path)!r}.")
        journal.record(row, before, sha256(temporary), status.st_mtime_ns, delta)
        _check_unchanged(plan.target)


def undo(path: str | os.PathLike[str], journal: Journal) -> bool:
    """Restore the bytes and the modification time that a file had before the last write.

    Returns:
        Whether there was a write to undo.

    Raises:
        LibraryError: If the file has been changed by something else since.
    """
    real = Path(os.path.realpath(path))
    content = sha256(real)
    found = journal.find(real, content)
    if found is None:
        if journal.knows(real, content):
            raise LibraryError(f"expected a file as it was written. Received: {str(real)!r}, which has changed since.")
        return False
    check_writable(real, real.stat())
    with replacing(real) as temporary:
        journal.reopen(found, temporary)
        with temporary.open("wb") as file:
            file.writelines(restored(real, found.delta))
        if sha256(temporary) != found.before:
            raise LibraryError(f"expected an intact journal. Received: {str(journal.path)!r}, which is damaged.")
        _finish(real, temporary)
        os.utime(temporary, ns=(real.stat().st_atime_ns, found.mtime_ns))
    journal.mark_undone(found)
    return True


def unique(paths: Iterable[str]) -> Iterator[str]:
    """Yield paths without those of a file that was named before, under this name or another."""
    known = set()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            yield path
            continue
        if (status.st_dev, status.st_ino) not in known:
            known.add((status.st_dev, status.st_ino))
            yield path


def audio_digest(path: str | os.PathLike[str]) -> str:
    """Return a digest of the decoded audio of a file, or of the reason why it cannot be decoded."""
    digest = hashlib.sha256()
    try:
        for block in blocks(os.fspath(path), warnings=[]):
            digest.update(block.tobytes())
    except KerasTaggerError as error:
        digest.update(type(error).__name__.encode())
    return digest.hexdigest()


def _digest(values: Sequence[str]) -> str:
    return hashlib.sha256("/".join(values).encode()).hexdigest()[:8]


def _provenance(music: MusicFile) -> dict[str, Any]:
    """Return the provenance in a file; nothing if there is none that can be read."""
    try:
        stored = json.loads("/".join(music.get(PROVENANCE)))
    except ValueError:
        return {}
    return stored if isinstance(stored, dict) else {}


def _seen(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _check_unchanged(target: Target) -> None:
    if _seen(target.path.stat()) != target.seen:
        raise LibraryError(f"expected a file that stays as it is. Received: {str(target.path)!r}, which has changed.")


def _finish(path: Path, temporary: Path) -> os.stat_result:
    """Give a new file the permissions, owner and extended attributes of the old one, and put it on disk."""
    status = path.stat()
    times = temporary.stat()
    with contextlib.suppress(PermissionError):
        os.chown(temporary, status.st_uid, status.st_gid)
    shutil.copystat(path, temporary)
    os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    return status
