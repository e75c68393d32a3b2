"""Load models for ONNX Runtime and LiteRT. TensorFlow is imported only to convert a model that is not exported.

A packaged model is run by ONNX Runtime from the graph of its architecture (`keras_tagger.runtimes.graphs`) and the
weights in its `.npz` file, so the weights are stored once.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

import numpy as np

from keras_tagger.audio.fourier import fourier_filters
from keras_tagger.config import config_from_dict
from keras_tagger.errors import ModelError, ModelNotFoundError
from keras_tagger.runtimes import litert_file, onnx_file
from keras_tagger.runtimes.description import Description
from keras_tagger.runtimes.graphs import graph_entry, read_graph
from keras_tagger.runtimes.portable import PortableModel
from keras_tagger.runtimes.weights import FILTERS, weight_name
from keras_tagger.storage.loading import find_model
from keras_tagger.storage.pretrained import read_packaged

RUNTIMES = ("keras", "onnx", "litert")
_READERS = {"onnx": onnx_file.read, "litert": litert_file.read}
_OF_SUFFIX = {".onnx": "onnx", ".tflite": "litert"}


def chosen_runtime(source: str | os.PathLike[str], runtime: str | None) -> str:
    """Return the runtime for a model: the one given, that of an exported file, or Keras, or else ONNX.

    Raises:
        ModelError: If the runtime is unknown, or not the one of the file.
    """
    if runtime is not None and runtime not in RUNTIMES:
        raise ModelError(f"runtime: expected one of {', '.join(RUNTIMES)}. Received: {runtime!r}.")
    path = Path(source) if isinstance(source, str | os.PathLike) else Path()
    exported = _OF_SUFFIX.get(path.suffix)
    if exported is not None and runtime not in (None, exported):
        raise ModelError(f"runtime: expected {exported!r} for {path}. Received: {runtime!r}.")
    return runtime or exported or ("keras" if has_tensorflow() else "onnx")


def has_tensorflow() -> bool:
    """Return whether TensorFlow is installed."""
    return importlib.util.find_spec("tensorflow") is not None


def load_portable(source: str | os.PathLike[str], runtime: str) -> tuple[PortableModel, Description]:
    """Load a model for ONNX Runtime ("onnx") or LiteRT ("litert").

    Packaged models are ready for ONNX. Other models, and all for LiteRT, are converted by TensorFlow first, which takes
    a while; export them instead if you need them often.

    Args:
        source: A `.onnx` or `.tflite` file that was exported, a pretrained name, a run directory or a `.keras` file.
        runtime: "onnx" or "litert".

    Raises:
        ModelNotFoundError: If no model has that name or path.
        ModelError: If the model or the runtime cannot be used.
    """
    if isinstance(source, str | os.PathLike) and Path(source).suffix in _OF_SUFFIX:
        if not Path(source).is_file():
            raise ModelNotFoundError(f"expected an exported model. Received: {str(source)!r}, which is no file.")
        return _READERS[runtime](source)
    found = find_model(source)
    if found.name and runtime == "onnx":
        return _packaged(found.name)
    if not has_tensorflow():
        raise ModelError(
            f"expected a pretrained name, or a file that `keras-tagger export --format {runtime}` wrote. "
            f"Received: {str(source)!r}, which needs TensorFlow; install it with: pip install keras_tagger"
        )
    from keras_tagger.export.formats import export_format
    from keras_tagger.storage.loading import load_model

    with tempfile.TemporaryDirectory() as folder:
        return _READERS[runtime](export_format(load_model(source), folder, runtime).path)


def _packaged(name: str) -> tuple[PortableModel, Description]:
    packaged = read_packaged(name)
    config = config_from_dict({"name": packaged.name, "audio": packaged.audio, "model": packaged.model})
    entry = graph_entry(config)
    if entry is None:
        raise ModelError(f"expected a packaged graph (tools/runtime_graphs.py writes it). Received: none for {name!r}.")
    weights = {FILTERS: fourier_filters(config.model.spectrogram.n_fft)}
    for index, array in enumerate(packaged.arrays):
        weights[weight_name(index)] = np.asarray(array, np.float32, order="C")
    numbers = int(entry["window_samples"]), int(entry["token_samples"]), bool(entry["rounds_up"])
    description = Description(packaged.tags, packaged.info, config, *numbers)
    return onnx_file.fill(read_graph(entry), weights, description), description
