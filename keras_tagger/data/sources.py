"""Open labelled audio of any kind: a manifest, a folder per tag, a prepared folder, or the demo clips."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from keras_tagger.data.manifest import Manifest, read_folders, read_manifest
from keras_tagger.data.prepared import INDEX, Prepared, open_prepared
from keras_tagger.errors import ManifestError, ManifestNotFoundError

MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")


def open_source(
    path: str | os.PathLike[str], tags: Sequence[str] | None = None, min_clips_per_tag: int = 1
) -> Manifest | Prepared:
    """Open a prepared folder (with `index.json`), a folder of tag folders, or a manifest.

    Args:
        path: The folder or file, or "demo" for the clips that come with keras_tagger.
        tags: The vocabulary, as in `read_manifest`. A prepared folder keeps its own.
        min_clips_per_tag: As in `read_manifest`.

    Raises:
        ManifestNotFoundError: If nothing is at the path.
        ManifestError: If it is not labelled audio.

    Example:
        >>> len(open_source("demo"))
        7
    """
    if not os.fspath(path):
        raise ManifestNotFoundError("expected a manifest or a folder. Received: an empty path.")
    path = (
        Path(str(resources.files("keras_tagger") / "clips" / "manifest.csv"))
        if path == "demo"
        else Path(path).expanduser()
    )
    if path.is_dir():
        return open_prepared(path) if (path / INDEX).exists() else read_folders(path, tags, min_clips_per_tag)
    if not path.exists():
        raise ManifestNotFoundError(f"expected a manifest or a folder. Received: '{path}', which does not exist.")
    if path.suffix.lower() not in MANIFEST_SUFFIXES:
        raise ManifestError(
            f"expected a manifest (.csv, .jsonl), a folder of tag folders or a prepared folder. Received: '{path}'."
        )
    return read_manifest(path, tags, min_clips_per_tag)
