"""Gain and mixup: their size, and that they are functions of (seed, step)."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_tagger.config import AugmentConfig
from keras_tagger.models.augment import augment_waveforms

BATCH = 256
WAVES = np.random.default_rng(0).standard_normal((BATCH, 40)).astype(np.float32)
LABELS = (np.random.default_rng(1).uniform(size=(BATCH, 3)) < 0.4).astype(np.float32)


def augmented(config: AugmentConfig, seed: int = 0, step: int = 0) -> tuple[np.ndarray, np.ndarray]:
    waves, labels = augment_waveforms(tf.constant(WAVES), tf.constant(LABELS), config, seed, step)
    return waves.numpy(), labels.numpy()


def test_gain_is_one_uniform_draw_in_decibels_per_clip() -> None:
    waves, labels = augmented(AugmentConfig(gain_db=6.0))
    decibels = 20 * np.log10(waves / WAVES)
    np.testing.assert_allclose(decibels, np.repeat(decibels[:, :1], 40, axis=1), atol=1e-4)
    draws = decibels[:, 0]
    assert -6.0 <= draws.min() < -5.5
    assert 5.5 < draws.max() <= 6.0
    # Mean 0 and standard deviation 12 / sqrt(12), for 256 draws.
    np.testing.assert_allclose(draws.mean(), 0.0, atol=0.8)
    np.testing.assert_allclose(draws.std(), 12 / np.sqrt(12), atol=0.4)
    np.testing.assert_array_equal(labels, LABELS)


def test_no_augmentation() -> None:
    waves, labels = augmented(AugmentConfig(gain_db=0.0))
    np.testing.assert_array_equal(waves, WAVES)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup_mixes_clip_and_labels_with_the_next(alpha: float) -> None:
    waves, labels = augmented(AugmentConfig(gain_db=0.0, mixup_alpha=alpha))
    following, following_labels = np.roll(WAVES, -1, axis=0), np.roll(LABELS, -1, axis=0)
    # Each clip's share by least squares.
    difference = WAVES - following
    share = np.sum((waves - following) * difference, axis=1) / np.sum(difference**2, axis=1)
    np.testing.assert_allclose(waves, share[:, None] * WAVES + (1 - share[:, None]) * following, atol=1e-5)
    np.testing.assert_allclose(labels, share[:, None] * LABELS + (1 - share[:, None]) * following_labels, atol=1e-5)
    assert -1e-5 <= share.min() < share.max() <= 1 + 1e-5
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
    np.testing.assert_allclose(share.mean(), 0.5, atol=0.1)
    np.testing.assert_allclose(share.var(), 1 / (4 * (2 * alpha + 1)), rtol=0.25)


def test_the_equalizer_is_a_curve_through_six_draws() -> None:
    impulses = np.zeros((64, 65536), np.float32)
    impulses[:, 0] = 1.0
    config = AugmentConfig(gain_db=0.0, equalize_db=9.0)
    waves, _ = augment_waveforms(tf.constant(impulses), tf.zeros([64, 1]), config, 0, 5)
    curves = 20 * np.log10(np.abs(np.fft.rfft(waves.numpy(), axis=1)))
    share = np.linspace(0, 1, 32769)[164:]  # from 1/200 of Nyquist's frequency
    places = 200.0 ** (np.arange(6) / 5 - 1)
    nodes = np.stack([np.interp(np.log(places), np.log(share), curve[164:]) for curve in curves])
    expected = np.stack([np.interp(np.log(share), np.log(places), node) for node in nodes])
    np.testing.assert_allclose(curves[:, 164:], expected, atol=0.1)
    assert -9.01 <= nodes.min() < -8
    assert 8 < nodes.max() <= 9.01
    np.testing.assert_allclose(nodes.std(axis=0), 18 / np.sqrt(12), atol=1.2)
    assert np.abs(np.corrcoef(nodes.T) - np.eye(6)).max() < 0.5


def test_same_seed_and_step_give_the_same() -> None:
    config = AugmentConfig(gain_db=6.0, mixup_alpha=0.4)
    first = augmented(config, seed=3, step=17)
    tf.random.set_seed(1234)
    traced = tf.function(lambda waves, labels, step: augment_waveforms(waves, labels, config, 3, step))
    again = traced(tf.constant(WAVES), tf.constant(LABELS), tf.constant(17, tf.int64))
    np.testing.assert_allclose(first[0], again[0], atol=2e-6)
    np.testing.assert_allclose(first[1], again[1], atol=2e-6)
    for seed, step in ((3, 18), (4, 17)):
        waves, labels = augmented(config, seed, step)
        assert np.abs(waves - first[0]).mean() > 0.05
        assert np.abs(labels - first[1]).mean() > 0.01


def test_gain_and_mixup_are_drawn_independently() -> None:
    """A clip's gain says nothing about its share."""
    gain = augmented(AugmentConfig(gain_db=6.0))[0][:, 0] / WAVES[:, 0]
    mixed = augmented(AugmentConfig(gain_db=0.0, mixup_alpha=1.0))[0]
    following = np.roll(WAVES, -1, axis=0)
    share = np.sum((mixed - following) * (WAVES - following), axis=1) / np.sum((WAVES - following) ** 2, axis=1)
    assert abs(np.corrcoef(np.log(gain), share)[0, 1]) < 0.2
