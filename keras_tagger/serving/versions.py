"""Which versions of a model there are, and which of them are wanted."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import tensorflow as tf

from keras_tagger.errors import ServingError


@dataclass(frozen=True)
class VersionPolicy:
    """The versions wanted: the `latest` so many, or those in `specific`; all where both are None."""

    latest: int | None = 1
    specific: frozenset[int] | None = None

    def wanted(self, versions: Iterable[int]) -> list[int]:
        """Those of the versions that are wanted, ascending."""
        found = sorted(versions)
        if self.specific is not None:
            return [version for version in found if version in self.specific]
        return found if self.latest is None else found[-self.latest :]


@dataclass(frozen=True)
class ServedModel:
    """A model to serve: its name in requests, the folder of its versions, which are wanted, and labels of some."""

    name: str
    base_path: str
    policy: VersionPolicy = VersionPolicy()
    labels: dict[str, int] = field(default_factory=dict)


def find_versions(base_path: str | os.PathLike[str]) -> dict[int, str]:
    """The folders by version. A version is a folder whose name is a number; everything else is ignored.

    Raises:
        ServingError: there is no such folder, or it cannot be listed just now.
    """
    base = os.fspath(base_path)
    try:
        if not tf.io.gfile.isdir(base):
            raise ServingError(_expected(base))
        names = [name.rstrip("/") for name in tf.io.gfile.listdir(base)]
        numbers = {int(name): name for name in names if _is_number(name)}
        folders = {version: os.path.join(base, name) for version, name in numbers.items()}
        return {version: folder for version, folder in folders.items() if tf.io.gfile.isdir(folder)}
    except (tf.errors.OpError, OSError) as error:
        text = " ".join(str(getattr(error, "message", error)).split())
        raise ServingError(f"expected a folder that can be listed. Received: {base} ({text})") from error


def require_versions(base_path: str | os.PathLike[str]) -> dict[int, str]:
    """`find_versions`, with a ServingError also where there is none."""
    found = find_versions(base_path)
    if not found:
        raise ServingError(_expected(os.fspath(base_path)))
    return found


def fingerprint(folder: str) -> tuple[int, ...]:
    """Changes when a version's folder is written to: a version that failed to load is then tried again."""
    return (*_stamp(folder), *_stamp(os.path.join(folder, "saved_model.pb")))


def _stamp(path: str) -> tuple[int, int]:
    """Time of the last change and size; zeros where there is nothing."""
    try:
        if "://" not in path:
            # tf.io.gfile knows whole seconds only.
            found = os.stat(path)
            return found.st_mtime_ns, found.st_size
        stat = tf.io.gfile.stat(path)
        return int(stat.mtime_nsec), int(stat.length)
    except (OSError, tf.errors.OpError):
        return 0, 0


def highest(versions: Collection[int]) -> int | None:
    """The highest version, which is the one that requests without a version get."""
    return max(versions, default=None)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and int(name) < 2**63


def _expected(base: str) -> str:
    return f"expected a folder with numbered versions of a SavedModel (as {base}/1). Received: {base}"
