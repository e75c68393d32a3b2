"""The files of a catalogue: where they are, and how large and how old.

A catalogue names a file by its path as it was given. A name that is not UTF-8, which Parquet cannot hold, is stored as
a `file://` URL; a `scheme://` of an object store is read by fsspec.
"""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from keras_tagger.audio import AudioSource
from keras_tagger.audio.paths import AUDIO_SUFFIXES, expand
from keras_tagger.audio.streams import audio_error, is_remote
from keras_tagger.catalog.arrow import arrow
from keras_tagger.errors import AudioError, AudioNotFoundError, CatalogError
from keras_tagger.files import printable

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})
_COLUMNS = ("path", "file", "url")


class Entry(NamedTuple):
    """A file to describe.

    Attributes:
        path: Its path or URL, valid UTF-8.
        size: Its length in bytes; -1 if unknown.
        mtime_ns: When it was changed, in nanoseconds since 1970; 0 if unknown.
        error: Why it cannot be read, if finding it has shown that; else "".
    """

    path: str
    size: int = -1
    mtime_ns: int = 0
    error: str = ""


def find_entries(sources: Iterable[str | os.PathLike[str]]) -> Iterator[Entry]:
    """Find the audio that sources name, in order.

    Args:
        sources: Audio files; folders, which are searched at any depth; playlists; tables (`.csv`, `.tsv`, `.parquet`)
            with a column `path`, `file` or `url`; URLs of files and folders that fsspec knows, such as
            `s3://bucket/music/`. Relative paths in a table are relative to its folder.

    Yields:
        An `Entry` per file. What a folder, playlist or table names and cannot be read has an `error`.

    Raises:
        CatalogError: If a table or a URL cannot be read.

    Example:
        >>> [entry.path for entry in find_entries(["music/", "s3://bucket/albums/"])]
        ['music/song.mp3', 's3://bucket/albums/01.flac']
    """
    for source in (os.fspath(source) for source in sources):
        if is_remote(source) and not source.startswith("file://"):
            yield from _remote(source)
        elif Path(source).suffix.lower() in TABLE_SUFFIXES and os.path.isfile(source):
            for path in _listed(source):
                yield from _remote(path) if is_remote(path) and not path.startswith("file://") else _local(path)
        else:
            yield from _local(source)


def opened(path: str) -> AudioSource:
    """Return the audio of an entry: a local path, or what fsspec reads, in memory.

    Raises:
        AudioError: If fsspec cannot read it.
        AudioNotFoundError: If fsspec does not find it.
    """
    if not is_remote(path):
        return path
    if path.startswith("file://"):
        return local_path(path)
    try:
        content = _NamedBytes(_fsspec().filesystem(urlsplit(path).scheme).cat_file(path))
    except FileNotFoundError:
        raise AudioNotFoundError(f"Expected an audio file. Received: {path!r}, which does not exist.") from None
    except CatalogError:
        raise
    except Exception as error:  # whatever the file system raises
        raise audio_error("a readable file", f"{path!r} ({' '.join(str(error).split())[:200]})") from error
    content.name = path
    return content


def local_path(path: str) -> str:
    r"""Return the path that an entry's `path` stands for on this machine.

    Example:
        >>> local_path("file:///music/caf%E9.ogg")
        '/music/caf\\udce9.ogg'
    """
    return os.fsdecode(unquote_to_bytes(urlsplit(path).path)) if path.startswith("file://") else path


def stored_path(path: str) -> str:
    """Return a path as an entry names it; `local_path` is the inverse."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return Path(os.path.abspath(path)).as_uri()
    return path


class _NamedBytes(io.BytesIO):
    name = ""


def _local(source: str) -> Iterator[Entry]:
    for path, error in expand([local_path(source)]):
        if error is not None:
            yield Entry(stored_path(path), error=printable(str(error)))
            continue
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # describing it will say why
            yield Entry(stored_path(path))
        else:
            size = status.st_size if stat.S_ISREG(status.st_mode) else -1
            yield Entry(stored_path(path), size, status.st_mtime_ns)


def _remote(url: str) -> Iterator[Entry]:
    scheme = urlsplit(url).scheme
    try:
        files = _fsspec().filesystem(scheme)
        found = files.find(url, detail=True)
    except CatalogError:
        raise
    except Exception as error:  # an unknown scheme, a missing package, or whatever the file system raises
        reason = " ".join(str(error).split())[:200]
        raise CatalogError(f"expected a URL that fsspec can list. Received: {url!r} ({reason}).") from None
    if not found:
        yield Entry(url, error=str(audio_error("a file or a folder with files", f"{url!r}, which holds none")))
    for name in sorted(found):
        path = files.unstrip_protocol(name)
        if path == url or os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:
            yield Entry(path, int(found[name].get("size") or -1), _changed(found[name]))


def _changed(info: dict[str, Any]) -> int:
    """Return when fsspec says that a file was changed, in nanoseconds; 0 if it does not."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value: Any = info.get(name)
        if isinstance(value, int | float):
            return int(value * 1e9)
        if hasattr(value, "timestamp"):
            return int(value.timestamp() * 1e9)
    return 0


def _fsspec() -> Any:
    try:
        import fsspec
    except ImportError:
        raise CatalogError(
            'expected fsspec, which reads object stores, from pip install "keras_tagger[fsspec]". Received: a URL '
            "without it."
        ) from None
    return fsspec


def _listed(table: str) -> Iterator[str]:
    """Yield the paths in a table, relative to the working directory."""
    folder = os.path.dirname(table)
    for path in _parquet_column(table) if table.lower().endswith(".parquet") else _csv_column(table):
        yield path if is_remote(path) else os.path.join(folder, path)


def _csv_column(table: str) -> Iterator[str]:
    with open(table, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        rows = csv.reader(file, delimiter="\t" if table.lower().endswith(".tsv") else ",")
        column = _column(table, next(rows, []))
        yield from (row[column] for row in rows if len(row) > column and row[column])


def _parquet_column(table: str) -> Iterator[str]:
    _, parquet = arrow()
    try:
        with parquet.ParquetFile(table) as file:
            names = file.schema_arrow.names
            name = names[_column(table, names)]
            for batch in file.iter_batches(columns=[name]):
                yield from (str(path) for path in batch.column(0).to_pylist() if path)
    except (OSError, ValueError) as error:
        if isinstance(error, CatalogError):
            raise
        raise CatalogError(f"expected a Parquet file. Received: {table!r} ({error}).") from None


def _column(table: str, names: Sequence[str]) -> int:
    for name in _COLUMNS:
        if name in names:
            return list(names).index(name)
    shown = ", ".join(map(printable, names[:5])) or "no columns"
    raise CatalogError(f"expected a table with a column {', '.join(_COLUMNS)}. Received: {table!r} with {shown}.")


def check_readable(entry: Entry) -> None:
    """Raise the error that finding the file has shown, if any."""
    if entry.error:
        raise AudioError(entry.error)
