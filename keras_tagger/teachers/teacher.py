"""`Teacher`: the interface of what labels clips for a student. Does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import numpy.typing as npt

from keras_tagger.data.dense import DenseLabels

# Patches overlap by half. They are 187 and 96 frames of musicnn, and 96 frames are twelve tokens of `compact`.
PATCH_SECONDS, HOP_SECONDS = 2.992, 1.536


class Teacher(Protocol):
    """A model whose scores of short patches become the labels of a student.

    Attributes:
        names: What it is, for people; a teacher with two sets of weights has two names.
        fingerprint: Text that differs for teachers that label differently.
        tags: The names of its tags.
        sample_rate: The sample rate of its input in Hz.
    """

    names: tuple[str, ...]
    fingerprint: str
    tags: tuple[str, ...]
    sample_rate: int

    def label(self, waveform: npt.NDArray[Any], hop_seconds: float = HOP_SECONDS) -> DenseLabels:
        """Label patches of about 3 s. A clip that is shorter than a patch has one label.

        Args:
            waveform: Mono audio at `sample_rate`, float32 `[samples]`, at least one sample.
            hop_seconds: The time from the start of a patch to that of the next.
        """

    def select(self, tags: Collection[str]) -> Teacher:
        """Return a teacher that has at least these of its tags, and may be faster."""
