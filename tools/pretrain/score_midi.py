"""Write instruments and their notes as a standard MIDI file."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from pretrain.score_instruments import DRUMS, Instrument

TICKS_PER_SECOND = 960

# Numbers of generators of SoundFont 2.04.
VIBRATO_CENTS = 6
FILTER_CENTS = 8
FILTER_Q = 9  # in tenths of a dB
VIBRATO_RATE = 24  # in cents, like all rates and times
ATTACK, DECAY, RELEASE = 34, 36, 38
COARSE_TUNE = 51  # in semitones
FINE_TUNE = 52  # in cents
# The step of the data entry that sets a generator, in its unit (SoundFont 2.04, 9.6.4; fluid_gen.c).
_STEPS = {VIBRATO_CENTS: 2, FILTER_CENTS: 2, FILTER_Q: 1, VIBRATO_RATE: 4, ATTACK: 2, DECAY: 2, RELEASE: 2}
_STEPS |= {COARSE_TUNE: 1, FINE_TUNE: 1}


def midi_bytes(instruments: Sequence[Instrument], apart_seconds: float) -> bytes:
    """Write a standard MIDI file of format 0 in which instrument i begins `i * apart_seconds` after the first.

    A tick is 1/960 s: 480 to the quarter note, and 120 quarter notes to the minute. Channels are 1, 2, ... and 10 for
    drums. Where keys are shifted the tuning is too, the other way.
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
        generators = dict(instrument.generators)
        if instrument.key_shift:
            generators[COARSE_TUNE] = generators.get(COARSE_TUNE, 0) - instrument.key_shift
        events += [(offset, 1, _generator(channel, *item)) for item in sorted(generators.items())]
        for start, end, pitch, velocity in instrument.notes:
            key = pitch + instrument.key_shift
            on = offset + round(start * TICKS_PER_SECOND)
            off = max(on + 1, offset + round(end * TICKS_PER_SECOND))
            events += [(on, 3, bytes([0x90 | channel, key, velocity])), (off, 2, bytes([0x80 | channel, key, 0]))]
        events.append((round((i + 1) * apart_seconds * TICKS_PER_SECOND) - 1, 4, bytes([0xB0 | channel, 120, 0])))
    events.sort()
    track, before = b"", 0
    for tick, _, message in events:
        track += variable_length(tick - before) + message
        before = tick
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS_PER_SECOND // 2)
    return header + b"MTrk" + struct.pack(">I", len(track)) + track


def _generator(channel: int, number: int, offset: int) -> bytes:
    """Write messages, with the times between them, that add to a generator of all later notes in a channel.

    The number's two halves, then the value's, the lower first; 8192 is nothing.
    """
    data = 8192 + round(offset / _STEPS[number])
    pairs = ((99, 120), (98, number), (38, data & 0x7F), (6, data >> 7))
    return b"\x00".join(bytes([0xB0 | channel, controller, value]) for controller, value in pairs)


def variable_length(value: int) -> bytes:
    """Encode a number in groups of seven bits, highest first; all but the last have their top bit set."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | (value & 0x7F))
    return bytes(reversed(groups))
