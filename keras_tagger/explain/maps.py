"""`Maps`: the result of a method, maps of a batch of windows on a grid of times and frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from keras_tagger.models.music_tagger import MusicTagger


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of a batch of windows of equal length.

    Attributes:
        values: float `[B, n_rows, T]`, or `[B, n_rows, F, T]` for maps over frequency.
        times: Centres of the columns in seconds from the window's start, float64 `[T]`.
        frequencies: Centres of the bands in Hz, float64 `[F]`, or None.
        scores: Tag probabilities, float `[B, n_rows]`, if the method computes them anyway.
        uniform: The value of attention to all moments alike, if the values are attention.
    """

    values: npt.NDArray[Any]
    times: npt.NDArray[Any]
    frequencies: npt.NDArray[Any] | None = None
    scores: npt.NDArray[Any] | None = None
    uniform: float | None = None


def of_tokens(model: MusicTagger, values: npt.NDArray[Any], scores: npt.NDArray[Any] | None = None) -> Maps:
    """Return maps over tokens from values `[B, n_rows, T]`."""
    return Maps(values, model.windowing.token_times(values.shape[-1]), scores=scores)


def of_input(model: MusicTagger, values: npt.NDArray[Any]) -> Maps:
    """Return maps over the front-end's input from values of shape `[B, n_rows, *shape of the input]`.

    A spectrogram keeps its frames and bands. The samples of a waveform are summed by token.
    """
    if not model.front_end.takes_waveform:
        times = model.spectrogram.frame_times(values.shape[2])
        return Maps(np.swapaxes(values, 2, 3), times, model.spectrogram.mel_frequencies())
    batch, rows, _ = values.shape
    return of_tokens(model, values.reshape(batch, rows, -1, model.token_samples).sum(axis=-1))
