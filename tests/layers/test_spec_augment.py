"""`SpecAugment`: what is masked, and that it is a function of seed and step."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_tagger.layers import SpecAugment
from keras_tagger.layers.spec_augment import mask_spectrogram

ONES = np.ones((64, 50, 30), np.float32)
FEW = ONES[:4]


def stretches(line: np.ndarray) -> list[int]:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
    return list(edges[1::2] - edges[::2])


def test_outside_training_nothing_is_masked() -> None:
    layer = SpecAugment()
    np.testing.assert_array_equal(layer(ONES), ONES)
    np.testing.assert_array_equal(layer(ONES, training=False), ONES)


def test_time_masks_are_whole_frames_no_longer_than_asked() -> None:
    layer = SpecAugment(n_time_masks=1, time_mask_frames=10, n_freq_masks=0, mask_value=-3.0)
    masked = tf.function(layer)(ONES, training=True).numpy() == -3.0
    np.testing.assert_array_equal(masked.all(axis=2), masked.any(axis=2))
    lengths = [stretches(clip) for clip in masked.all(axis=2)]
    assert all(len(found) <= 1 for found in lengths)
    sizes = [sum(found) for found in lengths]
    # Uniform widths from 0 to the greatest: of 64 clips some have each extreme.
    assert (min(sizes), max(sizes)) == (0, 10)
    np.testing.assert_allclose(np.mean(sizes), 5.0, atol=1.5)


def test_frequency_masks_are_whole_bands_no_longer_than_asked() -> None:
    layer = SpecAugment(n_time_masks=0, n_freq_masks=2, freq_mask_bins=6, mask_value=0.0)
    masked = tf.function(layer)(ONES, training=True).numpy() == 0.0
    np.testing.assert_array_equal(masked.all(axis=1), masked.any(axis=1))
    found = [stretches(clip) for clip in masked.all(axis=1)]
    assert max(len(lengths) for lengths in found) == 2
    sizes = [sum(lengths) for lengths in found]
    # Two widths of 0 to 6; of 64 pairs some come near the greatest sum, and a little overlaps.
    assert 8 <= max(sizes) <= 12
    np.testing.assert_allclose(np.mean(sizes), 5.6, atol=1.5)


def test_masks_are_a_function_of_the_seed() -> None:
    def masked(seed: tuple[int, int]) -> np.ndarray:
        return mask_spectrogram(tf.constant(FEW), tf.constant(seed, tf.int64), (1, 40), (1, 10)).numpy()

    first = masked((1, 5))
    tf.random.set_seed(99)
    np.testing.assert_array_equal(first, masked((1, 5)))
    traced = tf.function(lambda x, seed: mask_spectrogram(x, seed, (1, 40), (1, 10)))
    np.testing.assert_array_equal(first, traced(tf.constant(FEW), tf.constant((1, 5), tf.int64)))
    assert (first != masked((1, 6))).any()
    assert (first != masked((2, 5))).any()
    assert (first[0] != first[1:]).any(axis=(1, 2)).all()


def test_each_call_of_the_layer_has_new_masks() -> None:
    """As Keras' own `fit` calls it; the same seed gives the same sequence."""
    layer, same, other = SpecAugment(seed=1), SpecAugment(seed=1), SpecAugment(seed=2)
    found = [layer(FEW, training=True).numpy() for _ in range(2)]
    assert (found[0] != found[1]).any()
    np.testing.assert_array_equal(found, [same(FEW, training=True).numpy() for _ in range(2)])
    assert (found[0] != other(FEW, training=True).numpy()).any()


@pytest.mark.parametrize("traced", [False, True])
def test_inputs_shorter_than_the_longest_mask(traced: bool) -> None:
    layer = SpecAugment(n_time_masks=2, time_mask_frames=40, n_freq_masks=2, freq_mask_bins=10)
    short = np.ones((16, 4, 3), np.float32)

    def call(x: tf.Tensor) -> tf.Tensor:
        return layer(x, training=True)

    if traced:
        call = tf.function(call, input_signature=[tf.TensorSpec([None, None, None])])
    masked = call(tf.constant(short)).numpy()
    assert masked.shape == short.shape
    assert set(np.unique(masked)) == {0.0, 1.0}
