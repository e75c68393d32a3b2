"""List models without loading them: the packaged ones, and those in folders. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_tagger.config import load_config, presets
from keras_tagger.errors import ConfigError, ModelError, ModelNotFoundError
from keras_tagger.export import layout
from keras_tagger.storage.loading import ModelSource, stored_config
from keras_tagger.storage.pretrained import licences, packaged_file, pretrained
from keras_tagger.storage.run_dir import RunDir


@dataclass(frozen=True)
class StoredModel:
    """What is known about a model without loading it.

    Attributes:
        name: The pretrained name, or the path.
        kind: "pretrained", "run" (a run directory), "file" (`.keras`) or "export" (a folder of versions to serve).
        tags: The number of tags.
        preset: The preset whose architecture it has, or "" for another one.
        sample_rate: The rate of its input in Hz.
        window_seconds: The length of its window.
        size: Bytes of the model's file, or of all files of an export's newest version.
        licence: Of packaged weights; "" if unknown.
        description: Of packaged weights; "" if there is none.
        versions: The versions of an export; the last one is served by default.
        error: Why the model cannot be read; "" if it can. What is unknown is then 0 or "".
    """

    name: str
    kind: str
    tags: int = 0
    preset: str = ""
    sample_rate: int = 0
    window_seconds: float = 0.0
    size: int = 0
    licence: str = ""
    description: str = ""
    versions: tuple[int, ...] = ()
    error: str = ""


def packaged_models() -> list[StoredModel]:
    """List the packaged models, which `keras_tagger.load` takes by name.

    Example:
        >>> [model.name for model in packaged_models()]
        ['compact', 'compact-msd']
    """
    licence = licences()
    return [
        _described(
            StoredModel(name, "pretrained", licence=licence[name], description=description),
            packaged_file(name),
            ModelSource(name=name),
        )
        for name, description in pretrained().items()
    ]


def find_models(path: str | os.PathLike[str]) -> list[StoredModel]:
    """Find run directories, `.keras` files and exports in a folder, at any depth. Hidden folders are ignored.

    Args:
        path: A local folder, or a `.keras` file.

    Returns:
        The models, sorted by path.

    Raises:
        ModelNotFoundError: If the path does not exist, or holds no model.

    Example:
        >>> [(model.name, model.kind) for model in find_models("work")]
        [('work/exported', 'export'), ('work/runs/demo', 'run')]
    """
    top = os.fspath(path)
    if not os.path.exists(top):
        raise ModelNotFoundError(f"expected a folder with models. Received: {top!r}, which does not exist.")
    found = [_file(Path(top))] if os.path.isfile(top) else sorted(_below(top), key=lambda model: model.name)
    if not found:
        raise ModelNotFoundError(f"expected a folder with models. Received: {top!r}, which holds none.")
    return found


def _below(top: str) -> Iterator[StoredModel]:
    for parent, folders, files in os.walk(top):
        folder = Path(parent)
        run_dir = RunDir(folder)
        versions = {number: entry for number, entry in layout.versions(folder).items() if _is_version(entry)}
        if run_dir.model.name in files:
            yield _described(StoredModel(parent, "run"), run_dir.model, ModelSource(file=run_dir.model))
            folders.clear()
        elif versions:
            yield _export(parent, tuple(versions), list(versions.values())[-1])
            folders.clear()
        elif _is_version(folder):
            yield _export(parent, (), folder)
            folders.clear()
        else:
            yield from (_file(folder / name) for name in files if name.endswith(".keras") and not name.startswith("."))
            folders[:] = [name for name in folders if not name.startswith(".")]


def _is_version(folder: Path) -> bool:
    return (folder / layout.SAVED_MODEL).is_file()


def _file(path: Path) -> StoredModel:
    return _described(StoredModel(str(path), "file"), path, ModelSource(file=path))


def _export(name: str, versions: tuple[int, ...], newest: Path) -> StoredModel:
    size = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    model = StoredModel(name, "export", versions=versions, size=size)
    try:
        n_tags = len((newest / layout.TAGS_TEXT).read_text("utf-8").splitlines())
        sections = load_config(newest / layout.CONFIG).to_dict()
    except (OSError, ValueError, ConfigError):
        # It may be any SavedModel.
        return model
    return _with(model, {"tags": range(n_tags), **sections})


def _described(model: StoredModel, file: Path, source: ModelSource) -> StoredModel:
    try:
        return _with(dataclasses.replace(model, size=file.stat().st_size), stored_config(source))
    except (OSError, ModelError, ModelNotFoundError) as error:
        return dataclasses.replace(model, error=str(error))


def _with(model: StoredModel, values: Mapping[str, Any]) -> StoredModel:
    try:
        return dataclasses.replace(
            model,
            tags=len(values["tags"]),
            preset=_preset(values["model"]),
            sample_rate=values["audio"]["sample_rate"],
            window_seconds=values["audio"]["window_seconds"],
        )
    except (KeyError, TypeError) as error:
        return dataclasses.replace(model, error=f"expected a keras_tagger model. Received: {model.name} ({error}).")


def _preset(model: Mapping[str, Any]) -> str:
    wanted = _architecture(model)
    found = (name for name, config in presets().items() if _architecture(config.to_dict()["model"]) == wanted)
    return next(found, "")


def _architecture(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what does not change in training: not the dropout, which packaged weights do without."""
    parts = ("spectrogram", "front_end", "attention", "encoder")
    return {
        part: {key: value for key, value in model[part].items() if "dropout" not in key and key != "stored"}
        for part in parts
    }
