"""WAV files decoded in the graph with stock ops, for a server without Python.

`tf.audio.decode_wav` reads only 16-bit PCM with a plain header. This reads what `keras_tagger.audio` reads: integer PCM
of 8 to 32 bits, 32-bit and 64-bit float, A-law and mu-law, with a plain or an extensible header, in RIFF, RIFX
(big-endian) and RF64 files, with chunks in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_tagger.audio import MAX_RATE, MIN_RATE

MAX_CHANNELS = 1024
MAX_CHUNKS = 200
# Some programs count their header, or a few bytes too many. More than this is missing audio.
EXCESS_SECONDS = 0.05
# More than this behind the samples, outside any chunk, is audio that would be lost, such as a second file.
LOSS_SECONDS = 0.2

_MAGICS = (b"RIFF", b"RIFX", b"RF64", b"BW64")
_EXTENSIBLE = 0xFFFE
# Format code and bytes per sample, and the branch of `_samples` that decodes them.
_ENCODINGS = {(1, 2): 0, (1, 1): 1, (1, 3): 1, (1, 4): 1, (3, 4): 2, (3, 8): 3, (6, 1): 4, (7, 1): 4}
_A_LAW = 6
_OTHER_KINDS = (
    (0, b"ID3", "an mp3"),
    *((0, bytes([0xFF, second]), "an mp3") for second in (0xFA, 0xFB, 0xF2, 0xF3, 0xE2, 0xE3)),
    (0, b"fLaC", "a flac"),
    (0, b"OggS", "an ogg"),
    (0, b"FORM", "an aiff"),
    (4, b"ftyp", "an m4a or mp4"),
    (0, b"", ""),
)


class Wav(NamedTuple):
    """Where the samples of a WAV file are and how they are stored: scalar tensors, int64 except `big_endian`."""

    start: tf.Tensor
    frames: tf.Tensor
    channels: tf.Tensor
    rate: tf.Tensor
    sample_bytes: tf.Tensor
    format_code: tf.Tensor
    branch: tf.Tensor
    big_endian: tf.Tensor


def decode_wav(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode a WAV file.

    Args:
        data: The bytes of the file, a string scalar.

    Returns:
        The samples, float32 `[frames, channels]`, integers scaled to -1..1; and the sample rate in Hz, an int64 scalar.

    Raises:
        tf.errors.InvalidArgumentError: If the file is not a WAV file, is truncated, has no samples, or stores them in
            a format that this does not read.
    """
    wav = read_header(data)
    count = wav.frames * wav.channels
    raw = tf.io.decode_raw(tf.strings.substr(data, wav.start, count * wav.sample_bytes), tf.uint8)
    raw = tf.cond(
        wav.big_endian,
        lambda: tf.reshape(tf.reverse(tf.reshape(raw, tf.stack([count, wav.sample_bytes])), [1]), [-1]),
        lambda: raw,
    )
    return tf.reshape(_samples(raw, wav), tf.stack([wav.frames, wav.channels])), wav.rate


def read_header(data: tf.Tensor) -> Wav:
    """Find the samples in a WAV file (a string scalar); refuse a file that `decode_wav` cannot read."""
    length = tf.cast(tf.strings.length(data), tf.int64)
    magic = tf.strings.substr(data, 0, 4)
    big_endian = tf.equal(magic, b"RIFX")

    def numbers(raw: tf.Tensor, width: int) -> tf.Tensor:
        """Return the unsigned integers of `width` bytes in uint8 `[n]`."""
        weights = 256 ** np.arange(width)
        weights = tf.where(big_endian, tf.constant(weights[::-1].copy()), tf.constant(weights))
        return tf.reduce_sum(tf.reshape(tf.cast(raw, tf.int64), [-1, width]) * weights, axis=1)

    def read(offset: tf.Tensor, size: int) -> tf.Tensor:
        """Return the bytes at `offset`, and zeros for those beyond the end, uint8 `[size]`."""
        there = tf.strings.substr(data, tf.clip_by_value(offset, 0, length), size)
        return tf.io.decode_raw(there, tf.uint8, fixed_length=size)

    def step(
        offset: tf.Tensor, _: tf.Tensor, layout: tf.Tensor, samples: tf.Tensor, long: tf.Tensor
    ) -> list[tf.Tensor]:
        name = tf.strings.substr(data, offset, 4)
        size = numbers(read(offset, 8), 4)[1]
        chunk = tf.stack([offset + 8, size])
        end = offset + 8 + size
        # Behind the samples may be anything, such as a second file.
        is_chunk = tf.strings.regex_full_match(name, "[A-Za-z0-9_() ]{4}") & (end <= length + 1)
        going = (layout[0] < 0) | (samples[0] < 0) | (is_chunk & ~tf.reduce_any(name == [b"data", *_MAGICS]))
        return [
            tf.where(going, end + size % 2, offset),
            going,
            tf.where((name == b"fmt ") & (layout[0] < 0), chunk, layout),
            tf.where((name == b"data") & (samples[0] < 0), chunk, samples),
            tf.where(name == b"ds64", numbers(read(offset + 16, 8), 8)[0], long),
        ]

    missing = tf.constant([-1, 0], tf.int64)
    end, _, layout, samples, long = tf.while_loop(
        lambda offset, going, *_: going & (offset + 8 <= length),
        step,
        [tf.constant(12, tf.int64), tf.constant(True), missing, missing, tf.constant(0, tf.int64)],
        maximum_iterations=MAX_CHUNKS,
    )
    fields = read(layout[0], 28)
    halves, words = numbers(fields, 2), numbers(fields, 4)
    channels, rate, bits = halves[1], words[1], halves[7]
    sample_bytes = (bits + 7) // 8
    code = tf.where((halves[0] == _EXTENSIBLE) & (layout[1] >= 40), words[6], halves[0])
    known = tf.reduce_all(tf.stack([code, sample_bytes]) == np.array(list(_ENCODINGS)), axis=1)

    start, size = samples[0], samples[1]
    present = length - start
    # A program that writes to a pipe cannot know the size: it leaves 0, 2^31 or 2^32, less its header.
    unknown = (
        ((size == 0) & (numbers(read(tf.constant(4, tf.int64), 4), 4)[0] + 8 != length))
        | (size >= 0xFFFFF000)
        | ((size >= 0x7FFFF000) & (size <= 0x80000024))
    )
    size = tf.where((size == 0xFFFFFFFF) & (long > 0), long, tf.where(unknown, present, size))
    frame_bytes = tf.maximum(channels * sample_bytes, 1)
    frames = tf.minimum(size, present) // frame_bytes
    excess = size - present
    bytes_per_second = tf.cast(rate * frame_bytes, tf.float64)
    allowed = tf.minimum(tf.maximum(start, tf.cast(bytes_per_second * EXCESS_SECONDS, tf.int64)), present)
    # Samples without a stated size reach to the end.
    behind = tf.where(unknown, tf.zeros_like(end), length - end)

    expected = "expected a WAV file (RIFF, PCM or float). Received "
    text = tf.strings.as_string
    head = tf.strings.join([tf.strings.substr(data, 0, 12), bytes(12)])
    is_wav = tf.reduce_any(magic == _MAGICS) & (tf.strings.substr(head, 8, 4) == b"WAVE")
    offsets, magics, names = zip(*_OTHER_KINDS, strict=True)
    other = tf.strings.substr(tf.fill([len(magics)], head), offsets, [len(m) for m in magics]) == tf.constant(magics)
    advice = ". Decode it first, and send its samples to the signature serving_default."
    others = [f"{expected}{name}{advice}" if name else f"{expected}bytes that are not one." for name in names]
    problems = [
        (length == 0, expected + "no bytes."),
        (~is_wav, tf.constant(others)[tf.argmax(other)]),
        ((layout[0] < 0) | (layout[1] < 14), expected + "one without a format (no fmt chunk)."),
        (
            (channels < 1) | (channels > MAX_CHANNELS),
            tf.strings.join([f"expected a WAV file of 1 to {MAX_CHANNELS} channels. Received: ", text(channels)]),
        ),
        (
            (rate < MIN_RATE) | (rate > MAX_RATE),
            tf.strings.join(
                [f"expected a WAV file with a sample rate of {MIN_RATE} to {MAX_RATE} Hz. Received: ", text(rate)]
            ),
        ),
        (
            ~tf.reduce_any(known),
            tf.strings.join(
                [
                    "expected a WAV file of PCM (8, 16, 24, 32 bits), float (32, 64), A-law or mu-law. "
                    "Received format code ",
                    text(code),
                    ", ",
                    text(bits),
                    " bits.",
                ]
            ),
        ),
        (start < 0, expected + "one without samples (no data chunk)."),
        (
            excess > allowed,
            tf.strings.join(
                [
                    "expected a whole WAV file. Received one that is truncated: ",
                    text(present),
                    " bytes of samples instead of ",
                    text(size),
                    ".",
                ]
            ),
        ),
        (
            tf.cast(behind, tf.float64) >= bytes_per_second * LOSS_SECONDS,
            tf.strings.join(
                [
                    "expected one WAV file whose header states all of its samples. Received ",
                    text(behind),
                    " bytes behind them that are in no chunk.",
                ]
            ),
        ),
        (frames == 0, "expected a WAV file of at least one sample. Received one without samples."),
    ]
    with tf.control_dependencies([_assert_none(problems)]):
        return Wav(
            tf.identity(start),
            tf.identity(frames),
            tf.identity(channels),
            tf.identity(rate),
            tf.identity(sample_bytes),
            tf.identity(code),
            tf.gather(tf.constant(list(_ENCODINGS.values())), tf.argmax(known)),
            big_endian,
        )


def _assert_none(problems: Sequence[tuple[tf.Tensor, Any]]) -> Any:
    """Return an op that fails with the message of the first problem that is there."""
    found, messages = (tf.stack(column) for column in zip(*problems, strict=True))
    # One op for all: `tf.debugging.Assert` would trace two functions for each.
    return tf.raw_ops.Assert(condition=~tf.reduce_any(found), data=[messages[tf.argmax(found)]])


def _samples(raw: tf.Tensor, wav: Wav) -> tf.Tensor:
    """Return stored little-endian samples (uint8) as float32 `[n]`."""

    def stored(dtype: tf.DType) -> tf.Tensor:
        return tf.bitcast(tf.reshape(raw, [-1, dtype.size]), dtype)

    def integers() -> tf.Tensor:
        # As the high bytes of an int32. 8 bits are unsigned: their sign is the inverted highest bit.
        signed = tf.bitwise.bitwise_xor(raw, tf.where(wav.sample_bytes == 1, tf.constant(128, tf.uint8), 0))
        rows = tf.reshape(signed, tf.stack([-1, wav.sample_bytes]))
        words = tf.reshape(tf.pad(rows, [[0, 0], [4 - wav.sample_bytes, 0]]), [-1, 4])
        return tf.cast(tf.bitcast(words, tf.int32), tf.float32) * 2.0**-31

    branches: list[Callable[[], tf.Tensor]] = [
        lambda: tf.cast(stored(tf.int16), tf.float32) * 2.0**-15,
        integers,
        lambda: stored(tf.float32),
        lambda: tf.cast(stored(tf.float64), tf.float32),
        lambda: tf.gather(
            tf.where(wav.format_code == _A_LAW, *map(tf.constant, _law_tables())), tf.cast(raw, tf.int32)
        ),
    ]
    return tf.switch_case(wav.branch, branches)


def _law_tables() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the values of the 256 bytes of A-law and of mu-law (ITU-T G.711), float32 [256] each."""
    code = np.arange(256) ^ 0x55
    step, segment = (code & 15) << 4, code >> 4 & 7
    size = np.where(segment == 0, step + 8, (step + 0x108) << np.maximum(segment - 1, 0))
    a_law = np.where(code & 128, size, -size)
    code = ~np.arange(256)
    size = (((code & 15) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    mu_law = np.where(code & 128, -size, size)
    return (a_law / 32768).astype(np.float32), (mu_law / 32768).astype(np.float32)
