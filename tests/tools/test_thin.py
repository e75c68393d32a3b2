"""tools/pretrain/thin.py: filters that others can stand in for are left out, and the second ear comes in."""

from __future__ import annotations

import numpy as np
import pytest

import tiny
from keras_tagger.tagger import Tagger
from pretrain import thin

CHANNELS = [4, 4, 2, 2, 2, 4, 6]
SMALL = {
    "audio": {"window_seconds": 2.048},
    "model": {"spectrogram": {"n_mels": 32}, "encoder": {"width": 16, "feed_forward": 16}},
}


def small(**front_end: object) -> Tagger:
    model = {**SMALL["model"], "front_end": front_end}
    tagger = tiny.random_tagger({**SMALL, "preset": "pons", "model": model})
    tiny.randomize(tagger.model, 3)
    return tagger


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thin, "RIDGE", 1e-6)


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    """The last two filters of the first bank say what the first two say, in another scale."""
    tagger = small(channels=CHANNELS)
    convolution, norm = tagger.model.front_end.convolutions[0], tagger.model.front_end.norms[0]
    kernel, bias = convolution.get_weights()
    kernel[..., 2:], bias[2:] = 2.0 * kernel[..., :2], 2.0 * bias[:2]
    convolution.set_weights([kernel, bias])
    gamma, beta, mean, variance = norm.get_weights()
    gamma[2:] = np.abs(gamma[2:]) * np.sign(gamma[:2])
    norm.set_weights([gamma, beta, mean, variance])
    return tagger


@pytest.fixture(scope="module")
def waveforms(tagger: Tagger) -> np.ndarray:
    rng = np.random.default_rng(4)
    levels = 10.0 ** rng.uniform(-3.0, 0.0, (12, 8, 1))
    noise = rng.standard_normal((12, 8, tagger.model.window_samples // 8)) * levels
    return noise.reshape(12, -1).astype(np.float32)


def test_a_filter_that_another_repeats_is_left_out_without_loss(tagger: Tagger, waveforms: np.ndarray) -> None:
    linear = thin.linear_parts(tagger.model, iter(np.split(waveforms, 3)))
    kept = thin.thin(linear, tagger.model.front_end.filters, [2, *CHANNELS[1:5]])
    # One of each pair.
    assert sorted(kept[:2] % 2) == [0, 1]
    np.testing.assert_array_equal(kept[2:], np.arange(4, sum(CHANNELS[:5])))
    thinner = thin.rebuilt(tagger, linear, kept, None)
    assert thinner.model.front_end.channels == (2, *CHANNELS[1:])
    assert thinner.tags == tagger.tags
    np.testing.assert_allclose(thinner.model(waveforms), tagger.model(waveforms), atol=0.03)


def test_what_is_left_out_is_what_is_missed_least(tagger: Tagger, waveforms: np.ndarray) -> None:
    parts = thin.linear_parts(tagger.model, iter(np.split(waveforms, 3)))
    errors = np.array([sum(part.error(index) for part in parts) for index in range(sum(CHANNELS[:5]))])
    # Those that are repeated cost nearly nothing, others do.
    assert errors[:4].max() < 0.3 * errors[4:8].min()
    # The error is that of least squares: what the others cannot explain, by a regression of its own.
    part = parts[1]
    rows, others = part.rows[5], np.setdiff1d(np.arange(len(part.mean)), part.rows[5])
    among = part.covariance[np.ix_(others, others)] + thin.RIDGE * np.diag(part.covariance).mean() * np.eye(len(others))
    left = part.covariance[np.ix_(rows, rows)] + thin.RIDGE * np.diag(part.covariance).mean() * np.eye(len(rows))
    across = part.covariance[np.ix_(rows, others)]
    unexplained = left - across @ np.linalg.solve(among, across.T)
    weights = part.weights[rows] * part.scale
    np.testing.assert_allclose(part.error(5), np.trace(weights.T @ unexplained @ weights), rtol=1e-6)


def test_the_second_ear_begins_without_a_say(tagger: Tagger, waveforms: np.ndarray) -> None:
    ear = tiny.random_tagger(
        {**SMALL, "preset": "compact", "model": {**SMALL["model"], "front_end": {"channels": [4, 4, 4]}}}
    )
    linear = thin.linear_parts(tagger.model, iter([waveforms]))
    kept = thin.thin(linear, tagger.model.front_end.filters, CHANNELS[:5])
    found = thin.rebuilt(tagger, linear, kept, ear)
    np.testing.assert_allclose(found.model(waveforms), tagger.model(waveforms), atol=1e-5)
    assert found.model.model_config.front_end.branch == (4, 4, 4)
    for stage, other in zip(found.model.front_end.ear.stages, ear.model.front_end.stages, strict=True):
        for weight, same in zip(stage.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(weight, same)
