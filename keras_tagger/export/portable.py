"""The model as one function for other runtimes: the one forward pass, with the spectrogram as a convolution."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_tagger.runtimes.description import OUTPUTS, Description

if TYPE_CHECKING:
    from keras_tagger.models.music_tagger import MusicTagger
    from keras_tagger.models.trained import TrainedModel

WAVEFORM = tf.TensorSpec([None, None], tf.float32, name="waveform")


def describe(trained: TrainedModel, precision: str = "float32") -> Description:
    """Return what an exported file says about a model."""
    model = trained.model
    return Description(
        trained.tags,
        trained.info,
        trained.config,
        model.window_samples,
        model.token_samples,
        model.front_end.rounds_up,
        precision,
    )


def portable_function(model: MusicTagger) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Return a function of waveforms float32 `[B, samples]`, of up to one window, with every output of `analyze`."""

    def run(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
        with model.spectrogram.as_convolution():
            return _analyzed(model, waveform)

    return run


def function_of_weights(model: MusicTagger) -> Callable[..., dict[str, tf.Tensor]]:
    """Return the function of (waveforms, Fourier filters, *weights), the weights in the order of `model.weights`."""

    def run(waveform: tf.Tensor, filters: tf.Tensor, *weights: tf.Tensor) -> dict[str, tf.Tensor]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(keras.StatelessScope(list(zip(model.weights, weights, strict=True))))
            stack.enter_context(model.spectrogram.as_convolution(filters))
            return _analyzed(model, waveform)

    return run


def _analyzed(model: MusicTagger, waveform: tf.Tensor) -> Any:
    return model.analyzer(OUTPUTS).python_function(waveform)
