"""Resample what a reader decodes, in pieces and with exact lengths."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_tagger.audio.levels import Meter
from keras_tagger.audio.streams import audio_error

Waveform: TypeAlias = npt.NDArray[np.float32]

PIECE_SAMPLES = 1 << 18  # decoded at a time, summed over channels

# Also decoded before and after an excerpt, for the resampler's filter and because lossy decoders need time to settle.
_MARGIN_SECONDS = 0.1


class Source(Protocol):
    """What can be resampled; see `readers.Reader`."""

    name: str
    sample_rate: int
    channels: int
    frames: int | None
    position: int
    piece_samples: int

    @property
    def cancelled(self) -> list[tuple[float, float]]:
        """The times, in seconds, at which channels that cancel each other were decoded."""

    def warn(self, kind: str, message: str) -> None:
        """Report what a listener must know."""

    def skip(self, frames: int) -> None:
        """Skip from the beginning to frame `frames`, or to the end if that comes first."""

    def read(self, frames: int) -> Waveform:
        """Decode `frames` samples of mono float32, or fewer at the end."""


def resampled(
    reader: Source, sample_rate: int, first: int = 0, last: int | None = None, meter: Meter | None = None
) -> Iterator[Waveform]:
    """Decode and resample an excerpt in pieces.

    Input and output samples coincide every 1/gcd(rates) seconds. Decoding begins at such a place before the excerpt and
    ends after it, so that the samples of an excerpt are those of the whole signal.

    Args:
        reader: An open source at its beginning.
        sample_rate: The rate of the pieces in Hz.
        first: The first sample at that rate.
        last: The sample behind the last one; None for the end.
        meter: Measures what is decoded, and reports to the reader before the last piece.

    Raises:
        AudioError: If the audio ends before `first`.
    """
    import soxr

    def output_length(frames: int) -> int:
        return -(-frames * sample_rate // reader.sample_rate)

    def check_start(frames: int) -> None:
        if first >= output_length(frames):
            seconds = frames / reader.sample_rate
            raise audio_error(
                f"start_seconds before the end of {reader.name} at {seconds:.3f} s", repr(first / sample_rate)
            )

    if reader.frames is not None:
        check_start(reader.frames)
    common = math.gcd(reader.sample_rate, sample_rate)
    steps = max(0, first * common // sample_rate - math.ceil(_MARGIN_SECONDS * common))
    # Channels are mixed by whole seconds, so that an excerpt is mixed like the whole.
    grid = reader.sample_rate if reader.channels > 1 else 1
    steps -= steps % common if grid > 1 else 0
    reader.skip(steps * (reader.sample_rate // common))
    stop: float = math.inf
    if last is not None:
        stop = -(-last * reader.sample_rate // sample_rate) + math.ceil(_MARGIN_SECONDS * reader.sample_rate)
        stop = -(-stop // grid) * grid
    resampler = None
    if reader.sample_rate != sample_rate:
        resampler = soxr.ResampleStream(reader.sample_rate, sample_rate, 1, dtype="float32", quality="HQ")
    limit: float = math.inf if last is None else last
    position = steps * (sample_rate // common)
    ended = False
    while not ended and position < limit:
        wanted = int(min(max(1, round(reader.piece_samples / reader.channels / grid)) * grid, stop - reader.position))
        piece = reader.read(wanted)
        if meter is not None:
            meter.add(piece, reader.position - len(piece))
        ended = len(piece) < wanted or reader.position >= stop
        if len(piece) < wanted:
            check_start(reader.position)
            limit = min(limit, output_length(reader.position))
        if resampler is not None:
            if ended:
                # soxr rounds the length to the nearest sample; appended silence makes it always long enough.
                silence = math.ceil(reader.sample_rate / sample_rate) + 1
                piece = np.pad(piece, (0, silence))
            piece = resampler.resample_chunk(piece, last=ended)
        start, position = position, position + len(piece)
        if meter is not None and (ended or position >= limit):
            meter.report(reader.warn, reader.cancelled)
        piece = piece[max(0, first - start) : max(0, int(min(limit, position)) - start)]
        if len(piece):
            yield piece
