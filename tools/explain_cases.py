"""Clips in which the times of a tag are known: real ones joined in the middle, and rendered solos."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_tagger import audio
from keras_tagger.data.dense import read_dense
from keras_tagger.data.manifest_rows import read_rows
from keras_tagger.errors import ManifestError

START_SECONDS, HALF_SECONDS = 4.0, 10.0
PRESENT, ABSENT = 0.5, 0.1


@dataclass(frozen=True, eq=False)
class Case:
    """A clip, a tag, and when the tag is heard.

    Attributes:
        waveform: float32 `[samples]`.
        tag: Name of the tag.
        intervals: Start and end of each interval in seconds.
    """

    waveform: np.ndarray
    tag: str
    intervals: Sequence[Sequence[float]]


@dataclass(frozen=True, eq=False)
class _Stretch:
    """The teacher's labels of 10 s of a clip: lowest, highest and mean patch of each tag, `[n_tags]`."""

    path: str
    group: str
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray


def pairs(
    manifest: Path,
    tags: Sequence[str],
    rate: int,
    n_pairs: int,
    split: str = "test",
    seed: int = 0,
    strict: bool = True,
) -> list[Case]:
    """Join stretches of 10 s of two tracks, one with a tag and one without, in alternating order.

    A stretch has a tag if the teacher gives every patch of 3 s in it more than 0.5, and is without it if no patch has
    more than 0.1. The truth therefore holds at every moment, as ROC-AUC over time needs.

    Args:
        manifest: Manifest with the teacher's dense labels.
        tags: The tags to choose from.
        rate: Sample rate of the clips, Hz.
        n_pairs: Number of pairs.
        split: Split of the tracks.
        seed: Seed of the choice.
        strict: With False, the means over the patches decide.

    Raises:
        ManifestError: If not enough pairs are found in many tries.
    """
    found = _stretches(manifest, tags, split)
    rng = np.random.default_rng(seed)
    cases: list[Case] = []
    for _ in range(1000 * n_pairs):
        if len(cases) == n_pairs:
            return cases
        one, other = (found[int(index)] for index in rng.integers(0, len(found), 2))
        has, lacks = (one.low, other.high) if strict else (one.mean, other.mean)
        fitting = np.flatnonzero((has > PRESENT) & (lacks < ABSENT))
        if one.group == other.group or not len(fitting):
            continue
        first = len(cases) % 2 == 0
        tag = tags[int(rng.choice(fitting))]
        halves = [
            audio.load(stretch.path, rate, START_SECONDS, START_SECONDS + HALF_SECONDS)[: round(HALF_SECONDS * rate)]
            for stretch in ((one, other) if first else (other, one))
        ]
        # The last token reaches past the end of the clip, and so may its centre; it belongs to the second half.
        interval = (0.0, HALF_SECONDS) if first else (HALF_SECONDS, math.inf)
        cases.append(Case(np.concatenate(halves), tag, [interval]))
    raise ManifestError(f"{manifest}: expected {n_pairs} pairs with and without a tag. Received: {len(cases)}.")


def _stretches(manifest: Path, tags: Sequence[str], split: str) -> list[_Stretch]:
    found = []
    for _, row in read_rows(manifest):
        path = os.path.join(manifest.parent, row["path"])
        if row.get("split") != split or (audio.info(path).seconds or 0) < START_SECONDS + HALF_SECONDS:
            continue
        labels = read_dense(os.path.join(manifest.parent, row["labels"]))
        starts = np.arange(len(labels.values)) * labels.hop_seconds
        ends = starts + labels.length_seconds
        within = (starts > START_SECONDS - 1e-6) & (ends < START_SECONDS + HALF_SECONDS + 1e-6)
        if not within.any():
            continue
        patches = labels.columns(tuple(tags))[within]
        found.append(_Stretch(path, row["group"], patches.min(axis=0), patches.max(axis=0), patches.mean(axis=0)))
    if not found:
        raise ManifestError(f"{manifest}: expected clips of split {split!r} with dense labels. Received: none.")
    return found


def solos(manifest: Path, tags: Sequence[str], rate: int, n_clips: int) -> list[Case]:
    """Read clips that `pretrain/solos.py` rendered and whose target the model has, with the times of its notes.

    Raises:
        ManifestError: If there are fewer than `n_clips`.
    """
    cases = []
    for _, row in read_rows(manifest):
        if row["target"] in tags and len(cases) < n_clips:
            times = json.loads((manifest.parent / row["labels"]).read_text("utf-8"))["tags"][row["target"]]
            cases.append(Case(audio.load(manifest.parent / row["path"], rate), row["target"], times))
    if len(cases) < n_clips:
        raise ManifestError(f"{manifest}: expected {n_clips} clips of solos. Received: {len(cases)}.")
    return cases


def excerpts(
    manifest: Path, rate: int, seconds: float, n_clips: int, split: str = "test", seed: int = 0
) -> list[np.ndarray]:
    """Read one excerpt of `seconds` from each of `n_clips` tracks, float32 `[samples]`.

    Raises:
        ManifestError: If there are fewer tracks.
    """
    by_group: dict[str, str] = {}
    for _, row in read_rows(manifest):
        path = os.path.join(manifest.parent, row["path"])
        if row.get("split") == split and (audio.info(path).seconds or 0) >= START_SECONDS + seconds:
            by_group.setdefault(row["group"], path)
    if len(by_group) < n_clips:
        raise ManifestError(f"{manifest}: expected {n_clips} tracks of split {split!r}. Received: {len(by_group)}.")
    chosen = np.random.default_rng(seed).permutation(sorted(by_group.values()))[:n_clips]
    n_samples = round(seconds * rate)
    return [audio.load(path, rate, START_SECONDS, START_SECONDS + seconds + 0.01)[:n_samples] for path in chosen]
