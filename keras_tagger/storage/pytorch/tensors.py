"""Assign the tensors of a PyTorch checkpoint to Keras layers, and keep track of missing and unused ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_tagger.layers import ConvNorm


class Tensors:
    """The named tensors of a PyTorch model and the variables that they are planned for.

    Nothing is assigned before `assign`, so a model takes a whole checkpoint or nothing.

    Args:
        values: The arrays by name.

    Attributes:
        missing: Names of tensors that a layer needs and the checkpoint does not have.
        wrong: Names of tensors with an unexpected shape or values that are not finite, with the reason.
    """

    def __init__(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        self.values = values
        self.missing: list[str] = []
        self.wrong: list[str] = []
        self._taken: set[str] = set()
        self._planned: list[tuple[Any, npt.NDArray[Any]]] = []

    @property
    def left_over(self) -> list[str]:
        """The names of tensors that no layer took."""
        return [name for name in self.values if name not in self._taken]

    def ignore(self, wanted: Callable[[str], bool]) -> list[str]:
        """Mark the tensors whose name is `wanted` as taken, and return their names."""
        names = [name for name in self.values if wanted(name)]
        self._taken.update(names)
        return names

    def assign(self) -> None:
        """Assign the planned values to the variables."""
        for variable, value in self._planned:
            variable.assign(value)

    def batch_norm(self, layer: keras.layers.Layer, name: str, bias: str = "") -> None:
        """Plan a batch norm; `bias` names the bias of the convolution before it, which is subtracted from its mean."""
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
        """Plan a convolution `[out, in, frequency, time]` and the batch norm after it."""
        self._plan(layer.kernel, f"{convolution}.weight", _reversed(layer.kernel), lambda x: x.transpose())
        self.batch_norm(layer, norm, bias=f"{convolution}.bias")

    def convolution(self, layer: keras.layers.Layer, name: str) -> None:
        """Plan a convolution `[out, in, (frequency,) time]` with bias."""
        self._plan(layer.kernel, f"{name}.weight", _reversed(layer.kernel), lambda x: x.transpose())
        self._plan(layer.bias, f"{name}.bias", layer.bias.shape)

    def dense(self, layer: keras.layers.Layer, name: str, shape: Sequence[int] = (), inputs: Any = None) -> None:
        """Plan a dense layer; `shape` is the tensor's if not `[out, in]`, `inputs` is an order of the inputs."""
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
        """Plan a layer norm."""
        self._plan(layer.gamma, f"{name}.weight", layer.gamma.shape)
        self._plan(layer.beta, f"{name}.bias", layer.beta.shape)

    def heads(self, layer: keras.layers.Layer, name: str, rows: slice = slice(None), of: int = 1) -> None:
        """Plan queries, keys or values `[heads * size, in]`, which are the `rows` of a tensor with `of` such parts."""
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
        """Plan the output projection `[out, heads * size]` of attention."""
        heads, size, width = layer.kernel.shape
        self._plan(layer.kernel, f"{name}.weight", (width, heads * size), lambda x: x.T.reshape(heads, size, width))
        self._plan(layer.bias, f"{name}.bias", (width,))

    def vector(self, variable: Any, name: str, shape: Sequence[int]) -> None:
        """Plan a single parameter."""
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
    """Add an entry once, though several variables may take parts of one tensor."""
    if what not in found:
        found.append(what)


def _reversed(variable: Any) -> tuple[int, ...]:
    return tuple(reversed(variable.shape))
