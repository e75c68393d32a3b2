"""Silence, channels that cancel each other, and samples out of range: what is used and what a listener is told."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
import soundfile

from keras_tagger import audio
from keras_tagger.audio.levels import SILENT_PEAK
from keras_tagger.audio.windows import Windowing
from keras_tagger.errors import AudioError, AudioWarning

RATE = 8000


def read(source, rate=RATE, start=0.0, end=None):
    """Return the mono samples and the kinds of the warnings."""
    found: list[AudioWarning] = []
    wave = audio.load(source, rate, start, end, warnings=found)
    return wave, [warning.kind for warning in found]


def texts(source, rate=RATE, start=0.0, end=None):
    found: list[AudioWarning] = []
    audio.load(source, rate, start, end, warnings=found)
    return [str(warning) for warning in found]


def noise(seconds=4.0, seed=0):
    """Return low noise, which lossy coders keep better than white noise."""
    white = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return np.convolve(0.1 * white, np.ones(8) / 4, mode="same").astype(np.float32)


def stereo(left, right):
    return np.stack([left, right], axis=1).astype(np.float32)


# --- channels that cancel each other


@pytest.mark.parametrize("gain", [1.0, 0.98, 0.9, 1 / 0.9])
def test_an_inverted_channel_is_replaced_by_the_other(gain):
    left = noise()
    wave, kinds = read((stereo(left, -gain * left), RATE))
    assert kinds == ["cancelled"]
    np.testing.assert_array_equal(wave, left)


@pytest.mark.parametrize(
    ("container", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]
)
def test_inverted_channels_are_found_after_coding(container, subtype):
    """Lossy coders leave a rest of their own making, which has its own tags."""
    left = noise(3.0)
    file = io.BytesIO()
    soundfile.write(file, stereo(left, -left), RATE, format=container, subtype=subtype)
    wave, kinds = read(file.getvalue())
    assert kinds == ["cancelled"]
    assert np.corrcoef(wave[: len(left)], left[: len(wave)])[0, 1] > 0.9


def test_the_louder_of_channels_is_used():
    left = noise()
    wave, kinds = read((np.stack([0.01 * left, left, -left, 0 * left], axis=1), RATE))
    assert kinds == ["cancelled"]
    np.testing.assert_array_equal(wave, left)


WIDE = {
    "equal": (1.0, 0.0),
    "side as loud as mid": (1.0, 1.0),
    "side 10 dB above mid": (1.0, 3.2),
}


@pytest.mark.parametrize(("mid", "side"), WIDE.values(), ids=WIDE)
def test_wide_stereo_is_averaged(mid, side):
    middle, difference = mid * noise(seed=1), side * noise(seed=2)
    both = stereo(middle + difference, middle - difference)
    wave, kinds = read((both, RATE))
    assert kinds == []
    np.testing.assert_allclose(wave, both.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("channels", [2, 3, 6, 64])
def test_a_single_sounding_channel_is_averaged(channels):
    both = np.zeros((2 * RATE, channels), np.float32)
    both[:, -1] = noise(2.0)
    wave, kinds = read((both, RATE))
    assert kinds == [] if channels < 20 else ["level"]
    np.testing.assert_allclose(wave, both.mean(axis=1), atol=1e-6)


def partly_inverted():
    """Channels that are equal from 3 to 6 s, silent from 9 to 11 s and inverted otherwise."""
    left = noise(14.5)
    both = stereo(left, -0.95 * left)
    both[3 * RATE : 6 * RATE, 1] = left[3 * RATE : 6 * RATE]
    both[9 * RATE : 11 * RATE] = 0
    return both


def test_each_second_is_judged_alone_and_silence_does_not_count():
    both = partly_inverted()
    wave, _ = read((both, RATE))
    np.testing.assert_allclose(wave, both[:, 0], atol=1e-7)
    (text,) = texts((both, RATE))
    assert "cancel each other from 0.000 to 3.000 s and from 6.000 to 9.000 s and from 11.000 to 14.500 s, so" in text


def test_only_some_of_many_places_are_named():
    left = noise(12.0)
    right = np.where(np.arange(len(left)) // RATE % 2, left, -left)
    (text,) = texts((stereo(left, right), RATE))
    assert text.endswith("from 4.000 to 5.000 s and in 3 more places, so one channel is used instead.")


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize(
    ("start", "end"), [(0.3, 1.0), (2.5, 3.5), (3.0, 5.9), (5.97, 6.02), (7.7, 14.2), (12.9, None)]
)
@pytest.mark.parametrize("kind", ["array", "wav", "ogg"])
def test_an_excerpt_is_mixed_like_the_whole(kind, start, end, rate):
    source = (partly_inverted(), RATE)
    if kind != "array":
        file = io.BytesIO()
        soundfile.write(file, source[0], RATE, format=kind.upper())
        source = file.getvalue()
    whole, _ = read(source, rate)
    part, kinds = read(source, rate, start, end)
    expected = whole[round(start * rate) : None if end is None else round(end * rate)]
    np.testing.assert_allclose(part, expected, atol=1e-5)
    assert kinds == ([] if (start, end) == (3.0, 5.9) else ["cancelled"])


@pytest.mark.parametrize("kind", ["array", "wav"])
def test_a_second_is_judged_as_a_whole_where_an_excerpt_ends_in_it(kind):
    """From 2.0 to 2.5 s the channels are inverted, and from 2.5 s on they are equal and loud."""
    left = noise()
    left[2 * RATE : 5 * RATE // 2] *= 0.2
    right = left.copy()
    right[2 * RATE : 5 * RATE // 2] *= -1
    source = (stereo(left, right), RATE)
    if kind == "wav":
        file = io.BytesIO()
        soundfile.write(file, source[0], RATE, format="WAV", subtype="FLOAT")
        source = file.getvalue()
    part, kinds = read(source, RATE, 1.0, 2.3)
    np.testing.assert_allclose(part[RATE:], 0, atol=1e-7)
    assert kinds == []


def test_the_place_in_an_excerpt_counts_from_the_start_of_the_file():
    left = noise()
    (text,) = texts((stereo(left, -left), RATE), start=0.5, end=1.25)
    assert "an array of shape (32000, 2)" in text
    assert "cancel each other from 0.500 s to 1.250 s, so one channel is used instead." in text
    (text,) = texts((partly_inverted(), RATE), start=5.0, end=7.5)
    assert "cancel each other from 6.000 to 7.500 s, so" in text


def chained():
    """Join two ogg files, of which the channels of the second cancel each other."""
    parts = []
    for gain in (1.0, -1.0):
        left = noise(2.5, seed=4)
        file = io.BytesIO()
        soundfile.write(file, stereo(left, gain * left), RATE, format="OGG")
        parts.append(file.getvalue())
    return b"".join(parts)


@pytest.mark.parametrize(("start", "end", "place"), [(0, None, "2.500 to 5.000"), (3.1, 4.25, "3.100 s to 4.250")])
def test_channels_cancel_in_a_later_part_of_a_chain(start, end, place):
    whole, _ = read(chained(), 16000)
    part, kinds = read(chained(), 16000, start, end)
    assert kinds == ["cancelled"]
    assert f"cancel each other from {place} s, so one" in texts(chained(), 16000, start, end)[0]
    np.testing.assert_allclose(
        part, whole[round(start * 16000) : None if end is None else round(end * 16000)], atol=1e-5
    )
    assert np.std(whole[40000:]) == pytest.approx(np.std(whole[:40000]), rel=0.3)


def test_memory_does_not_grow_with_the_length(tmp_path):
    path = tmp_path / "long.wav"
    left = noise(1.0)
    with soundfile.SoundFile(path, "w", 44100, 2, "PCM_16") as file:
        for _ in range(1200):
            file.write(stereo(left, -left))
    tracemalloc.start()
    try:
        for _ in audio.blocks(path, block_seconds=1.0, warnings=[]):
            pass
        assert tracemalloc.get_traced_memory()[1] < 8e6 < path.stat().st_size
    finally:
        tracemalloc.stop()


# --- silence

SILENT = {
    "zeros": np.zeros(RATE, np.float32),
    "dither": np.random.default_rng(0).integers(-1, 2, RATE).astype(np.int16),
    "two steps of 16 bits": np.tile(np.array([2, -2], np.int16), RATE // 2),
    "constant": np.full(RATE, 0.1),
    "8 bits, off by one": np.full(RATE, 127, np.uint8),
    "stereo": np.zeros((RATE, 2), np.int16),
}


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("array", SILENT.values(), ids=SILENT)
def test_silence_is_reported(array, rate):
    assert read((array, RATE), rate)[1] == ["silent"]


def test_silent_files_are_reported(tmp_path):
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT"):
        path = tmp_path / f"{subtype}.wav"
        soundfile.write(path, np.zeros(RATE), RATE, subtype=subtype)
        assert texts(str(path)) == [f"'{path}' is silent: there is nothing to hear."]
    for container, subtype in (("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")):
        file = io.BytesIO()
        soundfile.write(file, np.zeros((2 * RATE, 2)), RATE, format=container, subtype=subtype)
        assert read(file.getvalue())[1] == ["silent"], subtype


def test_inverted_dither_is_silence_and_nothing_else():
    dither = noise() * SILENT_PEAK / np.abs(noise()).max()
    assert read((stereo(dither, -dither), RATE))[1] == ["silent"]


def test_one_click_is_not_silence():
    wave = np.zeros(RATE, np.float32)
    wave[123] = 3 * SILENT_PEAK
    assert read((wave, RATE))[1] == ["level"]


def test_an_excerpt_is_silent_if_its_own_samples_are():
    wave = noise(4.0)
    wave[RATE : 2 * RATE] = 0
    assert texts((wave, RATE), start=1.0, end=2.0) == [
        "an array of shape (32000,) and type float32 is silent from 1.000 s to 2.000 s: there is nothing to hear."
    ]
    assert read((wave, RATE), start=1.0, end=2.01)[1] == []
    assert read((wave, RATE), start=0.99, end=2.0)[1] == []
    assert read((wave, RATE))[1] == []


# --- level


def test_integers_stored_as_floats_are_reported(tmp_path):
    wave = np.round(noise() * 32768)
    (text,) = texts((wave, RATE))
    assert text == (
        f"an array of shape (32000,) and type float32: the samples reach {np.abs(wave).max():.6g}, expected about "
        "-1..1. Divide integers by their full scale, which is 32768 for 16 bits."
    )
    path = tmp_path / "scaled.wav"
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    assert read(str(path))[1] == ["level"]


@pytest.mark.parametrize(("peak", "kinds"), [(0.004, ["level"]), (0.006, []), (1.0, []), (7.9, []), (8.1, ["level"])])
def test_peaks_between_the_limits_are_usual(peak, kinds):
    wave = noise()
    wave *= peak / np.abs(wave).max()
    assert read((wave, RATE))[1] == kinds


def test_24_bit_integers_in_an_int32_array_are_reported():
    wave = (noise() * 2**23).astype(np.int32)
    assert read((wave, RATE))[1] == ["level"]


# --- how warnings travel


def test_without_a_list_warnings_are_issued():
    with pytest.warns(AudioWarning, match="is silent") as caught:
        audio.load((np.zeros(RATE), RATE), RATE)
    assert [warning.message.kind for warning in caught] == ["silent"]


@pytest.mark.parametrize("block_seconds", [0.25, 0.3, 10.0])
def test_warnings_are_complete_with_the_last_block(block_seconds):
    found: list[AudioWarning] = []
    parts = audio.blocks((np.zeros(2 * RATE), RATE), 16000, block_seconds, warnings=found)
    seen = [len(found) for _ in parts]
    assert seen[-1] == 1


def test_windows_collect_warnings():
    found: list[AudioWarning] = []
    windows = list(Windowing(RATE, RATE).cut((np.zeros(3 * RATE), RATE), warnings=found))
    assert len(windows) == 3
    assert [warning.kind for warning in found] == ["silent"]


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_place(channels, bad):
    wave = np.repeat(noise()[:, np.newaxis], channels, axis=1)
    wave[3 * RATE // 2, channels // 2] = bad
    with pytest.raises(AudioError, match=r"NaN or infinity at 1\.500 s"):
        audio.load((wave, RATE), RATE)
