"""Decode the files of a manifest once, to sharded TFRecords of PCM. Imports TensorFlow when called."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
import numpy.typing as npt
from absl import logging
from tqdm import tqdm

from keras_tagger import audio
from keras_tagger.data.dense import POOLS, read_dense
from keras_tagger.data.manifest import SPLITS, Manifest
from keras_tagger.data.prepared import FORMAT_VERSION, INDEX, PCM_SCALE, Prepared, open_prepared
from keras_tagger.errors import KerasTaggerError, ManifestError
from keras_tagger.files import printable, replacing, write_json
from keras_tagger.progress import progress_bar

# A last segment shorter than this share of a segment is joined to the one before it.
SHORTEST_SEGMENT = 1 / 3

# Shards, their outcomes and the remains of an interrupted run.
_OURS = re.compile(rf"^\.?({'|'.join(SPLITS)})-\d{{5}}-of-\d{{5}}\.(\d+\.)?(tfrecord|json|clip)")


@dataclasses.dataclass(frozen=True)
class _Shard:
    name: str
    indices: tuple[int, ...]

    @property
    def outcome(self) -> str:
        """The name of the file that says that the shard is finished and what it contains."""
        return self.name.replace(".tfrecord", ".json")


def prepare(
    manifest: Manifest,
    out_dir: str | os.PathLike[str],
    sample_rate: int = 16000,
    segment_seconds: float = 30.0,
    workers: int = 0,
    shard_clips: int = 0,
) -> Prepared:
    """Decode every clip to mono 16-bit PCM, in records of about `segment_seconds`.

    The clips of a split are spread over its shards in a fixed random order. Files that cannot be decoded are logged,
    listed in `Prepared.failed` and left out. An interrupted run resumes at the first unfinished shard. A folder that
    was made from other clips, files (by size and modification time) or settings is made again, and a finished one is
    returned at once.

    Args:
        manifest: Clips that all have a split (see `assign_splits`).
        out_dir: The folder to write.
        sample_rate: The rate of the PCM in Hz.
        segment_seconds: The length of a record.
        workers: The number of threads; 0 for one per CPU.
        shard_clips: The number of clips in a shard; 0 chooses it by the size of the split.

    Raises:
        ManifestError: If a clip has no split, no clip can be decoded, or `out_dir` has an `index.json` that is a
            manifest or is the folder of the music.

    Example:
        >>> prepared = prepare(assign_splits(read_manifest("music.csv")), "prepared/")
    """
    if sample_rate <= 0 or segment_seconds <= 0 or workers < 0 or shard_clips < 0:
        raise ManifestError(
            "expected positive sample_rate and segment_seconds, and workers and shard_clips of at least 0. "
            f"Received: {sample_rate}, {segment_seconds:g}, {workers}, {shard_clips}."
        )
    without = next((clip for clip in manifest.clips if clip.split is None), None)
    if without is not None:
        raise ManifestError(
            f"expected a split for every clip (see assign_splits). Received: '{without.clip_id}' without a split."
        )
    out_dir = os.path.abspath(out_dir)
    if os.path.realpath(out_dir) == os.path.realpath(manifest.root) and manifest.name == os.path.basename(out_dir):
        # A prepared folder is never read as a folder per tag again.
        raise ManifestError(f"expected a folder apart from the music. Received: '{out_dir}', which has the music.")
    os.makedirs(out_dir, exist_ok=True)
    fingerprint = fingerprint_of(manifest, sample_rate, segment_seconds, shard_clips)
    finished = _finished(out_dir, fingerprint)
    if finished is not None:
        return finished

    shards = _plan(manifest, shard_clips)
    outcomes = {shard: _outcome(out_dir, shard, fingerprint) for shard in shards}
    missing = [shard for shard in shards if outcomes[shard] is None]
    _clear(out_dir, {name for shard in shards if outcomes[shard] for name in (shard.name, shard.outcome)})
    writer = _Writer(manifest, out_dir, sample_rate, segment_seconds, fingerprint)
    workers = workers or os.cpu_count() or 1
    with progress_bar(total=len(manifest), desc="prepare", unit="clip") as progress:
        progress.update(len(manifest) - sum(len(shard.indices) for shard in missing))
        pool = ThreadPoolExecutor(max_workers=workers)
        try:
            waiting = {pool.submit(writer.write, shard, progress): shard for shard in missing}
            for done in as_completed(waiting):
                outcomes[waiting[done]] = done.result()
        finally:
            # After Ctrl-C or on a full disk the threads stop at their next block; finished shards stay.
            writer.stop.set()
            pool.shutdown(cancel_futures=True)
    return _finish(manifest, out_dir, sample_rate, segment_seconds, fingerprint, outcomes)


def segments_of(blocks: Iterator[npt.NDArray[Any]], segment_samples: int) -> Iterator[npt.NDArray[Any]]:
    """Regroup blocks of float32 samples of any length into segments of `segment_samples`.

    The last segment may be shorter. If it is shorter than `SHORTEST_SEGMENT` of a segment, it is joined to the one
    before.
    """
    shortest = int(segment_samples * SHORTEST_SEGMENT)
    pending = np.zeros(0, dtype=np.float32)
    for block in blocks:
        pending = np.concatenate([pending, block])
        while len(pending) >= segment_samples + max(1, shortest):
            yield pending[:segment_samples]
            pending = pending[segment_samples:]
    if len(pending):
        yield pending


def to_pcm(waveform: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert float samples to little-endian int16: clip to -1..1, scale by 32767, round."""
    return np.rint(np.clip(waveform, -1.0, 1.0) * PCM_SCALE).astype("<i2")


class _Writer:
    """What the threads share: the settings and the event that stops them."""

    def __init__(
        self, manifest: Manifest, out_dir: str, sample_rate: int, segment_seconds: float, fingerprint: str
    ) -> None:
        self.manifest = manifest
        self.out_dir = out_dir
        self.sample_rate = sample_rate
        self.segment_samples = max(1, round(segment_seconds * sample_rate))
        self.fingerprint = fingerprint
        self.labels = manifest.labels()
        self.stop = threading.Event()

    def write(self, shard: _Shard, progress: tqdm[Any]) -> dict[str, Any]:
        """Write one shard and then its outcome."""
        clips: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        with replacing(os.path.join(self.out_dir, shard.name)) as temporary, open(temporary, "wb") as out:
            one_clip = temporary.with_suffix(".clip")
            try:
                for index in shard.indices:
                    try:
                        written = self._write_clip(index, str(one_clip))
                    except KerasTaggerError as error:
                        failed.append({"index": index, "path": self.manifest.clips[index].path, "reason": str(error)})
                    else:
                        # TFRecord files can be concatenated, so a clip that fails halfway leaves nothing in the shard.
                        with open(one_clip, "rb") as file:
                            shutil.copyfileobj(file, out, 1 << 20)
                        clips.append({"index": index, **written})
                    progress.update()
            finally:
                one_clip.unlink(missing_ok=True)
        outcome = {"fingerprint": self.fingerprint, "clips": clips, "failed": failed}
        write_json(os.path.join(self.out_dir, shard.outcome), outcome)
        return outcome

    def _write_clip(self, index: int, path: str) -> dict[str, Any]:
        """Write the records of one clip; return the samples of each, and the grid of its dense labels."""
        import tensorflow as tf

        clip = self.manifest.clips[index]
        dense = _Stretches(clip.labels, self.manifest.tags, self.sample_rate) if clip.labels else None
        segments: list[int] = []
        seconds = self.segment_samples / self.sample_rate
        blocks = audio.blocks(
            clip.path,
            sample_rate=self.sample_rate,
            block_seconds=seconds,
            start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds,
        )
        with tf.io.TFRecordWriter(os.fsencode(path)) as out:
            for number, segment in enumerate(segments_of(blocks, self.segment_samples)):
                if self.stop.is_set():
                    raise InterruptedError("prepare was interrupted")
                feature = {
                    "pcm": tf.train.Feature(bytes_list=tf.train.BytesList(value=[to_pcm(segment).tobytes()])),
                    "labels": tf.train.Feature(float_list=tf.train.FloatList(value=self.labels[index])),
                    "clip": tf.train.Feature(int64_list=tf.train.Int64List(value=[index])),
                    "segment": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
                }
                if dense is not None:
                    values, grid = dense.touching(sum(segments), len(segment))
                    feature["stretches"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[values.tobytes()]))
                    feature["grid"] = tf.train.Feature(int64_list=tf.train.Int64List(value=grid))
                out.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
                segments.append(len(segment))
        return {"segments": segments, "grid": dense and [dense.hop, dense.length]}


class _Stretches:
    """The dense labels of one clip, in samples."""

    def __init__(self, path: str, tags: tuple[str, ...], sample_rate: int) -> None:
        labels = read_dense(path)
        self.values = labels.columns(tags).astype("<f2")
        self.hop, self.length = (
            max(round(seconds * sample_rate), 1) for seconds in (labels.hop_seconds, labels.length_seconds)
        )
        self.pool = POOLS.index(labels.pool)

    def touching(self, start: int, n_samples: int) -> tuple[npt.NDArray[Any], list[int]]:
        """Return the values and grid, as in a record, of the stretches that overlap a segment."""
        first = max((start - self.length) // self.hop + 1, 0)
        last = -(-(start + n_samples) // self.hop)
        return self.values[first:last], [first * self.hop - start, self.hop, self.length, self.pool]


def _plan(manifest: Manifest, shard_clips: int) -> list[_Shard]:
    shards = []
    for split in SPLITS:
        indices = np.array([i for i, clip in enumerate(manifest.clips) if clip.split == split], dtype=int)
        # Manifests are often sorted by tag. Readers open a few shards at a time, so every shard should be a mixture.
        indices = np.random.default_rng(0).permutation(indices)
        size = shard_clips or min(256, max(4, -(-len(indices) // 64)))
        count = -(-len(indices) // size)
        for number in range(count):
            members = indices[number * size : (number + 1) * size]
            shards.append(_Shard(f"{split}-{number:05d}-of-{count:05d}.tfrecord", tuple(int(i) for i in members)))
    return shards


def fingerprint_of(
    manifest: Manifest, sample_rate: int = 16000, segment_seconds: float = 30.0, shard_clips: int = 0
) -> str:
    """Hash everything that the prepared folder depends on; files count by size and modification time."""
    clips = [
        [
            clip.path,
            clip.start_seconds,
            clip.end_seconds,
            clip.split,
            clip.group,
            sorted(clip.tags.items()),
            *_version(clip.path),
            *(_version(clip.labels) if clip.labels else ()),
        ]
        for clip in manifest.clips
    ]
    settings = [FORMAT_VERSION, sample_rate, segment_seconds, shard_clips, list(manifest.tags), clips]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()


def _version(path: str) -> tuple[int, int] | tuple[()]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns


def _finished(out_dir: str, fingerprint: str) -> Prepared | None:
    index = os.path.join(out_dir, INDEX)
    if not os.path.exists(index):
        return None
    with open(index, "rb") as file:
        content = file.read()
    if b'"tags"' in content and b'"format_version"' not in content:
        raise ManifestError(f"expected a folder for prepared data. Received: '{out_dir}', whose {INDEX} is a manifest.")
    try:
        prepared = open_prepared(out_dir)
    except ManifestError as error:
        logging.warning("Preparing %s again: %s", out_dir, error)
        return None
    if prepared.fingerprint == fingerprint:
        return prepared
    logging.info("Preparing %s again: it was made from other clips, files or settings.", out_dir)
    return None


def _outcome(out_dir: str, shard: _Shard, fingerprint: str) -> dict[str, Any] | None:
    """Read the outcome of an earlier run, if it was for the same data."""
    try:
        with open(os.path.join(out_dir, shard.outcome), encoding="utf-8") as file:
            outcome: dict[str, Any] = json.load(file)
    except (OSError, ValueError):
        return None
    same = outcome.get("fingerprint") == fingerprint and os.path.exists(os.path.join(out_dir, shard.name))
    return outcome if same else None


def _clear(out_dir: str, keep: set[str]) -> None:
    """Remove files that this run will not use; the index first, so that no reader sees an incomplete folder."""
    for name in [INDEX, *sorted(os.listdir(out_dir))]:
        path = os.path.join(out_dir, name)
        if (name.startswith((INDEX, ".index.")) or (_OURS.match(name) and name not in keep)) and os.path.exists(path):
            os.remove(path)


def _finish(
    manifest: Manifest,
    out_dir: str,
    sample_rate: int,
    segment_seconds: float,
    fingerprint: str,
    outcomes: Mapping[_Shard, dict[str, Any] | None],
) -> Prepared:
    entries: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for shard, outcome in outcomes.items():
        assert outcome is not None
        failed.extend(outcome["failed"])
        for done in outcome["clips"]:
            clip = manifest.clips[done["index"]]
            entries.append(
                {
                    "index": done["index"],
                    "id": clip.clip_id,
                    "path": clip.path,
                    "split": clip.split,
                    "group": clip.group,
                    "tags": {tag: None if math.isnan(label) else label for tag, label in clip.tags.items()},
                    "grid": done.get("grid"),
                    "seconds": sum(done["segments"]) / sample_rate,
                    "segments": done["segments"],
                    "shard": shard.name,
                }
            )
    failed.sort(key=lambda entry: entry["index"])
    _report(failed, len(manifest))
    if not entries:
        first = f" First: {failed[0]['reason']}" if failed else ""
        raise ManifestError(
            f"expected at least one clip that can be decoded. Received: {len(failed)} that cannot.{first}"
        )
    index = {
        "format_version": FORMAT_VERSION,
        "fingerprint": fingerprint,
        "sample_rate": sample_rate,
        "segment_seconds": segment_seconds,
        "tags": list(manifest.tags),
        "clips": entries,
        "failed": [{"path": entry["path"], "reason": entry["reason"]} for entry in failed],
    }
    write_json(os.path.join(out_dir, INDEX), index)
    for shard in outcomes:
        os.remove(os.path.join(out_dir, shard.outcome))
    return open_prepared(out_dir)


def _report(failed: Sequence[Mapping[str, Any]], n_clips: int) -> None:
    if failed:
        rows = "\n".join(f"  {printable(entry['path'])}  {printable(entry['reason'])}" for entry in failed)
        logging.warning("%d of %d clips cannot be decoded and are left out:\n%s", len(failed), n_clips, rows)
