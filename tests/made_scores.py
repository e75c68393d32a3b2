"""Shared by the tests of tools/pretrain's scores: made pieces, instruments, and whether fluidsynth is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pretrain.score_instruments import Instrument
from pretrain.score_pieces import work_of
from pretrain.score_soundfonts import SOUNDFONTS

FOLDER = Path("/usr/share/sounds")
missing = [name for name, path in SOUNDFONTS.items() if not (FOLDER / path).is_file()]
needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or bool(missing),
    reason=f"expected fluidsynth and, in {FOLDER}, {', '.join(SOUNDFONTS.values())}",
)


def instrument(program, *notes, decays=False):
    """Return an instrument with notes given as (start, end) of middle C, or in full."""
    return Instrument(program, [note if len(note) == 4 else (*note, 60, 90) for note in notes], decays=decays)


def made_piece(name, n_parts=4, n_notes=64):
    rng = np.random.default_rng(len(name))
    parts = [
        [[i * 1.0, 1.0, int(72 - 8 * part + rng.integers(0, 8))] for i in range(n_notes)] for part in range(n_parts)
    ]
    return {"piece": name, "work": work_of(name), "parts": parts}


PIECES = [made_piece(f"bach/bwv{i}.mxl", 1 + i % 5, 20 + 10 * i) for i in range(1, 9)]
