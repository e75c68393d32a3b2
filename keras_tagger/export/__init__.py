"""A trained model as one SavedModel for TensorFlow Serving.

saved_model.py  writes it, version by version
signatures.py   what it takes and gives
windowed.py     clips longer than a window, in the graph
resample.py     audio of any rate, in the graph
check.py        whether TensorFlow Serving can serve it; inspection.py looks, in an interpreter of its own
"""

from typing import Any


def __getattr__(name: str) -> Any:
    # Light to import: TensorFlow is loaded when something is exported.
    if name == "export":
        from keras_tagger.export.saved_model import export

        return export
    raise AttributeError(f"module 'keras_tagger.export' has no attribute {name!r}")
