"""Loading and saving models: what a name stands for, and the files behind it. TensorFlow is imported by `load_model`.

A model is named by a pretrained name, a run directory or a `.keras` file. A pretrained name always means the weights of
the package, whatever lies in the working directory; `./compact` or a `Path` means the path.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_tagger.config import config_from_dict, load_config
from keras_tagger.errors import ConfigError, ModelError, ModelNotFoundError
from keras_tagger.files import replacing
from keras_tagger.storage.pretrained import pretrained, read_packaged
from keras_tagger.tags import TagInfo, info_from_json, info_to_json

if TYPE_CHECKING:
    from keras_tagger.models.trained import TrainedModel

TAGS_FILE = "tags.json"


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


def load_model(source: str | os.PathLike[str]) -> TrainedModel:
    """A tagger from a pretrained name, a run directory or a `.keras` file.

    `keras_tagger.pretrained()` lists the names. Such a name always means the weights of the package, whatever lies in
    the working directory; `./compact` or a `Path` means the path. Nothing in a file is executed: its configuration is
    read as plain values, the model is built by this package, and only arrays are taken from it. Inference is in
    float32.

    Raises:
        ModelNotFoundError: there is nothing of that name.
        ModelError: what is there is no keras_tagger model, or packaged weights are not those of the registry.
    """
    from keras_tagger.models.trained import TrainedModel

    found = find_source(source)
    if found.file is None:
        packaged = read_packaged(found.name)
        sections = {"name": packaged.name, "audio": packaged.audio, "model": packaged.model}
        try:
            return TrainedModel(packaged.build(), config_from_dict(sections), packaged.info)
        except ConfigError as error:
            raise ModelError(f"expected packaged weights. Received: {packaged.name} ({error}).") from None
    values = stored_values(found)
    config = None
    if found.run_dir is not None and (found.run_dir / "config.yaml").is_file():
        config = load_config(found.run_dir / "config.yaml")
    path = found.file
    from keras_tagger.models.music_tagger import MusicTagger

    try:
        tags = [str(tag) for tag in values["tags"]]
        if config is None:
            config = config_from_dict({"audio": values["audio"], "model": values["model"]})
        model = MusicTagger(tags, values["audio"], values["model"])
        model.build()
        model.load_weights(path)
    except ConfigError as error:
        raise ModelError(f"expected a keras_tagger model. Received: {path} ({error})") from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"expected the weights of a keras_tagger model. Received: {path} ({reason}).") from None
    return TrainedModel(model, config, _stored_info(path, found.run_dir, tags))


def _stored_info(path: Path, run_dir: Path | None, tags: Sequence[str]) -> Mapping[str, TagInfo] | None:
    """The `tags.json` of a run directory, else the one in the `.keras` file; None where there is none."""
    beside = run_dir / TAGS_FILE if run_dir is not None else None
    try:
        if beside is not None and beside.is_file():
            path = beside
            return info_from_json(beside.read_bytes(), tags)
        with zipfile.ZipFile(path) as archive:
            return info_from_json(archive.read(TAGS_FILE), tags) if TAGS_FILE in archive.namelist() else None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def save_model(trained: TrainedModel, path: str | os.PathLike[str]) -> None:
    """Write a `.keras` file, whole or not at all; `keras_tagger.load` reads it."""
    path = Path(path)
    if path.suffix != ".keras":
        raise ModelError(f"expected a path that ends in .keras. Received: {str(path)!r}.")
    with replacing(path) as temporary:
        trained.model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(TAGS_FILE, info_to_json(trained.tags, trained.info))
