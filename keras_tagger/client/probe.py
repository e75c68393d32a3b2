"""What a served model does not say of itself, found out by asking: its tokens, its window and the order of its tags.

TensorFlow Serving hands out signatures with dtypes and shapes, and no file of the SavedModel. A plan (a generator, see
`keras_tagger.client.plans`) asks small, made-up clips instead. All answers are 1, 0 or an error where a model
behaves otherwise than the exports of this package; nothing is taken for granted that was not seen.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ServingError

Result = TypeVar("Result")
Reply = dict[str, npt.NDArray[Any]]

# A model that sees more than this at once is sent all the same windows, only not its own.
MAX_WINDOW_SECONDS = 60.0
_REFUSED = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNIMPLEMENTED", "INTERNAL")


@dataclass(frozen=True)
class Question:
    """A signature to run on arrays, and the outputs wanted (None for all)."""

    signature: str
    inputs: dict[str, npt.NDArray[Any]] = field(repr=False)
    outputs: tuple[str, ...] | None = None


# A generator that asks questions, is sent the replies and returns a result.
Plan = Generator[Question, Reply, Result]


def examples(waveforms: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Clips as the signature `classify` takes them: tf.Examples with a float feature `waveform`, object [B]."""
    import tensorflow as tf

    serialized = []
    for waveform in waveforms:
        values = tf.train.Feature(float_list=tf.train.FloatList(value=waveform))
        example = tf.train.Example(features=tf.train.Features(feature={"waveform": values}))
        serialized.append(example.SerializeToString())
    # Of objects: numpy's own byte strings drop zeros at their end.
    return np.array(serialized, object)


def token_samples(sample_rate: int) -> Plan[int]:
    """Samples from one token to the next: twice the centre of the first. 1 where the model has no such times."""
    try:
        reply = yield Question("contributions", {"waveform": np.zeros((1, 1), np.float32)}, ("times",))
    except ServingError as error:
        if error.code not in _REFUSED:
            raise
        return 1
    times = np.ravel(reply["times"]).astype(np.float64)
    return max(round(2.0 * times[0] * sample_rate), 1) if len(times) == 1 else 1


def window_samples(sample_rate: int, token: int) -> Plan[int]:
    """The length of the windows that the model cuts long clips into, in samples; 0 where that cannot be seen.

    Two clips that are equal up to one token, the split, and unlike from there on have equal attention in all windows
    before the one that holds the split, and other attention from that window's first token on. As long as the split
    lies in the first window, that is the clip's first token. The split goes up by doubling, so the first window that
    it leaves begins one window's length into the clip.
    """

    def first_change(split: int, total: int) -> Plan[int]:
        rng = np.random.default_rng(0)
        quiet, loud = (rng.uniform(-level, level, total * token).astype(np.float32) for level in (0.02, 0.7))
        clips = np.stack([quiet, np.concatenate([quiet[: split * token], loud[split * token :]])])
        reply = yield Question("attention", {"waveform": clips}, ("heatmap",))
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
        # With the split where the second window begins, and well before it, the answers are known.
        for split, expected in ((found, found), (found - max(found // 4, 1), 0)):
            if (yield from first_change(split, 2 * found)) != expected:
                return 0
    except ServingError as error:
        if error.code not in _REFUSED:
            raise
        return 0
    return found * token


def tag_names(sample_rate: int) -> Plan[tuple[str, ...]]:
    """The names of the tags in the order of the outputs.

    `classify` gives names in the order of their scores, equal scores in the order of the outputs, and `serving_default`
    the scores in the order of the outputs: one clip asked of both tells which is which, if its scores are distinct
    enough.

    Raises:
        ServingError: the model lacks one of the signatures, or its scores do not tell tags apart.
    """
    for seed in range(8):
        noise = np.random.default_rng(seed).uniform(-1.0, 1.0, sample_rate).astype(np.float32) * np.float32(0.3)
        # Not all of one colour: even a model that hears only the spectrum sees different clips.
        waveform = np.convolve(noise, np.ones(seed + 1, np.float32) / (seed + 1), mode="same")
        scores = (yield Question("serving_default", {"waveform": waveform[np.newaxis]}, ("tags",)))["tags"][0]
        ranked = yield Question("classify", {"inputs": examples([waveform])}, ("classes", "scores"))
        order = np.argsort(-scores, kind="stable")
        error = np.abs(scores[order] - ranked["scores"][0]).max()
        if error == 0.0 or 3.0 * error < np.diff(-scores[order]).min():
            names = [""] * len(order)
            for index, name in zip(order, ranked["classes"][0], strict=True):
                names[index] = name.decode()
            return tuple(names)
    raise ServingError("expected a model whose scores tell its tags apart. Received: one that gives equal scores.")
