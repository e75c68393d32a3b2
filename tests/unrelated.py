"""A SavedModel that has nothing to do with music, with every kind of signature, whose outputs have a closed form."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

EXAMPLES = tf.TensorSpec([None], tf.string, name="inputs")


class Unrelated(tf.Module):
    """Version `factor`: product = factor x count, regression = factor x feature x."""

    def __init__(self, factor: int) -> None:
        self.factor = tf.Variable(factor, dtype=tf.int64)

    def _x(self, inputs: tf.Tensor) -> tf.Tensor:
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32, 0.0)})["x"]
        return x * tf.cast(self.factor, tf.float32)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, name="words"), tf.TensorSpec([None], tf.int32, name="counts")]
    )
    def join(self, words, counts):
        joined = tf.strings.join([words, tf.strings.as_string(counts)], separator=":")
        return {"joined": joined, "product": tf.cast(counts, tf.int64) * self.factor}

    @tf.function(input_signature=[EXAMPLES])
    def regress(self, inputs):
        return {"outputs": self._x(inputs)}

    @tf.function(input_signature=[EXAMPLES])
    def classify(self, inputs):
        x = self._x(inputs)
        names = tf.tile([["up", "down"]], [tf.shape(x)[0], 1])
        return {"classes": names, "scores": tf.stack([x, -x], axis=1)}

    @tf.function(input_signature=[EXAMPLES])
    def scores_only(self, inputs):
        return {"scores": self._x(inputs)[:, None]}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def raw(self, x):
        return {"text_bytes": tf.strings.as_string(x[:, 0]), "text": tf.strings.as_string(x[:, 1])}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def total(self, x):
        return {"total": tf.reduce_sum(x), "half": x / 2}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float64, name="d"),
            tf.TensorSpec([None], tf.int64, name="l"),
            tf.TensorSpec([None], tf.uint8, name="b"),
            tf.TensorSpec([None], tf.bool, name="t"),
        ]
    )
    def kinds(self, d, l, b, t):  # noqa: E741
        return {"d": d / 4, "l": l + 1, "b": b + tf.constant(1, tf.uint8), "t": tf.logical_not(t)}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
    def mean(self, x):
        return {"y": tf.reduce_mean(x, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="s")])
    def same_bytes(self, s):
        return {"s_bytes": s}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
    def gathered(self, x):
        """How many rows were run together; refuses them all if one is negative."""
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(x >= 0), ["a negative row"])]):
            return {"rows": tf.fill([tf.shape(x)[0]], tf.shape(x)[0]), "sum": tf.reduce_sum(x, axis=1)}


SIGNATURES = ("regress", "classify", "scores_only", "raw", "total", "kinds", "mean", "same_bytes", "gathered")


@functools.cache
def _saved(factor: int) -> tempfile.TemporaryDirectory[str]:
    """Save a version once for all tests; saving takes a second."""
    folder = tempfile.TemporaryDirectory()
    module = Unrelated(factor)
    signatures = {"serving_default": module.join, **{name: getattr(module, name) for name in SIGNATURES}}
    tf.saved_model.save(module, folder.name, signatures=signatures)
    return folder


def save(base: Path, version: int) -> Path:
    """Save a version whose factor is its number; the folder appears complete."""
    hidden = base / f".{version}"
    shutil.copytree(_saved(version).name, hidden)
    hidden.chmod(0o755)
    hidden.rename(base / str(version))
    return base / str(version)


def example(**features: float | bytes) -> tf.train.Example:
    """A tf.Example of scalars."""
    made = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, bytes)
        else tf.train.Feature(float_list=tf.train.FloatList(value=np.ravel(value)))
        for name, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=made))
