"""Turn a prepared folder into batches of random crops for training. Imports TensorFlow."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_tagger.data.dense import POOLS
from keras_tagger.data.prepared import PCM_SCALE, Prepared
from keras_tagger.errors import ManifestError

# Shards that are read at the same time. Neighbours in the stream are then from different clips, so a smaller shuffle
# buffer is enough.
_OPEN_SHARDS = 32
_READ_BYTES = 1 << 20


def training_dataset(
    prepared: Prepared,
    split: str,
    window_samples: int,
    batch_size: int,
    seed: int,
    epoch: int,
    shuffle_crops: int = 512,
    with_stretches: bool = False,
    balanced: bool = False,
    epoch_crops: int = 0,
    share: tuple[int, int] = (0, 1),
    parts: int = 1,
) -> tf.data.Dataset:
    """Make the batches of random crops of one epoch.

    A segment gives as many crops as windows fit into it (rounded), each at a random place in its own equal share of the
    segment. A segment shorter than the window is padded with zeros at its end. All batches are full: the rest of the
    epoch is dropped, or crops are repeated if there are fewer than one batch. The order and places of the crops depend
    only on `seed` and `epoch`, not on the global seed, so `.skip(n)` resumes an epoch exactly.

    For a clip with dense labels, the labels of a crop are those of the stretches inside it: their mean or, with the
    pool "max", 1 if a stretch has the tag, 0 if no stretch that overlaps the crop can have it, and unknown otherwise.

    Args:
        prepared: The prepared folder.
        split: "train", "valid" or "test".
        window_samples: The length of a crop.
        batch_size: The number of crops in a batch.
        seed: The seed of the run.
        epoch: The number of the epoch.
        shuffle_crops: The number of crops in the shuffle buffer, which holds int16.
        with_stretches: Also return the stretches inside each crop.
        balanced: Multiply the number of crops of each clip by its weight (`clip_weights`), rounded up or down at
            random, in the same number of batches.
        epoch_crops: The largest number of crops, drawn at random from all; 0 for no limit.
        share: The number of a worker and the number of workers, of which each gets its share of every batch.
        parts: The number of equal parts of a batch, one after the other, of which each worker gets its share.

    Returns:
        A dataset of `(waveform, labels)` or `(waveform, labels, values, bounds)`. `waveform` is float32
        `[batch_size, window_samples]` in -1..1; `labels` float32 `[batch_size, n_tags]`, NaN if unknown; `values`
        float32 `[batch_size, K, n_tags]`, the labels of stretches, padded with NaN; `bounds` int32
        `[batch_size, K, 2]`, their first sample and end within the crop, padded with zeros. K is `n_stretches`.
        With a `share`, all have this worker's rows only.

    Raises:
        ManifestError: If the split has no clips or a size is not positive.
    """
    batches = n_batches(prepared, split, window_samples, batch_size, epoch_crops)
    n_tags = len(prepared.tags)
    rng = np.random.default_rng([seed, epoch])
    crop_seed, shuffle_seed, shuffle_seed2 = (int(value) for value in rng.integers(1, 2**31, size=3))
    shards = rng.permutation(np.array([os.fsencode(shard) for shard in prepared.shards(split)]))

    most = n_stretches(prepared, split, window_samples) if with_stretches else None
    crops = _crops(n_tags, window_samples, most)
    total = count_crops(prepared, split, window_samples)
    heard = min(1.0, epoch_crops / total) if epoch_crops else 1.0
    drawn = balanced or heard < 1
    # One weight for all clips means that every crop is taken.
    weights = heard * clip_weights(prepared, split, balanced) if drawn else np.ones(1)
    clip_weight = tf.constant(weights, tf.float32)

    dataset = tf.data.Dataset.from_tensor_slices(shards).interleave(
        _plain(lambda shard: tf.data.TFRecordDataset(shard, buffer_size=_READ_BYTES)),
        cycle_length=min(_OPEN_SHARDS, len(shards)),
        block_length=1,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    place_seed = tf.constant(crop_seed, tf.int64)
    dataset = dataset.map(
        _plain(lambda record: crops(record, place_seed, clip_weight)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    ).unbatch()
    if shuffle_crops > 1:
        dataset = _shuffle(dataset, shuffle_crops, shuffle_seed, shuffle_seed2)
    # If crops are drawn, their number is random.
    dataset = dataset.repeat() if drawn or total < batch_size else dataset
    dataset = dataset.batch(batch_size, drop_remainder=True).take(batches)
    if share != (0, 1):
        dataset = dataset.map(_plain(functools.partial(_shared, share=share, parts=parts)))
    dataset = dataset.map(_plain(_to_float))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(batches))
    options = tf.data.Options()
    options.deterministic = True
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


# Nothing here branches on a tensor, so autograph would only cost time.
_plain = tf.autograph.experimental.do_not_convert


@functools.lru_cache(maxsize=16)
def _crops(n_tags: int, window_samples: int, most: int | None) -> Callable[..., tuple[tf.Tensor, ...]]:
    """Return a function from a record and the epoch's seed to the record's crops; every epoch uses the same graph.

    Args:
        n_tags: Number of tags.
        window_samples: The length of a crop.
        most: The largest number of stretches in a crop; None to return no stretches.
    """
    features = {
        "pcm": tf.io.FixedLenFeature([], tf.string),
        "labels": tf.io.FixedLenFeature([n_tags], tf.float32),
        "clip": tf.io.FixedLenFeature([], tf.int64),
        "segment": tf.io.FixedLenFeature([], tf.int64),
        "stretches": tf.io.FixedLenFeature([], tf.string, default_value=""),
        "grid": tf.io.FixedLenFeature([4], tf.int64, default_value=[0, 1, 1, 0]),
    }
    signature: list[tf.TensorSpec] = [tf.TensorSpec([window_samples], tf.int16), tf.TensorSpec([n_tags], tf.float32)]
    if most is not None:
        signature += [tf.TensorSpec([most, n_tags], tf.float32), tf.TensorSpec([most, 2], tf.int32)]

    @tf.function(
        input_signature=[
            tf.TensorSpec([], tf.string),
            tf.TensorSpec([], tf.int64),
            tf.TensorSpec([None], tf.float32),
        ],
        autograph=False,
        jit_compile=False,
    )
    def crops(record: tf.Tensor, seed: tf.Tensor, clip_weight: tf.Tensor) -> tuple[tf.Tensor, ...]:
        found = tf.io.parse_single_example(record, features)
        pcm = tf.io.decode_raw(found["pcm"], tf.int16, little_endian=True)
        # With a seed made of the record's own number, unlike a stateful generator, the crop does not depend on where
        # reading began.
        place = tf.stack([seed, found["clip"] * 2**20 + found["segment"]])
        samples = tf.shape(pcm, out_type=tf.int64)[0]
        n_crops = _n_crops(samples, window_samples)
        weight = tf.cast(clip_weight[tf.minimum(found["clip"], tf.shape(clip_weight, tf.int64)[0] - 1)], tf.float64)
        drawn = tf.random.stateless_uniform([], place + 1, dtype=tf.float64)
        rounded = tf.cast(tf.floor(tf.cast(n_crops, tf.float64) * weight + drawn), tf.int64)
        n_crops = tf.where(tf.shape(clip_weight)[0] > 1, rounded, n_crops)
        shares = tf.cast(tf.range(n_crops), tf.float64) + tf.random.stateless_uniform(
            [n_crops], place, dtype=tf.float64
        )
        places = tf.cast(tf.maximum(samples - window_samples + 1, 1), tf.float64)
        starts = tf.cast(tf.floor(shares * places / tf.cast(n_crops, tf.float64)), tf.int64)
        pcm = tf.pad(pcm, [[0, tf.maximum(window_samples - samples, 0)]])
        values = tf.cast(tf.io.decode_raw(found["stretches"], tf.float16, little_endian=True), tf.float32)
        values = tf.reshape(values, [-1, n_tags])

        def crop(start: tf.Tensor) -> tuple[tf.Tensor, ...]:
            waveform = tf.ensure_shape(pcm[start : start + window_samples], [window_samples])
            labels, inside, begins = _pooled(values, found["grid"], found["labels"], start, window_samples)
            if most is None:
                return waveform, labels
            kept = tf.boolean_mask(values, inside)[:most]
            bounds = tf.boolean_mask(tf.stack([begins, begins + found["grid"][2]], axis=1), inside)[:most]
            fill = [[0, most - tf.shape(kept)[0]], [0, 0]]
            return (
                waveform,
                labels,
                tf.ensure_shape(tf.pad(kept, fill, constant_values=float("nan")), [most, n_tags]),
                tf.ensure_shape(tf.pad(tf.cast(bounds, tf.int32), fill), [most, 2]),
            )

        return tf.map_fn(crop, starts, fn_output_signature=tuple(signature))

    return crops


def _shared(*values: tf.Tensor, share: tuple[int, int], parts: int) -> tuple[tf.Tensor, ...]:
    worker, workers = share
    size = values[0].shape[0] // (parts * workers)
    grids = [tf.reshape(value, [parts, workers, size, *value.shape[1:]]) for value in values]
    return tuple(tf.reshape(grid[:, worker], [parts * size, *grid.shape[3:]]) for grid in grids)


def _to_float(pcm: tf.Tensor, *others: tf.Tensor) -> tuple[tf.Tensor, ...]:
    return tf.cast(pcm, tf.float32) / PCM_SCALE, *others


def clip_weights(prepared: Prepared, split: str, balanced: bool = True) -> npt.NDArray[Any]:
    """Return how much more often each clip is drawn, so that rare tags are heard as often as common ones.

    The weight of a clip is that of its rarest tag, which is the inverse of the number of clips that have the tag. Clips
    without tags count as having one of their own. The weights are 1 on average over the crops of the split.

    Args:
        prepared: The prepared folder.
        split: "train", "valid" or "test".
        balanced: If false, all clips of the split have the weight 1.

    Returns:
        float32 `[highest index of a clip + 1]`, at least two; 0 for clips of other splits.
    """
    clips = prepared.select(split)
    present = prepared.labels(split) >= 0.5  # not for NaN
    present = np.concatenate([present, ~present.any(axis=1, keepdims=True)], axis=1)
    seconds = np.array([clip.seconds for clip in clips])
    rarity = np.where(present, 1.0 / np.maximum(present.sum(axis=0), 1), 0.0).max(axis=1)
    rarity = rarity if balanced else np.ones(len(clips))
    rarity *= seconds.sum() / (rarity * seconds).sum()
    weights = np.zeros(max(2, *(clip.index + 1 for clip in prepared.clips)), np.float32)
    weights[[clip.index for clip in clips]] = rarity
    return weights


def n_batches(prepared: Prepared, split: str, window_samples: int, batch_size: int, epoch_crops: int = 0) -> int:
    """Count the batches of an epoch of `training_dataset`, at least 1, without reading audio."""
    if window_samples < 1 or batch_size < 1:
        raise ManifestError(
            f"expected a window and a batch of at least 1. Received: {window_samples} and {batch_size}."
        )
    crops = count_crops(prepared, split, window_samples)
    return max(1, min(crops, epoch_crops or crops) // batch_size)


def n_stretches(prepared: Prepared, split: str, window_samples: int) -> int:
    """Return the largest number of stretches of dense labels inside a crop, at least 1."""
    grids = {clip.grid for clip in prepared.select(split) if clip.grid}
    return max([1, *((window_samples - length) // hop + 1 for hop, length in grids)])


def _pooled(
    values: tf.Tensor, grid: tf.Tensor, labels: tf.Tensor, start: tf.Tensor, window_samples: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the labels of a crop, which stretches are inside it, and where each begins in it."""
    first, hop, length, pool = tf.unstack(grid)
    begins = first + tf.range(tf.shape(values, out_type=tf.int64)[0]) * hop - start
    inside = (begins >= 0) & (begins + length <= window_samples)
    touching = tf.boolean_mask(values, (begins < window_samples) & (begins + length > 0))
    within = tf.boolean_mask(values, inside)
    has = tf.reduce_any(within >= 0.5, axis=0)  # not for NaN
    may_have = tf.reduce_any(~(touching == 0.0), axis=0)  # also for NaN
    highest = tf.where(has, 1.0, tf.where(may_have, float("nan"), 0.0))
    pooled = tf.where(pool == POOLS.index("max"), highest, tf.reduce_mean(within, axis=0))
    return tf.where(tf.reduce_any(inside), pooled, labels), inside, begins


def count_crops(prepared: Prepared, split: str, window_samples: int) -> int:
    """Count the crops in an epoch of a split."""
    return sum(
        max(1, (2 * samples + window_samples) // (2 * window_samples))
        for clip in prepared.select(split)
        for samples in clip.segments
    )


def _n_crops(samples: tf.Tensor, window_samples: int) -> tf.Tensor:
    """Return how many windows fit into a segment, rounded half up, at least 1, as `count_crops` does."""
    return tf.maximum((2 * samples + window_samples) // (2 * window_samples), 1)


def _shuffle(dataset: tf.data.Dataset, size: int, seed: int, seed2: int) -> tf.data.Dataset:
    """Shuffle as `Dataset.shuffle`, with both seeds given; the method takes one of them from `tf.random.set_seed`."""
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=tf.constant(size, tf.int64),
        seed=tf.constant(seed, tf.int64),
        seed2=tf.constant(seed2, tf.int64),
        output_types=[spec.dtype for spec in dataset.element_spec],
        output_shapes=[spec.shape for spec in dataset.element_spec],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, dataset.element_spec)
