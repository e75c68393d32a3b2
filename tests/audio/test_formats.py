"""What PyAV reads, against FFmpeg's own decoding. FFmpeg's program is a tool of these tests only."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile

from keras_tagger import audio
from keras_tagger.audio.kinds import recognise
from keras_tagger.audio.streams import open_stream
from keras_tagger.errors import AudioError, AudioWarning

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
SECONDS = 2.0

# Name: (suffix, rate, channels, FFmpeg's options, what `info` calls it)
FORMATS: dict[str, tuple[str, int, int, str, str]] = {
    "aac mono": ("m4a", 16000, 1, "-c:a aac", "MP4 AAC"),
    "aac stereo": ("m4a", 44100, 2, "-c:a aac", "MP4 AAC"),
    "aac 5.1": ("m4a", 48000, 6, "-c:a aac", "MP4 AAC"),
    "aac 7.1": ("m4a", 44100, 8, "-ac 8 -channel_layout 7.1 -c:a aac", "MP4 AAC"),
    "many channels": ("mka", 48000, 12, "-c:a pcm_s32le", "Matroska PCM_S32LE"),
    "wavpack of many channels": ("wv", 44100, 12, "-sample_fmt s32p", "WavPack WAVPACK"),
    "aac in fragments": ("mp4", 44100, 2, "-c:a aac -movflags frag_keyframe+empty_moov", "MP4 AAC"),
    "alac": ("m4a", 44100, 2, "-c:a alac", "MP4 ALAC"),
    "alac 24 bit 96 kHz": ("m4a", 96000, 2, "-c:a alac -sample_fmt s32p", "MP4 ALAC"),
    "adts": ("aac", 22050, 2, "-c:a aac", "AAC AAC"),
    "adts behind a tag": ("aac", 32000, 1, "-c:a aac -write_id3v2 1 -metadata title=x", "AAC AAC"),
    "latm": ("latm", 44100, 2, "-c:a aac", "LOAS AAC_LATM"),
    "wma 1": ("wma", 44100, 2, "-c:a wmav1", "ASF WMAV1"),
    "wma 2 mono": ("wma", 22050, 1, "-c:a wmav2", "ASF WMAV2"),
    "opus in webm": ("webm", 48000, 2, "-c:a libopus", "Matroska OPUS"),
    "opus 5.1 in mka": ("mka", 48000, 6, "-c:a libopus", "Matroska OPUS"),
    "vorbis in webm": ("webm", 44100, 2, "-c:a libvorbis", "Matroska VORBIS"),
    "aac in mka": ("mka", 44100, 2, "-c:a aac", "Matroska AAC"),
    "flac in mka": ("mka", 44100, 2, "-c:a flac", "Matroska FLAC"),
    "floats in mka": ("mka", 8000, 1, "-c:a pcm_f64le", "Matroska PCM_F64LE"),
    "wavpack": ("wv", 44100, 2, "-sample_fmt s16p", "WavPack WAVPACK"),
    "wavpack floats 5.1": ("wv", 48000, 6, "-sample_fmt fltp", "WavPack WAVPACK"),
    "ac3 5.1": ("ac3", 48000, 6, "", "AC3 AC3"),
    "ac3 mono": ("ac3", 32000, 1, "", "AC3 AC3"),
    "eac3": ("eac3", 48000, 2, "", "EAC3 EAC3"),
    "dts": ("dts", 48000, 2, "-strict -2", "DTS DCA"),
    "truehd": ("thd", 48000, 2, "-strict -2 -f truehd", "TRUEHD TRUEHD"),
    "true audio": ("tta", 44100, 2, "", "TTA TTA"),
    "flac in ogg": ("oga", 44100, 2, "-c:a flac", "FLAC PCM_24"),
    "alac in caf": ("caf", 44100, 2, "-c:a alac", "CAF ALAC"),
    "amr": ("amr", 8000, 1, "", "AMR AMRNB"),
    "realmedia": ("rm", 44100, 2, "-c:a ac3", "RM AC3"),
    "flash": ("flv", 44100, 2, "-c:a aac", "FLV AAC"),
    "transport stream": ("ts", 44100, 2, "-c:a aac", "MPEGTS AAC"),
    "program stream": ("mpg", 44100, 2, "-c:a mp2", "MPEG MP2"),
    "avi": ("avi", 44100, 2, "-c:a libmp3lame", "AVI MP3FLOAT"),
    "quicktime 24 bit": ("mov", 44100, 2, "-c:a pcm_s24be", "MP4 PCM_S24BE"),
    "8 bit in mov": ("mov", 11025, 1, "-c:a pcm_u8", "MP4 PCM_U8"),
    "ac3 in wav": ("wav", 48000, 2, "-c:a ac3", "WAV AC3"),
}


def ffmpeg(*arguments: str | Path, data: bytes | None = None) -> bytes:
    command = [FFMPEG, "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def tones(rate: int, channels: int, seconds: float = SECONDS) -> str:
    parts = (f"0.3*sin(2*PI*({300 + 170 * i}*t+{60 + 10 * i}*t*t))" for i in range(channels))
    return f"aevalsrc={'|'.join(parts)}:s={rate}:d={seconds}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@pytest.fixture(scope="module")
def make(folder: Path) -> Callable[[str], Path]:
    """Encode a format once."""

    def made(name: str) -> Path:
        suffix, rate, channels, options, _ = FORMATS[name]
        path = folder / f"{name}.{suffix}".replace(" ", "_")
        if not path.exists():
            ffmpeg("-f", "lavfi", "-i", tones(rate, channels), *options.split(), path)
        return path

    return made


def decoded_by_ffmpeg(path: Path, channels: int) -> np.ndarray:
    return np.frombuffer(ffmpeg("-i", path, "-f", "f32le", "-"), "<f4").reshape(-1, channels).mean(axis=1)


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_format_is_decoded_as_by_ffmpeg(name: str, make: Callable[[str], Path], tmp_path: Path):
    _, rate, channels, _, called = FORMATS[name]
    path = make(name)
    warnings: list[AudioWarning] = []
    samples = audio.load(path, rate, warnings=warnings)
    assert not warnings
    expected = decoded_by_ffmpeg(path, channels)
    assert abs(len(samples) - len(expected)) <= 0.05 * rate
    assert abs(len(samples) / rate - SECONDS) < 0.1
    count = min(len(samples), len(expected))
    assert np.abs(samples[:count] - expected[:count]).max() < 1e-4

    about = audio.info(path)
    assert (about.sample_rate, about.channels, about.format) == (rate, channels, called)
    assert about.seconds is None or about.seconds == pytest.approx(len(samples) / rate, abs=0.06)

    unnamed = tmp_path / "song"
    unnamed.write_bytes(path.read_bytes())
    for source in (path.read_bytes(), unnamed):
        np.testing.assert_array_equal(audio.load(source, rate), samples)
    for start, end in ((0.0, 0.1), (0.7777, 1.2), (1.5, None)):
        first, last = round(start * rate), len(samples) if end is None else round(end * rate)
        np.testing.assert_array_equal(audio.load(path, rate, start, end), samples[first:last])
    with pytest.raises(AudioError, match="start_seconds before the end of"):
        audio.load(path, rate, start_seconds=9.0)


# --- files that FFmpeg does not write


def sigma_delta(rate: int, seconds: float, channels: int) -> np.ndarray:
    """Make DSD of gliding tones: bits `[samples, channels]` of a modulator of the first order."""
    time = np.arange(round(rate * seconds)) / rate
    bits = np.zeros((len(time), channels), np.uint8)
    for channel in range(channels):
        # The running sum of the input, rounded down, rises by one where the bit is one.
        level = 0.5 + 0.25 * np.sin(2 * np.pi * (400 + 300 * channel) * time)
        bits[:, channel] = np.diff(np.floor(np.cumsum(level)), prepend=0.0)
    return bits


def dsf(bits: np.ndarray, rate: int) -> bytes:
    """Make a DSF file: blocks of 4096 bytes for each channel in turn, the first bit lowest."""
    count, channels = bits.shape
    packed = np.packbits(bits, axis=0, bitorder="little")
    packed = np.pad(packed, ((0, -len(packed) % 4096), (0, 0)))
    data = packed.reshape(-1, 4096, channels).transpose(0, 2, 1).tobytes()
    numbers = [1, 0, channels, channels, rate, 1]
    form = b"fmt " + (52).to_bytes(8, "little") + b"".join(value.to_bytes(4, "little") for value in numbers)
    form += count.to_bytes(8, "little") + (4096).to_bytes(4, "little") + bytes(4)
    body = form + b"data" + (12 + len(data)).to_bytes(8, "little") + data
    return b"DSD " + (28).to_bytes(8, "little") + (28 + len(body)).to_bytes(8, "little") + bytes(8) + body


def dff(bits: np.ndarray, rate: int) -> bytes:
    """Make a DFF file: a byte of each channel in turn, the first bit highest."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + len(data).to_bytes(8, "big") + data

    channels = bits.shape[1]
    names = b"".join([b"SLFT", b"SRGT"][:channels])
    properties = b"SND " + chunk(b"FS  ", rate.to_bytes(4, "big"))
    properties += chunk(b"CHNL", channels.to_bytes(2, "big") + names)
    properties += chunk(b"CMPR", b"DSD \x0enot compressed\0")
    data = chunk(b"DSD ", np.packbits(bits, axis=0).tobytes())
    return chunk(b"FRM8", b"DSD " + chunk(b"FVER", bytes([1, 5, 0, 0])) + chunk(b"PROP", properties) + data)


@pytest.mark.parametrize("write", [dsf, dff])
@pytest.mark.parametrize("channels", [1, 2])
def test_dsd(write: Callable[[np.ndarray, int], bytes], channels: int, tmp_path: Path):
    rate = 2_822_400
    data = write(sigma_delta(rate, 1.0, channels), rate)
    path = tmp_path / "song.dsd"
    path.write_bytes(data)
    about = audio.info(path)
    assert (about.sample_rate, about.channels) == (rate // 8, channels)
    assert about.seconds == pytest.approx(1.0, abs=0.013)  # a DSF is padded to whole blocks
    samples = audio.load(path)
    assert len(samples) == pytest.approx(16000, abs=210)
    time = np.arange(4000, 12000) / 16000
    for channel in range(channels):
        tone = np.exp(-2j * np.pi * (400 + 300 * channel) * time)
        assert 2 * abs(np.mean(samples[4000:12000] * tone)) == pytest.approx(0.5 / channels, rel=0.02)
    np.testing.assert_allclose(audio.load(path, 16000, 0.3, 0.6), samples[4800:9600], atol=1e-6)
    with pytest.raises(AudioError, match=r"Expected \d+ bytes, .* and truncated: it has \d+\.$"):
        audio.load(data[: len(data) * 2 // 3])


def test_monkeys_audio_of_silence(tmp_path: Path):
    """No free program writes Monkey's Audio; a frame of silence has no coded samples."""
    frames, rate = 73728, 44100

    def frame(count: int) -> bytes:
        checksum = 1 << 31 | zlib.crc32(bytes(4 * count)) >> 1  # the highest bit: flags follow
        return checksum.to_bytes(4, "little") + (3).to_bytes(4, "little") + bytes(12)

    header = b"".join(
        value.to_bytes(size, "little")
        for value, size in ((2000, 2), (0, 2), (frames, 4), (frames // 2, 4), (2, 4), (16, 2), (2, 2), (rate, 4))
    )
    assert len(header) == 24
    table = b"".join((52 + 24 + 8 + 20 * i).to_bytes(4, "little") for i in range(2))
    sizes = (52, 24, len(table), 0, 40, 0, 0)
    head = b"MAC " + (3990).to_bytes(2, "little") + bytes(2)
    head += b"".join(size.to_bytes(4, "little") for size in sizes) + bytes(16)
    path = tmp_path / "song.ape"
    path.write_bytes(head + header + table + frame(frames) + frame(frames // 2))
    assert audio.info(path).format == "APE APE"
    samples = audio.load(path, rate, warnings=[])
    assert len(samples) == frames + frames // 2
    assert not samples.any()


# --- several streams, no sound, pictures


def test_a_video_with_sound(folder: Path):
    path = folder / "film.mp4"
    picture = "testsrc=size=64x64:rate=10:duration=2"
    ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tones(44100, 2), "-c:a", "aac", path)
    expected = decoded_by_ffmpeg(path, 2)
    np.testing.assert_allclose(audio.load(path, 44100)[: len(expected)], expected, atol=1e-4)
    assert audio.info(path).seconds == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "flv"])
def test_a_video_without_sound(suffix: str, tmp_path: Path):
    path = tmp_path / f"film.{suffix}"
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x64:rate=10:duration=1", path)
    with pytest.raises(AudioError, match=r"Expected a file with sound. Received: .*film.* without sound\.$"):
        audio.load(path)


def test_a_cover_is_not_a_video(folder: Path, make: Callable[[str], Path]):
    picture, path = folder / "cover.png", folder / "covered.m4a"
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x64:duration=1", "-frames:v", "1", picture)
    song = make("aac stereo")
    ffmpeg("-i", song, "-i", picture, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic", path)
    np.testing.assert_array_equal(audio.load(path), audio.load(song))


def test_of_several_sound_tracks_the_default_is_used(folder: Path):
    path = folder / "two.mka"
    ffmpeg(
        *(
            "-f",
            "lavfi",
            "-i",
            tones(44100, 1, 1.0),
            "-f",
            "lavfi",
            "-i",
            tones(48000, 2, 1.5),
            "-map",
            "0",
            "-map",
            "1",
        ),
        *("-c:a", "flac", "-disposition:a:0", "0", "-disposition:a:1", "default", path),
    )
    assert (audio.info(path).sample_rate, audio.info(path).channels) == (48000, 2)
    assert len(audio.load(path, 48000)) == 72000


def test_rates_and_channels_that_change_on_the_way(folder: Path):
    low, high = folder / "low.aac", folder / "high.aac"
    tone = "0.2*sin(2*PI*440*t)"
    ffmpeg("-f", "lavfi", "-i", f"aevalsrc={tone}:s=22050:d=2", low)
    ffmpeg("-f", "lavfi", "-i", f"aevalsrc={tone}|{tone}:s=44100:d=2", high)
    both = high.read_bytes() + low.read_bytes()
    samples = audio.load(both, 44100)
    assert len(samples) / 44100 == pytest.approx(4.1, abs=0.1)
    for start in (44100 // 2, 44100 * 3):
        spectrum = np.abs(np.fft.rfft(samples[start : start + 44100]))
        assert np.argmax(spectrum) == pytest.approx(440, abs=1)
    loudness = [np.std(samples[start : start + 44100]) for start in (22050, 44100 * 3)]
    assert loudness[0] == pytest.approx(loudness[1], rel=0.02)


# --- damage

JOINED = [
    "aac stereo",
    "aac in fragments",
    "alac",
    "adts",
    "wma 2 mono",
    "opus in webm",
    "wavpack",
    "ac3 5.1",
    "true audio",
]
JOINED += ["flash", "alac in caf", "avi", "ac3 in wav", "eac3", "dts"]


@pytest.mark.parametrize("name", JOINED)
def test_joined_files_are_read_to_the_end(name: str, make: Callable[[str], Path]):
    data = make(name).read_bytes()
    warnings: list[AudioWarning] = []
    once, twice = audio.load(data), audio.load(data + data, warnings=warnings)
    assert not warnings
    assert len(twice) == pytest.approx(2 * len(once), abs=1600)
    np.testing.assert_allclose(twice[: len(once) - 800], once[:-800], atol=1e-3)
    np.testing.assert_allclose(audio.load(data + data, 16000, 2.5, 3.0), twice[40000:48000], atol=1e-3)


def loss(data: bytes, whole: int) -> tuple[float, list[str]]:
    """Decode damaged data: how many seconds are missing, and what was said."""
    warnings: list[AudioWarning] = []
    try:
        samples = audio.load(data, warnings=warnings)
    except AudioError as error:
        return SECONDS, [str(error)]
    words = [str(warning) for warning in warnings if warning.kind == "damaged"]
    return (whole - len(samples)) / 16000, words


@pytest.mark.parametrize("name", [name for name in JOINED if name not in ("adts", "ac3 5.1", "eac3", "dts", "flash")])
def test_a_truncated_file_is_refused(name: str, make: Callable[[str], Path]):
    data = make(name).read_bytes()
    for share in (0.3, 0.5, 0.8):
        with pytest.raises(AudioError, match="truncated|damaged|nothing can be decoded"):
            audio.load(data[: int(share * len(data))], warnings=[])


@pytest.mark.parametrize("name", JOINED)
def test_no_damage_is_silent(name: str, make: Callable[[str], Path]):
    data = make(name).read_bytes()
    whole = len(audio.load(data))
    middle, fifth = len(data) // 2, len(data) // 5
    noise = np.random.default_rng(0).bytes(fifth)
    flipped = bytearray(data)
    for place in np.random.default_rng(1).integers(0, len(data), 30):
        flipped[place] ^= 0xFF
    for damaged in (
        data[:middle] + bytes(fifth) + data[middle + fifth :],
        data[:middle] + noise + data[middle + fifth :],
        data[:middle] + noise + data[middle:],
        bytes(flipped),
    ):
        missing, words = loss(damaged, whole)
        assert words or missing < 0.2


@pytest.mark.parametrize(
    "name", ["aac stereo", "wma 2 mono", "opus in webm", "wavpack", "true audio", "adts", "ac3 5.1"]
)
def test_bytes_behind_the_sound(name: str, make: Callable[[str], Path]):
    data = make(name).read_bytes()
    expected = audio.load(data)
    for harmless in (bytes(5000), b"TAG" + bytes(125)):
        warnings: list[AudioWarning] = []
        np.testing.assert_allclose(audio.load(data + harmless, warnings=warnings), expected, atol=1e-6)
        assert not warnings
    missing, words = loss(data + np.random.default_rng(0).bytes(len(data) // 2), len(expected))
    assert missing < 0.1
    assert any("behind its sound" in word or "is damaged at" in word for word in words)


def test_a_hole_is_named_with_its_place(make: Callable[[str], Path]):
    data = make("aac stereo").read_bytes()
    middle = len(data) // 2
    damaged = data[:middle] + bytes(len(data) // 5) + data[middle + len(data) // 5 :]
    with pytest.warns(AudioWarning, match=r"is damaged at [01]\.\d{3} s: 0\.4\d\d s are missing") as caught:
        samples = audio.load(damaged)
    assert len(caught) == 1
    assert len(samples) / 16000 == pytest.approx(1.58, abs=0.05)


def test_frames_that_were_cut_out_of_adts_are_told(make: Callable[[str], Path]):
    """FFmpeg drops the rest of a frame without a word; frames say how long they are, but not when they sound."""
    data = make("adts").read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(30):
        start = int(rng.integers(len(data) // 10, len(data) // 2))
        found: list[AudioWarning] = []
        audio.load(data[:start] + data[start + len(data) // 3 :], warnings=found)
        assert {warning.kind for warning in found} == {"damaged"}, start
    # A recording of a stream may begin anywhere.
    found = []
    audio.load(data[100:], warnings=found)
    assert not found


def test_many_places_are_summed_up(make: Callable[[str], Path]):
    data = bytearray(make("wavpack").read_bytes())
    blocks = [match.start() for match in re.finditer(b"wvpk", bytes(data))]
    broken = blocks[1:-1:3]
    assert len(broken) > 5
    for start in broken:
        data[start + 40 : start + 60] = bytes(20)
    found: list[AudioWarning] = []
    audio.load(bytes(data), warnings=found)
    number = re.fullmatch(r".* is damaged in (\d+) places: ([\d.]+) s are missing in all", str(found[-1]))
    assert number is not None
    assert len(found) == 6
    assert int(number[1]) == len(broken)
    assert float(number[2]) == pytest.approx(SECONDS * len(broken) / len(blocks), rel=0.3)


@pytest.mark.parametrize("options", ["-b:a 12k -application voip -frame_duration 60", "-b:a 16k -application voip"])
def test_excerpts_of_opus_at_low_rates_are_those_of_the_whole(options: str):
    """The decoder for speech takes seconds to settle."""
    clip = Path(audio.__file__).parents[1] / "clips" / "rock_guitar_war.ogg"
    data = ffmpeg("-i", clip, "-c:a", "libopus", *options.split(), "-f", "opus", "-")
    whole = audio.load(data)
    for start in range(5, 20):
        part = audio.load(data, start_seconds=start + 0.3, end_seconds=start + 1.3)
        first = round((start + 0.3) * 16000)
        np.testing.assert_allclose(part, whole[first : first + 16000], atol=1e-5)


def test_a_copy_protected_song(make: Callable[[str], Path]):
    data = make("aac stereo").read_bytes()
    begin = data.index(b"mdat") + 4
    end = begin - 8 + int.from_bytes(data[begin - 8 : begin - 4], "big")
    locked = data[:begin] + np.random.default_rng(0).bytes(end - begin) + data[end:].replace(b"mp4a", b"drms", 1)
    with pytest.raises(AudioError, match="copy-protected"):
        audio.load(locked, warnings=[])


# --- what FFmpeg is not given


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("playlist.m3u8", b"#EXTM3U\n#EXTINF:2,\nFILE\n"),
        ("list.txt", b"ffconcat version 1.0\nfile FILE\n"),
        ("master.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nFILE\n#EXT-X-ENDLIST\n"),
        ("title.srt", b"1\n00:00:01,000 --> 00:00:02,000\nWords\n"),
        ("song.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n"),
        ("module.mod", b"song".ljust(1080, b"\0") + b"M.K." + bytes(4000)),
        ("picture.bmp", b"BM" + bytes(500)),
    ],
)
def test_what_is_no_sound_is_not_given_to_ffmpeg(name: str, data: bytes, tmp_path: Path, make: Callable[[str], Path]):
    path = tmp_path / name
    path.write_bytes(data.replace(b"FILE", bytes(make("aac stereo"))))
    with open_stream(path) as stream:
        assert recognise(stream) is None
    with pytest.raises(AudioError, match="none of these or has a damaged header"):
        audio.load(path)


# --- without PyAV, and what reaches the terminal


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aac stereo", "MP4 or M4A"),
        ("alac", "MP4 or M4A"),
        ("adts", r"AAC \(ADTS\)"),
        ("wma 1", "WMA or ASF"),
        ("opus in webm", "Matroska or WebM"),
        ("wavpack", "WavPack"),
        ("ac3 5.1", "AC3"),
        ("true audio", "True Audio"),
        ("amr", "AMR"),
        ("dts", "DTS"),
        ("realmedia", "RealMedia"),
        ("flash", "Flash video"),
        ("avi", "AVI video"),
        ("transport stream", "an MPEG transport stream"),
    ],
)
def test_without_pyav_the_error_names_the_format_and_the_extra(
    name: str, kind: str, make: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    path = make(name)
    monkeypatch.setitem(sys.modules, "av", None)
    words = rf"^Expected audio\. Received: '.*', which is {kind}; pip install \"keras_tagger\[av\]\" to read it\.$"
    with pytest.raises(AudioError, match=words):
        audio.load(path)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"MAC \x96\x0f", "Monkey's Audio"),
        (b"DSD \x1c", "DSF"),
        (b"FRM8", "DFF"),
        (b"tBaK", "TAK"),
        (b"MPCK", "Musepack"),
        (b"MP+\x07", "Musepack"),
        (b".ra\xfd", "RealAudio"),
        (b"\0\0\0\x14ftypqt  ", "MP4 or M4A"),
        (b"ID3\x04\0\0\0\0\0\0TTA1", "True Audio"),
    ],
)
def test_rare_formats_have_names(start: bytes, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=rf"which is {kind}; pip install"):
        audio.load(start + bytes(500))


def test_ffmpeg_writes_nothing_to_the_terminal(make: Callable[[str], Path], tmp_path: Path):
    paths = []
    for name in ("aac stereo", "wma 2 mono", "opus in webm", "wavpack", "adts"):
        data = bytearray(make(name).read_bytes())
        data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
    code = (
        "import sys, threading\nfrom keras_tagger import audio\n"
        "def read(path):\n    try: audio.load(path, warnings=[])\n    except ValueError: pass\n"
        "threads = [threading.Thread(target=read, args=[path]) for path in sys.argv[1:]]\n"
        "[thread.start() for thread in threads]\n[thread.join() for thread in threads]\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_threads_decode_alike(make: Callable[[str], Path]):
    paths = [make(name) for name in ("aac stereo", "wma 1", "opus in webm", "wavpack")]
    expected = [audio.load(path) for path in paths]
    found: dict[int, np.ndarray] = {}

    def read(index: int) -> None:
        found[index] = audio.load(paths[index % len(paths)])

    threads = [threading.Thread(target=read, args=[index]) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(8):
        np.testing.assert_array_equal(found[index], expected[index % len(paths)])


def test_a_flac_whose_last_byte_is_zero_is_complete(tmp_path: Path):
    # The last byte is half of a checksum, so about one file in 256 ends with zero.
    path = tmp_path / "zero.flac"
    for seed in range(4000):
        samples = np.random.default_rng(seed).integers(-9000, 9000, 600).astype(np.int16)
        soundfile.write(path, samples, 16000, format="FLAC", subtype="PCM_16")
        if path.read_bytes()[-1] == 0:
            break
    else:
        pytest.fail("expected a file that ends with zero")
    np.testing.assert_allclose(audio.load(path, 16000), samples / 32768.0, atol=1e-6)
    # With zeros behind it, too.
    path.write_bytes(path.read_bytes() + bytes(3))
    np.testing.assert_allclose(audio.load(path, 16000), samples / 32768.0, atol=1e-6)
    # Without the checksum it is cut off.
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(AudioError):
        audio.load(path, 16000)
