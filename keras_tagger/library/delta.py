"""The difference from one file to another, small if most bytes of the one are somewhere in the other.

A delta is a list of steps that make the wanted file: copy a stretch of the base file, or add bytes that the delta
holds. Writing tags moves the audio and rewrites numbers in it (the pages of an Ogg file), so most steps are copies.
Files are mapped, not read, so that a recording of hours takes no memory.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np

_Bytes: TypeAlias = mmap.mmap | bytes
_STEP = struct.Struct("<?QQ")  # whether it is a copy, offset in the base file, length
_SOUGHT = 64  # bytes to look for in the base file
_BLOCK = 1 << 20


def make_delta(base: str | os.PathLike[str], wanted: str | os.PathLike[str]) -> bytes:
    """Return the delta that makes the wanted file from the base file."""
    packed = zlib.compressobj()
    parts = []
    with _mapped(base) as old, _mapped(wanted) as new:
        for offset, start, length in _steps(old, new):
            parts.append(packed.compress(_STEP.pack(offset is not None, offset or 0, length)))
            if offset is None:
                parts.append(packed.compress(new[start : start + length]))
    return b"".join([*parts, packed.flush()])


def restored(base: str | os.PathLike[str], delta: bytes) -> Iterator[bytes]:
    """Yield the bytes of the file that a delta makes from the base file."""
    content = zlib.decompress(delta)
    place = 0
    with _mapped(base) as old:
        while place < len(content):
            is_copy, offset, length = _STEP.unpack_from(content, place)
            place += _STEP.size
            if is_copy:
                for begin in range(offset, offset + length, _BLOCK):
                    yield old[begin : min(begin + _BLOCK, offset + length)]
            else:
                yield content[place : place + length]
                place += length


def _steps(old: _Bytes, new: _Bytes) -> Iterator[tuple[int | None, int, int]]:
    """Yield the offset in `old` (None for bytes to add), the offset in `new` and the length of each step."""
    place = begun = shift = 0  # `begun` is where the bytes to add begin
    while place < len(new):
        same = _same(old, place + shift, new, place) if 0 <= place + shift < len(old) else 0
        if same >= _SOUGHT:
            if begun < place:
                yield None, begun, place - begun
            yield place + shift, place, same
            place = begun = place + same
            continue
        # Behind a number that changed, the files usually go on as before.
        after = place + _SOUGHT
        sought = new[after : after + _SOUGHT]
        if len(sought) < _SOUGHT or after + shift < 0 or old[after + shift : after + shift + _SOUGHT] != sought:
            found = old.find(new[place : place + _SOUGHT]) if place + _SOUGHT <= len(new) else -1
            if found >= 0:
                shift = found - place
                continue
        place = min(place + _SOUGHT, len(new))
    if begun < place:
        yield None, begun, place - begun


def _same(old: _Bytes, first: int, new: _Bytes, second: int) -> int:
    """Return how many bytes are the same from two places on."""
    length = min(len(old) - first, len(new) - second)
    for done in range(0, length, _BLOCK):
        size = min(_BLOCK, length - done)
        one, other = old[first + done : first + done + size], new[second + done : second + done + size]
        if one != other:
            return done + int(np.argmax(np.frombuffer(one, np.uint8) != np.frombuffer(other, np.uint8)))
    return length


@contextlib.contextmanager
def _mapped(path: str | os.PathLike[str]) -> Iterator[_Bytes]:
    with Path(path).open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            yield b""  # an empty file cannot be mapped
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content
