"""What the page of a catalogue shows: a sample of its tracks, and where they are on a map."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from keras_tagger.audio.streams import is_remote
from keras_tagger.catalog.entries import local_path
from keras_tagger.catalog.index import normalized
from keras_tagger.catalog.reading import Catalog
from keras_tagger.files import printable
from keras_tagger.views.catalog_page import catalog_page as render_page

MOST_TRACKS = 5000


def catalog_page(catalog: Catalog, folder: str | os.PathLike[str] = ".", most: int = MOST_TRACKS) -> str:
    """Return a page on which a catalogue can be browsed: a table with filters, a map and a player.

    Args:
        catalog: The catalogue.
        folder: The folder that the page will be in; the audio is named relative to it.
        most: Number of tracks; of a larger catalogue, the page has a sample and says so.

    Raises:
        CatalogError: If the catalogue has no tracks.

    Example:
        >>> Path("browse.html").write_text(catalog_page(Catalog("catalogue")))
    """
    table = catalog.table(["path", "seconds", "present"])
    total = len(table)
    chosen = np.sort(np.random.default_rng(0).permutation(total)[:most])
    paths, seconds, present = (table[name].take(chosen).to_pylist() for name in table.column_names)
    scores = np.round(100 * catalog.scores()[chosen].astype(np.float32)).astype(int)
    places, explained = principal_places(catalog.embeddings()[chosen])
    number = {tag: index for index, tag in enumerate(catalog.tags)}
    rows: list[dict[str, Any]] = [
        {
            "name": printable(os.path.splitext(os.path.basename(local_path(path)))[0]),
            "href": path if is_remote(path) else quote(os.path.relpath(path, folder), safe="/:"),
            "seconds": round(length, 1),
            "present": [number[tag] for tag in catalog.distinct(found)],
            "scores": values.tolist(),
            "x": round(float(x), 4),
            "y": round(float(y), 4),
        }
        for path, length, found, values, (x, y) in zip(paths, seconds, present, scores, places, strict=True)
    ]
    about = f"{total:,} tracks, described by {catalog.about.model}"
    if len(rows) < total:
        about += f"; this page has {len(rows):,} of them, chosen at random"
    return render_page(f"Catalogue {Path(catalog.folder).resolve().name}", about, catalog.tags, rows, explained)


def principal_places(embeddings: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], float]:
    """Return the places of embeddings on a map: their first two principal components, each scaled to 0..1.

    Args:
        embeddings: float `[n, D]`.

    Returns:
        float `[n, 2]`, and the share of the variance that they hold.
    """
    values = normalized(embeddings)
    values = values - values.mean(axis=0)
    variances, axes = np.linalg.eigh(values.T @ values)
    found = values @ axes[:, ::-1][:, :2]
    low, high = found.min(axis=0), found.max(axis=0)
    return (found - low) / np.maximum(high - low, 1e-9), float(variances[-2:].sum() / max(variances.sum(), 1e-12))
