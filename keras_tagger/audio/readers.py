"""Decode arrays and files piece by piece to mono float32 at their own rate."""

from __future__ import annotations

import bisect
import contextlib
import functools
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_tagger.audio.av_reader import open_other
from keras_tagger.audio.containers import find_layout
from keras_tagger.audio.layout import LOSS_SECONDS, Damage, Layout, Segment, beyond_repair, describe
from keras_tagger.audio.levels import Mixer
from keras_tagger.audio.resample import PIECE_SAMPLES, resampled
from keras_tagger.audio.resample import Waveform as Waveform
from keras_tagger.audio.streams import Stream, View, audio_error, in_memory, is_file_object, open_stream
from keras_tagger.errors import AudioError, AudioWarning


@dataclass(frozen=True)
class RawAudio:
    """Uncompressed samples that arrive in pieces, such as from a microphone or a connection. They can be read once.

    Attributes:
        pieces: Interleaved little-endian samples. A piece may end anywhere, even within a sample.
        sample_rate: The rate in Hz.
        channels: The number of channels.
        sample_type: "float32" or "int16".

    Example:
        >>> with open("take.pcm", "rb") as file:
        ...     pieces = iter(lambda: file.read(4096), b"")
        ...     tagger.tag(RawAudio(pieces, 44100, channels=2, sample_type="int16"))
    """

    pieces: Iterable[bytes]
    sample_rate: int
    channels: int = 1
    sample_type: str = "float32"


AudioSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | tuple[npt.NDArray[Any], int] | RawAudio"
"""A path (local or of any `tf.io.gfile` scheme), an encoded file's bytes or a file object, `(array, sample_rate)`, or
`RawAudio`.

A binary file object is read from its position to its end and stays open. If it can seek, it returns to that position.
An array is `[samples]` or `[samples, channels]` of floats (not scaled or clipped) or PCM: int16 (divided by 2**15),
int32 (divided by 2**31) or uint8 ((x - 128) / 128).
"""

MIN_RATE, MAX_RATE = 1_000, 1_000_000
MAX_ARRAY_CHANNELS = 64

# Encoders may miscount by this much, and sequential reading of an ogg may end this much before its last granule.
_SHORTFALL_SECONDS = 0.1
_OPUS_SECONDS = 5.0  # decoded before an excerpt: at low bit rates, the decoder needs up to 3 s to settle
_ZEROS = 256  # samples, of which two are looked at; a frame of flac usually has at least 576
_UNKNOWN_FRAMES = 1 << 62  # libsndfile reports 2**63 - 1 frames for a flac of unknown length

# Sample types of `RawAudio`: numpy's name, and the full scale.
_RAW_TYPES = {"float32": ("<f4", 1.0), "int16": ("<i2", 2.0**15)}
_PCM_SCALES = {"int16": (0.0, 2.0**15), "int32": (0.0, 2.0**31), "uint8": (128.0, 128.0)}


@contextlib.contextmanager
def open_reader(source: AudioSource, warnings: list[AudioWarning] | None = None) -> Iterator[Reader]:
    """Open an audio source of any kind.

    Args:
        source: What to open.
        warnings: A list for what the reader finds; None to issue it with `warnings.warn`.

    Raises:
        AudioNotFoundError: If the file does not exist.
        AudioError: If `source` is not audio, empty, or visibly truncated.
    """
    if isinstance(source, tuple) and len(source) == 2:
        array_reader = _ArrayReader(*source)
        array_reader.warnings = warnings
        yield array_reader
    elif isinstance(source, RawAudio):
        raw_reader = _RawReader(source)
        raw_reader.warnings = warnings
        yield raw_reader
    elif isinstance(source, str | os.PathLike | bytes) or is_file_object(source):
        with open_stream(source) as stream, contextlib.closing(_FileReader(stream, warnings)) as reader:
            yield reader
    else:
        received = f"an object of type {type(source).__name__}"
        raise audio_error("audio as a path, bytes, a binary file or a tuple (array, sample_rate)", received)


class Reader:
    """An open source at frame `position`; `frames` is its length, or None if unknown.

    `piece_samples`, summed over channels, are decoded at a time.
    """

    name: str
    sample_rate: int
    channels: int
    frames: int | None
    format: str
    position: int = 0
    piece_samples: int = PIECE_SAMPLES
    warnings: list[AudioWarning] | None = None

    def warn(self, kind: str, message: str) -> None:
        """Report what a listener must know; see `AudioWarning`."""
        warning = AudioWarning(kind, message)
        if self.warnings is None:
            warnings.warn(warning, stacklevel=2)
        else:
            self.warnings.append(warning)

    @functools.cached_property
    def cancelled(self) -> list[tuple[float, float]]:
        """The times, in seconds, at which channels that cancel each other were decoded."""
        return []

    @functools.cached_property
    def mixer(self) -> Mixer:
        """What makes the decoded channels mono."""
        return Mixer(self.sample_rate, self.cancelled)

    def skip(self, frames: int) -> None:
        """Skip from the beginning to frame `frames`, or to the end if that comes first."""
        raise NotImplementedError

    def read(self, frames: int) -> Waveform:
        """Decode `frames` samples of mono float32, or fewer at the end."""
        raise NotImplementedError


class _ArrayReader(Reader):
    """Reads `(array, sample_rate)`."""

    def __init__(self, array: Any, sample_rate: Any):
        if not isinstance(array, np.ndarray):
            kind = type(array).__name__
            raise audio_error("a numpy array and a sample rate in (array, sample_rate)", f"an array of type {kind}")
        self.name = f"an array of shape {array.shape} and type {array.dtype}"
        if array.dtype.kind != "f" and array.dtype.newbyteorder("=").name not in _PCM_SCALES:
            raise audio_error("an array of floats, int16, int32 or uint8", self.name)
        if array.ndim not in (1, 2):
            raise audio_error("an array [samples] or [samples, channels]", self.name)
        if array.size == 0:
            raise audio_error("an array of at least one sample", self.name)
        self._array = array.reshape(len(array), -1)
        self.channels = self._array.shape[1]
        if self.channels > MAX_ARRAY_CHANNELS:
            raise audio_error(
                f"an array [samples, channels] of at most {MAX_ARRAY_CHANNELS} channels",
                f"{self.name}, which looks like [channels, samples]",
            )
        self.sample_rate = check_rate(sample_rate, f"the sample rate of {self.name}")
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
        mono = self.mixer.mix(scaled, self.position)
        self.position += len(mono)
        return mono


class _RawReader(Reader):
    """Reads `RawAudio`."""

    def __init__(self, raw: RawAudio):
        if raw.sample_type not in _RAW_TYPES:
            raise audio_error(f"sample_type {' or '.join(_RAW_TYPES)}", repr(raw.sample_type))
        if not (isinstance(raw.channels, int) and 1 <= raw.channels <= MAX_ARRAY_CHANNELS):
            raise audio_error(f"1 to {MAX_ARRAY_CHANNELS} channels", repr(raw.channels))
        self.name = f"raw {raw.sample_type} samples"
        self.sample_rate = check_rate(raw.sample_rate, "the sample rate of raw samples")
        self.channels = raw.channels
        self.frames = None
        self.format = f"raw {raw.sample_type}"
        # Half a second, so that windows are complete soon after their last sample has arrived.
        self.piece_samples = max(self.sample_rate * self.channels // 2, 1)
        self._dtype, self._scale = _RAW_TYPES[raw.sample_type]
        self._frame_bytes = np.dtype(self._dtype).itemsize * self.channels
        self._pieces = iter(raw.pieces)
        self._held = bytearray()

    def skip(self, frames: int) -> None:
        while self.position < frames:
            wanted = min(frames - self.position, self.piece_samples)
            if len(self.read(wanted)) < wanted:
                return

    def read(self, frames: int) -> Waveform:
        wanted = frames * self._frame_bytes
        while len(self._held) < wanted and (piece := next(self._pieces, None)) is not None:
            self._held += piece
        if not self._held and not self.position:
            raise audio_error("audio of at least one sample", f"{self.name}, of which there are none")
        count = min(frames, len(self._held) // self._frame_bytes)
        if count < frames and len(self._held) > count * self._frame_bytes:
            raise audio_error("whole samples of all channels", f"{self.name} that end within one")
        samples = np.frombuffer(bytes(self._held[: count * self._frame_bytes]), self._dtype).astype(np.float32)
        del self._held[: count * self._frame_bytes]
        mono = self.mixer.mix((samples / np.float32(self._scale)).reshape(-1, self.channels), self.position)
        self.position += count
        return mono


class _FileReader(Reader):
    """Reads an encoded file: its segments one after the other, at the rate of the first."""

    def __init__(self, stream: Stream, warnings: list[AudioWarning] | None):
        self.name = stream.name
        self.warnings = warnings
        self._stream = stream
        self._current: _SegmentReader | None = None
        self._arrange(find_layout(stream))
        if self.frames == 0:
            raise audio_error("audio of at least one sample", f"{self.name}, which holds no samples")

    def _arrange(self, layout: Layout) -> None:
        """Measure the segments, and open the first."""
        self.close()
        self._repair = layout.repair
        self._segments: list[Segment] = []
        self._starts: list[int] = []
        damage = list(layout.damage)
        frames: int | None = 0
        for segment in layout.segments:
            try:
                reader = _SegmentReader(self._stream, segment, self)
            except AudioError:
                if len(layout.segments) == 1:
                    raise
                place = (frames or 0) / self.sample_rate if self._segments else 0.0
                damage.append(Damage(place, 0.0, "a part of it cannot be decoded"))
                continue
            if not self._segments:
                self.channels, self.sample_rate, self.format = reader.channels, reader.sample_rate, reader.format
                self._current = reader
            self._segments.append(segment)
            assert frames is not None
            self._starts.append(frames)
            frames = None if reader.frames is None else frames + self._scaled(reader.frames, reader.sample_rate)
            if reader is not self._current:
                reader.close()
            elif reader.whole:
                damage = []
                break
        if not self._segments:
            raise audio_error("audio of at least one sample", f"{self.name}, from which nothing can be decoded")
        self.frames = frames
        self._index = 0
        self._pieces: Iterator[Waveform] | None = None
        self._held: Waveform = np.zeros(0, np.float32)
        self._report(damage)

    def _scaled(self, frames: int, rate: int) -> int:
        return -(-frames * self.sample_rate // rate)

    def _report(self, damage: list[Damage]) -> None:
        if not damage:
            return
        text = f"{self.name}, which is {describe(damage)}"
        if self.frames is not None and beyond_repair(damage, self.frames / self.sample_rate):
            raise audio_error("complete audio", text)
        self.warn("damaged", f"Expected complete audio. Received: {text}; the rest is used.")

    def close(self) -> None:
        """Close libsndfile's handle; the stream stays open."""
        if self._current is not None:
            self._current.close()
            self._current = None

    def _open(self, index: int, first: int) -> None:
        """Go to a frame of a segment, counted at the rate of the file."""
        if index != self._index:
            self.close()
            start_seconds = self._starts[index] / self.sample_rate
            self._current = _SegmentReader(self._stream, self._segments[index], self, start_seconds)
            self._index = index
        assert self._current is not None
        last = self._starts[index + 1] - self._starts[index] if index + 1 < len(self._segments) else None
        self._pieces = resampled(self._current, self.sample_rate, first, last)

    def skip(self, frames: int) -> None:
        if len(self._segments) == 1:
            assert self._current is not None
            try:
                self._current.skip(frames)
            except DamagedError:
                if self._repair is None:
                    raise
                self._arrange(self._repair())
                self.skip(frames)
            self.position = self._current.position
        else:
            index = bisect.bisect_right(self._starts, frames) - 1
            self._open(index, frames - self._starts[index])
            self.position = frames

    def read(self, frames: int) -> Waveform:
        position = self.position
        try:
            return self._read(frames)
        except DamagedError:
            if self._repair is None:
                raise
        # Once more from where this began, after a thorough examination.
        self._arrange(self._repair())
        self.skip(position)
        return self._read(frames)

    def _read(self, frames: int) -> Waveform:
        if len(self._segments) == 1:
            assert self._current is not None
            piece = self._current.read(frames)
            self.position = self._current.position
            return piece
        parts = []
        count = 0
        while count < frames and len(piece := self._next(frames - count)):
            parts.append(piece)
            count += len(piece)
            self.position += len(piece)
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _next(self, most: int) -> Waveform:
        """Decode at most `most` samples of the chain; none at its end."""
        while not len(self._held):
            end = self._starts[self._index + 1] if self._index + 1 < len(self._segments) else None
            if self._pieces is None:
                self._open(self._index, 0)
            assert self._pieces is not None
            self._held = next(self._pieces, self._held)
            if not len(self._held):
                if end is None:
                    break
                if end > self.position:  # fewer samples than stated
                    self._held = np.zeros(end - self.position, np.float32)
                else:
                    self._open(self._index + 1, 0)
        piece, self._held = self._held[:most], self._held[most:]
        return piece


class DamagedError(AudioError):
    """Decoding failed at some place."""


class _SegmentReader(Reader):
    """Reads one segment of a file with libsndfile, or the whole file with FFmpeg.

    Attributes:
        whole: Whether it reads the whole file.
    """

    def __init__(self, stream: Stream, segment: Segment, whole: Reader, start_seconds: float = 0.0):
        import soundfile

        self.name = stream.name
        self.warnings = whole.warnings
        self._stream = stream
        self._segment = segment
        self._start_seconds = start_seconds
        self._errors = soundfile.SoundFileError
        self._open(segment)
        self.channels = self._file.channels
        self.sample_rate = check_rate(self._file.samplerate, f"the sample rate of {self.name}")
        self.mixer = Mixer(self.sample_rate, whole.cancelled, start_seconds)
        self.frames = self._file.frames if self._file.frames < _UNKNOWN_FRAMES else None
        self._held = self.frames if segment.held is None and not self.whole else segment.held
        self.format = f"{self._file.format} {self._file.subtype}"

    def _open(self, segment: Segment) -> None:
        self._view = View(segment.stream or self._stream, segment.parts)
        descriptor = in_memory(self._view) if segment.piecemeal else None
        self.whole = False
        try:
            self._file = _sequential_sound_file()(self._view if descriptor is None else descriptor, "r")
        except self._errors as error:
            self._check_stream()
            # FFmpeg reads the whole file, and checks its length itself.
            self._file = open_other(self._stream, self.warn, error)
            self.whole = True
        self._check_stream()

    def close(self) -> None:
        """Close libsndfile's handle; the stream stays open."""
        if hasattr(self, "_file"):
            self._file.close()

    def skip(self, frames: int) -> None:
        if self._held is not None:
            frames = min(frames, self._held)
        jump = self._segment.jump
        if jump is not None and self.frames == self._segment.frames:
            found = jump(frames)
            if found is not None:
                self.close()
                self._open(found[0])
                self.position = found[1]
                self._discard(frames)
                return
        # In vorbis, libsndfile seeks to wrong places: near the end of any file, and anywhere in some files.
        seekable = self.frames is not None and self._file.subtype != "VORBIS" and self._segment.seekable
        before = frames
        if self._file.subtype == "OPUS":
            before = max(0, frames - round(_OPUS_SECONDS * self.sample_rate))
        if seekable and before and jump is None:
            try:
                self._file.seek(before)
                self.position = before
                if self._segment.complete is not None and not self._segment.complete(before, before + 1):
                    raise self._corrupt(before)
            except self._errors:  # this codec has no seeking, or the file is damaged, which decoding will tell
                self._check_stream()
                self.close()
                self._open(self._segment)
        self._discard(frames)

    def _discard(self, until: int) -> None:
        """Decode and forget what is before a frame."""
        while self.position < until:
            wanted = min(until - self.position, PIECE_SAMPLES // self.channels)
            piece = self._decoded(wanted)
            self._check_zeros(piece[:, 0])
            self.position += len(piece)
            if len(piece) < wanted:
                return

    def _decoded(self, frames: int) -> npt.NDArray[Any]:
        """Return the next frames of all channels, `[n, channels]`; fewer at the end of the file."""
        try:
            piece = self._file.read(frames, dtype="float32", always_2d=True)
        except self._errors as error:
            self._check_stream()
            raise self._corrupt(self.position) from error
        self._check_stream()
        return piece

    def read(self, frames: int) -> Waveform:
        wanted = frames if self._held is None else min(frames, self._held - self.position)
        mono = self.mixer.mix(self._decoded(wanted), self.position)
        self._check_zeros(mono)
        self.position += len(mono)
        if len(mono) < frames and self.frames is not None and not self.whole:
            missing = (self.frames - self.position) / self.sample_rate
            if missing > (_SHORTFALL_SECONDS if self._segment.stated else LOSS_SECONDS):
                raise self._corrupt(self.position)
        if len(mono) < frames and self.position == 0:
            raise audio_error("audio of at least one sample", f"{self.name}, from which nothing can be decoded")
        return mono

    def _check_zeros(self, mono: Waveform) -> None:
        """Raise an error if zeros stand in the place of missing sound."""
        if self._segment.complete is None:
            return
        zeros = np.flatnonzero(mono[::_ZEROS] == 0) * _ZEROS
        runs = zeros[:-1][np.diff(zeros) == _ZEROS]
        if len(runs):
            first, last = self.position + int(runs[0]), self.position + int(runs[-1])
            if not self._segment.complete(max(0, first - _ZEROS), last + 2 * _ZEROS):
                raise self._corrupt(first)

    def _check_stream(self) -> None:
        if self._view.error is not None:
            raise self._view.error

    def _corrupt(self, frames: int) -> AudioError:
        whole = "" if self.frames is None else f" of {self._start_seconds + self.frames / self.sample_rate:.3f} s"
        place = self._start_seconds + frames / self.sample_rate
        return DamagedError(
            f"Expected complete audio. Received: {self.name}, which is truncated or corrupt at or after "
            f"{place:.3f} s{whole}."
        )


@functools.cache
def _sequential_sound_file() -> type[Any]:
    import soundfile

    class SequentialSoundFile(soundfile.SoundFile):
        """Does not seek after each read, which fails at the end of a flac of unknown length."""

        def seekable(self) -> bool:
            return False

    return SequentialSoundFile


def check_rate(rate: Any, what: str) -> int:
    """Return a sample rate as an int, or raise an `AudioError` that names `what`."""
    number = isinstance(rate, int | float | np.integer | np.floating) and not isinstance(rate, bool)
    if not number or not MIN_RATE <= rate <= MAX_RATE or rate != int(rate):
        raise audio_error(f"{what} to be a whole number of Hz from {MIN_RATE} to {MAX_RATE}", repr(rate))
    return int(rate)
