"""PyTorch's initial values, for models that were first trained there."""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_tagger.layers import TransformerEncoder


def begin_as_pytorch(model: keras.Model, copied: bool = False) -> None:
    """Draw all weights anew, from Keras' global seed.

    Kernels and biases are uniform in -1/sqrt(n)..1/sqrt(n), n being the inputs of one output (PyTorch's Linear, Conv1d
    and Conv2d: He et al. 2015 with a = sqrt(5)); trained [CLS] and positions are normal with standard deviation 1;
    scales, offsets and statistics of norms stay 1 and 0.

    Args:
        model: A built model.
        copied: Whether all layers of the encoder start as copies of the first (the BERT code of Won et al. 2019 and
            2020 deep-copies one layer).
    """
    bound = 1.0
    for weight in model.weights:
        if weight.name == "kernel":
            bound = 1.0 / math.sqrt(_inputs(weight))
            weight.assign(keras.random.uniform(weight.shape, -bound, bound))
        elif weight.name == "bias":
            # A bias follows its kernel.
            weight.assign(keras.random.uniform(weight.shape, -bound, bound))
        elif weight.name in ("vector", "table") and weight.trainable:
            weight.assign(keras.random.normal(weight.shape))
    for layer in model.layers if copied else ():
        if isinstance(layer, TransformerEncoder):
            for block in layer.blocks[1:]:
                block.set_weights(layer.blocks[0].get_weights())


def _inputs(kernel: keras.Variable) -> int:
    """Return the fan-in of a kernel: the number of inputs per output."""
    split_heads = kernel.path.split("/")[-2] in ("query", "key", "value")
    return int(np.prod(kernel.shape[: -2 if split_heads else -1]))
