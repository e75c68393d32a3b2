"""Registration of the package's layers and model with Keras, without importing TensorFlow.

`keras.saving.load_model` finds a class of another package only if it is registered, which happens when the class's
module is imported. Importing those modules imports TensorFlow, which takes seconds. So `import keras_tagger` only
replaces Keras' registry by one that imports them when one of their classes is looked up. It does so as soon as Keras is
imported, before or after this package.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_SOURCE = "keras.src.saving.object_registration"
_HOMES = ("keras_tagger.models.music_tagger", "keras_tagger.models.losses")


def install() -> None:
    """Make Keras find this package's classes, whether Keras has been imported or will be."""
    if _SOURCE in sys.modules:
        _wrap(sys.modules[_SOURCE])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Waits for Keras' registry to be imported, and wraps it then."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the registry's own spec, with a loader that wraps the module afterwards."""
        if fullname != _SOURCE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_wrap(module: ModuleType) -> None:
                execute(module)
                _wrap(module)

            spec.loader.exec_module = execute_and_wrap  # type: ignore[method-assign]
        return spec


class _Registry(dict[str, Any]):
    """Keras' registry of custom objects, which imports this package's classes when one is looked up."""

    def __contains__(self, name: object) -> bool:
        self._import(name)
        return super().__contains__(name)

    def __getitem__(self, name: str) -> Any:
        self._import(name)
        return super().__getitem__(name)

    def _import(self, name: object) -> None:
        if isinstance(name, str) and name.startswith("keras_tagger>") and not super().__contains__(name):
            for home in _HOMES:
                importlib.import_module(home)


def _wrap(module: ModuleType) -> None:
    registry = getattr(module, "GLOBAL_CUSTOM_OBJECTS", None)
    if registry is not None and not isinstance(registry, _Registry):
        module.GLOBAL_CUSTOM_OBJECTS = _Registry(registry)  # type: ignore[attr-defined]
