"""tools/pretrain/score_midi.py, event by event."""

from __future__ import annotations

import dataclasses

import pytest

from made_scores import instrument
from pretrain.score_instruments import DRUMS
from pretrain.score_midi import FILTER_CENTS, FINE_TUNE, midi_bytes, variable_length


def read_midi(content):
    """Channel events of a MIDI file of one track, each with its tick."""
    assert content[:14] == b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x01\xe0"
    assert content[14:18] == b"MTrk"
    assert int.from_bytes(content[18:22], "big") == len(content) - 22
    events, tick, i = [], 0, 22
    while i < len(content):
        delta = 0
        while True:
            delta, i = delta << 7 | content[i] & 0x7F, i + 1
            if content[i - 1] < 0x80:
                break
        tick += delta
        if content[i] == 0xFF:
            end = i + 3 + content[i + 2]
        else:
            end = i + (2 if content[i] >> 4 == 0xC else 3)
        events.append((tick, content[i:end]))
        i = end
    return events


def test_midi_is_what_the_standard_says():
    violin = dataclasses.replace(instrument(40, (0.0, 0.5, 60, 100), (0.5, 1.0, 60, 101)), controls={91: 40})
    drums = instrument(DRUMS + 16, (0.25, 0.3, 38, 90))
    events = read_midi(midi_bytes([violin, drums], 20.0))
    assert events == [
        (0, b"\xff\x51\x03\x07\xa1\x20"),  # 500,000 us to the quarter note of 480 ticks
        (0, b"\xc0\x28"),
        (0, b"\xb0\x5b\x28"),
        (0, b"\x90\x3c\x64"),
        (480, b"\x80\x3c\x00"),  # ends before it begins anew
        (480, b"\x90\x3c\x65"),
        (960, b"\x80\x3c\x00"),
        (19199, b"\xb0\x78\x00"),
        (19200, b"\xc9\x10"),
        (19440, b"\x99\x26\x5a"),
        (19488, b"\x89\x26\x00"),
        (38399, b"\xb9\x78\x00"),
        (38399, b"\xff\x2f\x00"),
    ]


def test_generators_are_set_before_notes_and_keys_are_shifted_against_the_tuning():
    generators = {FILTER_CENTS: -2400, FINE_TUNE: 25}
    violin = dataclasses.replace(instrument(40, (0.0, 0.5, 60, 100)), generators=generators, key_shift=-3)
    events = [content for _, content in read_midi(midi_bytes([violin, instrument(41, (0.0, 0.5))], 1.0))]
    assert events[1:] == [
        b"\xc0\x28",
        *(b"\xb0\x63\x78", b"\xb0\x62\x08", b"\xb0\x26\x50", b"\xb0\x06\x36"),  # 54 * 128 + 80 = 8192 - 2400 / 2
        *(b"\xb0\x63\x78", b"\xb0\x62\x33", b"\xb0\x26\x03", b"\xb0\x06\x40"),  # three semitones up
        *(b"\xb0\x63\x78", b"\xb0\x62\x34", b"\xb0\x26\x19", b"\xb0\x06\x40"),
        *(b"\x90\x39\x64", b"\x80\x39\x00", b"\xb0\x78\x00"),
        *(b"\xc1\x29", b"\x91\x3c\x5a", b"\x81\x3c\x00", b"\xb1\x78\x00", b"\xff\x2f\x00"),
    ]


def test_no_melodic_instrument_is_on_the_drums_channel():
    events = read_midi(midi_bytes([instrument(73 + i, (0.0, 0.5)) for i in range(11)], 1.0))
    programs = [(tick, content) for tick, content in events if content[0] >> 4 == 0xC]
    channels = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11)
    assert programs == [(960 * i, bytes([0xC0 | channel, 73 + i])) for i, channel in enumerate(channels)]


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "00"), (127, "7f"), (128, "8100"), (16383, "ff7f"), (2097152, "81808000")]
)
def test_numbers_ofvariable_length_are_those_of_the_standard(value, expected):
    assert variable_length(value).hex() == expected
