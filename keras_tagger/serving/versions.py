"""The versions of a model in a folder, and the policy that selects those to serve."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import tensorflow as tf
from tensorflow_serving.config import logging_config_pb2

from keras_tagger.errors import ServingError
from keras_tagger.files import version_number


@dataclass(frozen=True)
class VersionPolicy:
    """Which versions to serve; all of them if both fields are None.

    Attributes:
        latest: Number of versions to serve, highest first.
        specific: Numbers of the versions to serve.
    """

    latest: int | None = 1
    specific: frozenset[int] | None = None

    def select(self, versions: Iterable[int]) -> list[int]:
        """Return the selected ones of these versions, in ascending order."""
        found = sorted(versions)
        if self.specific is not None:
            return [version for version in found if version in self.specific]
        return found if self.latest is None else found[-self.latest :]


@dataclass(frozen=True)
class ServedModel:
    """A model to serve.

    Attributes:
        name: Name in requests.
        base_path: Folder of its versions.
        policy: Which versions to serve.
        labels: Version numbers by label.
        logging: Which requests to log; None for none.
    """

    name: str
    base_path: str
    policy: VersionPolicy = VersionPolicy()
    labels: dict[str, int] = field(default_factory=dict)
    logging: logging_config_pb2.LoggingConfig | None = None


def find_versions(base_path: str | os.PathLike[str]) -> dict[int, str]:
    """Return the folders of the versions, by number. Entries whose name is not a number are ignored.

    Raises:
        ServingError: If the folder does not exist or cannot be listed.
    """
    base = os.fspath(base_path)
    scheme, separator, _ = base.partition("://")
    if separator and scheme not in tf.io.gfile.get_registered_schemes():
        # It registers s3:// and others; gs:// is part of TensorFlow on Linux.
        with contextlib.suppress(ImportError, tf.errors.OpError, NotImplementedError):
            import tensorflow_io  # noqa: F401
        if scheme not in tf.io.gfile.get_registered_schemes():
            raise ServingError(
                f"expected a folder that TensorFlow can read. Received: {base}, but TensorFlow has no file system for "
                f"{scheme}:// here. Install keras_tagger[io] (tensorflow-io), or copy the versions to a local folder."
            )
    try:
        if not tf.io.gfile.isdir(base):
            raise ServingError(_expected(base))
        names = [name.rstrip("/") for name in tf.io.gfile.listdir(base)]
        numbers = {number: name for name in names if (number := version_number(name)) is not None}
        folders = {version: os.path.join(base, name) for version, name in numbers.items()}
        return {version: folder for version, folder in folders.items() if tf.io.gfile.isdir(folder)}
    except (tf.errors.OpError, OSError) as error:
        text = " ".join(str(getattr(error, "message", error)).split())
        raise ServingError(f"expected a readable folder. Received: {base} ({text})") from error


def require_versions(base_path: str | os.PathLike[str]) -> dict[int, str]:
    """Return `find_versions`; raise a ServingError if there are none."""
    found = find_versions(base_path)
    if not found:
        raise ServingError(_expected(os.fspath(base_path)))
    return found


def fingerprint(folder: str) -> tuple[int, ...]:
    """Return a value that changes when files of a version change; a failed version is then tried again."""
    return (*_stamp(folder), *_stamp(os.path.join(folder, "saved_model.pb")))


def _stamp(path: str) -> tuple[int, int]:
    """Return modification time and size of a file; zeros if it does not exist."""
    try:
        if "://" not in path:
            # tf.io.gfile only has whole seconds.
            found = os.stat(path)
            return found.st_mtime_ns, found.st_size
        stat = tf.io.gfile.stat(path)
        return int(stat.mtime_nsec), int(stat.length)
    except (OSError, tf.errors.OpError):
        return 0, 0


def highest(versions: Collection[int]) -> int | None:
    """Return the highest version, which answers requests without one; None if there is none."""
    return max(versions, default=None)


def _expected(base: str) -> str:
    return f"expected a folder with numbered versions of a SavedModel (such as {base}/1). Received: {base}"
