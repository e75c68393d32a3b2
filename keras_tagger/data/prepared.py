"""A prepared folder: audio decoded once, as TFRecords of PCM beside an index. Light to import.

    index.json                       everything but the samples; written last
    train-00000-of-00007.tfrecord    a few clips each; one record is one segment of one clip

A record is a `tf.train.Example`: `pcm` (int16, little-endian, one byte string), `labels` (float [n_tags], NaN where
not known), `clip` (its index) and `segment` (0, 1, ... within the clip). A clip's segments are consecutive. With dense
labels also `stretches` (float16, little-endian, [n_stretches, n_tags] as one byte string: those that the segment
touches) and `grid` (four integers: where the first of them begins, counted from the segment's first sample, hop and
length in samples, and the index of the pool in `keras_tagger.data.dense.POOLS`).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.data.manifest import SPLITS, label_matrix
from keras_tagger.errors import ManifestError, ManifestNotFoundError

INDEX = "index.json"
FORMAT_VERSION = 1
PCM_SCALE = 32767.0


@dataclasses.dataclass(frozen=True)
class PreparedClip:
    """A clip of a prepared folder.

    `index` is its position in the manifest it was made from, `id` and `path` name its source, `tags` are its
    labels (NaN: not known), `seconds` its length, `segments` the samples in each of its records, `shard` the file that
    has them; `grid` is hop and length, in samples, of the stretches of its dense labels.
    """

    index: int
    id: str
    path: str
    split: str
    group: str | None
    tags: Mapping[str, float]
    seconds: float
    segments: tuple[int, ...]
    shard: str
    grid: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What `prepare` made: `clips` in the order of the shards, `failed` files with `path` and `reason`."""

    dir: str
    sample_rate: int
    segment_seconds: float
    tags: tuple[str, ...]
    clips: tuple[PreparedClip, ...]
    failed: tuple[Mapping[str, str], ...]
    fingerprint: str

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have clips, in the order train, valid, test."""
        present = {clip.split for clip in self.clips}
        return tuple(split for split in SPLITS if split in present)

    def select(self, split: str) -> tuple[PreparedClip, ...]:
        """The clips of a split, in the order of `labels` and `iter_clips`; `ManifestError` if none."""
        clips = tuple(clip for clip in self.clips if clip.split == split)
        if not clips:
            raise ManifestError(f"{self.dir}: expected a split among {', '.join(self.splits)}. Received: {split!r}")
        return clips

    def shards(self, split: str) -> tuple[str, ...]:
        """Paths of the TFRecord files of a split."""
        return tuple(dict.fromkeys(os.path.join(self.dir, clip.shard) for clip in self.select(split)))

    def labels(self, split: str) -> npt.NDArray[Any]:
        """Labels as float32 [n_clips, n_tags]; NaN where not known."""
        return label_matrix((clip.tags for clip in self.select(split)), self.tags)

    def n_clips(self, split: str) -> int:
        """Number of clips of a split."""
        return len(self.select(split))

    def seconds(self, split: str) -> float:
        """Seconds of audio in a split."""
        return float(sum(clip.seconds for clip in self.select(split)))

    def iter_clips(self, split: str) -> Iterator[tuple[PreparedClip, npt.NDArray[Any]]]:
        """Every clip of a split with its waveform, float32 [samples] in -1..1, one in memory at a time."""
        import tensorflow as tf

        clips = self.select(split)
        records = iter(tf.data.TFRecordDataset(list(self.shards(split))))
        for clip in clips:
            pieces = []
            for segment, samples in enumerate(clip.segments):
                features = tf.train.Example.FromString(next(records).numpy()).features.feature
                pcm = np.frombuffer(features["pcm"].bytes_list.value[0], dtype="<i2")
                found = (
                    features["clip"].int64_list.value[0],
                    features["segment"].int64_list.value[0],
                    len(pcm),
                )
                if found != (clip.index, segment, samples):
                    raise ManifestError(
                        f"{self.dir}/{clip.shard}: expected clip, segment and samples as the index says, "
                        f"{(clip.index, segment, samples)}. Received: {found}"
                    )
                pieces.append(pcm)
            yield clip, np.concatenate(pieces).astype(np.float32) / np.float32(PCM_SCALE)


def open_prepared(path: str | os.PathLike[str]) -> Prepared:
    """Open a folder made by `prepare`; it may have been moved.

    Raises `ManifestNotFoundError` if there is no index, or `ManifestError` if it is broken, of another
    version or lacks shards.
    """
    index = Path(path) / INDEX
    if not index.exists():
        raise ManifestNotFoundError(f"expected a prepared folder with {INDEX}. Received a folder without it: '{path}'")
    try:
        content: dict[str, Any] = json.loads(index.read_text(encoding="utf-8"))
        version = content["format_version"]
        if version != FORMAT_VERSION:
            raise ManifestError(
                f"{index}: expected format_version {FORMAT_VERSION} (prepare the data again). Received: {version!r}"
            )
        prepared = Prepared(
            dir=os.fspath(path),
            sample_rate=content["sample_rate"],
            segment_seconds=content["segment_seconds"],
            tags=tuple(content["tags"]),
            clips=tuple(_clip(clip) for clip in content["clips"]),
            failed=tuple(content["failed"]),
            fingerprint=content["fingerprint"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ManifestError):
            raise
        raise ManifestError(
            f"{index}: expected an index of prepared data. Received text that is not: {error}"
        ) from None
    for shard in dict.fromkeys(clip.shard for clip in prepared.clips):
        if not os.path.exists(os.path.join(path, shard)):
            raise ManifestError(f"{path}: expected every shard of {INDEX}. Received a folder without '{shard}'")
    return prepared


def _clip(stored: Mapping[str, Any]) -> PreparedClip:
    tags = {tag: float("nan") if label is None else label for tag, label in stored["tags"].items()}
    grid = stored.get("grid")
    return PreparedClip(
        **{**stored, "tags": tags, "segments": tuple(stored["segments"]), "grid": tuple(grid) if grid else None}
    )


def write_json(path: str, content: Any) -> None:
    """Write JSON whole or not at all."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False)
        file.write("\n")
    os.replace(temporary, path)
