"""Find the logical streams of an ogg file (RFC 3533) and check its pages.

libsndfile reads the first link of a chained file only, and may treat a stream with a bad page as a shorter one. Here
every link is a segment, and so is what follows a bad page. An opus stream whose pages miscount their samples, as
written by ffmpeg if the timestamps of its input jitter, gets correct counts, because libsndfile calls it malformed.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field, replace

from keras_tagger.audio.flac import flac_layout
from keras_tagger.audio.layout import LOSS_SECONDS, Damage, Layout, Segment, explained_end, tag_end
from keras_tagger.audio.streams import Part, Stream, View, audio_error

_PAGE = re.compile(rb"OggS(?=\x00[\x00-\x07])")
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def page_checksum(page: bytes) -> bytes:
    """Compute the checksum of an ogg page: zlib's polynomial with reversed bits, starting at 0 and not inverted."""
    blank = page[:22] + bytes(4) + page[26:]
    crc = zlib.crc32(blank.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(_REVERSED_BITS)


def _opus_samples(packet: bytes) -> int:
    """Return the length of an opus packet in samples at 48 kHz, given its first two bytes (RFC 6716, 3.1, 3.2)."""
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    return frame * (packet[1] & 63 if code == 3 and len(packet) > 1 else (1, 2, 2, 1)[code])


class _OpusCounter:
    """Counts the samples of the audio pages of an opus stream (RFC 7845, 4)."""

    def __init__(self) -> None:
        self._total: int | None = None
        self._open_samples = 0  # of a packet that continues on the next page

    def granule(self, page: bytes, lengths: bytes) -> int:
        """Return the correct granule position of the next page."""
        completed = 0
        continues = bool(page[5] & 1)
        start = 27 + len(lengths)
        for length in lengths:
            if not continues and length:
                self._open_samples = _opus_samples(page[start : start + 2])
            start += length
            continues = length == 255
            if not continues:
                completed += self._open_samples
                self._open_samples = 0
        said = int.from_bytes(page[6:14], "little", signed=True)
        if not completed:
            return said
        if self._total is None:
            # A stream that was cut out of a longer one does not begin at 0. An offset below a second is a miscount.
            ahead = said - completed
            self._total = ahead if ahead >= 48_000 else 0
        before, self._total = self._total, self._total + completed
        last = bool(page[5] & 4)
        return said if last and before <= said < self._total else self._total


@dataclass
class _Link:
    """One logical stream of audio, or the rest of one behind a bad page."""

    serial: bytes
    codec: str
    rate: int
    headers_left: int  # header packets that are not read yet
    headers: list[Part] = field(default_factory=list)
    audio: list[Part] = field(default_factory=list)
    audio_bytes: int = 0
    begins: bool = True  # at a granule position of 0, unless the first one is far from it
    first: int | None = None  # the earliest known granule position
    bytes_before_first: int = 0
    last: int = 0
    sequence: int = 0  # the number of the next page
    ended: bool = False
    falls: bool = False  # whether a granule position is below the one before
    counter: _OpusCounter = field(default_factory=_OpusCounter)
    flac: bytes = b""  # "fLaC" and STREAMINFO

    @property
    def known_seconds(self) -> float:
        """The time between the first and the last known granule position."""
        return 0.0 if self.first is None else (self.last - self.first) / self.rate

    def rest(self) -> _Link:
        """Return a stream with the same headers and without audio."""
        return _Link(
            self.serial, self.codec, self.rate, self.headers_left, list(self.headers), begins=False, flac=self.flac
        )

    def add(self, offset: int, page: bytes, lengths: bytes) -> None:
        """Add the next page of this stream."""
        self.sequence = int.from_bytes(page[18:22], "little") + 1
        self.ended = bool(page[5] & 4)
        if self.headers_left:
            self.headers_left -= sum(length < 255 for length in lengths)
            _extend(self.headers, range(offset, offset + len(page)))
            return
        said = int.from_bytes(page[6:14], "little", signed=True)
        granule = self.counter.granule(page, lengths) if self.codec == "opus" else said
        if 0 <= granule < self.last and self.codec == "vorbis":
            granule, self.falls = self.last, True  # libsndfile would believe that the stream ends there
        if self.flac:
            _extend(self.audio, range(offset + 27 + len(lengths), offset + len(page)))
        elif granule == said:
            _extend(self.audio, range(offset, offset + len(page)))
        else:
            mended = page[:6] + granule.to_bytes(8, "little", signed=True) + page[14:]
            self.audio += [
                page[:6] + mended[6:22] + page_checksum(mended),
                range(offset + 26, offset + len(page)),
            ]
        self.audio_bytes += len(page)
        if granule >= 0:
            if self.first is None and self.begins and granule <= 3 * self.rate:
                self.first = 0
            elif self.first is None:
                self.first, self.bytes_before_first = granule, self.audio_bytes
            self.last = granule


@dataclass
class _Gap:
    """Bytes that are no pages."""

    offset: int
    size: int
    before: _Link | None
    after: _Link | None = None  # the rest of the same stream

    def lost(self, rate: float) -> float:
        """Return how much sound is missing in seconds, given the bytes per second."""
        before, after = self.before, self.after
        if before is None or after is None or after.first is None or (before.first is None and not before.begins):
            return self.size / rate
        return max(0.0, (after.first - before.last) / after.rate - after.bytes_before_first / rate)


def _extend(parts: list[Part], part: range) -> None:
    before = parts[-1] if parts else None
    if isinstance(before, range) and before.stop == part.start:
        parts[-1] = range(before.start, part.stop)
    else:
        parts.append(part)


def _begin(page: bytes, lengths: bytes) -> _Link | None:
    """Return the stream that a first page begins, or None if libsndfile does not decode its kind."""
    body = page[27 + len(lengths) :]
    serial = page[14:18]
    if body[:7] == b"\x01vorbis" and len(body) >= 16:
        return _Link(serial, "vorbis", int.from_bytes(body[12:16], "little") or 1, 3)
    if body[:8] == b"OpusHead":
        return _Link(serial, "opus", 48_000, 2)
    if body[:5] == b"\x7fFLAC" and len(body) >= 51:
        # The header packets count themselves; libsndfile gets the flac without the pages.
        rate = int.from_bytes(body[27:30], "big") >> 4
        return _Link(serial, "flac", rate or 1, 1 + int.from_bytes(body[7:9], "big"), flac=body[9:51])
    return None


def _page_at(stream: Stream, offset: int, stop: int) -> tuple[bytes, bytes] | None:
    """Return the page at `offset` and its lengths of segments; None if it is incomplete or has a wrong checksum."""
    header = stream.at(offset, 27)
    if len(header) < 27 or header[:4] != b"OggS":
        return None
    lengths = stream.at(offset + 27, header[26])
    size = 27 + header[26] + sum(lengths)
    page = stream.at(offset, size)
    if len(page) < size or offset + size > stop or page_checksum(page) != page[22:26]:
        return None
    return page, lengths


def ogg_layout(stream: Stream, start: int, stop: int) -> Layout | None:
    """Find the segments of an ogg file; return None if it has no stream that libsndfile decodes.

    Raises:
        AudioError: If the file is truncated within its last page.
    """
    links: list[_Link] = []
    gaps: list[_Gap] = []
    link: _Link | None = None
    beginning = False  # among the first pages of all streams that are multiplexed
    offset = start
    cut: int | None = None
    while offset < stop:
        found = _page_at(stream, offset, stop)
        if found is None:
            behind = _resync(stream, offset, stop)
            if behind == stop and _cut_off(stream, offset, stop, link):
                cut = offset
                break
            if not _explained(stream, offset, behind, link):
                gaps.append(_Gap(offset, behind - offset, link))
                if link is not None and not link.ended and behind < stop:
                    link = gaps[-1].after = link.rest()
                    links.append(link)
            offset = behind
            continue
        page, lengths = found
        if page[5] & 2:
            new = _begin(page, lengths)
            if not beginning:
                link = None
            if link is None and new is not None:
                link = new
                links.append(link)
        beginning = bool(page[5] & 2)
        if link is not None and page[14:18] == link.serial:
            number = int.from_bytes(page[18:22], "little")
            if link.audio and number > link.sequence:
                rest = link.rest()
                gaps.append(_Gap(offset, 0, link, rest))
                links.append(rest)
                link = rest
            link.add(offset, page, lengths)
        offset += len(page)
    return _finished(stream, links, gaps, cut)


def _resync(stream: Stream, offset: int, stop: int) -> int:
    for found, _ in stream.find(_PAGE, offset + 1, stop):
        if _page_at(stream, found, stop) is not None:
            return found
    return stop


def _cut_off(stream: Stream, offset: int, stop: int, link: _Link | None) -> bool:
    """Return whether a file ends within the page at `offset`."""
    header = stream.at(offset, 27)
    if header[:4] != b"OggS"[: len(header)] or (link is not None and link.ended and len(header) < 4):
        return False
    lengths = stream.at(offset + 27, header[26]) if len(header) == 27 else b""
    return len(header) < 27 or len(lengths) < header[26] or offset + 27 + len(lengths) + sum(lengths) > stop


def _explained(stream: Stream, offset: int, stop: int, link: _Link | None) -> bool:
    """Return whether bytes between pages are tags or, behind the end of a stream, zeros."""
    if tag_end(stream, offset) is None and (link is None or not link.ended):
        return False
    return explained_end(stream, offset, stop) == stop


def _finished(stream: Stream, links: list[_Link], gaps: list[_Gap], cut: int | None) -> Layout | None:
    usable = [link for link in links if link.audio and not link.headers_left]
    known = sum(link.audio_bytes - link.bytes_before_first for link in usable)
    known_seconds = sum(link.known_seconds for link in usable)
    if not known_seconds and usable:  # only the last page is left
        known = stream.size
        known_seconds = usable[-1].last / usable[-1].rate
    rate = max(1, known) / max(known_seconds, 1e-3)
    damage = []
    ends = {}  # of the links, in seconds
    seconds = 0.0
    for link in links:
        if link.headers_left:
            damage.append(Damage(seconds, link.audio_bytes / rate, "the headers of a stream are damaged"))
        else:
            seconds += link.known_seconds + link.bytes_before_first / rate
        if link.falls:
            damage.append(Damage(seconds, 0.0, "the positions of its pages are wrong"))
        ends[id(link)] = seconds
    if cut is not None:
        raise audio_error(
            "a complete ogg file",
            f"{stream.name}, which is truncated within its last page, at byte {cut} and {seconds:.3f} s",
        )
    for gap in gaps:
        lost = gap.lost(rate)
        inside = gap.before is not None and not gap.before.ended
        if lost >= LOSS_SECONDS or (inside and gap.size):
            place = 0.0 if gap.before is None else ends[id(gap.before)]
            reason = (
                f"{gap.size} bytes from byte {gap.offset} on are not ogg pages" if gap.size else "pages are missing"
            )
            damage.append(Damage(place, lost, reason))
    if not usable:
        return None
    if not links[-1].ended and not damage:
        damage.append(Damage(seconds, 0.0, "it does not end with a last page and may be cut off"))
    damage.sort(key=lambda place: place.seconds)
    if any(link.flac for link in usable):
        return _flac_layout(stream, usable, damage)
    # libsndfile finds wrong places in an opus stream that does not begin at 0.
    segments = [
        Segment(
            link.headers + link.audio, seekable=link.codec != "opus" or (link.begins and link.bytes_before_first == 0)
        )
        for link in usable
    ]
    return Layout(segments, damage)


def _flac_layout(stream: Stream, links: list[_Link], damage: list[Damage]) -> Layout | None:
    """Read flac in ogg, which libsndfile does not read if the header packets are many, as plain flac."""
    parts: list[Part] = []
    for index, link in enumerate(links):
        if index == 0 or link.begins:
            parts.append(link.flac[:4] + bytes([link.flac[4] | 128]) + link.flac[5:])
        parts += link.audio
    view = View(stream, parts)
    inner = Stream(stream.name, view, view.size)
    layout = flac_layout(inner, 0, view.size)
    if layout is None:
        return None
    return Layout([replace(segment, stream=inner) for segment in layout.segments], damage + layout.damage)
