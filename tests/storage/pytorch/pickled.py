"""Write checkpoints in PyTorch's zip format without PyTorch, also damaged and hostile ones."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np


class Named:
    """An object that is pickled as a name in a module, which need not exist."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """An object that is pickled as a call of a name."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self.function, self.arguments = Named(module, name), arguments


class Storage:
    def __init__(self, key: str, kind: str, count: int) -> None:
        self.reference = ("storage", Named("torch", kind), key, "cpu", count)


# Python's own pickler, which writes made-up names; the one in C does not.
PythonPickler = pickle._Pickler  # noqa: SLF001


class Pickler(PythonPickler):
    dispatch: ClassVar[dict[Any, Any]] = dict(PythonPickler.dispatch)

    def persistent_id(self, value: Any) -> Any:
        return value.reference if isinstance(value, Storage) else None

    def save_named(self, value: Named) -> None:
        self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        self.memoize(value)

    def save_call(self, value: Call) -> None:
        self.save(value.function)
        self.save(value.arguments)
        self.write(pickle.REDUCE)
        self.memoize(value)

    dispatch[Named] = save_named
    dispatch[Call] = save_call


def write(path: Path, tensors: Mapping[str, np.ndarray | Any], top: Any = None) -> Path:
    """Write a state dictionary, below `top` if given; values that are not arrays are pickled unchanged."""
    storages: dict[str, bytes] = {}

    def tensor(array: np.ndarray) -> Any:
        array = np.ascontiguousarray(array)
        kind = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage", "f2": "HalfStorage"}[
            array.dtype.str[1:]
        ]
        key = str(len(storages))
        storages[key] = array.tobytes()
        strides = tuple(stride // array.itemsize for stride in array.strides)
        stored = Storage(key, kind, array.size)
        return Call("torch._utils", "_rebuild_tensor_v2", stored, 0, array.shape, strides, False, OrderedDict())

    state = {name: tensor(value) if isinstance(value, np.ndarray) else value for name, value in tensors.items()}
    data = io.BytesIO()
    Pickler(data, 2).dump(state if top is None else {**top, "state_dict": state})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
    return path
