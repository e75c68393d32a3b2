"""Find the frames of flac files (RFC 9639).

libsndfile believes the length that a header states, even if it is wrong, and fails at whatever follows the last frame
or at a damaged one. Here the last frame tells the length. Only if that contradicts the header, or decoding fails, all
frames are looked for; damaged ones are then replaced by silent ones, so that every sample stays in its place.
"""

from __future__ import annotations

import functools
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from keras_tagger.audio.layout import LOSS_SECONDS, Damage, Layout, Segment, explained_end
from keras_tagger.audio.streams import Part, Stream

_SYNC = re.compile(rb"\xff(?=[\xf8\xf9])")
_MARK_OR_SYNC = re.compile(rb"\xff(?=[\xf8\xf9])|(?=fLaC[\x00\x80]\x00\x00\x22)")
_MARK = re.compile(rb"(?=fLaC[\x00\x80]\x00\x00\x22)")
_HEADER_BYTES = 42  # "fLaC" and STREAMINFO
_TAIL_BYTES = 1 << 16  # searched for the last frame at least
_PROBES = 5
_BATCH_FRAMES = 128  # checked at a time
_BLOCK_SIZES = {1: 192, **{i: 576 << (i - 2) for i in range(2, 6)}, **{i: 256 << (i - 8) for i in range(8, 16)}}
_RATES = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
_BITS = {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}


def _crc_table(polynomial: int, width: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte << (width - 8)
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> (width - 1) else 0)
            value &= (1 << width) - 1
        table.append(value)
    return table


_CRC8 = _crc_table(0x07, 8)
_CRC16 = _crc_table(0x8005, 16)


def _crc8(data: bytes) -> int:
    return functools.reduce(lambda crc, byte: _CRC8[crc ^ byte], data, 0)


def _crc16(data: bytes) -> Iterator[int]:
    """Iterate over the checksums of the first 1, 2, ... bytes; that of a whole frame is 0."""
    return itertools.islice(
        itertools.accumulate(data, lambda crc, byte: (crc << 8 & 0xFFFF) ^ _CRC16[crc >> 8 ^ byte], initial=0), 1, None
    )


@dataclass(frozen=True)
class _Song:
    """A flac file, or one of several that were joined."""

    start: int
    audio: int  # where the first frame is
    header: bytes  # "fLaC" and STREAMINFO
    block_size: int
    frame_bytes: int  # of the largest frame; 0 if unknown
    rate: int
    channels: int
    bits: int
    total: int  # samples, as stated; 0 if unknown

    def restated(self, total: int) -> bytes:
        """Return the header as the only metadata block, with another number of samples."""
        header = bytearray(self.header)
        header[4] |= 128
        header[21] = header[21] & 0xF0 | total >> 32
        header[22:26] = (total & 0xFFFFFFFF).to_bytes(4, "big")
        header[26:42] = bytes(16)  # the checksum of all samples
        return bytes(header)


@dataclass(frozen=True)
class _Frame:
    offset: int
    first: int  # the number of its first sample
    samples: int
    header: bytes

    @property
    def end(self) -> int:
        return self.first + self.samples


def _song_at(stream: Stream, start: int, stop: int, search: bool) -> _Song | None:
    """Read the metadata at `start`; if `search`, find the first frame also if a metadata block has a wrong size."""
    header = stream.at(start, _HEADER_BYTES)
    if len(header) < _HEADER_BYTES or header[:4] != b"fLaC":
        return None
    fields = int.from_bytes(header[18:26], "big")
    block_size = int.from_bytes(header[10:12], "big")
    song = _Song(
        start=start,
        audio=start + _HEADER_BYTES,
        header=header,
        block_size=block_size,
        frame_bytes=int.from_bytes(header[15:18], "big"),
        rate=fields >> 44,
        channels=(fields >> 41 & 7) + 1,
        bits=(fields >> 36 & 31) + 1,
        total=fields & 0xFFFFFFFFF,
    )
    offset, last = song.audio, header[4] >> 7
    while not last and len(head := stream.at(offset, 4)) == 4 and offset < stop:
        last = head[0] >> 7
        offset += 4 + int.from_bytes(head[1:], "big")
    if _frame_at(stream, offset, song) is not None:
        return replace(song, audio=offset)
    if not search:
        return None
    return next((replace(song, audio=frame.offset) for frame in _frames(stream, song, song.audio, stop)), None)


def _frame_at(stream: Stream, offset: int, song: _Song) -> _Frame | None:
    """Read a frame's header if its checksum is right and it belongs to this song (RFC 9639, 9.1)."""
    head = stream.at(offset, 16)
    if len(head) < 6 or head[0] != 255 or head[1] & 0xFE != 0xF8:
        return None
    size_code, rate_code, channel_code, bits_code = head[2] >> 4, head[2] & 15, head[3] >> 4, head[3] >> 1 & 7
    channels = channel_code + 1 if channel_code < 8 else 2
    if channel_code > 10 or channels != song.channels or head[3] & 1 or rate_code == 15 or size_code == 0:
        return None
    if (bits_code and _BITS.get(bits_code) != song.bits) or (0 < rate_code < 12 and _RATES[rate_code] != song.rate):
        return None
    # The number is coded like UTF-8.
    ones = 8 - (head[4] ^ 255).bit_length()
    more = max(0, ones - 1)
    if ones == 1 or ones == 8:
        return None
    number = head[4] & (127 >> ones)
    for byte in head[5 : 5 + more]:
        number = number << 6 | byte & 63
    length = 5 + more
    if size_code in (6, 7):
        samples = int.from_bytes(head[length : length + size_code - 5], "big") + 1
        length += size_code - 5
    else:
        samples = _BLOCK_SIZES[size_code]
    length += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if len(head) <= length or _crc8(head[:length]) != head[length]:
        return None
    first = number if head[1] & 1 else number * song.block_size
    return _Frame(offset, first, samples, head[: length + 1])


def _frames(stream: Stream, song: _Song, start: int, stop: int) -> Iterator[_Frame]:
    """Find the frames between two offsets."""
    for offset, _ in stream.find(_SYNC, start, stop):
        frame = _frame_at(stream, offset, song)
        if frame is not None:
            yield frame


def _last_frame(stream: Stream, song: _Song, stop: int) -> _Frame | None:
    size = max(_TAIL_BYTES, 2 * song.frame_bytes)
    while True:
        start = max(song.audio, stop - size)
        frames = list(_frames(stream, song, start, stop))
        if frames or start == song.audio:
            return frames[-1] if frames else None
        size *= 8


def _frame_end(stream: Stream, song: _Song, frame: _Frame, stop: int) -> int | None:
    """Return where a frame ends that may have tags, zeros or anything else behind it; None if it is incomplete."""
    most = song.frame_bytes or min(1 << 20, 64 + frame.samples * song.channels * (song.bits + 1) // 8 * 2)
    data = stream.at(frame.offset, min(most, stop - frame.offset))
    ends = [i + 1 for i, crc in enumerate(_crc16(data)) if crc == 0 and i > len(frame.header)]
    if ends and ends[-1] == len(data) == stop - frame.offset and data[-1]:
        return stop
    # Zeros behind a frame leave the checksum at 0; within one it is 0 by chance. If the frame itself ends with zeros,
    # which belong to its checksum, it is 0 one or two bytes too early.
    for end in [e for e in ends if e - 3 not in ends]:
        if _decodes(song, frame, data[:end]):
            return frame.offset + end
    return None


def _decodes(song: _Song, frame: _Frame, data: bytes) -> bool:
    """Return whether libsndfile decodes a frame."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(song.restated(frame.samples) + data)) as file:
            return len(file.read(frame.samples)) == frame.samples
    except soundfile.SoundFileError:
        return False


def flac_layout(stream: Stream, start: int, stop: int) -> Layout | None:
    """Find the segments of a flac; return None if its header is damaged or it has no frame."""
    song = _song_at(stream, start, stop, search=True)
    if song is None:
        return None
    frame = _last_frame(stream, song, stop)
    if frame is None:
        return None

    def repair() -> Layout:
        return _scanned(stream, start, stop, check=True)

    end = _frame_end(stream, song, frame, stop)
    held = frame.first if end is None else frame.end
    more = end is not None and any(True for _ in stream.find(_MARK, end, stop))
    if more or not _rising(stream, song, frame) or (song.total and held != song.total):
        return replace(_scanned(stream, start, stop, check=False), repair=repair)
    stop_at = frame.offset if end is None else end
    parts: list[Part] = [range(start, stop_at)] if song.total else [song.restated(held), range(song.audio, stop_at)]
    damage = [] if end is None else _behind(stream, song, held, end, stop)
    return Layout(
        [Segment(parts, held=held, complete=functools.partial(_complete, stream, song, frame))], damage, repair
    )


def _behind(stream: Stream, song: _Song, held: int, end: int, stop: int) -> list[Damage]:
    """Report bytes behind the last frame that are neither tags nor zeros."""
    rest = explained_end(stream, end, stop)
    lost = (stop - rest) * held / song.rate / max(1, end - song.audio)
    if lost < LOSS_SECONDS:
        return []
    return [Damage(held / song.rate, lost, f"{stop - rest} bytes from byte {rest} on are not flac frames")]


def _complete(stream: Stream, song: _Song, last: _Frame, start: int, stop: int) -> bool:
    """Return whether the file has frames for all samples between two, or libFLAC put silence in their place."""
    low, high = song.audio, last.offset
    while high - low > _TAIL_BYTES:
        middle = (low + high) // 2
        frame = next(_frames(stream, song, middle, high), None)
        if frame is None or frame.first > start:
            high = middle
        else:
            low = frame.offset
    expected = None
    for frame in _frames(stream, song, low, last.offset + 1):
        if expected is not None and frame.first != expected and frame.end > start:
            return False
        expected = frame.end
        if expected >= stop:
            break
    return True


def _rising(stream: Stream, song: _Song, last: _Frame) -> bool:
    """Return whether frames at some places of the file have rising numbers, as those of a single song."""
    numbers = {last.offset: last.first}
    for index in range(_PROBES):
        place = song.audio + (last.offset - song.audio) * index // _PROBES
        data = stream.at(place, _TAIL_BYTES)
        found = (_frame_at(stream, place + match.start(), song) for match in _SYNC.finditer(data))
        numbers |= {frame.offset: frame.first for frame in found if frame is not None}
    return all(a < b for a, b in itertools.pairwise(numbers[offset] for offset in sorted(numbers)))


def _scanned(stream: Stream, start: int, stop: int, check: bool) -> Layout:
    """Look for all songs and frames; if `check`, replace damaged frames by silence."""
    segments: list[Segment] = []
    damage: list[Damage] = []
    seconds = 0.0
    songs = list(_songs(stream, start, stop))
    for song, frames in songs:
        last = frames[-1]
        end = _frame_end(stream, song, last, stop)
        if end is None:
            frames.pop()
        offsets = [frame.offset for frame in frames] + [last.offset if end is None else end]
        good = _intact(stream, offsets) if check else [True] * len(frames)
        parts: list[Part] = []
        position = base = frames[0].first if frames else 0
        for frame, behind, intact in zip(frames, offsets[1:], good, strict=True):
            if not intact or frame.first < position:
                continue
            if frame.first > position:
                lost = (frame.first - position) / song.rate
                damage.append(
                    Damage(seconds + (position - base) / song.rate, lost, "flac frames are damaged or missing")
                )
                parts += _silence(song, frame, position)
            parts.append(range(frame.offset, behind))
            position = frame.end
        stated = total = position - base
        missing = (song.total - total) / song.rate
        if missing >= LOSS_SECONDS and (song, frames) != songs[-1]:
            damage.append(Damage(seconds + total / song.rate, missing, "flac frames are missing"))
        elif missing > 0 and end is None:
            stated = song.total
        elif missing >= LOSS_SECONDS:
            damage.append(Damage(seconds + total / song.rate, 0.0, "its header states more than it holds"))
        if (song, frames) == songs[-1] and end is not None:
            damage += _behind(stream, song, total, end, stop)
        if parts:
            segments.append(Segment([song.restated(stated), *parts], seekable=base == 0, held=total))
        seconds += total / song.rate
    return Layout(segments, damage)


def _songs(stream: Stream, start: int, stop: int) -> Iterator[tuple[_Song, list[_Frame]]]:
    """Find the songs of a file with their frames; frames whose numbers begin again are a song, too."""
    song: _Song | None = None
    frames: list[_Frame] = []
    for offset, match in stream.find(_MARK_OR_SYNC, start, stop):
        if not match.group():
            found = _song_at(stream, offset, stop, search=offset == start)
            if found is not None:
                if song is not None and frames:
                    yield song, frames
                song, frames = found, []
        elif song is not None and offset >= song.audio:
            frame = _frame_at(stream, offset, song)
            if frame is not None:
                if frames and frame.first < frames[-1].first:
                    yield song, frames
                    frames = []
                frames.append(frame)
    if song is not None and frames:
        yield song, frames


def _intact(stream: Stream, offsets: list[int]) -> list[bool]:
    """Check the checksums of all frames, some at a time."""
    table = np.array(_CRC16, np.uint16)
    good: list[bool] = []
    for begin in range(0, len(offsets) - 1, _BATCH_FRAMES):
        places = offsets[begin : begin + _BATCH_FRAMES + 1]
        sizes = np.diff(places)
        data = np.zeros((int(sizes.max()), len(sizes)), np.uint8)
        for column, (place, size) in enumerate(zip(places, sizes.tolist(), strict=False)):
            data[len(data) - size :, column] = np.frombuffer(stream.at(place, size), np.uint8)
        crc = np.zeros(len(sizes), np.uint16)
        for row in data:  # leading zeros leave a checksum at 0
            crc = (crc << np.uint16(8)) ^ table[(crc >> np.uint16(8)) ^ row]
        good += (crc == 0).tolist()
    return good


def _silence(song: _Song, behind: _Frame, position: int) -> list[Part]:
    """Make silent frames from a sample to the next frame."""
    variable = behind.header[1] & 1
    frames: list[Part] = []
    while position < behind.first:
        samples = min(song.block_size, behind.first - position)
        number = position if variable else position // song.block_size
        head = bytes([255, 0xF8 | variable, 7 << 4, (song.channels - 1) << 4]) + _utf8(number)
        head += (samples - 1).to_bytes(2, "big")
        head += bytes([_crc8(head)]) + bytes(-(-song.channels * (8 + song.bits) // 8))
        *_, crc = _crc16(head)
        frames.append(head + crc.to_bytes(2, "big"))
        position += samples
    return frames


def _utf8(number: int) -> bytes:
    """Code a number of up to 36 bits like UTF-8."""
    if number < 128:
        return bytes([number])
    more = 1
    while number >> (6 * more + 6 - more):
        more += 1
    lead = (0xFF << (7 - more)) & 0xFF | number >> (6 * more)
    return bytes([lead, *(0x80 | number >> (6 * i) & 63 for i in reversed(range(more)))])
