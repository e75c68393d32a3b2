"""A quick start of the program.

Keras imports scikit-learn, pandas and matplotlib if they are installed, to accept their objects. No command passes
them to Keras, and they take 40 % of the time of `import tensorflow`: 2.6 of 6.1 seconds (`python -X importtime`).
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

_OPTIONAL = frozenset({"sklearn", "pandas", "matplotlib"})


def hide_optional_packages_from_keras() -> None:
    """Let Keras be imported as if scikit-learn, pandas and matplotlib were not installed.

    Other packages find them as usual. Call this in a program, not in a library: in its process, `keras.wrappers`,
    `keras.visualization` and data frames in `Model.fit` do not work.

    Example:
        >>> hide_optional_packages_from_keras()
        >>> import keras, sys
        >>> "sklearn" in sys.modules
        False
    """
    sys.meta_path.insert(0, _Hidden())


class _Hidden(importlib.abc.MetaPathFinder):
    """Finds no optional package while Keras is being imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Raise ModuleNotFoundError for an optional package while Keras is being imported, and leave all else."""
        if fullname in _OPTIONAL and _is_being_imported("keras"):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def _is_being_imported(name: str) -> bool:
    # The import system itself reads this attribute, to make other threads wait for the module.
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))
