"""Label rendered scores with a tagger of your own instead of the teacher, eight times as fast.

    PYTHONPATH=tools python -m pretrain.pseudo --model runs/compact --manifest data/scores/manifest.jsonl \
        --out data/score_pseudo

Writes the same files as `teacher.py`, for `correct.py` to correct: the label of a patch is the mean of the tag-wise
contributions of its tokens. A tagger learns nothing from its own labels, only from the corrections, so all tags that
`correct.py` does not correct are unknown. A clip whose .npz exists is not labelled again. Pseudo-labels are from
"Self-training with Noisy Student", Xie et al. 2020, arXiv 1911.04252.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

from keras_tagger.data.manifest import SPLITS, read_manifest
from keras_tagger.errors import KerasTaggerError, ModelError
from keras_tagger.tagger import Tagger, load
from pretrain.correct import LOWERED
from pretrain.teacher import (
    HOP_LENGTH,
    HOP_SECONDS,
    PATCH_FRAMES,
    PATCH_SECONDS,
    SAMPLE_RATE,
    label_manifest,
    patch_starts,
)

_EPSILON = 1e-6

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("model", None, "A pretrained name, a run directory or a .keras file.", required=True)
    flags.DEFINE_string("manifest", None, "Manifest of the rendered scores or of varied copies.", required=True)
    flags.DEFINE_string("out", None, "Folder of the labels.", required=True)
    flags.DEFINE_enum("split", None, SPLITS, "Label only the clips of one split.")


def main(argv: Sequence[str]) -> None:
    """Label the clips and print their number."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        manifest = read_manifest(FLAGS.manifest)
        manifest = manifest.select(FLAGS.split) if FLAGS.split else manifest
        index = label_manifest([PseudoTeacher(FLAGS.model, load(FLAGS.model))], manifest, Path(FLAGS.out))
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{len(manifest) - len(index['failed'])} clips labelled, {len(index['failed'])} failed: {Path(FLAGS.out)}")


class PseudoTeacher:
    """A tagger with the interface that `teacher.label_manifest` needs.

    Attributes:
        name: for the index.
        vocabulary: the tags of a second teacher would be called after it.
        tags: those that a score can correct, in the tagger's order.
    """

    vocabulary = "own"

    def __init__(self, name: str, tagger: Tagger) -> None:
        self.name = name
        self.tags = tuple(tag for tag in tagger.tags if tag in LOWERED)
        if not self.tags or tagger.model.audio_config.sample_rate != SAMPLE_RATE:
            raise ModelError(
                f"{name}: expected a tagger of {SAMPLE_RATE} Hz with some of the tags {', '.join(LOWERED)}. "
                f"Received: {tagger.model.audio_config.sample_rate} Hz, {len(self.tags)} of them"
            )
        self._tagger = tagger

    def patches(self, waveform: np.ndarray, hop_seconds: float = HOP_SECONDS) -> tuple[np.ndarray, np.ndarray]:
        """Return logits, float32 [n_patches, n_tags], and the centres of patches in seconds, as `Teacher.patches`."""
        heat = self._tagger.contributions((waveform, SAMPLE_RATE), self.tags)
        starts = patch_starts(len(waveform) // HOP_LENGTH + 1, hop_seconds) * HOP_LENGTH / SAMPLE_RATE
        # A token belongs to the patches that contain its centre.
        inside = [(heat.times >= start) & (heat.times < start + PATCH_SECONDS) for start in starts]
        means = np.stack([heat.values[:, tokens].mean(axis=1) for tokens in inside])
        means = np.clip(means.astype(np.float64), _EPSILON, 1.0 - _EPSILON)
        length = min(PATCH_FRAMES * HOP_LENGTH, len(waveform)) / SAMPLE_RATE
        return np.log(means / (1.0 - means)).astype(np.float32), (starts + length / 2).astype(np.float32)


if __name__ == "__main__":
    define_flags()
    app.run(main)
