"""The model as a function of what its front-end sees: logits, gradients, and what stands for nothing.

What a front-end sees is a spectrogram [B, frames, n_mels], or of a front-end that takes the waveform [B, samples].
Functions are traced once per model.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_tagger.errors import ModelError
from keras_tagger.models.music_tagger import MusicTagger

# Rows of one call: a batch of spectrograms of 10 s and their activations stay within some hundred MB.
BATCH = 16
# Half precision's smallest numbers are larger than many a gradient.
_HALF_SCALE = 256.0

_traced: weakref.WeakKeyDictionary[MusicTagger, dict[str, Any]] = weakref.WeakKeyDictionary()


def traced(model: MusicTagger, function: Callable[..., Any], *signature: tf.TensorSpec) -> Any:
    """`function` of (model, *tensors) as a `tf.function` of the tensors, traced once per model."""
    functions = _traced.setdefault(model, {})
    if function.__name__ not in functions:
        # The function must not keep its model, which is the key, alive.
        weak = weakref.ref(model)

        def call(*tensors: tf.Tensor) -> Any:
            return function(weak(), *tensors)

        functions[function.__name__] = tf.function(call, input_signature=signature, autograph=False)
    return functions[function.__name__]


def spec(model: MusicTagger) -> tf.TensorSpec:
    """Shape of what the front-end sees."""
    bands = [] if model.front_end.takes_waveform else [model.model_config.spectrogram.n_mels]
    return tf.TensorSpec([None, None, *bands], tf.float32)


def front_end_input(model: MusicTagger, waveforms: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What the front-end sees of waveforms [B, samples], float32."""
    see = traced(model, _see, tf.TensorSpec([None, None], tf.float32))
    return see(tf.convert_to_tensor(waveforms, tf.float32)).numpy()


def logits(model: MusicTagger, seen: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Logits float32 [B, n_tags], in batches."""
    call = traced(model, _logits, spec(model))
    return np.concatenate([call(tf.constant(part)).numpy() for part in _parts(np.asarray(seen, np.float32))])


def probabilities(model: MusicTagger, seen: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Probabilities float32 [B, n_tags], in batches."""
    return model.probabilities(tf.constant(logits(model, seen))).numpy()


def gradients(model: MusicTagger, seen: npt.NDArray[Any], row: int) -> npt.NDArray[Any]:
    """Gradient of a tag's logit with respect to what the front-end sees, float32 of its shape, in batches."""
    call = traced(model, _gradients, spec(model), tf.TensorSpec([], tf.int32))
    target = tf.constant(row, tf.int32)
    return np.concatenate([call(tf.constant(part), target).numpy() for part in _parts(np.asarray(seen, np.float32))])


def silence(model: MusicTagger, seen: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What the front-end sees of silence, of the shape of `seen`."""
    if model.front_end.takes_waveform:
        return np.zeros_like(seen)
    level = front_end_input(model, np.zeros((1, model.token_samples), np.float32))[0, 0]
    return np.broadcast_to(level, seen.shape).astype(np.float32)


def filling(model: MusicTagger, seen: npt.NDArray[Any], fill: str | float) -> npt.NDArray[Any]:
    """What stands for nothing, of the shape of `seen`: "mean" (of each band over time), "silence", or a number."""
    if fill == "silence":
        return silence(model, seen)
    if fill == "mean":
        return np.broadcast_to(seen.mean(axis=1, keepdims=True), seen.shape)
    return np.full_like(seen, fill)


def scale(model: MusicTagger) -> float:
    """What a logit is multiplied by before its gradient is taken, and the gradient divided by."""
    return _HALF_SCALE if model.compute_dtype == "float16" else 1.0


def connected(gradient: Any, what: str) -> Any:
    """A gradient, or a ModelError where the model's output does not depend on what it is of."""
    if gradient is None:
        raise ModelError(f"expected a model whose tags are computed from {what}. Received: one without a gradient.")
    return gradient


def pick(values: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """A tag's column of [B, n_tags]: [B]."""
    return tf.gather(values, row, axis=1)


def _parts(seen: npt.NDArray[Any]) -> Sequence[npt.NDArray[Any]]:
    return [seen[start : start + BATCH] for start in range(0, len(seen), BATCH)]


def _see(model: MusicTagger, waveforms: tf.Tensor) -> tf.Tensor:
    return model.see(waveforms)


def _logits(model: MusicTagger, seen: tf.Tensor) -> tf.Tensor:
    return model.logits_of(seen)


def _gradients(model: MusicTagger, seen: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(seen)
        target = pick(model.logits_of(seen), row) * scale(model)
    return tape.gradient(target, seen) / scale(model)
