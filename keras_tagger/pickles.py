"""Read pickles without importing or calling anything that they name.

A pickle may name any function and ask to call it. Here every name is looked up in a table of harmless stand-ins, and a
file with a name that is not in the table is refused. Only `OrderedDict` stands for itself: it can do nothing, and a
pickle cannot change it.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ManifestError

StandIns = Callable[[str, str], Any]
"""Maps module and name to a stand-in, or to None for a name that is refused. A shared stand-in must have no attributes
that a pickle could set: give its class empty `__slots__`."""

NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


class SafeUnpickler(pickle.Unpickler):
    """An unpickler that looks up names in a table instead of importing them.

    Args:
        file: An open binary file, at the start of a pickle. Afterwards, its position is the end of the pickle.
        stand_ins: The names that the pickle may use.
        encoding: The encoding of text in pickles of Python 2.

    """

    def __init__(self, file: BinaryIO, stand_ins: StandIns, encoding: str = "utf-8") -> None:
        super().__init__(file, encoding=encoding)
        self._stand_ins = stand_ins

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name, or refuse the pickle."""
        stand_in = self._stand_ins(module, name)
        if stand_in is None:
            raise pickle.UnpicklingError(f"its pickle names {module}.{name}, which is not data; nothing was run")
        return stand_in


def check_memo(file: BinaryIO) -> None:
    """Refuse a pickle that asks for far more memory than its size justifies; pickles of Python 3 only.

    Raises:
        pickle.UnpicklingError: If it does.
    """
    start = file.tell()
    for step, argument, place in pickletools.genops(file):
        # Python's unpickler makes room for all memo places below the one that is named.
        if step.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > (place or 0):
            raise pickle.UnpicklingError(f"a pickle with a memo of {argument} places")
    file.seek(start)


class _MakeArray:
    """Stands for numpy's `_reconstruct`: makes an empty array, which the pickle's own state then fills."""

    __slots__ = ()

    def __call__(self, *_: Any) -> npt.NDArray[Any]:
        return np.empty(0, np.uint8)


class _MakeDtype:
    """Stands for `numpy.dtype`, for booleans and numbers only."""

    __slots__ = ()

    def __call__(self, name: Any = "", *_: Any) -> np.dtype[Any]:
        dtype = np.dtype(name) if isinstance(name, str) and len(name) <= 8 else np.dtype(object)
        if dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"an array of {name!r}")
        return dtype


class _MakeScalar:
    """Stands for numpy's `scalar`: makes a number."""

    __slots__ = ()

    def __call__(self, dtype: Any, data: Any) -> Any:
        raw = data.encode("latin1") if isinstance(data, str) else data
        return np.frombuffer(raw, dtype)[0].item()


class _Encode:
    """Stands for `_codecs.encode`, by which Python 3 writes bytes for Python 2."""

    __slots__ = ()

    def __call__(self, text: Any, _: Any = "latin1") -> bytes:
        return str(text).encode("latin1")


class _NoClass:
    """Stands for `numpy.ndarray`, which a pickle only hands to `_reconstruct`."""

    __slots__ = ()


_NUMERIC = {
    **{(module, "_reconstruct"): _MakeArray() for module in NUMPY_MODULES},
    **{(module, "scalar"): _MakeScalar() for module in NUMPY_MODULES},
    ("numpy", "dtype"): _MakeDtype(),
    ("numpy", "ndarray"): _NoClass(),
    ("_codecs", "encode"): _Encode(),
}


def read_pickle(path: str) -> Any:
    """Read a pickle of text, numbers, lists, dictionaries and numeric arrays, also one of Python 2.

    Text of Python 2 is read as Latin-1.

    Raises:
        ManifestError: If the file is not a pickle, is cut short, or names anything but numeric arrays.
    """
    try:
        with open(path, "rb") as file:
            return SafeUnpickler(file, lambda *name: _NUMERIC.get(name), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises errors of nearly every kind
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ManifestError(
            f"{path}: expected a pickle of lists, dictionaries, text and numeric arrays. Received: {reason[:160]}."
        ) from None
