"""Make clean sound files and their parts: tags, frames, pages, chunks.

Clean audio comes from libsndfile's encoders, and from ffmpeg (package imageio-ffmpeg) for what libsndfile cannot write.
Nothing here uses keras_tagger, so that its code does not judge itself.
"""

from __future__ import annotations

import functools
import io
import struct
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from scale import scale

# --- clean files


@functools.cache
def encoded(
    steps: Sequence[int],
    container: str,
    subtype: str,
    rate: int = 16000,
    channels: int = 1,
    mode: str | None = None,
    compression: float | None = None,
) -> bytes:
    """Encode a scale with libsndfile. Ogg streams get the serial number 1, because libsndfile draws one at random."""
    file = io.BytesIO()
    more = {"bitrate_mode": mode, "compression_level": compression}
    soundfile.write(
        file, scale(steps, rate, channels), rate, format=container, subtype=subtype,
        **{key: value for key, value in more.items() if value is not None},
    )  # fmt: skip
    data = file.getvalue()
    return with_serial(data, 1) if container == "OGG" else data


@functools.cache
def ffmpeg() -> str:
    """Return the path of the ffmpeg of the package imageio-ffmpeg."""
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


@functools.cache
def converted(
    arguments: str, suffix: str, steps: Sequence[int] = range(12), rate: int = 44100, channels: int = 1, first: str = ""
) -> bytes:
    """Encode a scale with ffmpeg.

    Args:
        arguments: Options of the output, separated by spaces.
        suffix: Ending of the output's name, from which ffmpeg takes the container.
        steps: Of the scale.
        rate: Of the scale, in Hz.
        channels: Of the scale.
        first: Options of another input before the scale.
    """
    sound = io.BytesIO()
    soundfile.write(sound, scale(steps, rate, channels), rate, format="WAV", subtype="PCM_16")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / f"sound{suffix}"
        command = [ffmpeg(), "-v", "error", "-nostdin", *first.split(), "-f", "wav", "-i", "pipe:0"]
        command += ["-threads", "1", "-map_metadata", "-1", "-fflags", "+bitexact", "-flags", "+bitexact"]
        subprocess.run([*command, *arguments.split(), str(target)], input=sound.getvalue(), check=True)
        return target.read_bytes()


def mp3(
    steps: Sequence[int] = range(12), rate: int = 22050, channels: int = 1, mode: str = "CONSTANT",
    compression: float = 0.7, info: bool = True,
) -> bytes:  # fmt: skip
    """Make an mp3 with or without the Xing, Info and LAME header in its first frame."""
    data = encoded(steps, "MP3", "MPEG_LAYER_III", rate, channels, mode, compression)
    return data if info else data[mp3_frames(data)[0][1] :]


def flac(steps: Sequence[int] = range(12), rate: int = 16000, channels: int = 1) -> bytes:
    """Make a flac whose frames are shorter than a tenth of a second at 44.1 kHz."""
    return encoded(steps, "FLAC", "PCM_16", rate, channels)


def vorbis(steps: Sequence[int] = range(12), rate: int = 16000, channels: int = 1, serial: int = 1) -> bytes:
    """Make an Ogg Vorbis as ffmpeg does, with pages of a fifth of a second."""
    data = converted("-c:a libvorbis -page_duration 200000", ".ogg", steps, rate, channels)
    return with_serial(data, serial)


def opus(steps: Sequence[int] = range(12), rate: int = 16000, channels: int = 1, serial: int = 1) -> bytes:
    """Make an Ogg Opus as ffmpeg does, with pages of a fifth of a second."""
    data = converted("-c:a libopus -page_duration 200000", ".opus", steps, rate, channels)
    return with_serial(data, serial)


# --- parts of files


def cut(data: bytes, start: float, count: int) -> bytes:
    """Remove `count` bytes at a share of the length."""
    at = int(len(data) * start)
    return data[:at] + data[at + count :]


def overwrite(data: bytes, start: float, new: bytes) -> bytes:
    """Replace bytes at a share of the length."""
    at = int(len(data) * start)
    return data[:at] + new + data[at + len(new) :]


def noise(count: int, seed: int = 0) -> bytes:
    """Return random bytes without 0xFF, which begins frames of mpeg audio and flac."""
    return np.random.default_rng(seed).bytes(count).replace(b"\xff", b"\x7f")


def put(data: bytes, offset: int, new: bytes) -> bytes:
    """Replace bytes at an offset."""
    return data[:offset] + new + data[offset + len(new) :]


def mp3_frames(data: bytes, offset: int = 0) -> list[tuple[int, int]]:
    """List offset and size of the layer III frames of a clean mp3 without tags."""
    frames = []
    while offset + 4 <= len(data):
        word = int.from_bytes(data[offset : offset + 4], "big")
        version, rate = word >> 19 & 3, word >> 10 & 3
        if word >> 21 != 0x7FF or not 0 < word >> 12 & 15 < 15:
            break
        table = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
        if version != 3:
            table = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
        hertz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
        size = (144 if version == 3 else 72) * 1000 * table[(word >> 12 & 15) - 1] // hertz + (word >> 9 & 1)
        frames.append((offset, size))
        offset += size
    return frames


def with_frame_count(data: bytes, factor: float) -> bytes:
    """Multiply the number of frames in an mp3's Xing or Info header."""
    at = next(found for name in (b"Xing", b"Info") if (found := data[:200].find(name)) > 0)
    (count,) = struct.unpack(">I", data[at + 8 : at + 12])
    return put(data, at + 8, struct.pack(">I", int(count * factor)))


def with_vbri(data: bytes) -> bytes:
    """Put a frame with a VBRI header, as Fraunhofer's encoder writes it, before an mp3 without Info frame."""
    frames = mp3_frames(data)
    size = max(length for _, length in frames[:50])
    header = next(data[offset : offset + 4] for offset, length in frames if length == size)
    body = b"VBRI" + struct.pack(">HHHIIHHHH", 1, 0, 75, len(data), len(frames), 0, 1, 2, 1)
    return (header + bytes(32) + body).ljust(size, b"\0") + data


def ogg_pages(data: bytes) -> list[bytes]:
    """Split a clean ogg file."""
    pages, offset = [], 0
    while data[offset : offset + 4] == b"OggS":
        segments = data[offset + 26]
        size = 27 + segments + sum(data[offset + 27 : offset + 27 + segments])
        pages.append(data[offset : offset + size])
        offset += size
    return pages


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def checked(page: bytes) -> bytes:
    """Give an ogg page its checksum: that of zlib with reversed bits, without inversion."""
    page = put(page, 22, bytes(4))
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return put(page, 22, crc.to_bytes(4, "big").translate(_REVERSED))


def with_serial(data: bytes, serial: int) -> bytes:
    """Give all pages of an ogg file a serial number."""
    return b"".join(checked(put(page, 14, struct.pack("<I", serial))) for page in ogg_pages(data))


def with_granules(data: bytes, added: int) -> bytes:
    """Add to the positions of all audio pages of an ogg file, as in an excerpt of a longer stream."""
    pages = []
    for page in ogg_pages(data):
        (granule,) = struct.unpack("<q", page[6:14])
        pages.append(checked(put(page, 6, struct.pack("<q", granule + added))) if granule > 0 else page)
    return b"".join(pages)


def synchsafe(number: int) -> bytes:
    """Write a number as ID3v2 does."""
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))


def id3v2(body: int = 500, version: int = 3, flags: int = 0, picture: bool = False, size: bytes | None = None) -> bytes:
    """Make an ID3v2 tag of `body` bytes without header: a title and padding, or a picture full of false frames."""
    frame = b"TIT2" + struct.pack(">I", 6) + b"\0\0\0title"
    if picture:
        frame = b"APIC" + struct.pack(">I", body - 10) + b"\0\0" + (b"\xff\xfb\x90\x64" * body)[: body - 10]
    tag = frame.ljust(body, b"\0")
    return b"ID3" + bytes([version, 0, flags]) + (synchsafe(len(tag)) if size is None else size) + tag


def id3v2_footer() -> bytes:
    """Make an ID3v2.4 tag with a footer, which has no padding."""
    tag = b"TIT2" + synchsafe(300) + b"\0\0\0" + b"t" * 299
    return b"ID3\x04\x00\x10" + synchsafe(len(tag)) + tag + b"3DI\x04\x00\x10" + synchsafe(len(tag))


ID3V1 = b"TAG" + b"title".ljust(30, b"\0") + b"artist".ljust(30, b"\0") + bytes(64) + b"\x11"


def ape(header: bool = True) -> bytes:
    """Make an APEv2 tag."""
    items = b""
    for key, value in (("Title", "a title"), ("REPLAYGAIN_TRACK_GAIN", "-7.03 dB")):
        items += struct.pack("<II", len(value), 0) + key.encode() + b"\0" + value.encode()

    def ends(flags: int) -> bytes:
        return b"APETAGEX" + struct.pack("<IIII", 2000, len(items) + 32, 2, flags) + bytes(8)

    return (ends(0xA0000000) if header else b"") + items + ends(0x80000000 if header else 0)


def lyrics3() -> bytes:
    """Make a Lyrics3v2 tag, which stands before an ID3v1 tag."""
    body = b"LYRICSBEGININD0000200LYR00010la la la l"
    return body + b"%06d" % len(body) + b"LYRICS200"


HTTP = (
    b"HTTP/1.0 200 OK\r\nServer: Icecast 2.4.4\r\nContent-Type: audio/mpeg\r\nicy-name: radio\r\nicy-br: 64\r\n"
    b"Cache-Control: no-cache\r\n\r\n"
)
GUID = bytes.fromhex("000000001000800000aa00389b71")


def pcm(samples: np.ndarray, kind: str, order: str = "<") -> bytes:
    """Write samples as u8, s16, s24, s32, f32 or f64."""
    if kind in ("f32", "f64"):
        return samples.astype(f"{order}f{int(kind[1:]) // 8}").tobytes()
    bits = int(kind[1:])
    whole = np.clip(np.round(samples * 2 ** (bits - 1)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(np.int64)
    if kind == "u8":
        return (whole + 128).astype(np.uint8).tobytes()
    if kind == "s24":
        four = whole.astype(f"{order}i4").reshape(-1, 1).view(np.uint8)
        return (four[:, :3] if order == "<" else four[:, 1:]).tobytes()
    return whole.astype(f"{order}i{bits // 8}").tobytes()


def fmt(kind: str = "s16", channels: int = 1, rate: int = 16000, extensible: bool = False, order: str = "<") -> bytes:
    """Make the body of a wav's fmt chunk."""
    bits = int(kind[1:])
    tag = 3 if kind[0] == "f" else 1
    block = bits // 8 * channels
    head = struct.pack(order + "HHIIHH", 0xFFFE if extensible else tag, channels, rate, rate * block, block, bits)
    mask = (1 << channels) - 1
    return head + (struct.pack(order + "HHIH", 22, bits, mask, tag) + GUID if extensible else b"")


def chunk(name: bytes, body: bytes, size: int | None = None, order: str = "<", pad: bool = True) -> bytes:
    """Make a chunk of a wav or aiff, if asked with a false size."""
    odd = bytes(len(body) % 2) if pad else b""
    return name + struct.pack(order + "I", len(body) if size is None else size) + body + odd


def riff(*chunks: bytes, size: int | None = None, magic: bytes = b"RIFF", order: str = "<") -> bytes:
    """Make a wav of chunks, if asked with a false size."""
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack(order + "I", len(body) if size is None else size) + body


def wav(
    kind: str = "s16", channels: int = 1, rate: int = 16000, steps: Sequence[int] = range(12), extensible: bool = False,
    order: str = "<", data_size: int | None = None, riff_size: int | None = None, magic: bytes = b"RIFF",
    before: bytes = b"", behind: bytes = b"",
) -> bytes:  # fmt: skip
    """Make a wav of a scale with other chunks before fmt and behind data."""
    data = pcm(scale(steps, rate, channels), kind, order)
    return riff(
        before, chunk(b"fmt ", fmt(kind, channels, rate, extensible, order), order=order),
        chunk(b"data", data, data_size, order), behind, size=riff_size, magic=magic, order=order,
    )  # fmt: skip


def wav_of(samples: np.ndarray, kind: str = "s16", rate: int = 16000) -> bytes:
    """Make a plain wav of samples `[n]` or `[n, channels]`."""
    columns = samples.reshape(len(samples), -1)
    return riff(chunk(b"fmt ", fmt(kind, columns.shape[1], rate)), chunk(b"data", pcm(columns, kind)))


INFO_CHUNK = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"a title\0"))


def rf64(sample_count_known: bool = True) -> bytes:
    """Make a wav with 64-bit sizes, as made by ffmpeg and by recorders for long files."""
    data = pcm(scale(range(12), 16000), "s16")
    sizes = struct.pack("<QQQI", 36 + 36 + len(data), len(data), len(data) // 2 if sample_count_known else 0, 0)
    return riff(
        chunk(b"ds64", sizes), chunk(b"fmt ", fmt()), chunk(b"data", data, 0xFFFFFFFF), size=0xFFFFFFFF, magic=b"RF64"
    )


def aiff(
    rate: int = 16000, ssnd_size: int | None = None, frames: int | None = None, form_size: int | None = None,
    before: bytes = b"", behind: bytes = b"", compression: bytes | None = None, offset: int = 0,
    steps: Sequence[int] = range(12),
) -> bytes:  # fmt: skip
    """Make an aiff, or with a compression type an aifc."""
    order = "<" if compression == b"sowt" else ">"
    samples = scale(steps, rate)
    data = pcm(samples, "f32" if compression == b"fl32" else "s16", order)
    bits = 32 if compression == b"fl32" else 16
    exponent = rate.bit_length() - 1
    extended = struct.pack(">HQ", 16383 + exponent, rate << (63 - exponent))
    common = struct.pack(">HIH", 1, len(samples) if frames is None else frames, bits) + extended
    if compression is not None:
        common += compression + b"\x00\x00"
    body = b"AIFC" if compression is not None else b"AIFF"
    body += before + chunk(b"COMM", common, order=">")
    body += chunk(b"SSND", struct.pack(">II", offset, 0) + bytes(offset) + data, ssnd_size, ">") + behind
    return b"FORM" + struct.pack(">I", len(body) if form_size is None else form_size) + body


def ssnd_first(data: bytes) -> bytes:
    """Move an aiff's COMM chunk behind its SSND chunk."""
    return data[:12] + data[38:] + data[12:38]


def with_total(data: bytes, factor: float) -> bytes:
    """Multiply the number of samples in a flac's STREAMINFO."""
    high, low = data[21], data[22:26]
    total = int(((high & 15) << 32 | int.from_bytes(low, "big")) * factor)
    return put(data, 21, bytes([high & 0xF0 | total >> 32]) + (total & 0xFFFFFFFF).to_bytes(4, "big"))


def dsf() -> bytes:
    """Make a DSD64 file: each sample at 44.1 kHz becomes 64 bits with as many ones as it is high."""
    samples = scale(range(4), 44100)[:, 0]
    ones = np.round((samples + 1) * 32).astype(np.int64)[:, None]
    place = np.arange(65)
    bits = np.diff(place * ones // 64, axis=1).astype(np.uint8).ravel()
    data = np.packbits(bits, bitorder="little").tobytes()
    count = len(bits)
    data = data.ljust(-(-len(data) // 4096) * 4096, b"\x69")
    form = b"fmt " + struct.pack("<QIIIIIIQII", 52, 1, 0, 1, 1, 2822400, 1, count, 4096, 0)
    body = form + b"data" + struct.pack("<Q", 12 + len(data)) + data
    return b"DSD " + struct.pack("<QQQ", 28, 28 + len(body), 0) + body


def archive(data: bytes, name: str) -> bytes:
    """Make a zip with one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        members.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


PNG = (
    b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0) + bytes(4)
    + struct.pack(">I", 0) + b"IEND\xae\x42\x60\x82"
)  # fmt: skip


def with_flac_block(data: bytes, kind: int, body: bytes) -> bytes:
    """Put a metadata block behind a flac's STREAMINFO."""
    return put(data, 4, b"\0")[:42] + bytes([kind | data[4] & 128]) + len(body).to_bytes(3, "big") + body + data[42:]


def without_flac_frames(data: bytes, first: int, last: int) -> bytes:
    """Remove whole frames from a flac of one block size."""
    sync = data[(at := data.index(b"\xff\xf8", 42)) : at + 4]
    starts = [i for i in range(42, len(data) - 4) if data[i : i + 4] == sync]
    return data[: starts[first]] + data[starts[last] :]


def silence(container: str, subtype: str) -> bytes:
    """Encode three seconds of digital silence with libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(66150), 22050, format=container, subtype=subtype)
    return file.getvalue()
