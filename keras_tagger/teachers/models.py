"""A `Tagger`, or a SavedModel that keras_tagger exported, as a teacher. Imports TensorFlow."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import yaml

from keras_tagger.data.dense import DenseLabels
from keras_tagger.errors import ModelError
from keras_tagger.export import layout
from keras_tagger.files import to_text
from keras_tagger.tagger import Tagger
from keras_tagger.teachers.teacher import HOP_SECONDS, PATCH_SECONDS

# A last patch may lack this much audio, as in musicnn, whose frames are centred on their samples.
_SLACK_SECONDS = 0.016
_BATCH = 16


class _PatchTeacher:
    """A teacher that scores every patch as a clip of its own, as `Tagger.tag` does.

    Args:
        name: What it is, for people.
        fingerprint: Text that differs for models that score differently.
        tags: The names of its tags.
        sample_rate: The sample rate of its input in Hz.
    """

    def __init__(self, name: str, fingerprint: str, tags: tuple[str, ...], sample_rate: int) -> None:
        self.names: tuple[str, ...] = (name,)
        self.fingerprint = fingerprint
        self.tags = tags
        self.sample_rate = sample_rate

    def _scores(self, patches: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Return the probabilities, float `[B, n_tags]`, of waveforms."""
        raise NotImplementedError

    def label(self, waveform: npt.NDArray[Any], hop_seconds: float = HOP_SECONDS) -> DenseLabels:
        """Label a clip; see `Teacher.label`."""
        rate = self.sample_rate
        size, hop = round(PATCH_SECONDS * rate), hop_seconds * rate
        beyond = max(len(waveform) - size + round(_SLACK_SECONDS * rate), 0)
        starts = [int(i * hop + 0.5) for i in range(int(beyond / hop) + 1)]
        patches = [waveform[start : start + size] for start in starts]
        values = [self._scores(patches[first : first + _BATCH]) for first in range(0, len(patches), _BATCH)]
        length = min(PATCH_SECONDS, len(waveform) / rate)
        return DenseLabels(self.tags, np.concatenate(values).astype(np.float32), hop_seconds, length, "mean")


class TaggerTeacher(_PatchTeacher):
    """A `Tagger` as a teacher.

    Args:
        tagger: The tagger.
        name: What it is, for people.
    """

    def __init__(self, tagger: Tagger, name: str = "a Tagger") -> None:
        digest = hashlib.sha256(tagger.config.to_yaml().encode())
        for weight in tagger.model.weights:
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
        fingerprint = f"Tagger {digest.hexdigest()}: {', '.join(tagger.tags)}"
        super().__init__(name, fingerprint, tagger.tags, tagger.model.audio_config.sample_rate)
        self._tagger = tagger

    def _scores(self, patches: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        windowing = self._tagger.model.windowing
        windows = (windowing.cut((patch, self.sample_rate), warnings=[]) for patch in patches)
        found = []
        for scores in self._tagger.clip_scores(windows):
            if not isinstance(scores, np.ndarray):
                raise scores
            found.append(scores)
        return np.stack(found)

    def select(self, tags: Collection[str]) -> TaggerTeacher:
        """Return the same teacher; fewer outputs would not be faster."""
        return self


class SavedModelTeacher(_PatchTeacher):
    """A SavedModel as a teacher.

    Args:
        path: The folder of one version, which `keras_tagger.export` wrote.

    Raises:
        ModelError: If it is another SavedModel, or cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        try:
            tags = tuple(to_text((path / layout.TAGS_TEXT).read_bytes()).splitlines())
            rate = int(yaml.safe_load((path / layout.CONFIG).read_text("utf-8"))["audio"]["sample_rate"])
            self._model = tf.saved_model.load(os.fspath(path))
            self._signature: Callable[..., dict[str, tf.Tensor]] = self._model.signatures["serving_default"]
        except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError, tf.errors.OpError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"teacher: expected a SavedModel that keras_tagger exported. Received: {path} ({reason})."
            ) from None
        digest = hashlib.sha256()
        for file in _files(path):
            digest.update(file.read_bytes())
        super().__init__(os.fspath(path), f"SavedModel {digest.hexdigest()}", tags, rate)

    def _scores(self, patches: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        # The last patch may lack a few samples.
        longest = max(map(len, patches))
        padded = np.stack([np.pad(patch, (0, longest - len(patch))) for patch in patches])
        return self._signature(waveform=tf.constant(padded, tf.float32))["tags"].numpy()

    def select(self, tags: Collection[str]) -> SavedModelTeacher:
        """Return the same teacher."""
        return self


def _files(path: Path) -> Iterator[Path]:
    """Yield the files that determine what a SavedModel computes."""
    yield path / layout.SAVED_MODEL
    yield path / layout.TAGS_TEXT
    yield from sorted((path / "variables").glob("*"))
