"""The model as a function of its front-end's input: logits, gradients, and neutral values to compare with.

The input of a front-end is a spectrogram `[B, frames, n_mels]`, or the waveform `[B, samples]` if the front-end takes
waveforms. TensorFlow functions are traced once per model.
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

# Largest batch of one call: 16 spectrograms of 10 s and their activations take a few hundred MB.
BATCH = 16
# Many gradients are smaller than the smallest number of float16.
_HALF_SCALE = 256.0

_traced: weakref.WeakKeyDictionary[MusicTagger, dict[str, Any]] = weakref.WeakKeyDictionary()


def traced(model: MusicTagger, function: Callable[..., Any], *signature: tf.TensorSpec) -> Any:
    """Return `function(model, *tensors)` as a `tf.function` of the tensors, traced once per model."""
    functions = _traced.setdefault(model, {})
    if function.__name__ not in functions:
        # The function must not keep the model, its key, alive.
        weak = weakref.ref(model)

        def call(*tensors: tf.Tensor) -> Any:
            return function(weak(), *tensors)

        functions[function.__name__] = tf.function(call, input_signature=signature, autograph=False)
    return functions[function.__name__]


def spec(model: MusicTagger) -> tf.TensorSpec:
    """Return the shape and dtype of the front-end's input."""
    bands = [] if model.front_end.takes_waveform else [model.model_config.spectrogram.n_mels]
    return tf.TensorSpec([None, None, *bands], tf.float32)


def front_end_input(model: MusicTagger, waveforms: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the front-end's input for waveforms `[B, samples]`, float32."""
    see = traced(model, _see, tf.TensorSpec([None, None], tf.float32))
    return see(tf.convert_to_tensor(waveforms, tf.float32)).numpy()


def logits(model: MusicTagger, seen: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Compute logits, float32 `[B, n_tags]`, in batches."""
    call = traced(model, _logits, spec(model))
    return np.concatenate([call(tf.constant(part)).numpy() for part in _parts(np.asarray(seen, np.float32))])


def probabilities(model: MusicTagger, seen: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Compute probabilities, float32 `[B, n_tags]`, in batches."""
    return model.probabilities(tf.constant(logits(model, seen))).numpy()


def gradients(model: MusicTagger, seen: npt.NDArray[Any], row: int) -> npt.NDArray[Any]:
    """Compute the gradient of a tag's logit with respect to the front-end's input, float32, in batches."""
    call = traced(model, _gradients, spec(model), tf.TensorSpec([], tf.int32))
    target = tf.constant(row, tf.int32)
    return np.concatenate([call(tf.constant(part), target).numpy() for part in _parts(np.asarray(seen, np.float32))])


def silence(model: MusicTagger, seen: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the front-end's input for silence, in the shape of `seen`."""
    if model.front_end.takes_waveform:
        return np.zeros_like(seen)
    level = front_end_input(model, np.zeros((1, model.token_samples), np.float32))[0, 0]
    return np.broadcast_to(level, seen.shape).astype(np.float32)


def filling(model: MusicTagger, seen: npt.NDArray[Any], fill: str | float) -> npt.NDArray[Any]:
    """Return neutral values in the shape of `seen`: "mean" (of each band over time), "silence", or a number."""
    if fill == "silence":
        return silence(model, seen)
    if fill == "mean":
        return np.broadcast_to(seen.mean(axis=1, keepdims=True), seen.shape)
    return np.full_like(seen, fill)


def scale(model: MusicTagger) -> float:
    """Return the loss scale: logits are multiplied by it before differentiation, and gradients divided by it."""
    return _HALF_SCALE if model.compute_dtype == "float16" else 1.0


def connected(gradient: Any, what: str) -> Any:
    """Return the gradient; raise `ModelError` if there is none because the output does not depend on `what`."""
    if gradient is None:
        raise ModelError(f"expected a model whose tags depend on its {what}. Received: a model without that gradient.")
    return gradient


def pick(values: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """Return a tag's column `[B]` of values `[B, n_tags]`."""
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
