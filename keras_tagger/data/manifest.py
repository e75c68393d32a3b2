"""Manifests: which stretch of which file has which tags. Without TensorFlow."""

from __future__ import annotations

import csv
import dataclasses
import filecmp
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.data.dense import UNKNOWN, read_dense
from keras_tagger.data.records import as_seconds, as_tags, as_text, read_records, tags_cell
from keras_tagger.errors import ManifestError, ManifestNotFoundError

SPLITS = ("train", "valid", "test")

# What lies beside music and is not music. Everything else is a candidate: audio may have no extension.
NOT_AUDIO = frozenset(
    {".txt", ".md", ".rst", ".pdf", ".doc", ".nfo", ".log", ".html", ".htm", ".xml", ".py", ".ipynb"}
    | {".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".ini", ".cfg", ".toml", ".npy", ".npz", ".db"}
    | {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".svg", ".webp", ".ico", ".m3u", ".m3u8", ".pls", ".cue"}
    | {".mid", ".midi", ".zip", ".gz", ".part", ".tmp"}
)

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


@dataclasses.dataclass(frozen=True)
class Clip:
    """A labelled excerpt of one file.

    `path` is local or has a scheme (`gs://...`). `tags` maps a tag to its label in 0..1, 1.0 for a hard tag, NaN for
    one that is not known; what is not there is 0. `labels` is a file of dense labels (`keras_tagger.data.dense`), of
    which `tags` are then the clip's. `start_seconds` and `end_seconds` (None: to the end of the file) bound it.
    `split` is train, valid, test or None. Clips of one `group` (an artist, an album, versions of a piece)
    stay on one side of every split.

    Raises `ManifestError` if a value is impossible.
    """

    path: str
    tags: Mapping[str, float]
    start_seconds: float = 0.0
    end_seconds: float | None = None
    split: str | None = None
    group: str | None = None
    labels: str | None = None

    def __post_init__(self) -> None:
        problem = _problem(**{name: value for name, value in vars(self).items() if name != "labels"})
        if problem:
            raise ManifestError(f"clip {self.path!r}, {problem}")

    @property
    def track(self) -> str:
        """The file itself: the path without links and relative parts."""
        return self.path if _SCHEME.match(self.path) else os.path.realpath(self.path)

    @property
    def clip_id(self) -> str:
        """The path, and `#t=START,END` in seconds (a media fragment) if the clip is not the whole file."""
        if self.start_seconds == 0.0 and self.end_seconds is None:
            return self.path
        end = "" if self.end_seconds is None else f",{self.end_seconds:.10g}"
        return f"{self.path}#t={self.start_seconds:.10g}{end}"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Clips and the ordered vocabulary `tags` of their labels; `root` is the folder they were read from."""

    clips: tuple[Clip, ...]
    tags: tuple[str, ...]
    name: str = ""
    root: str = ""

    def __len__(self) -> int:
        return len(self.clips)

    def select(self, split: str) -> Manifest:
        """The clips of one split, with the same vocabulary; raises `ManifestError` for an unknown split."""
        if split not in SPLITS:
            raise ManifestError(f"expected a split among {', '.join(SPLITS)}. Received: {split!r}")
        return dataclasses.replace(self, clips=tuple(clip for clip in self.clips if clip.split == split))

    def labels(self) -> npt.NDArray[Any]:
        """Labels as float32 [n_clips, n_tags], in the order of `clips` and `tags`; NaN where not known."""
        return label_matrix((clip.tags for clip in self.clips), self.tags)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write CSV, or JSON lines if the name ends in `.jsonl` or `.json`.

        Paths below the manifest's folder become relative, so that the folder can be moved.
        Raises `ManifestError` for a tag that a CSV cell cannot hold (one with `;`).
        """
        path = Path(path)
        folder = os.path.abspath(path.parent)
        rows = [_row(clip, folder) for clip in self.clips]
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            if path.suffix in (".jsonl", ".json"):
                file.writelines(json.dumps(_with_nulls(row), ensure_ascii=False) + "\n" for row in rows)
            else:
                columns = ("path", "tags", "start", "end", "split", "group", "labels")
                used = [name for name in columns if name != "labels" or any("labels" in row for row in rows)]
                writer = csv.DictWriter(file, used, lineterminator="\n")
                writer.writeheader()
                writer.writerows({**row, "tags": tags_cell(row["tags"])} for row in rows)
        os.replace(temporary, path)


def label_matrix(tags_of_clips: Iterable[Mapping[str, float]], tags: Sequence[str]) -> npt.NDArray[Any]:
    """Labels as float32 [n_clips, n_tags] from one mapping of tag to label per clip; NaN where not known."""
    return np.array([[of_clip.get(tag, 0.0) for tag in tags] for of_clip in tags_of_clips], dtype=np.float32).reshape(
        -1, len(tags)
    )


def read_manifest(
    path: str | os.PathLike[str], tags: Sequence[str] | None = None, min_clips_per_tag: int = 1
) -> Manifest:
    """Read a CSV file with a header, or JSON lines (`.jsonl`, `.json`; a JSON array is taken too).

    Columns or keys: `path`, `tags`, and optionally `start`, `end` (seconds), `split`, `group`, `labels`; others
    are ignored. A CSV cell of tags is `guitar;rock` or, with labels in 0..1, `guitar:0.8;rock:0.1`, and
    `guitar:?` where it is not known; in JSON it is a list, or an object of labels and null. `labels` names a
    file of dense labels (`keras_tagger.data.dense`), from which the clip's tags follow; all that it does not
    name is then unknown. Relative paths are relative to the manifest's folder. The audio itself is not opened.

    The vocabulary is `tags` in the order given, or every tag that at least `min_clips_per_tag` clips have,
    sorted. Other tags are dropped.

    Raises `ManifestNotFoundError`, or `ManifestError` naming file, line and column.
    """
    path = Path(path)
    if not path.exists():
        raise ManifestNotFoundError(f"expected a manifest file. Received a path where there is nothing: '{path}'")
    if path.is_dir():
        raise ManifestError(f"expected a manifest file. Received a folder: '{path}'")
    root = os.path.abspath(path.parent)
    clips: list[Clip] = []
    first_seen: dict[tuple[str, float, float | None], str] = {}
    for where, record in read_records(path):
        clip = _clip(record, root, f"{path}, {where}")
        key = (clip.track, clip.start_seconds, clip.end_seconds)
        if key in first_seen:
            raise ManifestError(
                f"{path}, {where}: expected every clip once. Received again the path, start and end of "
                f"{first_seen[key]}: '{clip.clip_id}'"
            )
        first_seen[key] = where
        clips.append(clip)
    if not clips:
        raise ManifestError(f"{path}: expected at least one clip. Received a manifest without rows")
    return _manifest(clips, tags, min_clips_per_tag, name=path.stem, root=root, source=str(path))


def read_folders(
    root: str | os.PathLike[str], tags: Sequence[str] | None = None, min_clips_per_tag: int = 1
) -> Manifest:
    """Read a folder-per-tag layout, `root/TAG/**/audio`: every file below TAG is a clip with that tag.

    Hidden files and extensions that are never audio (`NOT_AUDIO`) are skipped, and so are files directly in
    `root`. A link that leads nowhere is a clip, which decoding will report like any file that is gone. One file
    under several tags is one clip with several tags: the same file by links, or equal files of the same name below
    their tag folders. The order is that of the paths. `tags` and `min_clips_per_tag` as in `read_manifest`.

    Raises `ManifestNotFoundError`, or `ManifestError` if there is no tag folder with files.
    """
    root = Path(root)
    if not root.exists():
        raise ManifestNotFoundError(
            f"expected a folder of tag folders. Received a path where there is nothing: '{root}'"
        )
    if not root.is_dir():
        raise ManifestError(f"expected a folder of tag folders. Received a file: '{root}'")
    base = os.path.abspath(root)
    paths: list[str] = []
    tags_of: list[dict[str, float]] = []
    by_file: dict[tuple[int, int], int] = {}
    by_name: dict[str, list[int]] = {}
    for tag in sorted(entry.name for entry in os.scandir(base) if entry.is_dir() and not entry.name.startswith(".")):
        for path in sorted(_files_below(os.path.join(base, tag))):
            # Of a link that leads nowhere, the link's own.
            status = os.stat(path) if os.path.exists(path) else os.lstat(path)
            identity = (status.st_dev, status.st_ino)
            name = os.path.relpath(path, os.path.join(base, tag))
            clip = by_file.get(identity)
            if clip is None:
                same_name = by_name.get(name, [])
                clip = next((i for i in same_name if tag not in tags_of[i] and _equal_files(paths[i], path)), None)
            if clip is None:
                clip = len(paths)
                paths.append(path)
                tags_of.append({})
                by_name.setdefault(name, []).append(clip)
            by_file[identity] = clip
            tags_of[clip][tag] = 1.0
    if not paths:
        raise ManifestError(
            f"{root}: expected audio in folders named after tags (TAG/track.ogg). Received a folder without"
        )
    clips = [
        Clip(path, of_clip) for path, of_clip in sorted(zip(paths, tags_of, strict=True), key=lambda pair: pair[0])
    ]
    return _manifest(clips, tags, min_clips_per_tag, name=os.path.basename(base), root=base, source=str(root))


def _manifest(
    clips: Sequence[Clip],
    tags: Sequence[str] | None,
    min_clips_per_tag: int,
    name: str,
    root: str,
    source: str,
) -> Manifest:
    counts = Counter(tag for clip in clips for tag, label in clip.tags.items() if label > 0)
    if tags is None:
        vocabulary = tuple(sorted(tag for tag, count in counts.items() if count >= min_clips_per_tag))
        if not vocabulary:
            most = max(counts.values(), default=0)
            raise ManifestError(
                f"{source}: expected a tag with at least {max(1, min_clips_per_tag)} clips. "
                f"Received tags with at most {most}"
            )
    else:
        vocabulary = tuple(tags)
        if len(set(vocabulary)) != len(vocabulary):
            raise ManifestError(f"{source}: expected every tag of the vocabulary once. Received: {list(tags)}")
        if not counts.keys() & set(vocabulary):
            known = ", ".join(sorted(counts)[:10]) or "none"
            raise ManifestError(f"{source}: expected clips with a tag among {list(tags)[:10]}. Received tags: {known}")
    known_tags = set(vocabulary)
    kept = tuple(
        dataclasses.replace(
            clip,
            # Dense labels are silent about the tags that they do not name; a list of tags says that others are absent.
            tags={tag: clip.tags.get(tag, UNKNOWN) for tag in vocabulary}
            if clip.labels
            else {tag: label for tag, label in clip.tags.items() if tag in known_tags},
        )
        for clip in clips
    )
    return Manifest(kept, vocabulary, name=name, root=root)


def _problem(
    path: str,
    tags: Mapping[str, float],
    start_seconds: float,
    end_seconds: float | None,
    split: str | None,
    group: str | None,
) -> str | None:
    """The column and what is wrong with it, or None."""
    if not path or not path.strip():
        return f"column path: expected a path. Received: {path!r}"
    for tag, label in tags.items():
        if not tag:
            return "column tags: expected tags. Received an empty one"
        if not (0.0 <= label <= 1.0 or math.isnan(label)):
            return f"column tags: expected the weight of {tag!r} in 0..1. Received: {label:g}"
    if not (math.isfinite(start_seconds) and start_seconds >= 0.0):
        return f"column start: expected seconds of at least 0. Received: {start_seconds:g}"
    if end_seconds is not None and not (math.isfinite(end_seconds) and end_seconds > start_seconds):
        return f"column end: expected seconds after the start, {start_seconds:g}. Received: {end_seconds:g}"
    if split is not None and split not in SPLITS:
        return f"column split: expected one of {', '.join(SPLITS)}. Received: {split!r}"
    return None


def _clip(record: Mapping[str, Any], root: str, where: str) -> Clip:
    """A clip of one row; all cells of a CSV are text, values of JSON have their types."""
    path = record.get("path")
    if not isinstance(path, str) or not path.strip():
        raise ManifestError(f"{where}, column path: expected a path. Received: {path!r}")
    values: dict[str, Any] = {
        "path": path if _SCHEME.match(path) else os.path.normpath(os.path.join(root, path)),
        "tags": as_tags(record.get("tags"), where),
        "start_seconds": as_seconds(record.get("start"), where, "start") or 0.0,
        "end_seconds": as_seconds(record.get("end"), where, "end"),
        "split": as_text(record.get("split")),
        "group": as_text(record.get("group")),
    }
    problem = _problem(**values)
    if problem:
        raise ManifestError(f"{where}, {problem}")
    labels = as_text(record.get("labels"))
    if labels is None:
        return Clip(**values)
    if values["tags"]:
        raise ManifestError(
            f"{where}: expected tags or labels. Received both: {list(values['tags'])[:3]} and {labels!r}"
        )
    labels = os.path.normpath(os.path.join(root, labels))
    try:
        values["tags"] = read_dense(labels).clip_tags()
    except (ManifestError, ManifestNotFoundError) as error:
        raise type(error)(f"{where}, column labels: {error}") from None
    return Clip(**values, labels=labels)


def _row(clip: Clip, folder: str) -> dict[str, Any]:
    row: dict[str, Any] = {"path": _stored_path(clip.path, folder), "tags": {} if clip.labels else dict(clip.tags)}
    optional = {
        "start": clip.start_seconds or None,
        "end": clip.end_seconds,
        "split": clip.split,
        "group": clip.group,
        "labels": clip.labels and _stored_path(clip.labels, folder),
    }
    return row | {key: value for key, value in optional.items() if value is not None}


def _with_nulls(row: Mapping[str, Any]) -> dict[str, Any]:
    tags = {tag: None if math.isnan(label) else label for tag, label in row["tags"].items()}
    return {**row, "tags": tags}


def _stored_path(path: str, folder: str) -> str:
    if _SCHEME.match(path):
        return path
    path = os.path.abspath(path)
    relative = os.path.relpath(path, folder)
    return path if relative.startswith(os.pardir) else relative


def _files_below(folder: str) -> Iterator[str]:
    """Candidates for audio at any depth; links to folders are followed once, and not upwards."""
    seen = set(map(str, Path(os.path.realpath(folder)).parents))
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = os.path.join(parent, name)
            candidate = os.path.isfile(path) or (os.path.islink(path) and not os.path.exists(path))
            if candidate and not name.startswith(".") and os.path.splitext(name)[1].lower() not in NOT_AUDIO:
                yield path


def _equal_files(a: str, b: str) -> bool:
    if not (os.path.exists(a) and os.path.exists(b)):
        return False
    return os.path.getsize(a) == os.path.getsize(b) and filecmp.cmp(a, b, shallow=False)
