"""What every layer of keras_tagger must pass, after keras-hub's `TestCase.run_layer_test`."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
# Largest difference from float32, as a share of the largest float32 output.
HALF_TOLERANCE = {"mixed_bfloat16": 0.06, "mixed_float16": 0.01}


@functools.cache
def convolves_half() -> bool:
    """Whether TensorFlow can convolve half precision here.

    It cannot if `ONEDNN_MAX_CPU_ISA` forbids the instructions that the processor has for it.
    """
    try:
        tf.nn.conv2d(tf.ones([1, 4, 4, 1], tf.bfloat16), tf.ones([3, 3, 1, 1], tf.bfloat16), 1, "VALID")
    except tf.errors.AbortedError:
        return False
    return True


def run_layer_test(
    cls: type[keras.layers.Layer],
    init_kwargs: Mapping[str, Any],
    input_data: np.ndarray,
    expected_output_shape: Sequence[int],
    tmp_path: Path,
    expected_weights: tuple[int, int],
    always_float32: bool = False,
    lengths: Sequence[int] = (),
) -> None:
    """Check the contract of one layer.

    Args:
        cls: the layer's class.
        init_kwargs: constructor arguments; those not given are checked with their defaults.
        input_data: float32 [B, length, ...].
        expected_output_shape: of that input.
        tmp_path: for a `.keras` file.
        expected_weights: trainable and non-trainable variables.
        always_float32: whether the output is float32 under mixed precision too.
        lengths: other sizes of axis 1 that the layer takes; empty if it has no such axis.
    """
    check_config(cls, init_kwargs)
    layer = _check_build(cls, init_kwargs, input_data, expected_weights)
    eager = _check_eager(layer, input_data, expected_output_shape)
    model = _check_symbolic(layer, input_data, eager, bool(lengths))
    _check_lengths(model, layer, input_data, lengths)
    _check_save(model, input_data, eager, tmp_path / f"{cls.__name__}.keras", lengths)
    _check_policies(cls, init_kwargs, layer, input_data, eager, always_float32)
    if layer.trainable_variables:
        _check_gradient(layer, input_data)
        _check_fit(model, input_data, eager)


def check_config(cls: type[keras.layers.Layer], init_kwargs: Mapping[str, Any]) -> None:
    """Every constructor argument is an attribute and in the configuration, which makes the layer again."""
    layer = cls(**init_kwargs, name="given_name")
    config = layer.get_config()
    assert config["name"] == "given_name"
    json.dumps(config)
    own = cls.__init__ if "__init__" in vars(cls) else (lambda self: None)
    for parameter in inspect.signature(own).parameters.values():
        if parameter.name == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        expected = init_kwargs.get(parameter.name, parameter.default)
        assert _plain(config[parameter.name]) == _plain(expected), parameter.name
        assert _plain(getattr(layer, parameter.name)) == _plain(expected), parameter.name
    assert cls.from_config(config).get_config() == config
    assert keras.saving.get_registered_name(cls) == f"keras_tagger>{cls.__name__}"
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(revived) is cls
    assert revived.get_config() == config


def _check_build(
    cls: type[keras.layers.Layer],
    init_kwargs: Mapping[str, Any],
    input_data: np.ndarray,
    expected_weights: tuple[int, int],
) -> keras.layers.Layer:
    keras.utils.set_random_seed(0)
    layer = cls(**init_kwargs)
    layer.build((None, *input_data.shape[1:]))
    layer(input_data)
    found = len(layer.trainable_variables), len(layer.non_trainable_weights)
    assert found == expected_weights, [weight.path for weight in layer.weights]
    assert len({weight.path for weight in layer.weights}) == len(layer.weights)
    _shake(layer)
    return layer


def _check_eager(layer: keras.layers.Layer, input_data: np.ndarray, expected_output_shape: Sequence[int]) -> np.ndarray:
    output = layer(input_data)
    assert tuple(output.shape) == tuple(expected_output_shape)
    assert tuple(layer.compute_output_shape(input_data.shape)) == tuple(expected_output_shape)
    assert output.dtype == tf.float32
    assert np.isfinite(output.numpy()).all()
    # An output that does not depend on the input would pass much of the rest.
    assert np.abs(layer(0.5 * input_data).numpy() - output.numpy()).max() > 1e-3
    return output.numpy()


def _check_symbolic(
    layer: keras.layers.Layer, input_data: np.ndarray, eager: np.ndarray, any_length: bool
) -> keras.Model:
    fixed = layer(keras.Input(input_data.shape[1:]))
    assert fixed.shape == (None, *eager.shape[1:])
    first = (None,) if any_length else input_data.shape[1:2]
    symbolic = keras.Input((*first, *input_data.shape[2:]))
    output = layer(symbolic)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    model = keras.Model(symbolic, output)
    np.testing.assert_allclose(model(input_data), eager, atol=1e-6)
    return model


def _check_lengths(
    model: keras.Model, layer: keras.layers.Layer, input_data: np.ndarray, lengths: Sequence[int]
) -> None:
    for length in lengths:
        repeats = -(-length // input_data.shape[1])
        changed = np.concatenate([input_data] * repeats, axis=1)[:, :length]
        assert tuple(model(changed).shape) == tuple(layer.compute_output_shape(changed.shape)), length


def _check_save(
    model: keras.Model, input_data: np.ndarray, eager: np.ndarray, path: Path, lengths: Sequence[int]
) -> None:
    model.save(path)
    loaded = keras.saving.load_model(path)
    np.testing.assert_allclose(loaded(input_data), eager, atol=1e-6)
    for length in lengths:
        if length < input_data.shape[1]:
            part = input_data[:, :length]
            np.testing.assert_allclose(loaded(part), model(part), atol=1e-6)


def _check_policies(
    cls: type[keras.layers.Layer],
    init_kwargs: Mapping[str, Any],
    layer: keras.layers.Layer,
    input_data: np.ndarray,
    eager: np.ndarray,
    always_float32: bool,
) -> None:
    for policy in POLICIES if convolves_half() else ("float32",):
        other = cls(**init_kwargs, dtype=policy)
        other(input_data)
        other.set_weights(layer.get_weights())
        assert all(weight.dtype == "float32" for weight in other.weights), policy
        output = other(input_data)
        expected = "float32" if always_float32 else keras.DTypePolicy(policy).compute_dtype
        assert keras.backend.standardize_dtype(output.dtype) == expected, policy
        symbolic = other(keras.Input(input_data.shape[1:]))
        assert keras.backend.standardize_dtype(symbolic.dtype) == expected, f"{policy}, symbolic"
        if policy == "float32":
            np.testing.assert_allclose(output, eager, atol=1e-6)
            continue
        difference = np.abs(tf.cast(output, tf.float32).numpy() - eager).max()
        assert difference <= HALF_TOLERANCE[policy] * np.abs(eager).max(), policy


def _check_gradient(layer: keras.layers.Layer, input_data: np.ndarray) -> None:
    """The gradient reaches every trainable weight, and is the slope of the loss along itself."""
    direction = np.random.default_rng(1).standard_normal(layer(input_data).shape).astype(np.float32)

    def loss() -> tf.Tensor:
        return tf.reduce_mean(layer(input_data) * direction)

    variables = layer.trainable_variables
    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, [variable.value for variable in variables])
    missing = [v.path for v, gradient in zip(variables, gradients, strict=True) if gradient is None]
    assert not missing
    gradients = [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]
    squared = sum(float(np.sum(np.square(gradient, dtype=np.float64))) for gradient in gradients)
    before = [variable.numpy() for variable in variables]
    # Small, because of the kinks of ReLU and maximum.
    step = 2e-4 / np.sqrt(squared)
    sides = []
    for sign in (1.0, -1.0):
        for variable, start, gradient in zip(variables, before, gradients, strict=True):
            variable.assign(start + sign * step * gradient)
        sides.append(float(loss()))
    for variable, start in zip(variables, before, strict=True):
        variable.assign(start)
    np.testing.assert_allclose((sides[0] - sides[1]) / (2 * step), squared, rtol=0.05)


def _check_fit(model: keras.Model, input_data: np.ndarray, eager: np.ndarray) -> None:
    """A few steps of fit bring the output nearer to a target."""
    target = np.random.default_rng(2).standard_normal(eager.shape).astype(np.float32)
    # Eagerly: tracing takes longer than these steps, and graphs are what every test of the model runs.
    model.compile(optimizer=keras.optimizers.Adam(0.003), loss="mse", run_eagerly=True)
    losses = model.fit(input_data, target, epochs=4, batch_size=len(target), shuffle=False, verbose=0)
    assert losses.history["loss"][-1] < losses.history["loss"][0]


def _shake(layer: keras.layers.Layer) -> None:
    """Move every trainable weight off its start, so that a neutral start hides nothing."""
    rng = np.random.default_rng(0)
    for variable in layer.trainable_variables:
        variable.assign(variable.numpy() + 0.05 * rng.standard_normal(variable.shape))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
