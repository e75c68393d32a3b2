"""JAMS, the JSON Annotated Music Specification (Humphrey et al. 2014), as plain values for JSON.

Tags and rows of a map are observations in the namespace `tag_open`; their scores are the confidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_VERSION = "0.3.4"


def of_tags(names: Sequence[str], scores: npt.NDArray[Any], seconds: float) -> dict[str, Any]:
    """Return a file with an observation for each tag, over the whole clip.

    Args:
        names: The tags.
        scores: float `[n]`, their probabilities.
        seconds: Length of the clip.
    """
    rows = [_observation(0.0, seconds, name, score) for name, score in zip(names, scores, strict=True)]
    return _file(seconds, [_annotation(rows, seconds, "tags")])


def of_map(names: Sequence[str], curves: npt.NDArray[Any], edges: npt.NDArray[Any], method: str) -> dict[str, Any]:
    """Return a file with an annotation for each row of a map, and an observation for each of its columns.

    Args:
        names: The rows.
        curves: float `[n_rows, T]`.
        edges: Where the columns begin and the last one ends, in seconds, float `[T + 1]`.
        method: Kind of the values.
    """
    seconds = float(edges[-1])
    begins, lengths = edges[:-1].tolist(), np.diff(edges).tolist()
    return _file(
        seconds,
        [
            _annotation(
                [
                    _observation(begin, length, name, value)
                    for begin, length, value in zip(begins, lengths, curve, strict=True)
                ],
                seconds,
                method,
            )
            for name, curve in zip(names, curves, strict=True)
        ],
    )


def _observation(time: float, duration: float, value: str, confidence: Any) -> dict[str, Any]:
    return {"time": max(time, 0.0), "duration": duration, "value": value, "confidence": float(confidence)}


def _annotation(rows: Sequence[Mapping[str, Any]], seconds: float, rules: str) -> dict[str, Any]:
    return {
        "annotation_metadata": {
            "curator": {"name": "", "email": ""},
            "annotator": {},
            "version": "",
            "corpus": "",
            "annotation_tools": "keras_tagger",
            "annotation_rules": rules,
            "validation": "",
            "data_source": "program",
        },
        "namespace": "tag_open",
        "data": rows,
        "sandbox": {},
        "time": 0.0,
        "duration": seconds,
    }


def _file(seconds: float, annotations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    about = {"title": "", "artist": "", "release": "", "duration": seconds, "identifiers": {}}
    return {
        "file_metadata": {**about, "jams_version": _VERSION},
        "annotations": annotations,
        "sandbox": {},
    }
