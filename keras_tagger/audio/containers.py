"""Recognise what a file is, and find the segments that libsndfile decodes.

libsndfile 1.2 silently reads a part of many files: the first link of a chained ogg, the first of several mp3s that were
joined, what is in front of damage, or as much as a wrong header says. It refuses others because of what is in front of
or behind the sound. The modules `mp3`, `ogg`, `flac` and `riff` therefore find out what a file holds, so that each
decoder reads nothing but sound with a correct header.
"""

from __future__ import annotations

import re

from keras_tagger.audio.flac import flac_layout
from keras_tagger.audio.kinds import recognise, unknown_format
from keras_tagger.audio.layout import TOLD_JUNK_BYTES, Damage, Layout, Segment, id3_end, skip_zeros
from keras_tagger.audio.mp3 import begins_mp3, mp3_layout
from keras_tagger.audio.ogg import ogg_layout
from keras_tagger.audio.riff import is_riff, riff_layout, sized_layout
from keras_tagger.audio.streams import Stream

_JUNK_BYTES = 1 << 16  # searched for the beginning of a wav, flac or ogg
_BEGINNING = re.compile(
    rb"fLaC[\x00\x80]\x00\x00\x22|OggS\x00\x02|(?:RIFF|RIFX|RF64)....WAVE|FORM....AIF[FC]", re.DOTALL
)


def find_layout(stream: Stream) -> Layout:
    """Find the segments of a file.

    Raises:
        AudioError: If the file is truncated, or states 0 Hz or an invalid number of channels.
    """
    start, stop = 0, stream.size
    while (end := id3_end(stream, start)) is not None and end < stop:
        start = end
    kind = recognise(stream)
    known = kind is not None and not kind.shared
    found = None if known else _BEGINNING.search(stream.at(start, _JUNK_BYTES))
    layout: Layout | None = None
    if found is not None and (found.start() == 0 or not begins_mp3(stream, start, start + found.start())):
        junk = found.start()
        start += junk
        magic = found.group()
        if magic[:4] == b"OggS":
            layout = ogg_layout(stream, start, stop)
        elif magic[:4] == b"fLaC":
            layout = flac_layout(stream, start, stop)
        elif is_riff(magic):
            layout = riff_layout(stream, start, stop)
        if layout is not None and junk >= TOLD_JUNK_BYTES and skip_zeros(stream, start - junk, start) < start:
            layout.damage.insert(0, Damage(0.0, 0.0, f"the first {start} bytes are not audio"))
    elif not known and (layout := sized_layout(stream)) is None:
        layout = mp3_layout(stream, 0, stop)
        if layout is None and re.match(rb"\xff[\xe0-\xff]|ID3", stream.at(0, 3)):
            raise unknown_format(stream, kind)  # libsndfile would take it for an mp3
    return layout or Layout([Segment([range(start, stop)])])
