"""The packaged graphs, each of which serves every model of an architecture.

    weights/graphs.json     [{"file", "sha256", "audio", "model", "window_samples", "token_samples", "rounds_up"}]
    weights/NAME.onnx       a graph without weights

`tools/runtime_graphs.py` writes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from keras_tagger.config import ExperimentConfig, config_from_dict
from keras_tagger.errors import ModelError, ModelNotFoundError

GRAPHS = "graphs.json"


def graph_entry(config: ExperimentConfig, folder: Path | None = None) -> Mapping[str, Any] | None:
    """Return the entry of the graph that fits a configuration, or None if there is none.

    Args:
        config: The configuration, of which the sections audio and model count.
        folder: The folder of the list, or None for the packaged weights.

    Raises:
        ModelError: If the list cannot be read.
    """
    path = (folder or _packaged()) / GRAPHS
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"expected the list of packaged graphs (reinstall keras_tagger to restore it). Received: {path} ({error})."
        ) from None
    for entry in entries:
        same = config_from_dict({"audio": entry["audio"], "model": entry["model"]})
        if (same.audio, same.model) == (config.audio, config.model):
            return entry
    return None


def read_graph(entry: Mapping[str, Any], folder: Path | None = None) -> bytes:
    """Read and verify the file of an entry.

    Args:
        entry: From `graph_entry`.
        folder: The folder of the list, or None for the packaged weights.

    Raises:
        ModelNotFoundError: If the file does not exist.
        ModelError: If its checksum differs from that of the list.
    """
    path = (folder or _packaged()) / str(entry["file"])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelNotFoundError(f"expected a packaged graph. Received: {path} ({error.strerror}).") from None
    found = hashlib.sha256(content).hexdigest()
    if found != entry["sha256"]:
        raise ModelError(
            f"{path}: expected SHA-256 {entry['sha256']}. Received: {found}; the file was damaged or changed."
        )
    return content


def _packaged() -> Path:
    return Path(str(resources.files("keras_tagger") / "weights"))
