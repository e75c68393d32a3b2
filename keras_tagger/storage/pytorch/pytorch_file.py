"""Read files of `torch.save` as arrays, without PyTorch and without running anything in them.

Both formats are read: the zip archive of PyTorch 1.6 and later (`NAME/data.pkl` and the raw storages `NAME/data/KEY`),
and the older format (four pickles: magic number, protocol, system, object; then the keys of the storages; then the
storages, each preceded by its length). A pickle may name tensors, storages, ordered dictionaries, classes of PyTorch
Lightning and plain data (numpy's numbers, sets, types, paths); a file with any other name is refused
(`keras_tagger.pickles`). Containers that contain themselves, and memos far larger than the file, are refused too.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ModelError, ModelNotFoundError
from keras_tagger.pickles import NUMPY_MODULES, SafeUnpickler, check_memo

# numpy has no bfloat16; such a storage is widened to float32 when it is read.
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# Keys below which trainers put the tensors.
BELOW = ("state_dict", "model_state_dict", "model")
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_LIGHTNING = ("pytorch_lightning", "lightning", "lightning_fabric")
# Plain data that trainers keep beside the tensors. Its content is ignored.
_BUILTINS = (set, frozenset, bytearray, complex, slice, dict, list, tuple, int, float, str, bool)
_PATHS = [f"{kind}Path" for kind in ("", "Posix", "Windows", "PurePosix", "PureWindows")]
_DATA = {
    *((module, kind.__name__) for module in ("builtins", "__builtin__") for kind in _BUILTINS),
    *((module, name) for module in NUMPY_MODULES for name in ("scalar", "_reconstruct")),
    *(("numpy", name) for name in ("dtype", "ndarray")),
    *(("collections", name) for name in ("defaultdict", "Counter", "deque")),
    *((module, name) for module in ("pathlib", "pathlib._local") for name in _PATHS),
    *(("torch", name) for name in ("device", "float16", "bfloat16", "float32", "float64", "int32", "int64", "bool")),
    ("_codecs", "encode"),
    ("argparse", "Namespace"),
}


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the dictionary that `torch.save` wrote, with numpy arrays for tensors.

    Args:
        path: A file of `torch.save`, in either format.

    Returns:
        The dictionary. Everything in it that is neither a container nor a tensor may be a meaningless stand-in.

    Raises:
        ModelNotFoundError: If the file does not exist.
        ModelError: If it is not a file of `torch.save`, is damaged, or names something that is not data.
    """
    try:
        with open(path, "rb") as file:
            found = _read_zip(file) if zipfile.is_zipfile(file) else _read_old(file)
    except FileNotFoundError:
        raise ModelNotFoundError(f"expected a PyTorch checkpoint. Received: {path}, which does not exist.") from None
    except Exception as error:  # a damaged pickle or archive raises errors of nearly every kind
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"expected a PyTorch checkpoint. Received: {path} ({reason[:200]}).") from None
    if not isinstance(found, dict):
        raise ModelError(
            f"expected a PyTorch checkpoint with named tensors. Received: {path}, which holds {_kind(found)}."
        )
    # The dictionary's own items: attributes that a pickle set on it must not matter.
    return dict(dict.items(found))


def state_dict(values: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Find a model's named tensors in the result of `read_tensors`: at the top level or below a key of `BELOW`.

    Raises:
        ModelError: If there are no named tensors.
    """
    for candidate in (*(values.get(name) for name in BELOW), values):
        if isinstance(candidate, dict):
            tensors = {name: value for name, value in dict.items(candidate) if isinstance(value, np.ndarray)}
            if tensors and all(isinstance(name, str) for name in tensors):
                return tensors
    raise ModelError(
        f"expected a PyTorch checkpoint with named tensors, at its top level or below {', '.join(BELOW)}. "
        f"Received: {path}, which has none there."
    )


@dataclass(frozen=True)
class _StorageType:
    """Stands for a class such as `torch.FloatStorage`."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """A stretch of `count` numbers of the storage `key`, beginning at `start`."""

    key: str
    type: str
    start: int
    count: int


class _Rebuild:
    """Stands for `torch._utils._rebuild_tensor_v2` and the like: a view of a storage with a shape and strides."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Any:
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("a tensor without a storage")
        sizes = tuple(int(size) for size in shape)
        return _Tensor(storage, int(offset), sizes, tuple(int(stride) for stride in strides))


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Parameter:
    """Stands for `torch._utils._rebuild_parameter`: returns the tensor itself."""

    __slots__ = ()

    def __call__(self, tensor: Any, *_: Any) -> Any:
        return tensor


class _Ignored:
    """Stands for Lightning's classes and for plain data beside the tensors: takes anything and keeps nothing."""

    __slots__ = ()

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Take any state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take any item."""

    def extend(self, items: Any) -> None:
        """Take any items."""


class _Size:
    """Stands for torch.Size: a tuple."""

    __slots__ = ()

    def __call__(self, sizes: Any = ()) -> tuple[int, ...]:
        return tuple(int(size) for size in sizes)


def _stand_in(module: str, name: str) -> Any:
    if (module, name) == ("collections", "OrderedDict"):
        return OrderedDict
    if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
        return _Rebuild()
    if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
        return _Parameter()
    if (module == "torch" and name in _DTYPES) or (module, name) == ("torch.storage", "UntypedStorage"):
        return _StorageType(name)
    if module.split(".")[0] in _LIGHTNING or (module, name) in _DATA:
        return _Ignored
    return _Size() if (module, name) == ("torch", "Size") else None


class _Unpickler(SafeUnpickler):
    """Also resolves references to storages; `types` has their types by key."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, _stand_in)
        self.types: dict[str, str] = {}

    def persistent_load(self, reference: Any) -> _Storage:
        """Return a storage for ("storage", type, key, device, count) and, in old files, a view of it."""
        if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
            raise pickle.UnpicklingError("a reference to something other than a storage")
        kind, key, _, count = reference[1:5]
        if not isinstance(kind, _StorageType) or kind.name not in _DTYPES:
            named = kind.name if isinstance(kind, _StorageType) else type(kind).__name__
            raise pickle.UnpicklingError(f"a storage of an unknown type, {named!r}")
        self.types.setdefault(str(key), kind.name)
        view = reference[5] if len(reference) > 5 else None
        start, count = (0, count) if view is None else view[1:3]
        return _Storage(str(key), kind.name, int(start), int(count))


def _load(file: BinaryIO) -> tuple[Any, dict[str, str]]:
    """Load one pickle; return its object and the types of its storages by key."""
    check_memo(file)
    unpickler = _Unpickler(file)
    return unpickler.load(), unpickler.types


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1 or any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("a zip archive that torch.save did not write")
        folder = names[0][: -len("data.pkl")]
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("numbers of another byte order")
        found, _ = _load(io.BytesIO(archive.read(names[0])))
        raw: dict[str, bytes] = {}

        def content(key: str) -> bytes:
            if key not in raw:
                raw[key] = archive.read(f"{folder}data/{key}")
            return raw[key]

        return _filled(found, content)


def _read_old(file: BinaryIO) -> Any:
    file.seek(0)
    if _load(file)[0] != _MAGIC or _load(file)[0] != _PROTOCOL:
        raise ValueError("not a file of torch.save")
    system, _ = _load(file)
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise ValueError("numbers of another byte order")
    found, types = _load(file)
    keys, _ = _load(file)
    raw = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little", signed=True)
        size = np.dtype(_DTYPES[types[str(key)]]).itemsize * count
        raw[str(key)] = file.read(size) if size >= 0 else b""
        if len(raw[str(key)]) != size:
            raise ValueError("a truncated file")
    return _filled(found, raw.__getitem__)


def _walk(value: Any, see: Any, seen: dict[int, Any] | None = None) -> Any:
    """Replace each tensor in nested dictionaries and lists by `see(tensor)`; shared containers are converted once."""
    if isinstance(value, _Tensor):
        return see(value)
    if not isinstance(value, dict | list | tuple):
        return value
    seen = {} if seen is None else seen
    if id(value) not in seen:
        seen[id(value)] = _UNFINISHED
        if isinstance(value, dict):
            seen[id(value)] = {key: _walk(inner, see, seen) for key, inner in dict.items(value)}
        else:
            seen[id(value)] = [_walk(inner, see, seen) for inner in value]
    if seen[id(value)] is _UNFINISHED:
        raise ValueError("a container that contains itself")
    return seen[id(value)]


_UNFINISHED = object()


def _filled(value: Any, content: Any) -> Any:
    """Replace tensors by arrays that are views of their storages, so that tensors of one storage share its memory."""
    storages: dict[tuple[str, str], npt.NDArray[Any]] = {}

    def numbers_of(storage: _Storage) -> npt.NDArray[Any]:
        place = (storage.key, storage.type)
        if place not in storages:
            numbers = np.frombuffer(content(storage.key), _DTYPES[storage.type])
            if storage.type == "BFloat16Storage":
                numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
            storages[place] = numbers
        return storages[place][storage.start : storage.start + storage.count]

    def array(tensor: _Tensor) -> npt.NDArray[Any]:
        numbers = numbers_of(tensor.storage)
        inside = all(size >= 0 for size in tensor.shape) and min((tensor.offset, *tensor.strides, 0)) >= 0
        steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
        # Strides of zero could ask for more values than the storage has.
        needed = max(tensor.offset + steps + 1, math.prod(tensor.shape))
        if not inside or (0 not in tensor.shape and needed > len(numbers)):
            raise ValueError(f"a tensor of shape {tensor.shape} that is not within its storage")
        if 0 in tensor.shape:
            return np.zeros(tensor.shape, numbers.dtype)
        strides = [stride * numbers.itemsize for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)

    return _walk(value, array)


def _kind(value: Any) -> str:
    return "a tensor" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
