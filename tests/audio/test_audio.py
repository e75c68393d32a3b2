from __future__ import annotations

import functools
import io
import os
import re
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_tagger import audio
from keras_tagger.audio.containers import find_layout
from keras_tagger.audio.ogg import page_checksum
from keras_tagger.audio.streams import View, in_memory, open_stream
from keras_tagger.audio.windows import Windowing
from keras_tagger.errors import AudioError, AudioNotFoundError, AudioWarning

ENCODINGS = {
    "wav8": ("WAV", "PCM_U8"),
    "wav16": ("WAV", "PCM_16"),
    "wav24": ("WAV", "PCM_24"),
    "wav32": ("WAV", "PCM_32"),
    "wavfloat": ("WAV", "FLOAT"),
    "wavdouble": ("WAV", "DOUBLE"),
    "aiff": ("AIFF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def music(rate: int, seconds: float = 3.0) -> np.ndarray:
    """Make two channels of gliding tones with a slow envelope, so that no two stretches are alike."""
    t = np.arange(round(rate * seconds)) / rate
    left = 0.5 * np.sin(2 * np.pi * (300 * t + 90 * t**2)) * (0.6 + 0.4 * np.cos(2 * np.pi * 0.7 * t))
    right = 0.3 * np.sin(2 * np.pi * (700 * t - 50 * t**2))
    return np.stack([left, right], axis=1).astype(np.float32)


def encode(samples: np.ndarray, rate: int, encoding: str) -> bytes:
    container, subtype = ENCODINGS[encoding]
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


@functools.cache
def song(encoding: str, seconds: float = 3.0) -> bytes:
    """Encode `music` at 44.1 kHz, or 48 kHz for opus."""
    rate = 48000 if encoding == "opus" else 44100
    return encode(music(rate, seconds), rate, encoding)


@functools.cache
def heard(encoding: str, seconds: float) -> np.ndarray:
    """Decode a `song`; the array cannot be changed."""
    whole = audio.load(song(encoding, seconds))
    whole.setflags(write=False)
    return whole


def wav16(
    data: bytes, rate: int = 16000, riff_size: int | None = None, data_size: int | None = None, channels: int = 1
) -> bytes:
    riff_size = 36 + len(data) if riff_size is None else riff_size
    data_size = len(data) if data_size is None else data_size
    form = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", riff_size, b"WAVE", b"fmt ", 16, 1, channels, rate, 2 * rate, 2, 16)
    return form + struct.pack("<4sI", b"data", data_size) + data


def id3(size: int) -> bytes:
    """Make an ID3v2.3 tag with a picture of `size` - 10 bytes that contains false mp3 frame headers."""
    length = bytes((size >> shift) & 127 for shift in (21, 14, 7, 0))
    picture = (b"\xff\xfb\x90\x64" * size)[: size - 10]
    return b"ID3\x03\x00\x00" + length + b"APIC" + struct.pack(">I", size - 10) + b"\0\0" + picture


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    n = min(len(a), len(b))
    return float(np.corrcoef(a[:n], b[:n])[0, 1])


def sine(frequency: float, rate: int, seconds: float, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


# --- formats


@pytest.mark.parametrize("encoding", list(ENCODINGS))
@pytest.mark.parametrize("source", ["bytes", "extensionless", "wrong.wav", "wrong.raw", "wrong.txt"])
def test_every_format_decodes_whatever_its_name(encoding: str, source: str, tmp_path: Path):
    rate = 48000 if encoding == "opus" else 44100  # opus knows 48 kHz and its divisors only
    original = music(rate)
    data = song(encoding)
    path = tmp_path / source
    path.write_bytes(data)
    decoded = audio.load(data if source == "bytes" else path)
    expected = audio.load((original, rate))
    assert decoded.dtype == np.float32
    assert decoded.ndim == 1
    assert abs(len(decoded) - 3 * 16000) <= 0.06 * 16000
    assert correlation(decoded, expected) > 0.99
    # As loud as it was, which a correlation does not tell.
    assert np.std(decoded) == pytest.approx(np.std(expected), rel=0.03)
    if encoding not in ("opus", "mp3", "vorbis", "wav8"):
        assert np.abs(decoded - expected).max() < 1e-4

    about = audio.info(data if source == "bytes" else path)
    assert (about.sample_rate, about.channels) == (rate, 2)
    assert about.seconds == pytest.approx(3.0, abs=0.06)
    assert about.format == " ".join(ENCODINGS[encoding])


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22255, 44100, 48000, 96000, 192000])
def test_resampling_keeps_a_sine_and_gives_the_stated_length(rate: int):
    samples = sine(1000, rate, 1.37)
    out = audio.load((samples, rate))
    assert len(out) == -(-len(samples) * 16000 // rate)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(len(out)) / 16000)
    assert np.abs(out - expected)[800:-800].max() < 1e-3


def test_resampling_removes_what_the_new_rate_cannot_hold():
    out = audio.load((sine(12000, 44100, 1.0), 44100))
    assert np.abs(out[800:-800]).max() < 1e-4


def test_channels_are_averaged():
    both = np.stack([sine(440, 44100, 1.0, 0.6), sine(880, 44100, 1.0, 0.2), np.zeros(44100, np.float32)], axis=1)
    np.testing.assert_allclose(audio.load((both, 44100), 44100), both.mean(axis=1), atol=1e-6)
    data = encode(both[:, :2], 44100, "wavfloat")
    np.testing.assert_allclose(audio.load(data), audio.load((both[:, :2].mean(axis=1), 44100)), atol=1e-6)


def test_array_types_have_their_scales():
    assert audio.load((np.array([-32768, 0, 16384], np.int16), 16000)).tolist() == [-1.0, 0.0, 0.5]
    assert audio.load((np.array([-32768, 16384], ">i2"), 16000)).tolist() == [-1.0, 0.5]
    assert audio.load((np.array([-(2**31), 2**30], np.int32), 16000)).tolist() == [-1.0, 0.5]
    assert audio.load((np.array([0, 128, 192], np.uint8), 16000)).tolist() == [-1.0, 0.0, 0.5]
    assert audio.load((np.array([3.5, -7.0]), 16000.0)).tolist() == [3.5, -7.0]  # beyond [-1, 1] left alone
    assert audio.load((np.array([[1.0, 0.0]], np.float16), np.int64(16000))).tolist() == [0.5]
    assert audio.info((np.zeros((800, 2), np.int16), 16000)) == audio.AudioInfo(0.05, 16000, 2, "array int16")


@pytest.mark.parametrize("lead", [id3(300), id3(200_000), id3(300) + id3(5000), id3(300) + bytes(3000), bytes(3000)])
def test_mp3_behind_tags_and_padding(lead: bytes):
    data = song("mp3")
    np.testing.assert_array_equal(audio.load(lead + data + b"TAG" + bytes(125)), audio.load(data))


def test_ogg_with_a_tag_behind_it():
    data = song("vorbis")
    np.testing.assert_array_equal(audio.load(data + b"TAG" + bytes(125)), audio.load(data))


def mp3_without_info_frame(samples: np.ndarray) -> bytes:
    """Make an mp3 of variable bit rate without a Xing frame, like that of an interrupted encoder or a cutter."""
    file = io.BytesIO()
    soundfile.write(file, samples, 44100, format="MP3", bitrate_mode="VARIABLE", compression_level=0.0)
    data = file.getvalue()
    kbps = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[data[2] >> 4]
    assert b"Xing" in data[:64]
    return data[144000 * kbps // 44100 + (data[2] >> 1 & 1) :]


@pytest.mark.parametrize("loud_first", [True, False])
def test_variable_rate_mp3_without_info_frame_is_decoded_whole(loud_first: bool):
    loud = np.random.default_rng(0).standard_normal(44100 * 4).astype(np.float32) * 0.3
    quiet = sine(440, 44100, 8.0, 0.1)
    samples = np.concatenate([loud, quiet] if loud_first else [quiet, loud])
    data = mp3_without_info_frame(samples)
    decoded = audio.load(data)
    assert len(decoded) / 16000 == pytest.approx(12.0, abs=0.1)
    assert audio.info(data).seconds == pytest.approx(len(decoded) / 16000, abs=1e-3)
    excerpt = audio.load(data, start_seconds=10.0, end_seconds=11.0)
    np.testing.assert_allclose(excerpt, decoded[160000:176000], atol=1e-5)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_streamed_wav_is_read_to_its_end(size: int):
    samples = np.arange(1000, dtype="<i2")
    data = wav16(samples.tobytes(), riff_size=min(size + 36, 0xFFFFFFFF), data_size=size)
    np.testing.assert_array_equal(audio.load(data), samples / np.float32(32768))


def test_flac_of_unknown_length_is_decoded_whole():
    data = bytearray(song("flac"))
    data[21] &= 0xF0  # the low 36 bits of these bytes are STREAMINFO's total samples
    data[22:26] = bytes(4)
    expected = audio.load(song("flac"))
    assert audio.info(bytes(data)).seconds == 3.0
    np.testing.assert_array_equal(audio.load(bytes(data)), expected)
    np.testing.assert_allclose(audio.load(bytes(data), start_seconds=2.0), expected[32000:], atol=1e-6)
    with pytest.raises(AudioError, match=r"before the end of .* at 3\.000 s"):
        audio.load(bytes(data), start_seconds=4.0)


def test_silence_is_zeros_and_one_sample_is_audio():
    assert not audio.load(wav16(bytes(3200))).any()
    assert audio.load(wav16(struct.pack("<h", 16384))).tolist() == [0.5]
    for rate in (8000, 44100, 192000):
        assert len(audio.load((np.ones(1, np.float32), rate))) == -(-16000 // rate)


# --- blocks and excerpts


@pytest.mark.parametrize("rate", [16000, 22255, 44100])
def test_blocks_join_to_the_whole(rate: int):
    samples = np.random.default_rng(1).standard_normal((rate * 9, 2)).astype(np.float32)
    whole = audio.load((samples, rate))
    parts = list(audio.blocks((samples, rate), block_seconds=0.25))
    assert [len(part) for part in parts] == [4000] * 36
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


@pytest.mark.parametrize("encoding", ["wav16", "flac", "vorbis", "opus", "mp3"])
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.1), (0.3333, 1.7), (7.00001, 8.2), (11.9, None), (4.0, 99.0)])
def test_excerpt_is_a_slice_of_the_whole(encoding: str, start: float, end: float | None):
    data, whole = song(encoding, 12.1), heard(encoding, 12.1)
    stop = len(whole) if end is None else round(end * 16000)
    excerpt = audio.load(data, start_seconds=start, end_seconds=end)
    np.testing.assert_allclose(excerpt, whole[round(start * 16000) : stop], atol=1e-4)


def test_excerpt_between_rates_without_a_common_divisor():
    samples = np.random.default_rng(2).standard_normal(44101 * 4).astype(np.float32)
    whole = audio.load((samples, 44101))
    np.testing.assert_allclose(audio.load((samples, 44101), 16000, 2.7, 3.1), whole[43200:49600], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"start_seconds": 3.0}, r"start_seconds before the end of .* at 3\.000 s. Received: 3\.0"),
        ({"start_seconds": -1.0}, "start_seconds of 0 or more. Received: -1.0"),
        ({"start_seconds": float("nan")}, "start_seconds of 0 or more. Received: nan"),
        ({"start_seconds": 2.0, "end_seconds": 2.0}, r"end_seconds after start_seconds=2\.0. Received: 2\.0"),
        ({"sample_rate": 0}, "sample_rate to be a whole number of Hz .* Received: 0"),
    ],
)
def test_impossible_excerpts(arguments: dict, words: str):
    with pytest.raises(AudioError, match=words):
        audio.load(song("flac"), **arguments)
    with pytest.raises(AudioError, match="block_seconds above 0"):
        audio.blocks(b"", block_seconds=0.0)


# --- bad input


def with_hole(data: bytes) -> bytes:
    third = len(data) // 3
    return data[:third] + bytes(third) + data[2 * third :]


FLAC = song("flac")
MP3 = song("mp3")
VORBIS = song("vorbis")
OPUS = song("opus")
NOT_AUDIO = "Expected audio .* none of these or has a damaged header"
BAD_FILES = {
    "empty file": (b"", "Expected audio. .* empty"),
    "text renamed": (b"This is a shopping list.\n" * 500, NOT_AUDIO),
    "random bytes": (np.random.default_rng(0).bytes(50_000), NOT_AUDIO),
    "text in utf-16": ("\ufeffshopping list".encode("utf-16-le") * 99, NOT_AUDIO),
    "truncated flac": (FLAC[: len(FLAC) // 2], r"truncated or corrupt at or after .* of 3\.000 s"),
    "truncated wav": (wav16(bytes(4000))[:2044], "4000 bytes of samples, .* truncated and has 2000 bytes"),
    "truncated aiff": (song("aiff")[:-20_000], "bytes of samples, .* truncated"),
    "truncated mp3": (MP3[: len(MP3) // 2], r"truncated or corrupt at or after 1\.\d+ s of 3\.000 s"),
    "truncated vorbis": (VORBIS[: len(VORBIS) // 2], "truncated within its last page"),
    "truncated opus": (OPUS[:-1], "truncated within its last page"),
    "vorbis with a hole": (with_hole(VORBIS), r"complete audio\. .* damaged at 0\.000 s: about [12]\.\d+ s of sound"),
    "vorbis filled up with zeros": (VORBIS[:9000] + bytes(6000), r"damaged at 1\.\d+ s: about 1\.8\d+ s of sound"),
    "mp3 filled up with zeros": (MP3[:4000] + bytes(200_000), r"damaged at 0\.4\d+ s: .* not mp3 frames"),
    "0 Hz": (wav16(bytes(400), rate=0), "a sample rate above 0 Hz. .* says 0 Hz"),
    "header cut within its format": (wav16(bytes(400))[:22], NOT_AUDIO),
    "0 channels": (wav16(bytes(400), channels=0), "from 1 to 1024 channels. .* says 0 channels"),
    "65535 channels": (wav16(bytes(400), channels=65535), "from 1 to 1024 channels. .* says 65535 channels"),
    "an image renamed": (b"\x89PNG\r\n\x1a\n" + bytes(400), "Expected audio .*, which is a PNG image"),
    "aac": (b"\0\0\0\x1cftypM4A \0\0\2\0" + bytes(400), "Expected audio .*, which is MP4 or M4A"),
    "an answer of a web server": (b"\n<!DOCTYPE html><html>404", "Expected audio .*, which is a web page"),
    "1 Hz": (wav16(bytes(400), rate=1), "whole number of Hz from 1000 to 1000000. Received: 1"),
    "no samples": (wav16(b""), "holds no samples"),
    "NaN in a float wav": (
        encode(np.r_[np.zeros(8000), np.nan, np.zeros(99)], 16000, "wavfloat"),
        r"finite samples. .* NaN or infinity at 0\.500 s",
    ),
}


@pytest.mark.parametrize("case", list(BAD_FILES))
def test_bad_files_are_named_in_one_sentence(case: str, tmp_path: Path):
    data, words = BAD_FILES[case]
    path = tmp_path / "song.mp3"
    path.write_bytes(data)
    with pytest.raises(AudioError, match=words) as raised:
        audio.load(path)
    text = str(raised.value)
    assert text.startswith("Expected ")
    assert "\n" not in text
    assert "Received: " in text
    if case != "1 Hz":
        assert "song.mp3" in text
    with pytest.raises(AudioError, match=words):
        list(Windowing(16000, 16000).cut(data))


def test_truncation_is_raised_on_the_way_after_good_blocks():
    data = song("flac", 60.0)
    parts = audio.blocks(data[: len(data) // 2], block_seconds=1.0)
    for _ in range(20):
        assert len(next(parts)) == 16000
    with pytest.raises(AudioError, match="truncated or corrupt"):
        list(parts)


def test_an_mp3_without_length_is_decoded_as_far_as_it_goes():
    data = mp3_without_info_frame(np.tile(sine(440, 44100, 1.0), 10))
    half = audio.load(data[: len(data) // 2])
    assert len(half) / 16000 == pytest.approx(5.0, abs=0.3)


@pytest.mark.parametrize("path", ["nothing.wav", "nothing/at/all.wav", "file/below.wav", ""])
def test_missing_paths(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"x")
    with pytest.raises(AudioNotFoundError, match=f"Expected an audio file. Received: '{path}', which does not exist"):
        audio.info(path)


def test_directories_pipes_and_odd_paths(tmp_path: Path):
    with pytest.raises(AudioError, match="which is a directory"):
        audio.load(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match=r"pipe\.wav', which is not a regular file"):
        audio.load(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="null byte"):
        audio.load("a\0b")
    with pytest.raises(AudioError, match="a readable file"):
        audio.load("x" * 5000)


def test_permission_denied(tmp_path: Path):
    path = tmp_path / "locked.wav"
    path.write_bytes(wav16(bytes(400)))
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(AudioError, match=r"a readable file. Received: '.*locked\.wav' \(Permission denied\)"):
            audio.load(path)
    finally:
        os.seteuid(user)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "a path, bytes, a binary file or a tuple .* type NoneType"),
        (7, "type int"),
        (np.zeros(9), "type ndarray"),
        ((16000, np.zeros(9)), "a numpy array and a sample rate .* type int"),
        ((np.zeros(0), 16000), "at least one sample"),
        ((np.zeros((2, 3, 4)), 16000), r"\[samples\] or \[samples, channels\]. .*\(2, 3, 4\)"),
        ((np.zeros((2, 9000)), 16000), r"at most 64 channels. .* looks like \[channels, samples\]"),
        ((np.zeros(9, np.int64), 16000), "floats, int16, int32 or uint8. .* int64"),
        ((np.zeros(9, bool), 16000), "floats, int16, int32 or uint8. .* bool"),
        ((np.array([0.0, np.nan]), 16000), "finite samples"),
        ((np.array([[0.0, np.inf]]), 16000), "finite samples"),
        ((np.array([1e300]), 16000), "finite samples"),
        ((np.zeros(9), 0), "whole number of Hz .* Received: 0"),
        ((np.zeros(9), -44100), "Received: -44100"),
        ((np.zeros(9), 16000.5), r"Received: 16000\.5"),
        ((np.zeros(9), float("nan")), "Received: nan"),
        ((np.zeros(9), "16000"), "Received: '16000'"),
        ((np.zeros(9), None), "Received: None"),
    ],
)
def test_unusable_sources(source: object, words: str):
    with pytest.raises(AudioError, match=words):
        audio.load(source)


# --- joined and damaged files


def warned(data: bytes) -> tuple[np.ndarray, str]:
    """Load a file; return it with what was said of damage."""
    warnings: list[AudioWarning] = []
    waveform = audio.load(data, warnings=warnings)
    assert all(warning.kind == "damaged" for warning in warnings)
    return waveform, " ".join(map(str, warnings))


def joined_files() -> dict[str, list[bytes]]:
    """Make files that are joined as `cat` does, of different rates and numbers of channels."""
    mono = music(22050, 2.0)[:, 0]
    return {
        "vorbis": [VORBIS, encode(mono, 22050, "vorbis")],
        "vorbis and opus": [VORBIS, OPUS],
        "mp3": [MP3, encode(mono, 22050, "mp3"), MP3],
        "mp3 with tags": [id3(300) + MP3 + b"TAG" + bytes(125), id3(5000) + encode(mono, 22050, "mp3")],
        "mp3 without Info frames": [mp3_without_info_frame(music(44100)), mp3_without_info_frame(music(44100))],
        "flac": [FLAC, encode(mono, 22050, "flac")],
        "wav": [song("wav16"), encode(mono, 22050, "wav24")],
        "aiff": [song("aiff")] * 2,
    }


@pytest.mark.parametrize("kind", list(joined_files()))
def test_every_one_of_several_joined_files_is_read(kind: str):
    parts = joined_files()[kind]
    whole, words = warned(b"".join(parts))
    alone = np.concatenate([audio.load(part) for part in parts])
    assert words == ""
    assert abs(len(whole) - len(alone)) <= 0.08 * 16000
    assert audio.info(b"".join(parts)).seconds == pytest.approx(len(whole) / 16000, abs=1e-3)
    last = len(audio.load(parts[-1]))
    assert correlation(whole[len(whole) - last + 800 :], audio.load(parts[-1])[800:]) > 0.98
    for start in (0.5, 2.9, 3.1, len(whole) / 16000 - 0.7):
        excerpt = audio.load(b"".join(parts), start_seconds=start, end_seconds=start + 0.6)
        np.testing.assert_allclose(excerpt, whole[round(start * 16000) :][: len(excerpt)], atol=1e-4)


@pytest.mark.parametrize("filling", ["zeros", "noise", "nothing"])
@pytest.mark.parametrize("encoding", ["mp3", "flac", "vorbis", "opus"])
def test_what_is_behind_a_hole_is_read_and_the_hole_is_reported(
    encoding: str, filling: str, capfd: pytest.CaptureFixture
):
    data = song(encoding, 12.1)
    size = len(data) // 50
    fill = {"zeros": bytes(size), "noise": np.random.default_rng(3).bytes(size), "nothing": b""}[filling]
    middle = len(data) // 2
    damaged = data[:middle] + fill + data[middle + size :]
    decoded, words = warned(damaged)
    place = re.search(r"damaged at (\d+\.\d+) s: about (\d+\.\d+) s of sound cannot be read", words)
    assert place is not None
    seconds, lost = map(float, place.groups())
    assert 4.0 < seconds < 7.5
    assert 0.1 < lost < 2.3
    assert 9.5 < len(decoded) / 16000 <= 12.11
    whole = heard(encoding, 12.1)
    assert correlation(decoded[: round(seconds * 16000) - 2000], whole) > 0.98
    tail, expected = decoded[-32000:-4000], whole[-36000:]
    lags = np.correlate(expected, tail) / np.linalg.norm(tail)
    norms = np.sqrt(np.convolve(expected**2, np.ones(len(tail)), "valid"))
    assert (lags / norms).max() > 0.9  # time is missing, by a fraction of a sample
    excerpt = audio.load(damaged, start_seconds=8.0, end_seconds=9.0, warnings=[])
    np.testing.assert_allclose(excerpt, decoded[128000:144000], atol=1e-4)
    assert capfd.readouterr().err == ""


def with_total(data: bytes, total: int) -> bytes:
    """State another number of samples in a flac."""
    return data[:21] + bytes([data[21] & 0xF0]) + total.to_bytes(4, "big") + data[26:]


APE = b"APETAGEX\xd0\x07\0\0" + struct.pack("<III", 32, 0, 1 << 31) + bytes(8)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xef\xbb\xbf" + MP3, ""),
        (b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n" + MP3, ""),
        (APE + MP3 + APE, ""),
        (b"ID3\x04\0\x10\0\0\0\x0a" + bytes(10) + b"3DI\x04\0\x10\0\0\0\x0a" + MP3, ""),
        (b"ID3\x03\0\0\0\0\x10\0" + bytes(20) + MP3, ""),  # the tag states 2,048 bytes
        (id3(300)[:6] + b"\0\0\0\x20" + id3(300)[10:] + MP3, ""),  # the tag states 32 bytes
        (wav16(MP3).replace(struct.pack("<HHI", 1, 1, 16000), struct.pack("<HHI", 0x55, 2, 44100)), ""),
        (FLAC + b"TAG" + bytes(125), ""),
        (FLAC + APE + bytes(4096), ""),
        (id3(300) + FLAC, ""),
        (with_total(FLAC, 66150), ""),
        (with_total(FLAC, 264600), r"damaged at 3\.000 s: its header states more than it holds"),
        (
            FLAC + np.random.default_rng(0).bytes(40_000),
            r"damaged at 3\.000 s: .*\(40000 bytes from byte \d+ on are not",
        ),
        (MP3 + np.random.default_rng(0).bytes(10_000), r"damaged at 2\.9\d+ s|damaged at 3\.0\d+ s"),
        (b"\xef\xbb\xbf" + song("wav16"), ""),
    ],
)
def test_what_is_around_the_sound_is_skipped(data: bytes, words: str):
    decoded, said = warned(data)
    assert len(decoded) / 16000 == pytest.approx(3.0, abs=0.03)
    assert correlation(decoded, audio.load((music(44100), 44100))) > 0.99
    assert re.search(words, said) if words else said == ""


@pytest.mark.parametrize(
    ("header", "behind", "words"),
    [
        ({"data_size": 96008}, b"", ""),
        ({"data_size": 96044}, b"", ""),
        ({}, b"LIST\x04\0\0\0INFO", ""),
        ({"data_size": 48000}, b"", r"damaged at 1\.500 s: its header states less than it holds"),
    ],
)
def test_a_wav_whose_header_miscounts(header: dict, behind: bytes, words: str):
    samples = (music(16000)[:, 0] * 32767).astype("<i2")
    decoded, said = warned(wav16(samples.tobytes(), **header) + behind)
    np.testing.assert_array_equal(decoded, samples / np.float32(32768))
    assert re.search(words, said) if words else said == ""


def test_free_bit_rate():
    """Frames of 128 kb/s whose headers state no bit rate are frames of free bit rate."""
    file = io.BytesIO()
    soundfile.write(file, music(44100), 44100, format="MP3", bitrate_mode="CONSTANT", compression_level=0.6)
    data = bytearray(file.getvalue())
    expected = audio.load(bytes(data))
    kbps = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    offset = 0
    while offset < len(data):
        size = 144000 * kbps[data[offset + 2] >> 4] // 44100 + (data[offset + 2] >> 1 & 1)
        data[offset + 2] &= 0x0F
        offset += size
    decoded, said = warned(bytes(data[417:]))
    assert said == ""
    assert abs(len(decoded) - len(expected)) < 0.1 * 16000


# --- threads and imports


def test_threads_decode_alike():
    sources = [song(encoding, 2.0) for encoding in ("mp3", "flac", "vorbis")] * 4
    expected = [audio.load(source) for source in sources]
    bad = wav16(bytes(400))[:100]

    def decode(source: bytes) -> np.ndarray:
        with pytest.raises(AudioError, match="truncated and has 56 bytes"):
            audio.load(bad)
        return audio.load(source)

    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(decode, sources), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_import_and_local_decoding_need_no_tensorflow():
    code = (
        "import sys, numpy as np\nfrom keras_tagger import audio\n"
        "assert 'soundfile' not in sys.modules and 'tensorflow' not in sys.modules\n"
        "audio.load((np.ones(9), 44100))\nassert 'tensorflow' not in sys.modules\n"
        "assert audio.is_remote('s3://b/x') and not audio.is_remote('/a/b://c')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_opus_whose_pages_miscount_their_samples(tmp_path):
    """ffmpeg writes such files if timestamps jitter; libsndfile 1.2 calls them malformed."""
    time = np.arange(5 * 48_000) / 48_000
    path = tmp_path / "exact.opus"
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 440 * time), 48_000, format="OGG", subtype="OPUS")
    content = path.read_bytes()
    pages = []
    while content:
        count = content[26]
        size = 27 + count + sum(content[27 : 27 + count])
        pages.append(content[:size])
        content = content[size:]
    assert len(pages) >= 5
    for index in range(2, len(pages) - 1):
        page = pages[index]
        granule = int.from_bytes(page[6:14], "little") + (-487 if index % 2 else 185)
        page = page[:6] + granule.to_bytes(8, "little") + page[14:]
        pages[index] = page[:22] + page_checksum(page) + page[26:]
    miscounted = b"".join(pages)
    assert miscounted != path.read_bytes()
    expected = audio.load(path)
    np.testing.assert_array_equal(audio.load(miscounted), expected)
    assert len(expected) == 5 * 16_000
    excerpt = audio.load(miscounted, start_seconds=1.5, end_seconds=3.0)
    np.testing.assert_allclose(excerpt, expected[24_000:48_000], atol=1e-3)


def test_an_mp3_is_decoded_alike_from_memory_and_piece_by_piece(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    songs = [b"ID3\x03\x00\x00" + bytes([0, 0, 1, 0]) + bytes(128) + MP3, mp3_without_info_frame(sine(440, 44100, 2.0))]
    damaged = MP3[: len(MP3) // 2]
    path = tmp_path / "song.mp3"
    path.write_bytes(songs[0])
    descriptors = len(os.listdir("/proc/self/fd"))
    whole = [audio.load(song) for song in (*songs, str(path))]
    with pytest.raises(AudioError, match="truncated or corrupt"):
        audio.load(damaged)
    assert len(os.listdir("/proc/self/fd")) == descriptors

    def refuse(name: str) -> int:
        raise PermissionError(name)

    for name, value in (("os.memfd_create", refuse), ("keras_tagger.audio.streams._MEMORY_BYTES", 1000)):
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            for song, expected in zip((*songs, str(path)), whole, strict=True):
                np.testing.assert_array_equal(audio.load(song), expected)
            with pytest.raises(AudioError, match="truncated or corrupt"):
                audio.load(damaged)


def test_what_libsndfile_reads_of_an_mp3_is_put_into_memory():
    padded = bytes(300) + MP3
    for source, lead in ((MP3, 0), (padded, 300)):
        with open_stream(source) as stream:
            (segment,) = find_layout(stream).segments
            assert segment.piecemeal
            descriptor = in_memory(View(stream, segment.parts))
            assert descriptor is not None
            try:
                assert os.pread(descriptor, len(source) + 1, 0) == source[lead:]
            finally:
                os.close(descriptor)
    with open_stream(song("flac")) as stream:
        assert not find_layout(stream).segments[0].piecemeal
