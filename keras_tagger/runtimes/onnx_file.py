"""ONNX Runtime: exported files, and graphs whose weights come from the package's `.npz` files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ModelError
from keras_tagger.runtimes.description import Description
from keras_tagger.runtimes.portable import PortableModel, Run

MISSING = 'expected the runtime "onnx". Received: no onnxruntime; install it with: pip install "keras_tagger[onnx]"'


def read(path: str | os.PathLike[str]) -> tuple[PortableModel, Description]:
    """Open an exported `.onnx` file.

    Raises:
        ModelError: If it is not one, or onnxruntime is not installed.
    """
    session = _session(Path(path).read_bytes(), str(path))
    description = Description.from_texts(session.get_modelmeta().custom_metadata_map, str(path))
    return PortableModel(description, _run(session), "onnx"), description


def fill(graph: bytes, weights: Mapping[str, npt.NDArray[Any]], description: Description) -> PortableModel:
    """Make a model of a graph and its weights.

    Args:
        graph: A file whose initialisers are external.
        weights: The initialisers by name, float32.
        description: What is known about the model.

    Raises:
        ModelError: If they do not fit, or onnxruntime is not installed.
    """
    return PortableModel(description, _run(_session(graph, description.config.name, weights)), "onnx")


def _session(content: bytes, name: str, weights: Mapping[str, npt.NDArray[Any]] | None = None) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(MISSING) from None
    options = onnxruntime.SessionOptions()
    # Warnings are about what its own optimisation leaves.
    options.log_severity_level = 3
    # Threads that spin between two windows take the time of the thread that decodes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Both hold memory between runs: 50 of 230 MB with `pons`, which is no faster for it.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    try:
        if weights is not None:
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
            options.add_external_initializers(list(weights), values)
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime's errors have no base class of their own.
        reason = str(error).splitlines()[0]
        raise ModelError(f"expected a model of ONNX. Received: {name} ({reason}).") from None


def _run(session: Any) -> Run:
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True

    # One window at a time: more at once are no faster, and take up to 50 MB each.
    def run(waveforms: npt.NDArray[Any], outputs: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        rows = [session.run(list(outputs), {"waveform": row[np.newaxis]}, options) for row in waveforms]
        return {name: np.concatenate(values) for name, values in zip(outputs, zip(*rows, strict=True), strict=True)}

    return run
