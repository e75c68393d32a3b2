"""WAV files in the graph: every encoding, header and size that the Python decoder reads, and what is refused."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from keras_tagger.audio import load
from keras_tagger.export.wav import decode_wav
from tiny import RATE, noise

STANDARD_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def fmt(
    code: int = 1, channels: int = 1, bits: int = 16, rate: int = RATE, block: int | None = None, more: bytes = b""
) -> tuple[bytes, bytes]:
    """A format chunk."""
    block = channels * bits // 8 if block is None else block
    return b"fmt ", struct.pack("<HHIIHH", code, channels, rate, rate * block, block, bits) + more


def extensible(code: int, channels: int, bits: int, valid_bits: int) -> tuple[bytes, bytes]:
    more = struct.pack("<HHIH", 22, valid_bits, 0, code) + STANDARD_GUID_TAIL
    return fmt(0xFFFE, channels, bits, more=more)


def riff(*chunks: tuple[bytes, bytes], data_size: int | None = None, riff_size: int | None = None) -> bytes:
    """A file of these chunks, of which those of odd size are padded; the header may lie about sizes."""
    body = b"WAVE"
    for name, content in chunks:
        size = data_size if name == b"data" and data_size is not None else len(content)
        body += name + struct.pack("<I", size) + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


PCM = (noise(999, 1) * 32767).astype("<i2")
DATA = (b"data", PCM.tobytes())
BEXT = (b"bext", bytes(range(256)) * 3 + b"odd")
JUNK = (b"JUNK", b"data\xff\xff\xff\x00fmt ...")
FACT = (b"fact", struct.pack("<I", 999))


@pytest.fixture(scope="module")
def decode() -> Any:
    """`decode_wav` as a graph without autograph, as it is in an exported model."""
    traced = tf.function(decode_wav, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)

    def run(data: bytes) -> tuple[np.ndarray, int]:
        samples, rate = traced(tf.constant(data))
        return samples.numpy(), int(rate)

    return run


ENCODINGS = [
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW")),
    *(("WAVEX", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW")),
    *(("RF64", subtype) for subtype in ("PCM_16", "PCM_24", "FLOAT")),
    *(("RIFX", subtype) for subtype in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
]


@pytest.mark.parametrize(("container", "subtype"), ENCODINGS)
def test_every_encoding_has_the_values_of_the_python_decoder(decode: Any, container: str, subtype: str) -> None:
    for channels in (1, 2, 6, 32):
        wave = np.clip(np.stack([noise(701, seed) for seed in range(channels)], axis=1) * 2, -1, 1)
        file = io.BytesIO()
        endian = "BIG" if container == "RIFX" else "FILE"
        kind = "WAV" if container == "RIFX" else container
        soundfile.write(file, wave, 44100, format=kind, subtype=subtype, endian=endian)
        data = file.getvalue()
        samples, rate = decode(data)
        assert rate == 44100
        expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        np.testing.assert_allclose(samples, expected, atol=1e-7)
        assert np.abs(samples - wave).max() < (0.05 if subtype in ("ALAW", "ULAW", "PCM_U8") else 1e-4)
        np.testing.assert_allclose(samples.mean(axis=1), load(data, 44100), atol=1e-6)


LAYOUTS = {
    "chunks before the format": riff(JUNK, BEXT, fmt(), DATA),
    "chunks between": riff(fmt(), FACT, BEXT, JUNK, DATA),
    "chunks behind": riff(fmt(), DATA, BEXT, JUNK),
    "garbage behind": riff(fmt(), DATA) + b"TAG and no chunk at all",
    "a large chunk behind": riff(fmt(), DATA, (b"id3 ", bytes(99_999))),
    "no size and a chunk behind the format": riff(fmt(), BEXT, DATA, data_size=0, riff_size=0),
    "a size field behind the format": riff(fmt(more=bytes(2)), DATA),
    "a wrong block size": riff(fmt(block=0), DATA),
    "12 of 16 bits": riff(fmt(bits=12, block=2), DATA),
    "an extensible format": riff(extensible(1, 1, 16, 16), DATA),
    "no sizes": riff(fmt(), DATA, data_size=0, riff_size=0),
    "sizes of ffmpeg to a pipe": riff(fmt(), JUNK, DATA, data_size=0xFFFFFFFF, riff_size=0xFFFFFFFF),
    "sizes of sox to a pipe": riff(fmt(), DATA, data_size=0x7FFFF000, riff_size=0x7FFFF024),
    "sizes of arecord to a pipe": riff(fmt(), DATA, data_size=0x80000000, riff_size=0x80000024),
    "a size that counts the header": riff(fmt(), DATA, data_size=len(DATA[1]) + 44),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_samples(decode: Any, name: str) -> None:
    samples, rate = decode(LAYOUTS[name])
    np.testing.assert_array_equal(samples[:, 0], PCM.astype(np.float32) / 32768)
    assert rate == RATE


def test_the_format_may_be_behind_the_samples(decode: Any) -> None:
    # libsndfile refuses this.
    np.testing.assert_array_equal(decode(riff(DATA, BEXT, fmt()))[0][:, 0], PCM.astype(np.float32) / 32768)


def test_rf64_has_its_size_in_a_chunk_of_its_own(decode: Any) -> None:
    sizes = (b"ds64", struct.pack("<QQQI", 0, 1000, 500, 0))
    data = b"RF64" + riff(sizes, fmt(), DATA, data_size=0xFFFFFFFF, riff_size=0xFFFFFFFF)[4:]
    np.testing.assert_array_equal(decode(data)[0][:, 0], PCM[:500].astype(np.float32) / 32768)


def test_an_incomplete_last_frame_is_left_out(decode: Any) -> None:
    data = riff(fmt(channels=2), (b"data", PCM[:7].tobytes()))
    np.testing.assert_array_equal(decode(data)[0], PCM[:6].reshape(3, 2).astype(np.float32) / 32768)


def test_fewer_valid_bits_do_not_change_the_scale(decode: Any) -> None:
    # 20 bits lie in the high bits of 3 bytes.
    stored = (b"data", bytes.fromhex("f0ff7f 000080 100000"))
    samples, _ = decode(riff(extensible(1, 1, 24, 20), stored))
    np.testing.assert_array_equal(samples[:, 0], np.float32([0x7FFFF0, -0x800000, 0x10]) / 2**23)


TEXT = "expected a WAV file (RIFF, PCM or float). Received "
ADVICE = ". Decode it first, and send its samples to the signature serving_default."
FORMATS = "expected a WAV file of PCM (8, 16, 24, 32 bits), float (32, 64), A-law or mu-law. Received format code "
REFUSED = {
    "nothing": (b"", TEXT + "no bytes."),
    "one byte": (b"R", TEXT + "bytes that are not one."),
    "text": (b"path,tags\nsong.mp3,rock\n", TEXT + "bytes that are not one."),
    "an mp3 with a tag": (b"ID3\x04\0\0\0\0\0\0", TEXT + "an mp3" + ADVICE),
    "an mp3": (b"\xff\xfb\x90\x64" + bytes(400), TEXT + "an mp3" + ADVICE),
    "a flac": (b"fLaC\0\0\0\x22" + bytes(34), TEXT + "a flac" + ADVICE),
    "an ogg": (b"OggS\0\2" + bytes(50), TEXT + "an ogg" + ADVICE),
    "an aiff": (b"FORM\0\0\0\0AIFF", TEXT + "an aiff" + ADVICE),
    "an m4a": (b"\0\0\0\x20ftypM4A ", TEXT + "an m4a or mp4" + ADVICE),
    "an avi": (b"RIFF\0\0\0\0AVI LIST", TEXT + "bytes that are not one."),
    "only a head": (riff(), TEXT + "one without a format (no fmt chunk)."),
    "no format": (riff(JUNK, DATA), TEXT + "one without a format (no fmt chunk)."),
    "a short format": (riff((b"fmt ", b"\1\0\1\0"), DATA), TEXT + "one without a format (no fmt chunk)."),
    "no data": (riff(fmt(), JUNK), TEXT + "one without samples (no data chunk)."),
    "no channels": (riff(fmt(channels=0), DATA), "expected a WAV file of 1 to 1024 channels. Received: 0"),
    "many channels": (riff(fmt(channels=1025), DATA), "expected a WAV file of 1 to 1024 channels. Received: 1025"),
    "no rate": (riff(fmt(rate=0), DATA), "expected a WAV file with a sample rate of 1000 to 1000000 Hz. Received: 0"),
    "a high rate": (riff(fmt(rate=2**32 - 1, block=0), DATA), "1000 to 1000000 Hz. Received: 4294967295"),
    "ADPCM": (riff(fmt(2, bits=4, more=bytes(34)), DATA), FORMATS + "2, 4 bits."),
    "IMA ADPCM": (riff(fmt(0x11, bits=4, more=bytes(4)), DATA), FORMATS + "17, 4 bits."),
    "mp3 in a wav": (riff(fmt(0x55, bits=0), DATA), FORMATS + "85, 0 bits."),
    "half floats": (riff(fmt(3, bits=16), DATA), FORMATS + "3, 16 bits."),
    "64-bit integers": (riff(fmt(1, bits=64), DATA), FORMATS + "1, 64 bits."),
    "ADPCM in an extensible format": (riff(extensible(2, 1, 4, 4), DATA), FORMATS + "2, 4 bits."),
    "an extensible format without an extension": (riff(fmt(0xFFFE), DATA), FORMATS + "65534, 16 bits."),
    "no samples": (riff(fmt(), (b"data", b"")), "at least one sample. Received one without samples."),
    "no samples and a chunk behind": (riff(fmt(), (b"data", b""), JUNK), "Received one without samples."),
    "half a sample": (riff(fmt(), (b"data", b"\0")), "Received one without samples."),
    "two files joined": (
        riff(fmt(rate=2000), DATA) * 2,
        "expected one WAV file whose header states all of its samples. "
        "Received 2042 bytes behind them that are in no chunk.",
    ),
    "a size of a half": (
        riff(fmt(rate=2000), (b"data", PCM.tobytes()), data_size=998),
        "Received 1000 bytes behind them that are in no chunk.",
    ),
    "half of the file": (
        riff(fmt(rate=2000), DATA)[:1043],
        "expected a whole WAV file. Received one that is truncated: 999 bytes of samples instead of 1998.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_one_sentence(decode: Any, name: str) -> None:
    data, text = REFUSED[name]
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        decode(data)
    # The message of an Assert op ends with its tensors in brackets.
    message = caught.value.message.split("assertion failed: [")[1].split("]")[0]
    assert message.endswith(text)
    assert message.startswith("expected ")


def test_a_file_of_many_empty_chunks_ends(decode: Any) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="no fmt chunk"):
        decode(riff(*[(b"JUNK", b"")] * 100_000))
