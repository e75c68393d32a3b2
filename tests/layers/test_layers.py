"""Every layer of `keras_tagger.layers` through the shared harness."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_tagger.layers as layers
from layer_harness import check_config, run_layer_test

RNG = np.random.default_rng(5)
WAVES = (0.2 * RNG.standard_normal((2, 4000))).astype(np.float32)
SPECTROGRAMS = RNG.uniform(0.0, 4.0, (2, 37, 24)).astype(np.float32)
TOKENS = RNG.standard_normal((2, 9, 8)).astype(np.float32)
BLOCK = {"n_heads": 2, "width": 8, "feed_forward": 12}
ENCODER = {"n_layers": 2, **BLOCK}

# class, arguments, input, output shape, (trainable, other) weights, always float32, other lengths
CASES: dict[str, tuple[type, dict[str, Any], np.ndarray, tuple[int, ...], tuple[int, int], bool, tuple[int, ...]]] = {
    "spectrogram": (layers.Spectrogram, {}, WAVES, (2, 16, 96), (0, 0), True, (1, 255, 257, 9000)),
    "spectrogram_decibel": (
        layers.Spectrogram,
        {
            **{"sample_rate": 8000, "n_fft": 256, "hop_length": 128, "n_mels": 20, "f_min": 50.0, "f_max": 3500.0},
            **{"power": 2, "compression": "decibel", "mel_scale": "htk", "mel_norm": "none"},
        },
        WAVES,
        (2, 32, 20),
        (0, 0),
        True,
        (1, 500),
    ),
    "spectrogram_centered": (
        layers.Spectrogram,
        {"power": 2, "compression": "amplitude_decibel", "top_db": 60.0, "framing": "centered", "stored": True},
        WAVES,
        (2, 16, 96),
        (0, 2),
        True,
        (300, 512),
    ),
    "conv_norm_half": (
        layers.ConvNorm,
        {"filters": 3, "kernel_size": (3, 3), "strides": (2, 2), "padding": "half"},
        np.random.default_rng(4).standard_normal((2, 8, 6, 4)).astype(np.float32),
        (2, 4, 3, 3),
        (3, 2),
        False,
        (),
    ),
    "conv_norm": (
        layers.ConvNorm,
        {
            **{"filters": 3, "kernel_size": (3, 2), "strides": (2, 1)},
            **{"relu": False, "momentum": 0.8, "epsilon": 1e-3},
        },
        np.random.default_rng(4).standard_normal((2, 9, 6, 4)).astype(np.float32),
        (2, 5, 6, 3),
        (3, 2),
        False,
        (),
    ),
    # Per stage three convolutions without bias and three batch norms; input norm; dense.
    "compact": (
        layers.CompactFrontEnd,
        {"width": 6, "channels": (3, 4, 5, 4)},
        SPECTROGRAMS,
        (2, 5, 6),
        (4 * (3 + 6) + 2 + 2, 4 * 6 + 2),
        False,
        (1, 8, 9, 80),
    ),
    # Six vertical and four horizontal convolutions, a norm each; input norm; dense and its norm.
    "timbral": (
        layers.TimbralFrontEnd,
        {"width": 6, "channels": 2},
        SPECTROGRAMS,
        (2, 37, 6),
        (10 * (2 + 2) + 2 + 2 + 2, 10 * 2 + 2 + 2),
        False,
        (1, 200),
    ),
    # Six convolutions, a norm each.
    "sample": (
        layers.SampleFrontEnd,
        {"width": 6, "channels": 2},
        20 * WAVES,
        (2, 17, 6),
        (24, 12),
        False,
        (1, 243, 9000),
    ),
    # Per block three convolutions without bias and three batch norms; input norm.
    "residual": (
        layers.ResidualFrontEnd,
        {"width": 6, "channels": (3, 4, 4, 5, 6)},
        SPECTROGRAMS,
        (2, 5, 6),
        (5 * 9 + 2, 5 * 6 + 2),
        False,
        (1, 8, 9, 80),
    ),
    # The last block changes nothing of its input's shape and so has no convolution beside it; dense.
    "pooled": (
        layers.PooledFrontEnd,
        {"width": 6, "channels": (3, 4, 4)},
        SPECTROGRAMS,
        (2, 9, 6),
        (9 + 9 + 6 + 2 + 2, 6 + 6 + 4 + 2),
        False,
        (1, 3, 4, 80),
    ),
    # Five filter banks and three convolutions over time with a norm each; norms of input and features; three dense
    # layers, one without a bias.
    "pons": (
        layers.PonsFrontEnd,
        {"width": 6, "channels": (3, 2, 3, 2, 4, 5, 7)},
        SPECTROGRAMS,
        (2, 5, 6),
        (8 * (2 + 2) + 2 * 2 + 5, 10 * 2),
        False,
        (1, 8, 9, 80),
    ),
    # A level, a norm, three stages of three convolutions with a norm each, a dense layer, [CLS], a block, and the last
    # layer: three norms and three dense layers.
    "second_ear": (
        layers.SecondEar,
        {"channels": (3, 4, 5), "n_layers": 2, "n_heads": 2, "width": 6, "feed_forward": 8},
        SPECTROGRAMS,
        (2, 5, 6),
        (1 + 2 + 3 * 3 * 3 + 2 + 1 + 16 + 3 * 4, 2 + 3 * 3 * 2),
        False,
        (1, 8, 9, 80),
    ),
    "pons_two_ears": (
        layers.PonsFrontEnd,
        {"width": 6, "channels": (3, 2, 3, 2, 4, 5, 7), "second_ear": {"channels": [3, 4, 5], "width": 8}},
        SPECTROGRAMS,
        (2, 5, 6),
        (8 * (2 + 2) + 2 * 2 + 5 + 1 + 1 + 2 + 3 * 3 * 3 + 2 + 1 + 3 * 16 + 3 * 4, 10 * 2 + 2 + 3 * 3 * 2),
        False,
        (1, 8, 9, 80),
    ),
    "attention": (
        layers.SelfAttention,
        {
            **{"n_heads": 2, "width": 8, "kind": "relative", "dropout": 0.1},
            **{"bias": True, "max_distance": 3, "window": 2},
        },
        TOKENS,
        (2, 9, 8),
        (9, 0),
        False,
        (1, 30),
    ),
    "class_token_learned": (layers.ClassToken, {}, TOKENS, (2, 10, 8), (1, 0), False, (1, 30)),
    "class_token_fixed": (layers.ClassToken, {"kind": "fixed"}, TOKENS, (2, 10, 8), (0, 1), False, (1, 30)),
    "sinusoidal": (layers.SinusoidalPositions, {}, TOKENS, (2, 9, 8), (0, 0), False, (1, 50)),
    "learned": (layers.LearnedPositions, {"max_positions": 20}, TOKENS, (2, 9, 8), (1, 0), False, (1, 20)),
    "block_pre": (layers.TransformerBlock, BLOCK, TOKENS, (2, 9, 8), (16, 0), False, (1, 30)),
    "block_post": (
        layers.TransformerBlock,
        {**BLOCK, "norm": "post", "dropout": 0.1, "attention_dropout": 0.2, "epsilon": 1e-5},
        TOKENS,
        (2, 9, 8),
        (16, 0),
        False,
        (1, 30),
    ),
    "block_rezero": (
        layers.TransformerBlock,
        {**BLOCK, "norm": "rezero"},
        TOKENS,
        (2, 9, 8),
        (16 - 4 + 2, 0),
        False,
        (1, 30),
    ),
    "encoder_pre": (layers.TransformerEncoder, ENCODER, TOKENS, (2, 8), (34, 0), False, (1, 30)),
    "encoder_of_the_authors": (
        layers.TransformerEncoder,
        {
            **{
                **ENCODER,
                "dropout": 0.01,
                "attention_dropout": 0.0,
                "feed_forward_dropout": 0.01,
                "attention_bias": False,
            },
            **{"attention_kind": "linear", "max_distance": 5, "window": 2, "input_dropout": False},
        },
        TOKENS,
        (2, 8),
        # Without biases of queries, keys and values.
        (34 - 2 * 3, 0),
        False,
        (1, 30),
    ),
    "encoder_post": (
        layers.TransformerEncoder,
        {**ENCODER, "norm": "post", "dropout": 0.1, "attention_dropout": 0.2, "epsilon": 1e-5},
        TOKENS,
        (2, 8),
        (32, 0),
        False,
        (1, 30),
    ),
    "encoder_rezero": (
        layers.TransformerEncoder,
        {**ENCODER, "norm": "rezero"},
        TOKENS,
        (2, 8),
        (34 - 2 - 2 * (4 - 2), 0),
        False,
        (1, 30),
    ),
    "head": (layers.TagHead, {"n_tags": 5}, TOKENS[:, 0], (2, 5), (2, 0), True, ()),
    "head_pooler": (
        layers.TagHead,
        {"n_tags": 5, "pooler": True, "dropout": 0.3},
        TOKENS,
        (2, 9, 5),
        (4, 0),
        True,
        (1, 30),
    ),
    "spec_augment": (layers.SpecAugment, {}, SPECTROGRAMS, (2, 37, 24), (0, 0), False, (1, 100)),
    "spec_augment_all": (
        layers.SpecAugment,
        {
            **{"n_time_masks": 2, "time_mask_frames": 5, "n_freq_masks": 0, "freq_mask_bins": 3},
            **{"mask_value": -1.0, "seed": 7},
        },
        SPECTROGRAMS,
        (2, 37, 24),
        (0, 0),
        False,
        (1, 100),
    ),
}


# Arguments that no case gives another value than the default.
OTHERS: dict[type, dict[str, Any]] = {
    layers.Spectrogram: {"gain": 100.0},
    layers.SelfAttention: {"n_heads": 2, "width": 8, "bias": False},
    layers.TransformerBlock: {
        **{**BLOCK, "feed_forward_dropout": 0.2, "attention_bias": False},
        **{"attention_kind": "local", "max_distance": 5, "window": 2},
    },
    # Layer normalisation hides the input's size, which the harness changes to see whether it counts.
    layers.TransformerEncoder: {**ENCODER, "input_norm": True},
}


@pytest.mark.parametrize("case", CASES)
def test_layer(case: str, tmp_path: Path) -> None:
    cls, init_kwargs, data, shape, weights, always_float32, lengths = CASES[case]
    run_layer_test(cls, init_kwargs, data, shape, tmp_path, weights, always_float32, lengths)


@pytest.mark.parametrize("cls", OTHERS)
def test_configuration_of_other_arguments(cls: type) -> None:
    check_config(cls, OTHERS[cls])


def test_every_argument_is_given_another_value_than_its_default() -> None:
    """A configuration that has the default whatever was given would pass with the default alone."""
    missing = []
    for cls in {case[0] for case in CASES.values() if "__init__" in vars(case[0])}:
        given = [OTHERS.get(cls, {}), *(case[1] for case in CASES.values() if case[0] is cls)]
        for name, parameter in inspect.signature(cls.__init__).parameters.items():
            default = parameter.default
            if default is not parameter.empty and all(arguments.get(name, default) == default for arguments in given):
                missing.append(f"{cls.__name__}.{name}")
    assert missing == []


def test_every_public_layer_has_a_case() -> None:
    public = {
        getattr(layers, name)
        for name in layers.__all__
        if isinstance(getattr(layers, name), type) and issubclass(getattr(layers, name), keras.layers.Layer)
    }
    assert public - {layers.FrontEnd} == {case[0] for case in CASES.values()}
