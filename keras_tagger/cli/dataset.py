"""Flags that select labelled audio, and a function that opens it."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from keras_tagger.errors import ManifestError, ManifestNotFoundError

if TYPE_CHECKING:
    from keras_tagger.data.manifest import Manifest
    from keras_tagger.data.prepared import Prepared


def add_dataset_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags that go with the name of a public data set."""
    command.add_argument("--root", metavar="DIR", help="the folder of a public data set")
    command.add_argument(
        "--subset", default="", metavar="NAME", help="its subset: clean, all, top50, genre, mood, cals, ..."
    )
    command.add_argument(
        "--split_index", type=int, default=0, metavar="N", help="which split of mtg_jamendo, 0 to 4 (0)"
    )


def open_data(arguments: argparse.Namespace, source: str) -> Manifest | Prepared:
    """Open a public data set by name (with --root), a manifest, a folder per tag or a prepared folder.

    Raises:
        ManifestError: If the source cannot be read, or the flags do not apply to it.
    """
    from keras_tagger.config.data import SUBSETS
    from keras_tagger.data.datasets import open_dataset
    from keras_tagger.data.sources import open_source

    if arguments.root is not None:
        return open_dataset(
            source,
            arguments.root,
            arguments.subset,
            arguments.split_index,
            allow_missing=getattr(arguments, "allow_missing", True),
        )
    if source in SUBSETS and not os.path.exists(source):
        raise ManifestNotFoundError(f"expected --root DIR, the folder of {source}. Received: no --root.")
    if arguments.subset:
        raise ManifestError(f"--subset: expected --root and the name of a data set. Received: {source!r}.")
    return open_source(source)
