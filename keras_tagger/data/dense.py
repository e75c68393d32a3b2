"""Dense labels: when a tag is heard in a clip. Does not import TensorFlow.

The column `labels` of a manifest names a clip's file of dense labels, which has one of two formats:

- `.npz`: `values` `[n_stretches, n_tags]`, labels in 0..1 (NaN if unknown) of stretches of equal length and constant
  hop, which may overlap; `tags` `[n_tags]`; `hop_seconds`; `length_seconds`; and `pool`, "mean" or "max", which turns
  the labels of stretches into a label of the clip. A tagger of short patches labels a clip like this, with "mean".
- `.json`: `{"seconds": 30.0, "stretch_seconds": 0.5, "tags": {"piano": [[0.0, 1.25], [2.0, 9.5]], "cello": []}}`, the
  intervals in seconds in which a tag is heard, such as those of a score; they may overlap. They become stretches of
  `stretch_seconds` with the label 1 if the tag is heard for at least half of the stretch, 0 if it is not heard at all,
  and unknown otherwise; the pool is "max".

A tag that the file does not name is unknown for the clip.
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
from keras_tagger.files import replacing

POOLS = ("mean", "max")
UNKNOWN = float("nan")
# Limits of hops and lengths. A file outside them is a mistake, and its stretches could fill the memory.
MIN_SECONDS, MAX_SECONDS = 0.001, 1e5


@dataclass(frozen=True, eq=False)
class DenseLabels:
    """Labels of stretches of a clip.

    Attributes:
        tags: The names of the columns.
        values: Labels in 0..1, float32 `[n_stretches, n_tags]`, NaN if unknown; stretch i is
            `[i * hop_seconds, i * hop_seconds + length_seconds)` of the clip.
        hop_seconds: The time from the start of a stretch to that of the next.
        length_seconds: The length of a stretch.
        pool: "mean" or "max".
    """

    tags: tuple[str, ...]
    values: npt.NDArray[Any]
    hop_seconds: float
    length_seconds: float
    pool: str

    def clip_tags(self) -> dict[str, float]:
        """Return a label of the whole clip per tag; NaN if unknown.

        The label is the mean over stretches or, with "max", 1 if a stretch has the tag and 0 if none can have it.
        """
        if self.pool == "mean":
            pooled = self.values.mean(axis=0)
        else:
            unknown = np.isnan(self.values)
            found = np.where(unknown, 0.0, self.values).max(axis=0)
            pooled = np.where((found < 0.5) & unknown.any(axis=0), UNKNOWN, found)
        return dict(zip(self.tags, (float(value) for value in pooled), strict=True))

    def columns(self, tags: tuple[str, ...]) -> npt.NDArray[Any]:
        """Return the values for a vocabulary, float32 `[n_stretches, len(tags)]`; NaN for tags without labels."""
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
        ManifestNotFoundError: If the file does not exist.
        ManifestError: If it is not a file of dense labels, or a value is not allowed.
    """
    path = Path(path)
    if not path.exists():
        raise ManifestNotFoundError(f"expected a file of dense labels. Received: '{path}', which does not exist.")
    try:
        labels = _of_intervals(json.loads(path.read_text("utf-8"))) if path.suffix == ".json" else _of_arrays(path)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ManifestError(f"{path}: expected dense labels (.npz or .json). Received: {error}.") from None
    for ok, expected, received in (
        (
            labels.values.ndim == 2 and labels.values.shape[1] == len(labels.tags),
            "a column per tag",
            labels.values.shape,
        ),
        (labels.values.size > 0, "at least one stretch and tag", labels.values.shape),
        (len(set(labels.tags)) == len(labels.tags), "no duplicate tags", list(labels.tags)),
        (not (labels.values < 0).any() and not (labels.values > 1).any(), "values in 0..1 or NaN", "other values"),
        (
            all(MIN_SECONDS <= seconds <= MAX_SECONDS for seconds in (labels.hop_seconds, labels.length_seconds)),
            f"a hop and length of {MIN_SECONDS:g} to {MAX_SECONDS:g} seconds",
            f"{labels.hop_seconds:g} and {labels.length_seconds:g}",
        ),
        (labels.pool in POOLS, f"one of the pools {', '.join(POOLS)}", labels.pool),
    ):
        if not ok:
            raise ManifestError(f"{path}: expected dense labels with {expected}. Received: {received}.")
    return labels


def write_dense(path: str | os.PathLike[str], labels: DenseLabels) -> None:
    """Write an `.npz` file of dense labels atomically; values become float16."""
    with replacing(path) as temporary:
        np.savez(
            temporary,
            values=labels.values.astype(np.float16),
            tags=np.array(labels.tags),
            hop_seconds=labels.hop_seconds,
            length_seconds=labels.length_seconds,
            pool=labels.pool,
        )


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
    """Sort intervals and remove overlaps; raise `ValueError` for times that are not finite or in reverse order."""
    kept: list[tuple[float, float]] = []
    reached = -math.inf
    for start, end in sorted((float(start), float(end)) for start, end in intervals):
        if not (math.isfinite(start) and math.isfinite(end) and start <= end):
            raise ValueError(f"{tag} from {start:g} to {end:g} s")
        if end > reached:
            kept.append((max(start, reached), end))
            reached = end
    return kept
