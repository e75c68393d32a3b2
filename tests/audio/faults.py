"""The table of strange audio files, as people have them, with what a reader must make of each.

Every file holds a scale (`scale.py`), so that what was read tells not only how much sound is missing but where. An
entry's bytes are made when they are needed. `python tools/strange_files.py DIR` writes all files to a folder.
"""

from __future__ import annotations

import functools
import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scale import STEP, scale
from sound_files import (
    HTTP,
    ID3V1,
    INFO_CHUNK,
    PNG,
    aiff,
    ape,
    archive,
    checked,
    chunk,
    converted,
    cut,
    dsf,
    encoded,
    flac,
    fmt,
    id3v2,
    id3v2_footer,
    lyrics3,
    mp3,
    mp3_frames,
    noise,
    ogg_pages,
    opus,
    overwrite,
    pcm,
    put,
    rf64,
    riff,
    silence,
    ssnd_first,
    synchsafe,
    vorbis,
    wav,
    wav_of,
    with_flac_block,
    with_frame_count,
    with_granules,
    with_serial,
    with_total,
    with_vbri,
    without_flac_frames,
)


@dataclass(frozen=True)
class Strange:
    """A strange file and what a reader must make of it.

    Attributes:
        name: Its file name.
        about: What is strange about it, and why that outcome is right if it is not plain.
        make: Makes its bytes, or puts it at a path if it is no regular file.
        outcome: "whole": read with every step, and no word of damage unless `may_warn`.
            "warned": read, with a warning of kind "damaged" that states a place in seconds or bytes.
            "told": read with such a warning, or refused with an error that states the place: the user knows. If nothing
            is missing after all, which `lost` expected, the warning is not needed.
            "minor": read with less than 0.2 s missing; a warning is welcome.
            "refused": an `AudioError` that matches `words`.
        steps: The steps that the file holds, in order.
        lost: For "warned" and "told", the stretch of time in seconds from and to which sound may be missing; None if
            all of it is there.
        words: A regular expression for the error's message.
        av: "needs": only PyAV reads this, and without it the error names the extra. "may": so or without PyAV.
            "no": read without PyAV.
        warns: The kind of another warning that must be given.
        may_warn: Whether a warning of damage beside the whole sound is right too.
        slack: Seconds by which the length may differ, beside STEP-independent delays of encoders.
    """

    name: str
    about: str
    make: Callable[[], bytes] | Callable[[Path], None]
    outcome: str = "whole"
    steps: tuple[int, ...] = tuple(range(12))
    lost: tuple[float, float] | None = None
    words: str = ""
    av: str = "no"
    warns: str = ""
    may_warn: bool = False
    slack: float = 0.1
    regular: bool = True

    @property
    def seconds(self) -> float:
        """The length of the sound that the file holds."""
        return len(self.steps) * STEP

    def write(self, folder: Path) -> Path:
        """Put the file into a folder, and return its path."""
        path = folder / self.name
        if self.regular:
            path.write_bytes(self.make())  # type: ignore[call-arg, arg-type]
        else:
            self.make(path)  # type: ignore[call-arg]
        return path


ENTRIES: list[Strange] = []


def _add(name: str, about: str, make: Callable[..., object], outcome: str = "whole", **more: object) -> None:
    if "steps" in more:
        more["steps"] = tuple(more["steps"])  # type: ignore[arg-type]
    ENTRIES.append(Strange(name, about, make, outcome, **more))  # type: ignore[arg-type]


A, B, C = range(8), range(8, 16), range(16, 24)
AB, ABC = range(16), range(24)

# An entry is a line or two; the formatter would need six.
# fmt: off

# Chained ogg: two files after another are one valid file (RFC 3533, 4).
_add("chain_vorbis.ogg", "two Vorbis files joined", lambda: vorbis(A) + vorbis(B, serial=2), steps=AB)
_add("chain_vorbis_3.ogg", "three Vorbis files joined",
     lambda: vorbis(A) + vorbis(B, serial=2) + vorbis(C, serial=3), steps=ABC, slack=0.2)
_add("chain_vorbis_same_serial.ogg", "two Vorbis files joined that have the same serial number",
     lambda: vorbis(A) + vorbis(B), steps=AB)
_add("chain_vorbis_rates.ogg", "Vorbis at 16 kHz, then at 22.05 kHz",
     lambda: vorbis(A) + vorbis(B, 22050, serial=2), steps=AB)
_add("chain_vorbis_rates_down.ogg", "Vorbis at 44.1 kHz, then at 16 kHz",
     lambda: vorbis(A, 44100) + vorbis(B, serial=2), steps=AB)
_add("chain_vorbis_channels.ogg", "mono Vorbis, then stereo", lambda: vorbis(A) + vorbis(B, channels=2, serial=2),
     steps=AB)
_add("chain_vorbis_channels_down.ogg", "stereo Vorbis, then mono",
     lambda: vorbis(A, channels=2) + vorbis(B, serial=2), steps=AB)
_add("chain_vorbis_libsndfile.ogg", "two Vorbis files of libsndfile joined, whose pages are long",
     lambda: encoded(A, "OGG", "VORBIS") + with_serial(encoded(B, "OGG", "VORBIS"), 2), steps=AB)
_add("chain_vorbis_id3v1.ogg", "two Vorbis files joined, an ID3v1 tag behind each",
     lambda: vorbis(A) + ID3V1 + vorbis(B, serial=2) + ID3V1, steps=AB)
_add("chain_vorbis_short_first.ogg", "a quarter of a second of Vorbis, then four seconds",
     lambda: vorbis(range(1)) + vorbis(range(1, 16), serial=2), steps=AB)
_add("chain_opus.opus", "two Opus files joined", lambda: opus(A) + opus(B, serial=2), steps=AB)
_add("chain_opus_3.opus", "three Opus files joined", lambda: opus(A) + opus(B, serial=2) + opus(C, serial=3),
     steps=ABC, slack=0.2)
_add("chain_opus_same_serial.opus", "two Opus files joined that have the same serial number",
     lambda: opus(A) + opus(B), steps=AB)
_add("chain_opus_channels.opus", "mono Opus, then stereo", lambda: opus(A) + opus(B, channels=2, serial=2), steps=AB)
_add("chain_opus_rates.opus", "Opus of input at 16 kHz, then at 48 kHz",
     lambda: opus(A) + opus(B, 48000, serial=2), steps=AB)
_add("chain_opus_libsndfile.opus", "two Opus files of libsndfile joined",
     lambda: encoded(A, "OGG", "OPUS") + with_serial(encoded(B, "OGG", "OPUS"), 2), steps=AB)
_add("chain_vorbis_opus.ogg", "Vorbis, then Opus", lambda: vorbis(A) + opus(B, serial=2), steps=AB)
_add("chain_opus_vorbis.ogg", "Opus, then Vorbis", lambda: opus(A) + vorbis(B, serial=2), steps=AB)
_add("chain_second_cut.ogg", "two Vorbis files joined, the second cut within a page",
     lambda: vorbis(A) + vorbis(B, serial=2)[:-900], "told", steps=AB, lost=(3.2, 4.0))
_add("chain_first_cut.ogg", "two Vorbis files joined, the first cut within a page",
     lambda: vorbis(A)[:-900] + vorbis(B, serial=2), "told", steps=AB, lost=(1.2, 2.0))

# Other oggs.
_add("ogg_excerpt_granule.ogg", "Vorbis of a radio stream, whose positions begin at 100 s",
     lambda: with_granules(vorbis(), 1_600_000))
_add("ogg_excerpt_granule.opus", "Opus of a radio stream, whose positions begin at 100 s",
     lambda: with_granules(opus(), 4_800_000))
_add("ogg_no_end.ogg", "Vorbis cut between two pages near its end, as every recorded stream is: nothing is damaged",
     lambda: b"".join(ogg_pages(vorbis())[:-3]), steps=range(10), may_warn=True)
_add("ogg_cut_page.ogg", "Vorbis cut within a page", lambda: vorbis()[:-1500], "told", lost=(1.6, 3.0))
_add("ogg_cut_page.opus", "Opus cut within a page", lambda: opus()[:-1500], "told", lost=(1.6, 3.0))
_add("ogg_junk_before.ogg", "Vorbis with 100 bytes of junk before its first page", lambda: noise(100) + vorbis(),
     may_warn=True)
_add("ogg_id3v2_before.ogg", "Vorbis behind an ID3v2 tag, which some taggers write", lambda: id3v2() + vorbis())
_add("ogg_id3v2_before.opus", "Opus behind an ID3v2 tag", lambda: id3v2() + opus())
_add("ogg_id3v1_behind.ogg", "Vorbis with an ID3v1 tag behind it", lambda: vorbis() + ID3V1)
_add("ogg_zeros_behind.ogg", "Vorbis with 10,000 zeros behind it", lambda: vorbis() + bytes(10_000), may_warn=True)
_add("ogg_junk_between.ogg", "Vorbis with 300 bytes of junk between two pages",
     lambda: b"".join([*ogg_pages(vorbis())[:9], noise(300), *ogg_pages(vorbis())[9:]]), may_warn=True)
_add("ogg_page_missing.ogg", "Vorbis without three of its pages, all others valid",
     lambda: b"".join(ogg_pages(vorbis())[:7] + ogg_pages(vorbis())[10:]), "told", lost=(0.6, 2.0))
_add("ogg_page_missing.opus", "Opus without three of its pages, all others valid",
     lambda: b"".join(ogg_pages(opus())[:7] + ogg_pages(opus())[10:]), "told", lost=(0.6, 2.0))
_add("ogg_page_twice.ogg", "Vorbis with a page that stands there twice",
     lambda: b"".join(ogg_pages(vorbis())[:8] + ogg_pages(vorbis())[7:]), "minor", slack=0.3)
_add("ogg_hole.ogg", "Vorbis with 2,000 zeros in the middle", lambda: overwrite(vorbis(), 0.6, bytes(2000)), "told",
     lost=(0.7, 2.3))
_add("ogg_hole.opus", "Opus with 2,000 zeros in the middle", lambda: overwrite(opus(), 0.5, bytes(2000)), "told",
     lost=(1.0, 2.2))
_add("ogg_noise.ogg", "Vorbis with 2,000 bytes of noise in the middle",
     lambda: overwrite(vorbis(), 0.6, noise(2000)), "told", lost=(0.7, 2.3))
_add("ogg_removed.ogg", "Vorbis of which 2,000 bytes are missing", lambda: cut(vorbis(), 0.6, 2000), "told",
     lost=(0.7, 2.3))
_add("ogg_removed.opus", "Opus of which 2,000 bytes are missing", lambda: cut(opus(), 0.5, 2000), "told",
     lost=(1.0, 2.2))
_add("ogg_hole_early.ogg", "Vorbis with 500 zeros in its first page of sound",
     lambda: put(vorbis(), vorbis().index(b"OggS", 5000) - 600, bytes(500)), "told", lost=(0.0, 0.8))
_add("ogg_hole_last_page.ogg", "Vorbis with 100 zeros in its last page: at most a fifth of a second is lost",
     lambda: put(vorbis(), len(vorbis()) - 200, bytes(100)), "minor", slack=0.3)
_add("ogg_bit.ogg", "Vorbis with one bit wrong in the middle", lambda: overwrite(vorbis(), 0.7, bytes([
     vorbis()[int(len(vorbis()) * 0.7)] ^ 4])), "told", lost=(1.4, 2.6))
_add("ogg_setup_hole.ogg", "Vorbis with a hole in its setup header: nothing can be decoded",
     lambda: put(vorbis(), 2000, bytes(500)), "refused", words="Expected .*(ogg|audio|corrupt|damaged)")
_add("ogg_long_pages.ogg", "Vorbis of libsndfile, whose pages are long, with 200 zeros in the middle",
     lambda: overwrite(encoded(range(12), "OGG", "VORBIS"), 0.6, bytes(200)), "told", lost=(0.0, 3.0))

_add("ogg_empty_link.ogg", "a Vorbis file without sound, then one with sound",
     lambda: b"".join(ogg_pages(vorbis(A))[:2]) + vorbis(serial=2))
_add("ogg_two_streams.ogg", "an Ogg with two Vorbis streams side by side: the first is read, as by ffmpeg",
     lambda: converted("-map 0:a -map 0:a -c:a libvorbis -page_duration 200000", ".ogg"), av="may", slack=0.15)
_add("ogg_last_granule_half.ogg", "Vorbis whose last page says that the stream ends at half its length",
     lambda: b"".join([*ogg_pages(vorbis())[:-1], checked(put(ogg_pages(vorbis())[-1], 6, struct.pack("<q", 24000)))]),
     "told", lost=(1.4, 3.0))

# Joined mp3s, as `cat` makes them.
_add("join_mp3.mp3", "two mp3s joined, an Info frame in each", lambda: mp3(A) + mp3(B), steps=AB, slack=0.25)
_add("join_mp3_3.mp3", "three mp3s joined", lambda: mp3(A) + mp3(B) + mp3(C), steps=ABC, slack=0.35)
_add("join_mp3_no_info.mp3", "two mp3s without Info frame joined", lambda: mp3(A, info=False) + mp3(B, info=False),
     steps=AB, slack=0.25)
_add("join_mp3_info_first.mp3", "two mp3s joined, an Info frame in the first only",
     lambda: mp3(A) + mp3(B, info=False), steps=AB, slack=0.25)
_add("join_mp3_info_second.mp3", "two mp3s joined, an Info frame in the second only",
     lambda: mp3(A, info=False) + mp3(B), steps=AB, slack=0.25)
_add("join_mp3_id3v2.mp3", "two mp3s joined, an ID3v2 tag before each",
     lambda: id3v2() + mp3(A) + id3v2() + mp3(B), steps=AB, slack=0.25)
_add("join_mp3_id3v2_no_info.mp3", "two mp3s without Info frame joined, an ID3v2 tag before each",
     lambda: id3v2() + mp3(A, info=False) + id3v2() + mp3(B, info=False), steps=AB, slack=0.25)
_add("join_mp3_picture.mp3", "two mp3s joined, the second's tag with a picture of 40,000 bytes full of false frames",
     lambda: mp3(A) + id3v2(40_000, picture=True) + mp3(B), steps=AB, slack=0.25)
_add("join_mp3_picture_no_info.mp3", "the same without Info frames",
     lambda: mp3(A, info=False) + id3v2(40_000, picture=True) + mp3(B, info=False), steps=AB, slack=0.25)
_add("join_mp3_id3v1.mp3", "two mp3s joined, an ID3v1 tag behind each", lambda: mp3(A) + ID3V1 + mp3(B) + ID3V1,
     steps=AB, slack=0.25)
_add("join_mp3_all_tags.mp3", "two mp3s joined with ID3v2 before and Lyrics3, APEv2 and ID3v1 behind each",
     lambda: id3v2() + mp3(A) + lyrics3() + ape() + ID3V1 + id3v2() + mp3(B) + lyrics3() + ape() + ID3V1,
     steps=AB, slack=0.25)
_add("join_mp3_ape.mp3", "two mp3s joined, an APEv2 tag between", lambda: mp3(A) + ape() + mp3(B), steps=AB, slack=0.25)
_add("join_mp3_ape_no_info.mp3", "two mp3s without Info frames joined, an APEv2 tag between",
     lambda: mp3(A, info=False) + ape() + mp3(B, info=False), steps=AB, slack=0.25)
_add("join_mp3_lyrics3.mp3", "two mp3s joined, Lyrics3 and ID3v1 between",
     lambda: mp3(A) + lyrics3() + ID3V1 + mp3(B), steps=AB, slack=0.25)
_add("join_mp3_zeros.mp3", "two mp3s joined, 5,000 zeros between", lambda: mp3(A) + bytes(5000) + mp3(B),
     steps=AB, slack=0.25, may_warn=True)
_add("join_mp3_bit_rate.mp3", "an mp3 of low bit rate, then one of a high one",
     lambda: mp3(A, compression=0.95) + mp3(B, compression=0.1), steps=AB, slack=0.25)
_add("join_mp3_vbr.mp3", "an mp3 of constant bit rate, then one of variable", lambda: mp3(A) + mp3(B, mode="VARIABLE"),
     steps=AB, slack=0.25)
_add("join_mp3_rates.mp3", "an mp3 at 44.1 kHz, then one at 48 kHz", lambda: mp3(A, 44100) + mp3(B, 48000), steps=AB,
     slack=0.25)
_add("join_mp3_mpeg2.mp3", "an mp3 of MPEG-1 at 44.1 kHz, then one of MPEG-2 at 22.05 kHz",
     lambda: mp3(A, 44100) + mp3(B, 22050), steps=AB, slack=0.25)
_add("join_mp3_mpeg2_no_info.mp3", "the same without Info frames",
     lambda: mp3(A, 44100, info=False) + mp3(B, 22050, info=False), steps=AB, slack=0.25)
_add("join_mp3_mpeg2_first.mp3", "an mp3 at 16 kHz, then one at 44.1 kHz", lambda: mp3(A, 16000) + mp3(B, 44100),
     steps=AB, slack=0.3)
_add("join_mp3_channels.mp3", "a mono mp3, then a stereo one", lambda: mp3(A) + mp3(B, channels=2), steps=AB,
     slack=0.25)
_add("join_mp3_channels_down.mp3", "a stereo mp3, then a mono one without Info frame",
     lambda: mp3(A, channels=2) + mp3(B, info=False), steps=AB, slack=0.25)

_add("join_mp2_mp3.mp3", "MPEG audio layer II, then layer III",
     lambda: converted("-c:a mp2 -b:a 64k", ".mp2", A) + mp3(B, 44100), "told", steps=AB, lost=(0.0, 4.0))
_add("join_mp3_flac.mp3", "an mp3, then a flac", lambda: mp3(A) + flac(B), "told", steps=AB, lost=(2.0, 4.0))
_add("join_mp3_wav.mp3", "an mp3, then a wav", lambda: mp3(A) + wav(steps=B), "told", steps=AB, lost=(2.0, 4.0))
_add("join_ogg_mp3.ogg", "Vorbis, then an mp3", lambda: vorbis(A) + mp3(B), "told", steps=AB, lost=(2.0, 4.0))
_add("join_wav_mp3.wav", "a wav, then an mp3", lambda: wav(steps=A) + mp3(B), "told", steps=AB, lost=(2.0, 4.0))
_add("join_flac_mp3.flac", "a flac, then an mp3", lambda: flac(A) + mp3(B), "told", steps=AB, lost=(2.0, 4.0))
_add("join_mp3_8.mp3", "eight mp3s of half a second, alternating in rate and channels",
     lambda: b"".join(mp3(range(2 * i, 2 * i + 2), (22050, 44100)[i % 2], 1 + i // 2 % 2) for i in range(8)), steps=AB,
     slack=0.8)

# Holes in mp3s.
for _at in (0.2, 0.5, 0.9):
    for _label, _new in (("zeros", bytes(3000)), ("noise", noise(3000))):
        _add(f"hole_{_label}_{round(_at * 100)}.mp3", f"an mp3 with 3,000 bytes of {_label} at {_at:.0%}",
             functools.partial(lambda at, new: overwrite(mp3(compression=0.5), at, new), _at, _new), "told",
             lost=(3 * _at - 0.3, 3 * _at + 0.8))
_add("hole_removed.mp3", "an mp3 of which 3,000 bytes are missing: nothing in it says so but its Info frame",
     lambda: cut(mp3(compression=0.5), 0.5, 3000), "told", lost=(1.2, 2.2))
_add("hole_1200_no_info.mp3", "an mp3 without Info frame with 1,200 zeros at a half",
     lambda: overwrite(mp3(rate=44100, compression=0.9, info=False), 0.5, bytes(1200)), "told",
     lost=(1.2, 2.2))
_add("hole_6000_no_info.mp3", "an mp3 without Info frame with 6,000 zeros at a half",
     lambda: overwrite(mp3(compression=0.5, info=False), 0.5, bytes(6000)), "told", lost=(1.2, 2.5))
_add("hole_300.mp3", "an mp3 with 300 zeros at a third: less than a tenth of a second",
     lambda: overwrite(mp3(compression=0.5), 0.33, bytes(300)), "minor", slack=0.2, may_warn=True)
_add("hole_false_frames.mp3", "an mp3 with 3,000 bytes of false frame headers in the middle",
     lambda: overwrite(mp3(compression=0.5), 0.5, b"\xff\xfb\x90\x64" * 750), "told", lost=(1.2, 2.2))
_add("holes_three.mp3", "an mp3 with three holes of 1,500 bytes",
     lambda: overwrite(overwrite(overwrite(mp3(compression=0.5), 0.2, bytes(1500)), 0.5, noise(1500)), 0.8,
                       bytes(1500)), "told", lost=(0.4, 2.9))
_add("hole_vbr.mp3", "an mp3 of variable bit rate with 2,000 zeros in the middle",
     lambda: overwrite(mp3(mode="VARIABLE", compression=0.3), 0.5, bytes(2000)), "told", lost=(0.9, 2.4))

# What stands before an mp3's first frame.
for _count in (1, 100, 5000):
    _add(f"junk_{_count}.mp3", f"an mp3 behind {_count} bytes of junk",
         functools.partial(lambda count: noise(count, 7) + mp3(), _count), slack=0.15, may_warn=True)
_add("junk_5000_no_info.mp3", "an mp3 without Info frame behind 5,000 bytes of junk",
     lambda: noise(5000, 3) + mp3(info=False), slack=0.2, may_warn=True)
_add("junk_100000.mp3", "an mp3 behind 100,000 bytes of junk", lambda: noise(100_000, 4) + mp3(), slack=0.15,
     may_warn=True)
_add("bom.mp3", "an mp3 behind a byte order mark", lambda: b"\xef\xbb\xbf" + mp3(), slack=0.15)
_add("newline.mp3", "an mp3 behind a line break, as a web script writes it", lambda: b"\r\n" + mp3(), slack=0.15)
_add("http_header.mp3", "an mp3 behind the header of a web server's answer", lambda: HTTP + mp3(), slack=0.15)
_add("cut_first_frame.mp3", "an mp3 that begins within a frame, as recorded radio does",
     lambda: mp3(info=False)[mp3_frames(mp3(info=False))[2][0] - 90 :], slack=0.25, may_warn=True)
_add("cut_first_frame_44.mp3", "the same at 44.1 kHz",
     lambda: mp3(rate=44100, info=False)[mp3_frames(mp3(rate=44100, info=False))[3][0] - 77 :], slack=0.25,
     may_warn=True)
_add("ape_before.mp3", "an mp3 behind an APEv2 tag", lambda: ape() + mp3(), slack=0.15)
_add("ape_before_id3.mp3", "an mp3 behind an APEv2 and an ID3v2 tag", lambda: ape() + id3v2() + mp3(), slack=0.15)
_add("id3v24_footer.mp3", "an mp3 behind an ID3v2.4 tag with a footer", lambda: id3v2_footer() + mp3(), slack=0.15)
_add("id3v24.mp3", "an mp3 behind an ID3v2.4 tag", lambda: id3v2(version=4) + mp3(), slack=0.15)
_add("id3v22.mp3", "an mp3 behind an ID3v2.2 tag",
     lambda: b"ID3\x02\x00\x00" + synchsafe(300) + b"TT2\0\0\6\0title".ljust(300, b"\0") + mp3(), slack=0.15)
_add("id3_unsync.mp3", "an mp3 behind an ID3v2 tag with unsynchronisation",
     lambda: id3v2(flags=0x80) + mp3(), slack=0.15)
_add("id3_empty.mp3", "an mp3 behind an ID3v2 tag of 0 bytes", lambda: b"ID3\x03\0\0\0\0\0\0" + mp3(), slack=0.15)
_add("id3_small.mp3", "an mp3 behind an ID3v2 tag that is 200 bytes longer than it says",
     lambda: id3v2(size=synchsafe(300)) + mp3(), slack=0.15)
_add("id3_small_picture.mp3", "an mp3 behind a tag with a picture that is 2,000 bytes longer than it says",
     lambda: id3v2(8000, picture=True, size=synchsafe(6000)) + mp3(), slack=0.15, may_warn=True)
_add("id3_large.mp3", "an mp3 behind an ID3v2 tag that is 50 bytes shorter than it says",
     lambda: id3v2(size=synchsafe(550)) + mp3(), slack=0.25, may_warn=True)
_add("id3_not_synchsafe.mp3", "an mp3 behind an ID3v2.4 tag whose size has 8 bits a byte, as iTunes wrote it",
     lambda: id3v2(body=700, version=4, size=struct.pack(">I", 700)) + mp3(), slack=0.2, may_warn=True)
_add("id3_beyond_end.mp3", "an mp3 behind an ID3v2 tag that says it is longer than the file",
     lambda: id3v2(size=synchsafe(2_000_000)) + mp3(), slack=0.2, may_warn=True)
_add("id3_twice.mp3", "an mp3 behind two ID3v2 tags", lambda: id3v2() + id3v2(version=4) + mp3(), slack=0.15)
_add("id3_padding.mp3", "an mp3 with 4,000 zeros between its tag and its first frame",
     lambda: id3v2() + bytes(4000) + mp3(), slack=0.15)
_add("id3_junk.mp3", "an mp3 with 700 bytes of junk between its tag and its first frame",
     lambda: id3v2() + noise(700, 2) + mp3(), slack=0.15, may_warn=True)
_add("id3_picture.mp3", "an mp3 behind a picture of 100,000 bytes full of false frames",
     lambda: id3v2(100_000, picture=True) + mp3(), slack=0.15)
_add("id3_spaces.mp3", "an mp3 with 3,000 spaces between its tag and its first frame",
     lambda: id3v2() + b" " * 3000 + mp3(), slack=0.15, may_warn=True)

_add("id3_extended.mp3", "an mp3 behind an ID3v2.3 tag with an extended header",
     lambda: id3v2(flags=0x40)[:10] + struct.pack(">IHI", 6, 0, 0) + id3v2()[20:] + mp3(), slack=0.15)
_add("icy_metadata.mp3", "recorded radio with the titles left in every 8,000 bytes, in the middle of frames",
     lambda: (b"\2" + b"StreamTitle='a';".ljust(32, b"\0")).join(
         mp3()[i : i + 8000] for i in range(0, len(mp3()), 8000)), "minor", slack=0.3)
_add("xing_no_count.mp3", "an mp3 whose Info header has no number of frames",
     lambda: put(mp3(), mp3().index(b"Info") + 4, bytes(4)), slack=0.2, may_warn=True)
_add("info_twice.mp3", "an mp3 with two Info frames", lambda: mp3()[: mp3_frames(mp3())[0][1]] + mp3(), slack=0.2,
     may_warn=True)
_add("vbri.mp3", "an mp3 with the VBRI header of Fraunhofer's encoder",
     lambda: with_vbri(mp3(info=False)), slack=0.2, may_warn=True)

# What stands behind an mp3's last frame, and what its first frame says.
for _label, _tail in (("id3v1", ID3V1), ("ape", ape() + ID3V1), ("ape_footer_only", ape(header=False)),
                      ("lyrics3", lyrics3() + ID3V1), ("zeros", bytes(10_000)), ("byte", b"\n")):
    _add(f"behind_{_label}.mp3", f"an mp3 with {_label.replace('_', ' ')} behind it",
         functools.partial(lambda tail: mp3() + tail, _tail), slack=0.15, may_warn=_label == "zeros")
_add("behind_junk.mp3", "an mp3 with 10,000 bytes of junk behind it", lambda: mp3() + noise(10_000, 6), slack=0.15,
     may_warn=True)
_add("behind_id3v2.mp3", "an mp3 with an ID3v2.4 tag with a footer behind it", lambda: mp3() + id3v2_footer(),
     slack=0.15)
_add("behind_html.mp3", "an mp3 with a web page behind it", lambda: mp3() + b"<html>" + b"error " * 400, slack=0.15,
     may_warn=True)
_add("cut_last_frame.mp3", "an mp3 cut within its last frame", lambda: mp3()[:-50], "minor", slack=0.2)
_add("cut_half.mp3", "an mp3 cut at a half, which its Info frame tells", lambda: mp3()[: len(mp3()) // 2], "told",
     lost=(1.3, 3.0))
_add("cut_half_no_info.mp3", "an mp3 without Info frame cut at a half: nothing can tell that there was more",
     lambda: mp3(info=False)[: len(mp3(info=False)) // 2], steps=range(6), slack=0.25, may_warn=True)
_add("count_double.mp3", "an mp3 whose Info frame says twice its frames", lambda: with_frame_count(mp3(), 2), "told",
     lost=None)
_add("count_half.mp3", "an mp3 whose Info frame says half its frames: all of them are read",
     lambda: with_frame_count(mp3(), 0.5), slack=0.2, may_warn=True)
_add("count_one.mp3", "an mp3 whose Info frame says one frame", lambda: with_frame_count(mp3(), 0.01), slack=0.2,
     may_warn=True)
_add("count_zero.mp3", "an mp3 whose Info frame says no frames, as when it is written in passing",
     lambda: with_frame_count(mp3(), 0), slack=0.2, may_warn=True)
_add("vbr.mp3", "an mp3 of variable bit rate", lambda: mp3(mode="VARIABLE"), slack=0.15)
_add("vbr_no_info.mp3", "an mp3 of variable bit rate without Xing frame", lambda: mp3(mode="VARIABLE", info=False),
     slack=0.2)
_add("vbr_count_half.mp3", "an mp3 of variable bit rate whose Xing frame says half its frames",
     lambda: with_frame_count(mp3(mode="VARIABLE"), 0.5), slack=0.2, may_warn=True)
_add("lame.mp3", "an mp3 of LAME with ID3v2.4, ID3v1 and Xing frame",
     lambda: converted("-c:a libmp3lame -b:a 64k -write_id3v1 1 -id3v2_version 4 -metadata title=a", ".mp3"),
     slack=0.15)
_add("lame_no_xing.mp3", "an mp3 of LAME without tag and Xing frame",
     lambda: converted("-c:a libmp3lame -b:a 64k -write_xing 0 -id3v2_version 0", ".mp3"), slack=0.2)
_add("lame_vbr.mp3", "an mp3 of LAME in joint stereo of variable bit rate",
     lambda: converted("-c:a libmp3lame -q:a 5", ".mp3", channels=2), slack=0.15)
_add("mpeg25.mp3", "an mp3 at 8 kHz (MPEG-2.5)", lambda: converted("-c:a libmp3lame -b:a 16k", ".mp3", rate=8000),
     slack=0.4)
_add("tags_only.mp3", "tags without an mp3", lambda: id3v2(5000) + ID3V1, "refused",
     words="Expected .*(sound|audio|frames)")
_add("picture_only.mp3", "a tag with a picture full of false frames, and no mp3",
     lambda: id3v2(5000, picture=True) + ID3V1, "refused", words="Expected .*(sound|audio|frames)")
_add("mp3_named_wav.wav", "an mp3 with the name of a wav", mp3, slack=0.15)
_add("layer2.mp2", "MPEG audio layer II", lambda: converted("-c:a mp2 -b:a 64k", ".mp2"), av="may", slack=0.15)
_add("sdat.mp3", "an mp3 in a RIFF form with a data chunk, as old programs wrote it (RMP3)",
     lambda: b"RIFF" + struct.pack("<I", 12 + len(mp3())) + b"RMP3data" + struct.pack("<I", len(mp3())) + mp3(),
     slack=0.2, may_warn=True)

# FLAC.
_add("flac_half.flac", "a flac whose STREAMINFO says half its samples: all frames are there",
     lambda: with_total(flac(), 0.5), may_warn=True)
_add("flac_third_44.flac", "a stereo flac at 44.1 kHz whose STREAMINFO says a third of its samples",
     lambda: with_total(flac(rate=44100, channels=2), 1 / 3), may_warn=True)
_add("flac_double.flac", "a flac whose STREAMINFO says twice its samples: it may be cut, and the user must know",
     lambda: with_total(flac(), 2.0), "told")
_add("flac_zero.flac", "a flac whose STREAMINFO does not know its length", lambda: with_total(flac(), 0.0))
_add("flac_md5.flac", "a flac with a wrong MD5 sum, all of whose frames are right",
     lambda: put(flac(), 26, bytes(range(16))), may_warn=True)
_add("flac_md5_zero.flac", "a flac without MD5 sum", lambda: put(flac(), 26, bytes(16)))
for _label, _tail, _warn in (("id3v1", ID3V1, False), ("ape", ape(), False), ("ape_id3v1", ape() + ID3V1, False),
                             ("zeros_100", bytes(100), False), ("zeros_70000", bytes(70_000), True),
                             ("junk_1000", noise(1000, 8), True), ("junk_ff", b"\xff" * 500, True)):
    _add(f"flac_{_label}.flac", f"a flac with {_label.replace('_', ' ')} behind its last frame",
         functools.partial(lambda tail: flac() + tail, _tail), may_warn=_warn)
_add("flac_unknown_id3v1.flac", "a flac of unknown length with an ID3v1 tag behind it",
     lambda: with_total(flac(), 0.0) + ID3V1)
_add("flac_id3v2.flac", "a flac behind an ID3v2 tag", lambda: id3v2() + flac())
_add("flac_id3v2_both.flac", "a flac behind an ID3v2 tag with an ID3v1 tag behind it", lambda: id3v2() + flac() + ID3V1)
_add("flac_junk_before.flac", "a flac behind 100 bytes of junk", lambda: noise(100) + flac(), "whole", may_warn=True,
     av="may")
_add("flac_joined.flac", "two flacs joined", lambda: flac(A) + flac(B), "told", steps=AB, lost=(2.0, 4.0))
_add("flac_joined_rates.flac", "two flacs of different rates joined", lambda: flac(A) + flac(B, 22050), "told",
     steps=AB, lost=(2.0, 4.0))
_add("flac_cut.flac", "a flac cut in the middle", lambda: flac()[: len(flac()) // 2], "told", lost=(1.0, 3.0))
_add("flac_cut_frame.flac", "a flac cut within its last frame", lambda: flac()[:-1000], "told", lost=(2.4, 3.0))
_add("flac_hole.flac", "a flac with 2,000 zeros in the middle", lambda: overwrite(flac(), 0.5, bytes(2000)), "told",
     lost=(1.0, 2.2))
_add("flac_noise.flac", "a flac with 2,000 bytes of noise in the middle", lambda: overwrite(flac(), 0.5, noise(2000)),
     "told", lost=(1.0, 2.2))
_add("flac_removed.flac", "a flac of which 5,000 bytes are missing", lambda: cut(flac(), 0.4, 5000), "told",
     lost=(0.7, 2.2))
_add("flac_frames_removed.flac", "a flac without some whole frames, all others right",
     lambda: without_flac_frames(flac(), 3, 6), "told", lost=(0.4, 2.0))
_add("flac_hole_unknown.flac", "a flac of unknown length with 2,000 zeros in the middle",
     lambda: overwrite(with_total(flac(), 0.0), 0.5, bytes(2000)), "told", lost=(1.0, 2.2))
_add("flac_cut_unknown.flac", "a flac of unknown length cut within a frame: less than a frame is lost",
     lambda: with_total(flac(), 0.0)[:-1000], "minor", slack=0.4)
_add("flac_rates.flac", "a flac at 11,025 Hz in 24 bits with eight channels",
     lambda: encoded(range(12), "FLAC", "PCM_24", 11025, 8))

_add("flac_seek_table.flac", "a flac with a false seek table, which excerpts must not follow",
     lambda: with_flac_block(flac(), 3, b"".join(struct.pack(">QQH", i * 4096, i * 777, 4096) for i in range(11))))
_add("flac_application.flac", "a flac with an APPLICATION block full of false frames",
     lambda: with_flac_block(flac(), 2, b"\xff\xf8\xc9\x08" * 20_000))
_add("flac_joined_id3v2.flac", "two flacs joined, an ID3v2 tag before each",
     lambda: id3v2() + flac(A) + id3v2() + flac(B), "told", steps=AB, lost=(2.0, 4.0))
_add("flac_first_frame.flac", "a flac with 40 zeros in its first frame",
     lambda: put(flac(), flac().index(b"\xff\xf8", 42) + 100, bytes(40)), "told", lost=(0.0, 0.6))

# wav: kinds of samples.
for _kind in ("u8", "s16", "s24", "s32", "f32", "f64"):
    _add(f"wav_{_kind}.wav", f"a wav of {_kind} samples", functools.partial(wav, _kind))
    _add(f"wav_ext_{_kind}.wav", f"a wav of {_kind} samples with an extensible header",
         functools.partial(wav, _kind, 2, extensible=True))
for _channels in (1, 3, 4, 6, 8):
    _add(f"wav_ext_{_channels}ch.wav", f"a wav of {_channels} channels with an extensible header",
         functools.partial(wav, "s16", _channels, extensible=True))
for _label, _subtype in (("alaw", "ALAW"), ("mulaw", "ULAW"), ("ima", "IMA_ADPCM"), ("ms", "MS_ADPCM"),
                         ("gsm", "GSM610")):
    _add(f"wav_{_label}.wav", f"a wav of {_subtype} samples",
         functools.partial(encoded, range(12), "WAV", _subtype, 8000), slack=0.2)
_add("wav_96k.wav", "a wav at 96 kHz of ffmpeg with an extensible header",
     lambda: converted("-c:a pcm_s24le -ar 96000", ".wav"))
_add("rifx.wav", "a wav with big-endian numbers", lambda: wav(order=">", magic=b"RIFX"), av="may")
_add("rf64.wav", "a wav with 64-bit sizes", rf64)
_add("rf64_no_count.wav", "a wav with 64-bit sizes that does not know its sample count", lambda: rf64(False))
_add("w64.w64", "a Sony Wave64 file", lambda: encoded(range(12), "W64", "PCM_16"))
_add("mp3_in_wav.wav", "an mp3 in a wav (format 0x55)", lambda: converted("-c:a libmp3lame -b:a 64k", ".wav"), av="may",
     slack=0.15)
_add("ac3_in_wav.wav", "AC3 in a wav (format 0x2000)", lambda: converted("-c:a ac3 -b:a 96k", ".wav"), av="needs",
     slack=0.15)

# wav: sizes.
_SIZE = len(pcm(scale(range(12), 16000), "s16"))
for _label, _bytes, _outcome, _warn in (
    ("plus_8", _SIZE + 8, "whole", True), ("minus_8", _SIZE - 8, "whole", True), ("plus_2", _SIZE + 2, "whole", True),
    ("plus_1", _SIZE + 1, "whole", True), ("minus_1", _SIZE - 1, "whole", True), ("zero", 0, "whole", True),
    ("ffffffff", 0xFFFFFFFF, "whole", False), ("7fffffff", 0x7FFFFFFF, "whole", False),
    ("plus_file", _SIZE + 44, "whole", True),
):  # fmt: skip
    _add(f"wav_data_{_label}.wav", f"a wav whose data chunk says {_bytes} bytes and has {_SIZE}",
         functools.partial(wav, data_size=_bytes), _outcome, may_warn=_warn)
_add("wav_data_half.wav", "a wav whose data chunk says half its bytes",
     lambda: wav(data_size=_SIZE // 2), "told", lost=(1.5, 3.0))
_add("wav_data_double.wav", "a wav whose data chunk says twice its bytes: it may be cut, and the user must know",
     lambda: wav(data_size=2 * _SIZE), "told")
_add("wav_cut.wav", "a wav cut in the middle", lambda: wav()[: len(wav()) // 2], "told", lost=(1.4, 3.0))
_add("wav_cut_few.wav", "a wav of which the last 1,000 bytes are missing: 0.03 s", lambda: wav()[:-1000], "minor",
     may_warn=True)
_add("wav_sizes_zero.wav", "a wav whose sizes are 0, as an interrupted recorder leaves it",
     lambda: wav(data_size=0, riff_size=0), may_warn=True)
_add("wav_sizes_36_0.wav", "a wav whose sizes are those of an empty one, as an interrupted recorder leaves it",
     lambda: wav(data_size=0, riff_size=36), may_warn=True)
_add("wav_riff_zero.wav", "a wav whose RIFF size is 0", lambda: wav(riff_size=0), may_warn=True)
_add("wav_riff_small.wav", "a wav whose RIFF size is too small", lambda: wav(riff_size=1000), may_warn=True)
_add("wav_riff_large.wav", "a wav whose RIFF size is too large", lambda: wav(riff_size=10_000_000), may_warn=True)
_add("wav_riff_data_ff.wav", "a wav from a pipe, both sizes ffffffff, with a LIST chunk before its data",
     lambda: wav(data_size=0xFFFFFFFF, riff_size=0xFFFFFFFF, before=INFO_CHUNK))
_add("wav_ff_list_behind.wav", "a wav of unknown size with a LIST chunk behind its data",
     lambda: wav(data_size=0xFFFFFFFF, riff_size=0xFFFFFFFF, behind=INFO_CHUNK), may_warn=True)
_add("wav_zero_list_behind.wav", "a wav whose data chunk says 0 bytes, with a LIST chunk behind it",
     lambda: wav(data_size=0, riff_size=0, behind=INFO_CHUNK), may_warn=True)

# wav: chunks.
_add("wav_list_behind.wav", "a wav with a LIST chunk behind its data", lambda: wav(behind=INFO_CHUNK))
_add("wav_id3_behind.wav", "a wav with an ID3 chunk behind its data", lambda: wav(behind=chunk(b"id3 ", id3v2())))
_add("wav_odd_padded.wav", "a wav of an odd number of bytes with a pad byte and a LIST chunk",
     lambda: riff(chunk(b"fmt ", fmt("u8")), chunk(b"data", pcm(scale(range(12), 16000), "u8")[:-1]), INFO_CHUNK))
_add("wav_odd_unpadded.wav", "a wav of an odd number of bytes without pad byte before a LIST chunk",
     lambda: riff(chunk(b"fmt ", fmt("u8")), chunk(b"data", pcm(scale(range(12), 16000), "u8")[:-1], pad=False),
                  INFO_CHUNK), may_warn=True)
_add("wav_junk_before.wav", "a wav with a JUNK chunk before fmt", lambda: wav(before=chunk(b"JUNK", bytes(28))))
_add("wav_bext_before.wav", "a wav with a bext chunk before fmt, as broadcasters write it",
     lambda: wav(before=chunk(b"bext", bytes(602))))
_add("wav_odd_chunk_unpadded.wav",
     "a wav with an odd LIST chunk without pad byte before its data: libsndfile and ffmpeg find no data in it either",
     lambda: riff(chunk(b"fmt ", fmt()), chunk(b"LIST", b"INFOINAM\5\0\0\0title"[:17], pad=False),
                  chunk(b"data", pcm(scale(range(12), 16000), "s16"))), "refused", words="Expected audio")
_add("wav_fmt_18.wav", "a wav with a fmt chunk of 18 bytes",
     lambda: riff(chunk(b"fmt ", fmt() + bytes(2)), chunk(b"data", pcm(scale(range(12), 16000), "s16"))))
_add("wav_twice.wav", "two wavs joined", lambda: wav(steps=A) + wav(steps=B), "told", steps=AB, lost=(2.0, 4.0))
_add("wav_data_twice.wav", "a wav with two data chunks",
     lambda: riff(chunk(b"fmt ", fmt()), chunk(b"data", pcm(scale(A, 16000), "s16")),
                  chunk(b"data", pcm(scale(B, 16000), "s16"))), "told", steps=AB, lost=(2.0, 4.0))
_add("wav_zeros_behind.wav", "a wav with 10,000 zeros behind it", lambda: wav() + bytes(10_000), may_warn=True)
_add("wav_id3v1_behind.wav", "a wav with an ID3v1 tag behind it", lambda: wav() + ID3V1)
_add("wav_id3v2_before.wav", "a wav behind an ID3v2 tag", lambda: id3v2() + wav(), may_warn=True, av="may")
_add("wav_no_fmt.wav", "a wav without fmt chunk", lambda: riff(chunk(b"data", bytes(32000))), "refused",
     words="Expected audio")
_add("wav_fmt_behind.wav", "a wav whose fmt chunk stands behind its data",
     lambda: riff(chunk(b"data", pcm(scale(range(12), 16000), "s16")), chunk(b"fmt ", fmt())), av="may")
_add("wav_block_align_zero.wav", "a wav whose block size and byte rate are 0",
     lambda: put(wav(), 28, bytes(6)), may_warn=True, av="may")

_add("wav_fllr.wav", "a wav with a FLLR chunk of 4,000 bytes before its data, as Apple writes it",
     lambda: riff(chunk(b"fmt ", fmt()), chunk(b"FLLR", bytes(4000)),
                  chunk(b"data", pcm(scale(range(12), 16000), "s16"))))
_add("wav_chunks_1500.wav", "a wav with 1,500 chunks before its data", lambda: wav(before=chunk(b"JUNK", b"") * 1500))
_add("wav_24_in_32.wav", "a wav of 24 valid bits in 32",
     lambda: put(wav("s32", 2, extensible=True), 38, struct.pack("<H", 24)))
_add("wav_64_channels.wav", "a wav of 64 channels", lambda: wav(channels=64, rate=8000, steps=range(4)), steps=range(4))
_add("wav_s24_odd_end.wav", "a wav of 24 bits cut within a sample: nothing to speak of is missing",
     lambda: wav("s24")[:-2], may_warn=True)
_add("wav_list_inside.wav", "a wav whose data chunk's size counts the LIST chunk behind it",
     lambda: wav(data_size=_SIZE + len(INFO_CHUNK), behind=INFO_CHUNK), may_warn=True)
_add("wav_pad_behind.wav", "a wav with a chunk behind its data that says it is longer than the file",
     lambda: wav(behind=chunk(b"LIST", b"INFO", 5000)), may_warn=True)

# aiff and others of libsndfile.
_add("aiff.aiff", "an aiff", aiff)
_add("aiff_sowt.aifc", "an aifc of little-endian samples", lambda: aiff(compression=b"sowt"))
_add("aiff_float.aifc", "an aifc of floats", lambda: aiff(compression=b"fl32"))
_add("aiff_ssnd_plus_8.aiff", "an aiff whose SSND chunk says 8 bytes too many", lambda: aiff(ssnd_size=_SIZE + 16),
     may_warn=True)
_add("aiff_ssnd_double.aiff", "an aiff whose SSND chunk and COMM say twice its samples: it may be cut",
     lambda: aiff(ssnd_size=2 * _SIZE + 8, frames=_SIZE), "told")
_add("aiff_ssnd_zero.aiff", "an aiff whose SSND chunk says 0 bytes, as from a pipe",
     lambda: aiff(ssnd_size=0), may_warn=True, av="may")
_add("aiff_frames_half.aiff", "an aiff whose COMM chunk says half its samples",
     lambda: aiff(frames=_SIZE // 4), "told", lost=(1.5, 3.0))
_add("aiff_frames_zero.aiff", "an aiff whose COMM chunk says no samples, as an interrupted recorder leaves it",
     lambda: aiff(frames=0, ssnd_size=8, form_size=46), may_warn=True, av="may")
_add("aiff_id3.aiff", "an aiff with an ID3 chunk behind its samples",
     lambda: aiff(behind=chunk(b"ID3 ", id3v2(), order=">")))
_add("aiff_comment_before.aiff", "an aiff with an odd NAME chunk before COMM",
     lambda: aiff(before=chunk(b"NAME", b"title", order=">")))
_add("aiff_offset.aiff", "an aiff whose samples begin 512 bytes into their chunk", lambda: aiff(offset=512))
_add("aiff_form_zero.aiff", "an aiff whose FORM size is 0", lambda: aiff(form_size=0), may_warn=True, av="may")
_add("aiff_cut.aiff", "an aiff cut in the middle", lambda: aiff()[: len(aiff()) // 2], "told", lost=(1.4, 3.0))
_add("aiff_junk_behind.aiff", "an aiff with 300 bytes of junk behind it", lambda: aiff() + noise(300), may_warn=True)
_add("aiff_twice.aiff", "two aiffs joined", lambda: aiff() + aiff(), "told", steps=(*range(12), *range(12)),
     lost=(3.0, 6.0))
_add("aiff_ssnd_first.aiff", "an aiff whose SSND chunk stands before COMM", lambda: ssnd_first(aiff()))
_add("au.au", "a Sun au", lambda: encoded(range(12), "AU", "PCM_16"))
_add("au_unknown.au", "a Sun au of unknown length", lambda: put(encoded(range(12), "AU", "PCM_16"), 8, b"\xff" * 4),
     may_warn=True)
_add("caf.caf", "a Core Audio file", lambda: encoded(range(12), "CAF", "PCM_16"))
_add("caf_alac.caf", "ALAC in a Core Audio file", lambda: encoded(range(12), "CAF", "ALAC_16"))
_add("au_cut.au", "a Sun au cut in the middle", lambda: encoded(range(12), "AU", "PCM_16")[:48_000], "told",
     lost=(1.4, 3.0))
_add("caf_cut.caf", "a Core Audio file cut in the middle", lambda: encoded(range(12), "CAF", "PCM_16")[:48_000],
     "told", lost=(1.2, 3.0))
_add("w64_cut.w64", "a Sony Wave64 file cut in the middle", lambda: encoded(range(12), "W64", "PCM_16")[:48_000],
     "told", lost=(1.2, 3.0))

# Formats that need PyAV.
for _name, _arguments, _about in (
    ("aac.m4a", "-c:a aac -b:a 64k", "AAC in MP4"),
    ("aac_front.m4a", "-c:a aac -b:a 64k -movflags +faststart", "AAC in MP4 with its index in front"),
    ("aac_fragments.mp4", "-c:a aac -b:a 64k -movflags frag_keyframe+empty_moov -frag_duration 500000",
     "AAC in fragmented MP4"),
    ("alac.m4a", "-c:a alac", "ALAC in MP4"),
    ("mp3.mp4", "-c:a libmp3lame -b:a 64k", "mp3 in MP4"),
    ("adts.aac", "-c:a aac -b:a 64k -f adts", "AAC in ADTS"),
    ("wma2.wma", "-c:a wmav2 -b:a 64k", "Windows Media Audio 2"),
    ("wma1.wma", "-c:a wmav1 -b:a 64k", "Windows Media Audio 1"),
    ("opus.webm", "-c:a libopus", "Opus in WebM"),
    ("vorbis.webm", "-c:a libvorbis", "Vorbis in WebM"),
    ("flac.mka", "-c:a flac", "FLAC in Matroska"),
    ("aac.mkv", "-c:a aac", "AAC in Matroska"),
    ("wavpack.wv", "-c:a wavpack", "WavPack"),
    ("ac3.ac3", "-c:a ac3 -b:a 96k", "AC3"),
    ("eac3.eac3", "-c:a eac3 -b:a 96k", "E-AC3"),
    ("tta.tta", "-c:a tta", "True Audio"),
    ("mp3.avi", "-c:a libmp3lame -b:a 64k", "mp3 in AVI"),
    ("aac.ts", "-c:a aac -f mpegts", "AAC in an MPEG transport stream"),
    ("aac.flv", "-c:a aac", "AAC in Flash video"),
    ("pcm.mov", "-c:a pcm_s16be", "PCM in QuickTime"),
):
    _add(_name, _about, functools.partial(converted, _arguments, Path(_name).suffix), av="needs", slack=0.15)
_add("flac.oga", "FLAC in Ogg", lambda: converted("-c:a flac -f ogg", ".oga"), av="may", slack=0.15)
_add("flac_chain.oga", "two FLAC streams in one Ogg file", lambda: (
     with_serial(converted("-c:a flac -f ogg", ".oga", A), 1) + with_serial(converted("-c:a flac -f ogg", ".oga", B), 2)
     ), "told", steps=AB, lost=(2.0, 4.0), av="may")
_add("amr.amr", "AMR speech at 8 kHz", lambda: converted("-c:a libopencore_amrnb -b:a 12.2k", ".amr", range(8), 8000),
     av="needs", steps=range(8), slack=0.2)
_add("dsd64.dsf", "DSD at 2.8 MHz", dsf, av="needs", steps=range(4))
_add("video_aac.mp4", "a video with AAC sound",
     lambda: converted("-map 0:v -map 1:a -c:v libx264 -c:a aac -shortest", ".mp4",
                       first="-f lavfi -t 3 -i color=size=32x32:rate=5"), av="needs", slack=0.2)
_add("video_only.mp4", "a video without sound",
     lambda: converted("-map 0:v -c:v libx264", ".mp4", first="-f lavfi -t 1 -i color=size=32x32:rate=5"), "refused",
     words="Expected .*(no|without) (audio|sound)|MP4")
_add("adts_id3.aac", "AAC in ADTS behind an ID3v2 tag",
     lambda: id3v2(version=4) + converted("-c:a aac -b:a 64k -f adts", ".aac"), av="needs", slack=0.15)
_add("adts_joined.aac", "two ADTS files joined",
     lambda: converted("-c:a aac -f adts", ".aac", A) + converted("-c:a aac -f adts", ".aac", B), av="needs", steps=AB,
     slack=0.25)
_add("adts_hole.aac", "AAC in ADTS with 4,000 zeros in the middle",
     lambda: overwrite(converted("-c:a aac -b:a 64k -f adts", ".aac"), 0.5, bytes(4000)), "told", av="needs",
     lost=(1.0, 2.4))
_add("wavpack_ape.wv", "WavPack with an APEv2 tag behind it", lambda: converted("-c:a wavpack", ".wv") + ape(),
     av="needs", slack=0.15)
_add("wavpack_hole.wv", "WavPack with 3,000 zeros in the middle",
     lambda: overwrite(converted("-c:a wavpack", ".wv"), 0.5, bytes(3000)), "told", av="needs", lost=(0.9, 2.4))
_add("aac_cut_front.m4a", "AAC in MP4 with its index in front, cut in the middle",
     lambda: cut(converted("-c:a aac -b:a 64k -movflags +faststart", ".m4a"), 0.5, 100_000), "told", av="needs",
     lost=(1.0, 3.0))
_add("aac_cut_back.m4a", "AAC in MP4 with its index behind, cut in the middle: without it nothing can be read",
     lambda: cut(converted("-c:a aac -b:a 64k", ".m4a"), 0.5, 100_000), "refused", words="Expected")
_add("aac_hole.m4a", "AAC in MP4 with 4,000 zeros in the middle",
     lambda: overwrite(converted("-c:a aac -b:a 64k", ".m4a"), 0.5, bytes(4000)), "told", av="needs", lost=(1.0, 2.4))
_add("cut.webm", "Opus in WebM cut in the middle",
     lambda: cut(converted("-c:a libopus", ".webm"), 0.5, 100_000), "told", av="needs", lost=(1.0, 3.0))
_add("cut.wma", "Windows Media Audio cut in the middle",
     lambda: cut(converted("-c:a wmav2 -b:a 64k", ".wma"), 0.5, 100_000), "told", av="needs", lost=(1.0, 3.0))
_add("cut.mka", "FLAC in Matroska cut in the middle", lambda: cut(converted("-c:a flac", ".mka"), 0.5, 1_000_000),
     "told", av="needs", lost=(1.0, 3.0))
_add("hole.mka", "FLAC in Matroska with 3,000 zeros in the middle",
     lambda: overwrite(converted("-c:a flac", ".mka"), 0.5, bytes(3000)), "told", av="needs", lost=(0.9, 2.3))
_add("cut_short.wv", "WavPack cut in the middle", lambda: cut(converted("-c:a wavpack", ".wv"), 0.5, 1_000_000),
     "told", av="needs", lost=(1.0, 3.0))

_add("live.webm", "Opus in WebM of unknown length, as it is streamed",
     lambda: converted("-c:a libopus -live 1", ".webm"), av="needs", slack=0.15)
_add("two_tracks.mka", "Matroska with two tracks of Vorbis: the first is read",
     lambda: converted("-map 0:a -map 0:a -c:a libvorbis", ".mka"), av="needs", slack=0.15)
_add("opus.mp4", "Opus in MP4", lambda: converted("-c:a libopus", ".mp4"), av="needs", slack=0.15)
_add("mp2.mpg", "layer II in an MPEG program stream", lambda: converted("-c:a mp2 -f mpeg", ".mpg"), av="needs",
     slack=0.15)
_add("joined.m4a", "two MP4 files joined: only the first is known to its index",
     lambda: converted("-c:a aac", ".m4a", A) + converted("-c:a aac", ".m4a", B), "told", av="needs", steps=AB,
     lost=(2.0, 4.0))
_add("joined.webm", "two WebM files joined",
     lambda: converted("-c:a libopus", ".webm", A) + converted("-c:a libopus", ".webm", B), "told", av="needs",
     steps=AB, lost=(2.0, 4.0))
_add("joined.ac3", "two AC3 files joined",
     lambda: converted("-c:a ac3 -b:a 96k", ".ac3", A) + converted("-c:a ac3 -b:a 96k", ".ac3", B), av="needs",
     steps=AB, slack=0.25)
_add("joined.wma", "two Windows Media files joined",
     lambda: converted("-c:a wmav2", ".wma", A) + converted("-c:a wmav2", ".wma", B), "told", av="needs",
     steps=AB, lost=(2.0, 4.0))
_add("joined.wv", "two WavPack files joined",
     lambda: converted("-c:a wavpack", ".wv", A) + converted("-c:a wavpack", ".wv", B), "told", av="needs",
     steps=AB, lost=(2.0, 4.0))
_add("hole.ac3", "AC3 with 3,000 zeros in the middle",
     lambda: overwrite(converted("-c:a ac3 -b:a 96k", ".ac3"), 0.5, bytes(3000)), "told", av="needs", lost=(1.1, 2.1))
_add("hole.tta", "True Audio with 3,000 zeros in the middle: one frame is over a second long",
     lambda: overwrite(converted("-c:a tta", ".tta"), 0.5, bytes(3000)), "told", av="needs", lost=(0.0, 3.0))
_add("hole.wma", "Windows Media Audio with 4,000 zeros in the middle",
     lambda: overwrite(converted("-c:a wmav2 -b:a 64k", ".wma"), 0.5, bytes(4000)), "told", av="needs",
     lost=(0.8, 2.4))
_add("hole.webm", "Opus in WebM with 3,000 zeros in the middle",
     lambda: overwrite(converted("-c:a libopus -b:a 64k", ".webm"), 0.5, bytes(3000)), "told", av="needs",
     lost=(0.9, 3.0))
_add("hole.alac.m4a", "ALAC with 3,000 zeros in the middle",
     lambda: overwrite(converted("-c:a alac", ".m4a"), 0.5, bytes(3000)), "told", av="needs", lost=(1.0, 2.0))
_add("removed.aac", "AAC in ADTS of which 4,000 bytes are missing: nothing says so but the broken frame at the gap",
     lambda: cut(converted("-c:a aac -b:a 64k -f adts", ".aac"), 0.5, 4000), "told", av="needs", lost=(1.0, 2.4))



def _without_blocks(first: int, last: int) -> bytes:
    """Cut blocks out of a WavPack file."""
    data = converted("-c:a wavpack", ".wv")
    starts = [found.start() for found in re.finditer(b"wvpk", data)]
    return data[: starts[first]] + data[starts[last] :]


def _swapped(data: bytes, share: float, size: int) -> bytes:
    """Exchange two neighbouring pieces of a file."""
    at = int(share * len(data))
    return data[:at] + data[at + size : at + 2 * size] + data[at : at + size] + data[at + 2 * size :]


_add("removed.wv", "WavPack of which three blocks are missing, all others valid",
     lambda: _without_blocks(12, 15), "told", av="needs", lost=(1.1, 1.4))
_add("removed_start.wv", "WavPack without its first two blocks, which alone state its length",
     lambda: _without_blocks(0, 2), "told", av="needs", lost=(0.0, 0.2))
_add("swapped.wv", "WavPack of which two pieces are exchanged",
     lambda: _swapped(converted("-c:a wavpack", ".wv"), 0.5, 12_000), "told", av="needs", lost=(1.4, 2.1))
_add("zeros_in_block.wv", "WavPack with 1,000 zeros within a block",
     lambda: overwrite(converted("-c:a wavpack", ".wv"), 0.4153, bytes(1000)), "told", av="needs", lost=(1.1, 1.4))
_add("swapped_head.webm", "Opus in WebM whose header stands behind its first packets, so that it has two tracks",
     lambda: _swapped(converted("-c:a libopus", ".webm"), 0.014, 3000), "told", av="needs", lost=(0.2, 3.0))
_add("cut_joined.webm", "the first packets of a WebM file, and a whole one behind them",
     lambda: converted("-c:a libopus", ".webm", A)[:1000] + converted("-c:a libopus", ".webm", B), "told", av="needs",
     steps=AB, lost=(0.0, 2.1))
_add("cut_packet_joined.webm", "a WebM file cut within its first packet, and a whole one behind it",
     lambda: converted("-c:a libopus", ".webm", A)[:670] + converted("-c:a libopus", ".webm", B), "told", av="needs",
     steps=AB, lost=(0.0, 2.1))
_add("joined_cut.webm", "a WebM file, and the first packets of another behind it",
     lambda: converted("-c:a libopus", ".webm", A) + converted("-c:a libopus", ".webm", B)[:1788], "told", av="needs",
     steps=AB, lost=(2.0, 4.0))
_add("live_cut_out.webm", "Opus in WebM of unknown length, most of it overwritten by noise",
     lambda: overwrite(converted("-c:a libopus -live 1", ".webm"), 0.3, noise(20_000)), "told", av="needs",
     lost=(0.7, 3.0))
_add("joined_wavpack.wav", "WavPack behind a wav, whose blocks look like chunks of the wav",
     lambda: wav(steps=A) + converted("-c:a wavpack", ".wv", B), "told", steps=AB, lost=(2.0, 4.0))
_add("joined_id3.wv", "two WavPack files joined, an ID3v2 tag between", lambda: (
     converted("-c:a wavpack", ".wv", A) + id3v2() + converted("-c:a wavpack", ".wv", B)), av="needs", steps=AB)
for _label, _arguments, _suffix in (("webm", "-c:a libopus", ".webm"), ("wv", "-c:a wavpack", ".wv")):
    _add(f"joined_mp3.{_label}", f"an mp3 behind a {_label} file",
         functools.partial(lambda arguments, suffix: converted(arguments, suffix, A) + mp3(B), _arguments, _suffix),
         "told", av="needs", steps=AB, lost=(2.0, 4.0))
for _label, _tail in (
    ("m4a", lambda: converted("-c:a aac -b:a 64k -movflags +faststart", ".m4a")),
    ("webm", lambda: converted("-c:a libopus", ".webm")),
    ("flac", lambda: flac()),
):
    _add(f"remains_{_label}.mp3", f"a {_label} file without its first 5,000 bytes, and an mp3 behind it",
         functools.partial(lambda make: make()[5000:] + mp3(), _tail), "warned", slack=0.15)
_add("info_cut_joined.mp3", "an mp3 cut within its first frame, and a whole one behind it",
     lambda: mp3(A)[: mp3_frames(mp3(A))[0][1] + 100] + mp3(B), "told", steps=AB, lost=(0.0, 2.0))

# No audio.
_add("empty.wav", "an empty file", lambda: b"", "refused", words="empty")
_add("one_byte.mp3", "a file of one byte", lambda: b"\xff", "refused", words="Expected audio")
_add("shopping_list.mp3", "a text", lambda: b"milk, eggs, bread\n" * 300, "refused", words="Expected audio")
_add("utf16.mp3", "a text in UTF-16, which begins like a frame of mpeg audio",
     lambda: "\ufeffmilk, eggs".encode("utf-16-le") * 200, "refused", words="Expected audio")
_add("page.mp3", "a web page", lambda: b"<!DOCTYPE html><html><body>" + b"<p>404</p>" * 200, "refused",
     words="a web page")
_add("cover.mp3", "a PNG image", lambda: PNG, "refused", words="a PNG image")
_add("album.mp3", "a zip archive with an mp3", lambda: archive(mp3(), "song.mp3"), "refused", words="a zip archive")
_add("random.mp3", "random bytes", lambda: np.random.default_rng(1).bytes(60_000), "refused", words="Expected audio")
_add("zeros.mp3", "zeros", lambda: bytes(60_000), "refused", words="Expected audio")
_add("ff.mp3", "bytes of all ones", lambda: b"\xff" * 60_000, "refused", words="Expected audio")
_add("list.m3u", "a playlist", lambda: b"#EXTM3U\n#EXTINF:3,a\nsong.mp3\n", "refused", words="Expected audio")
_add("folder.mp3", "a directory", lambda path: path.mkdir(), "refused", words="directory", regular=False)
_add("pipe.wav", "a named pipe", lambda path: os.mkfifo(path), "refused", words="not a regular file", regular=False)
_add("null.wav", "a symbolic link to a device", lambda path: path.symlink_to("/dev/null"), "refused",
     words="not a regular file", regular=False)
_add("loop.wav", "a symbolic link to itself", lambda path: path.symlink_to(path.name), "refused", words="Expected",
     regular=False)
_add("no_samples.wav", "a wav without samples", lambda: wav(steps=()), "refused", words="no samples")
_add("no_samples.flac", "a flac without frames",
     lambda: with_total(flac(), 0.0)[: flac().index(b"\xff\xf8", 42)], "refused", words="Expected")
_add("no_samples.aiff", "an aiff without samples", lambda: encoded((), "AIFF", "PCM_16"), "refused",
     words="no samples|Expected audio")
_add("no_samples.ogg", "an Ogg Vorbis without pages of sound",
     lambda: b"".join(ogg_pages(vorbis())[:2]), "refused", words="Expected")
_add("header_only.wav", "a wav cut within its header", lambda: wav()[:30], "refused", words="Expected audio")
_add("rate_0.wav", "a wav at 0 Hz", lambda: wav_of(np.zeros(999), rate=0), "refused", words="0 Hz")
_add("rate_500.wav", "a wav at 500 Hz", lambda: wav_of(np.zeros(999), rate=500), "refused", words="from 1000 to")
_add("rate_4g.wav", "a wav at 4,000,000,000 Hz", lambda: put(wav(), 24, struct.pack("<I", 4_000_000_000)), "refused",
     words="Hz|Expected audio")
_add("rate_768k.wav", "a wav at 768 kHz", lambda: wav(rate=768_000, steps=range(4)), steps=range(4))
_add("channels_0.wav", "a wav of 0 channels", lambda: put(wav(), 22, bytes(2)), "refused", words="channels")
_add("nan.wav", "a wav of floats of which one is NaN",
     lambda: wav_of(np.where(np.arange(48000) == 24000, np.nan, 0.1), "f32"), "refused", words=r"NaN.* 1\.500 s")
_add("nan_one_channel.wav", "a wav of floats with infinity in one channel",
     lambda: wav_of(np.where(np.arange(96000).reshape(-1, 2) == 48001, np.inf, 0.1), "f64"), "refused",
     words=r"infinity.* 1\.500 s")

# Nothing to hear, or out of scale.
_add("silence.wav", "digital silence", lambda: wav_of(np.zeros(48000)), steps=(-1,) * 12, warns="silent")
_add("silence.flac", "digital silence in a flac, whose frames are ten bytes long",
     lambda: silence("FLAC", "PCM_16"), steps=(-1,) * 12, warns="silent")
_add("silence.mp3", "digital silence in an mp3", lambda: silence("MP3", "MPEG_LAYER_III"),
     steps=(-1,) * 12, warns="silent")
_add("silence.ogg", "digital silence in Vorbis, whose page is short", lambda: silence("OGG", "VORBIS"),
     steps=(-1,) * 12, warns="silent")
_add("antiphase.wav", "two channels that cancel each other: one of them is read",
     lambda: wav_of(scale(range(12), 16000) * [1.0, -1.0]), warns="cancelled")
_add("int16_scale.wav", "floats at the scale of 16-bit numbers", lambda: wav_of(scale(range(12), 16000) * 32768, "f32"),
     warns="level")
_add("one_sample.wav", "one sample", lambda: wav_of(np.full(1, 0.5)), steps=(), slack=0.01, warns="silent")
# fmt: on

BY_NAME = {entry.name: entry for entry in ENTRIES}
assert len(BY_NAME) == len(ENTRIES)
