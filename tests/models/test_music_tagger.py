"""`MusicTagger`: sizes, lengths, outputs, and contributions against brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tagger.config import AudioConfig, ModelConfig, SpectrogramConfig, presets
from keras_tagger.errors import ConfigError
from keras_tagger.models.music_tagger import OUTPUTS, MusicTagger
from keras_tagger.tagger import load
from tiny import TAGS, noise, random_tagger, randomize

TOKEN = 2048  # 8 frames of 256 samples
FIFTY = [f"tag {index}" for index in range(50)]


def preset_model(name: str) -> MusicTagger:
    config = presets()[name]
    model = MusicTagger(FIFTY, config.audio, config.model)
    model.build()
    return model


def test_compact_has_the_shipped_weights_size() -> None:
    model = preset_model("compact")
    # Counted in the arrays of keras_tagger/weights/compact.npz.
    assert model.count_params() == 2_494_386
    np.testing.assert_allclose(model.hop_seconds, 0.128)
    assert model.window_samples == 80 * TOKEN  # 10.24 s, so that 30 s are three windows
    # (98 - 1) frames of 256 samples and one of 512.
    np.testing.assert_allclose(model.receptive_field_seconds, (97 * 256 + 512) / 16000)


def test_won2019_has_the_papers_size() -> None:
    model = preset_model("won2019")
    # The authors' code: 6,884,918 parameters.
    np.testing.assert_allclose(model.count_params(), 6_884_918, rtol=0.01)
    np.testing.assert_allclose(model.hop_seconds, 0.016)
    assert model.window_samples == 256 * 256
    assert model.n_tokens(model.window_samples) == 256


@pytest.mark.parametrize("which", ["tagger", "post_norm_tagger"])
def test_call_gives_the_logits_of_analyze(which: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which).model
    wave = noise(9000, batch=3)
    tags = model.analyze(wave)["tags"].numpy()
    np.testing.assert_allclose(tf.sigmoid(model(wave)), tags, atol=1e-6)
    np.testing.assert_allclose(model.analyze(wave, ["tags"])["tags"], tags, atol=1e-6)
    assert model.compute_output_shape((3, 9000)) == tags.shape
    # Random weights tell random clips apart.
    assert np.ptp(tags, axis=0).max() > 1e-3


@pytest.mark.parametrize(
    ("n_samples", "tokens"),
    [(1, 1), (TOKEN - 1, 1), (TOKEN, 1), (TOKEN + 1, 2), (7 * TOKEN, 7), (7 * TOKEN + 1, 8), (50000, 25)],
)
def test_any_length(tagger: Any, n_samples: int, tokens: int) -> None:
    model = tagger.model
    found = model.analyze(noise(n_samples, batch=2))
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "tags": (2, 3),
        "attention": (2, 2, 2, 1 + tokens, 1 + tokens),
        "contributions": (2, 3, tokens),
        "embedding": (2, 16),
        "spectrogram": (2, 8 * tokens, 32),
    }
    assert all(value.dtype == tf.float32 for value in found.values())
    assert model.n_tokens(n_samples) == tokens
    np.testing.assert_allclose(np.sum(found["attention"], axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(model.token_times(tokens), 0.128 * np.arange(tokens) + 0.064, atol=1e-12)


@pytest.mark.parametrize("n_samples", [1, 700, 3000, 4000])
def test_a_token_beyond_the_end_gets_the_last_frames_in_reverse_order(tagger: Any, n_samples: int) -> None:
    model = tagger.model
    hop = model.model_config.spectrogram.hop_length
    wave = noise(n_samples, batch=1)
    seen = model.see(tf.constant(wave)).numpy()[0]
    filled = max(n_samples // hop, 1)
    assert len(seen) == -(-n_samples // TOKEN) * TOKEN // hop > filled
    np.testing.assert_array_equal(seen[:filled], model.spectrogram(wave).numpy()[0, :filled])
    np.testing.assert_array_equal(seen, np.pad(seen[:filled], [(0, len(seen) - filled), (0, 0)], "reflect"))


def test_the_authors_models_get_zeros_up_to_one_token(post_norm_tagger: Any) -> None:
    model = post_norm_tagger.model
    assert model.model_config.spectrogram.framing == "centered"
    wave = noise(100, batch=1)
    padded = np.pad(wave, [(0, 0), (0, 157)])  # half a frame and one sample, which reflection needs
    np.testing.assert_array_equal(model.see(tf.constant(wave)), model.spectrogram(padded)[:, :1])
    wave = noise(3000, batch=1)
    np.testing.assert_array_equal(model.see(tf.constant(wave)), model.spectrogram(wave))


def test_clips_of_a_batch_do_not_touch_each_other(tagger: Any) -> None:
    waves = noise(6000, batch=3)
    together = tagger.model.analyze(waves)
    alone = tagger.model.analyze(waves[1:2])
    for name in OUTPUTS:
        np.testing.assert_allclose(together[name][1], alone[name][0], atol=1e-5, err_msg=name)


def test_one_trace_for_a_choice_of_outputs() -> None:
    model = random_tagger({"model": {"encoder": {"n_layers": 1}}}).model
    for n_samples, batch in ((1, 1), (5000, 2), (40000, 3)):
        model.analyze(noise(n_samples, batch=batch), ("embedding", "tags"))
        model.analyze(noise(n_samples, batch=batch), ["tags", "embedding", "tags"])
    assert model.analyzer(("tags", "embedding")).experimental_get_tracing_count() == 1
    assert model.analyzer(("tags", "embedding")) is model.analyzer(("embedding", "tags"))


@pytest.mark.parametrize("outputs", [(), ("tag",), ("tags", "tokens")])
def test_unknown_outputs(tagger: Any, outputs: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="outputs: expected some of tags, attention"):
        tagger.model.analyze(noise(100, batch=1), outputs)


def brute_force(model: MusicTagger, wave: np.ndarray) -> np.ndarray:
    """[B, n_tags, T]: a full last layer per token, whose every query may attend to that token only."""
    x = model.class_token(model.front_end(model.see(wave), training=False))
    x = x if model.positions is None else model.positions(x)
    for block in model.encoder.blocks[:-1]:
        x = block(x, training=False)
    block, length = model.encoder.blocks[-1], x.shape[1]
    found = []
    for token in range(1, length):
        mask = np.zeros((1, length, length), bool)
        mask[..., token] = True
        if block.norm == "pre":
            normed = block.attention_norm(x)
            y = x + block.attention(normed, normed, attention_mask=mask)
            y = y + block.contract(block.expand(block.feed_forward_norm(y)))
            y = model.encoder.final_norm(y)
        else:
            y = block.attention_norm(x + block.attention(x, x, attention_mask=mask))
            y = block.feed_forward_norm(y + block.contract(block.expand(y)))
        found.append(tf.sigmoid(model.head(y[:, 0], training=False)).numpy())
    return np.stack(found, axis=-1)


@pytest.mark.parametrize("which", ["tagger", "post_norm_tagger"])
def test_contributions_are_brute_force(which: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which).model
    wave = noise(7600, batch=2)
    found = model.analyze(wave, ("contributions",))["contributions"].numpy()
    expected = brute_force(model, wave)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(found, axis=-1).max() > 1e-3


@pytest.mark.parametrize("over", [{"positions": "none"}, {"positions": "learned", "max_positions": 8}])
def test_other_positions(over: dict[str, Any]) -> None:
    model = random_tagger({"model": {"attention": over, "encoder": {"n_layers": 1}}}).model
    wave = noise(5 * TOKEN, batch=2)
    found = model.analyze(wave, ("tags", "contributions"))
    np.testing.assert_allclose(found["contributions"], brute_force(model, wave), atol=1e-5)
    table = [weight for weight in model.weights if weight.name == "table"]
    assert [weight.shape for weight in table] == ([(8, 16)] if over["positions"] == "learned" else [])


def test_without_positions_the_order_of_tokens_does_not_matter() -> None:
    model = random_tagger({"model": {"attention": {"positions": "none"}}}).model
    tokens = model.class_token(model.front_end(model.spectrogram(noise(4 * TOKEN, batch=1))))
    swapped = tf.gather(tokens, [0, 4, 2, 1, 3], axis=1)
    np.testing.assert_allclose(model.encoder(tokens), model.encoder(swapped), atol=1e-5)


@pytest.mark.parametrize(("precision", "tolerance"), [("mixed_bfloat16", 0.05), ("mixed_float16", 0.01)])
def test_mixed_precision_gives_float32(tagger: Any, precision: str, tolerance: float) -> None:
    config = tagger.config
    model = MusicTagger(TAGS, config.audio, config.model, dtype=precision)
    model.build()
    model.set_weights(tagger.model.get_weights())
    assert model.encoder.blocks[0].expand.compute_dtype == precision.removeprefix("mixed_")
    assert model.spectrogram.compute_dtype == "float32"
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    wave = noise(9000, batch=2)
    assert model(wave).dtype == tf.float32
    found, expected = model.analyze(wave), tagger.model.analyze(wave)
    assert {value.dtype for value in found.values()} == {tf.float32}
    for name in ("tags", "attention", "contributions", "spectrogram"):
        np.testing.assert_allclose(found[name], expected[name], atol=tolerance, err_msg=name)


@pytest.mark.parametrize("which", ["tagger", "post_norm_tagger"])
def test_keras_file_round_trip(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model = request.getfixturevalue(which).model
    model.save(tmp_path / "model.keras")
    wave = noise(9000, batch=2)
    expected = model.analyze(wave)
    for loaded in (keras.saving.load_model(tmp_path / "model.keras"), load(tmp_path / "model.keras").model):
        assert {**loaded.get_config(), "name": ""} == {**model.get_config(), "name": ""}
        assert list(loaded.tags) == list(model.tags)
        found = loaded.analyze(wave)
        for name in OUTPUTS:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-6, err_msg=name)


def test_symbolic_call_in_a_functional_model(tagger: Any) -> None:
    wave = keras.Input((None,))
    model = keras.Model(wave, tagger.model(wave))
    data = noise(5000, batch=2)
    np.testing.assert_allclose(model(data), tagger.model(data), atol=1e-6)


def test_training_updates_batch_norm_and_applies_dropout(tagger: Any) -> None:
    model = MusicTagger(TAGS, tagger.config.audio, tagger.config.model)
    model.build()
    randomize(model)
    wave = noise(9000, batch=2)
    moving = model.front_end.input_norm.moving_mean.numpy()
    first, second = model(wave, training=True).numpy(), model(wave, training=True).numpy()
    assert np.abs(first - second).max() > 1e-3
    mean = model.see(wave).numpy().mean(axis=(0, 1))
    # Momentum 0.9, two steps.
    expected = 0.81 * moving + (0.09 + 0.1) * mean
    np.testing.assert_allclose(model.front_end.input_norm.moving_mean, expected, rtol=1e-4, atol=1e-5)


def test_learned_positions_must_reach_over_a_window() -> None:
    tagger = random_tagger({"model": {"attention": {"positions": "learned", "max_positions": 8}}})
    assert tagger.model.window_samples // tagger.model.token_samples == 7
    with pytest.raises(ConfigError, match=r"max_positions: expected at least 8, .* Received: 7\."):
        random_tagger({"model": {"attention": {"positions": "learned", "max_positions": 7}}})


def test_audio_and_model_must_agree() -> None:
    model = ModelConfig(spectrogram=SpectrogramConfig(f_max=8000.0))
    with pytest.raises(ConfigError, match=r"f_max: expected at most half of audio\.sample_rate \(4000 Hz\)"):
        MusicTagger(["a"], AudioConfig(sample_rate=8000), model)
