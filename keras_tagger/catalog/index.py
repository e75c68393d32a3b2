"""The index of a catalogue's embeddings: usearch's graph of neighbours (HNSW), the extra `search`.

It is beside the tracks, in `index/`, and is brought up to date when it is asked: new shards are added, and if one that
it holds has changed, it is made anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.catalog.arrow import arrow
from keras_tagger.catalog.store import matrix
from keras_tagger.files import replacing, write_json

_FOLDER, _GRAPH, _SHARDS = "index", "embeddings.usearch", "shards.json"
# With these, 0.99 of the ten nearest are found among a million (docs/scale.md).
_CONNECTIVITY, _EXPANSION_ADD, _EXPANSION_SEARCH = 32, 128, 512


def is_available() -> bool:
    """Return whether usearch is installed."""
    try:
        import usearch.index  # noqa: F401
    except ImportError:
        return False
    return True


def normalized(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return vectors, float32, of length 1 along the last axis; zeros stay zeros."""
    values = np.asarray(vectors, np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)


def nearest(opened: Any, vector: npt.NDArray[Any], n: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the numbers of the tracks whose embeddings are nearest to one, and their cosines, highest first.

    Args:
        opened: From `updated`.
        vector: float `[width]`.
        n: Number of tracks.
    """
    found = opened.search(normalized(vector), n)
    return found.keys.astype(int), 1.0 - found.distances


def updated(folder: Path, shards: Sequence[Path], width: int) -> Any:
    """Return the index of all shards, open for searching. Opening that of a million tracks takes a quarter of a second.

    Args:
        folder: The catalogue.
        shards: Its shards.
        width: Length of an embedding.
    """
    from usearch.index import Index

    _, parquet = arrow()
    graph, listed = folder / _FOLDER / _GRAPH, folder / _FOLDER / _SHARDS
    wanted = [[shard.name, (status := os.stat(shard)).st_size, status.st_mtime_ns] for shard in shards]
    known: list[Any] = []
    try:
        stored = json.loads(listed.read_text(encoding="utf-8"))
        # The list names the graph that it belongs to, as one of them is replaced first.
        known = stored["shards"] if stored["graph"] == os.stat(graph).st_size else []
    except (OSError, ValueError, KeyError, TypeError):
        known = []
    index: Any = None
    if known and wanted[: len(known)] == known:
        # None if the file is damaged.
        index = Index.restore(str(graph), view=known == wanted)
        if index is not None:
            # The file does not hold them.
            index.expansion_add, index.expansion_search = _EXPANSION_ADD, _EXPANSION_SEARCH
        if index is not None and known == wanted:
            return index
    if index is None:
        known = []
        index = Index(
            ndim=width,
            metric="cos",
            dtype="f16",
            connectivity=_CONNECTIVITY,
            expansion_add=_EXPANSION_ADD,
            expansion_search=_EXPANSION_SEARCH,
        )
    for shard in shards[len(known) :]:
        vectors = normalized(matrix(parquet.read_table(shard, columns=["embedding"], partitioning=None)["embedding"]))
        index.add(np.arange(len(index), len(index) + len(vectors)), vectors.astype(np.float16))
    with replacing(graph) as temporary:
        index.save(str(temporary))
    write_json(listed, {"graph": os.stat(graph).st_size, "shards": wanted})
    return index
