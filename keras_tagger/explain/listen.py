"""The explained part of a clip as audio, and the rest."""

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
from keras_tagger.views.pages import render
from keras_tagger.views.player import audio_uri

N_FFT, HOP = 1024, 256
_BLOCK_SECONDS = 30.0


@dataclass(frozen=True, eq=False, repr=False)
class Heard:
    """The part of a clip that a map keeps, and the part that it removes; their sum is the clip.

    Attributes:
        kept: float32 `[samples]`.
        removed: float32 `[samples]`.
        sample_rate: Sample rate in Hz.

    Example:
        >>> heard = listen(heat, "song.mp3", "guitar")
        >>> heard.save("guitar_removed.wav", "removed")
    """

    kept: npt.NDArray[Any]
    removed: npt.NDArray[Any]
    sample_rate: int

    def save(self, path: str | os.PathLike[str], part: str = "kept") -> Path:
        """Write a part as a 16-bit WAV file, atomically; samples beyond full scale are clipped.

        Args:
            path: Path that ends in .wav.
            part: "kept" or "removed".

        Returns:
            The path.

        Raises:
            ModelError: If the path does not end in .wav, or `part` is something else.

        Example:
            >>> listen(heat, "song.mp3", "guitar").save("guitar.wav")
        """
        import soundfile

        target = Path(path)
        if target.suffix.lower() != ".wav":
            raise ModelError(f"expected a path that ends in .wav. Received: {str(target)!r}.")
        if part not in ("kept", "removed"):
            raise ModelError(f"part: expected kept or removed. Received: {part!r}.")
        with replacing(target) as temporary:
            samples = np.clip(getattr(self, part), -1.0, 1.0)
            # soundfile cannot encode a path that is not UTF-8.
            soundfile.write(os.fsencode(temporary), samples, self.sample_rate, format="WAV", subtype="PCM_16")
        return target

    def __repr__(self) -> str:
        seconds = len(self.kept) / self.sample_rate
        return f"Heard({seconds:.2f} s at {self.sample_rate} Hz, kept and removed)"

    def _repr_html_(self) -> str:
        players = {part: audio_uri(getattr(self, part), self.sample_rate) for part in ("kept", "removed")}
        return render("heard.html.j2", players=players)


def listen(
    heatmap: Heatmap, audio: AudioSource, tag: str | None = None, share: float = 0.25, sample_rate: int = 16000
) -> Heard:
    """Extract the part of the audio that a map marks as decisive.

    The linear STFT is masked by the map and inverted with the original phase. The mask is 1 in the highest `share` of
    the map's cells, as far as they are above zero, and 0 elsewhere; a map over time keeps all frequencies of its
    columns. Mask and complement add up to 1, so the two parts add up to the clip.

    Args:
        heatmap: A map of that audio.
        audio: A path, the bytes of an encoded file, or `(array, sample_rate)`.
        tag: Row of the map; may be None if the map has only one.
        share: Share of the map's cells to keep, above 0 and at most 1.
        sample_rate: Sample rate of the result in Hz.

    Raises:
        ModelError: If the map has no such row, if it has several and `tag` is None, or if `share` is out of range.
        AudioError: If the audio cannot be decoded.
        AudioNotFoundError: If the file does not exist.

    Example:
        >>> heat = tagger.explain("song.mp3", tags=["guitar"])
        >>> listen(heat, "song.mp3", share=0.1).save("guitar.wav")
    """
    if tag is None:
        if len(heatmap.tags) > 1:
            raise ModelError(f"tag: expected one of {', '.join(heatmap.tags)}. Received: None.")
        tag = heatmap.tags[0]
    if not 0 < share <= 1:
        raise ModelError(f"share: expected a number above 0 and up to 1. Received: {share!r}.")
    chosen = highest(heatmap.row(tag), share)
    # What a listener must know about the audio is in `heatmap.warnings`.
    waveform = audio_module.load(audio, sample_rate, warnings=[])
    kept = np.concatenate(list(_masked(waveform, chosen, heatmap, sample_rate)))
    return Heard(kept, waveform - kept, sample_rate)


def highest(values: npt.NDArray[Any], share: float) -> npt.NDArray[Any]:
    """Return which cells are both above zero and in the highest `share`, bool of the same shape."""
    count = max(round(share * values.size), 1)
    border = np.partition(values, -count, axis=None)[-count]
    return (values >= border) & (values > 0)


def _masked(
    waveform: npt.NDArray[Any], chosen: npt.NDArray[Any], heatmap: Heatmap, sample_rate: int
) -> Iterator[npt.NDArray[Any]]:
    """Yield the kept part in blocks, so that the STFT of a long track is never in memory as a whole."""
    grid = chosen[np.newaxis].astype(np.float64) if heatmap.frequencies is None else chosen.astype(np.float64)
    bins = np.zeros(N_FFT // 2 + 1, int)
    if heatmap.frequencies is not None:
        borders = column_edges(heatmap.frequencies)[1:-1]
        bins = np.searchsorted(borders, np.fft.rfftfreq(N_FFT, 1 / sample_rate))
    block = round(_BLOCK_SECONDS * sample_rate / HOP) * HOP
    # Every sample is covered by four frames; frames across a block's ends need samples of its neighbours.
    padded = np.pad(waveform, (N_FFT, N_FFT + HOP))
    for start in range(0, len(waveform), block):
        end = min(start + block, len(waveform))
        piece = padded[start : end + 2 * N_FFT]
        n_frames = (len(piece) - N_FFT) // HOP + 1
        centres = (start - N_FFT + np.arange(n_frames) * HOP + N_FFT / 2) / sample_rate
        mask = np.stack([at_times(row, heatmap.times, centres) for row in grid])[bins]
        frames = np.lib.stride_tricks.sliding_window_view(piece, N_FFT)[::HOP][:n_frames]
        # Applied twice, the square root of a Hann window adds up to 2 at a hop of a quarter.
        window = np.sin(np.pi * (np.arange(N_FFT) + 0.5) / N_FFT)
        spectrum = np.fft.rfft(frames * window, axis=1) * mask.T
        back = np.fft.irfft(spectrum, N_FFT, axis=1) * window / 2
        joined = np.zeros((n_frames - 1) * HOP + N_FFT)
        for index in range(n_frames):
            joined[index * HOP : index * HOP + N_FFT] += back[index]
        yield joined[N_FFT : N_FFT + end - start].astype(np.float32)
