"""Find the sound in wav (RIFF, RIFX, RF64) and aiff (FORM) files.

libsndfile silently reads a part of a file whose header states a wrong size. Here the stated size is compared with what
the file holds, and every file of several that were joined is a segment.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from keras_tagger.audio.layout import LOSS_SECONDS, Damage, Layout, Segment, explained_end, skip_zeros
from keras_tagger.audio.mp3 import mp3_layout
from keras_tagger.audio.streams import Part, Stream, audio_error

_MAX_CHANNELS = 1024  # libsndfile's limit
_EXCESS_SECONDS = 0.05  # a header that states this much too much is wrong, not the file truncated
_CHUNK_NAME = re.compile(rb"(?!data|SSND|RIFF|RIFX|FORM)[A-Za-z0-9_()\xa9][A-Za-z0-9_() .]{3}")
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
    coding: int = 1
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
            second = stream.at(end, 4) in (b"data", b"SSND")
            if end == begin and form.coding not in _MPEG and not second:
                damage.append(Damage(place, 0.0, "its header states less than it holds; it is read to its end"))
                size = stop - form.data
            else:
                lost = (stop - end) / form.bytes_per_second
                damage.append(Damage(place, lost, f"{stop - end} bytes from byte {end} on are in no chunk"))
        layout = mp3_layout(stream, form.data, form.data + size) if form.coding in _MPEG else None
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
        form.coding = form.number(layout[:2])
        channels, rate = form.number(layout[2:4]), form.number(layout[4:8])
        pcm = form.coding not in _MPEG
        form.bytes_per_second = form.number(layout[12:14]) * rate if pcm else form.number(layout[8:12])
    else:
        return
    if not 1 <= channels <= _MAX_CHANNELS:
        raise audio_error(f"from 1 to {_MAX_CHANNELS} channels", f"{stream.name}, whose header says {channels} channels")
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
    # Some programs count their header, or a few bytes too many.
    excess = form.size - present
    if excess > present or excess > max(form.data - form.start, _EXCESS_SECONDS * form.bytes_per_second):
        raise audio_error(
            f"{form.size} bytes of samples, as stated in the header",
            f"{stream.name}, which is truncated and has {max(0, present)} bytes of them",
        )
    return present


def _chunks_end(stream: Stream, form: _Form, offset: int, stop: int) -> int:
    """Skip chunks, tags and zeros behind the samples; return the end of the file or where something else begins."""
    while offset < stop:
        for begin in (offset + offset % 2, offset):  # some programs do not pad a chunk of an odd size
            head = stream.at(begin, 12)
            if is_riff(head):
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
