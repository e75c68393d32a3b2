"""Audio of any kind to mono float32 at the model's rate: the one decode path of the package.

libsndfile (through soundfile) decodes and libsoxr (through soxr, quality HQ) resamples, both in pieces, so
that memory does not grow with the length of a file. The format is found by content: a file's name means
nothing here.

What libsndfile 1.2 gets wrong is put right before it sees a file:

- an mp3 without a Xing/Info frame gets one, because libsndfile guesses the length of such a file from its
  first frames and silently stops there;
- a RIFF header with a data size of 0, which programs that write to a pipe leave behind, is read to the
  file's end;
- a wav or aiff with less data than its header says, and an ogg (vorbis, opus) with a broken page, are
  refused, where libsndfile returns a part;
- vorbis is decoded from its beginning to get to an excerpt, because libsndfile seeks in it to wrong places.

A damaged or truncated flac, and an mp3 shorter than its Xing/Info frame says, raise when decoding comes to
that place. Not detectable, and therefore decoded as far as it goes: an ogg cut exactly between two pages, a
damaged frame of an mp3, an mp3 cut short that has no Xing/Info frame, and a wav cut short whose header gives
the size of an endless stream.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import AudioError, AudioNotFoundError

AudioSource: TypeAlias = "str | os.PathLike[str] | bytes | tuple[np.ndarray, int]"
"""A path (local or any `tf.io.gfile` scheme), an encoded file's bytes, or `(array, sample_rate)`.

An array is `[samples]` or `[samples, channels]`: floats (of any range, left alone) or PCM as int16 (divided
by 2**15), int32 (by 2**31) or uint8 ((x - 128) / 128).
"""

Waveform: TypeAlias = npt.NDArray[np.float32]

MIN_RATE, MAX_RATE = 1_000, 1_000_000
MAX_ARRAY_CHANNELS = 64

_PIECE_SAMPLES = 1 << 18  # decoded at a time, over all channels
_WINDOW_BYTES = 1 << 20  # read from a file at a time
# Decoded around an excerpt: covers the resampler's filter and the settling of a lossy decoder.
_MARGIN_SECONDS = 0.1
_SHORTFALL_SECONDS = 0.1  # by which encoders miscount
_UNKNOWN_FRAMES = 1 << 62  # libsndfile gives a flac of unknown length 2**63 - 1 frames

# tensorflow has file://, ram:// and gs:// itself.
_TENSORFLOW_IO_SCHEMES = frozenset({"s3", "az", "hdfs", "har", "viewfs", "oss", "http", "https"})

_PCM_SCALES = {"int16": (0.0, 2.0**15), "int32": (0.0, 2.0**31), "uint8": (128.0, 128.0)}


@dataclass(frozen=True)
class AudioInfo:
    """What a header says.

    `seconds` is None where it does not say, `sample_rate` is in Hz, `format` is container and coding ("WAV
    PCM_16").
    """

    seconds: float | None
    sample_rate: int
    channels: int
    format: str


@dataclass(frozen=True)
class Window:
    """A stretch of a longer signal.

    `start_sample` is where `waveform` (float32 [samples]) begins in the signal; `new_samples` counts the
    samples of the signal in it that no earlier window held.
    """

    start_sample: int
    waveform: Waveform
    new_samples: int


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path has a `scheme://` and so is opened through `tf.io.gfile`."""
    return _scheme(os.fspath(path)) is not None


def info(source: AudioSource) -> AudioInfo:
    """Read length, rate, channels and format of `source` without decoding it.

    Raises:
        AudioNotFoundError: nothing is at the path.
        AudioError: `source` is not audio, empty, or visibly truncated.
    """
    with _open(source) as reader:
        seconds = None if reader.frames is None else reader.frames / reader.sample_rate
        return AudioInfo(seconds, reader.sample_rate, reader.channels, reader.format)


def blocks(
    source: AudioSource,
    sample_rate: int = 16000,
    block_seconds: float = 30.0,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
) -> Iterator[Waveform]:
    """Decode, average the channels and resample, block by block, in constant memory.

    `n` samples at rate `r` become `ceil(n * sample_rate / r)`. An excerpt is the slice from
    `round(start_seconds * sample_rate)` to `round(end_seconds * sample_rate)` of the whole, to float32
    rounding; an end beyond the end of the audio is the end of the audio. Values beyond [-1, 1] are left
    alone.

    Returns:
        float32 [samples] blocks of `block_seconds`, the last one shorter; at least one sample in all.

    Raises:
        AudioNotFoundError: nothing is at the path.
        AudioError: `source` is not audio, empty, truncated, corrupt or not finite, or the excerpt is
            impossible. An impossible argument is refused at once, a bad source by the first block, and what
            only decoding shows on the way, after good blocks.
    """
    _check_rate(sample_rate, "sample_rate")
    if not (math.isfinite(block_seconds) and block_seconds > 0):
        raise _error("block_seconds above 0", repr(block_seconds))
    if not (math.isfinite(start_seconds) and start_seconds >= 0):
        raise _error("start_seconds of 0 or more", repr(start_seconds))
    if end_seconds is not None and not (
        math.isfinite(end_seconds) and round(end_seconds * sample_rate) > round(start_seconds * sample_rate)
    ):
        raise _error(f"end_seconds after start_seconds={start_seconds!r}", repr(end_seconds))
    pieces = _resampled(source, sample_rate, start_seconds, end_seconds)
    return _reblocked(pieces, max(1, round(block_seconds * sample_rate)))


def load(
    source: AudioSource,
    sample_rate: int = 16000,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
) -> Waveform:
    """Decode `source` or an excerpt of it to float32 [samples]: `blocks` joined, with the same errors."""
    parts = list(blocks(source, sample_rate, start_seconds=start_seconds, end_seconds=end_seconds))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def windows(
    source: AudioSource,
    sample_rate: int,
    window_samples: int,
    token_samples: int = 1,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
) -> Iterator[Window]:
    """Cut audio of any length, or an excerpt of it, into windows for a model, in constant memory.

    Windows lie at multiples of `window_samples`. Audio of at most one window gives a single `Window` of the
    audio's own length (the model pads). Else every window is full: for n samples, T = ceil(n /
    token_samples) and W = window_samples / token_samples, the last one begins at token T - W and ends with
    up to token_samples - 1 zeros. The `new_samples` of all windows add up to n.

    Raises:
        ValueError: `window_samples` is not a positive multiple of `token_samples`.
        AudioError, AudioNotFoundError: as `blocks`.
    """
    if token_samples < 1 or window_samples < 1 or window_samples % token_samples:
        raise ValueError(
            "Expected window_samples to be a positive multiple of token_samples. "
            f"Received: window_samples={window_samples!r}, token_samples={token_samples!r}."
        )
    pieces = blocks(source, sample_rate, window_samples / sample_rate, start_seconds, end_seconds)
    return _windows(pieces, window_samples, token_samples)


def _windows(parts: Iterator[Waveform], window_samples: int, token_samples: int) -> Iterator[Window]:
    previous: Waveform | None = None
    start = 0
    for part in parts:
        if len(part) == window_samples or previous is None:
            yield Window(start, part, len(part))
        else:
            tokens = math.ceil((start + len(part)) / token_samples)
            shifted = tokens * token_samples - window_samples
            joined = np.concatenate([previous[window_samples - (start - shifted) :], part])
            yield Window(shifted, np.pad(joined, (0, window_samples - len(joined))), len(part))
        previous = part
        start += len(part)


def _reblocked(pieces: Iterable[Waveform], size: int) -> Iterator[Waveform]:
    """Join pieces of any length into blocks of `size` samples and a last shorter one."""
    held: list[Waveform] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= size:
            joined = np.concatenate(held)
            whole = count - count % size
            yield from (joined[i : i + size] for i in range(0, whole, size))
            held, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(held)


def _resampled(
    source: AudioSource, sample_rate: int, start_seconds: float = 0.0, end_seconds: float | None = None
) -> Iterator[Waveform]:
    """Decode and resample an excerpt in pieces.

    Input and output samples coincide 1/gcd(rates) seconds apart. Decoding begins at such a place ahead of the
    excerpt and ends behind it, so that the samples of an excerpt are those of the whole signal.
    """
    import soxr

    first = round(start_seconds * sample_rate)
    last = None if end_seconds is None else round(end_seconds * sample_rate)
    with _open(source) as reader:

        def output_length(frames: int) -> int:
            return -(-frames * sample_rate // reader.sample_rate)

        def check_start(frames: int) -> None:
            if first >= output_length(frames):
                seconds = frames / reader.sample_rate
                raise _error(f"start_seconds before the end of {reader.name} at {seconds:.3f} s", repr(start_seconds))

        if reader.frames is not None:
            check_start(reader.frames)
        common = math.gcd(reader.sample_rate, sample_rate)
        steps = max(0, first * common // sample_rate - math.ceil(_MARGIN_SECONDS * common))
        reader.skip(steps * (reader.sample_rate // common))
        stop: float = math.inf
        if last is not None:
            stop = -(-last * reader.sample_rate // sample_rate) + math.ceil(_MARGIN_SECONDS * reader.sample_rate)
        resampler = None
        if reader.sample_rate != sample_rate:
            resampler = soxr.ResampleStream(reader.sample_rate, sample_rate, 1, dtype="float32", quality="HQ")
        limit: float = math.inf if last is None else last
        position = steps * (sample_rate // common)
        ended = False
        while not ended and position < limit:
            wanted = int(min(max(1, _PIECE_SAMPLES // reader.channels), stop - reader.position))
            piece = reader.read(wanted)
            ended = len(piece) < wanted or reader.position >= stop
            if len(piece) < wanted:
                check_start(reader.position)
                limit = min(limit, output_length(reader.position))
            if resampler is not None:
                if ended:
                    # soxr rounds the length to the nearest: silence behind the end makes it always enough.
                    silence = math.ceil(reader.sample_rate / sample_rate) + 1
                    piece = np.pad(piece, (0, silence))
                piece = resampler.resample_chunk(piece, last=ended)
            start, position = position, position + len(piece)
            piece = piece[max(0, first - start) : max(0, int(min(limit, position)) - start)]
            if len(piece):
                yield piece


class _Reader:
    """An opened source, read on from frame `position`; `frames` is its length, None where unknown."""

    name: str
    sample_rate: int
    channels: int
    frames: int | None
    format: str
    position: int = 0

    def skip(self, frames: int) -> None:
        """Go from the beginning to `frames`, or to the end if that comes first."""
        raise NotImplementedError

    def read(self, frames: int) -> Waveform:
        """Decode to mono float32: `frames` samples, fewer at the end only."""
        raise NotImplementedError


class _ArrayReader(_Reader):
    """Reads `(array, sample_rate)`."""

    def __init__(self, array: Any, sample_rate: Any):
        if not isinstance(array, np.ndarray):
            kind = type(array).__name__
            raise _error("a numpy array and a sample rate in (array, sample_rate)", f"an array of type {kind}")
        self.name = f"an array of shape {array.shape} and type {array.dtype}"
        if array.dtype.kind != "f" and array.dtype.newbyteorder("=").name not in _PCM_SCALES:
            raise _error("an array of floats, int16, int32 or uint8", self.name)
        if array.ndim not in (1, 2):
            raise _error("an array [samples] or [samples, channels]", self.name)
        if array.size == 0:
            raise _error("an array of at least one sample", self.name)
        self._array = array.reshape(len(array), -1)
        self.channels = self._array.shape[1]
        if self.channels > MAX_ARRAY_CHANNELS:
            raise _error(
                f"an array [samples, channels] of at most {MAX_ARRAY_CHANNELS} channels",
                f"{self.name}, which looks like [channels, samples]",
            )
        self.sample_rate = _check_rate(sample_rate, f"the sample rate of {self.name}")
        self.frames = len(array)
        self.format = f"array {array.dtype}"

    def skip(self, frames: int) -> None:
        self.position += frames

    def read(self, frames: int) -> Waveform:
        piece = self._array[self.position : self.position + frames]
        with np.errstate(over="ignore"):
            scaled = piece.astype(np.float32)
        if piece.dtype.kind != "f":
            offset, scale = _PCM_SCALES[piece.dtype.newbyteorder("=").name]
            scaled = (scaled - np.float32(offset)) / np.float32(scale)
        mono = _to_mono(scaled, self)
        self.position += len(mono)
        return mono


class _FileReader(_Reader):
    """Reads an encoded file with libsndfile."""

    def __init__(self, name: str, stream: _Stream):
        import soundfile

        self.name = name
        self._stream = stream
        self._errors = soundfile.SoundFileError
        self._promised = _prepare(name, stream)
        try:
            self._file = _sequential_sound_file()(stream, "r")
        except self._errors as error:
            self._check_stream()
            raise _error(
                "audio (wav, flac, ogg vorbis, opus, mp3, aiff or another format of libsndfile)",
                f"{name}, which is none of these or has a damaged header",
            ) from error
        self._check_stream()
        self.channels = self._file.channels
        self.sample_rate = _check_rate(self._file.samplerate, f"the sample rate of {name}")
        self.frames = self._file.frames if self._file.frames < _UNKNOWN_FRAMES else None
        self.format = f"{self._file.format} {self._file.subtype}"
        if self.frames == 0:
            raise _error("audio of at least one sample", f"{name}, which holds no samples")

    def close(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def skip(self, frames: int) -> None:
        # libsndfile seeks in vorbis to the wrong place near the end of any file and all over some.
        if self.frames is None or self._file.subtype == "VORBIS":
            while self.position < frames and len(
                self.read(min(frames - self.position, _PIECE_SAMPLES // self.channels))
            ):
                pass
        elif frames:
            try:
                self._file.seek(frames)
            except self._errors as error:
                self._check_stream()
                raise self._corrupt(frames) from error
            self.position = frames

    def read(self, frames: int) -> Waveform:
        try:
            piece = self._file.read(frames, dtype="float32", always_2d=True)
        except self._errors as error:
            self._check_stream()
            raise self._corrupt(self.position) from error
        self._check_stream()
        mono = _to_mono(piece, self)
        self.position += len(mono)
        if len(mono) < frames and self._promised and self.frames is not None:
            missing = (self.frames - self.position) / self.sample_rate
            if missing > _SHORTFALL_SECONDS:
                raise self._corrupt(self.position)
        if len(mono) < frames and self.position == 0:
            raise _error("audio of at least one sample", f"{self.name}, of which nothing can be decoded")
        return mono

    def _check_stream(self) -> None:
        if self._stream.error is not None:
            raise self._stream.error

    def _corrupt(self, frames: int) -> AudioError:
        whole = "" if self.frames is None else f" of {self.frames / self.sample_rate:.3f} s"
        return _error(
            "audio whole to its end",
            f"{self.name}, truncated or corrupt at or after {frames / self.sample_rate:.3f} s{whole}",
        )


@functools.cache
def _sequential_sound_file() -> type[Any]:
    import soundfile

    class SequentialSoundFile(soundfile.SoundFile):
        """Does not seek behind each read: at the end of a flac of unknown length that fails."""

        def seekable(self) -> bool:
            return False

    return SequentialSoundFile


def _to_mono(samples: Waveform, reader: _Reader) -> Waveform:
    """Average [samples, channels] over the channels; raise if a value is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        mono = samples[:, 0]
        if reader.channels > 1:
            # Column by column: several times faster than mean(axis=1) over so short an axis.
            mono = mono.copy()
            for channel in range(1, reader.channels):
                mono += samples[:, channel]
            mono /= np.float32(reader.channels)
    finite = np.isfinite(mono)
    if not finite.all():
        seconds = (reader.position + int(np.argmin(finite))) / reader.sample_rate
        raise _error("finite samples", f"{reader.name}, with NaN or infinity at {seconds:.3f} s")
    return np.ascontiguousarray(mono)


class _Stream:
    """The file object that libsndfile reads: `prefix` and then `raw` from `base` on, read in large pieces.

    An exception cannot pass through libsndfile, so that of a failing read is kept in `error`, and
    libsndfile sees the end of the file.
    """

    def __init__(self, name: str, raw: Any, size: int):
        self.size = size
        self.error: AudioError | None = None
        self._name = name
        self._raw = raw
        self._prefix = b""
        self._base = 0
        self._position = 0
        self._window = b""
        self._window_start = 0

    def splice(self, prefix: bytes, base: int) -> None:
        self._prefix, self._base = prefix, base

    def at(self, offset: int, count: int) -> bytes:
        """The bytes of the file itself from `offset` on; fewer than `count` at its end only."""
        begin = offset - self._window_start
        if begin < 0 or begin + count > len(self._window):
            try:
                self._raw.seek(offset)
                self._window = self._raw.read(max(count, _WINDOW_BYTES))
            except Exception as error:  # OSError, or anything of a tf.io.gfile file system
                raise _unreadable(self._name, error) from error
            self._window_start, begin = offset, 0
        return self._window[begin : begin + count]

    def readinto(self, buffer: Any) -> int:
        count = len(buffer)
        data = self._prefix[self._position : self._position + count]
        if len(data) < count:
            try:
                offset = self._base + self._position + len(data) - len(self._prefix)
                data += self.at(offset, count - len(data))
            except AudioError as error:
                self.error = error
                return 0
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        length = len(self._prefix) + self.size - self._base
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: length}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        return self._position


@contextlib.contextmanager
def _open(source: AudioSource) -> Iterator[_Reader]:
    if isinstance(source, tuple) and len(source) == 2:
        yield _ArrayReader(*source)
        return
    if isinstance(source, bytes):
        name, raw, size = f"{len(source)} bytes", io.BytesIO(source), len(source)
    elif isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        name = repr(path)
        raw, size = _open_local(path) if _scheme(path) is None else _open_remote(path)
    else:
        received = f"an object of type {type(source).__name__}"
        raise _error("audio as a path, an encoded file's bytes or a tuple (array, sample_rate)", received)
    with contextlib.closing(raw):
        if size == 0:
            raise _error("audio", f"{name}, which is empty")
        with contextlib.closing(_FileReader(name, _Stream(name, raw, size))) as reader:
            yield reader


def _open_local(path: str) -> tuple[Any, int]:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise _error("an audio file", f"{path!r}, which is a directory")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise _error("an audio file", f"{path!r}, which is not a regular file")
        return open(path, "rb"), status.st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AudioNotFoundError(f"Expected an audio file. Received: {path!r}, which does not exist.") from error
    except OSError as error:
        raise _unreadable(repr(path), error) from error
    except ValueError as error:
        if isinstance(error, AudioError):
            raise
        raise _error("a path", f"{path!r} ({error})") from error


def _open_remote(path: str) -> tuple[Any, int]:
    import tensorflow as tf

    scheme = _scheme(path)
    if scheme in _TENSORFLOW_IO_SCHEMES:
        try:
            import tensorflow_io  # noqa: F401  (registers its file systems with tf.io.gfile)
        except Exception as error:
            raise _error(
                f"tensorflow-io, to read {scheme}:// paths, from "
                'pip install "keras_tagger[io]" (it loads on TensorFlow up to 2.17 and Python up to 3.12)',
                f"{path!r} on TensorFlow {tf.__version__}",
            ) from error
    try:
        status = tf.io.gfile.stat(path)
        if status.is_directory:
            raise _error("an audio file", f"{path!r}, which is a directory")
        return tf.io.gfile.GFile(path, "rb"), status.length
    except tf.errors.NotFoundError as error:
        raise AudioNotFoundError(f"Expected an audio file. Received: {path!r}, which does not exist.") from error
    except tf.errors.UnimplementedError as error:
        raise _error("a path of a scheme that tf.io.gfile knows", repr(path)) from error
    except tf.errors.OpError as error:
        raise _unreadable(repr(path), error) from error


def _prepare(name: str, stream: _Stream) -> bool:
    """Check what a container's header and end tell, and mend what libsndfile would misread.

    Returns:
        Whether the length that libsndfile gives is the file's own word: decoding less of it means damage.
    """
    magic = stream.at(0, 12)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64") or (magic[:4] == b"FORM" and magic[8:] in (b"AIFF", b"AIFC")):
        _prepare_chunks(name, stream, magic)
    elif magic[:4] == b"OggS":
        _check_pages(name, stream)
    elif (start := _mp3_start(stream)) is not None:
        return _prepare_mp3(stream, start)
    return True


def _prepare_chunks(name: str, stream: _Stream, magic: bytes) -> None:
    """Compare the size of the sample data in a wav or aiff with what is there."""
    form = magic[:4] == b"FORM"
    data_id = b"SSND" if form else b"data"

    def number(data: bytes) -> int:
        return int.from_bytes(data, "big" if magic[:4] in (b"FORM", b"RIFX") else "little")

    offset, size, size_64 = 12, 0, None
    for _ in range(1000):
        head = stream.at(offset, 8)
        if len(head) < 8:
            return
        size = number(head[4:])
        if head[:4] == data_id:
            break
        if head[:4] == b"fmt " and not form and number(stream.at(offset + 12, 4)) == 0:
            raise _error("a sample rate above 0 Hz", f"{name}, whose header says 0 Hz")
        if head[:4] == b"ds64":
            size_64 = number(stream.at(offset + 16, 8))
        offset += 8 + size + size % 2
    else:
        return
    start = offset + 8
    present = stream.size - start
    if size == 0xFFFFFFFF and size_64:
        size = size_64
    elif size == 0 and present and number(magic[4:8]) + 8 != stream.size:
        endless = b"\xff\xff\xff\xff"
        stream.splice(magic[:4] + endless + stream.at(8, offset - 4) + endless, start)
        return
    elif size >= 0xFFFFF000 or 0x7FFFF000 <= size <= 0x80000024:
        return  # what ffmpeg, sox and arecord write for an endless stream
    if size > present:
        raise _error(
            f"{size} bytes of samples, as its header says",
            f"{name}, truncated, with {max(0, present)} bytes of them",
        )


_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _page_checksum(page: bytes) -> bytes:
    """The checksum of an ogg page: zlib's polynomial on bits in the other order, from 0 and not inverted."""
    blank = page[:22] + bytes(4) + page[26:]
    crc = zlib.crc32(blank.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(_REVERSED_BITS)


def _check_pages(name: str, stream: _Stream) -> None:
    """Raise if the pages of an ogg file are not whole, adjoining, with right checksums (RFC 3533, 6).

    libsndfile may take a stream with a bad page for a shorter one. What follows the end of a stream is a tag.
    """
    offset = 0
    ended = False
    while (header := stream.at(offset, 27))[:4] == b"OggS":
        lengths = stream.at(offset + 27, header[26]) if len(header) == 27 else b""
        size = 27 + len(lengths) + sum(lengths)
        page = stream.at(offset, size)
        if len(header) < 27 or len(lengths) < header[26] or len(page) < size:
            raise _error("an ogg file whole to its end", f"{name}, truncated within its last page")
        if _page_checksum(page) != page[22:26]:
            break
        ended = bool(header[5] & 4)
        offset += size
    else:
        if offset == stream.size or ended:
            return
    raise _error("an ogg file of unbroken pages", f"{name}, corrupt at byte {offset} of {stream.size}")


@dataclass(frozen=True)
class _Mp3Frame:
    word: int
    size: int  # bytes
    rate: int
    info_offset: int  # where a Xing/Info header lies in the frame


_MP3_KBPS = {
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def _mp3_frame(header: bytes) -> _Mp3Frame | None:
    """Parse the four bytes of an MPEG-1, 2 or 2.5 layer III frame header (ISO 11172-3, 2.4.1.3)."""
    word = int.from_bytes(header, "big")
    version, layer = word >> 19 & 3, word >> 17 & 3
    bitrate, rate_index, padding, mono = word >> 12 & 15, word >> 10 & 3, word >> 9 & 1, word >> 6 & 3 == 3
    if word >> 21 != 0x7FF or version == 1 or layer != 1 or bitrate in (0, 15) or rate_index == 3:
        return None
    first = version == 3
    rate = (44100, 48000, 32000)[rate_index] >> (0 if first else 1 if version == 2 else 2)
    size = (144 if first else 72) * _MP3_KBPS[first][bitrate - 1] * 1000 // rate + padding
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return _Mp3Frame(word, size, rate, 4 + side)


def _mp3_at(stream: _Stream, offset: int) -> _Mp3Frame | None:
    """The frame at `offset`, if a frame of the same rate or the end of the file follows it."""
    frame = _mp3_frame(stream.at(offset, 4))
    if frame is None:
        return None
    following = stream.at(offset + frame.size, 4)
    after = _mp3_frame(following)
    return frame if len(following) < 4 or (after is not None and after.rate == frame.rate) else None


def _mp3_start(stream: _Stream) -> int | None:
    """Where the first frame of an mp3 lies, behind ID3v2 tags and zero padding; None if this is no mp3."""
    offset = 0
    while (head := stream.at(offset, 10))[:3] == b"ID3" and len(head) == 10:
        a, b, c, d = head[6:]
        offset += 10 + (a << 21 | b << 14 | c << 7 | d)
    padding = stream.at(offset, _WINDOW_BYTES)
    offset += len(padding) - len(padding.lstrip(b"\0"))
    return None if _mp3_at(stream, offset) is None else offset


def _prepare_mp3(stream: _Stream, start: int) -> bool:
    """Give an mp3 without a frame count one; returns whether it had its own."""
    frame = _mp3_at(stream, start)
    assert frame is not None
    head = stream.at(start + frame.info_offset, 10)
    own = next((head[i : i + 8] for i in (0, 2) if head[i : i + 4] in (b"Xing", b"Info")), b"")
    if own and own[7] & 1:  # flag 1: the number of frames follows
        stream.splice(b"", start)
        return True
    # A frame of the middling bit rate 9, without checksum and padding, has room for the header.
    word = frame.word & ~(15 << 12) & ~(1 << 9) | 9 << 12 | 1 << 16
    head = word.to_bytes(4, "big").ljust(frame.info_offset, b"\0")
    made = _mp3_frame(head[:4])
    assert made is not None
    head += b"Xing" + (1).to_bytes(4, "big") + _count_mp3_frames(stream, start).to_bytes(4, "big")
    stream.splice(head.ljust(made.size, b"\0"), start)
    return False


def _count_mp3_frames(stream: _Stream, offset: int) -> int:
    """Count frames up to the end or a tag, over gaps of less than 1 KiB, as the decoder does."""
    count = 0
    while True:
        frame = _mp3_frame(stream.at(offset, 4))
        if frame is None:
            gap = next((i for i in range(1024) if _mp3_at(stream, offset + i) is not None), None)
            if gap is None or offset + gap >= stream.size:
                return count
            offset += gap
        else:
            count += 1
            offset += frame.size


def _scheme(path: str) -> str | None:
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", path)
    return match[1].lower() if match else None


def _check_rate(rate: Any, what: str) -> int:
    number = isinstance(rate, int | float | np.integer | np.floating) and not isinstance(rate, bool)
    if not number or not MIN_RATE <= rate <= MAX_RATE or rate != int(rate):
        raise _error(f"{what} to be a whole number of Hz from {MIN_RATE} to {MAX_RATE}", repr(rate))
    return int(rate)


def _unreadable(name: str, error: Exception) -> AudioError:
    reason = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
    return _error("a readable file", f"{name} ({' '.join(str(reason).split())[:200]})")


def _error(expected: str, received: str) -> AudioError:
    return AudioError(f"Expected {expected}. Received: {received}.")
