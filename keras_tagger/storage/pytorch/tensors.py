"""Tensors of a checkpoint on their way into layers: which were taken, which are missing, which are left over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_tagger.layers import ConvNorm


class Tensors:
    """The named tensors of a PyTorch model, and the values that they give to variables.

    Nothing is assigned before `assign`, so that a model is changed by a whole checkpoint or not at all.

    Args:
        values: name to array.
    """

    def __init__(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        self.values = values
        self.missing: list[str] = []
        self.wrong: list[str] = []
        self._taken: set[str] = set()
        self._planned: list[tuple[Any, npt.NDArray[Any]]] = []

    @property
    def left_over(self) -> list[str]:
        """Names of tensors that nothing took."""
        return [name for name in self.values if name not in self._taken]

    def ignore(self, wanted: Callable[[str], bool]) -> list[str]:
        """Count those as taken that hold nothing the model learnt; gives their names."""
        names = [name for name in self.values if wanted(name)]
        self._taken.update(names)
        return names

    def assign(self) -> None:
        """Give the variables their values."""
        for variable, value in self._planned:
            variable.assign(value)

    def batch_norm(self, layer: keras.layers.Layer, name: str, bias: str = "") -> None:
        """A normalisation; `bias` is that of a convolution before it, which its mean takes in."""
        for variable, part in (
            (layer.gamma, "weight"),
            (layer.beta, "bias"),
            (layer.moving_variance, "running_var"),
        ):
            self._plan(variable, f"{name}.{part}", variable.shape)
        mean = self._take(f"{name}.running_mean", layer.moving_mean.shape)
        before = self._take(bias, layer.moving_mean.shape) if bias else None
        if mean is not None and (before is not None or not bias):
            self._planned.append((layer.moving_mean, mean if before is None else mean - before))
        self._taken.add(f"{name}.num_batches_tracked")

    def conv_norm(self, layer: ConvNorm, convolution: str, norm: str) -> None:
        """A convolution [out, in, frequency, time] with the normalisation after it."""
        self._plan(layer.kernel, f"{convolution}.weight", _reversed(layer.kernel), lambda x: x.transpose())
        self.batch_norm(layer, norm, bias=f"{convolution}.bias")

    def convolution(self, layer: keras.layers.Layer, name: str) -> None:
        """A convolution [out, in, (frequency,) time] with bias."""
        self._plan(layer.kernel, f"{name}.weight", _reversed(layer.kernel), lambda x: x.transpose())
        self._plan(layer.bias, f"{name}.bias", layer.bias.shape)

    def dense(self, layer: keras.layers.Layer, name: str, shape: Sequence[int] = (), inputs: Any = None) -> None:
        """A dense layer; `shape` is the tensor's where it is not [out, in], `inputs` orders its inputs."""
        kernel = layer.kernel
        order = inputs if inputs is not None else slice(None)
        self._plan(
            kernel,
            f"{name}.weight",
            shape or _reversed(kernel),
            lambda x: x.reshape(kernel.shape[1], kernel.shape[0]).T[order],
        )
        self._plan(layer.bias, f"{name}.bias", layer.bias.shape)

    def layer_norm(self, layer: keras.layers.Layer, name: str) -> None:
        """A layer normalisation."""
        self._plan(layer.gamma, f"{name}.weight", layer.gamma.shape)
        self._plan(layer.beta, f"{name}.bias", layer.beta.shape)

    def heads(self, layer: keras.layers.Layer, name: str, rows: slice = slice(None), of: int = 1) -> None:
        """Queries, keys or values [heads * size, in]: of a tensor with `of` such parts, its `rows`; bias if it has."""
        width, heads, size = layer.kernel.shape
        stacked = of * heads * size
        self._plan(
            layer.kernel,
            f"{name}.weight",
            (stacked, width),
            lambda x: x[rows].reshape(heads, size, width).transpose(2, 0, 1),
        )
        if layer.bias is not None:
            self._plan(layer.bias, f"{name}.bias", (stacked,), lambda x: x[rows].reshape(heads, size))

    def joined_heads(self, layer: keras.layers.Layer, name: str) -> None:
        """The projection [out, heads * size] of attention's output."""
        heads, size, width = layer.kernel.shape
        self._plan(layer.kernel, f"{name}.weight", (width, heads * size), lambda x: x.T.reshape(heads, size, width))
        self._plan(layer.bias, f"{name}.bias", (width,))

    def vector(self, variable: Any, name: str, shape: Sequence[int]) -> None:
        """A parameter of its own."""
        self._plan(variable, name, shape, lambda x: x.reshape(variable.shape))

    def _plan(
        self,
        variable: Any,
        name: str,
        shape: Sequence[int],
        change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] = np.asarray,
    ) -> None:
        value = self._take(name, shape)
        if value is not None:
            self._planned.append((variable, change(value)))

    def _take(self, name: str, shape: Sequence[int]) -> npt.NDArray[Any] | None:
        value = self.values.get(name)
        if value is None:
            _note(self.missing, name)
            return None
        self._taken.add(name)
        if tuple(value.shape) != tuple(shape):
            _note(self.wrong, f"{name} {list(value.shape)} instead of {list(shape)}")
            return None
        with np.errstate(over="ignore"):
            value = value.astype(np.float32)
        if not np.isfinite(value).all():
            _note(self.wrong, f"{name} with values that are not finite")
            return None
        return value


def _note(found: list[str], what: str) -> None:
    """Once, though several variables take their part of a tensor."""
    if what not in found:
        found.append(what)


def _reversed(variable: Any) -> tuple[int, ...]:
    return tuple(reversed(variable.shape))
