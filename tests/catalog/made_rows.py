"""Made rows, so that stores and searches need no model."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_tagger.catalog import Entry
from keras_tagger.tags import TagInfo, make_tags

TAGS = ("guitar", "voice", "singing", "no vocals", "sitar")
INFO = {tag: TagInfo(0.5, has_evidence=tag != "sitar") for tag in TAGS}


def entry(number: int, mtime_ns: int = 7) -> Entry:
    return Entry(f"music/{number:03d}.mp3", 1000 + number, mtime_ns)


def row(of: Entry, error: str | None = None) -> dict[str, Any]:
    """The row of a file, which its name alone determines."""
    base = {"path": of.path, "size": of.size, "mtime_ns": of.mtime_ns}
    base |= {"model": "made", "weights_sha256": "5a" * 32, "package_version": "1"}
    if error is not None:
        return {**base, "error": error}
    rng = np.random.default_rng(of.size)
    scores = rng.uniform(0, 1, len(TAGS)).astype(np.float16)
    return {
        **base,
        "seconds": float(of.size % 97),
        "heard_seconds": float(of.size % 97),
        "scores": scores,
        "present": [one.name for one in make_tags(TAGS, scores, INFO, None, False) if one.present and one.heard],
        "embedding": rng.normal(0, 1, 4).astype(np.float16),
        "warnings": [{"kind": "level", "message": "quiet"}] if of.size % 2 else [],
    }
