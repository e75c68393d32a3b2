"""Masks and symbolic scores: padded tokens are not attended to, and Keras models have all outputs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_tagger import layers
from keras_tagger.layers.mechanisms import KINDS

TOKENS = np.random.default_rng(0).standard_normal((2, 6, 8)).astype(np.float32)


def model_of(encoder: Any, mask_value: float = 9.0) -> keras.Model:
    """Padding is marked by a value; the mask then goes through [CLS] and positions to the encoder."""
    tokens = keras.Input((None, 8))
    masked = keras.layers.Masking(mask_value)(tokens)
    placed = layers.SinusoidalPositions()(layers.ClassToken()(masked))
    return keras.Model(tokens, encoder(placed, return_attention_scores=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_padding_changes_nothing(kind: str, norm: str) -> None:
    model = model_of(layers.TransformerEncoder(2, 2, 8, 12, norm, attention_kind=kind))
    padded = np.concatenate([TOKENS, np.full((2, 3, 8), 9.0, np.float32)], axis=1)
    cls, scores = model(padded)
    expected, expected_scores = model(TOKENS)
    np.testing.assert_allclose(cls, expected, atol=1e-5)
    np.testing.assert_allclose(scores[:, :, :, :7, :7], expected_scores, atol=1e-5)
    np.testing.assert_allclose(scores[:, :, :, :7, 7:], 0.0, atol=1e-7)


def test_masks_of_class_token_and_front_end() -> None:
    mask = np.array([[True, True, False], [True, False, False]])
    found = layers.ClassToken().compute_mask(TOKENS[:, :3], mask)
    np.testing.assert_array_equal(found, [[True, True, True, False], [True, True, False, False]])
    frames = np.arange(11)[np.newaxis] < np.array([[9], [4]])
    compact, pooled = layers.CompactFrontEnd(4, (2, 2)), layers.PooledFrontEnd(4, (2, 2, 2))
    spectrogram = np.zeros((2, 11, 8), np.float32)
    np.testing.assert_array_equal(compact.compute_mask(spectrogram, frames), [[True] * 3, [True, False, False]])
    np.testing.assert_array_equal(pooled.compute_mask(spectrogram, frames), [[True] * 2, [True, False]])


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", ["absolute", "relative", "linear"])
def test_symbolic_scores(kind: str, dtype: str) -> None:
    half = keras.DTypePolicy(dtype).compute_dtype
    tokens = keras.Input((None, 8), dtype=half)
    made = {
        "attention": layers.SelfAttention(2, 8, kind, dtype=dtype),
        "block": layers.TransformerBlock(2, 8, 12, attention_kind=kind, dtype=dtype),
        "encoder": layers.TransformerEncoder(3, 2, 8, 12, attention_kind=kind, dtype=dtype),
    }
    shapes = {"attention": (None, 2, None, None), "block": (None, 2, None, None), "encoder": (None, 3, 2, None, None)}
    for name, layer in made.items():
        output, scores = layer(tokens, return_attention_scores=True)
        assert (scores.shape, scores.dtype) == (shapes[name], "float32" if name == "encoder" else half)
        assert (output.shape, output.dtype) == ((None, 8) if name == "encoder" else (None, None, 8), half)
        real = keras.Model(tokens, [output, scores])(TOKENS)
        assert [keras.backend.standardize_dtype(value.dtype) for value in real] == [output.dtype, scores.dtype]
        alone = layer(tokens)
        assert (alone.shape, alone.dtype) == (output.shape, output.dtype)


def test_a_frozen_layers_configuration_says_so() -> None:
    layer = layers.TransformerEncoder(1, 2, 8, 12, dtype="mixed_bfloat16")
    layer.trainable = False
    again = layers.TransformerEncoder.from_config(layer.get_config())
    assert not again.trainable
    assert again.dtype_policy.name == "mixed_bfloat16"
