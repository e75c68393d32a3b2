"""Catalogues: the tags and embeddings of very many tracks, as Parquet, and finding music in them.

    from keras_tagger import catalog

    catalog.build(["music/"], "catalogue")                  what `keras-tagger catalog` does
    found = catalog.Catalog("catalogue")
    found.search("guitar>0.5, no vocals")                   what `keras-tagger search` does

The files in here:

    arrow.py      pyarrow, if it is installed
    entries.py    which files there are: folders, playlists, tables, object stores
    rows.py       `Describer`: from files to rows, the one function that all engines share
    store.py      the folder of a catalogue: what is done, rows that arrive, shards
    driver.py     what is missing, which engine makes it, the rows into the store
    local.py      the processes of one machine; worker.py is what such a process runs
    ray_engine.py, beam_engine.py    the same rows from a cluster
    reading.py, index.py, why.py     reading, searching, and what two tracks have in common
    page.py       a page on which a catalogue can be browsed

Nothing here imports TensorFlow or pyarrow before it is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "build": "keras_tagger.catalog.driver",
    "Built": "keras_tagger.catalog.driver",
    "Catalog": "keras_tagger.catalog.reading",
    "Describer": "keras_tagger.catalog.rows",
    "Entry": "keras_tagger.catalog.entries",
    "Match": "keras_tagger.catalog.reading",
    "Options": "keras_tagger.catalog.rows",
    "find_entries": "keras_tagger.catalog.entries",
}

if TYPE_CHECKING:
    from keras_tagger.catalog.driver import Built, build
    from keras_tagger.catalog.entries import Entry, find_entries
    from keras_tagger.catalog.reading import Catalog, Match
    from keras_tagger.catalog.rows import Describer, Options

__all__ = ["Built", "Catalog", "Describer", "Entry", "Match", "Options", "build", "find_entries"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_tagger.catalog' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
