"""Training batches: their samples, number and order."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from keras_tagger.data.manifest import Clip, Manifest
from keras_tagger.data.pipeline import clip_weights, count_crops, n_batches, training_dataset
from keras_tagger.data.prepare import prepare
from keras_tagger.errors import ManifestError

RATE = 1000
LENGTHS = [2500, 700, 5200, 3000, 1000, 450, 8100, 4444, 1499, 1500, 2000, 90]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Clip i is a ramp: sample n is 1000 i + 1 + n modulo 1000, so a crop shows where it is from."""
    folder = tmp_path_factory.mktemp("pipeline")
    clips = []
    for i, length in enumerate(LENGTHS):
        ramp = (1000 * i + 1 + np.arange(length) % 1000).astype(np.int16)
        soundfile.write(folder / f"{i}.wav", ramp, RATE, subtype="PCM_16")
        clips.append(Clip(str(folder / f"{i}.wav"), {f"t{i}": 0.5}, split="train"))
    tags = tuple(f"t{i}" for i in range(len(LENGTHS)))
    return prepare(Manifest(tuple(clips), tags), folder / "out", RATE, segment_seconds=2.0, shard_clips=2)


def as_pcm(batches):
    """Return the samples as integers [crops, window], and the labels of the crops."""
    waves, labels = zip(*batches, strict=True)
    return np.rint(np.concatenate(waves) * 32767).astype(int), np.concatenate(labels)


def epoch_of(prepared, window=400, batch=5, seed=1, epoch=0, **options):
    return [
        (wave.numpy(), labels.numpy())
        for wave, labels in training_dataset(prepared, "train", window, batch, seed, epoch, **options)
    ]


def test_crops_are_stretches_of_their_clips(prepared):
    batches = epoch_of(prepared)
    assert all(wave.shape == (5, 400) and wave.dtype == np.float32 for wave, _ in batches)
    waves, labels = as_pcm(batches)
    assert set(np.count_nonzero(labels, axis=1)) == {1}
    assert set(labels.max(axis=1)) == {0.5}
    # 16-bit wav is read as n / 32768 and stored as a multiple of 1 / 32767, so up to one step below.
    for wave, clip in zip(waves, labels.argmax(axis=1), strict=True):
        places = wave - 1000 * clip
        length = LENGTHS[clip]
        inside = places[: min(length, 400)]
        steps = np.diff(inside)
        assert set(steps) <= {0, 1, 2, -999, -998, -1000}
        assert inside.min() >= 0
        assert inside.max() <= 1000
        assert (wave[length:] == 0).all()
        assert len(inside) == 400 or length < 400


def test_every_share_of_a_segment_gives_one_crop(prepared):
    """All crops of an epoch are in one batch."""
    total = count_crops(prepared, "train", 400)
    waves, labels = as_pcm(epoch_of(prepared, batch=total))
    assert len(waves) == total == n_batches(prepared, "train", 400, 1)
    found = np.bincount(labels.argmax(axis=1), minlength=len(LENGTHS))
    # By hand: round(segment / 400) over segments of 2000 samples, of which a last one under 666 is joined.
    np.testing.assert_array_equal(found, [6, 2, 13, 8, 3, 1, 20, 11, 4, 4, 5, 1])


def test_crops_are_uniform_within_their_shares(tmp_path):
    """30 equal clips in two epochs give 300 crops."""
    soundfile.write(tmp_path / "a.wav", np.arange(2000, dtype=np.int16), RATE, subtype="PCM_16")
    tags = tuple(f"t{i}" for i in range(30))
    clips = tuple(Clip(str(tmp_path / "a.wav"), {tag: 1.0}, split="train") for tag in tags)
    ramps = prepare(Manifest(clips, tags), tmp_path / "out", RATE, segment_seconds=2.0)
    share = 1601 / 5  # 1601 places for a window of 400 in 2000 samples, 5 crops
    within = []
    for epoch in range(2):
        waves, labels = as_pcm(epoch_of(ramps, batch=150, epoch=epoch))
        np.testing.assert_array_equal(waves, waves[:, :1] + np.arange(400))
        for clip in range(30):
            within.append(np.sort(waves[labels[:, clip] == 1, 0]) / share - np.arange(5))
    assert np.shape(within) == (60, 5)
    assert np.unique(within).size > 200  # other places in every clip and epoch
    assert np.min(within) > -1 / share
    assert np.max(within) < 1
    np.testing.assert_allclose(np.mean(within), 0.5, atol=4 / np.sqrt(12 * 300))
    np.testing.assert_allclose(np.var(within), 1 / 12, atol=0.015)


@pytest.mark.parametrize(("window", "batch"), [(400, 5), (1000, 4), (333, 7), (5000, 3), (100, 64), (2000, 1)])
def test_n_batches_is_what_comes(prepared, window, batch):
    dataset = training_dataset(prepared, "train", window, batch, seed=0, epoch=0)
    assert sum(1 for _ in dataset) == n_batches(prepared, "train", window, batch) == dataset.cardinality()


def test_fewer_crops_than_a_batch_are_repeated(prepared):
    batches = epoch_of(prepared, window=10000, batch=50)
    assert len(batches) == 1
    waves, labels = as_pcm(batches)
    assert waves.shape == (50, 10000)
    total = count_crops(prepared, "train", 10000)
    np.testing.assert_array_equal(labels[:total], labels[total : 2 * total])
    np.testing.assert_array_equal(np.bincount(labels[:total].argmax(axis=1)), [1, 1, 3, 2, 1, 1, 4, 2, 1, 1, 1, 1])


def test_an_epoch_is_a_function_of_seed_and_epoch(prepared):
    tf.random.set_seed(1)
    first, labels = as_pcm(epoch_of(prepared, seed=3, epoch=2))
    tf.random.set_seed(2)
    again, again_labels = as_pcm(epoch_of(prepared, seed=3, epoch=2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(labels, again_labels)
    for seed, epoch in ((3, 3), (2, 3), (4, 2)):
        other, other_labels = as_pcm(epoch_of(prepared, seed=seed, epoch=epoch))
        assert not np.array_equal(labels, other_labels)
        # Other places too, not the same crops in another order.
        assert set(map(tuple, first)) != set(map(tuple, other))


def test_skip_resumes(prepared):
    whole = epoch_of(prepared, seed=3, epoch=2)
    rest = list(training_dataset(prepared, "train", 400, 5, 3, 2).skip(7))
    assert len(rest) == len(whole) - 7
    for (wave, labels), (wave_again, labels_again) in zip(whole[7:], rest, strict=True):
        np.testing.assert_array_equal(wave, wave_again)
        np.testing.assert_array_equal(labels, labels_again)


def test_the_buffer_shuffles(prepared):
    in_order = as_pcm(epoch_of(prepared, shuffle_crops=1))[1].argmax(axis=1)
    shuffled = as_pcm(epoch_of(prepared, shuffle_crops=512))[1].argmax(axis=1)
    assert np.mean(in_order[1:] == in_order[:-1]) > 0.5
    assert np.mean(shuffled[1:] == shuffled[:-1]) < 0.4


def test_errors(prepared):
    with pytest.raises(ManifestError, match="at least 1"):
        training_dataset(prepared, "train", 0, 5, 0, 0)
    with pytest.raises(ManifestError, match="one of the splits train"):
        training_dataset(prepared, "valid", 400, 5, 0, 0)


# Groups of clips: common ones, as many that are also rare, and some without a tag; a window each.
COMMON, RARE, BARE = slice(0, 100), slice(100, 120), slice(120, 130)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Clip i begins with the sample 100 (i + 1)."""
    folder = tmp_path_factory.mktemp("uneven")
    clips = []
    for i, tags in enumerate([{"common": 1.0}] * 100 + [{"rare": 1.0, "common": 1.0}] * 20 + [{}] * 10):
        wave = np.tile(np.array([5000, -5000], np.int16), 200)
        wave[0] = 100 * (i + 1)
        soundfile.write(folder / f"{i}.wav", wave, RATE, subtype="PCM_16")
        clips.append(Clip(str(folder / f"{i}.wav"), tags, split="train"))
    return prepare(Manifest(tuple(clips), ("common", "rare")), folder / "out", RATE, shard_clips=30)


def heard(prepared, epochs=6, **options):
    """Return how often each clip of `uneven` is heard in an epoch, on average."""
    counts = np.zeros(130)
    for epoch in range(epochs):
        waves, _ = as_pcm(epoch_of(prepared, batch=10, epoch=epoch, **options))
        counts += np.bincount(np.rint(waves[:, 0] / 100).astype(int) - 1, minlength=130)
    return counts / epochs


def test_balanced_sampling_hears_rare_tags_as_often(uneven):
    weights = clip_weights(uneven, "train")
    # By hand: the rarest tag of a clip is common (120 clips), rare (20) or none (10); 130 crops in all.
    expected = np.array([1 / 120] * 100 + [1 / 20] * 20 + [1 / 10] * 10)
    np.testing.assert_allclose(weights, expected * 130 / expected.sum(), rtol=1e-6)
    found = heard(uneven, balanced=True)
    for group in (COMMON, RARE, BARE):
        assert found[group].mean() == pytest.approx(weights[group].mean(), rel=0.15)
    # A clip's crops are its weight, rounded up or down.
    assert found[BARE].min() > 3
    assert found[COMMON].max() <= 1
    # The same crops, wherever reading began.
    everything, _ = as_pcm(epoch_of(uneven, batch=1, balanced=True))
    dataset = training_dataset(uneven, "train", 400, 1, 1, 0, balanced=True)
    rest = as_pcm((wave.numpy(), labels.numpy()) for wave, labels in dataset.skip(7))[0]
    np.testing.assert_array_equal(rest, everything[7:])


def test_an_epoch_of_fewer_crops_is_drawn_from_all(uneven):
    assert n_batches(uneven, "train", 400, 20, epoch_crops=50) == 2
    assert n_batches(uneven, "train", 400, 20, epoch_crops=5000) == n_batches(uneven, "train", 400, 20) == 6
    found = heard(uneven, epoch_crops=40)
    assert found.sum() == pytest.approx(40)
    for group in (COMMON, RARE, BARE):
        assert found[group].mean() == pytest.approx(40 / 130, rel=0.4)
    # Other clips in every epoch: in six, all but a ninth are heard.
    assert (found > 0).mean() > 0.75


def test_workers_share_each_batch(uneven):
    whole = [wave.numpy() for wave, _ in training_dataset(uneven, "train", 400, 8, 1, 0)]
    parts = [
        [wave.numpy() for wave, _ in training_dataset(uneven, "train", 400, 8, 1, 0, share=(worker, 2), parts=2)]
        for worker in range(2)
    ]
    for batch, first, second in zip(whole, *parts, strict=True):
        # Each of the two parts of a batch is divided between the workers.
        np.testing.assert_array_equal(first, batch[[0, 1, 4, 5]])
        np.testing.assert_array_equal(second, batch[[2, 3, 6, 7]])
