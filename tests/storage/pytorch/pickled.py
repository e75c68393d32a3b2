"""Checkpoints written without PyTorch, in the format of its zip archives, for damage of every kind."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np


class _Named:
    """Pickles as a name of a module that need not exist."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Call:
    """Pickles as a call of a name."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self.function, self.arguments = _Named(module, name), arguments


class _Storage:
    def __init__(self, key: str, kind: str, count: int) -> None:
        self.reference = ("storage", _Named("torch", kind), key, "cpu", count)


class _Pickler(pickle._Pickler):  # the Python one, whose names can be made up
    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def persistent_id(self, value: Any) -> Any:
        return value.reference if isinstance(value, _Storage) else None

    def save_named(self, value: _Named) -> None:
        self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        self.memoize(value)

    def save_call(self, value: _Call) -> None:
        self.save(value.function)
        self.save(value.arguments)
        self.write(pickle.REDUCE)
        self.memoize(value)

    dispatch[_Named] = save_named
    dispatch[_Call] = save_call


call, named = _Call, _Named


def write(path: Path, tensors: Mapping[str, np.ndarray | Any], top: Any = None) -> Path:
    """Write tensors as a state dictionary, in `top` where given; what is no array is pickled as it is."""
    storages: dict[str, bytes] = {}

    def tensor(array: np.ndarray) -> Any:
        array = np.ascontiguousarray(array)
        kind = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage", "f2": "HalfStorage"}[
            array.dtype.str[1:]
        ]
        key = str(len(storages))
        storages[key] = array.tobytes()
        strides = tuple(stride // array.itemsize for stride in array.strides)
        stored = _Storage(key, kind, array.size)
        return _Call("torch._utils", "_rebuild_tensor_v2", stored, 0, array.shape, strides, False, OrderedDict())

    state = {name: tensor(value) if isinstance(value, np.ndarray) else value for name, value in tensors.items()}
    data = io.BytesIO()
    _Pickler(data, 2).dump(state if top is None else {**top, "state_dict": state})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
    return path
