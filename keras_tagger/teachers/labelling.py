"""Label many clips with a teacher; an interrupted run continues where it stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from absl import logging

from keras_tagger import audio
from keras_tagger.audio.read_ahead import read_ahead
from keras_tagger.data.dense import write_dense
from keras_tagger.data.manifest import Clip
from keras_tagger.errors import AudioError, AudioWarning
from keras_tagger.files import printable
from keras_tagger.progress import progress_bar
from keras_tagger.teachers.teacher import HOP_SECONDS, Teacher

_DECODED_AHEAD = 2


def label_clips(
    teacher: Teacher,
    clips: Sequence[Clip],
    files: Sequence[Path],
    hop_seconds: float = HOP_SECONDS,
    title: str = "label",
) -> dict[int, str]:
    """Write the dense labels (`keras_tagger.data.dense`) of every clip whose file does not exist yet.

    A clip that cannot be read, or is silent, is logged and left out; the next call tries it again.

    Args:
        teacher: The teacher.
        clips: The clips.
        files: The `.npz` file of each clip.
        hop_seconds: As in `Teacher.label`.
        title: The name of the progress bar.

    Returns:
        The reason by the index of each clip that was left out.

    Example:
        >>> failed = label_clips(open_teacher("musicnn"), manifest.clips, files)
    """
    failed: dict[int, str] = {}
    missing = [index for index, file in enumerate(files) if not file.exists()]
    with progress_bar(total=len(clips), initial=len(clips) - len(missing), desc=title, unit="clip") as bar:
        for index, waveform in read_ahead(_decoded(clips, missing, teacher.sample_rate), _DECODED_AHEAD):
            try:
                if not isinstance(waveform, np.ndarray):
                    raise waveform
                labels = teacher.label(waveform, hop_seconds)
                if not np.isfinite(labels.values).all():
                    peak = np.abs(waveform).max()
                    raise AudioError(f"{clips[index].path}: expected audio roughly in -1..1. Received: {peak:g}.")
                write_dense(files[index], labels)
            except AudioError as error:
                failed[index] = str(error)
                logging.warning("%s: left out: %s", printable(clips[index].clip_id), printable(str(error)))
            bar.update()
    return failed


def _decoded(
    clips: Sequence[Clip], indices: Sequence[int], rate: int
) -> Iterator[tuple[int, npt.NDArray[Any] | AudioError]]:
    """Yield the waveform of each clip, or the error that decoding raised."""
    for index in indices:
        clip, warnings = clips[index], list[AudioWarning]()
        try:
            waveform = audio.load(clip.path, rate, clip.start_seconds, clip.end_seconds, warnings)
        except (AudioError, OSError) as error:
            yield index, error if isinstance(error, AudioError) else AudioError(str(error))
            continue
        for warning in warnings:
            if warning.kind != "silent":
                logging.warning("%s: %s", printable(clip.clip_id), warning)
        silent = next((warning for warning in warnings if warning.kind == "silent"), None)
        yield index, waveform if silent is None else AudioError(str(silent))
