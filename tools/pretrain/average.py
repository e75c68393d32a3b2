"""Average the weights of runs that were fine-tuned from one another, which is better on unseen music than the last one.

    PYTHONPATH=tools python -m pretrain.average --out runs/mean.keras runs/compact-maps=0.3 runs/varied=0.7

Fine-tuned weights stay in the same basin of the loss as the weights they began from, so their mean is also a model, and
it keeps more of what both know ("Robust fine-tuning of zero-shot models", Wortsman et al. 2022, arXiv 2109.01903;
"Model soups", Wortsman et al. 2022, arXiv 2203.05482). All runs must have the same batch-norm statistics
(`training.freeze: statistics`), because averaged statistics fit no model. The result has the tags that all runs have,
so outputs of only some of them, such as those of `teacher.py --hidden`, are dropped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from absl import app, flags

from keras_tagger.errors import KerasTaggerError, ModelError
from keras_tagger.tagger import Tagger, load

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("out", None, "The .keras file to write.", required=True)


def main(argv: Sequence[str]) -> None:
    """Average the runs on the command line, with the share after "=" or else with equal shares."""
    if len(argv) < 3:
        raise app.UsageError(f"expected at least two runs to average. Received: {', '.join(argv[1:]) or 'none'}")
    try:
        names, shares = zip(*(run_and_share(text, len(argv) - 1) for text in argv[1:]), strict=True)
        average([load(name) for name in names], shares).save(FLAGS.out)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    print(FLAGS.out)


def average(taggers: Sequence[Tagger], shares: Sequence[float]) -> Tagger:
    """Compute the weighted mean of taggers, with the tags that all of them have and the last one's configuration.

    It may be made in place of the last one.

    Raises:
        ModelError: shares do not add up to 1, or the taggers have no tag in common or differ in shapes or batch
            statistics.
    """
    if not np.isclose(sum(shares), 1.0) or min(shares) < 0:
        raise ModelError(f"expected shares in 0..1 that add up to 1. Received: {', '.join(map(str, shares))}.")
    shared = [tag for tag in taggers[-1].tags if all(tag in tagger.tags for tagger in taggers)]
    if not shared:
        raise ModelError("expected runs with a tag in common. Received: runs without one.")
    taggers = [tagger if list(tagger.tags) == shared else tagger.select(shared) for tagger in taggers]
    last = taggers[-1]
    for tagger in taggers:
        if [weight.shape for weight in tagger.model.weights] != [weight.shape for weight in last.model.weights]:
            raise ModelError("expected runs of the same model. Received: weights with different shapes.")
    for weights in zip(*(tagger.model.weights for tagger in taggers), strict=True):
        values = [weight.numpy() for weight in weights]
        if "moving_" in weights[-1].path and not all(np.allclose(value, values[-1], rtol=1e-5) for value in values):
            raise ModelError(
                "expected runs with the same batch statistics (training.freeze: statistics). "
                f"Received: runs that differ in {weights[-1].path}."
            )
        weights[-1].assign(np.tensordot(shares, np.stack(values), 1).astype(values[-1].dtype))
    return last


def run_and_share(text: str, count: int) -> tuple[str, float]:
    """Parse RUN=SHARE; without a share it is one of `count` equal ones."""
    name, mark, share = text.rpartition("=")
    if not mark:
        return text, 1.0 / count
    try:
        return name, float(share)
    except ValueError:
        raise ModelError(f"expected RUN=SHARE. Received: {text!r}.") from None


if __name__ == "__main__":
    define_flags()
    app.run(main)
