"""Modules to save and serve, whose outputs have a closed form."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

WEIGHTS = np.array([1.0, -2.0, 0.5], np.float32)
DTYPES = [
    *(tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64, tf.complex128),
    *(tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64, tf.bool, tf.string),
]


class Tagger(tf.Module):
    """tags = mean(waveform) x WEIGHTS; attention[b, h, q, k] = (h + 1) x waveform[b, q] x waveform[b, k]."""

    def __init__(self) -> None:
        self.calls = tf.Variable(0, dtype=tf.int64)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="waveform")])
    def tag(self, waveform):
        return {"tags": tf.reduce_mean(waveform, axis=1, keepdims=True) * WEIGHTS}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="waveform")])
    def attention(self, waveform):
        maps = waveform[:, None, :, None] * waveform[:, None, None, :]
        heads = tf.reshape(tf.constant([1.0, 2.0]), [1, 2, 1, 1])
        return {"tags": self.tag(waveform)["tags"], "attention": maps * heads}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="text")])
    def refuse(self, text):
        with tf.control_dependencies([tf.debugging.Assert(False, [text], summarize=1)]):
            return {"text": tf.identity(text)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])
    def read(self, path):
        return {"data": tf.io.read_file(path)}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
    def square(self, x):
        return {"y": tf.matmul(x, x)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64, name="by")])
    def count(self, by):
        return {"calls": self.calls.assign_add(by)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])
    def wait(self, path):
        """Runs until there is a file at `path`; writes the file `path`.runs when it begins."""
        tf.io.write_file(tf.strings.join([path, ".runs"]), "")
        looks, found = tf.constant(0, tf.int64), tf.constant(0)
        while found == 0:
            looks += 1
            # The pattern seems to change at each turn, so that the look is not moved out of the loop.
            nothing = tf.strings.substr(tf.strings.as_string(looks), 0, 0)
            found = tf.size(tf.io.matching_files(tf.strings.join([path, nothing])))
        return {"looks": looks}


class Words(tf.Module):
    """joined = word + ":" + count as text; product = factor x count, as int64."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="words"),
            tf.TensorSpec([None], tf.int32, name="counts"),
        ]
    )
    def join(self, words, counts):
        joined = tf.strings.join([words, tf.strings.as_string(counts)], separator=":")
        return {"joined": joined, "product": tf.cast(counts, tf.int64) * self.factor}


class Echo(tf.Module):
    """One signature per dtype, which gives back what it got."""

    def signatures(self):
        return {
            dtype.name: tf.function(
                lambda x: {"y": tf.identity(x)}, input_signature=[tf.TensorSpec(None, dtype, name="x")]
            ).get_concrete_function()
            for dtype in DTYPES
        }


CLIP = np.array([[0.0, 1.0, 2.0, 5.0], [4.0, 4.0, 4.0, -4.0]], np.float32)  # means 2 and 2
CLIP_TAGS = np.array([[2.0, -4.0, 1.0], [2.0, -4.0, 1.0]], np.float32)
