"""Pickles of text, numbers, lists, dictionaries and numeric arrays, also of Python 2, read without running anything."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ManifestError


class _MakeArray:
    """Stands for numpy's `_reconstruct`: an empty array, which the pickle's own state then fills."""

    __slots__ = ()

    def __call__(self, *_: Any) -> npt.NDArray[Any]:
        return np.empty(0, np.uint8)


class _MakeDtype:
    """Stands for `numpy.dtype`: of booleans and numbers only."""

    __slots__ = ()

    def __call__(self, name: Any = "", *_: Any) -> np.dtype[Any]:
        dtype = np.dtype(name) if isinstance(name, str) and len(name) <= 8 else np.dtype(object)
        if dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"an array of {name!r}")
        return dtype


class _MakeScalar:
    """Stands for numpy's `scalar`: a number."""

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


_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


class _Unpickler(pickle.Unpickler):
    """Resolves no name to what it names. Every global is one of the objects of this module, or refused.

    None of them has attributes that a pickle could set, and what they make are numbers and bytes.
    """

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name of numpy's; everything else is refused."""
        if module in _ARRAY_MODULES and name == "_reconstruct":
            return _MakeArray()
        if module in _ARRAY_MODULES and name == "scalar":
            return _MakeScalar()
        if module == "numpy" and name == "dtype":
            return _MakeDtype()
        if module == "numpy" and name == "ndarray":
            return _NoClass()
        if (module, name) == ("_codecs", "encode"):
            return _Encode()
        raise pickle.UnpicklingError(f"a reference to {module}.{name}, which is not looked up")


def read_pickle(path: str) -> Any:
    """The content of a pickle file; text of Python 2 is read as Latin-1.

    Raises `ManifestError` for a file that is no pickle, is cut short, or refers to anything but numeric arrays; nothing
    that it names is imported or called.
    """
    try:
        with open(path, "rb") as file:
            return _Unpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises errors of nearly every kind
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ManifestError(
            f"{path}: expected a pickle of lists, dictionaries, text and numeric arrays. Received: {reason[:160]}."
        ) from None
