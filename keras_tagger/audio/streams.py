"""File objects that libsndfile can read: files in memory, local and remote files."""

from __future__ import annotations

import bisect
import contextlib
import io
import itertools
import os
import re
import stat
from collections.abc import Iterator
from typing import Any

from keras_tagger.errors import AudioError, AudioNotFoundError
from keras_tagger.files import other_form

READ_BYTES = 1 << 20  # read from a file at a time
_MEMORY_BYTES = 1 << 24  # 14 minutes of an mp3 of 160 kb/s

# TensorFlow itself supports file://, ram:// and gs://.
_TENSORFLOW_IO_SCHEMES = frozenset({"s3", "az", "hdfs", "har", "viewfs", "oss", "http", "https"})


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Return whether a path has a `scheme://` and is therefore opened through `tf.io.gfile`.

    Example:
        >>> is_remote("gs://bucket/song.mp3"), is_remote("song.mp3")
        (True, False)
    """
    return _scheme(os.fspath(path)) is not None


class Stream:
    """A file object for libsndfile that reads a raw file in large pieces and can change what libsndfile sees.

    Args:
        name: Name of the source, for error messages.
        raw: The open file.
        size: Its size in bytes.

    Attributes:
        error: The error of a failed read. An exception cannot pass through libsndfile, which sees the end of the file.
        piecemeal: Whether libsndfile reads this kind of file a few hundred bytes at a time.
    """

    def __init__(self, name: str, raw: Any, size: int):
        self.name = name
        self.size = size
        self.error: AudioError | None = None
        self.piecemeal = False
        self._raw = raw
        self._prefix = b""
        self._base = 0
        self._patches: list[tuple[int, bytes]] = []
        self._position = 0
        self._window = b""
        self._window_start = 0

    def splice(self, prefix: bytes, base: int) -> None:
        """Let libsndfile read `prefix`, followed by the file from byte `base` on."""
        self._prefix, self._base = prefix, base

    def patch(self, offset: int, data: bytes) -> None:
        """Let libsndfile read `data` instead of the file's bytes at `offset`; offsets must be in rising order."""
        self._patches.append((offset, data))

    def at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes of the raw file from `offset` on, or fewer at its end."""
        begin = offset - self._window_start
        if begin < 0 or begin + count > len(self._window):
            try:
                self._raw.seek(offset)
                self._window = self._raw.read(max(count, READ_BYTES))
            except Exception as error:  # OSError, or anything of a tf.io.gfile file system
                raise _unreadable(self.name, error) from error
            self._window_start, begin = offset, 0
        return self._window[begin : begin + count]

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the current position on, and return the number of bytes read."""
        count = len(buffer)
        data = self._prefix[self._position : self._position + count]
        if len(data) < count:
            try:
                offset = self._base + self._position + len(data) - len(self._prefix)
                data += self._patched(offset, self.at(offset, count - len(data)))
            except AudioError as error:
                self.error = error
                return 0
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _patched(self, offset: int, data: bytes) -> bytes:
        end = offset + len(data)
        first = bisect.bisect_left(self._patches, offset, key=lambda patch: patch[0] + len(patch[1]))
        changed = bytearray(data)
        for start, new in itertools.takewhile(lambda patch: patch[0] < end, self._patches[first:]):
            low, high = max(start, offset), min(start + len(new), end)
            changed[low - offset : high - offset] = new[low - start : high - start]
        return bytes(changed)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position in what libsndfile reads, and return it."""
        length = len(self._prefix) + self.size - self._base
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: length}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        """Return the current position in what libsndfile reads."""
        return self._position


def in_memory(stream: Stream) -> int | None:
    """Copy all that libsndfile would read to a file in memory.

    Otherwise each of libsndfile's many reads takes Python's lock from the thread that runs a model.

    Returns:
        A file descriptor for the caller to close, or None if the stream is large or the system has no such files.

    Raises:
        AudioError: If the stream cannot be read.
    """
    stream.seek(0, os.SEEK_END)
    size = stream.tell()
    stream.seek(0)
    if size > _MEMORY_BYTES or not hasattr(os, "memfd_create"):
        return None
    data = memoryview(bytearray(size))
    count = stream.readinto(data)
    if stream.error is not None:
        raise stream.error
    stream.seek(0)
    try:
        descriptor = os.memfd_create("keras_tagger")
    except OSError:  # not permitted
        return None
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data[:count])
        os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError:  # out of memory
        os.close(descriptor)
        return None
    return descriptor


@contextlib.contextmanager
def open_stream(source: str | os.PathLike[str] | bytes) -> Iterator[Stream]:
    """Open a path (local or of any `tf.io.gfile` scheme) or an encoded file's bytes.

    Raises:
        AudioNotFoundError: If the file does not exist.
        AudioError: If it is not a file, cannot be read, or is empty.
    """
    if isinstance(source, bytes):
        name, raw, size = f"{len(source)} bytes", io.BytesIO(source), len(source)
    else:
        path = os.fsdecode(source)
        name = repr(path)
        raw, size = _open_local(path) if _scheme(path) is None else _open_remote(path)
    with contextlib.closing(raw):
        if size == 0:
            raise audio_error("audio", f"{name}, which is empty")
        yield Stream(name, raw, size)


def _open_local(path: str) -> tuple[Any, int]:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise audio_error("an audio file", f"{path!r}, which is a directory")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for a writer
            raise audio_error("an audio file", f"{path!r}, which is not a regular file")
        return open(path, "rb"), status.st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        received = f"{path!r}, which does not exist{other_form(path)}"
        raise AudioNotFoundError(f"Expected an audio file. Received: {received}.") from error
    except OSError as error:
        raise _unreadable(repr(path), error) from error
    except ValueError as error:
        if isinstance(error, AudioError):
            raise
        raise audio_error("a path", f"{path!r} ({error})") from error


def _open_remote(path: str) -> tuple[Any, int]:
    import tensorflow as tf

    scheme = _scheme(path)
    if scheme in _TENSORFLOW_IO_SCHEMES:
        try:
            import tensorflow_io  # noqa: F401  (registers its file systems with tf.io.gfile)
        except Exception as error:
            raise audio_error(
                f"tensorflow-io, to read {scheme}:// paths, from "
                'pip install "keras_tagger[io]" (it loads on TensorFlow up to 2.17 and Python up to 3.12)',
                f"{path!r} on TensorFlow {tf.__version__}",
            ) from error
    try:
        status = tf.io.gfile.stat(os.fsencode(path))
        if status.is_directory:
            raise audio_error("an audio file", f"{path!r}, which is a directory")
        return tf.io.gfile.GFile(os.fsencode(path), "rb"), status.length
    except tf.errors.NotFoundError as error:
        # tensorflow-io also reports this for s3:// if there is no network or no access.
        doubt = " or cannot be reached" if scheme in _TENSORFLOW_IO_SCHEMES else ""
        raise AudioNotFoundError(f"Expected an audio file. Received: {path!r}, which does not exist{doubt}.") from error
    except tf.errors.UnimplementedError as error:
        raise audio_error("a path with a scheme that tf.io.gfile supports", repr(path)) from error
    except tf.errors.OpError as error:
        raise _unreadable(repr(path), error) from error


def _scheme(path: str) -> str | None:
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", path)
    return match[1].lower() if match else None


def _unreadable(name: str, error: Exception) -> AudioError:
    reason = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
    return audio_error("a readable file", f"{name} ({' '.join(str(reason).split())[:200]})")


def audio_error(expected: str, received: str) -> AudioError:
    """Make an error that says what was expected and what was received."""
    return AudioError(f"Expected {expected}. Received: {received}.")
