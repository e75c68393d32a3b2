"""LiteRT (TensorFlow Lite): exported files."""

from __future__ import annotations

import io
import os
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from keras_tagger.errors import ModelError
from keras_tagger.runtimes.description import Description
from keras_tagger.runtimes.portable import PortableModel, Run

MISSING = (
    'expected the runtime "litert". Received: no ai-edge-litert; install it with: pip install "keras_tagger[litert]"'
)


def read(path: str | os.PathLike[str]) -> tuple[PortableModel, Description]:
    """Open an exported `.tflite` file.

    Raises:
        ModelError: If it is not one, or ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise ModelError(MISSING) from None
    content = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            texts = {name: archive.read(name).decode("utf-8") for name in archive.namelist()}
        interpreter = Interpreter(model_content=content, num_threads=os.cpu_count())
    except (ValueError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise ModelError(
            f"expected a model of LiteRT that keras_tagger exported. Received: {path} ({error})."
        ) from None
    description = Description.from_texts(texts, str(path))
    return PortableModel(description, _run(interpreter), "litert"), description


def _run(interpreter: Any) -> Run:
    runner, lock = interpreter.get_signature_runner(), threading.Lock()

    def run(waveforms: npt.NDArray[Any], outputs: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        # An interpreter holds the tensors of one run. What it returns are copies.
        with lock:
            found: dict[str, npt.NDArray[Any]] = runner(waveform=waveforms)
        return found

    return run
