"""What the name of a model stands for, and its configuration as plain values. Without TensorFlow.

A model is named by a pretrained name, a run directory or a `.keras` file. A pretrained name always means the weights of
the package, whatever lies in the working directory; `./compact` or a `Path` means the path.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_tagger.errors import ModelError, ModelNotFoundError
from keras_tagger.packaged import pretrained, read_packaged


@dataclass(frozen=True)
class Source:
    """Where a model is.

    Attributes:
        name: the pretrained name, or "".
        file: the `.keras` file; None for a pretrained name.
        run_dir: the run directory, where one was named.
    """

    name: str = ""
    file: Path | None = None
    run_dir: Path | None = None


def find_source(source: str | os.PathLike[str]) -> Source:
    """What a name or path stands for.

    Raises:
        ModelNotFoundError: there is nothing of that name.
        ModelError: a directory that is no run, or neither a name nor a path.
    """
    names = pretrained()
    if not isinstance(source, str | os.PathLike):
        raise ModelError(
            f"expected a pretrained name ({', '.join(names) or 'there are none'}), a run directory or a .keras file. "
            f"Received: {source!r}."
        )
    if isinstance(source, str) and source in names:
        return Source(name=source)
    path = Path(source)
    if path.is_dir():
        if not (path / "model.keras").is_file():
            kind = "a SavedModel" if (path / "saved_model.pb").exists() else "a directory without model.keras"
            raise ModelError(f"expected a run directory or a .keras file. Received: {path}, {kind}.")
        return Source(file=path / "model.keras", run_dir=path)
    if not path.exists():
        raise ModelNotFoundError(
            f"expected a pretrained name ({', '.join(names) or 'there are none'}), a run directory or a .keras file. "
            f"Received: {str(source)!r}, which does not exist."
        )
    return Source(file=path)


def stored_values(source: Source) -> Mapping[str, Any]:
    """The model's `tags`, and its `audio` and `model` sections, as plain values.

    Raises:
        ModelError: what is there is no keras_tagger model.
    """
    if source.file is None:
        packaged = read_packaged(source.name)
        return {"tags": list(packaged.tags), "audio": packaged.audio, "model": packaged.model}
    try:
        with zipfile.ZipFile(source.file) as archive:
            stored = json.loads(archive.read("config.json"))
        name, values = stored["registered_name"] or stored["class_name"], stored["config"]
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError) as error:
        raise ModelError(f"expected a .keras file. Received: {source.file} ({error}).") from None
    if name != "keras_tagger>MusicTagger" or not isinstance(values, Mapping):
        raise ModelError(f"expected a keras_tagger model. Received: {source.file}, which holds {name!r}.")
    return values
