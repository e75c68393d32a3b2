"""Resampling in the graph, from a sample rate that is known only when the graph runs, with stock ops.

`keras_tagger.audio` resamples files with soxr; this is the same operation for a server without Python.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

# Zero crossings of the sinc on each side of its centre, and the shape of the Kaiser window over them. The transition
# band is about 0.1 of the lower rate's Nyquist frequency, and the stop band is attenuated by 100 dB.
ZERO_CROSSINGS = 48
KAISER_BETA = 10.0
# The -6 dB point as a share of the lower Nyquist frequency: the transition band ends there and does not alias.
ROLLOFF = 0.94
# Steps of the filter's table from one zero crossing to the next. Linear interpolation between them has an error of less
# than 2e-6.
TABLE_STEPS = 1024
# Outputs that one matrix product computes from a stretch of input: enough that stretches overlap little.
GROUP = 256


def resample(waveform: tf.Tensor, source_rate: tf.Tensor, target_rate: int) -> tf.Tensor:
    """Resample by a polyphase filter with a Kaiser-windowed sinc (Smith, Digital Audio Resampling, 2002).

    Sample n of the result is at n / target_rate seconds, and sample 0 of both coincide. The waveform is silent beyond
    its ends.

    Args:
        waveform: float32 `[samples]`.
        source_rate: Sample rate of the waveform in Hz, a positive integer scalar.
        target_rate: Sample rate of the result in Hz.

    Returns:
        float32 `[ceil(samples * target_rate / source_rate)]`; the waveform itself if the rates are equal.
    """
    source_rate = tf.cast(source_rate, tf.int64)
    return tf.cond(
        tf.equal(source_rate, target_rate),
        lambda: waveform,
        lambda: _polyphase(waveform, source_rate, tf.constant(target_rate, tf.int64)),
    )


def _polyphase(waveform: tf.Tensor, source_rate: tf.Tensor, target_rate: tf.Tensor) -> tf.Tensor:
    common = _greatest_common_divisor(source_rate, target_rate)
    # The filters repeat every `up` outputs, which span `down` inputs; a block is a whole number of such periods.
    up, down = target_rate // common, source_rate // common
    periods = -(-GROUP // up)
    block_outputs, block_inputs = up * periods, down * periods
    n_outputs = -(-tf.size(waveform, tf.int64) * up // down)
    n_blocks = -(-n_outputs // block_outputs)

    step = tf.cast(down, tf.float64) / tf.cast(up, tf.float64)  # inputs per output
    cutoff = ROLLOFF / tf.maximum(step, tf.ones_like(step))  # of the input's Nyquist frequency
    reach = tf.cast(tf.math.ceil(ZERO_CROSSINGS / cutoff), tf.int64)
    span = tf.cast(tf.math.ceil(GROUP * step), tf.int64) + 2 * reach + 1
    padded = tf.pad(waveform, [[reach, n_blocks * block_inputs + span - tf.size(waveform, tf.int64)]])
    block_starts = tf.range(n_blocks)[:, tf.newaxis] * block_inputs

    def group(first: tf.Tensor) -> tf.Tensor:
        """Return the outputs [first, first + GROUP) of every block: [blocks, GROUP]."""
        start = first * down // up
        inputs = tf.gather(padded, block_starts + start + tf.range(span))
        places = tf.cast((first + tf.range(tf.constant(GROUP, tf.int64))) * down - start * up, tf.float64) / tf.cast(
            up, tf.float64
        )
        distance = places - tf.cast(tf.range(span) - reach, tf.float64)[:, tf.newaxis]
        return tf.matmul(inputs, _filter(distance, cutoff))

    firsts = tf.range(0, block_outputs, GROUP, dtype=tf.int64)
    groups = tf.map_fn(group, firsts, fn_output_signature=tf.TensorSpec([None, GROUP], tf.float32))
    # [groups, blocks, GROUP] -> consecutive blocks, without the surplus of the last group.
    blocks = tf.reshape(tf.transpose(groups, [1, 0, 2]), tf.stack([n_blocks, tf.size(firsts, tf.int64) * GROUP]))
    return tf.reshape(blocks[:, :block_outputs], [-1])[:n_outputs]


def _filter(distance: tf.Tensor, cutoff: tf.Tensor) -> tf.Tensor:
    """Return the low-pass filter at distances in input samples (float64), float32 of the same shape."""
    place = tf.minimum(tf.abs(distance) * (cutoff * TABLE_STEPS), float(ZERO_CROSSINGS * TABLE_STEPS))
    index = tf.cast(place, tf.int32)
    fraction = tf.cast(place - tf.cast(index, tf.float64), tf.float32)
    table = _table()
    values, slopes = tf.constant(table[:-1]), tf.constant(np.diff(table))
    return tf.cast(cutoff, tf.float32) * (tf.gather(values, index) + fraction * tf.gather(slopes, index))


def _table() -> npt.NDArray[Any]:
    """Return half of the windowed sinc, from its centre to beyond its last zero crossing, float32 [steps]."""
    crossing = np.arange(ZERO_CROSSINGS * TABLE_STEPS + 2) / TABLE_STEPS
    window = np.i0(KAISER_BETA * np.sqrt(np.maximum(1.0 - (crossing / ZERO_CROSSINGS) ** 2, 0.0))) / np.i0(KAISER_BETA)
    return (np.sinc(crossing) * window * (crossing < ZERO_CROSSINGS)).astype(np.float32)


def _greatest_common_divisor(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    def turn(a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return b, tf.math.floormod(a, b)

    return tf.while_loop(lambda a, b: b > 0, turn, (first, second))[0]
