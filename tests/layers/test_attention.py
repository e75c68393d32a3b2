"""The kinds of attention: one set of tests that all pass, and each against its formula in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tagger import layers
from keras_tagger.config import config_from_dict
from keras_tagger.layers import SelfAttention, TransformerEncoder
from keras_tagger.layers.attention import KINDS, attention_from_kind
from keras_tagger.models.music_tagger import MusicTagger
from keras_tagger.tagger import Tagger, load
from tiny import LEARNER, RATE, merged, noise, randomize

HEADS, WIDTH, LENGTH = 2, 8, 7
SIZE = WIDTH // HEADS
TOKENS = np.random.default_rng(0).standard_normal((3, LENGTH, WIDTH)).astype(np.float32)
# Keras' own layer, and "absolute" of ours, which has no biases.
CASES = [("absolute", True), ("absolute", False), *((kind, True) for kind in KINDS if kind != "absolute")]


def make(kind: str, bias: bool = True, dropout: float = 0.0, **kwargs: Any) -> Any:
    layer = attention_from_kind(kind, HEADS, WIDTH, dropout, bias, max_distance=2, window=1, **kwargs)
    layer.build((None, None, WIDTH), (None, None, WIDTH))
    randomize(layer, seed=3)
    return layer


def encoder(kind: str, bias: bool = True, n_layers: int = 2, **kwargs: Any) -> TransformerEncoder:
    layer = TransformerEncoder(
        n_layers, HEADS, WIDTH, 12, attention_kind=kind, attention_bias=bias, max_distance=2, window=1, **kwargs
    )
    layer.build((None, None, WIDTH))
    randomize(layer, seed=4)
    return layer


def projections(layer: Any, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries, keys, values in float64 [B, S, heads, size]."""
    found = []
    for dense in (layer.query_dense, layer.key_dense, layer.value_dense):
        bias = 0.0 if dense.bias is None else dense.bias.numpy()
        found.append(np.einsum("bsd,dhk->bshk", tokens.astype(np.float64), dense.kernel.numpy()) + bias)
    return found[0], found[1], found[2]


@pytest.mark.parametrize(("kind", "bias"), CASES)
def test_weights_sum_to_one_and_make_the_output(kind: str, bias: bool) -> None:
    layer = make(kind, bias)
    output, weights = layer(TOKENS, TOKENS, return_attention_scores=True)
    assert weights.shape == (3, HEADS, LENGTH, LENGTH)
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1.0, atol=1e-6)
    assert np.min(weights) >= 0
    values = projections(layer, TOKENS)[2]
    joined = np.einsum("bhqs,bshk,hkd->bqd", weights, values, layer.output_dense.kernel.numpy())
    np.testing.assert_allclose(output, joined + layer.output_dense.bias.numpy(), atol=1e-5)
    np.testing.assert_allclose(layer(TOKENS, TOKENS), output, atol=1e-5)


@pytest.mark.parametrize(("kind", "bias"), CASES)
def test_masked_tokens_do_not_matter(kind: str, bias: bool) -> None:
    """Padding behind a mask: nobody looks at it, and what it holds changes nothing."""
    layer = make(kind, bias)
    mask = np.ones((3, 1, LENGTH), bool)
    mask[1, :, 4:] = False
    output, weights = layer(TOKENS, TOKENS, attention_mask=mask, return_attention_scores=True)
    np.testing.assert_allclose(weights.numpy()[1, :, :, 4:], 0.0, atol=1e-7)
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(layer(TOKENS, TOKENS, attention_mask=mask), output, atol=1e-5)
    noisy = TOKENS.copy()
    noisy[1, 4:] += 10.0
    np.testing.assert_allclose(layer(noisy, noisy, attention_mask=mask)[1, :4], output[1, :4], atol=1e-5)
    alone = layer(TOKENS[1:2, :4], TOKENS[1:2, :4])
    np.testing.assert_allclose(output[1, :4], alone[0], atol=1e-5)


@pytest.mark.parametrize(("kind", "bias"), CASES)
def test_attention_over_one_token_is_its_value(kind: str, bias: bool) -> None:
    """What tag-wise contributions stand on."""
    layer = make(kind, bias)
    for token in range(LENGTH):
        single = layer(TOKENS[:, :1], TOKENS[:, token : token + 1])
        expected = layer.output_dense(layer.value_dense(TOKENS[:, token : token + 1]))
        np.testing.assert_allclose(single, expected, atol=1e-5)
        # The same by a mask of all others, at its own place.
        mask = np.zeros((1, 1, LENGTH), bool)
        mask[..., token] = True
        np.testing.assert_allclose(layer(TOKENS[:, :1], TOKENS, attention_mask=mask), expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "bias"), CASES)
def test_contributions_are_brute_force(kind: str, bias: bool) -> None:
    layer = encoder(kind, bias)
    context, _ = layer.encode_context(TOKENS)
    found = layer.attend_single(context)
    for token in range(LENGTH):
        mask = np.zeros((1, 1, LENGTH), bool)
        mask[..., token] = True
        x = layer.final_norm(layer.blocks[-1](context, attention_mask=mask))
        np.testing.assert_allclose(found[:, token], x[:, 0], atol=1e-5)


@pytest.mark.parametrize(("kind", "bias"), CASES)
def test_last_layer_for_cls_alone_is_the_whole_evaluation(kind: str, bias: bool) -> None:
    layer = encoder(kind, bias)
    whole, scores = layer(TOKENS, return_attention_scores=True)
    np.testing.assert_allclose(layer(TOKENS), whole, atol=1e-5)
    assert scores.shape == (3, 2, HEADS, LENGTH, LENGTH)
    np.testing.assert_allclose(np.sum(scores, axis=-1), 1.0, atol=1e-6)


@pytest.mark.parametrize(("kind", "bias"), CASES)
def test_longer_input_than_any_before(kind: str, bias: bool) -> None:
    """As an exported function of any length has it; beyond the distances that "relative" tells apart, too."""
    layer = encoder(kind, bias, n_layers=1)
    traced = tf.function(layer, input_signature=[tf.TensorSpec([None, None, WIDTH])])
    traced(TOKENS)
    long = np.concatenate([TOKENS] * 9, axis=1)
    found = traced(tf.constant(long))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, layer(long), atol=1e-5)


@pytest.mark.parametrize(("kind", "bias"), CASES)
def test_saved_loaded_and_exported(kind: str, bias: bool, tmp_path: Path) -> None:
    """As a .keras file, and as a SavedModel of any length, which has the weights that it looks with, too."""
    layer = encoder(kind, bias)
    keras.Sequential([keras.Input((None, WIDTH)), layer]).save(tmp_path / "saved.keras")
    loaded = keras.saving.load_model(tmp_path / "saved.keras").layers[-1]
    assert loaded.get_config() == layer.get_config()
    assert len(loaded.weights) == len(layer.weights)
    expected, scores = layer(TOKENS, return_attention_scores=True)
    np.testing.assert_allclose(loaded(TOKENS), expected, atol=1e-5)

    module = tf.Module()
    module.layer = layer
    anything = [tf.TensorSpec([None, None, WIDTH])]
    module.look = tf.function(lambda x: layer(x, return_attention_scores=True), input_signature=anything)
    tf.saved_model.save(module, str(tmp_path / "exported"))
    served = tf.saved_model.load(str(tmp_path / "exported"))
    found, found_scores = served.look(TOKENS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found_scores, scores, atol=1e-5)
    assert np.ptp(expected) > 0.1


# One with weights of its own, one with a mask of its own, one that makes no weights.
@pytest.mark.parametrize("kind", ["relative", "local", "linear"])
def test_a_tagger_of_the_kind_is_saved_and_explains(kind: str, tmp_path: Path) -> None:
    """The configuration's way: contributions are the tags of one moment alone, before and after loading."""
    config = config_from_dict(merged(LEARNER, {"model": {"attention": {"kind": kind, "window": 1, "max_distance": 2}}}))
    model = MusicTagger(("a", "b"), config.audio, config.model)
    model.build()
    randomize(model, seed=5)
    wave = noise(model.window_samples, seed=2)
    Tagger(model, config).save(tmp_path / "saved.keras")
    loaded = load(tmp_path / "saved.keras")
    assert loaded.model.model_config.attention == config.model.attention
    found = loaded.contributions((wave, RATE))
    analyzed = model.analyze(wave[np.newaxis], ("tags", "spectrogram"))
    np.testing.assert_allclose(found.scores, analyzed["tags"][0], atol=1e-6)
    context, _ = model.encoder.encode_context(model.embed(analyzed["spectrogram"], training=False))
    mask = np.zeros((1, 1, context.shape[1]), bool)
    mask[..., 2] = True
    alone = model.encoder.final_norm(model.encoder.blocks[-1](context, attention_mask=mask))
    expected = model.probabilities(model.head(alone[:, 0], training=False))
    np.testing.assert_allclose(found.values[:, 1], expected[0], atol=1e-5)


@pytest.mark.parametrize(("kind", "bias"), CASES)
@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 0.06), ("mixed_float16", 0.01)])
def test_mixed_precision(kind: str, bias: bool, policy: str, tolerance: float) -> None:
    layer, half = make(kind, bias), make(kind, bias, dtype=policy)
    half.set_weights(layer.get_weights())
    output, weights = layer(TOKENS, TOKENS, return_attention_scores=True)
    found, found_weights = half(TOKENS, TOKENS, return_attention_scores=True)
    assert found.dtype.name == policy.removeprefix("mixed_")
    np.testing.assert_allclose(tf.cast(found_weights, tf.float32), weights, atol=tolerance)
    largest = np.abs(output).max()
    np.testing.assert_allclose(tf.cast(found, tf.float32), output, atol=tolerance * largest)
    alone = tf.cast(half(TOKENS, TOKENS), tf.float32)
    np.testing.assert_allclose(alone, output, atol=tolerance * largest)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "linear"])
def test_dropout_acts_in_training_only(kind: str) -> None:
    layer = make(kind, dropout=0.5)
    np.testing.assert_array_equal(layer(TOKENS, TOKENS, training=False), layer(TOKENS, TOKENS))
    first, second = (layer(TOKENS, TOKENS, training=True).numpy() for _ in range(2))
    assert np.abs(first - second).max() > 0.01
    _, weights = layer(TOKENS, TOKENS, training=True, return_attention_scores=True)
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1.0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_without_positions_only_kinds_that_know_distances_know_order(kind: str) -> None:
    layer = encoder(kind, n_layers=2)
    swapped = TOKENS[:, [0, 6, 5, 4, 3, 2, 1]]
    turned = TOKENS[:, [0, 2, 1, 3, 4, 5, 6]]
    knows = kind in ("relative", "rotary", "alibi", "local")
    assert (np.abs(layer(TOKENS) - layer(turned)).max() > 1e-3) == knows
    # ALiBi's and a window's distances are the same backwards; Shaw's and rotary's are not.
    assert (np.abs(layer(TOKENS) - layer(swapped)).max() > 1e-3) == (kind in ("relative", "rotary"))


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def rotation(x: np.ndarray, place: int) -> np.ndarray:
    """RoFormer's block-diagonal matrix, as complex numbers; [size]."""
    pairs = x[0::2] + 1j * x[1::2]
    turned = pairs * np.exp(1j * place * 10000.0 ** (-np.arange(0, SIZE, 2) / SIZE))
    return np.stack([turned.real, turned.imag], axis=-1).ravel()


def by_formula(kind: str, layer: Any) -> np.ndarray:
    """Weights [B, heads, S, S], pair by pair."""
    query, key, _ = projections(layer, TOKENS)
    weights = np.zeros((3, HEADS, LENGTH, LENGTH))
    for b in range(3):
        for h in range(HEADS):
            for i in range(LENGTH):
                q, row = query[b, i, h], []
                for j in range(LENGTH):
                    k, cls = key[b, j, h], i == 0 or j == 0
                    if kind == "relative":
                        place = 5 if i == 0 else 6 if j == 0 else int(np.clip(j - i, -2, 2)) + 2
                        row.append(q @ (k + layer.table.numpy()[place, h]) / np.sqrt(SIZE))
                    elif kind == "rotary":
                        turned = q @ k if cls else rotation(q, i) @ rotation(k, j)
                        row.append(turned / np.sqrt(SIZE))
                    elif kind == "alibi":
                        slope = 2.0 ** (-8.0 * (h + 1) / HEADS)
                        row.append(q @ k / np.sqrt(SIZE) - (0.0 if cls else slope * abs(i - j)))
                    elif kind == "local":
                        row.append(q @ k / np.sqrt(SIZE) if cls or abs(i - j) <= 1 else -np.inf)
                    elif kind == "linear":
                        feature_q, feature_k = (np.where(x > 0, x + 1, np.exp(x)) for x in (q, k))
                        row.append(np.log(feature_q @ feature_k))
                    else:
                        row.append(q @ k / np.sqrt(SIZE))
                weights[b, h, i] = softmax(np.array(row))
    return weights


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_the_formula(kind: str) -> None:
    layer = make(kind, bias=kind != "absolute")
    _, weights = layer(TOKENS, TOKENS, return_attention_scores=True)
    np.testing.assert_allclose(weights, by_formula(kind, layer), atol=1e-5)


def test_rotary_and_alibi_see_distances_only() -> None:
    """The same moments later in time: weights between them are the same."""
    for kind in ("rotary", "alibi", "relative", "local"):
        layer = make(kind)
        shifted = np.concatenate([TOKENS[:, :1], TOKENS[:, 1:2] * 0, TOKENS[:, 1:]], axis=1)
        mask = np.ones((1, 1, LENGTH + 1), bool)
        mask[..., 1] = False
        _, before = layer(TOKENS, TOKENS, return_attention_scores=True)
        _, after = layer(shifted, shifted, attention_mask=mask, return_attention_scores=True)
        np.testing.assert_allclose(after[:, :, 2:, 2:], before[:, :, 1:, 1:], atol=1e-5, err_msg=kind)


def test_wrong_kinds_and_widths() -> None:
    with pytest.raises(ValueError, match="expected one of absolute, relative, .* Received: 'sparse' and 8"):
        SelfAttention(2, 8, "sparse")
    with pytest.raises(ValueError, match=r"a multiple of 8\. Received: 'rotary' and 12"):
        SelfAttention(4, 12, "rotary")
    assert isinstance(attention_from_kind("absolute", 2, 8, 0.0, True, 2, 1), keras.layers.MultiHeadAttention)


def test_the_first_name_of_the_layer_is_deprecated():
    with pytest.warns(DeprecationWarning, match=r"use keras_tagger\.layers\.SelfAttention"):
        assert layers.Attention is SelfAttention
    assert keras.saving.get_registered_object("keras_tagger>Attention") is SelfAttention
