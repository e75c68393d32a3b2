"""What a method gives: values of a batch of windows on their grid of times and frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from keras_tagger.models.music_tagger import MusicTagger


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of a batch of windows of one length.

    Attributes:
        values: float [B, n_rows, T], or [B, n_rows, F, T] where there are frequencies.
        times: float64 [T], centres of the columns, seconds from the window's start.
        frequencies: float64 [F], centres of the bands in Hz, or None.
    """

    values: npt.NDArray[Any]
    times: npt.NDArray[Any]
    frequencies: npt.NDArray[Any] | None = None


def of_tokens(model: MusicTagger, values: npt.NDArray[Any]) -> Maps:
    """Maps over tokens, from values [B, n_rows, T]."""
    return Maps(values, model.token_times(values.shape[-1]))


def of_input(model: MusicTagger, values: npt.NDArray[Any]) -> Maps:
    """Maps over what the front-end sees, from values [B, n_rows, frames, n_mels]; of samples, their sums by token."""
    if not model.front_end.takes_waveform:
        times = model.spectrogram.frame_times(values.shape[2])
        return Maps(np.swapaxes(values, 2, 3), times, model.spectrogram.mel_frequencies())
    batch, rows, _ = values.shape
    return of_tokens(model, values.reshape(batch, rows, -1, model.token_samples).sum(axis=-1))
