"""Read the properties of audio, and decode it in blocks or as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from keras_tagger.audio.levels import Meter
from keras_tagger.audio.readers import AudioSource, Waveform, check_rate, open_reader
from keras_tagger.audio.resample import resampled
from keras_tagger.audio.streams import audio_error
from keras_tagger.errors import AudioWarning


@dataclass(frozen=True)
class AudioInfo:
    """The properties of audio according to its header.

    Attributes:
        seconds: The length, or None if the header does not say.
        sample_rate: The rate in Hz.
        channels: The number of channels.
        format: Container and codec, such as "WAV PCM_16".

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


def seeks(found: AudioInfo) -> bool:
    """Return whether an excerpt takes the same time to decode wherever it begins.

    Ogg Vorbis, in which libsndfile seeks to wrong places, and what FFmpeg reads are decoded from the beginning of the
    file.

    Args:
        found: From `info`.

    Example:
        >>> seeks(info("song.mp3"))
        True
    """
    import soundfile

    container, _, codec = found.format.partition(" ")
    return container in soundfile.available_formats() and codec != "VORBIS"


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
    first = round(start_seconds * sample_rate)
    last = None if end_seconds is None else round(end_seconds * sample_rate)
    pieces = _excerpt(source, sample_rate, first, last, warnings)
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


def _excerpt(
    source: AudioSource, sample_rate: int, first: int, last: int | None, warnings: list[AudioWarning] | None
) -> Iterator[Waveform]:
    with open_reader(source, warnings) as reader:
        times = reader.sample_rate / sample_rate
        end = math.inf if last is None else last * times
        meter = Meter(reader.name, reader.sample_rate, first * times, end)
        yield from resampled(reader, sample_rate, first, last, meter)
