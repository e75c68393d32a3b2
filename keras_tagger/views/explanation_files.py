"""Maps as files: pictures, numbers, pages."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_tagger.audio import AudioSource
from keras_tagger.errors import ModelError
from keras_tagger.files import replacing
from keras_tagger.heatmap import Heatmap

SUFFIXES = (".png", ".json", ".html", ".npz")


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raise ModelError for a path that `write` cannot write."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ModelError(f"expected a path that ends in {', '.join(SUFFIXES)} for a map. Received: {str(path)!r}.")


def write(heatmap: Heatmap, path: str | os.PathLike[str], audio: AudioSource, title: str = "") -> Path:
    """Write a map, whole or not at all, as what the path's end says.

    .png is `Heatmap.save`; .json is `Heatmap.to_dict`; .npz has its fields as arrays, read without pickles; .html is a
    page of its own with the picture and players of the clip and its explained parts (`page.page`).

    Args:
        heatmap: of that audio.
        path: ends in .png, .json, .html or .npz.
        audio: as of `Tagger`; only a page needs it.
        title: of a page.

    Raises:
        ModelError: another end.
        AudioError, AudioNotFoundError: audio that cannot be used.
    """
    check_suffix(path)
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix == ".png":
        return heatmap.save(target)
    if suffix == ".html":
        from keras_tagger.views.explanation_page import page

        text = page(heatmap, audio, title)
    elif suffix == ".json":
        text = json.dumps(heatmap.to_dict(), ensure_ascii=False)
    with replacing(target) as temporary:
        if suffix == ".npz":
            np.savez_compressed(temporary, **_arrays(heatmap))
        else:
            temporary.write_text(text, "utf-8")
    return target


def _arrays(heatmap: Heatmap) -> dict[str, Any]:
    fields = {
        "values": heatmap.values,
        "tags": np.array(heatmap.tags),
        "times": heatmap.times,
        "method": np.array(heatmap.method),
        "frequencies": heatmap.frequencies,
        "scores": heatmap.scores,
    }
    return {name: value for name, value in fields.items() if value is not None}
