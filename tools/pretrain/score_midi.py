"""Instruments and their notes as a standard MIDI file."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from pretrain.score_instruments import DRUMS, Instrument

TICKS_PER_SECOND = 960


def midi_bytes(instruments: Sequence[Instrument], apart_seconds: float) -> bytes:
    """A standard MIDI file of format 0 in which instrument i begins `i * apart_seconds` after the first.

    A tick is 1/960 s: 480 to the quarter note, and 120 quarter notes to the minute. Channels are 1, 2, ... and 10 for
    drums.
    """
    events: list[tuple[int, int, bytes]] = [(0, -1, b"\xff\x51\x03" + (500_000).to_bytes(3, "big"))]
    melodic = [channel for channel in range(16) if channel != 9]
    for i, instrument in enumerate(instruments):
        drums = instrument.program >= DRUMS
        channel = 9 if drums else melodic.pop(0)
        offset = round(i * apart_seconds * TICKS_PER_SECOND)
        events.append((offset, 0, bytes([0xC0 | channel, instrument.program - DRUMS if drums else instrument.program])))
        events += [
            (offset, 1, bytes([0xB0 | channel, number, value])) for number, value in sorted(instrument.controls.items())
        ]
        for start, end, pitch, velocity in instrument.notes:
            on = offset + round(start * TICKS_PER_SECOND)
            off = max(on + 1, offset + round(end * TICKS_PER_SECOND))
            events += [(on, 3, bytes([0x90 | channel, pitch, velocity])), (off, 2, bytes([0x80 | channel, pitch, 0]))]
        events.append((round((i + 1) * apart_seconds * TICKS_PER_SECOND) - 1, 4, bytes([0xB0 | channel, 120, 0])))
    events.sort()
    track, before = b"", 0
    for tick, _, message in events:
        track += _variable_length(tick - before) + message
        before = tick
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS_PER_SECOND // 2)
    return header + b"MTrk" + struct.pack(">I", len(track)) + track


def _variable_length(value: int) -> bytes:
    """A number in groups of seven bits, the highest first; all but the last have their top bit set."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | (value & 0x7F))
    return bytes(reversed(groups))
