"""Levels: when audio is silent, when its channels cancel each other, and when its samples are out of range.

This module owns these decisions. `keras_tagger.export.levels` repeats the first two in TensorFlow's graph, with the
same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from keras_tagger.audio.streams import audio_error

# Half the distance between the highest and the lowest sample: two steps of 16-bit audio, -84 dBFS. Digital silence,
# dither and a constant offset stay below it.
SILENT_PEAK = 2 / 2**15
# The channels of a second cancel each other if their sum has less than this share of the loudest channel's power. The
# mean of two channels then has less than a twentieth (-13 dB) of it: the channels are as good as inverted, even after
# lossy coding. In wide stereo the mean has more.
CANCELLED_SHARE = 1 / 5
# A clip that peaks above is of integers stored as floats. A clip that peaks below (-46 dBFS) gets about the tags that a
# model gives to silence; 24-bit integers in an int32 array peak at 1/256.
LOUDEST_PEAK = 8.0
QUIETEST_PEAK = 1 / 200

_STEP = 16
_SHOWN = 3  # places in a message

Samples = npt.NDArray[np.float32]


class Mixer:
    """Mixes channels to mono: their mean, or one of them in each second in which they cancel each other.

    Seconds count from the first frame. A piece that begins or ends within one is judged by what it holds.

    Args:
        sample_rate: The rate in Hz.
        cancelled: A list that gets the times at which one channel was used, in seconds, in order.
        start_seconds: The time of the first frame.
    """

    def __init__(self, sample_rate: int, cancelled: list[tuple[float, float]], start_seconds: float = 0.0) -> None:
        self._rate = sample_rate
        self._cancelled = cancelled
        self._start_seconds = start_seconds

    def mix(self, samples: Samples, position: int) -> Samples:
        """Mix float32 `[frames, channels]` from frame `position` to float32 `[frames]`."""
        channels = samples.shape[1]
        if channels == 1:
            return np.ascontiguousarray(samples[:, 0])
        with np.errstate(over="ignore", invalid="ignore"):
            # Adding columns is several times faster than mean(axis=1) over so short an axis.
            mono = samples[:, 0] + samples[:, 1]
            for channel in range(2, channels):
                mono += samples[:, channel]
            end = position
            while end < position + len(samples):
                start, end = end, min((end // self._rate + 1) * self._rate, position + len(samples))
                part = slice(start - position, end - position)
                chosen = _uncancelled(samples[part], mono[part])
                if chosen is not None:
                    # Times the number of channels, because everything is divided by it below.
                    np.multiply(samples[part, chosen], np.float32(channels), out=mono[part])
                    self._note(start, end)
            mono /= np.float32(channels)
        return mono

    def _note(self, first: int, last: int) -> None:
        start, end = (self._start_seconds + frame / self._rate for frame in (first, last))
        if self._cancelled:
            # A frame may be decoded twice, and rounding must not leave a gap.
            begun, until = self._cancelled[-1]
            if start <= until + 1e-6:
                self._cancelled[-1] = (begun, max(until, end))
                return
        self._cancelled.append((start, end))


def _uncancelled(samples: Samples, total: Samples) -> int | None:
    """Return the channel to use if the channels cancel each other, else None; `total` is their sum."""
    # A few samples show at little cost that nearly all audio is far from the limit; the power of all channels together
    # is at least that of the loudest.
    few, few_totals = samples[::_STEP], total[::_STEP]
    if np.einsum("i,i->", few_totals, few_totals) > 2 * CANCELLED_SHARE * np.einsum("ij,ij->", few, few):
        return None
    powers = np.einsum("ij,ij->j", samples, samples)
    cancelled = np.einsum("i,i->", total, total) < CANCELLED_SHARE * powers.max()
    if not cancelled or np.abs(samples).max() <= SILENT_PEAK:
        return None
    # The first of those that are about as loud as the loudest: the same one from second to second.
    return int(np.argmax(powers >= powers.max() / 2))


class Meter:
    """Measures mixed audio piece by piece, and says what a listener must know about it.

    Args:
        name: The source, for messages.
        sample_rate: Its rate in Hz.
        start: The first frame that counts.
        end: The frame at which the counting stops; may be infinite.
    """

    def __init__(self, name: str, sample_rate: int, start: float = 0, end: float = math.inf) -> None:
        self._name = name
        self._rate = sample_rate
        self._start, self._end = start, end
        self._frames = 0
        self._lowest, self._highest = math.inf, -math.inf

    def add(self, samples: Samples, position: int) -> None:
        """Measure the samples, float32 `[n]`, that begin at frame `position`.

        Raises:
            AudioError: If one is not finite, even outside the frames that count.
        """
        if not len(samples):
            return
        with np.errstate(invalid="ignore"):
            lowest, highest = float(samples.min()), float(samples.max())
        if not math.isfinite(highest - lowest):
            seconds = (position + int(np.argmin(np.isfinite(samples)))) / self._rate
            raise audio_error("finite samples", f"{self._name}, with NaN or infinity at {seconds:.3f} s")
        first, last = max(self._start - position, 0), max(min(self._end - position, len(samples)), 0)
        counted = samples[round(first) : round(last)]
        if not len(counted):
            return
        if len(counted) < len(samples):
            lowest, highest = float(counted.min()), float(counted.max())
        self._frames += len(counted)
        self._lowest, self._highest = min(self._lowest, lowest), max(self._highest, highest)

    def report(self, warn: Callable[[str, str], None], cancelled: Sequence[tuple[float, float]]) -> None:
        """Call `warn` with the kind and the message of each `AudioWarning`.

        Args:
            warn: Such as `Reader.warn`.
            cancelled: The times, in seconds, at which channels that cancel each other were decoded.
        """
        excerpt = f" from {self._start / self._rate:.3f} s" if self._start > 0 else ""
        excerpt += f" to {self._end / self._rate:.3f} s" if self._end < math.inf else ""
        begin, end = self._start / self._rate, (self._start + self._frames) / self._rate
        inside = [(max(begin, first), min(end, last)) for first, last in cancelled]
        inside = [(first, last) for first, last in inside if last - first > 1e-6]
        if inside:
            whole = inside[0][0] <= begin and inside[0][1] >= end - 1 / self._rate
            places = [f"from {first:.3f} to {last:.3f} s" for first, last in inside]
            more = [f"in {len(places) - _SHOWN} more places"] if len(places) > _SHOWN else []
            where = excerpt if whole else " " + " and ".join(places[:_SHOWN] + more)
            warn("cancelled", f"{self._name}: the channels cancel each other{where}, so one channel is used instead.")
        peak = max(abs(self._lowest), abs(self._highest))
        if self._highest - self._lowest <= 2 * SILENT_PEAK:
            warn("silent", f"{self._name} is silent{excerpt}: there is nothing to hear.")
        elif not QUIETEST_PEAK <= peak <= LOUDEST_PEAK:
            advice = (
                "Divide integers by their full scale, which is 32768 for 16 bits."
                if peak > LOUDEST_PEAK
                else "So quiet a clip sounds like silence to a model."
            )
            warn("level", f"{self._name}: the samples reach {peak:.6g}{excerpt}, expected about -1..1. {advice}")
