"""The explained part of a clip as audio, and what is left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger import audio as audio_module
from keras_tagger.audio import AudioSource
from keras_tagger.errors import ModelError
from keras_tagger.explain.localization import at_times
from keras_tagger.files import replacing
from keras_tagger.heatmap import Heatmap, column_edges

N_FFT, HOP = 1024, 256
_BLOCK_SECONDS = 30.0


@dataclass(frozen=True, eq=False)
class Heard:
    """What a map keeps of a clip, and what it leaves out; their sum is the clip.

    Attributes:
        kept, removed: float32 [samples].
        sample_rate: Hz.
    """

    kept: npt.NDArray[Any]
    removed: npt.NDArray[Any]
    sample_rate: int

    def save(self, path: str | os.PathLike[str], part: str = "kept") -> Path:
        """Write a part as a 16-bit wav file, whole or not at all; louder than full scale is clipped.

        Raises:
            ModelError: a path that does not end in .wav, or a part that is neither "kept" nor "removed".
        """
        import soundfile

        target = Path(path)
        if target.suffix.lower() != ".wav":
            raise ModelError(f"expected a path that ends in .wav for audio. Received: {str(target)!r}.")
        if part not in ("kept", "removed"):
            raise ModelError(f"part: expected kept or removed. Received: {part!r}.")
        with replacing(target) as temporary:
            soundfile.write(temporary, np.clip(getattr(self, part), -1.0, 1.0), self.sample_rate, subtype="PCM_16")
        return target


def listen(
    heatmap: Heatmap, audio: AudioSource, tag: str | None = None, share: float = 0.25, sample_rate: int = 16000
) -> Heard:
    """Hear what a map says was decisive: the linear STFT is masked by it and inverted with the original phase.

    The mask is 1 in the highest `share` of the map's cells that are above zero and 0 elsewhere, read off at each STFT
    bin (a map over time keeps all bins of its moments). Mask and complement add up to 1, so the two parts add up to
    the clip.

    Args:
        heatmap: of that audio.
        audio: as of `Tagger`.
        tag: the row; None for a map of one row.
        share: of the map's cells that are kept, above 0 to 1.
        sample_rate: of the result, Hz.

    Raises:
        ModelError: a row that is not there, no row where there are several, or a share outside its range.
        AudioError, AudioNotFoundError: audio that cannot be used.
    """
    if tag is None:
        if len(heatmap.tags) > 1:
            raise ModelError(f"tag: expected one of {', '.join(heatmap.tags)}. Received: None.")
        tag = heatmap.tags[0]
    if not 0 < share <= 1:
        raise ModelError(f"share: expected a number above 0 and up to 1. Received: {share!r}.")
    chosen = highest(heatmap.row(tag), share)
    waveform = audio_module.load(audio, sample_rate)
    kept = np.concatenate([part for part in _masked(waveform, chosen, heatmap, sample_rate)])
    return Heard(kept, waveform - kept, sample_rate)


def highest(values: npt.NDArray[Any], share: float) -> npt.NDArray[Any]:
    """The highest `share` of the cells, and only those above zero, bool of the same shape."""
    count = max(round(share * values.size), 1)
    border = np.partition(values, -count, axis=None)[-count]
    return (values >= border) & (values > 0)


def _masked(
    waveform: npt.NDArray[Any], chosen: npt.NDArray[Any], heatmap: Heatmap, sample_rate: int
) -> Iterator[npt.NDArray[Any]]:
    """The kept part, in blocks, so that the STFT of a long track is never there as a whole."""
    grid = chosen[np.newaxis].astype(np.float64) if heatmap.frequencies is None else chosen.astype(np.float64)
    bins = np.zeros(N_FFT // 2 + 1, int)
    if heatmap.frequencies is not None:
        borders = column_edges(heatmap.frequencies)[1:-1]
        bins = np.searchsorted(borders, np.fft.rfftfreq(N_FFT, 1 / sample_rate))
    block = round(_BLOCK_SECONDS * sample_rate / HOP) * HOP
    # Every sample lies under four frames; those over a block's ends come from its neighbours' samples, too.
    padded = np.pad(waveform, (N_FFT, N_FFT + HOP))
    for start in range(0, len(waveform), block):
        end = min(start + block, len(waveform))
        piece = padded[start : end + 2 * N_FFT]
        n_frames = (len(piece) - N_FFT) // HOP + 1
        centres = (start - N_FFT + np.arange(n_frames) * HOP + N_FFT / 2) / sample_rate
        mask = np.stack([at_times(row, heatmap.times, centres) for row in grid])[bins]
        frames = np.lib.stride_tricks.sliding_window_view(piece, N_FFT)[::HOP][:n_frames]
        # The square root of a Hann window, twice, adds up to 2 at a quarter's hop.
        window = np.sin(np.pi * (np.arange(N_FFT) + 0.5) / N_FFT)
        spectrum = np.fft.rfft(frames * window, axis=1) * mask.T
        back = np.fft.irfft(spectrum, N_FFT, axis=1) * window / 2
        joined = np.zeros((n_frames - 1) * HOP + N_FFT)
        for index in range(n_frames):
            joined[index * HOP : index * HOP + N_FFT] += back[index]
        yield joined[N_FFT : N_FFT + end - start].astype(np.float32)
