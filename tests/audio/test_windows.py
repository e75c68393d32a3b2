"""Windows: the cut, batches, means, stitching, and many clips at once."""

from __future__ import annotations

import io
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from keras_tagger import audio
from keras_tagger.audio.windows import (
    Stitcher,
    Window,
    Windowing,
    WindowMean,
    accumulate,
    accumulate_clips,
    batches,
    evenly_spaced,
    stacked,
)
from keras_tagger.errors import AudioError, AudioNotFoundError

RATE = 16000


def music(rate: int, seconds: float = 3.0) -> np.ndarray:
    """Two channels of gliding tones under a slow envelope: no stretch of it is like another."""
    t = np.arange(round(rate * seconds)) / rate
    left = 0.5 * np.sin(2 * np.pi * (300 * t + 90 * t**2)) * (0.6 + 0.4 * np.cos(2 * np.pi * 0.7 * t))
    right = 0.3 * np.sin(2 * np.pi * (700 * t - 50 * t**2))
    return np.stack([left, right], axis=1).astype(np.float32)


def encode(samples: np.ndarray, encoding: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 44100, format=encoding.upper())
    return file.getvalue()


def of_lengths(*lengths: int) -> Iterator[Window]:
    return (Window(0, np.full(length, index, np.float32), length) for index, length in enumerate(lengths))


@pytest.mark.parametrize("token", [1, 7, 100])
@pytest.mark.parametrize("n", [1, 99, 699, 700, 701, 799, 1399, 1400, 1401, 2099, 2100, 2765])
def test_windows_cover_the_audio_once(n: int, token: int):
    window = 700
    signal = np.arange(1, n + 1, dtype=np.float32)
    cut = list(Windowing(16000, window, token).cut((signal, 16000)))
    assert sum(w.new_samples for w in cut) == n
    if n <= window:
        assert [(w.start_sample, w.new_samples) for w in cut] == [(0, n)]
        np.testing.assert_array_equal(cut[0].waveform, signal)
        return
    starts = [i * window for i in range(n // window)]
    if n % window:
        starts.append(n - window)
    assert [w.start_sample for w in cut] == starts
    assert [w.new_samples for w in cut[: n // window]] == [window] * (n // window)
    for w in cut:
        np.testing.assert_array_equal(w.waveform, signal[w.start_sample : w.start_sample + window])


def test_windows_must_hold_whole_tokens():
    with pytest.raises(ValueError, match=r"multiple of token_samples\. Received: window_samples=700, token_samples=3"):
        Windowing(16000, 700, 3)


@pytest.mark.parametrize("encoding", ["array", "flac", "mp3"])
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.5), (0.3333, 2.7), (1.0, None), (2.5, 99.0)])
def test_windows_of_an_excerpt_are_those_of_the_excerpt_alone(encoding: str, start: float, end: float | None):
    samples = music(44100, 3.2)
    source = (samples, 44100) if encoding == "array" else encode(samples, encoding)
    excerpt = audio.load(source, 16000, start, end)
    # An mp3 is a little longer than what was encoded.
    stop = len(audio.load(source)) if end in (None, 99.0) else round(end * 16000)
    assert len(excerpt) == stop - round(start * 16000)
    cut = list(Windowing(16000, 9600, 160).cut(source, start, end))
    alone = list(Windowing(16000, 9600, 160).cut((excerpt, 16000)))
    places = [(w.start_sample, w.new_samples) for w in cut]
    assert places == [(w.start_sample, w.new_samples) for w in alone]
    assert places[0][0] == 0
    assert sum(new for _, new in places) == len(excerpt)
    for got, wanted in zip(cut, alone, strict=True):
        np.testing.assert_allclose(got.waveform, wanted.waveform, atol=1e-6)


def test_windows_refuse_impossible_arguments_at_once():
    source = (np.ones(16000, np.float32), 16000)
    with pytest.raises(AudioError, match=r"end_seconds after start_seconds=0\.5\. Received: 0\.5"):
        Windowing(16000, 700).cut(source, 0.5, 0.5)
    with pytest.raises(AudioError, match=r"start_seconds of 0 or more\. Received: -1\.0"):
        Windowing(16000, 700).cut(source, -1.0)
    with pytest.raises(AudioError, match=r"sample_rate to be a whole number of Hz .* Received: 0"):
        Windowing(0, 700)
    with pytest.raises(AudioError, match=r"start_seconds before the end of .* at 1\.000 s\. Received: 1\.0"):
        next(Windowing(16000, 700).cut(source, 1.0))


def test_windows_of_a_long_file_take_constant_memory(tmp_path: Path):
    path = tmp_path / "long.flac"
    second = (music(44100, 1.0) * 32767).astype(np.int16)
    with soundfile.SoundFile(path, "w", 44100, 2, "PCM_16", format="FLAC", compression_level=0.0) as file:
        for _ in range(20):
            file.write(np.tile(second, (60, 1)))
    next(Windowing(16000, 480_000).cut(path))
    tracemalloc.start()
    try:
        total = sum(window.new_samples for window in Windowing(16000, 480_000, 160).cut(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 20 * 60 * 16000
    assert peak < 24e6  # the whole is 77 MB, and 423 MB before mixing and resampling


# --- parts of a windowing


@pytest.mark.parametrize(("seconds", "samples"), [(1.0, 16_000), (0.5, 8000), (0.0001, 1000), (1.04, 17_000)])
def test_windows_of_seconds_are_whole_tokens(seconds: float, samples: int):
    assert Windowing(RATE, 7000, 1000).of_seconds(seconds) == Windowing(RATE, samples, 1000)


def test_columns_are_new_if_any_of_their_audio_is():
    windowing = Windowing(RATE, 8000, 1000)
    times = windowing.token_times(8)
    np.testing.assert_allclose(times, (np.arange(8) + 0.5) / 16)
    moved_back = Window(4500, np.zeros(8000, np.float32), 4500)
    assert windowing.is_new(moved_back, times).tolist() == [False] * 3 + [True] * 5
    for new, columns in ((1, 1), (1000, 1), (1001, 2), (7999, 8)):
        assert windowing.is_new(Window(0, np.zeros(8000, np.float32), new), times).sum() == columns
    assert windowing.is_new(Window(0, np.zeros(8000, np.float32), 8000), times).all()
    # Half a token is a token, and so is a single sample.
    assert windowing.is_new(Window(0, np.zeros(1500, np.float32), 1500), times[:2]).all()
    assert windowing.is_new(Window(0, np.zeros(1, np.float32), 1), times[:1]).all()
    # Two columns a token, and one for two tokens.
    halves = (np.arange(16) + 0.5) / 32
    assert windowing.is_new(moved_back, halves).tolist() == [False] * 7 + [True] * 9


@pytest.mark.parametrize(
    ("length", "starts"),
    [(700, [0]), (100, [0]), (703, [0]), (704, [0, 1, 2, 3]), (1500, [0, 200, 400, 600]), (1503, [0, 200, 400, 600])],
)
def test_evenly_spaced_windows_count_the_same(length: int, starts: list[int]):
    waveform = np.arange(length, dtype=np.float32)
    found = list(evenly_spaced(waveform, 700, 4))
    assert [window.start_sample for window in found] == starts
    assert {window.new_samples for window in found} == {1}
    for window in found:
        np.testing.assert_array_equal(window.waveform, waveform[window.start_sample : window.start_sample + 700])


# --- batches


def test_batches_keep_the_order_and_hold_one_length():
    found = list(batches(of_lengths(5, 5, 5, 5, 5, 3, 3, 5), 2))
    assert [[int(window.waveform[0]) for window in batch] for batch in found] == [[0, 1], [2, 3], [4], [5, 6], [7]]
    assert stacked(found[3]).tolist() == [[5.0] * 3, [6.0] * 3]
    assert list(batches([])) == []
    assert [len(batch) for batch in batches(of_lengths(*[4] * 17))] == [8, 8, 1]


def test_a_full_batch_does_not_wait_for_the_next_window():
    def windows() -> Iterator[Window]:
        yield from of_lengths(4, 4)
        raise AssertionError("a third window was asked for")

    assert len(next(batches(windows(), 2))) == 2


# --- putting together


def test_a_mean_counts_every_sample_once():
    mean = WindowMean()
    mean.add(Window(0, np.zeros(8, np.float32), 8), np.array([1.0, 0.5], np.float32))
    mean.add(Window(4, np.zeros(8, np.float32), 2), np.array([0.0, 1.0], np.float32))
    np.testing.assert_allclose(mean.value, [0.8, 0.6])
    assert mean.value.dtype == np.float64
    assert mean.samples == 10


def test_a_stitched_map_has_each_moment_once():
    """Of a signal in which every token has its own number: two windows of seven tokens, two and a half tokens more."""
    windowing = Windowing(RATE, 7000, 1000)
    signal = np.repeat(np.arange(17, dtype=np.float32), 1000)[:16_500]
    by_token, by_half, mean = Stitcher(windowing), Stitcher(windowing), WindowMean()
    for window in windowing.cut((signal, RATE)):
        tokens = window.waveform.reshape(7, 1000)[:, 0]
        by_token.add(window, np.stack([tokens, -tokens]))
        by_half.add(window, np.repeat(tokens, 2), (np.arange(14) + 0.5) / 32)
        mean.add(window, np.array(1.0))
    # The last window ends on the last sample: its 2500 new samples are the last two and a half of three tokens.
    values = np.array([*range(14), 13, 14, 15])
    np.testing.assert_array_equal(by_token.values, [values, -values])
    np.testing.assert_allclose(by_token.times, [*((np.arange(14) + 0.5) / 16), 14 / 16, 15 / 16, 1.0])
    np.testing.assert_array_equal(by_half.values, [*np.repeat(np.arange(14), 2), 13, 14, 14, 15, 15])
    np.testing.assert_allclose(by_half.times, [*((np.arange(28) + 0.5) / 32), *(np.arange(28.5, 33) / 32)])
    assert (mean.samples, float(mean.value)) == (16_500, 1.0)


# --- whole clips


class Listed:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.values: list[tuple[int, Any]] = []

    def add(self, window: Window, value: Any, /) -> None:
        self.values.append((window.start_sample, value))


def levels(batch: np.ndarray) -> np.ndarray:
    return batch.mean(axis=1)


@pytest.mark.parametrize("kind", ["array", "bytes", "path"])
@pytest.mark.parametrize("per_batch", [1, 3])
def test_a_clip_is_accumulated_window_by_window(kind: str, per_batch: int, tmp_path: Path):
    signal = np.repeat(np.linspace(-0.9, 0.9, 30), 1000).astype(np.float32)[:29_700]
    soundfile.write(tmp_path / "clip.wav", signal, RATE, subtype="FLOAT")
    file = (tmp_path / "clip.wav").read_bytes()
    source = {"array": (signal, RATE), "bytes": file, "path": tmp_path / "clip.wav"}[kind]
    windowing = Windowing(RATE, 4000, 1000)
    sizes = []

    def run(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return levels(batch)

    found = accumulate(source, windowing, run, Listed(), per_batch)
    cut = list(windowing.cut((signal, RATE)))
    assert [start for start, _ in found.values] == [window.start_sample for window in cut]
    np.testing.assert_allclose([value for _, value in found.values], [w.waveform.mean() for w in cut], atol=1e-6)
    assert sizes == ([8] if kind == "array" else [1] * 8 if per_batch == 1 else [3, 3, 2])


def test_errors_of_a_clip_are_raised():
    windowing = Windowing(RATE, 4000)
    with pytest.raises(AudioNotFoundError, match=r"none\.wav"):
        accumulate("none.wav", windowing, levels, WindowMean())
    with pytest.raises(AudioError, match="finite samples"):
        accumulate((np.array([np.nan]), RATE), windowing, levels, WindowMean())

    def fail(batch: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        accumulate((np.zeros(9, np.float32), RATE), windowing, fail, WindowMean())


@pytest.mark.parametrize("ahead", [0, 1, 8])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_clips_share_batches_and_keep_their_places(batch_size: int, ahead: int):
    """Clips of 1 to 4 windows, one without any, and one that breaks off."""
    counts = {"a": 3, "b": 1, "broken": 2, "c": 4, "none": 0, "d": 1}

    def windows(name: str, count: int) -> Iterator[Window]:
        for index in range(count):
            yield Window(index, np.full(5, ord(name[0]), np.float32), 5)
        if name == "broken":
            raise AudioError("half a file")

    clips = ((name, windows(name, count)) for name, count in counts.items())
    found = list(accumulate_clips(clips, levels, Listed, batch_size, ahead))
    assert [name for name, _ in found] == list(counts)
    for name, result in found:
        if name == "broken":
            assert isinstance(result, AudioError)
        else:
            assert isinstance(result, Listed)
            assert result.values == [(index, float(ord(name[0]))) for index in range(counts[name])]


def test_clips_are_read_in_the_background_or_not():
    def threads(ahead: int) -> set[str]:
        found = set()

        def windows() -> Iterator[Window]:
            found.add(threading.current_thread().name.split("_")[0])
            yield from of_lengths(4)

        list(accumulate_clips([(None, windows())], levels, Listed, 8, ahead))
        return found

    assert threads(0) == {threading.current_thread().name}
    assert threads(2) == {"read-ahead"}


def test_a_clip_is_complete_before_all_others_are_read():
    begun = []

    def clips() -> Iterator[tuple[int, Iterator[Window]]]:
        for number in range(1000):
            begun.append(number)
            yield number, of_lengths(4)

    found = accumulate_clips(clips(), levels, WindowMean, 2, 4)
    assert begun == []
    assert next(found)[0] == 0
    assert len(begun) < 20
    found.close()


@pytest.mark.parametrize("ahead", [0, 4])
def test_a_result_does_not_wait_for_the_next_clip(ahead: int):
    """The second clip cannot be decoded before the first one's result is there."""
    shown = threading.Event()

    def second() -> Iterator[Window]:
        assert shown.wait(30)
        yield from of_lengths(4)

    clips = [("first", of_lengths(4, 4)), ("second", second())]
    names = []
    for name, _ in accumulate_clips(clips, levels, WindowMean, 1, ahead):
        names.append(name)
        shown.set()
    assert names == ["first", "second"]
