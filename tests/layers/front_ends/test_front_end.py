"""The contract of the front-ends: tokens, hop, receptive field, alignment."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from keras_tagger.layers import (
    CompactFrontEnd,
    FrontEnd,
    PonsFrontEnd,
    SecondEar,
    TimbralFrontEnd,
    front_end_from_config,
)

N_MELS = 16
MAKERS: dict[str, Callable[[], FrontEnd]] = {
    "compact": lambda: CompactFrontEnd(5, channels=(4, 4, 4, 4)),
    "compact_default": lambda: CompactFrontEnd(5),
    "compact_two_stages": lambda: CompactFrontEnd(5, channels=(4, 4)),
    "compact_five_stages": lambda: CompactFrontEnd(5, channels=(4, 4, 4, 4, 4)),
    "timbral": lambda: TimbralFrontEnd(5, channels=2),
    "pons": lambda: PonsFrontEnd(5, channels=(2, 3, 2, 2, 2, 4, 6)),
}
# frames_per_token, receptive_field_frames. Compact: a kernel of 4, kernels of 2 at strides 2 and 4, and two of 3
# at each stage's stride: 4 + 2 * 2 * 2 = 12, + 2 + 2 * 2 * 4 = 30, + 4 + 2 * 2 * 8 = 66, + 2 * 2 * 8 = 98, 130. Pons:
# seven tokens to either side, three kernels of 7, and half of 128 frames: 8 + 2 * (56 + 9 + 64).
NUMBERS = {
    "compact": (8, 98),
    "compact_default": (8, 98),
    "compact_two_stages": (4, 30),
    "compact_five_stages": (8, 130),
    "timbral": (1, 165),
    "pons": (8, 266),
}


def positive(layer: FrontEnd, seed: int = 0) -> FrontEnd:
    """Random positive kernels: with positive input every ReLU is open, so every input inside the field counts."""
    layer.build((None, None, N_MELS))
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        if weight.name == "kernel":
            weight.assign(rng.uniform(0.5, 1.5, weight.shape) / np.prod(weight.shape[:-1]))
    return layer


def spectrogram(n_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1.0, 2.0, (1, n_frames, N_MELS)).astype(np.float32)


@pytest.mark.parametrize("kind", MAKERS)
def test_stated_numbers(kind: str) -> None:
    layer = MAKERS[kind]()
    assert (layer.frames_per_token, layer.receptive_field_frames) == NUMBERS[kind]


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("n_frames", [1, 7, 8, 9, 100])
def test_number_of_tokens(kind: str, n_frames: int) -> None:
    layer = MAKERS[kind]()
    expected = -(-n_frames // NUMBERS[kind][0])
    assert layer.n_tokens(n_frames) == expected
    assert layer(spectrogram(n_frames)).shape == (1, expected, 5)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("offset", [0, 1, 5, 7])
def test_receptive_field_is_exact(kind: str, offset: int) -> None:
    layer = positive(MAKERS[kind]())
    hop, field = NUMBERS[kind]
    n_frames, frame = 400, 200 + offset
    before = spectrogram(n_frames)
    after = before.copy()
    after[:, frame] += 1000.0
    first, second = layer(before)[0].numpy(), layer(after)[0].numpy()
    changed = np.flatnonzero(np.abs(second - first).max(axis=-1) > 1e-6)
    margin = (field - hop) // 2
    tokens = np.arange(n_frames // hop)
    # Filters of an even number of frames see one frame less before a token than behind it.
    before_it = margin - (kind == "pons")
    inside = (tokens * hop - before_it <= frame) & (frame < (tokens + 1) * hop + margin)
    np.testing.assert_array_equal(changed, tokens[inside])
    np.testing.assert_array_equal(second[~inside], first[~inside])


@pytest.mark.parametrize("kind", MAKERS)
def test_shift_by_a_token_shifts_tokens(kind: str) -> None:
    layer = positive(MAKERS[kind]())
    hop, field = NUMBERS[kind]
    frames = spectrogram(400)
    whole, shifted = layer(frames)[0].numpy(), layer(frames[:, hop:])[0].numpy()
    edge = -(-field // (2 * hop)) + 1
    np.testing.assert_allclose(shifted[edge:-edge], whole[1:][edge:-edge], rtol=1e-4, atol=1e-5)
    assert np.abs(shifted[edge:-edge] - whole[:-1][edge:-edge]).max() > 1e-4


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("more", [1, 3, 8, 13])
def test_tokens_do_not_depend_on_the_length(kind: str, more: int) -> None:
    layer = positive(MAKERS[kind]())
    hop, field = NUMBERS[kind]
    frames = spectrogram(300 + more)
    kept = (300 - field) // hop
    np.testing.assert_allclose(layer(frames)[0, :kept], layer(frames[:, :300])[0, :kept], rtol=1e-4, atol=1e-5)


def test_timbral_filters_are_the_papers() -> None:
    layer = TimbralFrontEnd(512, channels=16)
    layer.build((None, None, 96))
    shapes = [convolution.kernel.shape for convolution in layer.vertical]
    assert shapes == [
        (7, 86, 1, 16), (3, 86, 1, 32), (1, 86, 1, 64), (7, 38, 1, 16), (3, 38, 1, 32), (1, 38, 1, 64),
    ]  # fmt: skip
    assert [convolution.kernel.shape for convolution in layer.horizontal] == [
        (165, 1, 16), (129, 1, 32), (65, 1, 64), (33, 1, 128),
    ]  # fmt: skip
    assert layer.project.kernel.shape == (29 * 16, 512)


def test_pons_filters_are_musicnns() -> None:
    layer = PonsFrontEnd(512)
    layer.build((None, None, 96))
    shapes = [convolution.kernel.shape for convolution in layer.convolutions]
    assert shapes == [(7, 38, 1, 79), (7, 67, 1, 80), (128, 1, 1, 13), (64, 1, 1, 18), (32, 1, 1, 57)]
    assert [convolution.kernel.shape for convolution in layer.mid] == [(7, 247, 128), (7, 128, 128), (7, 128, 128)]


@pytest.mark.parametrize("n_frames", [5, 41])
def test_pons_in_one_pass_is_relu_then_norm_then_maximum(n_frames: int) -> None:
    layer = MAKERS["pons"]()
    layer.build((None, None, N_MELS))
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        low, high = (0.5, 1.5) if weight.name == "moving_variance" else (-1.0, 1.0)
        weight.assign(rng.uniform(low, high, weight.shape))
    assert any((norm.gamma.numpy() < 0).any() for norm in layer.norms)
    x = layer.padded(spectrogram(n_frames) - 1.5)
    for convolution, norm in zip(layer.convolutions, layer.norms, strict=True):
        length = convolution.kernel_size[0]
        padded = np.pad(x, [(0, 0), ((length - 1) // 2, length // 2), (0, 0), (0, 0)])
        expected = np.maximum(convolution(padded), 0.0)
        expected = np.max(norm(expected, training=False), axis=2)
        scale = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
        found = layer.response(x, convolution, norm) * np.abs(scale) + norm.beta - norm.moving_mean * scale
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_from_config() -> None:
    compact = front_end_from_config("compact", (4, 8), 6)
    timbral = front_end_from_config("timbral", (3,), 6, dtype="mixed_bfloat16")
    assert isinstance(compact, CompactFrontEnd)
    assert (compact.channels, compact.width) == ((4, 8), 6)
    assert isinstance(timbral, TimbralFrontEnd)
    pons = front_end_from_config("pons", (2, 3, 2, 2, 2, 4, 6), 5, {"channels": (4, 4, 4), "width": 8})
    assert isinstance(pons, PonsFrontEnd)
    assert isinstance(pons.ear, SecondEar)
    assert (pons.ear.channels, pons.ear.width) == ((4, 4, 4), 8)
    assert (timbral.channels, timbral.width, timbral.compute_dtype) == (3, 6, "bfloat16")


@pytest.mark.parametrize("kind", ["compact", "timbral"])
def test_unknown_number_of_bands_is_an_error(kind: str) -> None:
    with pytest.raises(ValueError, match="expected a known number of mel bands"):
        MAKERS[kind]().build((None, None, None))
