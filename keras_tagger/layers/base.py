"""The base of all layers: it keeps the constructor arguments and computes the symbolic output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras


class ConfiguredLayer(keras.layers.Layer):
    """Base layer that keeps its constructor arguments as attributes and returns them from `get_config`.

    Subclasses call `self.remember(locals())` in their constructor. Masks pass through unless `compute_mask` is
    overridden.
    """

    float32_output = False
    """Whether the output is float32 under every dtype policy."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.argument_names: tuple[str, ...] = ()

    def remember(self, arguments: Mapping[str, Any]) -> None:
        """Set an attribute for each constructor argument; pass `locals()`."""
        names = [name for name in arguments if name not in ("self", "kwargs", "__class__")]
        for name in names:
            value = arguments[name]
            setattr(self, name, tuple(value) if isinstance(value, list | tuple) else value)
        self.argument_names = (*self.argument_names, *names)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the input's shape."""
        return input_shape

    def compute_output_spec(self, inputs: keras.KerasTensor, /, *args: Any, **kwargs: Any) -> Any:
        """Return the symbolic output."""
        dtype = "float32" if self.float32_output else self.compute_dtype
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments, dtype policy and trainability."""
        values = {name: getattr(self, name) for name in self.argument_names}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {**super().get_config(), **plain}
