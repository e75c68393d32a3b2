"""The second ear: the body of a compact model that hears powers, beside the filters of `pons`."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

import tiny
from keras_tagger.layers import PonsFrontEnd, SecondEar
from pretrain.thin import give_ear

N_MELS = 32
SIZES = {"channels": [4, 4, 4], "n_layers": 2, "n_heads": 2, "width": 8, "feed_forward": 8}
CHANNELS = (2, 3, 2, 2, 2, 4, 6)


def test_its_tokens_are_what_each_moment_alone_makes_of_a_compact_model() -> None:
    encoder = {name: SIZES[name] for name in ("n_layers", "n_heads", "width", "feed_forward")}
    model = {"spectrogram": {"n_mels": N_MELS}, "front_end": {"channels": SIZES["channels"]}, "encoder": encoder}
    compact = tiny.random_tagger({"preset": "compact", "model": model}).model
    pons = tiny.random_tagger(
        {
            "preset": "pons",
            "model": {
                "spectrogram": {"n_mels": N_MELS},
                "front_end": {"channels": [*CHANNELS], "second_ear": SIZES},
                "encoder": {"width": 16, "feed_forward": 16},
            },
        }
    ).model
    waveforms = np.stack([tiny.noise(8000, seed=seed) for seed in range(2)])
    give_ear(pons, compact, waveforms, 0.5)
    ear = pons.front_end.ear
    ear.level.assign(np.full(N_MELS, 20.0))
    # A power of m^2 times a gain of 15 has the root m * sqrt(15), of which 20 times is heard.
    magnitudes = np.random.default_rng(2).uniform(0.01, 1.0, (1, 45, N_MELS)).astype(np.float32)
    tokens = ear(np.log1p(15.0 * magnitudes**2))
    heard = np.log1p(20.0 * np.sqrt(15.0) * magnitudes)
    context, _ = compact.encoder.encode_context(compact.embed(tf.constant(heard)), False)
    np.testing.assert_allclose(tokens, compact.encoder.attend_single(context, False)[:, 1:], rtol=1e-3, atol=1e-3)


def test_it_adds_its_tokens_to_those_of_the_filters() -> None:
    alone, both = PonsFrontEnd(5, CHANNELS), PonsFrontEnd(5, CHANNELS, second_ear=SIZES)
    seen = np.random.default_rng(3).uniform(0.0, 2.0, (2, 41, N_MELS)).astype(np.float32)
    for layer in (alone, both):
        layer.build((None, None, N_MELS))
    assert both.ear
    assert both.project_ear
    own = [weight for weight in both.weights if "ear" not in weight.path.split("/")[1]]
    for weight, other in zip(alone.weights, own, strict=True):
        weight.assign(other)
    expected = alone(seen) + both.project_ear(both.ear(seen))
    np.testing.assert_allclose(both(seen), expected, rtol=1e-4, atol=1e-5)
    maps = both.feature_maps(seen)
    assert maps.shape == (2, 6, 1, both.n_features + both.ear.flat)
    np.testing.assert_allclose(both.tokens_of(maps), expected, rtol=1e-4, atol=1e-5)


def test_silence_has_a_gradient() -> None:
    silence = tf.zeros((1, 16, N_MELS))
    layer = SecondEar(**SIZES)
    with tf.GradientTape() as tape:
        tape.watch(silence)
        total = tf.reduce_sum(layer(silence))
    assert np.isfinite(tape.gradient(total, silence)).all()
