"""The explained part as audio: parts that add up, bands and times that stay apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_tagger.errors import ModelError
from keras_tagger.explain import listen
from keras_tagger.explain.listen import highest
from keras_tagger.heatmap import Heatmap
from tiny import RATE, noise

BANDS = np.array([500.0, 1500.0, 2500.0, 3500.0])
TIMES = np.arange(20) * 0.1 + 0.05


def chord(seconds: float = 2.0) -> np.ndarray:
    """700 Hz and 3000 Hz, equally loud."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 700 * time) + 0.3 * np.sin(2 * np.pi * 3000 * time)).astype(np.float32)


def level(wave: np.ndarray, frequency: float) -> float:
    """Amplitude of a sine in a wave."""
    time = np.arange(len(wave)) / RATE
    return float(2 * np.abs(np.mean(wave * np.exp(-2j * np.pi * frequency * time))))


def test_parts_add_up_to_the_clip() -> None:
    wave = noise(RATE * 35 + 123)  # longer than a block
    values = np.random.default_rng(0).standard_normal((1, 4, 350))
    heat = Heatmap(values, ("a",), np.arange(350) * 0.1 + 0.05, "made", BANDS)
    heard = listen(heat, (wave, RATE), share=0.3)
    assert heard.kept.shape == heard.removed.shape == wave.shape
    np.testing.assert_allclose(heard.kept + heard.removed, wave, atol=1e-6)
    # All of a map above zero keeps the clip as it is: the STFT is inverted exactly, over the blocks' ends too.
    whole = listen(Heatmap(np.ones((1, 350)), ("a",), heat.times, "made"), (wave, RATE), share=1.0)
    np.testing.assert_allclose(whole.kept, wave, atol=1e-5)


def test_a_band_is_kept_and_the_other_removed() -> None:
    values = np.zeros((1, 4, 20))
    values[0, 0] = 1.0  # up to 1000 Hz
    heard = listen(Heatmap(values, ("a",), TIMES, "made", BANDS), (chord(), RATE), share=0.25)
    assert level(heard.kept, 700) == pytest.approx(0.3, abs=0.01)
    assert level(heard.kept, 3000) < 0.003
    assert level(heard.removed, 700) < 0.01
    assert level(heard.removed, 3000) == pytest.approx(0.3, abs=0.01)


def test_a_moment_is_kept() -> None:
    values = np.zeros((2, 20))
    values[1, 5:10] = [1, 2, 3, 4, 5]  # 0.5 to 1.0 s
    heard = listen(Heatmap(values, ("a", "b"), TIMES, "made"), (chord(), RATE), "b", share=0.25)
    energy = np.sqrt(np.mean(heard.kept.reshape(20, -1) ** 2, axis=1))
    np.testing.assert_allclose(energy[6:9], 0.3, atol=0.01)
    assert energy[:4].max() < 1e-6
    assert energy[11:].max() < 1e-6


def test_the_share_says_how_many_cells_are_kept() -> None:
    values = np.array([[3.0, -1.0, 5.0, 1.0], [0.5, 4.0, -2.0, 2.0]])
    for share, border in ((0.01, 5.0), (0.25, 4.0), (0.5, 2.0), (0.75, 0.5), (1.0, 0.5)):
        np.testing.assert_array_equal(highest(values, share), values >= border)
    # A map that rises all the time: its highest half is the second second, its highest fifth what is after 1.6 s.
    heat = Heatmap(np.arange(1.0, 21.0)[np.newaxis], ("a",), TIMES, "made")
    for share, first in ((0.5, 10), (0.2, 16)):
        kept = listen(heat, (chord(), RATE), share=share).kept
        energy = np.sqrt(np.mean(kept.reshape(20, -1) ** 2, axis=1))
        assert energy[: first - 1].max() < 1e-6
        np.testing.assert_allclose(energy[first + 1 : 19], 0.3, atol=0.01)


def test_what_speaks_against_a_tag_is_not_kept() -> None:
    """The highest quarter of a map may be below zero."""
    heard = listen(Heatmap(-np.ones((1, 20)), ("a",), TIMES, "made"), (chord(), RATE), share=0.25)
    assert np.abs(heard.kept).max() < 1e-6


def test_files_and_mistakes(tmp_path: Path) -> None:
    heat = Heatmap(np.ones((1, 20)), ("a",), TIMES, "made")
    heard = listen(heat, (4 * chord(), RATE), share=1.0)
    path = heard.save(tmp_path / "made" / "kept.wav")
    wave, rate = soundfile.read(path)
    assert rate == RATE
    np.testing.assert_allclose(wave, np.clip(4 * chord(), -1, 1), atol=1e-3)
    assert [path.name for path in path.parent.iterdir()] == ["kept.wav"]
    for call, sentence in (
        (lambda: heard.save(tmp_path / "kept.mp3"), r"a path that ends in \.wav"),
        (lambda: heard.save(tmp_path / "kept.wav", "all"), "part: expected kept or removed. Received: 'all'"),
        (lambda: listen(heat, (chord(), RATE), share=0.0), r"share: .* Received: 0\.0"),
        (lambda: listen(heat, (chord(), RATE), "b"), "rows: a. Received: 'b'"),
        (lambda: listen(Heatmap(np.ones((2, 20)), ("a", "b"), TIMES, "made"), (chord(), RATE)), "one of a, b"),
    ):
        with pytest.raises(ModelError, match=sentence):
            call()
