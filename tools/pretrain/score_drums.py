"""Drum kits of channel 10, and patterns of several styles."""

from __future__ import annotations

import math

import numpy as np

from pretrain.score_instruments import CYMBALS, Line

KITS = (0, 0, 0, 8, 16, 24, 25, 32, 40)
# The hits of drums of channel 10 on the sixteenths of a bar (the waltz has twelve); upper case is louder.
_KICK, _SNARE, _SIDE, _CLAP, _CLOSED, _OPEN, _RIDE = 36, 38, 37, 39, 42, 46, 51
_STYLES: dict[str, dict[int, str]] = {
    "rock": {_KICK: "X.......X.x.....", _SNARE: "....X.......X...", _CLOSED: "X.x.x.x.X.x.x.x."},
    "ballad": {_KICK: "X.........x.....", _SIDE: "........X.......", _RIDE: "x...x...x...x..."},
    "techno": {
        _KICK: "X...X...X...X...",
        _CLAP: "....X.......X...",
        _OPEN: "..x...x...x...x.",
        _CLOSED: "xxxxxxxxxxxxxxxx",
    },
    "funk": {_KICK: "X..x..x...X..x..", _SNARE: "....X..x.x..X...", _CLOSED: "x.xxx.x.x.xxx.x."},
    "swing": {_RIDE: "X...x..xX...x..x", 44: "....x.......x...", _KICK: "x.......x.......", _SIDE: "...........x...."},
    "march": {_SNARE: "X..xx.x.X..xxxxx", _KICK: "X.......X......."},
    "latin": {_KICK: "X..x..x.X..x..x.", _SIDE: "X..x..x...x.x...", 63: "..x...xx..x...xx", 70: "x.xxx.xxx.xxx.xx"},
    "hand drums": {63: "X..x..x...x.x...", 60: "..x..x.xx..x.x.x", 64: "....X.......X.xx", 54: "x...x...x...x..."},
    "waltz": {_KICK: "X...........", _SNARE: "....x...x...", _CLOSED: "x...x.x.x.x."},
}


def drum_pattern(beat: float, seconds: float, rng: np.random.Generator) -> Line:
    """Play drums of one style from the first beat on, with fills and occasionally without a hit."""
    while beat > 0.85:
        beat /= 2
    while beat < 0.375:
        beat *= 2
    style = _STYLES[str(rng.choice(sorted(_STYLES)))]
    steps = len(next(iter(style.values())))
    step = beat / 4
    hits: Line = []
    for bar in range(math.ceil(seconds / (steps * step))):
        fill = bar % 4 == 3 and rng.random() < 0.6
        for pitch, pattern in style.items():
            for i, mark in enumerate(pattern):
                if mark == "." or (fill and i >= steps // 2) or (mark == "x" and rng.random() < 0.06):
                    continue
                # A weak hit is shorter, and `score_plan` plays it more softly.
                start = (bar * steps + i) * step
                hits.append((start, start + (0.12 if mark == "X" else 0.08), pitch))
        if fill:
            for i in range(steps // 2, steps):
                if rng.random() < 0.75:
                    start = (bar * steps + i) * step
                    hits.append((start, start + 0.12, int(rng.choice([38, 50, 48, 45, 41]))))
        if bar % 4 == 0 and rng.random() < 0.5:
            hits.append((bar * steps * step, bar * steps * step + 0.12, int(rng.choice(CYMBALS))))
    return [hit for hit in hits if hit[1] < seconds]
