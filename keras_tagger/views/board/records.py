"""How explained clips are kept in event files. Neither TensorFlow nor TensorBoard is imported.

All summaries belong to the plugin `keras_tagger` and are tensors of byte strings:

    clip/NAME         the packed document without maps; once per run
    audio/NAME        the media type and the encoded audio; once per run
    maps/NAME/STEP    the packed scores, and the packed maps and tags

TensorBoard keeps a random sample of the points of each tag (10 or 100, see `--samples_per_plugin`). Every step
therefore has a tag of its own, so that no step is lost. A packed document is JSON, compressed by zlib; arrays in it
are as in the player's clip document.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

from keras_tagger.errors import ModelError

PLUGIN_NAME = "keras_tagger"
AUDIO_TYPES = ("audio/aac", "audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/wav", "audio/webm")
"""The media types that are served; a browser executes none of them."""

_MOST_BYTES = 64 << 20
_ITEM_BYTES = {"uint8": 1, "int8": 1, "uint16": 2, "float32": 4}
_LARGEST_STEP = 2**63 - 1


def clip_tag(name: str) -> str:
    """Return the tag of a clip's document."""
    return f"clip/{name}"


def audio_tag(name: str) -> str:
    """Return the tag of a clip's audio."""
    return f"audio/{name}"


def maps_tag(name: str, step: int) -> str:
    """Return the tag of a clip's maps at a step."""
    return f"maps/{name}/{step}"


def parse_maps_tag(tag: str) -> tuple[str, int] | None:
    """Return the clip's name and the step, or None for other tags."""
    name, _, step = tag.removeprefix("maps/").rpartition("/")
    if not tag.startswith("maps/") or not name or not (step.isascii() and step.isdigit() and len(step) < 20):
        return None
    return (name, int(step)) if int(step) <= _LARGEST_STEP else None


def pack(document: Mapping[str, Any]) -> bytes:
    """Return a document as compressed JSON."""
    return zlib.compress(json.dumps(document, allow_nan=False).encode(), 6)


def unpack(packed: bytes) -> dict[str, Any]:
    """Return the document that `pack` was given.

    Raises:
        ModelError: If the bytes are damaged or too many, or an array does not have the size of its shape.
    """
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(packed, _MOST_BYTES)
        if not inflater.eof:
            raise ValueError("it is cut off or too large")
        document = json.loads(text, parse_constant=_no_constant)
        _check_arrays(document)
    except (ValueError, TypeError, zlib.error, RecursionError) as error:
        raise ModelError(f"expected a document of the keras_tagger plugin. Received: bytes, where {error}.") from None
    if not isinstance(document, dict):
        raise ModelError(f"expected a document of the keras_tagger plugin. Received: {type(document).__name__}.")
    return document


def _no_constant(name: str) -> Any:
    raise ValueError(f"a number is {name}")


def _check_arrays(value: Any) -> None:
    """Check that every array in a document has as many bytes as its shape says."""
    if isinstance(value, dict):
        if "shape" in value and "data" in value:
            shape, kind = value["shape"], value.get("dtype")
            if not all(isinstance(size, int) and size >= 0 for size in shape) or kind not in _ITEM_BYTES:
                raise ValueError("an array has no valid shape and dtype")
            try:
                n_bytes = len(base64.b64decode(value["data"], validate=True))
            except binascii.Error:
                raise ValueError("an array is not base64") from None
            if n_bytes != math.prod(shape) * _ITEM_BYTES[kind]:
                raise ValueError(f"an array of shape {shape} has {n_bytes} bytes")
            return
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_arrays(item)
