"""General MIDI instruments: kinds of programs, and the notes that an instrument plays.

A program is a General MIDI number from 0. Drum kits of channel 10 have numbers from `DRUMS` on.
"""

from __future__ import annotations

import dataclasses

# Numbers of kits of channel 10 begin here, so that one number identifies a program or kit.
DRUMS = 128
# Pitches of channel 10.
CYMBALS = (49, 57)

Note = tuple[float, float, int, int]  # start and end in seconds, pitch, velocity
Line = list[tuple[float, float, int]]  # start, end, pitch


@dataclasses.dataclass(frozen=True)
class Kind:
    """Programs that are played in the same way.

    Attributes:
        programs: General MIDI programs from 0, as often as they are named.
        low, high: MIDI pitches that the instrument has.
        melodic: plays one line rather than chords.
        decays: a note is heard as long as it is held; others have a release.
    """

    programs: tuple[int, ...]
    low: int
    high: int
    melodic: bool = False
    decays: bool = False


KINDS = {
    "piano": Kind((0, 0, 1), 28, 98, decays=True),
    "harpsichord": Kind((6,), 36, 86, decays=True),
    "guitar": Kind((24, 24, 25, 25, 26, 27, 27, 28, 29, 29, 30, 30), 40, 83, decays=True),
    "violin": Kind((40,), 55, 96, melodic=True),
    "cello": Kind((42,), 36, 74, melodic=True),
    "strings": Kind((48, 48, 48, 49, 49, 44, 45), 36, 90),
    "harp": Kind((46,), 31, 96, decays=True),
    "choir": Kind((52, 53), 45, 81),
    "flute": Kind((73,), 60, 94, melodic=True),
    "sitar": Kind((104,), 45, 79, decays=True),
    "synth": Kind((80, 81, 81, 82, 83, 84, 86, 87, 88, 89, 90, 90, 92, 93, 94, 95, 62, 63), 40, 88),
    "synth bass": Kind((38, 39), 28, 60, melodic=True),
    # The following are not tags, or not certainly.
    "electric piano": Kind((2, 3, 4, 5), 28, 98, decays=True),
    "clavinet": Kind((7,), 36, 86, decays=True),
    "bells": Kind((8, 9, 10, 11, 14), 60, 98, decays=True),
    "mallets": Kind((12, 13, 15, 108), 48, 92, decays=True),
    "organ": Kind((16, 17, 18, 19, 20), 36, 90),
    "accordion": Kind((21, 22, 23), 48, 88),
    "bass": Kind((32, 32, 33, 34, 35, 36), 28, 58, melodic=True, decays=True),
    "viola": Kind((41,), 48, 84, melodic=True),
    "contrabass": Kind((43,), 28, 58, melodic=True),
    "fiddle": Kind((110,), 55, 90, melodic=True),
    "synth strings": Kind((50, 51), 36, 90),
    "synth voice": Kind((54, 85, 91), 45, 84),
    "brass": Kind((56, 57, 58, 59, 60, 61), 40, 82, melodic=True),
    "saxophone": Kind((64, 65, 66, 67), 44, 84, melodic=True),
    "reeds": Kind((68, 69, 70, 71, 71, 111), 50, 86, melodic=True),
    "pipes": Kind((72, 74, 75, 77, 78, 79), 62, 96, melodic=True),
    "plucked": Kind((105, 106, 107), 48, 84, decays=True),
    "steel drums": Kind((114,), 52, 84, decays=True),
}


@dataclasses.dataclass
class Instrument:
    """An instrument and the notes that it plays.

    Attributes:
        program: General MIDI program from 0, or `DRUMS` plus a kit.
        notes: sorted by start; no pitch sounds twice at a time.
        level_db: level relative to the loudest instrument's, RMS of the louder passages.
        decays: notes have no release.
        controls: MIDI controllers and their values.
        generators: SoundFont generators by number and what is added to each, in the generator's own unit.
        key_shift: semitones by which a note's key is above its pitch.
    """

    program: int
    notes: list[Note]
    level_db: float = 0.0
    decays: bool = False
    controls: dict[int, int] = dataclasses.field(default_factory=dict)
    generators: dict[int, int] = dataclasses.field(default_factory=dict)
    key_shift: int = 0
