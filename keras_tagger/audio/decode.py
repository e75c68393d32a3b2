"""Read the properties of audio, and decode it in blocks or as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from keras_tagger.audio.levels import Meter
from keras_tagger.audio.readers import PIECE_SAMPLES, AudioSource, Waveform, check_rate, open_reader
from keras_tagger.audio.streams import audio_error
from keras_tagger.errors import AudioWarning

# Also decoded before and after an excerpt, for the resampler's filter and because lossy decoders need time to settle.
_MARGIN_SECONDS = 0.1


@dataclass(frozen=True)
class AudioInfo:
    """The properties of audio according to its header.

    Attributes:
        seconds: The length, or None if the header does not say.
        sample_rate: The rate in Hz.
        channels: The number of channels.
        format: Container and coding, such as "WAV PCM_16".

    Example:
        >>> info("song.wav").format
        'WAV PCM_16'
    """

    seconds: float | None
    sample_rate: int
    channels: int
    format: str


def info(source: AudioSource) -> AudioInfo:
    """Read the length, rate, channels and format of audio without decoding it.

    Args:
        source: A path, an encoded file's bytes, or `(array, sample_rate)`; see `AudioSource`.

    Raises:
        AudioNotFoundError: If the file does not exist.
        AudioError: If `source` is not audio, empty, or visibly truncated.

    Example:
        >>> info("song.mp3").seconds
        215.3
    """
    with open_reader(source) as reader:
        seconds = None if reader.frames is None else reader.frames / reader.sample_rate
        return AudioInfo(seconds, reader.sample_rate, reader.channels, reader.format)


def blocks(
    source: AudioSource,
    sample_rate: int = 16000,
    block_seconds: float = 30.0,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    warnings: list[AudioWarning] | None = None,
) -> Iterator[Waveform]:
    """Decode audio, mix its channels and resample it, block by block, in constant memory.

    `n` samples at rate `r` become `ceil(n * sample_rate / r)` samples. Up to float32 rounding, an excerpt equals the
    slice of the whole from `round(start_seconds * sample_rate)` to `round(end_seconds * sample_rate)`. Values outside
    -1..1 are not clipped.

    Args:
        source: A path, an encoded file's bytes, or `(array, sample_rate)`; see `AudioSource`.
        sample_rate: The rate of the blocks in Hz.
        block_seconds: The length of a block.
        start_seconds: The start of the excerpt.
        end_seconds: The end of the excerpt; None, or a time after the end of the audio, for the end of the audio.
        warnings: A list that gets an `AudioWarning` for whatever a listener must know, at the latest with the last
            block. None: each is issued with `warnings.warn`.

    Returns:
        Blocks of float32 `[samples]`, of which the last may be shorter. Together they have at least one sample.

    Raises:
        AudioNotFoundError: If the file does not exist.
        AudioError: If `source` is not audio, empty, truncated, corrupt or not finite, or the excerpt is not in it. An
            invalid argument is refused at once, a bad source at the first block, and damage when decoding reaches it.

    Example:
        >>> sum(len(block) for block in blocks("song.mp3", block_seconds=10.0))
        3444800
    """
    check_rate(sample_rate, "sample_rate")
    if not (math.isfinite(block_seconds) and block_seconds > 0):
        raise audio_error("block_seconds above 0", repr(block_seconds))
    if not (math.isfinite(start_seconds) and start_seconds >= 0):
        raise audio_error("start_seconds of 0 or more", repr(start_seconds))
    if end_seconds is not None and not (
        math.isfinite(end_seconds) and round(end_seconds * sample_rate) > round(start_seconds * sample_rate)
    ):
        raise audio_error(f"end_seconds after start_seconds={start_seconds!r}", repr(end_seconds))
    pieces = _resampled(source, sample_rate, start_seconds, end_seconds, warnings)
    return _reblocked(pieces, max(1, round(block_seconds * sample_rate)))


def load(
    source: AudioSource,
    sample_rate: int = 16000,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    warnings: list[AudioWarning] | None = None,
) -> Waveform:
    """Decode audio or an excerpt of it to one waveform; see `blocks`.

    Args:
        source: As in `blocks`.
        sample_rate: As in `blocks`.
        start_seconds: As in `blocks`.
        end_seconds: As in `blocks`.
        warnings: As in `blocks`.

    Returns:
        Mono audio, float32 `[samples]`.

    Raises:
        AudioError: As in `blocks`.
        AudioNotFoundError: As in `blocks`.

    Example:
        >>> load("song.mp3", start_seconds=30.0, end_seconds=40.0).shape
        (160000,)
    """
    parts = list(blocks(source, sample_rate, start_seconds=start_seconds, end_seconds=end_seconds, warnings=warnings))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _reblocked(pieces: Iterable[Waveform], size: int) -> Iterator[Waveform]:
    """Regroup pieces of any length into blocks of `size` samples and a shorter last one."""
    held: list[Waveform] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= size:
            joined = np.concatenate(held)
            whole = count - count % size
            yield from (joined[i : i + size] for i in range(0, whole, size))
            held, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(held)


def _resampled(
    source: AudioSource,
    sample_rate: int,
    start_seconds: float,
    end_seconds: float | None,
    warnings: list[AudioWarning] | None,
) -> Iterator[Waveform]:
    """Decode and resample an excerpt in pieces.

    Input and output samples coincide every 1/gcd(rates) seconds. Decoding begins at such a place before the excerpt and
    ends after it, so that the samples of an excerpt are those of the whole signal.
    """
    import soxr

    first = round(start_seconds * sample_rate)
    last = None if end_seconds is None else round(end_seconds * sample_rate)
    with open_reader(source, warnings) as reader:

        def output_length(frames: int) -> int:
            return -(-frames * sample_rate // reader.sample_rate)

        def check_start(frames: int) -> None:
            if first >= output_length(frames):
                seconds = frames / reader.sample_rate
                raise audio_error(
                    f"start_seconds before the end of {reader.name} at {seconds:.3f} s", repr(start_seconds)
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
        meter = Meter(reader.mixer, first / sample_rate * reader.sample_rate, limit / sample_rate * reader.sample_rate)
        position = steps * (sample_rate // common)
        ended = False
        while not ended and position < limit:
            wanted = int(min(max(1, PIECE_SAMPLES // reader.channels // grid) * grid, stop - reader.position))
            piece = reader.read(wanted)
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
            if ended or position >= limit:
                meter.report(reader.warn)
            piece = piece[max(0, first - start) : max(0, int(min(limit, position)) - start)]
            if len(piece):
                yield piece
