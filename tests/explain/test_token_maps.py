"""Maps over tokens: against `Tagger`'s own, closed forms, and passes of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_tagger.explain.gradients import relevance
from keras_tagger.explain.token_maps import contributions, rollout, short_contributions, two_scale_contributions
from tiny import RATE, noise, random_tagger

TOKEN = 2048


@pytest.mark.parametrize(("layer", "head"), [(-1, None), (0, None), (1, 1)])
def test_attention_is_that_of_the_tagger(tagger: Any, layer: int, head: int | None) -> None:
    audio = (noise(40000), RATE)  # three windows of seven tokens
    found = tagger.explain(audio, "attention", ["low", "mid"], layer=layer, head=head)
    expected = tagger.attention(audio).heatmap(layer, head)
    np.testing.assert_allclose(found.values, np.repeat(expected.values, 2, axis=0), atol=1e-5)
    np.testing.assert_allclose(found.times, expected.times, atol=1e-9)


def test_rollout_is_the_product_of_attention_and_residual(tagger: Any) -> None:
    wave = noise(5 * TOKEN, batch=2)
    weights = tagger.model.analyze(wave, ("attention",))["attention"].numpy().astype(np.float64)
    first, second = (0.5 * weights[:, layer].mean(axis=1) + 0.5 * np.eye(6) for layer in (0, 1))
    expected = (second @ first)[:, 0, 1:]
    found = rollout(tagger.model, wave, [2]).values
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)
    # Rows of such a product sum to one, [CLS] itself included.
    np.testing.assert_allclose(found[:, 0].sum(axis=1) + (second @ first)[:, 0, 0], 1.0, atol=1e-5)


def test_contributions_are_those_of_the_tagger(tagger: Any) -> None:
    audio = (noise(40000), RATE)
    found, expected = tagger.explain(audio, "contributions"), tagger.contributions(audio)
    assert found.tags == expected.tags
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)
    np.testing.assert_allclose(found.times, expected.times)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


def test_short_contexts_are_seen_by_themselves(tagger: Any) -> None:
    """Six tokens in contexts of four: 0-3 and 2-5; each token has the mean of its logits."""
    wave = noise(6 * TOKEN, batch=2)
    logits = np.full((2, 2, 3, 6), np.nan)
    for index, start in enumerate((0, 2)):
        part = tagger.model.analyze(wave[:, start * TOKEN : (start + 4) * TOKEN], ("contributions",))
        values = part["contributions"].numpy()
        logits[index, :, :, start : start + 4] = np.log(values / (1 - values))
    mean = np.nanmean(logits, axis=0)
    found = short_contributions(tagger.model, wave, [0, 1, 2], context_seconds=4 * 0.128).values
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-mean)), atol=1e-5)
    whole = contributions(tagger.model, wave, [0, 1, 2]).values
    score = tagger.model.analyze(wave, ("tags",))["tags"].numpy()[..., np.newaxis]
    joined = 1 / (1 + np.exp(-(mean + np.log(whole / (1 - whole)) + np.log(score / (1 - score))) / 3))
    found = two_scale_contributions(tagger.model, wave, [0, 1, 2], context_seconds=4 * 0.128).values
    np.testing.assert_allclose(found, joined, atol=1e-5)


def test_a_context_of_a_window_and_more_gives_contributions(tagger: Any) -> None:
    wave = noise(5 * TOKEN - 100, batch=1)
    found = short_contributions(tagger.model, wave, [1], context_seconds=99.0).values
    np.testing.assert_allclose(found, contributions(tagger.model, wave, [1]).values, atol=1e-6)


@pytest.mark.usefixtures("eagerly")
def test_relevance_of_one_layer_is_gradient_times_attention() -> None:
    """By finite differences: the last layer's attention is moved, weight by weight and head by head."""
    model = random_tagger({"model": {"encoder": {"n_layers": 1}}}).model
    wave = noise(4 * TOKEN, batch=1)
    tokens = model.positions(model.class_token(model.front_end(model.see(tf.constant(wave)))))
    block = model.encoder.blocks[0]
    normed = block.attention_norm(tokens)
    values = block.attention.value_dense(normed)  # [1, S, heads, k]
    weights = model.analyze(wave, ("attention",))["attention"].numpy()[0, 0, :, 0]  # [heads, S]

    def logit(weights: np.ndarray) -> float:
        attended = tf.einsum("hs,bshk->bhk", tf.constant(weights, tf.float32), values)[:, tf.newaxis]
        x = tokens[:, :1] + block.attention.output_dense(attended)
        x += block.contract(block.expand(block.feed_forward_norm(x)))
        return float(model.head(model.encoder.final_norm(x))[0, 0, 1])

    step, slopes = 0.05, np.zeros_like(weights)
    for place in np.ndindex(weights.shape):
        change = np.zeros_like(weights)
        change[place] = step
        slopes[place] = (logit(weights + change) - logit(weights - change)) / (2 * step)
    expected = np.maximum(slopes * weights, 0).mean(axis=0)[1:]
    found = relevance(model, wave, [1]).values[0, 0]
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=1e-4)
    assert found.max() > 1e-3


def test_relevance_adds_up_over_layers(tagger: Any) -> None:
    wave = noise(4 * TOKEN, batch=2)
    seen = tagger.model.see(tf.constant(wave))
    with tf.GradientTape() as tape:
        logits, weights = tagger.model.logits_of(seen, return_attention_scores=True)
        target = logits[:, 0]
    np.testing.assert_allclose(tf.sigmoid(logits), tagger.model.analyze(wave, ("tags",))["tags"], atol=1e-6)
    first, second = (
        np.maximum(slope.numpy() * weight.numpy(), 0).mean(axis=1)
        for slope, weight in zip(tape.gradient(target, weights), weights, strict=True)
    )
    # (I + second) (I + first), of which [CLS]'s row.
    expected = ((np.eye(5) + second) @ (np.eye(5) + first))[:, 0, 1:]
    found = relevance(tagger.model, wave, [0, 1]).values
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)
    assert np.abs(found[:, 0] - found[:, 1]).max() > 1e-4  # it knows which tag it is about
