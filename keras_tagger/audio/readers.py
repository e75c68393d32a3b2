"""Decode arrays and files piece by piece to mono float32 at their own rate."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Iterator
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_tagger.audio.containers import other_kind, prepare
from keras_tagger.audio.streams import Stream, audio_error, in_memory, is_file_object, open_stream
from keras_tagger.errors import AudioError, AudioWarning

AudioSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | tuple[npt.NDArray[Any], int]"
"""A path (local or of any `tf.io.gfile` scheme), an encoded file's bytes or a file object, or `(array, sample_rate)`.

A binary file object is read from its position to its end and stays open. If it can seek, it returns to that position.
An array is `[samples]` or `[samples, channels]` of floats (not scaled or clipped) or PCM: int16 (divided by 2**15),
int32 (divided by 2**31) or uint8 ((x - 128) / 128).
"""

Waveform: TypeAlias = npt.NDArray[np.float32]

MIN_RATE, MAX_RATE = 1_000, 1_000_000
MAX_ARRAY_CHANNELS = 64
PIECE_SAMPLES = 1 << 18  # decoded at a time, summed over channels

# Encoders may miscount by this much, and sequential reading of an ogg may end this much before its last granule.
_SHORTFALL_SECONDS = 0.1
_SHORTFALL_SHARE = 0.001
_UNKNOWN_FRAMES = 1 << 62  # libsndfile reports 2**63 - 1 frames for a flac of unknown length

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
    elif isinstance(source, str | os.PathLike | bytes) or is_file_object(source):
        with open_stream(source) as stream, contextlib.closing(_FileReader(stream)) as reader:
            reader.warnings = warnings
            yield reader
    else:
        received = f"an object of type {type(source).__name__}"
        raise audio_error("audio as a path, bytes, a binary file or a tuple (array, sample_rate)", received)


class Reader:
    """An open source at frame `position`; `frames` is its length, or None if unknown."""

    name: str
    sample_rate: int
    channels: int
    frames: int | None
    format: str
    position: int = 0
    warnings: list[AudioWarning] | None = None

    def warn(self, kind: str, message: str) -> None:
        """Report what a listener must know; see `AudioWarning`."""
        warning = AudioWarning(kind, message)
        if self.warnings is None:
            warnings.warn(warning, stacklevel=2)
        else:
            self.warnings.append(warning)

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
        mono = _to_mono(scaled, self)
        self.position += len(mono)
        return mono


class _FileReader(Reader):
    """Reads an encoded file with libsndfile."""

    def __init__(self, stream: Stream):
        import soundfile

        self.name = stream.name
        self._stream = stream
        self._errors = soundfile.SoundFileError
        self._promised = prepare(stream)
        descriptor = in_memory(stream) if stream.piecemeal else None
        try:
            self._file = _sequential_sound_file()(stream if descriptor is None else descriptor, "r")
        except self._errors as error:
            self._check_stream()
            kind = other_kind(stream)
            raise audio_error(
                "audio (wav, flac, ogg vorbis, opus, mp3, aiff or another format of libsndfile)",
                f"{self.name}, which is {kind or 'none of these or has a damaged header'}",
            ) from error
        self._check_stream()
        self.channels = self._file.channels
        self.sample_rate = check_rate(self._file.samplerate, f"the sample rate of {self.name}")
        self.frames = self._file.frames if self._file.frames < _UNKNOWN_FRAMES else None
        self.format = f"{self._file.format} {self._file.subtype}"
        if self.frames == 0:
            raise audio_error("audio of at least one sample", f"{self.name}, which holds no samples")

    def close(self) -> None:
        """Close libsndfile's handle; the stream stays open."""
        if hasattr(self, "_file"):
            self._file.close()

    def skip(self, frames: int) -> None:
        # In vorbis, libsndfile seeks to wrong places: near the end of any file, and anywhere in some files.
        if self.frames is None or self._file.subtype == "VORBIS":
            while self.position < frames and len(
                self.read(min(frames - self.position, PIECE_SAMPLES // self.channels))
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
            allowed = max(_SHORTFALL_SECONDS * self.sample_rate, _SHORTFALL_SHARE * self.frames)
            if self.frames - self.position > allowed:
                raise self._corrupt(self.position)
        if len(mono) < frames and self.position == 0:
            raise audio_error("audio of at least one sample", f"{self.name}, from which nothing can be decoded")
        return mono

    def _check_stream(self) -> None:
        if self._stream.error is not None:
            raise self._stream.error

    def _corrupt(self, frames: int) -> AudioError:
        whole = "" if self.frames is None else f" of {self.frames / self.sample_rate:.3f} s"
        return audio_error(
            "complete audio",
            f"{self.name}, which is truncated or corrupt at or after {frames / self.sample_rate:.3f} s{whole}",
        )


@functools.cache
def _sequential_sound_file() -> type[Any]:
    import soundfile

    class SequentialSoundFile(soundfile.SoundFile):
        """Does not seek after each read, which fails at the end of a flac of unknown length."""

        def seekable(self) -> bool:
            return False

    return SequentialSoundFile


def _to_mono(samples: Waveform, reader: Reader) -> Waveform:
    """Average `[samples, channels]` over the channels; raise an error if a value is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        mono = samples[:, 0]
        if reader.channels > 1:
            # Adding columns is several times faster than mean(axis=1) over so short an axis.
            mono = mono.copy()
            for channel in range(1, reader.channels):
                mono += samples[:, channel]
            mono /= np.float32(reader.channels)
    finite = np.isfinite(mono)
    if not finite.all():
        seconds = (reader.position + int(np.argmin(finite))) / reader.sample_rate
        raise audio_error("finite samples", f"{reader.name}, with NaN or infinity at {seconds:.3f} s")
    return np.ascontiguousarray(mono)


def check_rate(rate: Any, what: str) -> int:
    """Return a sample rate as an int, or raise an `AudioError` that names `what`."""
    number = isinstance(rate, int | float | np.integer | np.floating) and not isinstance(rate, bool)
    if not number or not MIN_RATE <= rate <= MAX_RATE or rate != int(rate):
        raise audio_error(f"{what} to be a whole number of Hz from {MIN_RATE} to {MAX_RATE}", repr(rate))
    return int(rate)
