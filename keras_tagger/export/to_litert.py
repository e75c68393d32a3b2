"""Models of LiteRT (TensorFlow Lite), with its built-in ops only."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf

from keras_tagger.errors import ModelError
from keras_tagger.export.portable import WAVEFORM, describe, portable_function

if TYPE_CHECKING:
    from keras_tagger.models.trained import TrainedModel


def litert_bytes(trained: TrainedModel, precision: str = "float32") -> bytes:
    """Return a model as a `.tflite` file, with what it says about itself as a zip archive behind it.

    Args:
        trained: The model.
        precision: "float32", "float16" (weights, widened when they are used) or "int8" (weights; activations are
            rounded to 8 bits where a kernel for that exists).

    Raises:
        ModelError: If the model has an op that LiteRT does not have.
    """
    module = tf.Module()
    module.weights = [weight.value for weight in trained.model.weights]
    function = tf.function(portable_function(trained.model), input_signature=[WAVEFORM], autograph=False)
    with tempfile.TemporaryDirectory() as folder, _silent():
        tf.saved_model.save(module, folder, signatures={"serving_default": function})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        try:
            content: bytes = converter.convert()
        except Exception as error:
            # The converter's errors have no base class of their own; its text ends with the ops that are missing.
            ops = [line.partition(":")[2].strip() for line in str(error).splitlines() if "ops: " in line]
            reason = ops[-1] if ops else (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise ModelError(f"expected ops that LiteRT has. Received: {reason}.") from None
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, text in describe(trained, precision).to_texts().items():
            archive.writestr(name, text)
    return buffer.getvalue()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Silence the converter, which writes to the process's stderr from C++."""
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
