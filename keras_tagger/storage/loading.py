"""Load and save models, and resolve their names. Only `load_model` imports TensorFlow.

A model is named by a pretrained name, a run directory or a `.keras` file. A pretrained name always means the packaged
weights, whatever the working directory contains; write `./compact` or a `Path` to mean a path.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_tagger import config
from keras_tagger.config import ExperimentConfig, config_from_dict
from keras_tagger.errors import ConfigError, ModelError, ModelNotFoundError
from keras_tagger.export.layout import SAVED_MODEL
from keras_tagger.files import replacing
from keras_tagger.storage.pretrained import packaged_file, pretrained, read_packaged
from keras_tagger.storage.run_dir import TAGS_JSON, RunDir
from keras_tagger.tags import TagInfo, info_from_json, info_to_json

if TYPE_CHECKING:
    from keras_tagger.models.trained import TrainedModel


@dataclass(frozen=True)
class ModelSource:
    """The location of a stored model.

    Attributes:
        name: The pretrained name, or "" for a file.
        file: The `.keras` file, or None for a pretrained name.
        run_dir: The run directory, or None if none was named.
    """

    name: str = ""
    file: Path | None = None
    run_dir: RunDir | None = None


def find_model(source: str | os.PathLike[str]) -> ModelSource:
    """Resolve the name or path of a model.

    Raises:
        ModelNotFoundError: If no model has that name or path.
        ModelError: If it is a directory without a model, or neither a name nor a path.
    """
    names = pretrained()
    expected = f"expected a pretrained name ({', '.join(names) or 'there are none'}), a run directory or a .keras file."
    if not isinstance(source, str | os.PathLike):
        raise ModelError(f"{expected} Received: {source!r}.")
    if isinstance(source, str) and source in names:
        return ModelSource(name=source)
    path = Path(source)
    if path.is_dir():
        run_dir = RunDir(path)
        if not run_dir.model.is_file():
            kind = "a SavedModel" if (path / SAVED_MODEL).exists() else f"a directory without {run_dir.model.name}"
            raise ModelError(f"expected a run directory or a .keras file. Received: {path}, {kind}.")
        return ModelSource(file=run_dir.model, run_dir=run_dir)
    if not path.exists():
        raise ModelNotFoundError(f"{expected} Received: {str(source)!r}, which does not exist.")
    return ModelSource(file=path)


def weights_sha256(source: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of the file that holds a model.

    Raises:
        ModelNotFoundError: If no model has that name or path.
        ModelError: If it is a directory without a model, or neither a name nor a path.
    """
    found = find_model(source)
    path = packaged_file(found.name) if found.file is None else found.file
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights_digest(source: str | os.PathLike[str]) -> str:
    """Return the first eight digits of `weights_sha256`."""
    return weights_sha256(source)[:8]


def stored_config(source: ModelSource) -> Mapping[str, Any]:
    """Read a model's `tags` and its `audio` and `model` sections as plain values.

    Raises:
        ModelError: If the file is not a keras_tagger model.
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


def stored_tag_info(source: ModelSource) -> dict[str, TagInfo]:
    """Read what is known about a model's tags, without loading it.

    Raises:
        ModelError: If the file is not a keras_tagger model.
    """
    if source.file is None:
        return dict(read_packaged(source.name).info)
    tags = [str(tag) for tag in stored_config(source)["tags"]]
    found = _tag_info(source.file, source.run_dir, tags) or {}
    return {tag: found.get(tag, TagInfo()) for tag in tags}


def load_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | ExperimentConfig, overrides: Mapping[str, Any] | None = None
) -> ExperimentConfig:
    """Read a configuration, as `keras_tagger.config.load_config` does.

    If `training.init` names a model and there is no preset, the settings of `audio` and `model` that the configuration
    leaves out are those of that model.

    Args:
        source: A YAML file, the name of a packaged configuration, a nested dictionary, or a configuration.
        overrides: Values by dotted key.

    Raises:
        ConfigError: If the file is missing or not YAML, a key or value is not allowed, or `training.init` does not name
            a model.

    Example:
        >>> load_config("demo", {"training.epochs": 3}).training.epochs
        3
    """
    return config.load_config(source, overrides, _init_sections)


def _init_sections(init: str) -> dict[str, Any]:
    """Return the sections `audio` and `model` of a stored model."""
    try:
        stored = stored_config(find_model(init))
        return {"audio": stored["audio"], "model": stored["model"]}
    except (ModelError, ModelNotFoundError, KeyError) as error:
        raise ConfigError(f"training.init: {error}") from None


def load_model(source: str | os.PathLike[str]) -> TrainedModel:
    """Load a model from a pretrained name, a run directory or a `.keras` file.

    Nothing in a file is executed: its configuration is read as plain values, this package builds the model, and only
    arrays are taken from the file. Inference is in float32.

    Args:
        source: A name listed by `keras_tagger.pretrained()`, or a path. A name always means the packaged weights; write
            `./compact` or a `Path` to mean a path.

    Raises:
        ModelNotFoundError: If no model has that name or path.
        ModelError: If the file is not a keras_tagger model, or packaged weights differ from those of the registry.

    Example:
        >>> load_model("runs/demo").tags
        ('drums', 'guitar', 'piano')
    """
    from keras_tagger.models.music_tagger import MusicTagger
    from keras_tagger.models.trained import TrainedModel

    found = find_model(source)
    if found.file is None:
        packaged = read_packaged(found.name)
        sections = {"name": packaged.name, "audio": packaged.audio, "model": packaged.model}
        try:
            return TrainedModel(packaged.build(), config_from_dict(sections), packaged.info)
        except ConfigError as error:
            raise ModelError(f"expected packaged weights. Received: {packaged.name} ({error}).") from None
    path, run_dir = found.file, found.run_dir
    values = stored_config(found)
    settings = None
    if run_dir is not None and run_dir.config.is_file():
        settings = config.load_config(run_dir.config)
    try:
        tags = [str(tag) for tag in values["tags"]]
        if settings is None:
            settings = config_from_dict({"audio": values["audio"], "model": values["model"]})
        model = MusicTagger(tags, values["audio"], values["model"])
        model.build()
        model.load_weights(path)
    except ConfigError as error:
        raise ModelError(f"expected a keras_tagger model. Received: {path} ({error})") from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"expected the weights of a keras_tagger model. Received: {path} ({reason}).") from None
    return TrainedModel(model, settings, _tag_info(path, run_dir, tags))


def _tag_info(path: Path, run_dir: RunDir | None, tags: Sequence[str]) -> Mapping[str, TagInfo] | None:
    """Read the `tags.json` of a run directory, or else the one in the `.keras` file; None if there is none."""
    try:
        if run_dir is not None and run_dir.tags_json.is_file():
            path = run_dir.tags_json
            return info_from_json(path.read_bytes(), tags)
        with zipfile.ZipFile(path) as archive:
            return info_from_json(archive.read(TAGS_JSON), tags) if TAGS_JSON in archive.namelist() else None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def save_model(trained: TrainedModel, path: str | os.PathLike[str]) -> None:
    """Write a `.keras` file atomically; `keras_tagger.load` reads it.

    Raises:
        ModelError: If the path does not end in `.keras`.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ModelError(f"expected a path that ends in .keras. Received: {str(path)!r}.")
    with replacing(path) as temporary:
        trained.model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(TAGS_JSON, info_to_json(trained.tags, trained.info))
