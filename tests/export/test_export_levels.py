"""Silence and cancelling channels in the graph, against `keras_tagger.audio`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from keras_tagger import audio
from keras_tagger.audio.levels import SILENT_PEAK
from keras_tagger.export.levels import mix_to_mono
from tiny import RATE, noise

WINDOW = 7 * 2048
LOW = 8000


@pytest.fixture(scope="module")
def mix() -> Any:
    signature = [tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([], tf.int32)]
    return tf.function(mix_to_mono, input_signature=signature, autograph=False)


def channels(kind: str) -> np.ndarray:
    left = noise(5 * LOW + 1234, seed=1)
    right = noise(len(left), seed=2)
    partly = np.stack([left, np.where(np.arange(len(left)) // LOW % 2, left, -0.9 * left)], axis=1)
    partly[2 * LOW : 3 * LOW] = 0
    # Nothing to hear: its channels are averaged although they cancel each other.
    dither = np.stack([left, right], axis=1)
    dither[LOW : 2 * LOW, 0] *= SILENT_PEAK / np.abs(left).max()
    dither[LOW : 2 * LOW, 1] = -dither[LOW : 2 * LOW, 0]
    return {
        "mono": left[:, np.newaxis],
        "stereo": np.stack([left, right], axis=1),
        "inverted": np.stack([left, -left], axis=1),
        "partly inverted": partly,
        "a second of inverted dither": dither,
        "the quiet one first": np.stack([0.1 * right, left, -left], axis=1),
        "32 channels, one sounds": np.pad(left[:, np.newaxis], [(0, 0), (31, 0)]),
        "less than a second": np.stack([left, -left], axis=1)[:99],
        "one frame": np.stack([left, right], axis=1)[:1],
    }[kind].astype(np.float32)


@pytest.mark.parametrize(
    "kind",
    [
        "mono",
        "stereo",
        "inverted",
        "partly inverted",
        "a second of inverted dither",
        "the quiet one first",
        "32 channels, one sounds",
        "less than a second",
        "one frame",
    ],
)
def test_channels_are_mixed_as_by_the_package(mix: Any, kind: str) -> None:
    samples = channels(kind)
    expected = audio.load((samples, LOW), LOW, warnings=[])
    if kind == "one frame":
        expected = np.zeros_like(expected)  # a single value is a constant
    np.testing.assert_allclose(mix(samples, LOW), expected, atol=1e-6)


def test_no_frames_stay_none(mix: Any) -> None:
    assert mix(np.zeros((0, 2), np.float32), LOW).shape == (0,)


def test_a_constant_offset_becomes_silence(mix: Any) -> None:
    assert not np.any(mix(np.full((3 * LOW, 2), 0.3, np.float32), LOW))


@pytest.fixture(scope="module")
def served(exported: Path) -> Any:
    loaded = tf.saved_model.load(exported)
    return lambda signature, **inputs: {
        name: value.numpy()
        for name, value in loaded.signatures[signature](**{k: tf.constant(v) for k, v in inputs.items()}).items()
    }


def batch(seconds: float) -> np.ndarray:
    """Return music, dither of 16 bits, and music again."""
    waves = noise(round(seconds * RATE), seed=3, batch=3)
    waves[1] = np.random.default_rng(0).integers(-1, 2, waves.shape[1]) / 2**15
    return waves


@pytest.mark.parametrize("signature", ["serving_default", "attention", "contributions"])
@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_no_signature_finds_tags_in_silence(tagger: Any, served: Any, signature: str, seconds: float) -> None:
    waves = batch(seconds)
    found = served(signature, waveform=waves)["tags"]
    for tags, wave in zip(found, waves, strict=True):
        np.testing.assert_allclose(tags, tagger.scores((wave, RATE)), atol=1e-5)
    assert not found[1].any()
    assert (found[[0, 2]] > 0.01).any(axis=1).all()


def test_contributions_are_zero_in_silence_only(tagger: Any, served: Any) -> None:
    wave = noise(4 * WINDOW)
    wave[WINDOW : 3 * WINDOW] = 0
    found = served("contributions", waveform=wave[np.newaxis])["contributions"][0]
    np.testing.assert_allclose(found, tagger.contributions((wave, RATE)).values, atol=1e-5)
    assert (found.any(axis=0) == np.repeat([True, False, False, True], 7)).all()


def test_files_of_silence_have_no_tags(served: Any) -> None:
    files = []
    for wave in (np.zeros(RATE), np.full((RATE, 2), 0.1), noise(RATE)):
        file = io.BytesIO()
        soundfile.write(file, wave, 44100, format="WAV", subtype="PCM_16")
        files.append(file.getvalue())
    found = served("wav", audio_bytes=files)["tags"]
    assert not found[0].any()
    assert found[2].any()
    example = tf.train.Example()
    example.features.feature["audio_bytes"].bytes_list.value.append(files[0])
    assert not served("classify", inputs=[example.SerializeToString()])["scores"].any()


def test_a_silent_window_counts_as_one_without_tags(tagger: Any, served: Any) -> None:
    wave = np.concatenate([noise(WINDOW), np.zeros(3 * WINDOW, np.float32)])
    found = served("serving_default", waveform=wave[np.newaxis])["tags"][0]
    np.testing.assert_allclose(found, tagger.scores((wave, RATE)), atol=1e-5)
    np.testing.assert_allclose(found, tagger.scores((wave[:WINDOW], RATE)) / 4, atol=1e-5)
