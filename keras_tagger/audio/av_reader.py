"""Decode with FFmpeg, through PyAV, what libsndfile cannot read.

PyAV is optional (`pip install "keras_tagger[av]"`). An `AvFile` has the interface of `soundfile.SoundFile`. FFmpeg
reads the bytes of the file and nothing else: it opens no other file and no address that a file names.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.audio.kinds import (
    Kind,
    begins_sound,
    breaks,
    find,
    next_start,
    padding_start,
    recognise,
    unknown_format,
)
from keras_tagger.audio.layout import TOLD_JUNK_BYTES
from keras_tagger.audio.streams import Seekable, Stream, audio_error
from keras_tagger.errors import AudioError

# More may be missing than an encoder's rounding and delay explain.
_MISSING_SECONDS = 0.2
_EXACT_SECONDS = 0.02  # the same if the frames state the numbers of their samples
_PACKET_BYTES, _HEADER_BYTES = 32, 4096  # what Matroska has at most beside the sound, without covers and the like
_SEARCHED_FROM, _SEARCHED_BYTES = 64, 4096  # bytes between packets in which another header is looked for
_MAX_FAILURES = 64  # errors in a row after which the rest of a file is given up
_MAX_WARNINGS = 5
_UNKNOWN_FRAMES = (1 << 63) - 1  # as in libsndfile
_PIECE_FRAMES = 1 << 16
_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
_MAX_PADDING = 4096  # samples
_CONCEALING = ("ac3", "eac3", "flac", "tta", "wavpack")  # decoders that else put something in the place of damage

_NAMES = {"mov": "MP4", "matroska": "Matroska", "wv": "WavPack", "iff": "DFF"}

Warn = Callable[[str, str], None]
Planar = npt.NDArray[np.float32]


def open_other(stream: Stream, warn: Warn, error: Exception) -> AvFile:
    """Open a file that libsndfile refused.

    Args:
        stream: The bytes of the file.
        warn: Is called with the kind and the message of a warning.
        error: The error of libsndfile.

    Raises:
        AudioError: If FFmpeg cannot read the file either, or PyAV is not installed.
    """
    kind = recognise(stream)
    if kind is not None and kind.demuxers:
        try:
            return AvFile(stream, kind, warn)
        except ImportError:
            name = f"{kind.name} in a codec unknown to libsndfile, or damaged" if kind.shared else kind.name
            text = f'{stream.name}, which is {name}; pip install "keras_tagger[av]" to read it'
            raise audio_error("audio", text) from error
        except AudioError:
            if not kind.shared:
                raise
    raise unknown_format(stream, kind) from error


class AvFile:
    """A file that FFmpeg decodes, with the attributes and methods of `soundfile.SoundFile` that a reader needs.

    Files of one kind that were joined end to end are read one after the other.

    Args:
        stream: The bytes of the file.
        kind: What `recognise` says it is.
        warn: Is called with the kind and the message of a warning.

    Raises:
        AudioError: If FFmpeg cannot read the file, or it has no sound.
    """

    def __init__(self, stream: Stream, kind: Kind, warn: Warn):
        self._name = stream.name
        self._damage = _Damage(stream.name, warn)
        self._position = 0
        self._held: deque[Planar] = deque()
        self._held_frames = 0
        self._part = _Part(stream, kind, 0, self._damage)
        self.samplerate = self._part.rate
        self.channels = self._part.channels
        self.format, self.subtype = self._part.format, self._part.codec
        promised = None if self._part.may_continue else self._part.promised
        self.frames = _UNKNOWN_FRAMES if promised is None else round(promised * self.samplerate)
        self._pieces = self._decode()

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> npt.NDArray[np.float32]:
        """Decode `frames` frames, or fewer at the end, to float32 `[frames, channels]`."""
        while self._held_frames < frames:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._held.append(piece)
            self._held_frames += piece.shape[1]
        taken, count = [], 0
        while self._held and count < frames:
            piece = self._held.popleft()
            if piece.shape[1] > frames - count:
                self._held.appendleft(piece[:, frames - count :])
                piece = piece[:, : frames - count]
            taken.append(piece)
            count += piece.shape[1]
        self._held_frames -= count
        self._position += count
        return np.concatenate(taken, axis=1).T if taken else np.zeros((0, self.channels), np.float32)

    def seek(self, frames: int) -> int:
        """Go forward to frame `frames` by decoding: seeking in compressed sound does not give the same samples."""
        while self._position < frames and len(self.read(min(frames - self._position, _PIECE_FRAMES))):
            pass
        return self._position

    def close(self) -> None:
        """Close FFmpeg's handle; the stream stays open."""
        self._pieces.close()
        self._part.close()

    def _decode(self) -> Generator[Planar, None, None]:
        """Decode the parts of the file one after the other, all to the rate and the channels of the first."""
        self._damage.active = True
        promised = self._part.promised
        seconds = lost = 0.0
        while True:
            resampled = _Resampled(self.samplerate, self.channels)
            for rate, piece in self._part.pieces():
                yield from resampled.add(rate, _with_channels(piece, self.channels))
            yield from resampled.end()
            following = self._part.following()
            seconds += self._part.seconds
            lost += self._part.lost
            if following is None:
                break
            self._part.close()
            self._part = following
        if promised is not None and promised - seconds - lost > _MISSING_SECONDS:
            raise _truncated(self._name, seconds, promised)
        self._damage.finish()


class _Part:
    """A container that begins at a byte, opened with FFmpeg.

    Attributes:
        rate: The sample rate in Hz of the first sound that is decoded; some headers state half of it.
        channels: The number of its channels.
        format: The name of the container.
        codec: The name of the codec.
        promised: The length in seconds that the header states, or None.
        due: The time at which its last frame ended.
        seconds: How much was decoded.
        lost: How much could not be decoded, in seconds.
    """

    def __init__(self, stream: Stream, kind: Kind, begin: int, damage: _Damage, before: _Part | None = None):
        import av

        self._av = av
        self._stream = stream
        self._kind = kind
        self._damage = damage
        self._begin = begin
        self._stated_end = kind.end(stream, begin) if kind.end else None
        self._end = padding_start(stream) if kind.dense else stream.size
        if self._stated_end is not None and begin < self._stated_end < stream.size:
            self._end = self._stated_end
        # Frames that state the numbers of their samples may continue the song of the part before.
        self._within = kind.sample is not None and kind.sample(stream, begin) > 0
        self.promised: float | None = before.promised if before and self._within else None
        self._time: float | None = None  # of the last packet
        self._longest: float | None = None  # what all tracks together promise, if another one may be the longest
        self.due: float | None = None
        if kind.sample is not None:
            self.due = before.due if before and self._within else 0.0
        self._read_to = begin  # the end of the last packet
        self.seconds = self.lost = 0.0
        self._good = self._bad = self._bytes = self._packet_count = 0
        try:
            self._container = av.open(
                _Bytes(stream, begin, self._end),
                mode="r",
                # Not `options`: with these, PyAV 16 crashes on containers whose streams appear later.
                container_options={"format_whitelist": kind.demuxers, "protocol_whitelist": "none"},
                metadata_errors="replace",
                io_open=_refuse,
            )
        except AudioError:
            raise
        except Exception as error:  # an FFmpegError, or the ValueError or OSError that PyAV makes of it
            received = f"{stream.name}, which is {kind.name} with a damaged or truncated header"
            raise audio_error("audio with an intact header", received) from error
        try:
            self._open_sound(f"{stream.name}, which is {kind.name}")
        except BaseException:
            self._container.close()
            raise

    def _open_sound(self, received: str) -> None:
        sound = self._container.streams.best("audio")
        if sound is None:
            raise audio_error("a file with sound", f"{received} without sound")
        if sound.codec_context is None:
            raise audio_error("a codec that FFmpeg knows", f"{received} of an unknown or protected codec")
        self._sound = sound
        for other in self._container.streams:
            if other.index != sound.index and hasattr(other, "discard"):  # since PyAV 18
                other.discard = self._av.stream.Discard.all
        sound.codec_context.thread_count = 1
        strict = sound.codec_context.name in _CONCEALING
        sound.codec_context.options = {"err_detect": "crccheck+explode" if strict else "crccheck"}
        demuxer = self._container.format.name.split(",")[0]
        self.format = _NAMES.get(demuxer, demuxer.upper())
        self.codec = sound.codec_context.name.upper()
        if not self._within:
            self.promised = self._stated_seconds()
        self._frames = self._decoded()
        self._first = next(self._frames, None)
        if self._first is None:
            raise audio_error(
                "audio of at least one sample", f"{received} from which nothing can be decoded{self._excuse}"
            )
        self.rate, self.channels = self._first[0], len(self._first[1])
        if self.promised and self._missing_bytes * self.promised > _MISSING_SECONDS * (self._end - self._begin):
            raise self._cut_off()

    def close(self) -> None:
        """Close FFmpeg's handle."""
        self._frames.close()
        self._container.close()

    @property
    def _excuse(self) -> str:
        return ", as it is copy-protected" if self._sound.codec_context.codec_tag in ("drms", "enca") else ""

    @property
    def _missing_bytes(self) -> int:
        return 0 if self._stated_end is None else max(0, self._stated_end - self._end)

    def _cut_off(self) -> AudioError:
        received = f"{self._stream.name}, which is {self._kind.name} and truncated: it has {self._end}"
        return audio_error(f"{self._stated_end} bytes, as stated in the header", received)

    def _stated_seconds(self) -> float | None:
        # FFmpeg estimates the length of kinds that do not state it, and of an ASF file of another size than it states.
        if not self._kind.stated or (self.format == "ASF" and self._stated_end != self._end):
            return None
        if self._sound.duration is not None and self._sound.time_base is not None:
            return float(self._sound.duration * self._sound.time_base)
        others = {other.type for other in self._container.streams if other != self._sound}
        if self._container.duration is None or "video" in others:
            return None
        seconds = float(self._container.duration / self._av.time_base)
        if "audio" in others:  # other tracks, or a header that is damaged
            self._longest = seconds
            return None
        return seconds

    def pieces(self) -> Iterator[tuple[int, Planar]]:
        """Decode to the end: sample rates and float32 `[channels, samples]`.

        Raises:
            AudioError: If the container holds less than it promises, or most of it cannot be decoded.
        """
        assert self._first is not None
        frames = itertools.chain([self._first], self._frames)
        self._first = None
        yield from self._trimmed(frames) if self.format == "MP4" and self.promised else frames
        if self._kind.frame_size is not None:
            # FFmpeg drops what is between two frames without a word.
            for place in breaks(self._stream, self._begin, self._end, self._kind.frame_size):
                self._damage.add((place - self._begin) * self.seconds / (self._end - self._begin), 0.0)
        missing = 0.0
        if self.promised is not None and not self._kind.dense:
            missing = self.promised - self.seconds - self.lost
        if missing > _MISSING_SECONDS:
            raise _truncated(self._stream.name, self.seconds, self.promised)
        if self._longest is not None and self._longest - self.seconds - self.lost > _MISSING_SECONDS:
            self._lose(self._longest - self.seconds - self.lost)
        if self.format == "Matroska" and len(self._container.streams) == 1 and self.promised is None:
            # Live recordings state no length.
            explained = self._bytes + _PACKET_BYTES * self._packet_count + _HEADER_BYTES
            unread = (self._end - self._begin - explained) * self.seconds / max(1, self._bytes)
            if unread - self.lost > _MISSING_SECONDS:
                self._lose(unread - self.lost)
        if self._missing_bytes * self.seconds > _MISSING_SECONDS * self._bytes:
            raise self._cut_off()
        if self._bad > self._good:
            received = f"{self._stream.name}, of which {self.lost:.3f} s are damaged and {self.seconds:.3f} s are not"
            raise audio_error("audio of which most can be decoded", received + self._excuse)

    def _trimmed(self, frames: Iterator[tuple[int, Planar]]) -> Iterator[tuple[int, Planar]]:
        """Drop the padding of the last packet, which an MP4 does not count; keep everything if there is more of it."""
        left = round((self.promised or 0.0) * self.rate)
        beyond: list[tuple[int, Planar]] = []
        for rate, piece in frames:
            if left > 0:
                yield rate, piece[:, :left]
            if piece.shape[1] > left:
                beyond.append((rate, piece[:, max(0, left) :]))
            left -= piece.shape[1]
            if -left > _MAX_PADDING:
                yield from beyond
                beyond = []

    def _decoded(self) -> Generator[tuple[int, Planar], None, None]:
        """Decode packet by packet, and note what is missing between and in them."""
        base = float(self._sound.time_base or 0)
        smallest = 0  # packet
        before = self._begin  # the start of the last packet
        for packet in self._packets():
            seconds = packet.duration * base if packet.duration else 0.0
            self._bytes += packet.size
            self._packet_count += 1
            if packet.pos is not None and packet.size:
                position = self._begin + packet.pos
                if self._kind.sample is not None:
                    self._check_time(self._kind.sample(self._stream, position) * base, seconds)
                elif self._kind.dense:
                    self._skipped_bytes(self._read_to, position, seconds / packet.size)
                elif self._kind.magic and self._stated_end is not None and position - self._read_to > _SEARCHED_FROM:
                    begin = max(before, self._begin + 4)  # the last packet may reach into it
                    if self._kind.magic in self._stream.at(begin, min(position - begin, _SEARCHED_BYTES)):
                        self._damage.add(self.seconds, 0.0)  # another file begins within this one
                if self._kind.even:  # FFmpeg adds what lies between two frames to the first
                    smallest = min(packet.size, smallest or packet.size)
                    self._skipped_bytes(position + smallest, position + packet.size, seconds / smallest)
                before, self._read_to = position, max(self._read_to, position + packet.size)
            if not self._kind.dense and packet.pts is not None:
                self._check_time(packet.pts * base, seconds)
            try:
                frames = packet.decode()
                self._good += bool(packet.size)
            except EOFError:
                continue
            except self._av.FFmpegError:
                if packet.size:
                    self._bad += 1
                    self._lose(seconds or self.seconds / max(1, self._good))
                continue
            for frame in frames:
                piece = _planar(frame)
                self.seconds += piece.shape[1] / frame.sample_rate
                self._damage.flush()
                yield frame.sample_rate, piece

    def _check_time(self, time: float, seconds: float) -> None:
        """Note what is missing before a packet that begins at a time and lasts some seconds."""
        exact = self._kind.sample is not None
        if exact and self.promised is not None and time > self.promised:
            return  # the number is damaged
        if self.due is not None and time - self.due > (_EXACT_SECONDS if exact else _MISSING_SECONDS):
            self._lose(time - self.due)
        if exact:
            self.due = max(self.due or 0.0, time + seconds)
        else:
            if self._kind.stated and self._time is not None and time < self._time:
                self._damage.add(self.seconds, 0.0)  # the order is wrong, or another file follows
            self._time = time
            self.due = time + seconds if seconds else None

    def _check_end(self, last: bool) -> None:
        """Note what is missing at the end of a song whose frames are numbered.

        Raises:
            AudioError: If much is missing at the end of the file.
        """
        if self._kind.sample is not None and self.promised is not None and self.due is not None:
            missing = self.promised - self.due
            if last and missing > _MISSING_SECONDS:
                raise _truncated(self._stream.name, self._damage.start + self.seconds, self.promised)
            if missing > _EXACT_SECONDS:
                self._lose(missing)
            self.due = None

    def _packets(self) -> Iterator[Any]:
        """Read packet by packet, and go on behind an error."""
        failures = 0
        while failures < _MAX_FAILURES:
            try:
                for packet in self._container.demux(self._sound):
                    yield packet
                    failures = 0
                return
            except self._av.FFmpegError:
                failures += 1

    @property
    def may_continue(self) -> bool:
        """Whether other sound may follow this container, according to its header or because that does not say."""
        if self._stated_end is None:
            return bool(self._kind.magic)
        return self._end < self._stream.size and next_start(self._stream, self._end) is not None

    def following(self) -> _Part | None:
        """Open the container of the same kind that follows this one, and warn of other bytes that were not read."""
        stream, kind = self._stream, self._kind
        end = self._read_to if self._stated_end is None else self._end
        rest = next_start(stream, end)
        start = rest if self._stated_end is not None else None
        if kind.magic and (start is None or recognise(stream, start) != kind):
            start = find(stream, kind.magic, end)
        told = False
        if start is not None and recognise(stream, start) == kind:
            if kind.sample is None and start != rest:
                self._skipped_bytes(end, start, self.seconds / max(1, self._bytes))
            elif kind.sample is not None and kind.sample(stream, start) == 0:
                self._check_end(False)
            self._damage.flush()
            self._damage.start += self.seconds
            try:
                return _Part(stream, kind, start, self._damage, self)
            except AudioError:
                self._damage.start -= self.seconds
                told = True
        self._check_end(True)
        if rest is not None:
            count = stream.size - rest
            long = count * self.seconds > _MISSING_SECONDS * self._bytes
            other = recognise(stream, rest) != kind and begins_sound(stream, rest)
            if long and kind.dense:
                self._skipped_bytes(rest, stream.size, self.seconds / max(1, self._bytes))
            elif told or (long and self._stated_end is not None) or (other and count >= TOLD_JUNK_BYTES):
                self._damage.bytes_unread(rest, count)
        return None

    def _skipped_bytes(self, begin: int, end: int, seconds_per_byte: float) -> None:
        """Note bytes that belong to no packet, unless they are a tag."""
        seconds = (end - begin) * seconds_per_byte
        if seconds > _MISSING_SECONDS and self._stream.at(begin, 3) not in (b"ID3", b"TAG", b"APE"):
            self._lose(seconds)

    def _lose(self, seconds: float) -> None:
        self.lost += seconds
        self._damage.add(self.seconds, seconds)


def _planar(frame: Any) -> Planar:
    """Copy a frame's samples to float32 `[channels, samples]`.

    Not by `frame.to_ndarray()`: for planes of more than 7 channels, it reads beyond the list of planes.
    """
    from av.audio.plane import AudioPlane

    def plane(index: int, count: int) -> npt.NDArray[Any]:
        buffer: Any = AudioPlane(frame, index)
        return np.frombuffer(buffer, dtype, count)

    channels, count = frame.layout.nb_channels, frame.samples
    dtype = np.dtype(_TYPES[frame.format.name.removesuffix("p")])
    planar: Planar = np.empty((channels, count), np.float32)
    if frame.format.is_planar:
        for channel in range(channels):
            planar[channel] = plane(channel, count)
    else:
        planar[:] = plane(0, count * channels).reshape(count, channels).T
    if dtype.kind == "u":
        planar -= 128
    if dtype.kind != "f":
        planar /= np.float32(2.0 ** (8 * dtype.itemsize - 1))
    return planar


def _truncated(name: str, seconds: float, promised: float | None) -> AudioError:
    whole = "" if promised is None else f" of {promised:.3f} s"
    return audio_error("complete audio", f"{name}, which is truncated or corrupt at {seconds:.3f} s{whole}")


class _Damage:
    """Collects what is missing and warns of it.

    Attributes:
        active: Whether it may warn; before the first read, a reader has nowhere to put warnings.
        start: The time in the file at which the current part begins.
    """

    def __init__(self, name: str, warn: Warn):
        self._name = name
        self._warn = warn
        self.active = False
        self.start = 0.0
        self._at = self._seconds = 0.0
        self._pending = False
        self._places = 0
        self._total = 0.0

    def add(self, at: float, seconds: float) -> None:
        """Note that `seconds` are missing at a time; what is missing at the same time is added to it."""
        at += self.start
        if self._pending and self._at != at:
            self.flush()
        self._at = at
        self._seconds += seconds
        self._pending = True

    def flush(self) -> None:
        """Warn of what was noted last."""
        if not (self._pending and self.active):
            return
        self._places += 1
        self._total += self._seconds
        if self._places <= _MAX_WARNINGS:
            what = f"{self._seconds:.3f} s are missing" if self._seconds else "sound is missing or out of order there"
            self._warn("damaged", f"{self._name} is damaged at {self._at:.3f} s: {what}")
        self._seconds, self._pending = 0.0, False

    def bytes_unread(self, begin: int, count: int) -> None:
        """Warn of bytes behind the sound."""
        place = f"from byte {begin} on, that were not read"
        self._warn("damaged", f"{self._name} has {count} bytes behind its sound, {place}")

    def finish(self) -> None:
        """Warn of the sum."""
        self.flush()
        if self._places > _MAX_WARNINGS:
            self._warn(
                "damaged", f"{self._name} is damaged in {self._places} places: {self._total:.3f} s are missing in all"
            )


class _Resampled:
    """Brings sound whose rate changes on the way to one rate."""

    def __init__(self, rate: int, channels: int):
        self._rate = self._from = rate
        self._channels = channels
        self._resampler: Any = None

    def add(self, rate: int, piece: Planar) -> Iterator[Planar]:
        """Convert `[channels, samples]` of any rate."""
        if rate != self._from:
            import soxr

            yield from self.end()
            self._from = rate
            if rate != self._rate:
                self._resampler = soxr.ResampleStream(rate, self._rate, self._channels, dtype="float32", quality="HQ")
        yield piece if self._resampler is None else self._resampler.resample_chunk(np.ascontiguousarray(piece.T)).T

    def end(self) -> Iterator[Planar]:
        """Return what the filter still holds."""
        if self._resampler is not None:
            yield self._resampler.resample_chunk(np.zeros((0, self._channels), np.float32), last=True).T
            self._resampler = None


def _with_channels(piece: Planar, channels: int) -> Planar:
    """Bring `[channels, samples]` to a number of channels; if it differs, all become the average."""
    if len(piece) == channels:
        return piece
    return np.repeat(piece.mean(axis=0, keepdims=True), channels, axis=0)


class _Bytes(Seekable):
    """A part of a stream, as a file object for PyAV."""

    def __init__(self, stream: Stream, begin: int, end: int):
        super().__init__(end - begin)
        self._stream = stream
        self._begin = begin
        # Damaged files can send FFmpeg in circles.
        self._budget = 16 * self.size + (64 << 20)

    def read(self, count: int) -> bytes:
        """Read `count` bytes, or fewer at the end."""
        count = max(0, min(count, self.size - self._position))
        data = self._stream.at(self._begin + self._position, count) if count else b""
        self._position += len(data)
        self._budget -= len(data)
        if self._budget < 0:
            raise audio_error(
                "an intact file", f"{self._stream.name}, which is so damaged that reading it does not end"
            )
        return data


def _refuse(url: str, flags: int, options: dict[str, str]) -> Any:
    raise PermissionError(f"{url} is named in the file, and files that files name are not opened")
