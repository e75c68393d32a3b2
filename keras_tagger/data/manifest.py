"""Manifests: labelled clips of audio files. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
import filecmp
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from absl import logging

from keras_tagger.audio.paths import AUDIO_SUFFIXES, find_audio, is_hidden
from keras_tagger.data.dense import UNKNOWN, read_dense
from keras_tagger.data.manifest_rows import TagCells, as_seconds, as_text, read_rows, tags_cell
from keras_tagger.errors import AudioError, ManifestError, ManifestNotFoundError
from keras_tagger.files import write_csv, write_json_lines
from keras_tagger.tables import listed

SPLITS = ("train", "valid", "test")

# Names of missing values, which pandas and spreadsheets write.
_MISSING = frozenset({"nan", "none", "null", "n/a", "<na>", "#n/a"})

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


@dataclasses.dataclass(frozen=True)
class Clip:
    """A labelled excerpt of an audio file.

    Attributes:
        path: A local path or one with a scheme (`gs://...`).
        tags: Labels in 0..1 by tag: 1.0 for a hard tag, NaN for an unknown label. A tag that is left out is 0.
        start_seconds: The start of the excerpt.
        end_seconds: The end of the excerpt, or None for the end of the file.
        split: "train", "valid", "test" or None.
        group: An artist, an album or a piece. All clips of a group go to the same split.
        labels: A file of dense labels (`keras_tagger.data.dense`), from which `tags` were computed, or None.

    Raises:
        ManifestError: If a value is not allowed.

    Example:
        >>> Clip("song.mp3", {"guitar": 1.0, "rock": 0.8}, start_seconds=30.0, end_seconds=60.0, split="train")
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
            raise ManifestError(f"clip {self.path!r}, {problem}.")

    @property
    def track(self) -> str:
        """The absolute path of the file, with links resolved."""
        return self.path if _SCHEME.match(self.path) else os.path.realpath(self.path)

    @property
    def clip_id(self) -> str:
        """The path, followed by the media fragment `#t=START,END` in seconds if the clip is not the whole file."""
        if self.start_seconds == 0.0 and self.end_seconds is None:
            return self.path
        end = "" if self.end_seconds is None else f",{self.end_seconds:.10g}"
        return f"{self.path}#t={self.start_seconds:.10g}{end}"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Labelled clips and their vocabulary.

    Attributes:
        clips: The clips, in the order of the rows.
        tags: The vocabulary, in the order of a model's outputs.
        name: A name for messages.
        root: The folder that the clips were read from.

    Example:
        >>> manifest = read_manifest("music.csv")
        >>> len(manifest.select("train")), manifest.tags
        (120, ('guitar', 'piano'))
    """

    clips: tuple[Clip, ...]
    tags: tuple[str, ...]
    name: str = ""
    root: str = ""

    def __len__(self) -> int:
        return len(self.clips)

    def select(self, split: str) -> Manifest:
        """Return the clips of one split, with the same vocabulary.

        Raises:
            ManifestError: If the split is not "train", "valid" or "test".

        Example:
            >>> read_manifest("music.csv").select("train").labels().shape
            (120, 50)
        """
        if split not in SPLITS:
            raise ManifestError(f"expected one of the splits {', '.join(SPLITS)}. Received: {split!r}.")
        return dataclasses.replace(self, clips=tuple(clip for clip in self.clips if clip.split == split))

    def labels(self) -> npt.NDArray[Any]:
        """Return the labels, float32 `[n_clips, n_tags]`, in the order of `clips` and `tags`; NaN if unknown."""
        return label_matrix((clip.tags for clip in self.clips), self.tags)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write CSV, or JSON lines if the name ends in `.jsonl` or `.json`.

        Paths below the manifest's folder become relative, so that the folder can be moved.

        Example:
            >>> assign_splits(read_folders("my_music/")).save("music.csv")
        """
        path = Path(path)
        folder = os.path.abspath(path.parent)
        rows = [_row(clip, folder) for clip in self.clips]
        if path.suffix.lower() in (".jsonl", ".json"):
            write_json_lines(path, map(_with_nulls, rows))
        else:
            columns = ("path", "tags", "start", "end", "split", "group", "labels")
            used = [name for name in columns if name != "labels" or any("labels" in row for row in rows)]
            write_csv(path, used, [{**row, "tags": tags_cell(row["tags"])} for row in rows])


def label_matrix(tags_of_clips: Iterable[Mapping[str, float]], tags: Sequence[str]) -> npt.NDArray[Any]:
    """Build labels, float32 `[n_clips, n_tags]`, from a mapping of tags to labels per clip; NaN if unknown."""
    rows = [[of_clip.get(tag, 0.0) for tag in tags] for of_clip in tags_of_clips]
    return np.array(rows, dtype=np.float32).reshape(len(rows), len(tags))


def read_manifest(
    path: str | os.PathLike[str], tags: Sequence[str] | None = None, min_clips_per_tag: int = 1
) -> Manifest:
    """Read a CSV file with a header, or JSON lines (`.jsonl`, `.json`; also a JSON array).

    Columns or keys are `path`, `tags`, and optionally `start`, `end` (seconds), `split`, `group` and `labels`; others
    are ignored. Without a column of these names, `file` or `filename` is read as `path`, and `tag`, `label`, `genre` or
    `class` as `tags`. A CSV file without any of them may have a column of numbers in 0..1 for each tag.

    CSV may be separated by commas, semicolons or tabs. A CSV cell of tags is `guitar;rock` or, with labels
    in 0..1, `guitar:0.8;rock:0.1`; `guitar:?` means an unknown label. In JSON, tags are a list, or an object of labels
    and nulls. `labels` names a file of dense labels (`keras_tagger.data.dense`), which replaces `tags`; tags that it
    does not name are unknown. Relative paths are relative to the manifest's folder. The audio files are not opened.

    Cells that separate tags in other ways (`guitar|rock`, `guitar,rock`, `["guitar", "rock"]`) are read as several
    tags, with a warning; a comma separates only if no cell of the file has `;` or `|`. Another warning names tags that
    differ only in case, spaces or Unicode form.

    Args:
        path: The manifest file.
        tags: The vocabulary, in order; other tags are dropped. None takes all tags of the manifest, sorted; an empty
            vocabulary reads clips without labels.
        min_clips_per_tag: Without `tags`, drop tags that fewer clips have.

    Raises:
        ManifestNotFoundError: If the file does not exist.
        ManifestError: If the file is not a valid manifest; the message names file, line and column.

    Example:
        >>> read_manifest("music.csv", min_clips_per_tag=10).tags
        ('guitar', 'piano')
    """
    path = Path(path)
    if not path.exists():
        raise ManifestNotFoundError(f"expected a manifest file. Received: '{path}', which does not exist.")
    if path.is_dir():
        raise ManifestError(f"expected a manifest file. Received: '{path}', which is a folder.")
    unlabelled = tags is not None and len(tags) == 0
    rows = read_rows(path, ("path",) if unlabelled else ("path", "tags"))
    return manifest_of_rows(rows, os.path.abspath(path.parent), path.stem, str(path), tags, min_clips_per_tag)


def manifest_of_rows(
    rows: Iterable[tuple[str, Mapping[str, Any]]],
    root: str,
    name: str,
    source: str,
    tags: Sequence[str] | None = None,
    min_clips_per_tag: int = 1,
) -> Manifest:
    """Make a manifest of rows with the columns of `read_manifest`.

    Args:
        rows: The place of each row, for messages, and its values by column.
        root: The folder that paths are relative to.
        name: The name of the manifest.
        source: What messages call it.
        tags: As in `read_manifest`.
        min_clips_per_tag: As in `read_manifest`.

    Raises:
        ManifestError: If a value is not allowed, or there are no rows.
    """
    rows = list(rows)
    cells = TagCells(row.get("tags") for _, row in rows)
    clips: list[Clip] = []
    first_seen: dict[tuple[str, float, float | None], str] = {}
    for where, row in rows:
        clip = _clip(row, root, f"{source}, {where}", cells)
        key = (clip.track, clip.start_seconds, clip.end_seconds)
        if key in first_seen:
            raise ManifestError(
                f"{source}, {where}: expected no duplicate clips. Received: '{clip.clip_id}', which is also in "
                f"{first_seen[key]}."
            )
        first_seen[key] = where
        clips.append(clip)
    if not clips:
        raise ManifestError(f"{source}: expected at least one clip. Received: a manifest without rows.")
    for sentence in cells.warnings():
        logging.warning("%s, column tags: %s", source, sentence)
    return _manifest(clips, tags, min_clips_per_tag, name=name, root=root, source=source)


def read_folders(
    root: str | os.PathLike[str], tags: Sequence[str] | None = None, min_clips_per_tag: int = 1
) -> Manifest:
    """Read a folder per tag, `root/TAG/**/audio`: every audio file below TAG is a clip with that tag.

    `keras_tagger.audio.paths.find_audio` decides what is audio; it ignores hidden files and the folders of storage
    devices, such as `@eaDir`. A folder without audio gives no tag, and files directly in `root` have none; a warning
    names both. A broken link is a clip, which decoding will report like any other missing file. A file under several
    tags is one clip with several tags; it may be the same file by links, or equal files of the same name below their
    tag folders. Clips are sorted by path.

    Args:
        root: The folder of tag folders.
        tags: As in `read_manifest`.
        min_clips_per_tag: As in `read_manifest`.

    Raises:
        ManifestNotFoundError: If the folder does not exist.
        ManifestError: If it is a file, a folder in it cannot be read, or no tag folder contains audio.

    Example:
        >>> read_folders("my_music/").tags  # my_music/guitar/, my_music/piano/
        ('guitar', 'piano')
    """
    root = Path(root)
    if not root.exists():
        raise ManifestNotFoundError(f"expected a folder of tag folders. Received: '{root}', which does not exist.")
    if not root.is_dir():
        raise ManifestError(f"expected a folder of tag folders. Received: '{root}', which is a file.")
    base = os.path.abspath(root)
    paths: list[str] = []
    tags_of: list[dict[str, float]] = []
    by_file: dict[tuple[int, int], int] = {}
    by_name: dict[str, list[int]] = {}
    without: list[str] = []
    try:
        entries = [entry for entry in os.scandir(base) if not is_hidden(entry.name)]
        found = {entry.name: find_audio(entry.path) for entry in entries if entry.is_dir()}
        loose = [
            entry.name for entry in entries if entry.is_file() and Path(entry.name).suffix.lower() in AUDIO_SUFFIXES
        ]
    except (OSError, AudioError) as error:
        raise ManifestError(f"{root}: expected a folder of readable folders. Received: {error}.") from None
    for tag, files in sorted(found.items()):
        if not files:
            without.append(tag)
        for path in files:
            # A broken link has no target to ask.
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
            f"{root}: expected audio in folders named after tags (TAG/track.ogg). Received: a folder without any."
        )
    if without:
        logging.warning("%s: folders without audio files give no tag: %s.", root, listed(without))
    if loose:
        logging.warning("%s: audio files outside the tag folders are ignored: %s.", root, listed(sorted(loose), 3))
    tags_found = sorted(set(found) - set(without))
    if len(tags_found) == 1:
        logging.warning(
            "%s: every clip has the tag %s, because tags are the folders directly below.", root, tags_found[0]
        )
    if set(tags_found) <= {*SPLITS, "val", "validation"}:
        logging.warning(
            "%s: the folders %s were read as tags. Folders cannot name splits; a manifest can (column split).",
            root,
            listed(tags_found),
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
    if isinstance(tags, str):
        raise ManifestError(f"tags: expected a list of names. Received: {tags!r}.")
    counts = Counter(tag for clip in clips for tag, label in clip.tags.items() if label > 0)
    if tags is None:
        vocabulary = tuple(sorted(tag for tag, count in counts.items() if count >= min_clips_per_tag))
        if not vocabulary:
            most = max(counts.values(), default=0)
            raise ManifestError(
                f"{source}: expected a tag with at least {max(1, min_clips_per_tag)} clips. "
                f"Received: tags with at most {most}."
            )
    else:
        vocabulary = tuple(tags)
        if len(set(vocabulary)) != len(vocabulary):
            raise ManifestError(f"{source}: expected a vocabulary without duplicates. Received: {list(tags)}.")
        if vocabulary and not counts.keys() & set(vocabulary):
            known = ", ".join(sorted(counts)[:10]) or "none"
            raise ManifestError(f"{source}: expected clips with a tag of {list(tags)[:10]}. Received: tags {known}.")
    _warn_of_tags({tag: counts[tag] for tag in vocabulary}, source)
    known_tags = set(vocabulary)
    kept = tuple(
        dataclasses.replace(
            clip,
            # A tag that dense labels do not name is unknown, while one that a list of tags leaves out is absent.
            tags={tag: clip.tags.get(tag, UNKNOWN) for tag in vocabulary}
            if clip.labels
            else {tag: label for tag, label in clip.tags.items() if tag in known_tags},
        )
        for clip in clips
    )
    return Manifest(kept, vocabulary, name=name, root=root)


def _warn_of_tags(counts: Mapping[str, int], source: str) -> None:
    """Warn of tags that are probably meant to be one, and of missing values that became tags."""
    alike: dict[str, list[str]] = {}
    for tag in counts:
        key = " ".join(unicodedata.normalize("NFKC", tag).casefold().split())
        alike.setdefault(key, []).append(tag)
    pairs = [" and ".join(f"{tag!a} ({counts[tag]})" for tag in tags) for tags in alike.values() if tags[1:]]
    if pairs:
        logging.warning(
            "%s: some tags (with numbers of clips) differ only in case, spaces or Unicode form: %s.",
            source,
            listed(pairs),
        )
    missing = sorted(tag for tag in counts if tag.casefold() in _MISSING)
    if missing:
        logging.warning("%s: missing values are probably not meant to be tags: %s.", source, listed(missing))


def _problem(
    path: str,
    tags: Mapping[str, float],
    start_seconds: float,
    end_seconds: float | None,
    split: str | None,
    group: str | None,
) -> str | None:
    """Describe what is wrong with a value and name its column, or return None."""
    if not path or not path.strip():
        return f"column path: expected a path. Received: {path!r}"
    if not isinstance(tags, Mapping):
        return f"column tags: expected labels by tag, such as {{'guitar': 1.0}}. Received: {tags!r}"
    for tag, label in tags.items():
        if not tag:
            return "column tags: expected names of tags. Received: an empty name"
        if not (0.0 <= label <= 1.0 or math.isnan(label)):
            return f"column tags: expected a label of {tag!r} in 0..1. Received: {label:g}"
    if not (math.isfinite(start_seconds) and start_seconds >= 0.0):
        return f"column start: expected seconds of at least 0. Received: {start_seconds:g}"
    if end_seconds is not None and not (math.isfinite(end_seconds) and end_seconds > start_seconds):
        return f"column end: expected seconds after the start at {start_seconds:g}. Received: {end_seconds:g}"
    if split is not None and split not in SPLITS:
        return f"column split: expected one of {', '.join(SPLITS)}. Received: {split!r}"
    return None


def _clip(row: Mapping[str, Any], root: str, where: str, cells: TagCells) -> Clip:
    """Make a clip of one row. Cells of a CSV are text; values of JSON have types."""
    path = row.get("path")
    if not isinstance(path, str) or not path.strip():
        raise ManifestError(f"{where}, column path: expected a path. Received: {path!r}.")
    values: dict[str, Any] = {
        "path": path if _SCHEME.match(path) else _located(path, root),
        "tags": cells.parse(row.get("tags"), where),
        "start_seconds": as_seconds(row.get("start"), where, "start") or 0.0,
        "end_seconds": as_seconds(row.get("end"), where, "end"),
        "split": as_text(row.get("split")),
        "group": as_text(row.get("group")),
    }
    problem = _problem(**values)
    if problem:
        raise ManifestError(f"{where}, {problem}.")
    labels = as_text(row.get("labels"))
    if labels is None:
        return Clip(**values)
    if values["tags"]:
        raise ManifestError(
            f"{where}: expected either tags or labels. Received: both, {list(values['tags'])[:3]} and {labels!r}."
        )
    labels = _located(labels, root)
    try:
        values["tags"] = read_dense(labels).clip_tags()
    except (ManifestError, ManifestNotFoundError) as error:
        raise type(error)(f"{where}, column labels: {error}") from None
    return Clip(**values, labels=labels)


def _located(path: str, root: str) -> str:
    """Return a path relative to the manifest's folder; of `~` and backslashes, the spelling whose file exists."""
    found = os.path.normpath(os.path.join(root, path))
    if os.path.lexists(found):
        return found
    others = (os.path.expanduser(path), path.replace("\\", "/"))
    spellings = (os.path.normpath(os.path.join(root, other)) for other in others if other != path)
    return next((other for other in spellings if os.path.lexists(other)), found)


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


def _equal_files(a: str, b: str) -> bool:
    if not (os.path.exists(a) and os.path.exists(b)):
        return False
    return os.path.getsize(a) == os.path.getsize(b) and filecmp.cmp(a, b, shallow=False)
