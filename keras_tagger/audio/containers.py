"""Repair or refuse files that libsndfile 1.2 would misread, before it sees them.

- An mp3 without a Xing/Info frame gets one, because libsndfile guesses the length of such a file from its first frames
  and silently stops there.
- A RIFF file whose header says that it has 0 bytes of data, as written by programs that write to a pipe, is read to its
  end.
- An opus file whose pages miscount their samples, as written by ffmpeg if the timestamps of its input jitter, gets
  correct counts, because libsndfile calls such a file malformed.
- A wav or aiff with less data than its header says, and an ogg (vorbis, opus) with a broken page, are refused, because
  libsndfile silently returns a part of them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from keras_tagger.audio.streams import READ_BYTES, Stream, audio_error

_MAX_CHANNELS = 1024  # libsndfile's limit


def prepare(stream: Stream) -> bool:
    """Check a container's structure, and repair what libsndfile would misread.

    Returns:
        True if the file itself states the length that libsndfile reports, so that decoding less means damage.

    Raises:
        AudioError: If the file is truncated, has a broken page, or states 0 Hz or an invalid number of channels.
    """
    magic = stream.at(0, 12)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64") or (magic[:4] == b"FORM" and magic[8:] in (b"AIFF", b"AIFC")):
        _prepare_chunks(stream, magic)
    elif magic[:4] == b"OggS":
        _check_pages(stream)
    elif (start := _mp3_start(stream)) is not None:
        stream.piecemeal = True
        return _prepare_mp3(stream, start)
    return True


def _prepare_chunks(stream: Stream, magic: bytes) -> None:
    """Compare the stated size of the sample data in a wav or aiff with the actual size."""
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
        if head[:4] == b"fmt " and not form and len(layout := stream.at(offset + 8, 8)) == 8:
            channels, rate = number(layout[2:4]), number(layout[4:])
            if not 1 <= channels <= _MAX_CHANNELS:
                raise audio_error(
                    f"from 1 to {_MAX_CHANNELS} channels", f"{stream.name}, whose header says {channels} channels"
                )
            if rate == 0:
                raise audio_error("a sample rate above 0 Hz", f"{stream.name}, whose header says 0 Hz")
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
        return  # written by ffmpeg, sox and arecord for a stream of unknown length
    if size > present:
        raise audio_error(
            f"{size} bytes of samples, as stated in the header",
            f"{stream.name}, which is truncated and has {max(0, present)} bytes of them",
        )


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
    """Counts the samples of an opus stream page by page (RFC 7845, 4)."""

    def __init__(self) -> None:
        self._begin(None)

    def _begin(self, serial: bytes | None) -> None:
        self._serial = serial
        # Two packets on pages of their own; the second may fill several pages.
        self._headers_left = 2
        self._total: int | None = None
        self._open_samples = 0  # of a packet that continues on the next page

    def granule(self, page: bytes, lengths: bytes) -> bytes | None:
        """Return the correct granule position of the next page, or None if the page's own is correct."""
        body = 27 + len(lengths)
        if page[5] & 2:
            self._begin(page[14:18] if page[body : body + 8] == b"OpusHead" else None)
        if page[14:18] != self._serial:
            return None
        completed = 0
        continues = bool(page[5] & 1)
        start = body
        for length in lengths:
            if not continues and self._headers_left == 0 and length:
                self._open_samples = _opus_samples(page[start : start + 2])
            start += length
            continues = length == 255
            if not continues:
                if self._headers_left:
                    self._headers_left -= 1
                else:
                    completed += self._open_samples
                    self._open_samples = 0
        if not completed:
            return None
        said = int.from_bytes(page[6:14], "little", signed=True)
        if self._total is None:
            # A stream that was cut out of a longer one does not begin at 0. An offset below a second is a miscount.
            ahead = said - completed
            self._total = ahead if ahead >= 48_000 else 0
        before, self._total = self._total, self._total + completed
        last = bool(page[5] & 4)
        if said == self._total or (last and before <= said < self._total):
            return None
        return self._total.to_bytes(8, "little")


def _check_pages(stream: Stream) -> None:
    """Check that the pages of an ogg file are complete and adjacent and have correct checksums (RFC 3533, 6).

    libsndfile may treat a stream with a bad page as a shorter one. Data after the end of a stream is a tag.
    """
    counter = _OpusCounter()
    offset = 0
    ended = False
    while (header := stream.at(offset, 27))[:4] == b"OggS":
        lengths = stream.at(offset + 27, header[26]) if len(header) == 27 else b""
        size = 27 + len(lengths) + sum(lengths)
        page = stream.at(offset, size)
        if len(header) < 27 or len(lengths) < header[26] or len(page) < size:
            raise audio_error("a complete ogg file", f"{stream.name}, which is truncated within its last page")
        if page_checksum(page) != page[22:26]:
            break
        granule = counter.granule(page, lengths)
        if granule is not None:
            mended = page[:6] + granule + page[14:]
            stream.patch(offset + 6, mended[6:22] + page_checksum(mended))
        ended = bool(header[5] & 4)
        offset += size
    else:
        if offset == stream.size or ended:
            return
    raise audio_error(
        "an ogg file of valid pages", f"{stream.name}, which is corrupt at byte {offset} of {stream.size}"
    )


@dataclass(frozen=True)
class _Mp3Frame:
    word: int
    size: int  # bytes
    rate: int
    info_offset: int  # of a Xing/Info header in the frame


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


def _mp3_at(stream: Stream, offset: int) -> _Mp3Frame | None:
    """Parse the frame at `offset` if a frame of the same rate, or the end of the file, follows it."""
    frame = _mp3_frame(stream.at(offset, 4))
    if frame is None:
        return None
    following = stream.at(offset + frame.size, 4)
    after = _mp3_frame(following)
    return frame if len(following) < 4 or (after is not None and after.rate == frame.rate) else None


def _mp3_start(stream: Stream) -> int | None:
    """Find the first frame of an mp3 after ID3v2 tags and zero padding; return None if this is not an mp3."""
    offset = 0
    while (head := stream.at(offset, 10))[:3] == b"ID3" and len(head) == 10:
        a, b, c, d = head[6:]
        offset += 10 + (a << 21 | b << 14 | c << 7 | d)
    padding = stream.at(offset, READ_BYTES)
    offset += len(padding) - len(padding.lstrip(b"\0"))
    return None if _mp3_at(stream, offset) is None else offset


def _prepare_mp3(stream: Stream, start: int) -> bool:
    """Add a frame count to an mp3 without one; return whether it had one."""
    frame = _mp3_at(stream, start)
    assert frame is not None
    head = stream.at(start + frame.info_offset, 10)
    own = next((head[i : i + 8] for i in (0, 2) if head[i : i + 4] in (b"Xing", b"Info")), b"")
    if own and own[7] & 1:  # flag 1: the number of frames follows
        stream.splice(b"", start)
        return True
    # A frame of the medium bit rate 9, without checksum and padding, has room for the header.
    word = frame.word & ~(15 << 12) & ~(1 << 9) | 9 << 12 | 1 << 16
    head = word.to_bytes(4, "big").ljust(frame.info_offset, b"\0")
    made = _mp3_frame(head[:4])
    assert made is not None
    head += b"Xing" + (1).to_bytes(4, "big") + _count_mp3_frames(stream, start).to_bytes(4, "big")
    stream.splice(head.ljust(made.size, b"\0"), start)
    return False


def _count_mp3_frames(stream: Stream, offset: int) -> int:
    """Count frames up to the end or a tag, skipping gaps of less than 1 KiB, as the decoder does."""
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
