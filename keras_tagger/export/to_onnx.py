"""Models of ONNX (opset 17).

tf2onnx converts a function of the weights, so a graph has the weights by their own names and as Keras has them. One
graph therefore serves every model of an architecture: `keras_tagger.runtimes.onnx_file.fill`. Exported files are such a
graph with the weights in it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_tagger.audio.fourier import fourier_filters
from keras_tagger.errors import ModelError
from keras_tagger.export.portable import WAVEFORM, describe, function_of_weights
from keras_tagger.runtimes.graphs import graph_entry, read_graph
from keras_tagger.runtimes.weights import FILTERS, weight_name

if TYPE_CHECKING:
    from keras_tagger.models.music_tagger import MusicTagger
    from keras_tagger.models.trained import TrainedModel

OPSET = 17
MISSING = 'expected tf2onnx and onnx. Received: none; install them with: pip install "keras_tagger[onnx]"'
# What int8 leaves in float16: small tensors, which save little, and those that it would change by more than this share.
LEAST_ROUNDED, MOST_ROUNDED = 2**16, 0.009


def onnx_bytes(trained: TrainedModel, precision: str = "float32") -> bytes:
    """Return a model as an `.onnx` file, from a packaged graph if there is one for its architecture.

    Args:
        trained: The model.
        precision: As for `with_weights`.

    Raises:
        ModelError: If tf2onnx is not installed or does not know an op of the model.
    """
    entry = graph_entry(trained.config)
    return with_weights(graph_bytes(trained.model) if entry is None else read_graph(entry), trained, precision)


def with_weights(graph: bytes, trained: TrainedModel, precision: str = "float32") -> bytes:
    """Return a graph of `graph_bytes` with weights and what a file says about its model.

    Args:
        graph: The graph of the model's architecture.
        trained: The model.
        precision: How the weights are stored: "float32", "float16" or "int8" (by output channel, symmetric; but
            see LEAST_ROUNDED). They are widened to float32 before they are used.

    Raises:
        ModelError: If onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise ModelError(MISSING) from None
    model = onnx.load_from_string(graph)
    stored = model.graph.initializer
    for index in reversed(range(len(stored))):
        if stored[index].data_location == stored[index].EXTERNAL:
            del stored[index]
    for name, value in initial_values(trained.model).items():
        _add_weight(model, name, value, "float32" if name == FILTERS else precision)
    for name, text in describe(trained, precision).to_texts().items():
        model.metadata_props.add(key=name, value=text)
    return bytes(model.SerializeToString())


def graph_bytes(model: MusicTagger) -> bytes:
    """Return the graph of an architecture, whose weights are external; `initial_values` has their names.

    Raises:
        ModelError: If tf2onnx is not installed or does not know an op of the model.
    """
    graph = _converted(model)
    for name, value in initial_values(model).items():
        place = graph.graph.initializer.add(name=name, dims=value.shape, data_type=1, data_location=1)
        place.external_data.add(key="location", value="weights")
    return bytes(graph.SerializeToString())


def initial_values(model: MusicTagger) -> Mapping[str, npt.NDArray[Any]]:
    """Return the values of a graph's initialisers by name."""
    spectrogram = model.spectrogram
    window = np.asarray(spectrogram.window) if spectrogram.stored else None
    weights = {weight_name(index): np.asarray(weight, np.float32) for index, weight in enumerate(model.weights)}
    return {FILTERS: fourier_filters(spectrogram.n_fft, window), **weights}


def _converted(model: MusicTagger) -> Any:
    """Return the ONNX model whose inputs are the waveform alone, and whose weights have no values yet."""
    try:
        import tf2onnx
    except ImportError:
        raise ModelError(MISSING) from None
    values = initial_values(model)
    specs = [WAVEFORM, *(tf.TensorSpec(value.shape, tf.float32, name=f"w{name}") for name, value in values.items())]
    function = tf.function(function_of_weights(model), input_signature=specs, autograph=False)
    unknown, logger = _Unknown(), logging.getLogger("tf2onnx")
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(unknown)
    try:
        converted, _ = tf2onnx.convert.from_function(function, input_signature=specs, opset=OPSET)
    finally:
        logger.removeHandler(unknown)
        logger.propagate = propagated
    if unknown.ops:
        # tf2onnx only logs it, and writes a file that no runtime loads.
        raise ModelError(f"expected ops that ONNX has. Received: {', '.join(sorted(unknown.ops))}.")
    graph = converted.graph
    renamed = {f"w{name}": name for name in values}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    del graph.input[1:]
    return converted


class _Unknown(logging.Handler):
    """Collects the ops that tf2onnx does not know, instead of what it logs."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.endswith("is not supported"):
            # Tensorflow op [NAME: KIND] is not supported
            self.ops.add(text.rpartition(": ")[2].partition("]")[0])


def _add_weight(model: Any, name: str, value: npt.NDArray[Any], precision: str) -> None:
    """Add an initialiser in a precision, and the node that widens it."""
    from onnx import helper, numpy_helper

    graph = model.graph
    if precision == "float32" or value.ndim < 2:
        graph.initializer.append(numpy_helper.from_array(value, name))
        return
    stored, inputs, kind = value.astype(np.float16), [f"{name}_stored"], "Cast"
    options: dict[str, Any] = {"to": 1}
    scale = np.maximum(np.abs(value).reshape(-1, value.shape[-1]).max(axis=0), 1e-12) / 127
    rounded = np.rint(value / scale)
    fits = np.linalg.norm(rounded * scale - value) <= MOST_ROUNDED * np.linalg.norm(value)
    if precision == "int8" and value.size >= LEAST_ROUNDED and fits:
        stored = rounded.astype(np.int8)
        graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
        inputs, kind, options = [*inputs, f"{name}_scale"], "DequantizeLinear", {"axis": value.ndim - 1}
    graph.initializer.append(numpy_helper.from_array(stored, f"{name}_stored"))
    graph.node.insert(0, helper.make_node(kind, inputs, [name], name=f"{name}_widened", **options))
