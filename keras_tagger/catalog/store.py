"""The folder of a catalogue, and how every file comes into it exactly once.

    catalog.json           the model, its tags and the options: what all rows have in common
    tracks/*.parquet       a row per track, in shards that never change
    errors.parquet         a row per file that cannot be read, with the reason
    .pending.arrows        rows on their way into the next shard
    .lock                  held by the one process that writes

Only one process writes. Rows are appended to `.pending.arrows` as they arrive. When they are enough, they become a
shard, which is written under a hidden name and renamed, and the pending rows start anew. So whatever the moment at
which the writer is killed, a row is in a shard, or pending, or in both, or was never written; opening the folder keeps
the pending rows that are whole and in no shard, and what is missing is made again. Rows of files that have changed are
removed before their new rows are made, so that no file ever has two.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.catalog.arrow import arrow
from keras_tagger.catalog.entries import Entry
from keras_tagger.catalog.rows import Options, Row, sha256_of
from keras_tagger.errors import CatalogError, ModelError
from keras_tagger.files import replacing, write_json
from keras_tagger.tags import TagInfo, info_from_values, info_to_values

FORMAT_VERSION = 1
SHARD_ROWS = 10_000
TAG = "tag:"
PROVENANCE = ("model", "weights_sha256", "package_version")

_ABOUT, _TRACKS, _ERRORS, _PENDING, _LOCK = "catalog.json", "tracks", "errors.parquet", ".pending.arrows", ".lock"
_FLUSH_ROWS, _FLUSH_SECONDS = 64, 1.0


@dataclass(frozen=True)
class About:
    """What all rows of a catalogue have in common.

    Attributes:
        model: Name or path of the model.
        weights_sha256: SHA-256 of the file of its weights.
        tags: Its tags, in the order of the scores.
        info: `TagInfo` by tag.
        width: Length of an embedding.
        options: What is computed of each file.
    """

    model: str
    weights_sha256: str
    tags: tuple[str, ...]
    info: Mapping[str, TagInfo]
    width: int
    options: Options

    def values(self) -> dict[str, Any]:
        """Return the content of `catalog.json`."""
        return {
            "format_version": FORMAT_VERSION,
            "model": self.model,
            "weights_sha256": self.weights_sha256,
            "width": self.width,
            "options": vars(self.options),
            "tags": info_to_values(self.tags, self.info),
        }


def read_about(folder: str | os.PathLike[str]) -> About:
    """Read what all rows of a catalogue have in common.

    Raises:
        CatalogError: If the folder is not a catalogue.
    """
    path = Path(folder) / _ABOUT
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version {values['format_version']!r}, not {FORMAT_VERSION}")
        tags = tuple(str(entry["tag"]) for entry in values["tags"])
        return About(
            str(values["model"]),
            str(values["weights_sha256"]),
            tags,
            info_from_values(values["tags"], tags),
            int(values["width"]),
            Options(**values["options"]),
        )
    except FileNotFoundError:
        raise CatalogError(
            f"expected a folder that keras-tagger catalog wrote. Received: {str(folder)!r}, which has no {_ABOUT}."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, ModelError) as error:
        raise CatalogError(f"expected a folder that keras-tagger catalog wrote. Received: {path} ({error}).") from None


def shards(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the shards of a catalogue, in the order in which they were written."""
    return sorted(path for path in (Path(folder) / _TRACKS).glob("*.parquet") if not path.name.startswith("."))


def errors_file(folder: str | os.PathLike[str]) -> Path:
    """Return where the files that cannot be read are listed; it need not exist."""
    return Path(folder) / _ERRORS


def packed_schema(about: About) -> Any:
    """Return the schema of rows on their way: a column for all scores, and one for the error."""
    pa, _ = arrow()
    half, text = pa.float16(), pa.string()
    moment = pa.struct([("tag", text), ("seconds", pa.float32()), ("value", pa.float32())])
    fields = [
        ("path", text),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        *([("sha256", text)] if about.options.sha256 else []),
        ("seconds", pa.float32()),
        ("heard_seconds", pa.float32()),
        ("scores", pa.list_(half, len(about.tags))),
        ("present", pa.list_(text)),
        ("embedding", pa.list_(half, about.width)),
        ("warnings", pa.list_(pa.struct([("kind", text), ("message", text)]))),
        *([("contributions", pa.list_(moment))] if about.options.top_contributions else []),
        *(
            [("taggram", pa.list_(pa.list_(half, len(about.tags)))), ("taggram_times", pa.list_(pa.float32()))]
            if about.options.taggram
            else []
        ),
        *((name, text) for name in PROVENANCE),
        ("error", text),
    ]
    return pa.schema(fields)


def packed(rows: Sequence[Row], about: About) -> Any:
    """Return rows as a pyarrow `RecordBatch` of `packed_schema`."""
    pa, _ = arrow()
    schema = packed_schema(about)
    columns = [pa.array([_plain(row.get(field.name)) for row in rows], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim > 1:
        return list(value)
    return value


def rows_of(table: Any) -> Iterator[Row]:
    """Yield the rows of a packed table; `packed` is the inverse."""
    arrays = ("scores", "embedding", "taggram")
    for failed in (False, True):
        part = table.filter(table["error"].is_valid() if failed else table["error"].is_null())
        if not len(part):
            continue
        plain = part.drop_columns([name for name in arrays if name in part.column_names]).to_pylist()
        scores, embeddings = ([None] * len(part),) * 2 if failed else map(matrix, (part["scores"], part["embedding"]))
        for place, row in enumerate(plain):
            row |= {"scores": scores[place], "embedding": embeddings[place]}
            if "taggram" in part.column_names and not failed:
                row["taggram"] = matrix(part["taggram"].slice(place, 1).combine_chunks().flatten())
            yield {name: value for name, value in row.items() if value is not None}


def unpacked(table: Any, about: About) -> Any:
    """Return the tracks of a packed table as they are stored, sorted by path, with a column `tag:NAME` per tag."""
    pa, _ = arrow()
    table = table.filter(table["error"].is_null()).sort_by("path").combine_chunks()
    columns: dict[str, Any] = {}
    for name in table.column_names:
        if name == "scores":
            scores = np.zeros((0, len(about.tags)), np.float16) if not len(table) else matrix(table[name])
            columns |= {f"{TAG}{tag}": pa.array(scores[:, place]) for place, tag in enumerate(about.tags)}
        elif name in PROVENANCE:
            columns[name] = table[name].dictionary_encode()
        elif name != "error":
            columns[name] = table[name]
    return pa.table(columns)


def matrix(column: Any) -> npt.NDArray[Any]:
    """Return a column of lists of one length as an array `[rows, length]`."""
    pa, _ = arrow()
    joined = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return joined.flatten().to_numpy(zero_copy_only=False).reshape(len(joined), -1)


def digests(texts: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Return a number of 64 bits per text: what a catalogue remembers of millions of paths."""
    parts = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(parts, np.uint64)


def key_of(path: str, size: int, mtime_ns: int) -> str:
    """Return what identifies an unchanged file."""
    return f"{size} {mtime_ns} {path}"


class Store:
    """The folder of a catalogue, open for writing.

    Args:
        folder: The folder, which is created if it does not exist.
        about: What all rows have in common.
        shard_rows: Number of rows of a shard.

    Raises:
        CatalogError: If another process is writing, or the folder is the catalogue of another model or other options.

    Example:
        >>> with Store("catalogue", about) as store:
        ...     todo, done = store.missing(find_entries(["music/"]))
        ...     for row in describer.rows(todo):
        ...         store.add(row)
    """

    def __init__(self, folder: str | os.PathLike[str], about: About, shard_rows: int = SHARD_ROWS) -> None:
        arrow()
        self.folder, self.about = Path(folder), about
        self._shard_rows = shard_rows
        (self.folder / _TRACKS).mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._check_about()
            self._recover()
        except BlockingIOError:
            os.close(self._lock)
            raise CatalogError(
                f"expected a catalogue that no other process is writing. Received: {str(folder)!r}."
            ) from None
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.commit()
        finally:
            self._end()
            os.close(self._lock)

    @property
    def n_errors(self) -> int:
        """Number of files that cannot be read."""
        return len(self._errors)

    def missing(
        self, entries: Iterable[Entry], retry_errors: bool = False, compare: str = "mtime", prune: bool = False
    ) -> tuple[list[Entry], int]:
        """Return what has to be described, and remove the rows of files that have changed.

        Args:
            entries: All files; one that is named twice counts once.
            retry_errors: Whether files that could not be read are tried again.
            compare: What an unchanged file has kept: its "mtime" and size, or its "content".
            prune: Whether rows of files that are not among the entries are removed.

        Returns:
            The entries to describe, in order, and the number of those that are up to date.
        """
        chosen = list({entry.path: entry for entry in entries}.values())
        paths = digests(entry.path for entry in chosen)
        known_keys, known_paths = self._known()
        done = np.isin(digests(key_of(*entry[:3]) for entry in chosen), known_keys)
        changed = np.isin(paths, known_paths) & ~done
        if compare == "content" and changed.any():
            same = self._same_content({chosen[place].path: chosen[place].size for place in np.flatnonzero(changed)})
            done |= np.array([entry.path in same for entry in chosen], bool)
            changed &= ~done
        self._drop({chosen[place].path for place in np.flatnonzero(changed)}, set(paths.tolist()) if prune else None)
        todo = []
        for entry, is_done in zip(chosen, done, strict=True):
            error = self._errors.get(entry.path)
            known = error is not None and (error["size"], error["mtime_ns"]) == (entry.size, entry.mtime_ns)
            if not is_done and (retry_errors or not known):
                self._errors.pop(entry.path, None)
                todo.append(entry)
        self._write_errors()
        return todo, len(chosen) - len(todo)

    def add(self, row: Row) -> bool:
        """Add a row, and return whether it is new; a second row of a file is left out."""
        if row["path"] in self._added:
            return False
        self._added.add(row["path"])
        self._buffer.append(row)
        if row.get("error") is not None:
            self._errors[row["path"]] = {name: row.get(name) for name in _error_schema().names}
        if len(self._buffer) >= _FLUSH_ROWS or time.monotonic() > self._flushed + _FLUSH_SECONDS:
            self._flush()
        if len(self._buffer) + sum(map(len, self._batches)) >= self._shard_rows:
            self.commit()
        return True

    def commit(self) -> None:
        """Turn the pending rows into a shard."""
        self._flush()
        if self._batches:
            self._seal()
            self._end()
            self._begin()

    def _check_about(self) -> None:
        if not (self.folder / _ABOUT).exists():
            if shards(self.folder):
                raise CatalogError(f"expected an empty folder or a catalogue. Received: {str(self.folder)!r}.")
            write_json(self.folder / _ABOUT, self.about.values(), indent=1)
            return
        old, new = read_about(self.folder), self.about
        for name, wanted, received in (
            ("weights", (old.weights_sha256, old.model), (new.weights_sha256, new.model)),
            ("options", old.options, new.options),
        ):
            same = old.weights_sha256 == new.weights_sha256 and old.tags == new.tags
            if wanted != received and not (name == "weights" and same):
                raise CatalogError(
                    f"expected the {name} that {str(self.folder)!r} was made with, {wanted}, or another folder. "
                    f"Received: {received}."
                )

    def _recover(self) -> None:
        """Keep the rows of a writer that was killed, as far as they are whole and in no shard."""
        pa, parquet = arrow()
        for folder in (self.folder, self.folder / _TRACKS):
            for left in folder.glob(".*.parquet"):
                left.unlink()
        path = errors_file(self.folder)
        self._errors = {row["path"]: row for row in parquet.read_table(path).to_pylist()} if path.exists() else {}
        schema = packed_schema(self.about)
        batches = [batch for batch in whole_batches(self.folder / _PENDING) if batch.schema.equals(schema)]
        table = pa.Table.from_batches(batches, schema)
        _, known = self._known()
        table = table.filter(pa.array(~np.isin(digests(table["path"].to_pylist()), known), pa.bool_()))
        for row in table.select(_error_schema().names).to_pylist():
            if row["error"] is not None:
                self._errors[row["path"]] = row
        self._batches = table.to_batches()
        self._seal()
        self._added: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        """Begin a new file of pending rows."""
        pa, _ = arrow()
        self._file = open(self.folder / _PENDING, "wb")  # noqa: SIM115
        self._writer = pa.ipc.new_stream(self._file, packed_schema(self.about))
        self._batches = []
        self._buffer: list[Row] = []
        self._flushed = time.monotonic()

    def _end(self) -> None:
        """Close the file of pending rows; the writer first, as it would write into a closed file."""
        self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        if self._buffer:
            self._batches.append(packed(self._buffer, self.about))
            self._writer.write_batch(self._batches[-1])
            self._file.flush()
            self._buffer.clear()
        self._flushed = time.monotonic()

    def _seal(self) -> None:
        """Write the batches as a shard, and the errors."""
        pa, _ = arrow()
        table = unpacked(pa.Table.from_batches(self._batches, packed_schema(self.about)), self.about)
        if len(table):
            found = shards(self.folder)
            number = int(found[-1].stem.rpartition("-")[2]) + 1 if found else 0
            _write_table(self.folder / _TRACKS / f"part-{number:06d}.parquet", table)
        self._write_errors()

    def _write_errors(self) -> None:
        pa, _ = arrow()
        path = errors_file(self.folder)
        if self._errors or path.exists():
            rows = [self._errors[name] for name in sorted(self._errors)]
            _write_table(path, pa.Table.from_pylist(rows, _error_schema()))

    def _known(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """Return the digests of the keys and of the paths of all tracks."""
        keys, paths = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
        for batch in read_columns(self.folder, ["path", "size", "mtime_ns"]):
            columns = [column.to_pylist() for column in batch.columns]
            keys.append(digests(map(key_of, *columns)))
            paths.append(digests(columns[0]))
        return np.concatenate(keys), np.concatenate(paths)

    def _same_content(self, sizes: Mapping[str, int]) -> set[str]:
        """Return which files of these sizes have the content of their rows."""
        same = set()
        if self.about.options.sha256:
            for batch in read_columns(self.folder, ["path", "size", "sha256"]):
                for path, size, sha256 in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    if sizes.get(path) == size and sha256_of(path) == sha256:
                        same.add(path)
        return same

    def _drop(self, stale: set[str], kept: set[int] | None) -> None:
        """Remove the rows of stale paths and, if `kept` is given, of all paths with other digests."""
        pa, parquet = arrow()
        if not stale and kept is None:
            return
        for shard in shards(self.folder):
            paths = parquet.read_table(shard, columns=["path"], partitioning=None)["path"].to_pylist()
            remains = np.array([path not in stale for path in paths], bool)
            if kept is not None:
                remains &= np.array([number in kept for number in digests(paths).tolist()], bool)
            if not remains.any():
                shard.unlink()
            elif not remains.all():
                _write_table(shard, parquet.read_table(shard, partitioning=None).filter(pa.array(remains)))
        if kept is not None:
            names = list(self._errors)
            for name, number in zip(names, digests(names).tolist(), strict=True):
                if number not in kept:
                    del self._errors[name]


def read_columns(
    folder: str | os.PathLike[str], columns: Sequence[str], among: Sequence[Path] | None = None
) -> Iterator[Any]:
    """Read columns of all tracks, a pyarrow `Table` per shard, in the order of the shards (or of those in `among`)."""
    _, parquet = arrow()
    for shard in shards(folder) if among is None else among:
        yield parquet.read_table(shard, columns=list(columns), partitioning=None)


def _error_schema() -> Any:
    pa, _ = arrow()
    return pa.schema([("path", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("error", pa.string())])


def _write_table(path: Path, table: Any) -> None:
    """Write a Parquet file whole or not at all, whatever happens to the process or the machine."""
    _, parquet = arrow()
    with replacing(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd")
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())


def whole_batches(path: Path) -> Iterator[Any]:
    """Yield the record batches of a file of rows (Arrow's stream format) up to where its writer was killed."""
    pa, _ = arrow()
    try:
        with pa.OSFile(str(path)) as file:
            yield from pa.ipc.open_stream(file)
    except (OSError, pa.ArrowInvalid):  # there is none, or the rest is missing
        return
