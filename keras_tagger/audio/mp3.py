"""Find the frames of an mp3 (MPEG-1, 2 and 2.5, layers I to III).

libsndfile stops at the first change of format, at the count of the first Xing/Info frame and at the first kilobyte that
is not a frame; it guesses the length of a file without such a count from its first frames. Here a file becomes segments
of one format with a count of their own, without tags and damage.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field, replace

from keras_tagger.audio.layout import (
    LOSS_SECONDS,
    TAG_STARTS,
    TOLD_JUNK_BYTES,
    Damage,
    Layout,
    Segment,
    skip_zeros,
    tag_end,
)
from keras_tagger.audio.streams import READ_BYTES, Part, Stream, View

_THIRD_BYTES = b"".join(rb"\x%x0-\x%xb" % (high, high) for high in range(15))  # valid bit and sample rates
_SYNC_OR_TAG = re.compile(
    rb"\xff(?=[\xe2-\xe7\xf2-\xf7\xfa-\xff][" + _THIRD_BYTES + rb"])|(?=" + TAG_STARTS + rb"|TAG)"
)
_MAX_FREE_BYTES = 5000
_WARM_UP_FRAMES = 12  # decoded before the frame that is wanted
_GAP_SECONDS = 0.1  # bytes that are neither frames nor tags are reported from this length on, as it is an estimate
_INFO = (b"Xing", b"Info")
_MISSTATED_BYTES = 8192  # by which the size of a tag may be wrong
_LEAD_BYTES = 1 << 20  # searched for the first frame of a file that begins with something else

_KBPS = {
    (True, 1): tuple(range(32, 449, 32)),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclass(frozen=True)
class _Format:
    """What all frames that one decoder reads have in common; `free_bytes` is the size of frames of free bit rate."""

    version: int  # 3 for MPEG-1, 2 for MPEG-2, 0 for MPEG-2.5
    layer: int
    rate_index: int
    mono: bool
    free_bytes: int = 0

    @property
    def rate(self) -> int:
        return (44100, 48000, 32000)[self.rate_index] >> {3: 0, 2: 1, 0: 2}[self.version]

    @property
    def samples(self) -> int:
        """The number of samples of a frame."""
        if self.layer == 1:
            return 384
        return 1152 if self.layer == 2 or self.version == 3 else 576

    @property
    def side_bytes(self) -> int:
        """The size of the side information of a layer III frame."""
        return (17 if self.mono else 32) if self.version == 3 else (9 if self.mono else 17)

    @property
    def begin_shift(self) -> int:
        """How many bits follow, in the first two bytes of the side information, on where the frame's data begin."""
        return 7 if self.version == 3 else 8

    def frame_bytes(self, bitrate_index: int, padding: int) -> int:
        if bitrate_index == 0:
            return self.free_bytes + padding
        bits = _KBPS[self.version == 3, self.layer][bitrate_index - 1] * 1000
        if self.layer == 1:
            return (12 * bits // self.rate + padding) * 4
        return self.samples // 8 * bits // self.rate + padding


@functools.lru_cache(64)
def _frame_pattern(form: _Format) -> re.Pattern[bytes]:
    """Make a pattern of a whole frame of this format that holds no Xing/Info header."""
    second = 0xE0 | form.version << 3 | (4 - form.layer) << 1
    fourth = rb"[\xc0-\xff]" if form.mono else rb"[\x00-\xbf]"
    kinds = []
    for bitrate in range(0 if form.free_bytes else 1, 1 if form.free_bytes else 15):
        for padding in (0, 1):
            third = bitrate << 4 | form.rate_index << 2 | padding << 1
            kinds.append(rb"[\x%02x\x%02x]%b.{%d}" % (third, third | 1, fourth, form.frame_bytes(bitrate, padding) - 4))
    info = rb"(?!.{%d}(?:..)?(?:Xing|Info))" % (2 + form.side_bytes) if form.layer == 3 else b""
    return re.compile(
        rb"\xff[\x%02x\x%02x]" % (second, second | 1) + info + b"(?:" + b"|".join(kinds) + b")", re.DOTALL
    )


@dataclass(frozen=True)
class _Frame:
    form: _Format
    size: int
    side_offset: int  # of the side information, behind a checksum if there is one
    info: bytes = b""  # the Xing/Info header and the 8 bytes behind it


def _frame_at(stream: Stream, offset: int) -> _Frame | None:
    """Parse the frame header at `offset` (ISO 11172-3, 2.4.1.3)."""
    head = stream.at(offset, 64)
    if len(head) < 4 or head[0] != 255 or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate, rate_index, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or bitrate == 15 or rate_index == 3:
        return None
    form = _Format(version, layer, rate_index, head[3] >> 6 == 3)
    if bitrate == 0:
        free_bytes = _free_bytes(stream, offset, head, padding)
        if free_bytes is None:
            return None
        form = _Format(version, layer, rate_index, form.mono, free_bytes)
    info = b""
    if layer == 3:
        start = 4 + form.side_bytes
        info = next((head[i : i + 12] for i in (start, start + 2) if head[i : i + 4] in _INFO), b"")
    return _Frame(form, form.frame_bytes(bitrate, padding), 4 if head[1] & 1 else 6, info)


def _free_bytes(stream: Stream, offset: int, head: bytes, padding: int) -> int | None:
    """Return the unpadded size of frames of free bit rate: the distance to the next two headers of this kind."""
    data = stream.at(offset, 2 * _MAX_FREE_BYTES)
    kind = re.compile(rb"\xff%b[\x%02x-\x%02x]" % (re.escape(head[1:2]), head[2] & 0xFC, head[2] | 3), re.DOTALL)
    for match in kind.finditer(data, 24, _MAX_FREE_BYTES):
        size = match.start() - padding
        following = match.start() + size + (data[match.start() + 2] >> 1 & 1)
        if kind.match(data, following):
            return size
    return None


def _run(stream: Stream, offset: int, stop: int, form: _Format, most: int | None = None) -> tuple[int, int, int]:
    """Walk over frames of a format; return how many there are (at most `most`), their end and the last one's start."""
    pattern = _frame_pattern(form)
    count, last = 0, offset
    while True:
        data = stream.at(offset, min(READ_BYTES if most is None or most > 8 else 1 << 14, stop - offset))
        end = 0
        starts: list[int] = []
        while match := pattern.match(data, end):
            starts.append(end)
            end = match.end()
            if most is not None and count + len(starts) >= most:
                break
        if not starts:
            return count, offset, last
        count += len(starts)
        last = offset + starts[-1]
        offset += end
        if most is not None and count >= most:
            return count, offset, last


def _confirmed(stream: Stream, offset: int, stop: int, form: _Format | None, known: int, new: int) -> _Frame | None:
    """Parse the frame at `offset` if it is not there by chance.

    Args:
        stream: The file.
        offset: Where the frame is.
        stop: Where the sound ends at the latest.
        form: The format of the frames before.
        known: How many frames must follow each other if they have this format.
        new: How many if they have another.
    """
    frame = _frame_at(stream, offset)
    if frame is None:
        return None
    end = offset + frame.size
    if frame.info and end <= stop:
        return frame
    wanted = known if frame.form == form else new
    if wanted > 1 and end < stop and stream.at(end, 1) != b"\xff":
        return None
    count, end, _ = _run(stream, offset, stop, frame.form, wanted)
    if count >= wanted:
        return frame
    following = _frame_at(stream, end)
    # The last frames, or those before a tag, another format or a new count.
    ends = end == stop or tag_end(stream, end) is not None or (following is not None and following.form != form)
    complete = count >= min(2, wanted) and ends
    return frame if complete or (count >= 1 and end == stop) else None


@dataclass
class _Song:
    """Frames of one format."""

    form: _Format
    info: bytes  # the frame with the Xing/Info header
    stated: int | None  # the number of frames that it states
    start_seconds: float
    parts: list[Part] = field(default_factory=list)
    count: int = 0
    bytes: int = 0
    gap_bytes: int = 0
    gap_seconds: float | None = None  # where the first gap is

    @property
    def seconds(self) -> float:
        return self.count * self.form.samples / self.form.rate


def mp3_layout(stream: Stream, start: int, stop: int) -> Layout | None:
    """Find the segments of an mp3 between two offsets; return None if it is none."""
    songs: list[_Song] = []
    gaps: list[tuple[float, int, bool]] = []  # place in seconds, bytes, whether it is in the middle of a song
    offset = start
    gap = 0  # bytes that are neither frames nor tags
    ahead: Damage | None = None
    info_end = -1
    after_tag = True
    while offset < stop:
        song = songs[-1] if songs else None
        form = song.form if song else None
        frame = _confirmed(stream, offset, stop, form, 1 if song and not gap else 2, 3)
        if frame is None and not song and offset == start:
            frame = _confirmed(stream, offset, stop, None, 2, 2)
        if frame is None:
            end = _after_tag(stream, offset, stop, after_tag or song is None)
            after_tag = end is not None
            if end is None:
                limit = stop if song or tag_end(stream, start) is not None else min(stop, start + _LEAD_BYTES)
                end = _resync(stream, offset, limit, form)
                if song is None and end == limit:
                    return None
                if skip_zeros(stream, offset, end) < end or song is None or song.stated != song.count or end < stop:
                    gap += end - offset
            offset = end
            continue
        begins = song is None or bool(frame.info) or frame.form != song.form
        if gap and song is None:
            gap = _unexplained(stream, offset - gap, offset)
            # A recording of a stream may begin within a frame.
            if frame.info and gap >= max(TOLD_JUNK_BYTES, frame.form.frame_bytes(14, 1)):
                ahead = Damage(0.0, 0.0, f"the first {offset} bytes are not audio")
        if gap:
            if song is not None or not frame.info:
                place = song.start_seconds + song.seconds if song else 0.0
                first = None if song else _frame_at(stream, offset - gap)
                gaps.append((place, gap, not begins or (first is not None and first.form == frame.form)))
            if song is not None and not begins:
                song.gap_bytes += gap
                song.gap_seconds = place if song.gap_seconds is None else song.gap_seconds
        if begins:
            stated = int.from_bytes(frame.info[8:12], "big") if frame.info and frame.info[7] & 1 else None
            if songs and offset == info_end:  # a program put a second Info frame before the first
                songs.pop()
            before = song.start_seconds + song.seconds if song else 0.0
            info = stream.at(offset, frame.size) if stated is not None else b""
            song = _Song(frame.form, info, stated, before)
            songs.append(song)
            if stated is not None:
                song.parts.append(range(offset, offset + frame.size))
            if frame.info:
                offset += frame.size
                info_end = offset
        assert song is not None
        offset = _add_run(stream, song, offset, stop, bool(gap) or begins)
        gap = 0
        after_tag = False
    if not any(song.count for song in songs):
        return None
    if gap:
        gaps.append((songs[-1].start_seconds + songs[-1].seconds, gap, False))
    layout = _finished(stream, songs, gaps)
    if ahead is not None:
        layout.damage.insert(0, ahead)
    return layout


def begins_mp3(stream: Stream, start: int, stop: int) -> bool:
    """Return whether there are frames of an mp3 that begin between two offsets."""
    found = (offset for offset, match in stream.find(_SYNC_OR_TAG, start, stop) if match.group())
    return any(_confirmed(stream, offset, stream.size, None, 3, 3) for offset in found)


def _unexplained(stream: Stream, begin: int, end: int) -> int:
    """Return how many of the bytes before the first frame cannot be a tag whose size is wrong."""
    head = stream.at(begin, 32)
    size = end - begin
    if head[:3] == b"ID3":
        a, b, c, d = head[6:10]
        stated = 10 + max(a << 21 | b << 14 | c << 7 | d, int.from_bytes(head[6:10], "big"))
    elif head[:8] == b"APETAGEX":
        stated = 32 + int.from_bytes(head[12:16], "little")
    else:
        return size
    return size - stated if size - stated > min(stated, _MISSTATED_BYTES) else 0


def _after_tag(stream: Stream, offset: int, stop: int, zeros: bool) -> int | None:
    """Return what follows a tag (or, if `zeros`, padding) at `offset`; None if there is none or its size is wrong."""
    end = tag_end(stream, offset)
    if end is None:
        end = skip_zeros(stream, offset, min(stop, offset + READ_BYTES)) if zeros else offset
        return end if end > offset else None
    if end >= stop:
        return stop if end == stop else None
    following = skip_zeros(stream, end, min(stop, end + READ_BYTES))
    if following == stop or tag_end(stream, following) is not None or _frame_at(stream, following) is not None:
        return end
    return None


def _resync(stream: Stream, offset: int, stop: int, form: _Format | None) -> int:
    """Find the next frame or tag behind `offset`."""
    for found, match in stream.find(_SYNC_OR_TAG, offset + 1, stop):
        if match.group():
            if _confirmed(stream, found, stop, form, 2, 3) is not None:
                return found
        elif _after_tag(stream, found, stop, False) is not None:
            return found
    return stop


def _add_run(stream: Stream, song: _Song, offset: int, stop: int, fresh: bool) -> int:
    """Add the frames from `offset` on to a song, and return where they end."""
    first = offset
    if fresh and song.form.layer == 3:
        first = _add_without_reservoir(stream, song, offset, stop)
    count, end, last = _run(stream, first, stop, song.form)
    if count and end < stop and _frame_at(stream, end) is None and tag_end(stream, end) is None:
        # A frame that was cut off, or whose header is damaged, may reach into a tag or a new count.
        cut = _inside(stream, last, end, stop)
        if cut is not None:
            song.parts.append(range(first, last))
            song.count += count - 1
            song.bytes += last - first
            return cut
        if song.form.layer == 3:
            # Damage often begins within the frame before.
            song.parts += [range(first, last), *_silenced(stream, song.form, last, end)]
            song.count += count
            song.bytes += end - first
            return end
    if count:
        song.parts.append(range(first, end))
        song.count += count
        song.bytes += end - first
    return end


def _inside(stream: Stream, start: int, end: int, stop: int) -> int | None:
    """Return where a tag or a frame with a count begins inside of what looks like a frame."""
    for found, match in stream.find(_SYNC_OR_TAG, start + 4, end):
        if match.group():
            frame = _frame_at(stream, found)
            if frame is not None and frame.info:
                return found
        elif _after_tag(stream, found, stop, False) is not None:
            return found
    return None


def _add_without_reservoir(stream: Stream, song: _Song, offset: int, stop: int) -> int:
    """Silence the first frames behind a gap as long as they need data from before it; return where they end.

    A layer III frame may begin in the bytes of the frames before it (ISO 11172-3, 2.4.3.4), so the silent frames keep
    their bytes for the next ones.
    """
    available = 0
    pattern = _frame_pattern(song.form)
    while True:
        frame = _frame_at(stream, offset)
        if frame is None or not pattern.match(stream.at(offset, min(frame.size, stop - offset))):
            return offset
        side = stream.at(offset + frame.side_offset, 2)
        if int.from_bytes(side, "big") >> song.form.begin_shift <= available:
            return offset
        song.parts += _silenced(stream, song.form, offset, offset + frame.size, available)
        song.count += 1
        song.bytes += frame.size
        available += frame.size - frame.side_offset - song.form.side_bytes
        available = min(available, 0xFFFF >> song.form.begin_shift)
        offset += frame.size


def _silenced(stream: Stream, form: _Format, start: int, end: int, begin: int = 0) -> list[Part]:
    """Return a layer III frame without sound, which refers to `begin` bytes before it as a decoder keeps no others."""
    head = stream.at(start, 6)
    side = 4 if head[1] & 1 else 6
    empty = (begin << form.begin_shift).to_bytes(2, "big").ljust(form.side_bytes, b"\0")
    return [head[:side] + empty, range(start + side + form.side_bytes, end)]


def _finished(stream: Stream, songs: list[_Song], gaps: list[tuple[float, int, bool]]) -> Layout:
    """Give every song the right count, and tell damage from harmless gaps."""
    seconds = sum(song.seconds for song in songs)
    rate = sum(song.bytes for song in songs) / max(seconds, 1e-9)
    large = sum(size for _, size, _ in gaps) / rate >= _GAP_SECONDS
    damage = [
        Damage(place, size / rate, f"{size} bytes are not mp3 frames")
        for place, size, inside in gaps
        if large or inside
    ]
    segments = []
    for song in songs:
        stated = song.stated is not None
        if song.stated is None:
            if song.form.layer == 3:
                song.parts.insert(0, _count_frame(song))
        elif song.stated != song.count:
            missing = (song.stated - song.count) * song.form.samples / song.form.rate - song.gap_bytes / rate
            # Frames that are missing without a gap are missing at the end, so the last song is cut off.
            place = song.start_seconds + song.seconds
            cut_off = missing >= LOSS_SECONDS and song is songs[-1] and song.gap_seconds is None and song.count
            if missing > 0 and song.gap_seconds is not None:
                damage = [
                    replace(item, lost=item.lost + missing) if item.seconds == song.gap_seconds else item
                    for item in damage
                ]
            elif missing >= LOSS_SECONDS and not cut_off:
                damage.append(Damage(place, missing, f"{song.stated - song.count} mp3 frames are missing"))
            if not cut_off:
                song.stated = song.count
        if song.count:
            if stated:
                _correct_info(song)
            segments.append(_segment(stream, song, stated))
    damage.sort(key=lambda place: place.seconds)
    return Layout(segments, damage)


def _segment(stream: Stream, song: _Song, stated: bool) -> Segment:
    """Make the segment of a song whose first part is a frame with the right count."""
    form = song.form
    parts = _joined(song.parts)
    if form.layer != 3:
        return Segment(parts, piecemeal=True, stated=stated)
    view = View(stream, parts)
    whole = Stream(stream.name, view, view.size)
    first = _frame_at(whole, 0)
    assert first is not None
    skipped, padding = _gapless(whole.at(0, first.size))

    def jump(target: int) -> tuple[Segment, int] | None:
        frame = (target + skipped) // form.samples - _WARM_UP_FRAMES
        if frame <= 0:
            return None
        _, offset, _ = _run(whole, first.size, whole.size, form, frame)
        rest = _Song(form, b"", None, 0.0, count=song.count - frame)
        offset = _add_without_reservoir(whole, rest, offset, whole.size)
        rest.count = song.count - frame
        tail = [_count_frame(rest), *rest.parts, range(offset, whole.size)]
        return Segment(tail, piecemeal=True, stream=whole), frame * form.samples - skipped

    frames = (song.stated if stated and song.stated is not None else song.count) * form.samples
    frames -= skipped + padding
    return Segment(parts, piecemeal=True, stated=stated, jump=jump, frames=frames)


def _gapless(info: bytes) -> tuple[int, int]:
    """Return how many samples libmpg123 skips at the beginning and at the end, as a LAME tag states."""
    found = max(info.find(name) for name in _INFO)
    flags = info[found + 7]
    lame = found + 8 + 4 * (flags & 1) + 2 * (flags & 2) + 25 * (flags & 4) + (flags & 8) // 2
    tag = info[lame : lame + 24]
    if len(tag) < 24 or tag[0] == 0:
        return 0, 0
    delays = int.from_bytes(tag[21:24], "big")
    return delays >> 12, delays & 0xFFF


def _correct_info(song: _Song) -> None:
    """Put the right numbers of frames and bytes into a Xing/Info frame; libmpg123 complains about wrong ones."""
    found = max(song.info.find(name) for name in _INFO)
    info = song.info[: found + 8] + (song.stated or 0).to_bytes(4, "big") + song.info[found + 12 :]
    size = len(info) + song.bytes
    said = int.from_bytes(info[found + 12 : found + 16], "big")
    if info[found + 7] & 2 and not 0.995 < said / size < 1.005:
        info = info[: found + 12] + min(size, 0xFFFFFFFF).to_bytes(4, "big") + info[found + 16 :]
    if info != song.info:
        song.parts[0] = info


def _joined(parts: list[Part]) -> list[Part]:
    """Join adjacent ranges."""
    joined: list[Part] = []
    for part in parts:
        before = joined[-1] if joined else None
        if isinstance(part, range) and isinstance(before, range) and before.stop == part.start:
            joined[-1] = range(before.start, part.stop)
        else:
            joined.append(part)
    return joined


def _count_frame(song: _Song) -> bytes:
    """Make a frame with a Xing header that states the number of frames."""
    # A frame of the medium bit rate 9, without checksum and padding, has room for the header.
    form = song.form
    second = 0xE1 | form.version << 3 | (4 - form.layer) << 1
    head = bytes([255, second, 9 << 4 | form.rate_index << 2, 0xC0 if form.mono else 0])
    head = head.ljust(4 + form.side_bytes, b"\0") + b"Xing" + (1).to_bytes(4, "big") + song.count.to_bytes(4, "big")
    return head.ljust(form.frame_bytes(9, 0), b"\0")
