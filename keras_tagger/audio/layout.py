"""What a decoder gets to read of a file: its segments, and the damage between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from keras_tagger.audio.streams import Part, Stream

LOSS_SECONDS = 0.2  # unexplained bytes or missing sound are reported from this length on
TOLD_JUNK_BYTES = 500  # of which a listener is told, because they may be the rest of another file
_REFUSED_SHARE = 0.5  # a file of which more than this is unreadable is refused


@dataclass(frozen=True)
class Segment:
    """A part of a file that one decoder reads.

    Attributes:
        parts: What the decoder reads.
        piecemeal: Whether libsndfile reads it a few hundred bytes at a time.
        stated: Whether the file itself states the length that libsndfile reports, so that less means damage.
        seekable: Whether libsndfile finds every place in it.
        held: How many frames it can decode at most; None if that is not known.
        stream: Where the parts are, if not in the file itself.
        complete: Given two frames, returns whether the file has all between them; asked where a decoder returns zeros,
            because libFLAC silently puts them in the place of missing frames.
        jump: Given a frame, returns a segment that begins shortly before it, and at which frame; None if that is not
            worth it. It is used instead of libsndfile's seeking.
        frames: How many frames libsndfile must report for `jump` to be right.
    """

    parts: list[Part]
    piecemeal: bool = False
    stated: bool = True
    seekable: bool = True
    held: int | None = None
    stream: Stream | None = None
    complete: Callable[[int, int], bool] | None = None
    jump: Callable[[int], tuple[Segment, int] | None] | None = None
    frames: int | None = None


@dataclass(frozen=True)
class Damage:
    """Sound that cannot be read.

    Attributes:
        seconds: Where it is missing in the decoded audio.
        lost: About how many seconds are missing.
        reason: What is wrong with the file there.
    """

    seconds: float
    lost: float
    reason: str


@dataclass(frozen=True)
class Layout:
    """The segments of a file in order, and what cannot be read of it.

    `repair` examines the file thoroughly after decoding failed.
    """

    segments: list[Segment]
    damage: list[Damage] = field(default_factory=list)
    repair: Callable[[], Layout] | None = None


def describe(damage: Iterable[Damage]) -> str:
    """Say in half a sentence where sound is missing, how much and why."""
    places = list(damage)
    lost = sum(place.lost for place in places)
    first = places[0]
    where = f"at {first.seconds:.3f} s"
    if len(places) > 1:
        where = f"in {len(places)} places, first {where}"
    if not lost:
        return f"damaged {where}: {first.reason}"
    return f"damaged {where}: about {lost:.3f} s of sound cannot be read ({first.reason})"


def beyond_repair(damage: Iterable[Damage], read_seconds: float) -> bool:
    """Return whether so much of a file is unreadable that it is refused."""
    lost = sum(place.lost for place in damage)
    return lost > _REFUSED_SHARE * (lost + read_seconds)


_ID3 = re.compile(rb"ID3[\x02-\x04][\x00-\x0f].[\x00-\x7f]{4}", re.DOTALL)
TAG_STARTS = rb"ID3[\x02-\x04][\x00-\x0f]|APETAGEX|LYRICSBEGIN"


def id3_end(stream: Stream, offset: int) -> int | None:
    """Return where an ID3v2 tag at `offset` ends, or None if there is none."""
    head = stream.at(offset, 10)
    if not _ID3.match(head):
        return None
    a, b, c, d = head[6:]
    footer = 10 if head[3] == 4 and head[5] & 16 else 0
    return offset + 10 + (a << 21 | b << 14 | c << 7 | d) + footer


def tag_end(stream: Stream, offset: int) -> int | None:
    """Return where a tag of kind ID3v1, ID3v2, APE or Lyrics3 at `offset` ends, or None if there is none."""
    head = stream.at(offset, 32)
    if head[:3] == b"ID3":
        return id3_end(stream, offset)
    if head[:4] == b"TAG+":
        return offset + 227
    if head[:3] == b"TAG":
        return offset + 128
    if head[:8] == b"APETAGEX" and len(head) == 32:
        is_header = head[23] & 32
        return offset + 32 + (int.from_bytes(head[12:16], "little") if is_header else 0)
    if head[:11] == b"LYRICSBEGIN":
        found = re.search(rb"LYRICS200|LYRICSEND", stream.at(offset, 1 << 20))
        return None if found is None else offset + found.end()
    return None


def skip_zeros(stream: Stream, offset: int, stop: int) -> int:
    """Return the offset of the first byte that is not zero, or `stop`."""
    if offset < stop and stream.at(offset, 1) != b"\0":
        return offset
    for found, _ in stream.find(re.compile(rb"[^\x00]"), offset, stop):
        return found
    return stop


def explained_end(stream: Stream, offset: int, stop: int) -> int:
    """Return the first byte that is not part of tags or of zeros up to `stop`."""
    while offset < stop:
        end = tag_end(stream, offset)
        if end is None or end > stop:
            # An APE tag without a header, which its footer describes.
            footer = re.search(
                rb"APETAGEX.{4}(.{4}).{7}[\x00-\x1f\x80-\x9f].{8}", stream.at(offset, 1 << 20), re.DOTALL
            )
            if footer and offset + footer.end() - int.from_bytes(footer[1], "little") <= offset:
                end = offset + footer.end()
        if end is None or end > stop:
            return stop if skip_zeros(stream, offset, stop) == stop else offset
        offset = end
    return stop
