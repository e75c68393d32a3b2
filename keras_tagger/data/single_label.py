"""Single-label data: of every clip's tags exactly one holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_tagger.data.manifest import Clip, label_matrix
from keras_tagger.data.prepared import PreparedClip
from keras_tagger.errors import ManifestError


def check_exclusive(clips: Sequence[Clip | PreparedClip], tags: Sequence[str]) -> None:
    """Check that the labels of every clip are a distribution over the tags: one tag, or soft labels that sum to 1.

    Raises `ManifestError` naming a clip of which that is not so.
    """
    labels = label_matrix((clip.tags for clip in clips), tags)
    # NaN, not known, is not close to anything.
    wrong = np.flatnonzero(~np.isclose(labels.sum(axis=1), 1.0, atol=1e-3))
    if len(wrong):
        clip = clips[int(wrong[0])]
        found = ", ".join(f"{tag}:{clip.tags[tag]:g}" for tag in tags if clip.tags.get(tag, 0.0) != 0.0) or "none"
        raise ManifestError(
            "model.head.activation: expected one tag of every clip, which softmax needs (sigmoid takes any number). "
            f"Received: {found} of '{clip.path}', and {len(wrong) - 1} more clips like it."
        )
