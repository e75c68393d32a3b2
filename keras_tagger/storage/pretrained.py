"""Trained weights that come with the package: names, files, checksums. Without TensorFlow but for `Packaged.build`.

    weights/registry.json     {NAME: {"file", "sha256", "description"}}
    weights/NAME.npz          arrays "0000", "0001", ... in the order of `model.weights`, and "metadata", JSON text
    weights/ATTRIBUTION.md    where the data and the teacher come from, and their licences

Kernels are float16; vectors (biases, norms and their statistics, which may be small) are float32, and so is the model
that is built. The metadata is `format_version`, `name`, `description`, `audio` and `model` (the configuration's
sections), `tags` (the values of a `tags.json`, in the order of the outputs), `provenance` (plain values: how it was
made and measured) and `attribution` (text). A file is read only if its SHA-256 is the registry's, and nothing in it
can be executed.
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
from keras_tagger.files import replacing
from keras_tagger.tags import TagInfo, info_from_values, info_to_values

if TYPE_CHECKING:
    from keras_tagger.models.music_tagger import MusicTagger
    from keras_tagger.models.trained import TrainedModel

FORMAT_VERSION = 1
REGISTRY = "registry.json"


def weights_folder() -> Path:
    """The folder of the package's weights."""
    return Path(str(resources.files("keras_tagger") / "weights"))


def pretrained() -> dict[str, str]:
    """The names that `keras_tagger.load` knows without a path, each with one sentence about it."""
    return {name: str(entry["description"]) for name, entry in _registry(weights_folder()).items()}


@dataclass(frozen=True, eq=False)
class Packaged:
    """The content of a packaged file.

    Attributes:
        name: its name in the registry.
        tags: in the order of the outputs; info: what is known of each.
        audio, model: the configuration's sections, as plain values.
        arrays: in the order of `model.weights`.
        provenance: how it was made and measured, as plain values.
        attribution: origins and licences, as text.
        description: one sentence.
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
        """The model with the weights, in float32; `ModelError` where the arrays are of another model."""
        from keras_tagger.models.music_tagger import MusicTagger

        model = MusicTagger(self.tags, self.audio, self.model)
        model.build()
        if [array.shape for array in self.arrays] != [tuple(weight.shape) for weight in model.weights]:
            raise ModelError(
                f"expected arrays of the model that their metadata describe. Received: {self.name}, with other shapes."
            )
        for weight, array in zip(model.weights, self.arrays, strict=True):
            weight.assign(array.astype(np.float32))
        return model


def read_packaged(name: str, folder: Path | None = None) -> Packaged:
    """Read and verify a packaged file.

    Raises:
        ModelNotFoundError: the registry has no such name, or there is no such file.
        ModelError: the file is not the one that the registry describes, or not of this format.
    """
    folder = folder or weights_folder()
    registry = _registry(folder)
    if name not in registry:
        raise ModelNotFoundError(f"expected a pretrained name ({', '.join(registry) or 'none'}). Received: {name!r}.")
    path = folder / Path(str(registry[name]["file"])).name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelNotFoundError(f"expected the weights of {name!r}. Received: {path} ({error.strerror}).") from None
    found = hashlib.sha256(content).hexdigest()
    if found != registry[name]["sha256"]:
        raise ModelError(
            f"{path}: expected SHA-256 {registry[name]['sha256']}. Received: {found}, a damaged or changed file."
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            metadata = json.loads(str(stored["metadata"]))
            arrays = [stored[f"{index:04d}"] for index in range(len(stored.files) - 1)]
        if metadata["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version {metadata['format_version']!r}, not {FORMAT_VERSION}")
        tags = tuple(str(entry["tag"]) for entry in metadata["tags"])
        return Packaged(
            name,
            tags,
            info_from_values(metadata["tags"], tags),
            metadata["audio"],
            metadata["model"],
            arrays,
            metadata["provenance"],
            str(metadata["attribution"]),
            str(metadata["description"]),
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ModelError(f"expected packaged weights. Received: {path} ({error}).") from None


def write_packaged(
    tagger: TrainedModel,
    name: str,
    description: str,
    provenance: Mapping[str, Any],
    attribution: str,
    folder: Path | None = None,
) -> Path:
    """Write a tagger as NAME.npz and enter it into the registry; an older one of that name is replaced.

    Raises:
        ModelError: a weight is not finite, or beyond float16's range.
    """
    folder = folder or weights_folder()
    arrays = {}
    for index, weight in enumerate(tagger.model.weights):
        array = np.asarray(weight.numpy(), np.float32)
        with np.errstate(over="ignore"):
            array = array.astype(np.float16) if array.ndim > 1 else array
        if not np.isfinite(array).all():
            raise ModelError(f"expected weights within float16's range. Received: {weight.path}.")
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
    registry[name] = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "description": description,
    }
    with replacing(folder / REGISTRY) as temporary:
        temporary.write_text(json.dumps(dict(sorted(registry.items())), ensure_ascii=False, indent=2) + "\n", "utf-8")
    return path


def _registry(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / REGISTRY
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(name): {key: str(entry[key]) for key in ("file", "sha256", "description")}
            for name, entry in entries.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"expected the list of the package's weights (installing keras_tagger again restores it). "
            f"Received: {path} ({reason})."
        ) from None
