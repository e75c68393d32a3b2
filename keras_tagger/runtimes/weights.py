"""The names of the weights in an ONNX graph that serves every model of an architecture."""

from __future__ import annotations

FILTERS = "filters"
"""The Fourier filters of `keras_tagger.audio.fourier`."""


def weight_name(index: int) -> str:
    """Return the name of a weight by its place in `model.weights`, which is also its name in an `.npz` file."""
    return f"{index:04d}"
