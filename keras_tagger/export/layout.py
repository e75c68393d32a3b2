"""The layout of exported models: names of files in a version, and the versions in a directory.

Also the formats to export to. For everything that writes, checks or serves a version. TensorFlow is not imported.
"""

from __future__ import annotations

import os
from pathlib import Path

from keras_tagger.files import version_number

FORMATS = ("saved_model", "onnx", "litert")
PRECISIONS = ("float32", "float16", "int8")

SAVED_MODEL = "saved_model.pb"
TAGS_TEXT = "assets/tags.txt"
TAGS_JSON = "assets/tags.json"
CONFIG = "assets/config.yaml"

WARMUP_REQUESTS = "assets.extra/tf_serving_warmup_requests"
# TensorFlow Serving's limit.
MAX_WARMUP_RECORDS = 1000
# The longest clip of the warm-up, and the longest for which a client asks for maps by default.
WARMUP_SECONDS = 30.0


def versions(directory: str | os.PathLike[str]) -> dict[int, Path]:
    """Return the entries of a local directory that are named by a version number, in increasing order.

    Example:
        >>> versions("exported")
        {1: PosixPath('exported/1'), 2: PosixPath('exported/2')}
    """
    numbers = ((version_number(entry.name), entry) for entry in Path(directory).glob("*"))
    return dict(sorted((number, entry) for number, entry in numbers if number is not None))
