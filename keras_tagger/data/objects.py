"""Labelled audio in Python objects: lists, dictionaries, data frames and `tf.data.Dataset`."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from keras_tagger.data.manifest import SPLITS, Clip, Manifest, manifest_of_rows
from keras_tagger.data.manifest_rows import standard_names, with_tags
from keras_tagger.errors import ManifestError

EXPECTED = (
    "a path, a list of (path, tags), a dictionary of tags by path or of data by split, a data frame with the columns "
    "path and tags, a tf.data.Dataset of (waveform, labels), a Manifest or prepared data"
)


def manifest_of_object(data: Any, tags: Sequence[str] | None = None, min_clips_per_tag: int = 1) -> Manifest:
    """Make a manifest of a list of (path, tags) or of `Clip`, a dictionary of tags by path, or a data frame.

    Tags are written as in a manifest: `"guitar;rock"`, a list, or a dictionary of labels. Data frames (pandas or
    polars) have the columns of a manifest, or a column of numbers for each tag. Relative paths are relative to the
    working directory.

    Args:
        data: The object.
        tags: As in `read_manifest`.
        min_clips_per_tag: As in `read_manifest`.

    Raises:
        ManifestError: If it is something else, or a value is not allowed.

    Example:
        >>> manifest_of_object([("one.mp3", ["guitar", "rock"]), ("two.mp3", {"guitar": 0.3})]).tags
        ('guitar', 'rock')
    """
    rows = [(f"row {number}", row) for number, row in enumerate(_rows(data))]
    return manifest_of_rows(rows, os.getcwd(), "data", "data", tags, min_clips_per_tag)


def is_by_split(data: Any) -> TypeGuard[Mapping[str, Any]]:
    """Return whether an object maps the names of splits to their data."""
    return isinstance(data, Mapping) and bool(data) and set(data) <= set(SPLITS)


def is_dataset(data: Any) -> bool:
    """Return whether an object is a `tf.data.Dataset`, without importing TensorFlow."""
    return hasattr(data, "element_spec") and hasattr(data, "as_numpy_iterator")


def dataset_manifest(
    dataset: Any, sample_rate: int, folder: str | os.PathLike[str], tags: Sequence[str] | None = None
) -> Manifest:
    """Write the clips of a `tf.data.Dataset` to 16-bit files, which later runs on the same clips share.

    Args:
        dataset: Elements (waveform, labels): waveform float `[samples]` in -1..1 or `[batch, samples]`, labels
            `[n_tags]` or `[batch, n_tags]` in 0..1, NaN if unknown.
        sample_rate: The rate of the waveforms in Hz.
        folder: Where the folder of the clips is made, named after their content.
        tags: The names of the labels, in order; None names them `tag_0`, `tag_1`, ...

    Raises:
        ManifestError: If the elements are something else, or there are none or infinitely many.
    """
    import soundfile

    parent = Path(folder)
    parent.mkdir(parents=True, exist_ok=True)
    digest, rows = hashlib.sha256(str(sample_rate).encode()), []
    work = Path(tempfile.mkdtemp(prefix=".dataset-", dir=parent))
    try:
        for number, (waveform, labels) in enumerate(_examples(dataset)):
            digest.update(waveform.tobytes())
            digest.update(labels.tobytes())
            soundfile.write(work / f"{number:06d}.wav", waveform, sample_rate, subtype="PCM_16")
            rows.append((f"{number:06d}.wav", labels))
        if not rows:
            raise ManifestError("data: expected a tf.data.Dataset with examples. Received: an empty one.")
        n_tags = len(rows[0][1])
        names = tuple(tags) if tags else tuple(f"tag_{index}" for index in range(n_tags))
        if any(len(labels) != len(names) for _, labels in rows):
            raise ManifestError(
                f"data.tags: expected a name for each of the {n_tags} labels of the tf.data.Dataset. "
                f"Received: {len(names)} names."
            )
        final = parent / f"dataset-{digest.hexdigest()[:12]}"
        if not final.exists():
            os.replace(work, final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    clips = tuple(
        Clip(os.path.abspath(final / name), {tag: float(label) for tag, label in zip(names, labels, strict=True)})
        for name, labels in rows
    )
    return Manifest(clips, names, name="dataset", root=os.path.abspath(final))


def joined(parts: Mapping[str, Manifest], tags: Sequence[str] | None = None) -> Manifest:
    """Return the clips of several manifests, each with its split, under one vocabulary."""
    clips = tuple(dataclasses.replace(clip, split=split) for split, part in parts.items() for clip in part.clips)
    names = tuple(tags) if tags else tuple(dict.fromkeys(tag for part in parts.values() for tag in part.tags))
    first = next(iter(parts.values()))
    return Manifest(clips, names if tags else tuple(sorted(names)), name=first.name, root=first.root)


def _rows(data: Any) -> Iterator[Mapping[str, Any]]:
    if hasattr(data, "columns") and (hasattr(data, "to_dicts") or hasattr(data, "to_dict")):
        yield from _frame_rows(data)
    elif isinstance(data, Mapping):
        for path, tags in data.items():
            yield _row(path, tags)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        for item in data:
            if isinstance(item, Clip):
                values = {"start": item.start_seconds, "end": item.end_seconds, "split": item.split}
                yield {**_row(item.path, item.tags), **values, "group": item.group}
            elif isinstance(item, Mapping):
                yield {**item, **_row(item.get("path"), item.get("tags"))}
            elif isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2:
                yield _row(*item)
            else:
                raise ManifestError(f"data: expected pairs of (path, tags). Received: {str(item)[:80]!r}.")
    else:
        raise ManifestError(f"data: expected {EXPECTED}. Received: {type(data).__name__}.")


def _frame_rows(frame: Any) -> Iterator[Mapping[str, Any]]:
    columns = [str(column) for column in frame.columns]
    names = standard_names(columns)
    if "path" not in names:
        raise ManifestError(f"data: expected a column path. Received: the columns {', '.join(columns)}.")
    records = frame.to_dicts() if hasattr(frame, "to_dicts") else frame.to_dict("records")
    rows = [("", dict(zip(names, map(_plain, record.values()), strict=True))) for record in records]
    for _, row in with_tags(rows, "data"):
        yield {**row, **_row(row["path"], row.get("tags"))}


def _row(path: Any, tags: Any) -> dict[str, Any]:
    if isinstance(tags, tuple | set | frozenset | np.ndarray):
        tags = sorted(tags) if isinstance(tags, set | frozenset) else list(tags)
    elif isinstance(tags, Mapping):
        tags = {tag: None if label is None or label != label else float(label) for tag, label in tags.items()}
    return {"path": os.fspath(path) if isinstance(path, os.PathLike) else path, "tags": tags}


def _plain(value: Any) -> Any:
    """Return None for the missing values of pandas, and Python's own numbers for those of numpy."""
    if isinstance(value, np.generic):
        value = value.item()
    missing = (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )
    return None if missing else value


def _examples(dataset: Any) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    spec = dataset.element_spec
    parts = spec if isinstance(spec, tuple) else (spec,)
    ranks = [getattr(getattr(part, "shape", None), "rank", None) for part in parts]
    if ranks not in ([1, 1], [2, 2]):
        raise ManifestError(
            "data: expected a tf.data.Dataset of (waveform [samples], labels [n_tags]), or of batches of them. "
            f"Received: {spec}."
        )
    if int(dataset.cardinality()) == -1:
        raise ManifestError("data: expected a finite tf.data.Dataset. Received: one that repeats forever.")
    for waveforms, labels in dataset.as_numpy_iterator():
        pairs = zip(waveforms, labels, strict=True) if ranks == [2, 2] else ((waveforms, labels),)
        for waveform, label in pairs:
            yield np.asarray(waveform, np.float32), np.asarray(label, np.float32)
