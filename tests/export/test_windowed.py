"""`analyze_windows` against the model on each window of `MusicTagger.windowing`, put together by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_tagger.export.windowed import analyze_windows
from tiny import noise

RATE = 16000
TOKEN = 2048
WINDOW = 7 * TOKEN
NAMES = ("tags", "embedding", "contributions", "attention")
LENGTHS = {
    "one sample": 1,
    "below": 9000,
    "equal": WINDOW,
    "one above": WINDOW + 1,
    "one and a half": WINDOW * 3 // 2,
    "two": 2 * WINDOW,
    "three and a bit": WINDOW * 32 // 10,
    "more than run at a time": WINDOW * 165 // 10,
}


def by_hand(model: Any, wave: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs for one clip, window by window in numpy."""
    n_tokens = model.n_tokens(len(wave))
    tags, embedding = np.zeros(len(model.tags)), np.zeros(model.model_config.encoder.width)
    contributions = np.full((len(model.tags), n_tokens), np.nan)
    layers, heads = model.model_config.encoder.n_layers, model.model_config.encoder.n_heads
    attention = np.zeros((layers, heads, 1 + n_tokens, 1 + n_tokens))
    heatmap, times = np.full(n_tokens, np.nan), np.full(n_tokens, np.nan)
    for window in model.windowing.cut((wave, RATE)):
        found = {name: value[0].numpy() for name, value in model.analyze(window.waveform[None], NAMES).items()}
        share = window.new_samples / len(wave)
        tags += share * found["tags"]
        embedding += share * found["embedding"]
        first = -(-window.start_sample // model.token_samples)
        size = found["contributions"].shape[1]
        new = range(size - model.n_tokens(window.new_samples), size)
        # Index 0 of a window is [CLS], whose column and row are those of the whole.
        columns = np.array([0, *(1 + first + np.arange(size))])
        attention[:, :, 0, columns] += share * found["attention"][:, :, 0]
        # A window of one sample is a constant, in which there is nothing to hear.
        heard = len(window.waveform) > 1
        for local in new:
            contributions[:, first + local] = heard * found["contributions"][:, local]
            attention[:, :, 1 + first + local, columns] = found["attention"][:, :, 1 + local]
            heatmap[first + local] = found["attention"][-1, :, 0, 1 + local].sum()
            times[first + local] = (window.start_sample + (local + 0.5) * model.token_samples) / RATE
    return {
        "tags": tags,
        "embedding": embedding,
        "contributions": contributions,
        "attention": attention,
        "heatmap": heatmap,
        "times": times,
    }


@pytest.fixture(scope="module")
def run(tagger: Any) -> Any:
    """`analyze_windows` traced once, as in an export."""
    spec = [tf.TensorSpec([None, None], tf.float32)]
    return tf.function(lambda waveform: analyze_windows(tagger.model, waveform, NAMES), input_signature=spec)


@pytest.mark.parametrize("length", LENGTHS)
def test_equals_windows_by_hand(tagger: Any, run: Any, length: str) -> None:
    waves = noise(LENGTHS[length], seed=4, batch=2)
    found = run(waves)
    assert set(found) == {*NAMES, "heatmap", "times"}
    for index, wave in enumerate(waves):
        for name, expected in by_hand(tagger.model, wave).items():
            np.testing.assert_allclose(found[name][index], expected, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(np.sum(found["attention"], axis=-1), 1.0, atol=1e-5)


def test_equals_analyze_up_to_one_window(tagger: Any, run: Any) -> None:
    waves = noise(WINDOW, batch=2)
    expected = tagger.model.analyze(waves, NAMES)
    found = run(waves)
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6, err_msg=name)


def test_no_samples_are_one_token_of_silence(tagger: Any, run: Any) -> None:
    found = run(np.zeros((2, 0), np.float32))
    expected = tagger.model.analyze(np.zeros((1, TOKEN), np.float32), ("tags",))["tags"]
    np.testing.assert_allclose(found["tags"], np.repeat(expected, 2, axis=0), atol=1e-6)
    assert found["contributions"].shape == (2, 3, 1)


def test_of_the_papers_model(post_norm_tagger: Any) -> None:
    model = post_norm_tagger.model
    wave = noise(int(1.7 * model.window_samples), seed=2)
    found = analyze_windows(model, wave[None], NAMES)
    for name, expected in by_hand(model, wave).items():
        np.testing.assert_allclose(found[name][0], expected, atol=2e-5, err_msg=name)
