"""The contract of the authors' front-ends: tokens, hop, receptive field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keras_tagger.layers import PooledFrontEnd, ResidualFrontEnd, SampleFrontEnd, front_end_from_config


def opened(layer: Any, shape: tuple[int | None, ...], seed: int = 0) -> Any:
    """Random positive kernels: with positive input every ReLU is open, so every input inside the field counts."""
    layer.build(shape)
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        if weight.name == "kernel":
            weight.assign(rng.uniform(0.5, 1.5, weight.shape) / np.prod(weight.shape[:-1]))
    return layer


RESIDUAL = opened(ResidualFrontEnd(4, (2, 2, 3, 4)), (None, None, 16))
POOLED = opened(PooledFrontEnd(5, (2, 3, 3)), (None, None, 16))
SAMPLE = opened(SampleFrontEnd(4, 1), (None, None))


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(1.0, 2.0, (1, count, 16)).astype(np.float32)


def changed(layer: Any, before: np.ndarray, place: int) -> np.ndarray:
    """Tokens that a change at one frame changes."""
    after = before.copy()
    after[:, place] += 1000.0
    return np.flatnonzero(np.abs(layer(after)[0].numpy() - layer(before)[0].numpy()).max(axis=-1) > 1e-5)


def test_stated_numbers() -> None:
    assert (RESIDUAL.frames_per_token, POOLED.frames_per_token, SAMPLE.frames_per_token) == (8, 4, 243)
    assert (RESIDUAL.rounds_up, POOLED.rounds_up, SAMPLE.rounds_up) == (True, False, True)
    # As published: seven blocks reach 3 + 6 + 12 + 4 * 16 frames to either side, and a token's middle lies 3.5 on.
    assert ResidualFrontEnd(256).receptive_field_frames == 2 * 85 + 8
    assert PooledFrontEnd(256).receptive_field_frames == 2 * 14 + 4


@pytest.mark.parametrize("place", [150, 151, 155, 158, 159])
def test_residual_field_is_exact(place: int) -> None:
    reach = 3 + 6 + 12 + 16
    tokens = np.arange(320 // 8)
    inside = np.abs(tokens * 8 - place) <= reach
    np.testing.assert_array_equal(changed(RESIDUAL, frames(320), place), tokens[inside])
    # The stated field is counted from the middle of a token, and holds it.
    assert (np.abs(tokens[inside] * 8 + 3.5 - place) < RESIDUAL.receptive_field_frames / 2).all()


@pytest.mark.parametrize("place", [100, 101, 102, 103])
def test_pooled_field_is_exact(place: int) -> None:
    tokens = np.arange(50)
    inside = (tokens * 4 - 14 <= place) & (place < tokens * 4 + 4 + 14)
    np.testing.assert_array_equal(changed(POOLED, frames(200), place), tokens[inside])


@pytest.mark.parametrize("place", [2430, 2431, 2550, 2671, 2672])
def test_sample_field_is_exact(place: int) -> None:
    wave = np.random.default_rng(0).uniform(1.0, 2.0, (1, 20 * 243)).astype(np.float32)
    tokens = np.arange(20)
    inside = (tokens * 243 - 850 <= place) & (place < tokens * 243 + 242 + 849)
    np.testing.assert_array_equal(changed(SAMPLE, wave, place), tokens[inside])
    assert SAMPLE.receptive_field_frames == 243 + 2 * 850


@pytest.mark.parametrize("count", [1, 3, 4, 7, 8, 9, 100, 431])
def test_number_of_tokens(count: int) -> None:
    assert RESIDUAL(frames(count)).shape[1] == RESIDUAL.n_tokens(count) == -(-count // 8)
    assert POOLED(frames(count)).shape[1] == POOLED.n_tokens(count) == max(count // 4, 1)
    wave = np.ones((1, count * 100), np.float32)
    assert SAMPLE(wave).shape[1] == SAMPLE.n_tokens(count * 100) == -(-count * 100 // 243)


def test_from_config_and_what_cannot_be_built() -> None:
    assert front_end_from_config("sample", (3,), 6).channels == 3
    assert front_end_from_config("pooled", (3, 4, 5), 6).channels == (3, 4, 5)
    assert front_end_from_config("residual", (3, 4, 6), 6).width == 6
    with pytest.raises(
        ValueError, match=r"at most 8 mel bands, .* tokens of 6 channels\. Received: 9 bands and width 6"
    ):
        ResidualFrontEnd(6, (3, 4, 6)).build((None, None, 9))
    with pytest.raises(ValueError, match="at least 8 mel bands"):
        PooledFrontEnd(6, (3, 4, 6)).build((None, None, 7))
