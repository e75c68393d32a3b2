"""Explanations as files: a picture, numbers, or a page with players."""

from __future__ import annotations

import os
from pathlib import Path

from keras_tagger.audio import AudioSource
from keras_tagger.files import write_text
from keras_tagger.heatmap import SUFFIXES as SUFFIXES
from keras_tagger.heatmap import Heatmap
from keras_tagger.heatmap import check_suffix as check_suffix
from keras_tagger.views.clip_documents import heatmap_clip
from keras_tagger.views.player import page


def write(heatmap: Heatmap, path: str | os.PathLike[str], audio: AudioSource, title: str = "") -> Path:
    """Write a map in the format that the path's suffix names; see `Heatmap.save`.

    Args:
        heatmap: A map of the audio.
        path: Target.
        audio: A path, encoded bytes or `(array, sample_rate)`; only a page uses it.
        title: The title of a page.

    Returns:
        The path.

    Raises:
        ModelError: If the suffix is another.
        AudioError, AudioNotFoundError: If the audio cannot be used.

    Example:
        >>> heat = tagger.explain("song.mp3", tags="guitar")
        >>> write(heat, "guitar.html", "song.mp3")
    """
    target = check_suffix(path)
    if target.suffix.lower() != ".html":
        return heatmap.save(target)
    name = title or target.stem
    write_text(target, page([heatmap_clip(heatmap, audio, name)], name))
    return target
