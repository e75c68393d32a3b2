"""The YAML files that come with the package: `experiments/*.yaml` are complete, `presets/*.yaml` are the models."""

from __future__ import annotations

from importlib import resources
from pathlib import PurePath
from typing import Any, Literal

from keras_tagger.errors import ConfigError

Kind = Literal["experiments", "presets"]


def packaged_names(kind: Kind) -> list[str]:
    """Return the sorted names of the files of a kind, without `.yaml`."""
    folder = resources.files("keras_tagger.config") / kind
    return sorted(item.name[: -len(".yaml")] for item in folder.iterdir() if item.name.endswith(".yaml"))


def packaged_values(kind: Kind, name: str) -> dict[str, Any]:
    """Read a file of a kind as nested values."""
    import yaml

    path = resources.files("keras_tagger.config") / kind / f"{name}.yaml"
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return values


def preset_values(name: Any) -> dict[str, Any]:
    """Return the sections of a preset.

    Raises:
        ConfigError: If there is no such preset.
    """
    names = packaged_names("presets")
    if not isinstance(name, str) or name not in names:
        raise ConfigError(f"preset: expected one of {', '.join(names)}. Received: {name!r}.")
    return packaged_values("presets", name)


def named_config(source: str) -> dict[str, Any] | None:
    """Return the values of a packaged configuration, or None if the package has none of this name.

    Args:
        source: The name of an experiment or a preset, or an experiment's path in the repository,
            `configs/NAME.yaml`, which works in any directory. A preset gives its model with its training, from random
            weights.
    """
    path = PurePath(source)
    in_configs = path.parent == PurePath("configs") and path.suffix == ".yaml"
    name = path.stem if in_configs else source
    if name in packaged_names("experiments"):
        return packaged_values("experiments", name)
    if name in packaged_names("presets") and not in_configs:
        return {"name": name, "preset": name}
    return None
