"""The trained weights that come with the package. Only `Packaged.build` imports TensorFlow.

    weights/registry.json     {NAME: {"file", "sha256", "description", "licence", "prefix"}}
    weights/NAME.npz          arrays "0000", "0001", ... in the order of `model.weights`, and "metadata", JSON text
    weights/ATTRIBUTION.md    the origins and licences of the data and the teacher

Kernels are stored as float16, and vectors (biases, norms and their statistics, which may be small) as float32; the
model that is built is float32. The metadata holds `format_version`, `name`, `description`, `audio` and `model` (the
sections of the configuration), `tags` (the content of a `tags.json`, in the order of the outputs), `provenance` (plain
values: how the weights were made and measured) and `attribution` (text). A file is read only if its SHA-256 matches
the registry, and nothing in it can be executed.

Several names may share a file: each then has the tags that begin with its `prefix`, which is left out of their names;
the name with the empty prefix has those that begin with none of the others.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ModelError, ModelNotFoundError
from keras_tagger.files import replacing, write_json
from keras_tagger.tags import TagInfo, info_from_values, info_to_values

if TYPE_CHECKING:
    from keras_tagger.models.music_tagger import MusicTagger
    from keras_tagger.models.trained import TrainedModel

FORMAT_VERSION = 1
REGISTRY = "registry.json"


def weights_folder() -> Path:
    """Return the folder of the packaged weights."""
    return Path(str(resources.files("keras_tagger") / "weights"))


def pretrained() -> dict[str, str]:
    """Return the names of the packaged weights, each with a one-sentence description.

    Example:
        >>> list(keras_tagger.pretrained())
        ['compact', 'compact-msd']
    """
    return {name: str(entry["description"]) for name, entry in _registry(weights_folder()).items()}


def licences() -> dict[str, str]:
    """Return the licences of the packaged weights by name, as SPDX identifiers; "" if unknown.

    Example:
        >>> licences()["compact"]
        'Apache-2.0'
    """
    return {name: entry["licence"] for name, entry in _registry(weights_folder()).items()}


def packaged_file(name: str, folder: Path | None = None) -> Path:
    """Return the path of packaged weights; the name must be one of the registry's."""
    folder = folder or weights_folder()
    return folder / Path(_registry(folder)[name]["file"]).name


@dataclass(frozen=True, eq=False)
class Packaged:
    """The content of a packaged file.

    Attributes:
        name: Its name in the registry.
        tags: The tags in the order of the outputs.
        info: The threshold and quality of each tag.
        audio: The section of the configuration, as plain values.
        model: The section of the configuration, as plain values.
        arrays: The weights in the order of `model.weights`.
        provenance: How the weights were made and measured, as plain values.
        attribution: Origins and licences, as text.
        description: One sentence.
    """

    name: str
    tags: tuple[str, ...]
    info: Mapping[str, TagInfo]
    audio: Mapping[str, Any]
    model: Mapping[str, Any]
    arrays: Sequence[npt.NDArray[Any]]
    provenance: Mapping[str, Any]
    attribution: str
    description: str

    def build(self) -> MusicTagger:
        """Build the model in float32 and assign the weights.

        Raises:
            ModelError: If the arrays do not fit the model that the metadata describe.
        """
        from keras_tagger.models.music_tagger import MusicTagger

        model = MusicTagger(self.tags, self.audio, self.model)
        model.build()
        if [array.shape for array in self.arrays] != [tuple(weight.shape) for weight in model.weights]:
            raise ModelError(
                f"expected arrays that fit the model of their metadata. Received: {self.name}, with other shapes."
            )
        for weight, array in zip(model.weights, self.arrays, strict=True):
            weight.assign(array.astype(np.float32))
        return model


def read_packaged(name: str, folder: Path | None = None) -> Packaged:
    """Read and verify a packaged file.

    Args:
        name: A name of the registry.
        folder: The folder of the registry, or None for the packaged weights.

    Raises:
        ModelNotFoundError: If the registry does not have the name, or the file does not exist.
        ModelError: If the checksum differs from that of the registry, or the file has another format.
    """
    folder = folder or weights_folder()
    registry = _registry(folder)
    if name not in registry:
        raise ModelNotFoundError(f"expected a pretrained name ({', '.join(registry) or 'none'}). Received: {name!r}.")
    path = packaged_file(name, folder)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelNotFoundError(f"expected the weights of {name!r}. Received: {path} ({error.strerror}).") from None
    found = hashlib.sha256(content).hexdigest()
    if found != registry[name]["sha256"]:
        raise ModelError(
            f"{path}: expected SHA-256 {registry[name]['sha256']}. Received: {found}; the file was damaged or changed."
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            metadata = json.loads(str(stored["metadata"]))
            arrays = [stored[f"{index:04d}"] for index in range(len(stored.files) - 1)]
        if metadata["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version {metadata['format_version']!r}, not {FORMAT_VERSION}")
        rows, outputs = _outputs_of(name, metadata["tags"], registry)
        tags = tuple(str(row["tag"]) for row in rows)
        # The head's kernel and bias are the last weights. If they do not fit the tags, `build` says so.
        if arrays[-1].shape == (len(metadata["tags"]),):
            arrays[-2:] = [array[..., outputs] for array in arrays[-2:]]
        return Packaged(
            name,
            tags,
            info_from_values(rows, tags),
            metadata["audio"],
            metadata["model"],
            arrays,
            metadata["provenance"],
            str(metadata["attribution"]),
            registry[name]["description"],
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ModelError(f"expected packaged weights. Received: {path} ({error}).") from None


def _outputs_of(
    name: str, rows: Sequence[Mapping[str, Any]], registry: Mapping[str, Mapping[str, str]]
) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the rows of a name's tags, without their prefix, and the places of the tags among the outputs."""
    prefix, file = registry[name]["prefix"], registry[name]["file"]
    others = tuple(
        entry["prefix"]
        for other, entry in registry.items()
        if other != name and entry["file"] == file and len(entry["prefix"]) > len(prefix)
    )
    chosen, outputs = [], []
    for index, row in enumerate(rows):
        tag = str(row["tag"])
        if tag.startswith(prefix) and not tag.startswith(others):
            chosen.append({**row, "tag": tag.removeprefix(prefix)})
            outputs.append(index)
    return chosen, outputs


def write_packaged(
    tagger: TrainedModel,
    name: str,
    description: str,
    provenance: Mapping[str, Any],
    attribution: str,
    folder: Path | None = None,
    licence: str = "Apache-2.0",
    also: Mapping[str, tuple[str, str]] | None = None,
) -> Path:
    """Write a model as NAME.npz and enter it into the registry, replacing any older one of that name.

    Args:
        tagger: The model.
        name: Its name in the registry.
        description: One sentence.
        provenance: How the weights were made and measured, as plain values.
        attribution: Origins and licences, as text.
        folder: The folder of the registry, or None for the packaged weights.
        licence: The licence of the weights, as an SPDX identifier.
        also: Other names that share the file: each with the prefix of its tags and a description.

    Raises:
        ModelError: If a weight is not finite or outside the range of float16.
    """
    folder = folder or weights_folder()
    arrays = {}
    for index, weight in enumerate(tagger.model.weights):
        array = np.asarray(weight.numpy(), np.float32)
        with np.errstate(over="ignore"):
            array = array.astype(np.float16) if array.ndim > 1 else array
        if not np.isfinite(array).all():
            raise ModelError(f"expected weights in the range of float16. Received: {weight.path}.")
        arrays[f"{index:04d}"] = array
    sections = tagger.config.to_dict()
    metadata = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "description": description,
        "audio": sections["audio"],
        "model": sections["model"],
        "tags": info_to_values(tagger.tags, tagger.info),
        "provenance": dict(provenance),
        "attribution": attribution,
    }
    path = folder / f"{name}.npz"
    with replacing(path) as temporary:
        np.savez(temporary, metadata=np.array(json.dumps(metadata, ensure_ascii=False)), **arrays)
    registry = _registry(folder) if (folder / REGISTRY).exists() else {}
    shared = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": licence,
    }
    for shared_name, (prefix, text) in {name: ("", description), **(also or {})}.items():
        registry[shared_name] = {**shared, "description": text, "prefix": prefix}
    write_json(folder / REGISTRY, dict(sorted(registry.items())), indent=2)
    return path


def _registry(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / REGISTRY
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(name): {
                **{key: str(entry[key]) for key in ("file", "sha256", "description")},
                "licence": str(entry.get("licence", "")),
                "prefix": str(entry.get("prefix", "")),
            }
            for name, entry in entries.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"expected the registry of packaged weights (reinstall keras_tagger to restore it). Received: {path} "
            f"({reason})."
        ) from None
