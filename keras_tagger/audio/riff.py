"""Find the sound in wav (RIFF, RIFX, RF64) and aiff (FORM) files.

libsndfile silently reads a part of a file whose header states a wrong size. Here the stated size is compared with what
the file holds, and every file of several that were joined is a segment.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from typing import Literal

from keras_tagger.audio.layout import LOSS_SECONDS, Damage, Layout, Segment, explained_end, skip_zeros
from keras_tagger.audio.mp3 import mp3_layout
from keras_tagger.audio.streams import Part, Stream, audio_error

_MAX_CHANNELS = 1024  # libsndfile's limit
_EXCESS_SECONDS = 0.05  # a header that states this much too much is wrong, not the file truncated
_CHUNK_NAME = re.compile(rb"(?!data|SSND|RIFF|RIFX|FORM)[A-Za-z0-9_()\xa9][A-Za-z0-9_() .]{3}")
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}  # of a sample, by codec
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_MPEG = (0x50, 0x55)  # formats of mp2 and mp3 in wav


def is_riff(magic: bytes) -> bool:
    """Return whether a file that begins with these 12 bytes is a wav or aiff."""
    wav = magic[:4] in (b"RIFF", b"RIFX", b"RF64") and magic[8:12] == b"WAVE"
    return wav or (magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"))


@dataclass
class _Form:
    """The chunks of a wav or aiff up to its samples."""

    start: int
    big_endian: bool
    data: int = 0  # where the samples begin
    size: int = 0  # of the samples, as stated
    bytes_per_second: float = 0.0
    codec: int = 1
    format_behind: range | None = None

    def number(self, data: bytes) -> int:
        return int.from_bytes(data, "big" if self.big_endian else "little")


def riff_layout(stream: Stream, start: int, stop: int) -> Layout | None:
    """Find the segments of a wav or aiff; return None if it has no samples that can be found.

    Raises:
        AudioError: If the file is truncated, or states 0 Hz or an invalid number of channels.
    """
    segments: list[Segment] = []
    damage: list[Damage] = []
    seconds = 0.0
    while start < stop and is_riff(stream.at(start, 12)):
        form = _form_at(stream, start, stop)
        if form is None or not form.bytes_per_second:
            break
        size = _held_bytes(stream, form, stop)
        begin = 0 if size is None else form.data + size
        end = stop if size is None else _chunks_end(stream, form, begin, stop)
        again = end < stop and is_riff(stream.at(end, 12))
        size = stop - form.data if size is None else size
        if end < stop and not again and (stop - end) / form.bytes_per_second >= LOSS_SECONDS:
            place = seconds + size / form.bytes_per_second
            second = stream.at(end, 4) in (b"data", b"SSND", b"wvpk")
            if end == begin and form.codec not in _MPEG and not second:
                damage.append(Damage(place, 0.0, "its header states less than it holds; it is read to its end"))
                size = stop - form.data
            else:
                lost = (stop - end) / form.bytes_per_second
                damage.append(Damage(place, lost, f"{stop - end} bytes from byte {end} on are in no chunk"))
        layout = mp3_layout(stream, form.data, form.data + size) if form.codec in _MPEG else None
        if layout is not None:
            segments += layout.segments
            damage += layout.damage
        elif size or not (segments or again):
            segments.append(Segment(_parts(stream, form, size, end)))
        seconds += size / form.bytes_per_second
        start = end if again else stop
    return Layout(segments, damage) if segments else None


def _form_at(stream: Stream, start: int, stop: int) -> _Form | None:
    """Read the chunks up to the samples, and the format behind them if it is not before."""
    magic = stream.at(start, 4)
    aiff = magic == b"FORM"
    form = _Form(start, magic in (b"FORM", b"RIFX"))
    offset, size_64 = start + 12, 0
    for _ in range(1000):
        head = stream.at(offset, 8)
        if len(head) < 8 or (form.data and form.bytes_per_second):
            break
        size = form.number(head[4:])
        if head[:4] == (b"SSND" if aiff else b"data") and not form.data:
            form.data = offset + 8
            form.size = size_64 if size == 0xFFFFFFFF and size_64 else size
        elif head[:4] == (b"COMM" if aiff else b"fmt "):
            _read_format(stream, form, aiff, stream.at(offset + 8, 18))
            if form.data:
                form.format_behind = range(offset, offset + 8 + size)
        elif head[:4] == b"ds64":
            size_64 = form.number(stream.at(offset + 16, 8))
        offset += 8 + size + size % 2
    return form if form.data else None


def _read_format(stream: Stream, form: _Form, aiff: bool, layout: bytes) -> None:
    if aiff and len(layout) == 18:
        exponent, mantissa = form.number(layout[8:10]), form.number(layout[10:18])
        channels, rate = form.number(layout[:2]), round(math.ldexp(mantissa, min(exponent, 0x4028) - 16383 - 63))
        form.bytes_per_second = channels * -(-form.number(layout[6:8]) // 8) * rate
    elif not aiff and len(layout) >= 16:
        form.codec = form.number(layout[:2])
        channels, rate = form.number(layout[2:4]), form.number(layout[4:8])
        pcm = form.codec not in _MPEG
        form.bytes_per_second = form.number(layout[12:14]) * rate if pcm else form.number(layout[8:12])
    else:
        return
    if not 1 <= channels <= _MAX_CHANNELS:
        raise audio_error(
            f"from 1 to {_MAX_CHANNELS} channels", f"{stream.name}, whose header says {channels} channels"
        )
    if rate == 0:
        raise audio_error("a sample rate above 0 Hz", f"{stream.name}, whose header says 0 Hz")


def _held_bytes(stream: Stream, form: _Form, stop: int) -> int | None:
    """Return the size of the samples, or None if they go on to the end of the file."""
    present = stop - form.data
    if form.size >= 0xFFFFF000 or 0x7FFFF000 <= form.size <= 0x80000024:
        return None  # written by ffmpeg, sox and arecord for a stream of unknown length
    if form.size == 0 and present and form.number(stream.at(form.start + 4, 4)) + 8 != stop - form.start:
        return None  # written by programs that write to a pipe
    if form.size <= present:
        return form.size
    _check_truncated(stream.name, form.size, present, form.bytes_per_second, form.data - form.start)
    return present


def _check_truncated(name: str, stated: int, present: int, bytes_per_second: float, header: int) -> None:
    # Some programs count their header, or a few bytes too many.
    excess = stated - present
    if excess > present or excess > max(header, _EXCESS_SECONDS * bytes_per_second):
        raise audio_error(
            f"{stated} bytes of samples, as stated in the header",
            f"{name}, which is truncated and has {max(0, present)} bytes of them",
        )


def _chunks_end(stream: Stream, form: _Form, offset: int, stop: int) -> int:
    """Skip chunks, tags and zeros behind the samples; return the end of the file or where something else begins."""
    while offset < stop:
        for begin in (offset + offset % 2, offset):  # some programs do not pad a chunk of an odd size
            head = stream.at(begin, 12)
            if is_riff(head) or head[:4] == b"wvpk":  # WavPack blocks look like chunks
                return begin
            end = begin + 8 + form.number(head[4:8])
            if _CHUNK_NAME.match(head) and end <= stop + 1:
                break
        else:
            rest = explained_end(stream, offset, stop)
            if rest == offset:
                zeros = skip_zeros(stream, offset, stop)
                return zeros if is_riff(stream.at(zeros, 12)) else offset
            end = rest
        offset = min(end, stop)
    return stop


def _parts(stream: Stream, form: _Form, size: int, stop: int) -> list[Part]:
    """Let a decoder read a file with the right size of its samples."""
    if form.format_behind is None and (size == form.size or (form.size >= 0x7FFFF000 and size == stop - form.data)):
        return [range(form.start, stop)]
    order: Literal["big", "little"] = "big" if form.big_endian else "little"
    behind = form.format_behind or range(0)
    head = form.data - form.start + len(behind)
    return [
        stream.at(form.start, 4) + min(head - 8 + size, 0xFFFFFFFF).to_bytes(4, order) + stream.at(form.start + 8, 4),
        behind,
        range(form.start + 12, form.data - 4),
        min(size, 0xFFFFFFFF).to_bytes(4, order),
        range(form.data, form.data + size),
    ]


def sized_layout(stream: Stream) -> Layout | None:
    """Check the stated size of an au, w64 or caf of uncompressed samples; return None if this is no such file.

    Raises:
        AudioError: If the file is truncated.
    """
    head = stream.at(0, 40)
    found: tuple[int, int, float] | None = None
    if head[:4] in (b".snd", b"dns.") and len(head) >= 24:
        order: Literal["big", "little"] = "big" if head[:1] == b"." else "little"
        data, size, codec, rate, channels = (int.from_bytes(head[i : i + 4], order) for i in range(4, 24, 4))
        found = (data, size, _AU_BYTES.get(codec, 0) * rate * channels) if size != 0xFFFFFFFF else None
    elif head[:16] == _W64_RIFF and len(head) == 40:
        found = _find_samples(stream, 40, 16, "little", 8)
    elif head[:4] == b"caff":
        found = _find_samples(stream, 8, 4, "big", 1)
    if found is None or not found[2]:
        return None
    data, size, bytes_per_second = found
    present = stream.size - data
    damage = []
    if size > present:
        _check_truncated(stream.name, size, present, bytes_per_second, data)
    elif head[3:4] in b"d." and (present - size) / bytes_per_second >= LOSS_SECONDS:
        place = size / bytes_per_second
        rest = explained_end(stream, data + size, stream.size)
        damage.append(
            Damage(
                place, (stream.size - rest) / bytes_per_second, f"the header does not count {stream.size - rest} bytes"
            )
        )
    return Layout([Segment([range(stream.size)])], damage)


def _find_samples(
    stream: Stream, offset: int, name_bytes: int, order: Literal["big", "little"], align: int
) -> tuple[int, int, float] | None:
    """Find the samples in the chunks of a w64 or caf; return their offset, size and bytes per second."""
    head = name_bytes + 8
    rate = 0.0
    for _ in range(1000):
        chunk = stream.at(offset, head + 32)
        size = int.from_bytes(chunk[name_bytes:head], order)
        layout = chunk[head:]
        if order == "little":
            size -= head
        if size < 0 or len(chunk) < head or (chunk[:4] == b"data" and size >= 1 << 62):
            return None
        if chunk[:4] == b"data":
            return (offset + head, size, rate)
        if chunk[:4] == b"fmt " and len(layout) >= 14:
            rate = float(int.from_bytes(layout[4:8], order) * int.from_bytes(layout[12:14], order))
        elif chunk[:4] == b"desc" and len(layout) >= 24:
            (hertz,) = struct.unpack(">d", layout[:8])
            rate = hertz * int.from_bytes(layout[16:20], order) / max(1, int.from_bytes(layout[20:24], order))
        offset += head + size
        offset += -offset % align
    return None
