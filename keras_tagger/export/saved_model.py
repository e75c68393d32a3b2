"""Export a tagger as one SavedModel with all of its outputs, for TensorFlow Serving.

`keras_tagger.export.signatures` describes the signatures. The SavedModel loads without keras, kapre and tensorflow-io.
Besides the graph it contains the tags, their `TagInfo`, the configuration, and warm-up requests;
`keras_tagger.export.layout` has the names of these files. `keras_tagger.export.check` checks whether TensorFlow Serving
can serve a SavedModel.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf
from absl import logging

from keras_tagger.errors import ModelError
from keras_tagger.export import layout, warmup
from keras_tagger.export.signatures import signatures
from keras_tagger.files import hidden_folder, utf8_path, write_text
from keras_tagger.tags import info_to_json

if TYPE_CHECKING:
    from keras_tagger.models.trained import TrainedModel


def export(trained: TrainedModel, directory: str | os.PathLike[str]) -> Path:
    """Export a SavedModel as the next version in a directory.

    A server loads a numbered folder as soon as it sees one, so the version is written to a hidden folder beside it,
    which is renamed once it is complete.

    Args:
        trained: A `Tagger` or any other `TrainedModel`.
        directory: The model's base directory; it is created if it does not exist.

    Returns:
        The path of the version, e.g. `exported/1`.

    Raises:
        ModelError: If the directory cannot be written, or the disk is full.

    Example:
        >>> export(keras_tagger.load("compact"), "exported")
        PosixPath('exported/1')
    """
    if not os.fspath(directory):
        raise ModelError("expected a directory to export to. Received: an empty path.")
    base = Path(directory)
    with contextlib.ExitStack() as stack:
        try:
            temporary = stack.enter_context(hidden_folder(base, "export"))
        except OSError as error:
            raise ModelError(f"expected a directory to export to. Received: {base} ({error.strerror}).") from None
        try:
            _write(trained, temporary)
            return _publish(temporary, base)
        except (OSError, tf.errors.OpError) as error:
            # TensorFlow's text is "{{node}} path; reason [Op:name]".
            reason = getattr(error, "strerror", None) or str(error).rpartition("; ")[2].partition(" [Op")[0]
            raise ModelError(f"expected room for a version in {base}. Received: {reason}; nothing is kept.") from None


def _publish(temporary: Path, base: Path) -> Path:
    while True:
        version = base / str(max(layout.versions(base), default=0) + 1)
        try:
            # Renaming onto a folder with files fails, so two exports at the same time get two versions.
            os.rename(temporary, version)
            return version
        except OSError:
            if not version.exists():
                raise


def _write(trained: TrainedModel, path: Path) -> None:
    module = tf.Module()
    # A SavedModel contains the objects that its root references; Keras' variables wrap TensorFlow's.
    module.weights = [weight.value for weight in trained.model.weights]
    with _quiet(), utf8_path(path) as link:
        tf.saved_model.save(module, str(link), signatures=signatures(trained))
    texts = {
        layout.TAGS_TEXT: "".join(f"{tag}\n" for tag in trained.tags),
        layout.TAGS_JSON: info_to_json(trained.tags, trained.info),
        layout.CONFIG: trained.config.to_yaml(),
    }
    for name, text in texts.items():
        write_text(path / name, text)
    warmup.write_warmup(trained.model, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence TensorFlow's messages about every asset written."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)
