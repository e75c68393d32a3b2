"""Files for TensorBoard's embedding projector: clips and tags as points. Importing this imports TensorFlow."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from google.protobuf import text_format
from tensorboard.plugins import projector
from tensorboard.plugins.projector import metadata

from keras_tagger.files import printable, replacing, write_text

if TYPE_CHECKING:
    from keras_tagger.models.trained import TrainedModel

FOLDER = "embeddings"
_THUMBNAIL = 32  # pixels; a sprite of 1000 clips is 1024 pixels wide


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Clips as points.

    Attributes:
        names: Names of the clips.
        truths: True tags of each clip.
        vectors: [CLS] after the encoder, float32 `[n_clips, width]`.
        scores: Tag probabilities, float32 `[n_clips, n_tags]`.
        pictures: Spectrogram of each clip, float32 `[frames, mels]`.
    """

    names: tuple[str, ...]
    truths: tuple[tuple[str, ...], ...]
    vectors: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    pictures: Sequence[npt.NDArray[Any]]


def write_embeddings(logs: Path, found: Embeddings, trained: TrainedModel) -> None:
    """Write the clips, with their tags and pictures, and the tags, as the rows of the model's last layer.

    Args:
        logs: The folder of the run's event files.
        found: The clips.
        trained: The model that embedded them.
    """
    folder = logs / FOLDER
    best = found.scores.argmax(axis=1)
    rows = [
        (name, ", ".join(truth), trained.tags[index], f"{scores[index]:.3f}")
        for name, truth, index, scores in zip(found.names, found.truths, best, found.scores, strict=True)
    ]
    config = projector.ProjectorConfig()
    clips = _add(config, folder, "clips", found.vectors, ("clip", "true tags", "best tag", "score"), rows)
    with replacing(folder / "clips.png") as temporary:
        _write_sprite(temporary, found.pictures)
    clips.sprite.image_path = f"{FOLDER}/clips.png"
    clips.sprite.single_image_dim.extend([_THUMBNAIL, _THUMBNAIL])
    evidence = [(tag, "yes" if trained.info[tag].has_evidence else "no") for tag in trained.tags]
    kernel = np.asarray(trained.model.head.logits.kernel)
    _add(config, folder, "tags", kernel.T, ("tag", "in the training data"), evidence)
    # TensorBoard's own function refuses folders whose names are not UTF-8.
    write_text(logs / metadata.PROJECTOR_FILENAME, text_format.MessageToString(config))


def _add(
    config: Any,
    folder: Path,
    name: str,
    vectors: npt.NDArray[Any],
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> Any:
    """Write points with their metadata, and add them to the configuration."""
    write_text(folder / f"{name}.tsv", "".join("\t".join(f"{x:.5g}" for x in vector) + "\n" for vector in vectors))
    lines = ["\t".join(printable(cell) for cell in row) for row in (columns, *rows)]
    write_text(folder / f"{name}_metadata.tsv", "\n".join(lines) + "\n")
    embedding = config.embeddings.add()
    embedding.tensor_name = name
    embedding.tensor_path = f"{FOLDER}/{name}.tsv"
    embedding.metadata_path = f"{FOLDER}/{name}_metadata.tsv"
    return embedding


def _write_sprite(path: Path, pictures: Sequence[npt.NDArray[Any]]) -> None:
    """Write thumbnails of spectrograms as one square picture, row by row."""
    from matplotlib.image import imsave

    side = int(np.ceil(np.sqrt(len(pictures))))
    sprite = np.zeros((side * _THUMBNAIL, side * _THUMBNAIL), np.float32)
    for index, picture in enumerate(pictures):
        shown = _means(_means(picture).T)[::-1]  # low frequencies at the bottom
        low, high = shown.min(), shown.max()
        row, column = divmod(index, side)
        place = np.s_[row * _THUMBNAIL :, column * _THUMBNAIL :]
        sprite[place][:_THUMBNAIL, :_THUMBNAIL] = (shown - low) / max(high - low, 1e-6)
    imsave(path, sprite, cmap="magma", vmin=0.0, vmax=1.0)


def _means(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the means of `_THUMBNAIL` stretches of the first axis; short arrays are stretched."""
    edges = np.linspace(0, len(values), _THUMBNAIL + 1).astype(int)
    return np.stack([values[a : max(b, a + 1)].mean(axis=0) for a, b in itertools.pairwise(edges)])
