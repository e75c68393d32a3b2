"""musicnn's wheel, its recorded outputs, and musicnn with random weights.

The wheel is looked for where KERAS_TAGGER_MUSICNN_WHEEL says, else in data/teacher; nothing is downloaded.
teachers/data/musicnn.txt says how the recorded outputs were made.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from keras_tagger.teachers import musicnn

ROOT = Path(__file__).parents[1]
CLIPS = Path(str(resources.files("keras_tagger") / "clips"))
RECORDED = ROOT / "tests/teachers/data"
WHEEL = Path(os.environ.get(musicnn.WHEEL_VARIABLE) or ROOT / "data/teacher" / musicnn.WHEEL)
needs_wheel = pytest.mark.skipif(
    not WHEEL.is_file(),
    reason=f"expected {musicnn.WHEEL} in data/teacher, or where {musicnn.WHEEL_VARIABLE} says "
    "(pip download musicnn==0.1.0 --no-deps)",
)


def random_network() -> musicnn.Musicnn:
    """Build musicnn with random weights, half of its batch normalisations' scales below zero."""
    model = musicnn.build_model()
    tiny.randomize(model)
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if weight.name == "gamma" and len(weight.shape) and weight.shape[0] > 1:
            weight.assign(weight.numpy() * rng.choice([-1.0, 1.0], weight.shape))
    return musicnn.Musicnn("MTT", model)


def sigmoid(x: np.ndarray) -> np.ndarray[Any, Any]:
    return 1.0 / (1.0 + np.exp(-x.astype(np.float64)))
