"""Measure what a served model does not report: its tokens, its window and the order of its tags.

TensorFlow Serving reports signatures with dtypes and shapes, but no file of the SavedModel. The plans here (generators,
see `keras_tagger.client.plans`) ask the model about small synthetic clips instead. If a model does not behave as the
exports of this package do, the result is 1, 0 or an error; nothing is assumed that was not observed.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ServingError
from keras_tagger.files import to_text

Result = TypeVar("Result")
Reply = dict[str, npt.NDArray[Any]]

# The longest window that is searched for.
MAX_WINDOW_SECONDS = 60.0
# Status codes that say that a model cannot answer, as opposed to a server that is down or late.
REFUSED = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNIMPLEMENTED", "INTERNAL")


@dataclass(frozen=True)
class Request:
    """A call of a signature with arrays.

    Attributes:
        signature: Name of the signature.
        inputs: Its inputs by name.
        outputs: Names of the outputs wanted; None for all.
    """

    signature: str
    inputs: dict[str, npt.NDArray[Any]] = field(repr=False)
    outputs: tuple[str, ...] | None = None


# A generator that yields requests, is sent the replies and returns a result.
Plan = Generator[Request, Reply, Result]


def examples(waveforms: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return clips as the signature `classify` takes them: serialized tf.Examples with a float feature `waveform`."""
    import tensorflow as tf

    serialized = []
    for waveform in waveforms:
        values = tf.train.Feature(float_list=tf.train.FloatList(value=waveform))
        example = tf.train.Example(features=tf.train.Features(feature={"waveform": values}))
        serialized.append(example.SerializeToString())
    # An array of objects: numpy's own byte strings drop trailing zeros.
    return np.array(serialized, object)


def token_samples(sample_rate: int) -> Plan[int]:
    """Return the samples per token: twice the centre of the first token, or 1 if the model gives no such times."""
    try:
        reply = yield Request("contributions", {"waveform": np.zeros((1, 1), np.float32)}, ("times",))
    except ServingError as error:
        if error.code not in REFUSED:
            raise
        return 1
    times = np.ravel(reply["times"]).astype(np.float64)
    return max(round(2.0 * times[0] * sample_rate), 1) if len(times) == 1 else 1


def window_samples(sample_rate: int, token: int) -> Plan[int]:
    """Return the length in samples of the windows into which the model cuts long clips; 0 if it cannot be observed.

    Take two clips that are equal up to some token, the split, and different from there on. Their attention is equal in
    all windows before the one that contains the split, and differs from the first token of that window on. As long as
    the split lies in the first window, this is the first token of the clip. The split is doubled until it leaves the
    first window; the first difference then lies where a window begins.
    """

    def first_change(split: int, total: int) -> Plan[int]:
        rng = np.random.default_rng(0)
        quiet, loud = (rng.uniform(-level, level, total * token).astype(np.float32) for level in (0.02, 0.7))
        clips = np.stack([quiet, np.concatenate([quiet[: split * token], loud[split * token :]])])
        reply = yield Request("attention", {"waveform": clips}, ("heatmap",))
        one, other = reply["heatmap"].astype(np.float64)
        changed = np.abs(one - other) > 1e-3 * np.maximum(np.abs(one), np.abs(other))
        return int(np.argmax(changed)) if changed.any() else total

    split, found = 1, 0
    most = int(MAX_WINDOW_SECONDS * sample_rate / token)
    try:
        while not found:
            if split > most:
                return 0
            found = yield from first_change(split, 2 * split)
            split *= 2
        # Check: with the split at the start of the second window, and well before it, the results must be these.
        for split, expected in ((found, found), (found - max(found // 4, 1), 0)):
            if (yield from first_change(split, 2 * found)) != expected:
                return 0
    except ServingError as error:
        if error.code not in REFUSED:
            raise
        return 0
    return found * token


def tag_names(sample_rate: int) -> Plan[tuple[str, ...]]:
    """Return the names of the tags in the order of the outputs.

    `classify` gives the names in the order of their scores (equal scores in the order of the outputs), and
    `serving_default` gives the scores in the order of the outputs. Requesting both for one clip shows which name
    belongs to which output, provided that the clip's scores are distinct enough.

    Raises:
        ServingError: If the model lacks one of the signatures, or if its scores do not distinguish the tags.
    """
    for seed in range(8):
        noise = np.random.default_rng(seed).uniform(-1.0, 1.0, sample_rate).astype(np.float32) * np.float32(0.3)
        # Each seed smooths differently, so that a model that hears only the spectrum gets different clips too.
        waveform = np.convolve(noise, np.ones(seed + 1, np.float32) / (seed + 1), mode="same")
        scores = (yield Request("serving_default", {"waveform": waveform[np.newaxis]}, ("tags",)))["tags"][0]
        ranked = yield Request("classify", {"inputs": examples([waveform])}, ("classes", "scores"))
        order = np.argsort(-scores, kind="stable")
        error = np.abs(scores[order] - ranked["scores"][0]).max()
        if error == 0.0 or 3.0 * error < np.diff(-scores[order]).min():
            names = [""] * len(order)
            for index, name in zip(order, ranked["classes"][0], strict=True):
                names[index] = to_text(name)
            return tuple(names)
    raise ServingError("expected a model whose scores distinguish its tags. Received: a model that gives equal scores.")
