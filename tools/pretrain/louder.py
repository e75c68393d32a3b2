"""Let the second ear of a model of the preset `pons` count more, without a change of the mean logits on music.

    export PYTHONPATH=tools
    python -m pretrain.louder --init runs/mean.keras --out runs/louder.keras --music data/clips/manifest.jsonl

The tokens of the second ear are multiplied by --gain. What that adds to the logits of music on average is taken from
the head's bias, so that the tags of instruments keep their place among the others.

Imports TensorFlow. Not part of the package.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import keras
import numpy as np
from absl import app, flags

from keras_tagger.errors import KerasTaggerError
from keras_tagger.tagger import load
from pretrain.learn import Array, Source
from pretrain.thin import passed_on

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("init", None, "The .keras file or run to begin with.", required=True)
    flags.DEFINE_string("out", None, "The .keras file to write.", required=True)
    flags.DEFINE_multi_string("music", [], "Manifest of music; may be followed by =WEIGHT.", required=True)
    flags.DEFINE_integer("crops", 400, "Crops of music to measure the mean on.", lower_bound=8)
    flags.DEFINE_float("gain", 1.45, "By how much the second ear is multiplied.", lower_bound=0)
    flags.DEFINE_integer("seed", 0, "Seed of the crops.")


def main(argv: Sequence[str]) -> None:
    """Write the model."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        tagger = load(FLAGS.init)
        source = Source(FLAGS.music, tagger.model.window_samples, tuple(tagger.tags), FLAGS.seed)
        make_louder(tagger.model, source.batches(FLAGS.crops), FLAGS.gain)
        tagger.save(FLAGS.out)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    print(FLAGS.out)


def make_louder(model: keras.Model, crops: Iterable[Array], gain: float) -> None:
    """Multiply the second ear of a model by a gain.

    Args:
        model: The model.
        crops: Batches of music, float `[batch, samples]`.
        gain: The factor.
    """
    front_end, head = model.front_end, model.head.logits
    means = [front_end.ear(model.see(batch.astype(np.float32))).numpy().mean(axis=(0, 1)) for batch in crops]
    (projection,) = front_end.project_ear.get_weights()
    kernel, bias = head.get_weights()
    added = (gain - 1.0) * np.mean(means, axis=0) @ projection @ passed_on(model) @ kernel
    front_end.project_ear.set_weights([gain * projection])
    head.set_weights([kernel, bias - added])


if __name__ == "__main__":
    define_flags()
    app.run(main)
