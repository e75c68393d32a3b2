"""Explanations as files: a picture, numbers, or a page with players."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger import audio as audio_module
from keras_tagger.audio import AudioSource
from keras_tagger.errors import ModelError
from keras_tagger.explain.listen import listen
from keras_tagger.files import replacing, write_json, write_text
from keras_tagger.heatmap import Heatmap
from keras_tagger.views.pages import data_uri, render
from keras_tagger.views.preview import figure_to_png

SUFFIXES = (".png", ".json", ".html", ".npz")
SAMPLE_RATE = 16000
SHARE = 0.25


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raise `ModelError` if `write` does not know the suffix of the path."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ModelError(f"expected a path that ends in {', '.join(SUFFIXES)} for a map. Received: {str(path)!r}.")


def write(heatmap: Heatmap, path: str | os.PathLike[str], audio: AudioSource, title: str = "") -> Path:
    """Write a map in the format that the path's suffix names.

    Args:
        heatmap: A map of the audio.
        path: `.png` is `Heatmap.save`; `.json` is `Heatmap.to_dict`; `.npz` has the fields as arrays, read without
            pickle; `.html` is `explanation_page`.
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
    check_suffix(path)
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix == ".png":
        heatmap.save(target)
    elif suffix == ".json":
        write_json(target, heatmap.to_dict())
    elif suffix == ".html":
        write_text(target, explanation_page(heatmap, audio, title))
    else:
        names = ("values", "tags", "times", "method", "frequencies", "scores", "margins")
        fields = {name: getattr(heatmap, name) for name in names}
        with replacing(target) as temporary:
            np.savez_compressed(temporary, **{name: np.asarray(v) for name, v in fields.items() if v is not None})
    return target


def explanation_page(heatmap: Heatmap, audio: AudioSource, title: str = "") -> str:
    """Render a page with the map, a player of the clip that moves along it, and the explained part of every tag.

    Pictures and audio (FLAC, 16 kHz) are inside the page, which needs no other file.

    Args:
        heatmap: A map of the audio.
        audio: A path, encoded bytes or `(array, sample_rate)`.
        title: The title of the page.

    Raises:
        AudioError, AudioNotFoundError: If the audio cannot be used.
    """
    # What a listener must know about the audio is in `heatmap.warnings`.
    waveform = audio_module.load(audio, SAMPLE_RATE, warnings=[])
    axes = heatmap.plot()
    picture = figure_to_png(axes.figure)  # type: ignore[arg-type]
    # Where the axes lie in the picture is known once it is drawn.
    box, (start, end) = axes.get_position(), axes.get_xlim()
    scores = [None] * len(heatmap.tags) if heatmap.scores is None else np.asarray(heatmap.scores).tolist()
    rows = []
    for tag, score in zip(heatmap.tags, scores, strict=True):
        heard = listen(heatmap, (waveform, SAMPLE_RATE), tag, SHARE, SAMPLE_RATE)
        rows.append({"tag": tag, "score": score, "kept": _flac(heard.kept), "removed": _flac(heard.removed)})
    return render(
        "explanation.html.j2",
        title=title or "explanation",
        method=heatmap.method,
        picture=data_uri("image/png", picture),
        clip=_flac(waveform),
        rows=rows,
        share=SHARE,
        left=round(100 * float(box.x0), 3),
        width=round(100 * float(box.width), 3),
        start=round(float(start), 4),
        seconds=round(float(end - start), 4),
    )


def _flac(waveform: npt.NDArray[Any]) -> str:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(waveform, -1.0, 1.0), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return data_uri("audio/flac", buffer.getvalue())
