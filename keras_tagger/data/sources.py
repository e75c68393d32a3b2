"""Open audio of any kind.

`open_source` opens labelled audio: a path, or Python objects. `open_unlabelled` opens audio without labels: a folder, a
playlist, a file, or a manifest whose labels are not read.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from absl import logging

from keras_tagger.audio.paths import PathError, expand
from keras_tagger.audio.streams import is_remote
from keras_tagger.data.folder import read_labelled_folder
from keras_tagger.data.manifest import Clip, Manifest, read_manifest
from keras_tagger.data.objects import dataset_manifest, is_by_split, is_dataset, joined, manifest_of_object
from keras_tagger.data.prepared import INDEX, Prepared, open_prepared
from keras_tagger.errors import ManifestError, ManifestNotFoundError

MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
# Fewer folders than this cannot be divided into parts of useful sizes.
_FEWEST_GROUPS = 5


def open_source(
    data: Any,
    tags: Sequence[str] | None = None,
    min_clips_per_tag: int = 1,
    sample_rate: int = 16000,
    work_dir: str | os.PathLike[str] | None = None,
) -> Manifest | Prepared:
    """Open labelled audio.

    Args:
        data: One of

            - the path of a manifest, of a folder with labels (`read_labelled_folder`), or of a prepared folder (with
              `index.json`), or "demo" for the clips that come with keras_tagger
            - a list of (path, tags) or of `Clip`
            - a dictionary of tags by path
            - a data frame with the columns of a manifest
            - a `tf.data.Dataset` of (waveform, labels)
            - a dictionary that maps "train", "valid" and "test" to any of these
            - a `Manifest` or `Prepared`, which is returned
        tags: The vocabulary, as in `read_manifest`; for a `tf.data.Dataset` the names of its labels. Prepared data keep
            their own.
        min_clips_per_tag: As in `read_manifest`.
        sample_rate: The rate of the waveforms of a `tf.data.Dataset` in Hz.
        work_dir: Where the clips of a `tf.data.Dataset` are written; None for a temporary folder, which is deleted when
            Python ends.

    Raises:
        ManifestNotFoundError: If nothing is at the path.
        ManifestError: If it is not labelled audio.

    Example:
        >>> len(open_source("demo"))
        7
        >>> open_source({"train": [("one.mp3", "rock")], "test": [("two.mp3", "jazz")]}).tags
        ('jazz', 'rock')
    """
    if isinstance(data, Manifest | Prepared):
        return data
    if isinstance(data, str | os.PathLike):
        return _open_path(data, tags, min_clips_per_tag)
    if is_by_split(data):
        parts: dict[str, Manifest] = {}
        for split, part in data.items():
            opened = open_source(part, tags, 1, sample_rate, work_dir)
            if isinstance(opened, Prepared):
                raise ManifestError(f"data[{split!r}]: expected clips. Received: prepared data, which have splits.")
            parts[split] = opened
        return joined(parts, tags)
    if is_dataset(data):
        return dataset_manifest(data, sample_rate, work_dir or _temporary_folder(), tags)
    return manifest_of_object(data, tags, min_clips_per_tag)


def _open_path(path: str | os.PathLike[str], tags: Sequence[str] | None, min_clips_per_tag: int) -> Manifest | Prepared:
    given, path = path, _existing(path)
    if path.is_dir():
        return open_prepared(path) if (path / INDEX).exists() else read_labelled_folder(path, tags, min_clips_per_tag)
    if path.suffix.lower() not in MANIFEST_SUFFIXES:
        raise ManifestError(
            f"expected a table of labels (.csv, .tsv, .jsonl), a folder of music with labels or a prepared folder. "
            f"Received: '{path}'."
        )
    manifest = read_manifest(path, tags, min_clips_per_tag)
    # `manifest.csv` is known by its folder, in reports.
    name = "demo" if given == "demo" else path.absolute().parent.name if path.stem == "manifest" else manifest.name
    return dataclasses.replace(manifest, name=name)


def _temporary_folder() -> str:
    folder = tempfile.mkdtemp(prefix="keras_tagger-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def open_unlabelled(path: str | os.PathLike[str]) -> tuple[Manifest, list[tuple[str, PathError]]]:
    """Open audio whose labels do not matter.

    Clips without a group or split get a group, so that recordings of one artist or album stay together in
    `assign_splits`: the folder that the file is in, at the highest level at which there are at least five folders. In a
    folder `ARTIST/ALBUM/song.mp3`, that is the artist's. If there are fewer folders at every level, every file is on
    its own, and a warning says so.

    Args:
        path: A folder, which is searched at any depth, a playlist, an audio file, or a manifest, whose splits and
            groups count.

    Returns:
        The clips, without tags; and each folder, playlist or entry of one that cannot be read, with the error.

    Raises:
        ManifestNotFoundError: If the path does not exist.
        ManifestError: If it holds no audio, or is a prepared folder.

    Example:
        >>> manifest, errors = open_unlabelled("my_music/")
        >>> manifest.clips[0].group
        '/home/me/my_music/The Artist'
    """
    path = _existing(path)
    if path.suffix.lower() in MANIFEST_SUFFIXES and not path.is_dir():
        manifest, errors = read_manifest(path, ()), []
    else:
        if (path / INDEX).exists():
            raise ManifestError(f"expected audio files or a manifest. Received: '{path}', a prepared folder.")
        expanded = list(expand([os.fspath(path)]))
        errors = [(name, error) for name, error in expanded if error is not None]
        files = dict.fromkeys(
            file if is_remote(file) else os.path.abspath(file) for file, error in expanded if not error
        )
        if not files:
            raise ManifestError(str(errors[0][1]) if errors else f"expected audio files. Received: '{path}'.")
        clips = tuple(Clip(file, {}) for file in files)
        manifest = Manifest(clips, (), name=path.stem, root=os.path.abspath(path if path.is_dir() else path.parent))
    without = [clip.path for clip in manifest.clips if clip.group is None and clip.split is None]
    groups = _folders(without)
    clips = tuple(dataclasses.replace(clip, group=clip.group or groups.get(clip.path)) for clip in manifest.clips)
    return dataclasses.replace(manifest, clips=clips), errors


def _existing(path: str | os.PathLike[str]) -> Path:
    """Return a path that exists; "demo" is that of the demo clips."""
    if not isinstance(path, str | os.PathLike):
        raise ManifestError(f"expected the path of a manifest or a folder. Received: {type(path).__name__}.")
    if not os.fspath(path):
        raise ManifestNotFoundError("expected a manifest or a folder. Received: an empty path.")
    if path == "demo":
        return Path(str(resources.files("keras_tagger") / "clips" / "manifest.csv"))
    path = Path(path).expanduser()
    if not path.exists():
        raise ManifestNotFoundError(f"expected a manifest or a folder. Received: '{path}', which does not exist.")
    return path


def _folders(files: Sequence[str]) -> Mapping[str, str]:
    """Return the folder that stands for each file's artist or album; none if the folders do not tell files apart."""
    parents = {file: Path(os.path.dirname(file)).parts for file in files if not is_remote(file)}
    depth = max(map(len, parents.values()), default=0)
    for level in range(1, depth + 1):
        groups = {file: os.path.join(*parts[:level]) for file, parts in parents.items()}
        if len(set(groups.values())) >= _FEWEST_GROUPS:
            return groups
    if len(files) > 1:
        logging.warning(
            "The music is in fewer than %d folders, so they are not taken as artists: songs of one artist may be in "
            "several splits. A manifest with the column group keeps them together.",
            _FEWEST_GROUPS,
        )
    return {}
