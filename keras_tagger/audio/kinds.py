"""Recognise a file by its bytes, and find where the container that begins there ends.

Everything that FFmpeg is given is recognised here first: FFmpeg's own guesses include playlists that open other files,
subtitles, pictures and text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from keras_tagger.audio.layout import id3_end, skip_zeros, tag_end
from keras_tagger.audio.streams import READ_BYTES, Stream, audio_error
from keras_tagger.errors import AudioError

Ending = Callable[[Stream, int], "int | None"]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: What to call it in an error message.
        demuxers: The names of FFmpeg's readers of this kind, separated by commas; "" if it is not audio.
        stated: Whether its header states how long it plays; FFmpeg estimates the length of others.
        dense: Whether it is a sequence of frames to which every byte belongs.
        even: Whether its frames have nearly one size.
        shared: Whether libsndfile reads some files of this kind.
        end: Returns where the container that begins at a byte states its end, or None if it does not.
        sample: Returns the number of the first sample of the frame at a byte, if frames state it.
        frame_size: Returns the size of the frame that begins with seven bytes, or 0 if none does, for kinds that are
            nothing but such frames.
        magic: The bytes by which another file of the kind can be found in the midst of other bytes.
    """

    name: str
    demuxers: str = ""
    stated: bool = True
    dense: bool = False
    even: bool = False
    shared: bool = False
    end: Ending | None = None
    sample: Callable[[Stream, int], int] | None = None
    frame_size: Callable[[bytes], int] | None = None
    magic: bytes = b""


def _chunk_end(order: str, offset: int, length: int, extra: int) -> Ending:
    """Read the size of a file from `length` bytes at `offset` of its header; `extra` bytes are not counted in it."""

    def end(stream: Stream, start: int) -> int | None:
        field = stream.at(start + offset, length)
        size = int.from_bytes(field, "big" if order == "big" else "little")
        known = len(field) == length and 0 < size < (1 << 8 * length) - 1
        return start + size + extra if known else None

    return end


def _boxes_end(stream: Stream, start: int) -> int | None:
    """Walk over the boxes of an MP4 up to a second `ftyp`, or to bytes that are no box (ISO 14496-12, 4.2)."""
    offset, seen = start, set()
    while len(head := stream.at(offset, 16)) >= 8:
        name, size = head[4:8], int.from_bytes(head[:4], "big")
        if not all(32 <= byte < 127 for byte in name) or (name == b"ftyp" and b"moov" in seen):
            return offset
        if size == 0:
            return None  # up to the end of the file
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if size < 8:
            return offset
        seen.add(name)
        offset += size
    return offset


def _objects_end(stream: Stream, start: int) -> int | None:
    """Walk over the objects of an ASF file up to another header object."""
    offset = start
    while len(head := stream.at(offset, 24)) == 24 and (offset == start or head[:16] != _ASF):
        size = int.from_bytes(head[16:], "little")
        if size < 24 or (offset + size > stream.size and head[:16] not in (_ASF, _ASF_DATA)):
            return offset if offset > start else None
        offset += size
    return offset


def _elements_end(stream: Stream, start: int) -> int | None:
    """Walk over the header and the segments of a Matroska file up to another header (RFC 8794, 4 and 5)."""
    offset = start
    while True:
        head = stream.at(offset, 12)
        if head[:4] not in (_EBML, b"\x18\x53\x80\x67", b"\xec") or (head[:4] == _EBML and offset > start):
            return offset
        length = 9 - head[4].bit_length() if len(head) > 4 and head[4] else 9
        size = int.from_bytes(head[4 : 4 + length], "big") & ((1 << 7 * length) - 1)
        if length > 8 or len(head) < 4 + length or size == (1 << 7 * length) - 1:
            return None
        offset += 4 + length + size


def _caf_end(stream: Stream, start: int) -> int | None:
    """Walk over the chunks of a CAF file up to another header."""
    offset = start + 8
    while len(head := stream.at(offset, 12)) == 12 and head[:4] != b"caff":
        size = int.from_bytes(head[4:], "big")
        if head[:4] == b"data" and size >= 1 << 63:
            return None  # up to the end of the file
        if offset + 12 + size > stream.size and head[:4] != b"data":
            return offset
        offset += 12 + size
    return offset


def _riff_end(stream: Stream, start: int) -> int | None:
    """Read the size of a RIFF file and of the pieces of more than 1 GB by which an AVI file continues."""
    offset = start
    while (head := stream.at(offset, 12))[:4] == b"RIFF" and (offset == start or head[8:] == b"AVIX"):
        size = int.from_bytes(head[4:8], "little")
        if size in (0, 0xFFFFFFFF):
            return None
        offset += 8 + size + size % 2
    return offset


def _wavpack_end(stream: Stream, start: int) -> int | None:
    """Walk over the blocks of a WavPack file up to another first block (WavPack 4 and 5 file format, 2.0)."""
    offset, begun = start, False
    while (head := stream.at(offset, 32))[:4] == b"wvpk" and len(head) == 32:
        size, index, samples, flags = (int.from_bytes(head[i : i + 4], "little") for i in (4, 16, 20, 24))
        if begun and samples and index == 0 and flags & 0x800:  # the first block of the first frame
            break
        begun = begun or (samples > 0 and bool(flags & 0x1000))  # the last of a frame
        offset += 8 + size
    return offset


def _wavpack_sample(stream: Stream, start: int) -> int:
    head = stream.at(start, 20)
    return int.from_bytes(head[16:20], "little") | int.from_bytes(head[10:11], "little") << 32


def _ape_end(stream: Stream, start: int) -> int | None:
    """Add up the sizes in the descriptor of a Monkey's Audio file of version 3.98 or newer."""
    head = stream.at(start, 52)
    if len(head) < 52 or int.from_bytes(head[4:6], "little") < 3980:
        return None
    return start + sum(int.from_bytes(head[i : i + 4], "little") for i in range(8, 36, 4))


def _tta_end(stream: Stream, start: int) -> int | None:
    """Add up the frame sizes in the seek table of a True Audio file."""
    head = stream.at(start, 22)
    rate, samples = int.from_bytes(head[10:14], "little"), int.from_bytes(head[14:18], "little")
    count = -(-samples // (256 * rate // 245)) if rate > 1 else 0
    table = stream.at(start + 22, 4 * count + 4) if count < 1 << 20 else b""
    if not count or len(table) < 4 * count + 4:
        return None
    return start + 26 + 4 * count + sum(int.from_bytes(table[i : i + 4], "little") for i in range(0, 4 * count, 4))


_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_EBML = bytes.fromhex("1a45dfa3")
_MP4 = Kind("MP4 or M4A", "mov", end=_boxes_end)

# Offset, bytes, kind. The first that fits counts.
_KINDS: tuple[tuple[int, bytes, Kind], ...] = (
    (4, b"ftypheic", Kind("a HEIC image")),
    (4, b"ftypmif1", Kind("a HEIF image")),
    (4, b"ftypavif", Kind("an AVIF image")),
    (4, b"ftyp", _MP4),
    (4, b"moov", _MP4),
    (4, b"mdat", _MP4),
    (4, b"wide", _MP4),
    (0, _ASF, Kind("WMA or ASF", "asf", end=_objects_end)),
    (0, _EBML, Kind("Matroska or WebM", "matroska", magic=_EBML, end=_elements_end)),
    (0, b"wvpk", Kind("WavPack", "wv", dense=True, magic=b"wvpk", end=_wavpack_end, sample=_wavpack_sample)),
    (0, b"MAC ", Kind("Monkey's Audio", "ape", end=_ape_end)),
    (0, b"DSD ", Kind("DSF", "dsf", end=_chunk_end("little", 12, 8, 0))),
    (0, b"FRM8", Kind("DFF", "iff", end=_chunk_end("big", 4, 8, 12))),
    (0, b"TTA1", Kind("True Audio", "tta", end=_tta_end)),
    (0, b"tBaK", Kind("TAK", "tak", magic=b"tBaK")),
    (0, b"MPCK", Kind("Musepack", "mpc8", magic=b"MPCK")),
    (0, b"MP+", Kind("Musepack", "mpc")),
    (0, b"OFR ", Kind("OptimFROG")),
    (0, b".RMF", Kind("RealMedia", "rm", magic=b".RMF")),
    (0, b".ra\xfd", Kind("RealAudio", "rm")),
    (0, b"#!AMR", Kind("AMR", "amr", stated=False, dense=True)),
    (0, b"FLV\x01", Kind("Flash video", "flv", magic=b"FLV\x01")),
    (8, b"AVI ", Kind("AVI video", "avi", end=_riff_end)),
    (8, b"WAVE", Kind("WAV", "wav", shared=True, end=_riff_end)),
    (8, b"AIF", Kind("AIFF", "aiff", shared=True)),
    (0, b"riff\x2e\x91\xcf\x11", Kind("Wave64", "w64", shared=True)),
    (0, b"caff", Kind("CAF", "caf", shared=True, end=_caf_end)),
    (0, b"OggS", Kind("Ogg", "ogg", shared=True)),
    (0, b"Creative Voice File", Kind("VOC", "voc", shared=True)),
    (0, b"\x00\x00\x01\xba", Kind("MPEG video", "mpeg", stated=False)),
    (0, b"\x0b\x77", Kind("AC3", "ac3,eac3", stated=False, dense=True, even=True)),
    (0, b"\x7f\xfe\x80\x01", Kind("DTS", "dts", stated=False, dense=True, even=True)),
    (0, b"\xfe\x7f\x01\x80", Kind("DTS", "dts", stated=False, dense=True, even=True)),
    (0, b"DTSHDHDR", Kind("DTS-HD", "dtshd")),
    (4, b"\xf8\x72\x6f\xba", Kind("Dolby TrueHD", "truehd", stated=False, dense=True)),
    (4, b"\xf8\x72\x6f\xbb", Kind("MLP", "mlp", stated=False, dense=True)),
    (0, b"ajkg", Kind("Shorten", "shn")),
    (0, b"MThd", Kind("MIDI (notes, no sound)")),
    (0, b"\x89PNG", Kind("a PNG image")),
    (0, b"\xff\xd8\xff", Kind("a JPEG image")),
    (0, b"GIF8", Kind("a GIF image")),
    (8, b"WEBP", Kind("a WebP image")),
    (0, b"%PDF", Kind("a PDF document")),
    (0, b"PK\x03\x04", Kind("a zip archive")),
    (0, b"\x1f\x8b", Kind("gzip-compressed data")),
    (0, b"version https://git-lfs", Kind("a Git LFS pointer instead of the file itself")),
)


def _adts_size(head: bytes) -> int:
    """Return the size of an ADTS frame (ISO 13818-7, 6.2), or 0 if this is none."""
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    valid = head[0] == 0xFF and head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 15 < 13
    return size if valid and size > 7 else 0


_ADTS = Kind("AAC (ADTS)", "aac", stated=False, dense=True, frame_size=_adts_size)
_LATM = Kind("AAC (LATM)", "loas", stated=False, dense=True)
_MPEG_TS = Kind("an MPEG transport stream", "mpegts", stated=False)

_FRAMES_IN_A_ROW = 4
_SEARCHED_BYTES = 8192


def recognise(stream: Stream, start: int = 0) -> Kind | None:
    """Recognise the file that begins at a byte, behind ID3v2 tags; return None if it is of no known kind."""
    start = skip_id3(stream, start)
    head = stream.at(start, 64)
    for offset, magic, kind in _KINDS:
        if head[offset : offset + len(magic)] == magic:
            return kind
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return Kind("a web page")
    if _begins_frame(head):
        return None  # an mp3
    # A sequence of frames may have been cut anywhere.
    data = stream.at(start, _SEARCHED_BYTES)
    for kind, sync, size in (
        (_ADTS, b"\xff[\xf0-\xf9]", _adts_size),
        (_LATM, b"V[\xe0-\xff]", _latm_size),
        (_MPEG_TS, b"G", _ts_size),
    ):
        if any(_frames_follow(stream, start + match.start(), size) for match in re.finditer(sync, data)):
            return kind
    return None


def begins_sound(stream: Stream, start: int) -> bool:
    """Return whether a file of a known kind, or an mp3, begins at a byte."""
    kind = recognise(stream, start)
    return (
        bool(kind and kind.demuxers)
        or stream.at(skip_id3(stream, start), 4) == b"fLaC"
        or _begins_frame(stream.at(skip_id3(stream, start), 2))
    )


def _begins_frame(head: bytes) -> bool:
    return len(head) > 1 and head[0] == 0xFF and head[1] >> 5 == 7 and head[1] & 6 != 0


def skip_id3(stream: Stream, start: int) -> int:
    """Return where the ID3v2 tags that begin at a byte end."""
    while (end := id3_end(stream, start)) is not None:
        start = end
    return start


def unknown_format(stream: Stream, kind: Kind | None) -> AudioError:
    """Make the error for a file of a kind that cannot be decoded, or of none."""
    name = "none of these or has a damaged header" if kind is None or kind.shared else kind.name
    return audio_error(
        "audio (wav, flac, ogg vorbis, opus, mp3, aiff or another format of libsndfile)",
        f"{stream.name}, which is {name}",
    )


def next_start(stream: Stream, offset: int) -> int | None:
    """Find what follows a container behind zeros and tags; return None if nothing does."""
    begin = offset
    while (offset := skip_zeros(stream, offset, stream.size)) < stream.size:
        end = tag_end(stream, offset)
        if end is None or end > stream.size:
            # Some kinds begin with zeros.
            back = (at for at in range(max(begin, offset - 3), offset) if recognise(stream, at) is not None)
            return next(back, offset)
        offset = end
    return None


def padding_start(stream: Stream) -> int:
    """Find where the zeros at the end of a file begin; a few of them may belong to its last frame."""
    end = stream.size
    while end > 0:
        begin = max(0, end - READ_BYTES)
        data = stream.at(begin, end - begin).rstrip(b"\0")
        if data:
            end = begin + len(data)
            break
        end = begin
    return end if stream.size - end > 64 else stream.size


def find(stream: Stream, magic: bytes, offset: int) -> int | None:
    """Find bytes from an offset on."""
    found = stream.find(re.compile(re.escape(magic)), offset, stream.size)
    return next((place for place, _ in found), None)


def breaks(stream: Stream, begin: int, end: int, frame_size: Callable[[bytes], int]) -> Iterator[int]:
    """Find the places between frames at which something else stands than a frame, a tag or zeros."""
    offset = begin
    while offset + 7 <= end:
        head = stream.at(offset, 7)
        size = frame_size(head)
        if size:
            offset += size
            continue
        # A stream may have been cut anywhere at its beginning.
        if offset > begin and head[:3] not in (b"ID3", b"TAG", b"APE") and any(head):
            yield offset
        offset += 1
        while offset + 7 <= end and not _frames_follow(stream, offset, frame_size):
            following = find(stream, b"\xff", offset + 1)
            offset = end if following is None else following


def _frames_follow(stream: Stream, offset: int, frame_size: Callable[[bytes], int]) -> bool:
    """Return whether several frames follow each other at an offset, or at least two up to the end of the file."""
    for count in range(_FRAMES_IN_A_ROW):
        head = stream.at(offset, 7)
        size = frame_size(head) if len(head) == 7 else 0
        if not size:
            return count > 1 and offset == stream.size
        offset += size
    return True


def _latm_size(head: bytes) -> int:
    return 3 + ((head[1] & 0x1F) << 8 | head[2]) if head[0] == 0x56 and head[1] >> 5 == 7 else 0


def _ts_size(head: bytes) -> int:
    return 188 if head[0] == 0x47 else 0
