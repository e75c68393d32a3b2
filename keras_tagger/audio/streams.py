"""File objects that libsndfile can read: files in memory, local and remote files."""

from __future__ import annotations

import bisect
import contextlib
import io
import itertools
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any, TypeAlias, TypeVar

from keras_tagger.errors import AudioError, AudioNotFoundError
from keras_tagger.files import other_form

READ_BYTES = 1 << 20  # read from a file at a time
_MEMORY_BYTES = 1 << 24  # 14 minutes of an mp3 of 160 kb/s

# TensorFlow itself supports file://, ram:// and gs://.
Source = TypeVar("Source")

_TENSORFLOW_IO_SCHEMES = frozenset({"s3", "az", "hdfs", "har", "viewfs", "oss", "http", "https"})


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Return whether a path has a `scheme://` and is therefore opened through `tf.io.gfile`.

    Example:
        >>> is_remote("gs://bucket/song.mp3"), is_remote("song.mp3")
        (True, False)
    """
    return _scheme(os.fspath(path)) is not None


class Stream:
    """The bytes of an open file, read in large pieces.

    Args:
        name: Name of the source, for error messages.
        raw: The open file.
        size: Its size in bytes.
    """

    def __init__(self, name: str, raw: Any, size: int):
        self.name = name
        self.size = size
        self._raw = raw
        self._window = b""
        self._window_start = 0

    def at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on, or fewer at the end of the file."""
        begin = offset - self._window_start
        if begin < 0 or begin + count > len(self._window):
            try:
                self._raw.seek(offset)
                self._window = self._raw.read(max(count, READ_BYTES))
            except AudioError:
                raise
            except Exception as error:  # OSError, or anything of a tf.io.gfile file system
                raise _unreadable(self.name, error) from error
            self._window_start, begin = offset, 0
        return self._window[begin : begin + count]

    def find(
        self, pattern: re.Pattern[bytes], start: int, stop: int, overlap: int = 64
    ) -> Iterator[tuple[int, re.Match[bytes]]]:
        """Search for a pattern of at most `overlap` bytes; yield `(offset, match)` for each place where it begins."""
        while start < stop:
            data = self.at(start, min(READ_BYTES, stop - start) + overlap)
            limit = min(READ_BYTES, stop - start)
            for match in pattern.finditer(data):
                if match.start() < limit:
                    yield start + match.start(), match
            start += limit


Part: TypeAlias = "bytes | range"
"""A piece of what a decoder reads: literal bytes, or a range of offsets in the file."""


class Seekable:
    """The position of a file object.

    Args:
        size: Its length in bytes.
    """

    def __init__(self, size: int):
        self.size = size
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position and return it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position


class View(Seekable):
    """A file object for libsndfile that joins parts of a stream.

    Args:
        stream: The file.
        parts: What libsndfile reads, in order.

    Attributes:
        size: The length of all parts in bytes.
        error: The error of a failed read. An exception cannot pass through libsndfile, which sees the end of the file.
    """

    def __init__(self, stream: Stream, parts: Sequence[Part]):
        self.error: AudioError | None = None
        self._stream = stream
        self._parts = [part for part in parts if len(part)]
        self._ends = list(itertools.accumulate(map(len, self._parts)))
        super().__init__(self._ends[-1] if self._ends else 0)

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the current position on, and return the number of bytes read."""
        wanted = max(0, min(len(buffer), self.size - self._position))
        done = 0
        index = bisect.bisect_right(self._ends, self._position)
        while done < wanted:
            part = self._parts[index]
            begin = self._position - self._ends[index] + len(part)
            count = min(wanted - done, len(part) - begin)
            if isinstance(part, bytes):
                data = part[begin : begin + count]
            else:
                try:
                    data = self._stream.at(part.start + begin, count)
                except AudioError as error:
                    self.error = error
                    return 0
            buffer[done : done + len(data)] = data
            done += len(data)
            self._position += len(data)
            if len(data) < count:  # the file became shorter
                break
            index += 1
        return done

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes from the current position on, as a file does."""
        data = bytearray(max(0, min(count, self.size - self._position)))
        read = self.readinto(data)
        if self.error is not None:
            raise self.error
        return bytes(data[:read])


def in_memory(view: View) -> int | None:
    """Copy all that libsndfile would read to a file in memory.

    Otherwise each of libsndfile's many reads takes Python's lock from the thread that runs a model.

    Returns:
        A file descriptor for the caller to close, or None if the view is large or the system has no such files.

    Raises:
        AudioError: If the file cannot be read.
    """
    if view.size > _MEMORY_BYTES or not hasattr(os, "memfd_create"):
        return None
    data = memoryview(bytearray(view.size))
    count = view.readinto(data)
    if view.error is not None:
        raise view.error
    view.seek(0)
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
def open_stream(source: str | os.PathLike[str] | bytes | IO[bytes]) -> Iterator[Stream]:
    """Open a path (local or of any `tf.io.gfile` scheme), an encoded file's bytes, or a binary file object.

    A file object is read from its position to its end and stays open. If it can seek, it returns to that position.

    Raises:
        AudioNotFoundError: If the file does not exist.
        AudioError: If it is not a file, cannot be read, is a text file, or is empty.
    """
    if isinstance(source, bytes):
        name, raw, size = f"{len(source)} bytes", io.BytesIO(source), len(source)
    elif isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        name = repr(path)
        raw, size = _open_local(path) if _scheme(path) is None else _open_remote(path)
    else:
        name = _object_name(source)
        raw, size = _open_object(source, name)
    with contextlib.closing(raw):
        if size == 0:
            raise audio_error("audio", f"{name}, which is empty")
        yield Stream(name, raw, size)


def is_file_object(source: object) -> bool:
    """Return whether a source is a file object."""
    return hasattr(source, "read")


def seekable(source: Source) -> Source:
    """Return a source that can be read more than once: a copy if it is a file object that cannot seek."""
    if not is_file_object(source):
        return source
    raw: Any = _open_object(source, _object_name(source))[0]
    return source if isinstance(raw, _Rest) else raw


class _Rest:
    """The rest of a file object that can seek, from its position on; closing it returns to that position."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._start = file.tell()
        self.size = file.seek(0, os.SEEK_END) - self._start
        file.seek(self._start)

    def seek(self, offset: int) -> None:
        self._file.seek(self._start + offset)

    def read(self, count: int) -> bytes:
        parts = []
        # An unbuffered file may return less than it is asked for.
        while count > 0 and (part := self._file.read(count)):
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        # The user may have closed the file meanwhile.
        with contextlib.suppress(OSError, ValueError):
            self._file.seek(self._start)


def _open_object(file: Any, name: str) -> tuple[Any, int]:
    """Return a file object that can seek, and its size; a temporary copy if the given one cannot."""
    try:
        if not isinstance(file.read(0), bytes):
            raise audio_error("a file opened in binary mode", f"{name}, a text file")
        # Python 3.10's SpooledTemporaryFile has no `seekable`.
        if file.seekable() if hasattr(file, "seekable") else hasattr(file, "seek"):
            rest = _Rest(file)
            return rest, rest.size
        copy = tempfile.SpooledTemporaryFile(_MEMORY_BYTES)  # noqa: SIM115
        while part := file.read(READ_BYTES):
            copy.write(part)
        size = copy.tell()
        copy.seek(0)
        return copy, size
    except AudioError:
        raise
    except Exception as error:  # a closed file, one opened for writing, or anything that an object of a user raises
        raise _unreadable(name, error) from error


def _object_name(file: Any) -> str:
    name = getattr(file, "name", None)
    if name == "<stdin>":
        return "standard input"
    return repr(os.fsdecode(name)) if isinstance(name, str | bytes) else f"a {type(file).__name__}"


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
