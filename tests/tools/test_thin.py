"""tools/pretrain/thin.py: filters that others can stand in for are left out, and the second ear comes in."""

from __future__ import annotations

import numpy as np
import pytest

import tiny
from keras_tagger.tagger import Tagger
from pretrain import louder, thin

CHANNELS = [4, 4, 2, 2, 2, 4, 6]
SMALL = {
    "audio": {"window_seconds": 2.048},
    "model": {"spectrogram": {"n_mels": 32}, "encoder": {"width": 16, "feed_forward": 16}},
}


def small(**front_end: object) -> Tagger:
    model = {**SMALL["model"], "front_end": {"second_ear": {"channels": []}, **front_end}}
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


def test_the_second_ear_has_its_say_in_instruments(tagger: Tagger, waveforms: np.ndarray) -> None:
    names = ("flute", "guitar", "loud")
    front_end = {"channels": [4, 4, 4]}
    over = {**SMALL, "preset": "compact", "model": {**SMALL["model"], "front_end": front_end}}
    ear = tiny.random_tagger(over, ("guitar", "loud"))
    model = {**SMALL["model"], "front_end": {"channels": CHANNELS, "second_ear": {"channels": []}}}
    plain = tiny.random_tagger({**SMALL, "preset": "pons", "model": model}, names)
    # Uniform attention that passes tokens on; blocks that do nothing else.
    for block in plain.model.encoder.blocks:
        for factor in (block.attention_factor, block.feed_forward_factor):
            factor.assign(0.0)
        block.attention.query_dense.set_weights([0.0 * weight for weight in block.attention.query_dense.get_weights()])
    plain.model.encoder.blocks[-1].attention_factor.assign(1.0)
    linear = thin.linear_parts(plain.model, iter([waveforms]))
    kept = np.arange(sum(CHANNELS[:5]))
    both = thin.rebuilt(plain, linear, kept, ear)
    thin.give_ear(both.model, ear.model, waveforms, 0.75)
    before, after = (model.model(waveforms).numpy() for model in (plain, both))
    theirs = ear.model(waveforms, return_contributions=True)[1][..., 0].numpy().mean(axis=1)
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=1e-3)
    np.testing.assert_allclose(after[:, 2], before[:, 2], atol=1e-3)
    mixed = 0.25 * before[:, 1] + 0.75 * theirs
    assert np.ptp(theirs) > 0.01
    # [CLS] attends to itself a little, where there is no second ear: an offset.
    np.testing.assert_allclose(after[:, 1] - mixed, np.mean(after[:, 1] - mixed), atol=0.1 * np.ptp(theirs))
    assert np.abs(after[:, 1] - mixed).max() < 0.02
    # Without another ear, the one that is there stays.
    again = thin.rebuilt(both, thin.linear_parts(both.model, iter([waveforms])), kept, None)
    np.testing.assert_allclose(again.model(waveforms), after, atol=1e-4)
    # Louder, but not higher: the differences grow, the mean stays.
    louder.make_louder(both.model, np.split(waveforms, 3), 2.0)
    found = both.model(waveforms).numpy()
    np.testing.assert_allclose(found.mean(axis=0), after.mean(axis=0), atol=0.02)
    grown = found[:, 1] - after[:, 1]
    np.testing.assert_allclose(grown - grown.mean(), 0.75 * (theirs - theirs.mean()), atol=0.15 * np.ptp(theirs))


def test_levels_turn_powers_into_magnitudes(tagger: Tagger, waveforms: np.ndarray) -> None:
    over = {**SMALL, "preset": "compact", "model": {**SMALL["model"], "front_end": {"channels": [4, 4, 4]}}}
    compact = tiny.random_tagger(over).model
    levels = thin.levels(tagger.model, compact, waveforms)
    heard = np.log1p(levels * np.sqrt(np.expm1(tagger.model.see(waveforms).numpy())))
    assert np.abs(heard - compact.see(waveforms).numpy()).mean() < 0.2
