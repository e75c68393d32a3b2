"""Clips with known times, for `explain_benchmark.py`: real ones joined in the middle, and rendered solos."""

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
        waveform: float32 [samples].
        tag: its name.
        intervals: start and end in seconds.
    """

    waveform: np.ndarray
    tag: str
    intervals: Sequence[Sequence[float]]


@dataclass(frozen=True, eq=False)
class _Stretch:
    """What the teacher hears in 10 s of a clip: each tag's lowest, highest and mean patch, [n_tags]."""

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
    """Stretches of 10 s of two tracks joined, one with a tag and one without, in turn the first and the second.

    A stretch has a tag where every patch of 3 s in it has more than 0.5 by the teacher, and is without it where none
    has more than 0.1: the truth is of every moment, as ROC-AUC over time takes it. Not `strict`, the stretch's means
    are above and below.

    Raises:
        ManifestError: no such pair is found in many tries.
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
        # The last token reaches over the clip's end and its centre may lie behind it: it is of the second half.
        interval = (0.0, HALF_SECONDS) if first else (HALF_SECONDS, math.inf)
        cases.append(Case(np.concatenate(halves), tag, [interval]))
    raise ManifestError(f"{manifest}: expected {n_pairs} pairs with and without a tag. Received: {len(cases)}")


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
        raise ManifestError(f"{manifest}: expected clips of the split {split} with dense labels. Received: none")
    return found


def solos(manifest: Path, tags: Sequence[str], rate: int, n_clips: int) -> list[Case]:
    """Clips of `pretrain/solos.py` whose target the model has, with the times of the target's notes.

    Raises:
        ManifestError: there are fewer.
    """
    cases = []
    for _, row in read_rows(manifest):
        if row["target"] in tags and len(cases) < n_clips:
            times = json.loads((manifest.parent / row["labels"]).read_text("utf-8"))["tags"][row["target"]]
            cases.append(Case(audio.load(manifest.parent / row["path"], rate), row["target"], times))
    if len(cases) < n_clips:
        raise ManifestError(f"{manifest}: expected {n_clips} clips of solos. Received: {len(cases)}")
    return cases


def excerpts(
    manifest: Path, rate: int, seconds: float, n_clips: int, split: str = "test", seed: int = 0
) -> list[np.ndarray]:
    """One excerpt of `seconds` of each of `n_clips` tracks, float32 [samples].

    Raises:
        ManifestError: there are fewer tracks.
    """
    by_group: dict[str, str] = {}
    for _, row in read_rows(manifest):
        path = os.path.join(manifest.parent, row["path"])
        if row.get("split") == split and (audio.info(path).seconds or 0) >= START_SECONDS + seconds:
            by_group.setdefault(row["group"], path)
    if len(by_group) < n_clips:
        raise ManifestError(f"{manifest}: expected {n_clips} tracks of the split {split}. Received: {len(by_group)}")
    chosen = np.random.default_rng(seed).permutation(sorted(by_group.values()))[:n_clips]
    n_samples = round(seconds * rate)
    return [audio.load(path, rate, START_SECONDS, START_SECONDS + seconds + 0.01)[:n_samples] for path in chosen]
