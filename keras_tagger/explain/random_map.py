"""A map that knows nothing, to measure others against."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.explain.maps import Maps, of_tokens
from keras_tagger.models.music_tagger import MusicTagger


def random(model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], *, seed: int) -> Maps:
    """Numbers drawn evenly from 0..1 for each token, the same for the same audio, tag and seed."""
    tokens = model.n_tokens(waveforms.shape[1])
    values = [
        [np.random.default_rng([seed, zlib.crc32(wave.tobytes()), row]).random(tokens) for row in rows]
        for wave in waveforms
    ]
    return of_tokens(model, np.array(values))
