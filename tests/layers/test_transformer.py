"""`TransformerBlock` and `TransformerEncoder` against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import erf

from keras_tagger.layers import TransformerBlock, TransformerEncoder
from tiny import randomize

WIDTH, HEADS, LENGTH = 8, 2, 6
TOKENS = np.random.default_rng(0).standard_normal((3, LENGTH, WIDTH)).astype(np.float32)


def layer_norm(x: np.ndarray, layer: Any) -> np.ndarray:
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + layer.epsilon) * layer.gamma.numpy() + layer.beta.numpy()


def attend(
    queries: np.ndarray, context: np.ndarray, layer: Any, forced: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Multi-head attention in float64; `forced` [Q, S] replaces the weights of every head."""
    project = {
        name: (getattr(layer, f"_{name}_dense").kernel.numpy(), getattr(layer, f"_{name}_dense").bias.numpy())
        for name in ("query", "key", "value", "output")
    }
    q = np.einsum("bsd,dhk->bhsk", queries, project["query"][0]) + project["query"][1][:, None]
    k = np.einsum("bsd,dhk->bhsk", context, project["key"][0]) + project["key"][1][:, None]
    v = np.einsum("bsd,dhk->bhsk", context, project["value"][0]) + project["value"][1][:, None]
    logits = np.einsum("bhqk,bhsk->bhqs", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    if forced is not None:
        weights = np.broadcast_to(forced, weights.shape)
    attended = np.einsum("bhqs,bhsk->bhqk", weights, v)
    return np.einsum("bhqk,hkd->bqd", attended, project["output"][0]) + project["output"][1], weights


def feed_forward(x: np.ndarray, block: TransformerBlock) -> np.ndarray:
    hidden = x @ block.expand.kernel.numpy() + block.expand.bias.numpy()
    hidden = 0.5 * hidden * (1.0 + erf(hidden / np.sqrt(2.0)))
    return hidden @ block.contract.kernel.numpy() + block.contract.bias.numpy()


def run_block(
    x: np.ndarray, block: TransformerBlock, forced: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    x = x.astype(np.float64)
    if block.norm == "pre":
        normed = layer_norm(x, block.attention_norm)
        attended, weights = attend(normed, normed, block.attention, forced)
        x = x + attended
        return x + feed_forward(layer_norm(x, block.feed_forward_norm), block), weights
    attended, weights = attend(x, x, block.attention, forced)
    x = layer_norm(x + attended, block.attention_norm)
    return layer_norm(x + feed_forward(x, block), block.feed_forward_norm), weights


def run_encoder(x: np.ndarray, encoder: TransformerEncoder) -> tuple[np.ndarray, np.ndarray]:
    scores = []
    for block in encoder.blocks:
        x, weights = run_block(x, block)
        scores.append(weights)
    x = x if encoder.final_norm is None else layer_norm(x, encoder.final_norm)
    return x[:, 0], np.stack(scores, axis=1)


def make_block(norm: str) -> TransformerBlock:
    block = TransformerBlock(HEADS, WIDTH, 12, norm, dropout=0.3, attention_dropout=0.3, epsilon=1e-5)
    block.build(TOKENS.shape)
    randomize(block, seed=1)
    return block


def make_encoder(norm: str, n_layers: int) -> TransformerEncoder:
    encoder = TransformerEncoder(n_layers, HEADS, WIDTH, 12, norm, dropout=0.3, attention_dropout=0.3)
    encoder.build(TOKENS.shape)
    randomize(encoder, seed=2)
    return encoder


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_block_is_the_formula(norm: str) -> None:
    block = make_block(norm)
    expected, weights = run_block(TOKENS, block)
    output, scores = block(TOKENS, return_attention_scores=True)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    np.testing.assert_allclose(scores, weights, atol=1e-6)
    np.testing.assert_allclose(np.sum(scores, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(block(TOKENS), expected, atol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_block_with_fewer_queries_than_context(norm: str) -> None:
    block = make_block(norm)
    expected, _ = run_block(TOKENS, block)
    np.testing.assert_allclose(block(TOKENS[:, 1:3], context=TOKENS), expected[:, 1:3], atol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_encoder_is_the_formula(norm: str, n_layers: int) -> None:
    encoder = make_encoder(norm, n_layers)
    expected, weights = run_encoder(TOKENS, encoder)
    cls, scores = encoder(TOKENS, return_attention_scores=True)
    assert scores.shape == (3, n_layers, HEADS, LENGTH, LENGTH)
    np.testing.assert_allclose(cls, expected, atol=2e-5)
    np.testing.assert_allclose(scores, weights, atol=1e-5)
    np.testing.assert_allclose(np.sum(scores, axis=-1), 1.0, atol=1e-6)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_last_layer_for_cls_alone_is_the_whole_evaluation(norm: str) -> None:
    encoder = make_encoder(norm, 2)
    alone = encoder(TOKENS).numpy()
    whole, _ = encoder(TOKENS, return_attention_scores=True)
    np.testing.assert_allclose(alone, whole, atol=1e-6)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_attend_single_is_one_hot_attention(norm: str) -> None:
    encoder = make_encoder(norm, 2)
    context, scores = encoder.encode_context(TOKENS)
    assert scores == []
    expected = []
    for token in range(LENGTH):
        one_hot = np.zeros((LENGTH, LENGTH))
        one_hot[:, token] = 1.0
        x, _ = run_block(context.numpy(), encoder.blocks[-1], forced=one_hot)
        expected.append(x[:, 0] if encoder.final_norm is None else layer_norm(x, encoder.final_norm)[:, 0])
    found = encoder.attend_single(context)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-5)
    assert np.std(found, axis=1).max() > 0.1


def test_dropout_acts_in_training_only() -> None:
    encoder = make_encoder("pre", 2)
    np.testing.assert_array_equal(encoder(TOKENS), encoder(TOKENS, training=False))
    first, second = encoder(TOKENS, training=True).numpy(), encoder(TOKENS, training=True).numpy()
    assert np.abs(first - second).max() > 0.01
    # Attention weights are given as they are before dropout: their rows sum to one in training too.
    _, scores = encoder(TOKENS, training=True, return_attention_scores=True)
    np.testing.assert_allclose(np.sum(scores, axis=-1), 1.0, atol=1e-6)
