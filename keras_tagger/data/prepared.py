"""A prepared folder: audio decoded once, as TFRecords of PCM with an index. Does not import TensorFlow.

    index.json                       everything except the samples; written last
    train-00000-of-00007.tfrecord    a few clips; one record is one segment of one clip

A record is a `tf.train.Example` with `pcm` (int16, little-endian, one byte string), `labels` (float `[n_tags]`, NaN if
unknown), `clip` (its index) and `segment` (0, 1, ... within the clip). The segments of a clip are consecutive. With
dense labels there are also `stretches` (float16, little-endian, `[n_stretches, n_tags]` as one byte string: those that
overlap the segment) and `grid` (four integers: the start of the first stretch relative to the segment's first sample,
hop and length in samples, and the index of the pool in `keras_tagger.data.dense.POOLS`).
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

    Attributes:
        index: Its position in the manifest.
        id: `Clip.clip_id` of its source.
        path: The path of its source.
        split: "train", "valid" or "test".
        group: As in `Clip`.
        tags: Labels by tag; NaN if unknown.
        seconds: Its length.
        segments: The number of samples in each of its records.
        shard: The file that contains its records.
        grid: Hop and length of the stretches of its dense labels, in samples, or None.

    Example:
        >>> open_prepared("prepared/").clips[0].tags
        {'guitar': 1.0}
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
    """A prepared folder.

    Attributes:
        dir: The folder.
        sample_rate: The rate of the PCM in Hz.
        segment_seconds: The length of a record.
        tags: The vocabulary.
        clips: The clips in the order of the shards.
        failed: `path` and `reason` of each file that could not be decoded.
        fingerprint: A hash of everything that the folder was made from.

    Example:
        >>> prepared = open_prepared("prepared/")
        >>> prepared.n_clips("train"), prepared.seconds("train")
        (120, 3600.0)
    """

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
        """Return the clips of a split, in the order of `labels` and `iter_clips`.

        Raises:
            ManifestError: If the split has no clips.
        """
        clips = tuple(clip for clip in self.clips if clip.split == split)
        if not clips:
            raise ManifestError(
                f"{self.dir}: expected one of the splits {', '.join(self.splits)}. Received: {split!r}."
            )
        return clips

    def shards(self, split: str) -> tuple[str, ...]:
        """Return the paths of the TFRecord files of a split."""
        return tuple(dict.fromkeys(os.path.join(self.dir, clip.shard) for clip in self.select(split)))

    def labels(self, split: str) -> npt.NDArray[Any]:
        """Return the labels of a split, float32 `[n_clips, n_tags]`; NaN if unknown."""
        return label_matrix((clip.tags for clip in self.select(split)), self.tags)

    def n_clips(self, split: str) -> int:
        """Return the number of clips in a split."""
        return len(self.select(split))

    def seconds(self, split: str) -> float:
        """Return the seconds of audio in a split."""
        return float(sum(clip.seconds for clip in self.select(split)))

    def iter_clips(self, split: str) -> Iterator[tuple[PreparedClip, npt.NDArray[Any]]]:
        """Iterate over the clips of a split with their waveforms, float32 `[samples]` in -1..1, one at a time.

        Example:
            >>> for clip, waveform in open_prepared("prepared/").iter_clips("test"):
            ...     print(clip.path, len(waveform))
        """
        import tensorflow as tf

        clips = self.select(split)
        records = iter(tf.data.TFRecordDataset([os.fsencode(shard) for shard in self.shards(split)]))
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
                        f"{self.dir}/{clip.shard}: expected the clip, segment and samples of the index, "
                        f"{(clip.index, segment, samples)}. Received: {found}."
                    )
                pieces.append(pcm)
            yield clip, np.concatenate(pieces).astype(np.float32) / np.float32(PCM_SCALE)


def open_prepared(path: str | os.PathLike[str]) -> Prepared:
    """Open a folder made by `prepare`; it may have been moved since.

    Raises:
        ManifestNotFoundError: If the folder has no index.
        ManifestError: If the index is damaged or of another version, or a shard is missing.

    Example:
        >>> open_prepared("prepared/").n_clips("train")
        120
    """
    index = Path(path) / INDEX
    if not index.exists():
        raise ManifestNotFoundError(
            f"expected a prepared folder with {INDEX}. Received: '{path}', which does not contain it."
        )
    try:
        content: dict[str, Any] = json.loads(index.read_text(encoding="utf-8"))
        version = content["format_version"]
        if version != FORMAT_VERSION:
            raise ManifestError(
                f"{index}: expected format_version {FORMAT_VERSION} (prepare the data again). Received: {version!r}."
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
        raise ManifestError(f"{index}: expected an index of prepared data. Received: {error!r}.") from None
    for shard in dict.fromkeys(clip.shard for clip in prepared.clips):
        if not os.path.exists(os.path.join(path, shard)):
            raise ManifestError(f"{path}: expected every shard of {INDEX}. Received: a folder without '{shard}'.")
    return prepared


def _clip(stored: Mapping[str, Any]) -> PreparedClip:
    tags = {tag: float("nan") if label is None else label for tag, label in stored["tags"].items()}
    grid = stored.get("grid")
    return PreparedClip(
        **{**stored, "tags": tags, "segments": tuple(stored["segments"]), "grid": tuple(grid) if grid else None}
    )
