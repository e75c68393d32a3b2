"""Open a teacher by its name or path. Imports TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path

from keras_tagger.errors import ModelError
from keras_tagger.export.layout import SAVED_MODEL, versions
from keras_tagger.tagger import Tagger, load
from keras_tagger.teachers.models import SavedModelTeacher, TaggerTeacher
from keras_tagger.teachers.musicnn import TAGS, MusicnnTeacher, find_wheel, load_musicnn, prefixed
from keras_tagger.teachers.teacher import Teacher

MUSICNN = "musicnn"


def open_teacher(source: str | os.PathLike[str] | Tagger | Teacher) -> Teacher:
    """Open a teacher.

    Args:
        source: "musicnn" (its weights are downloaded once by pip; see `keras_tagger.teachers.musicnn.find_wheel`), the
            path of musicnn's wheel, a pretrained name, a run directory, a `.keras` file, a SavedModel that
            keras_tagger exported (or the directory of its versions, of which the newest is taken), a `Tagger`, or
            anything that has the interface of a `Teacher`.

    Raises:
        ModelNotFoundError: If nothing has that name or path, or musicnn cannot be downloaded.
        ModelError: If it is not a model that can teach.

    Example:
        >>> open_teacher("musicnn").tags[:3]
        ('guitar', 'classical', 'slow')
    """
    if isinstance(source, Tagger):
        return TaggerTeacher(source)
    if not isinstance(source, str | os.PathLike):
        if hasattr(source, "label") and hasattr(source, "tags"):
            return source
        raise ModelError(f"teacher: expected musicnn, a path, a Tagger or a Teacher. Received: {source!r}.")
    path = Path(source)
    if source == MUSICNN or path.suffix == ".whl":
        wheel = find_wheel() if source == MUSICNN else path
        return MusicnnTeacher(prefixed([load_musicnn(wheel, vocabulary) for vocabulary in TAGS]))
    if path.is_dir() and not (path / SAVED_MODEL).is_file():
        newest = list(versions(path).values())[-1:]
        path = newest[0] if newest and (newest[0] / SAVED_MODEL).is_file() else path
    if (path / SAVED_MODEL).is_file():
        return SavedModelTeacher(path)
    return TaggerTeacher(load(source), os.fspath(source))
