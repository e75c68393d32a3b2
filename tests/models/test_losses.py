"""The losses against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

import tiny
from keras_tagger.models.losses import balanced_weights, class_loss, contribution_loss, tag_loss

NAN = float("nan")


def entropy(label, probability):
    return -label * np.log(probability) - (1 - label) * np.log(1 - probability)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, float)))


def test_tag_loss_is_the_mean_over_what_is_known():
    labels = np.array([[1.0, NAN, 0.25], [NAN, NAN, 0.0]], np.float32)
    logits = np.array([[0.5, 99.0, -1.0], [3.0, -3.0, 2.0]], np.float32)
    expected = np.mean([entropy(1.0, sigmoid(0.5)), entropy(0.25, sigmoid(-1.0)), entropy(0.0, sigmoid(2.0))])
    np.testing.assert_allclose(tag_loss(labels, logits), expected, rtol=1e-6)
    assert float(tag_loss(np.full((2, 3), NAN, np.float32), logits)) == 0.0


def test_unknown_labels_have_no_gradient():
    logits = tf.Variable([[0.5, 99.0], [1e4, -2.0]])
    with tf.GradientTape() as tape:
        loss = tag_loss(tf.constant([[1.0, NAN], [NAN, NAN]]), logits)
    gradient = tape.gradient(loss, logits).numpy()
    np.testing.assert_allclose(gradient, [[sigmoid(0.5) - 1.0, 0.0], [0.0, 0.0]], atol=1e-6)


def test_class_loss_is_the_mean_cross_entropy():
    labels = np.array([[1.0, 0.0, 0.0], [0.0, 0.25, 0.75]], np.float32)
    logits = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]], np.float32)
    log_p = logits - np.log(np.exp(logits.astype(float)).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(class_loss(labels, logits), -(labels * log_p).sum(axis=1).mean(), rtol=1e-6)


def test_contribution_loss_is_that_of_the_mean_over_each_stretch():
    logits = np.array([[[-2.0], [0.0], [1.0], [3.0]]], np.float32)  # four tokens of 100 samples
    stretches = np.array([[[1.0], [0.0], [NAN]]], np.float32)
    bounds = np.array([[[0, 200], [150, 350], [0, 0]]], np.int32)
    p = sigmoid(logits[0, :, 0])
    first = (p[0] + p[1]) / 2
    second = (0.5 * p[1] + p[2] + 0.5 * p[3]) / 2
    expected = (entropy(1.0, first) + entropy(0.0, second)) / 2
    np.testing.assert_allclose(contribution_loss(logits, stretches, bounds, 100), expected, rtol=1e-5)


def test_a_model_gives_the_contributions_that_it_shows():
    tagger = tiny.random_tagger()
    waveform = tiny.noise(16000, batch=2)
    logits, contributions = tagger.model(waveform, training=False, return_contributions=True)
    found = tagger.model.analyze(waveform, ("tags", "contributions"))
    np.testing.assert_allclose(tf.sigmoid(logits), found["tags"], atol=1e-6)
    np.testing.assert_allclose(tf.sigmoid(contributions), tf.transpose(found["contributions"], [0, 2, 1]), atol=1e-6)


def test_temperature_keeps_the_optimum_and_weighs_small_probabilities_more():
    labels = tf.constant([[0.3, 0.02, 0.9]])
    best = tf.math.log(labels) - tf.math.log1p(-labels)
    for temperature in (1.0, 2.0, 5.0):
        logits = tf.Variable(best)
        with tf.GradientTape() as tape:
            loss = tag_loss(labels, logits, temperature)
        np.testing.assert_allclose(tape.gradient(loss, logits), 0.0, atol=1e-6)
    # At labels of 0.5 and logits of 0 the cross-entropy is log 2 at any temperature, and T^2 stands before it.
    assert float(tag_loss(tf.constant([[0.5]]), tf.zeros((1, 1)), 3.0)) == pytest.approx(9 * np.log(2), rel=1e-6)

    def slope(temperature: float) -> float:
        logits = tf.Variable([[-2.0]])
        with tf.GradientTape() as tape:
            loss = tag_loss(tf.constant([[0.02]]), logits, temperature)
        return float(tape.gradient(loss, logits)[0, 0])

    # T (sigmoid(z / T) - sigmoid(t / T)), t being the label's logit.
    target = np.log(0.02 / 0.98)
    expected = 2 * (1 / (1 + np.exp(1.0)) - 1 / (1 + np.exp(-target / 2)))
    assert slope(2.0) == pytest.approx(expected, rel=1e-5)
    assert slope(2.0) > 2 * slope(1.0)


def test_temperature_takes_certain_and_unknown_labels():
    labels = tf.constant([[0.0, 1.0, float("nan")]])
    logits = tf.Variable([[-30.0, 30.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = tag_loss(labels, logits, 2.0)
    gradient = tape.gradient(loss, logits).numpy()
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    assert gradient[0, 2] == 0.0


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 1], [0, 1, 1], [1, 0, 1], [0, np.nan, 1], [0, 0, 1]], float)
    weights = balanced_weights(labels)
    for tag in (0, 1):
        known = labels[np.isfinite(labels[:, tag]), tag]
        expected = compute_class_weight("balanced", classes=np.array([0.0, 1.0]), y=known)
        np.testing.assert_allclose(weights[:, tag], expected, rtol=1e-6)
    # A tag that every clip has is not weighted.
    np.testing.assert_array_equal(weights[:, 2], 1)
    exclusive = np.eye(3)[[0, 0, 0, 1, 2, 2]]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=exclusive.argmax(axis=1))
    np.testing.assert_allclose(balanced_weights(exclusive, exclusive=True)[1], expected, rtol=1e-6)


def test_weights_multiply_the_losses_of_labels() -> None:
    labels, logits = np.array([[1.0, 0.0], [0.0, 0.25]]), np.array([[0.3, -0.7], [1.1, 0.2]])
    weights = np.array([[0.5, 2.0], [3.0, 4.0]])
    probability = 1 / (1 + np.exp(-logits))
    losses = -labels * np.log(probability) - (1 - labels) * np.log(1 - probability)
    expected = np.mean(losses * (weights[0] + labels * (weights[1] - weights[0])))
    found = tag_loss(tf.constant(labels, tf.float32), tf.constant(logits, tf.float32), tag_weights=weights)
    assert float(found) == pytest.approx(expected, rel=1e-6)
    one_hot = np.eye(2)
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = np.mean(-np.diag(log_softmax) * weights[1])
    found = class_loss(tf.constant(one_hot, tf.float32), tf.constant(logits, tf.float32), tag_weights=weights)
    assert float(found) == pytest.approx(expected, rel=1e-6)
