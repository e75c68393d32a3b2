"""A trained model as one SavedModel for TensorFlow Serving.

from keras_tagger.export import export

export(tagger, "exported")  # or tagger.export("exported")

saved_model.py  writes the SavedModel as the next version
signatures.py   its inputs and outputs
windowed.py     clips longer than a window, in the graph
resample.py     audio of any sample rate, in the graph
warmup.py       the requests that a server answers before it is ready
layout.py       names of files in a version, and the versions in a directory
check.py        checks whether TensorFlow Serving can serve a SavedModel; inspection.py is the program that it runs
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_tagger.export.saved_model import export

__all__ = ["export"]


def __getattr__(name: str) -> Any:
    # TensorFlow is imported only when something is exported.
    if name in __all__:
        from keras_tagger.export.saved_model import export

        return export
    raise AttributeError(f"module 'keras_tagger.export' has no attribute {name!r}")
