"""Write the graphs with which ONNX Runtime runs the packaged weights: keras_tagger/weights/*.onnx and graphs.json.

    python tools/runtime_graphs.py

One graph serves all packaged models of an architecture; it has no weights. Run it whenever an architecture or the
forward pass of a packaged model changes. It is run against Keras before it is kept. Not part of the package.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from absl import app

from keras_tagger.export.formats import check, differences, packaged_windows
from keras_tagger.export.portable import describe
from keras_tagger.export.to_onnx import graph_bytes, initial_values
from keras_tagger.files import replacing, write_json
from keras_tagger.runtimes import onnx_file
from keras_tagger.runtimes.graphs import GRAPHS
from keras_tagger.storage.loading import load_model
from keras_tagger.storage.pretrained import pretrained, weights_folder


def write_graphs(names: list[str], folder: Path) -> list[Path]:
    """Write the graph of each architecture among packaged models, and the list of graphs.

    Args:
        names: Names of packaged models.
        folder: Where to write.

    Raises:
        ModelError: If a graph differs from Keras.
    """
    entries: dict[str, dict[str, object]] = {}
    paths = []
    for name in names:
        trained = load_model(name)
        sections = trained.config.to_dict()
        key = json.dumps([sections["audio"], sections["model"]], sort_keys=True)
        if key in entries:
            continue
        content, description = graph_bytes(trained.model), describe(trained)
        portable = onnx_file.fill(content, initial_values(trained.model), description)
        found = differences(trained, portable, packaged_windows(trained))
        print(name, len(content), found)
        check(found, "float32", "onnx")
        path = folder / f"{name}.onnx"
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        paths.append(path)
        entries[key] = {
            "file": path.name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "window_samples": description.window_samples,
            "token_samples": description.token_samples,
            "rounds_up": description.rounds_up,
            "audio": sections["audio"],
            "model": sections["model"],
        }
    write_json(folder / GRAPHS, list(entries.values()), indent=1)
    return paths


def main(argv: list[str]) -> None:
    """Write the graphs of all packaged models."""
    del argv
    write_graphs(list(pretrained()), weights_folder())


if __name__ == "__main__":
    app.run(main)
