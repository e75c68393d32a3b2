"""Maps over what the front-end sees: closed forms and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_tagger.explain.gradients import completeness, grad_cam, gradient_input, integrated_gradients, smooth_grad
from keras_tagger.explain.inputs import filling, front_end_input, gradients, logits
from keras_tagger.explain.occlusion import occlusion
from tiny import noise

TOKEN = 2048


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    return noise(4 * TOKEN, batch=2)


@pytest.mark.parametrize("which", ["tagger", "post_norm_tagger"])
def test_integrated_gradients_add_up(which: str, wave: np.ndarray, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which).model
    # From silence in decibels to music is a long way, past many kinks: many steps, so of a single short clip.
    steps, wave = (64, wave) if which == "tagger" else (512, wave[:1, : 2 * TOKEN])
    for baseline in ("silence", "mean"):
        found = integrated_gradients(model, wave, [1], baseline=baseline, steps=steps).values
        expected = completeness(model, wave, 1, baseline=baseline)
        assert np.abs(expected).max() > 0.02
        np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), expected, rtol=0.02, atol=2e-3)


def test_gradient_is_the_slope_of_the_logit(tagger: Any, wave: np.ndarray) -> None:
    seen = front_end_input(tagger.model, wave)
    direction = np.random.default_rng(0).standard_normal(seen.shape).astype(np.float32)
    step = 1e-2
    ahead, behind = (logits(tagger.model, seen + sign * step * direction)[:, 2] for sign in (1, -1))
    found = (gradients(tagger.model, seen, 2) * direction).sum(axis=(1, 2))
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=0.02, atol=1e-3)


def test_gradient_input_and_smooth_grad_without_noise_agree(tagger: Any, wave: np.ndarray) -> None:
    found = smooth_grad(tagger.model, wave, [0], samples=2, noise=0.0, times_input=True, seed=0)
    expected = gradient_input(tagger.model, wave, [0], baseline="silence")
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)
    assert found.values.shape == (2, 1, 32, 32)  # mel bands by frames
    np.testing.assert_allclose(found.frequencies, tagger.model.spectrogram.mel_frequencies())
    np.testing.assert_allclose(found.times, 0.016 * np.arange(32) + 0.008)
    plain = smooth_grad(tagger.model, wave, [0], samples=1, noise=0.0, times_input=False, seed=0)
    slope = gradients(tagger.model, front_end_input(tagger.model, wave), 0)
    np.testing.assert_allclose(plain.values[:, 0], np.swapaxes(slope, 1, 2), atol=1e-6)


def test_smooth_grad_is_a_mean_over_noise_of_a_seed(tagger: Any, wave: np.ndarray) -> None:
    seen = front_end_input(tagger.model, wave)
    rng = np.random.default_rng(5)
    spread = 0.2 * (seen.max(axis=(1, 2), keepdims=True) - seen.min(axis=(1, 2), keepdims=True))
    draws = [seen + spread * rng.standard_normal(seen.shape[1:], np.float32) for _ in range(3)]
    expected = np.mean([gradients(tagger.model, noisy, 1) for noisy in draws], axis=0)
    found = smooth_grad(tagger.model, wave, [1], samples=3, noise=0.2, times_input=False, seed=5).values[:, 0]
    np.testing.assert_allclose(np.swapaxes(found, 1, 2), expected, atol=1e-6)


@pytest.mark.parametrize("fill", ["mean", "silence", 1.5])
def test_occlusion_is_what_the_logit_loses(tagger: Any, wave: np.ndarray, fill: str | float) -> None:
    """Patches of 10 frames by 20 bands of 32 by 32: four by two, the last ones smaller."""
    found = occlusion(tagger.model, wave, [1], patch_seconds=0.16, patch_bands=20, fill=fill).values[:, 0]
    seen = front_end_input(tagger.model, wave)
    for frames, bands in (((10, 20), (0, 20)), ((30, 32), (20, 32))):
        changed = seen.copy()
        here = (slice(None), slice(*frames), slice(*bands))
        level = {"mean": seen.mean(axis=1, keepdims=True), "silence": 0.0, 1.5: 1.5}[fill]
        changed[here] = np.broadcast_to(level, seen.shape)[here]
        lost = (logits(tagger.model, seen) - logits(tagger.model, changed))[:, 1]
        patch = found[:, slice(*bands), slice(*frames)].reshape(2, -1)
        np.testing.assert_allclose(patch, np.repeat(lost[:, np.newaxis], patch.shape[1], axis=1), atol=1e-5)
    assert len(np.unique(found[0])) == 8


def test_silence_is_what_the_front_end_sees_of_zeros(post_norm_tagger: Any) -> None:
    model = post_norm_tagger.model  # decibels: silence is not zero
    seen = front_end_input(model, noise(4000, batch=1))
    nothing = front_end_input(model, np.zeros((1, 4000), np.float32))
    np.testing.assert_allclose(filling(model, seen, "silence"), nothing)
    assert nothing.max() < -90


def test_grad_cam_weighs_channels_by_their_mean_gradient(
    tagger: Any, wave: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By finite differences: a channel raised everywhere moves the logit by its mean gradient times its cells."""
    model = tagger.model
    seen = tf.constant(front_end_input(model, wave))
    found_logits, maps = model.logits_and_feature_maps(seen)
    np.testing.assert_allclose(found_logits, model.logits_of(seen), atol=1e-5)
    maps = maps.numpy()

    def logits_of_maps(changed: np.ndarray) -> np.ndarray:
        with monkeypatch.context() as patch:
            patch.setattr(model.front_end, "feature_maps", lambda *args, **kwargs: tf.constant(changed))
            return model.logits_and_feature_maps(seen)[0].numpy()

    step, weights = 1e-2, []
    for channel in range(maps.shape[-1]):
        raised = np.zeros(maps.shape[-1], np.float32)
        raised[channel] = step
        ahead, behind = (logits_of_maps(maps + sign * raised) for sign in (1, -1))
        weights.append((ahead - behind)[:, 1] / (2 * step) / (maps.shape[1] * maps.shape[2]))
    expected = np.maximum(np.einsum("cb,btfc->bft", weights, maps), 0)
    found = grad_cam(model, wave, [1])
    np.testing.assert_allclose(found.values[:, 0], expected, rtol=0.02, atol=1e-4)
    assert found.values.max() > 1e-3
    # 32 mel bands in as many groups as the last maps have rows, 2.
    bands = model.spectrogram.mel_frequencies().reshape(2, 16).mean(axis=1)
    np.testing.assert_allclose(found.frequencies, bands)
