"""Dense labels: what is heard when in a clip, not only whether. Without TensorFlow.

A clip's dense labels are a file beside it, named in the manifest's column `labels`, in one of two formats:

- `.npz`: `values` [n_stretches, n_tags], labels in 0..1 of stretches of one length that follow each other by one hop
  (they may overlap), NaN where nothing is known; `tags` [n_tags]; `hop_seconds`; `length_seconds`; `pool`, "mean" or
  "max", the way from stretches to a label of them all. This is how a tagger that hears short patches labels a clip
  ("mean").
- `.json`: `{"seconds": 30.0, "stretch_seconds": 0.5, "tags": {"piano": [[0.0, 1.25], [2.0, 9.5]], "cello": []}}`, the
  times in seconds at which a tag is heard, as a score knows them; they may overlap, as notes do. They become stretches
  of `stretch_seconds`: 1 where the tag is heard for at least half of it, 0 where it is not heard at all, unknown
  between; the pool is "max".

A tag that a file does not name is unknown for the clip.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ManifestError, ManifestNotFoundError

POOLS = ("mean", "max")
UNKNOWN = float("nan")
# Of hops and lengths; beyond them a file is a mistake, and its stretches would fill the memory.
MIN_SECONDS, MAX_SECONDS = 0.001, 1e5


@dataclass(frozen=True, eq=False)
class DenseLabels:
    """Labels of stretches of a clip.

    Attributes:
        tags: names of the columns.
        values: float32 [n_stretches, n_tags] in 0..1, NaN where unknown; stretch i is
            `[i * hop_seconds, i * hop_seconds + length_seconds)` of the clip.
        hop_seconds, length_seconds: of the stretches.
        pool: "mean" or "max".
    """

    tags: tuple[str, ...]
    values: npt.NDArray[Any]
    hop_seconds: float
    length_seconds: float
    pool: str

    def clip_tags(self) -> dict[str, float]:
        """Label of the whole clip by tag; NaN where unknown.

        The mean over stretches, or with "max" 1 where one stretch has the tag, 0 where none can have it.
        """
        if self.pool == "mean":
            pooled = self.values.mean(axis=0)
        else:
            unknown = np.isnan(self.values)
            found = np.where(unknown, 0.0, self.values).max(axis=0)
            pooled = np.where((found < 0.5) & unknown.any(axis=0), UNKNOWN, found)
        return dict(zip(self.tags, (float(value) for value in pooled), strict=True))

    def columns(self, tags: tuple[str, ...]) -> npt.NDArray[Any]:
        """Values float32 [n_stretches, len(tags)] of a vocabulary; NaN for tags that are not here."""
        found = np.full((len(self.values), len(tags)), UNKNOWN, np.float32)
        place = {tag: index for index, tag in enumerate(self.tags)}
        shared = [(index, place[tag]) for index, tag in enumerate(tags) if tag in place]
        if shared:
            here, there = zip(*shared, strict=True)
            found[:, here] = self.values[:, there]
        return found


def read_dense(path: str | os.PathLike[str]) -> DenseLabels:
    """Read a file of dense labels.

    Raises:
        ManifestNotFoundError: nothing is at the path.
        ManifestError: it is not such a file, or a value is impossible.
    """
    path = Path(path)
    if not path.exists():
        raise ManifestNotFoundError(
            f"expected a file of dense labels. Received a path where there is nothing: '{path}'"
        )
    try:
        labels = _of_intervals(json.loads(path.read_text("utf-8"))) if path.suffix == ".json" else _of_arrays(path)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ManifestError(f"{path}: expected dense labels (.npz or .json). Received: {error}") from None
    for ok, expected, received in (
        (
            labels.values.ndim == 2 and labels.values.shape[1] == len(labels.tags),
            "a column per tag",
            labels.values.shape,
        ),
        (labels.values.size > 0, "at least one stretch and tag", labels.values.shape),
        (len(set(labels.tags)) == len(labels.tags), "every tag once", list(labels.tags)),
        (not (labels.values < 0).any() and not (labels.values > 1).any(), "values in 0..1 or NaN", "others"),
        (
            all(MIN_SECONDS <= seconds <= MAX_SECONDS for seconds in (labels.hop_seconds, labels.length_seconds)),
            f"a positive hop and length, of {MIN_SECONDS:g} to {MAX_SECONDS:g} seconds",
            f"{labels.hop_seconds:g} and {labels.length_seconds:g}",
        ),
        (labels.pool in POOLS, f"a pool among {', '.join(POOLS)}", labels.pool),
    ):
        if not ok:
            raise ManifestError(f"{path}: expected dense labels with {expected}. Received: {received}")
    return labels


def _of_arrays(path: Path) -> DenseLabels:
    with np.load(path, allow_pickle=False) as stored:
        if stored["tags"].ndim != 1:
            raise ValueError(f"tags of shape {stored['tags'].shape}")
        return DenseLabels(
            tuple(str(tag) for tag in stored["tags"]),
            stored["values"].astype(np.float32),
            float(stored["hop_seconds"]),
            float(stored["length_seconds"]),
            str(stored["pool"]),
        )


def _of_intervals(content: Mapping[str, Any]) -> DenseLabels:
    seconds, stretch = float(content["seconds"]), float(content["stretch_seconds"])
    if not (MIN_SECONDS <= stretch <= MAX_SECONDS and 0 < seconds <= MAX_SECONDS):
        raise ValueError(f"seconds {seconds:g} and stretch_seconds {stretch:g}")
    n_stretches = max(int(seconds / stretch + 1e-6), 1)
    starts = np.arange(n_stretches) * stretch
    values = np.zeros((n_stretches, len(content["tags"])), np.float32)
    for column, (tag, intervals) in enumerate(content["tags"].items()):
        heard = np.zeros(n_stretches)
        for start, end in _disjoint(intervals, tag):
            heard += np.clip(np.minimum(end, starts + stretch) - np.maximum(start, starts), 0.0, None)
        share = heard / stretch
        values[:, column] = np.where(share >= 0.5, 1.0, np.where(share > 0.0, UNKNOWN, 0.0))
    return DenseLabels(tuple(content["tags"]), values, stretch, stretch, "max")


def _disjoint(intervals: Any, tag: str) -> list[tuple[float, float]]:
    """The intervals in order, without the parts that an earlier one has; raises `ValueError` for what is no time."""
    kept: list[tuple[float, float]] = []
    reached = -math.inf
    for start, end in sorted((float(start), float(end)) for start, end in intervals):
        if not (math.isfinite(start) and math.isfinite(end) and start <= end):
            raise ValueError(f"{tag} from {start:g} to {end:g} s")
        if end > reached:
            kept.append((max(start, reached), end))
            reached = end
    return kept
