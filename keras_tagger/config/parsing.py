"""Configurations from YAML files, dictionaries, presets and overrides."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from keras_tagger.config.data import SINGLE_LABEL
from keras_tagger.config.packaged import named_config, packaged_names, preset_values
from keras_tagger.config.sections import ExperimentConfig
from keras_tagger.errors import ConfigError

T = TypeVar("T")


InitSections = Callable[[str], Mapping[str, Any]]
"""Maps a model's name or path to the values of its sections `audio` and `model`."""


def config_from_dict(values: Mapping[str, Any], init_sections: InitSections | None = None) -> ExperimentConfig:
    """Build a configuration from a nested dictionary.

    Missing values come from `preset` if it is set. Without a preset, those of `audio` and `model` come from
    `training.init` if it is set. Unless `values` sets them, a data set with one tag per clip implies
    `model.head.activation: softmax`, and attention that uses distances implies `model.attention.positions: none`.

    Args:
        values: Values by section, as in a YAML file.
        init_sections: Looks up `audio` and `model` of the model that `training.init` names; with None, the defaults
            are used.

    Raises:
        ConfigError: If a key or value is not allowed.

    Example:
        >>> config_from_dict({"preset": "compact", "training": {"epochs": 3}}).training.epochs
        3
    """
    values = _with_positions(_with_dataset(values))
    preset = values.get("preset") or ""
    if preset:
        values = _merged(preset_values(preset), values)
    else:
        values = _with_init(values, init_sections)
    return _build(ExperimentConfig, values, "")


def section_from_dict(section: type[T], values: Mapping[str, Any], key: str) -> T:
    """Build one section from plain values.

    Args:
        section: Class of the section, such as `ModelConfig`.
        values: Values by key.
        key: Dotted key of the section, used in error messages.

    Raises:
        ConfigError: If a key or value is not allowed.

    Example:
        >>> section_from_dict(AudioConfig, {"sample_rate": 22050}, "audio").window_seconds
        10.0
    """
    return _build(section, values, f"{key}.")


def load_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | ExperimentConfig,
    overrides: Mapping[str, Any] | None = None,
    init_sections: InitSections | None = None,
) -> ExperimentConfig:
    """Read a configuration.

    Args:
        source: A YAML file, the name of a packaged experiment or preset (`finetune`, `won2019`; also
            `configs/finetune.yaml`), a nested dictionary, or a configuration.
        overrides: Values by dotted key, e.g. `{"training.epochs": 3}`.
        init_sections: Looks up `audio` and `model` of the model that `training.init` names, if there is no preset;
            `keras_tagger.load_config` uses the models that `keras_tagger.load` knows. With None, the defaults are used.

    Raises:
        ConfigError: If the file is missing or not YAML, or a key or value is not allowed.

    Example:
        >>> load_config("demo", {"training.epochs": 3})
    """
    if isinstance(source, ExperimentConfig):
        values: Mapping[str, Any] = source.to_dict()
    elif isinstance(source, Mapping):
        values = source
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        found = None if path.is_file() else named_config(os.fspath(source))
        values = _read_yaml(path) if found is None else found
    else:
        raise ConfigError(
            f"config: expected a YAML file, a dictionary or an ExperimentConfig. Received: {type(source).__name__}."
        )
    for dotted, value in (overrides or {}).items():
        values = _merged(values, _nested(dotted, value))
    return config_from_dict(values, init_sections)


def parse_override(text: str) -> tuple[str, Any]:
    """Parse a command-line override of the form `KEY=VALUE`, where the value is YAML.

    Raises:
        ConfigError: If there is no key or the value is not YAML.

    Example:
        >>> parse_override("training.epochs=3")
        ('training.epochs', 3)
    """
    import yaml

    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set: expected KEY=VALUE, such as training.epochs=3. Received: {text!r}.")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {key.strip()}: expected a YAML value. Received: {value!r}.") from None


def presets() -> dict[str, ExperimentConfig]:
    """Return the presets by name.

    Returns:
        Configurations with each preset's `audio`, `model` and `training`.

    Example:
        >>> sorted(presets())
        ['compact', 'pons', 'won2019', 'won2019_raw', 'won2020', 'won2021']
    """
    return {name: config_from_dict({"name": name, "preset": name}) for name in packaged_names("presets")}


def _with_dataset(values: Mapping[str, Any]) -> Mapping[str, Any]:
    data = values.get("data")
    single = isinstance(data, Mapping) and data.get("dataset") in SINGLE_LABEL
    return _merged({"model": {"head": {"activation": "softmax"}}}, values) if single else values


def _with_positions(values: Mapping[str, Any]) -> Mapping[str, Any]:
    model = values.get("model")
    attention = model.get("attention") if isinstance(model, Mapping) else None
    knows = isinstance(attention, Mapping) and attention.get("kind") in ("relative", "rotary", "alibi")
    return _merged({"model": {"attention": {"positions": "none"}}}, values) if knows else values


def _with_init(values: Mapping[str, Any], init_sections: InitSections | None) -> Mapping[str, Any]:
    """Return the values merged over the sections of the initial model, unless they are already complete."""
    training = values.get("training")
    init = training.get("init") if isinstance(training, Mapping) else None
    if not init or not isinstance(init, str) or init_sections is None:
        return values
    defaults = ExperimentConfig().to_dict()
    if all(key in flat(values.get(section) or {}) for section in ("audio", "model") for key in flat(defaults[section])):
        return values
    return _merged(init_sections(init), values)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested values into one dictionary with dotted keys.

    Args:
        values: Nested dictionary.
        prefix: Text before each key.

    Example:
        >>> flat({"training": {"epochs": 3}})
        {'training.epochs': 3}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def _read_yaml(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = ", ".join([*packaged_names("experiments"), *packaged_names("presets")])
        raise ConfigError(
            f"config: expected a YAML file or one of {names}. Received: {path}, which does not exist."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"config: expected a YAML file. Received: {path} ({first}).") from None
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: expected keys and values. Received: a {type(values).__name__}.")
    return values


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return merged


def _build(cls: type[T], values: Any, prefix: str) -> T:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{prefix.rstrip('.') or 'config'}: expected keys and values. Received: {values!r}.")
    hints = typing.get_type_hints(cls)
    unknown = [str(key) for key in values if key not in hints]
    if unknown:
        raise ConfigError(
            f"{prefix}{unknown[0]}: unknown key. Expected one of {', '.join(hints)}. Received: {unknown[0]!r}."
        )
    missing = [
        f.name
        for f in dataclasses.fields(cls)  # type: ignore[arg-type]
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in values
    ]
    if missing:
        raise ConfigError(f"{prefix}{missing[0]}: expected a value. Received: no value.")
    return cls(**{key: _coerce(hints[key], value, f"{prefix}{key}") for key, value in values.items()})


def _coerce(kind: Any, value: Any, key: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else _build(kind, value, f"{key}.")
    if origin is Literal:
        # bool is an int in Python: True must not pass for the 1 of Literal[1, 2].
        if isinstance(value, bool) or value not in arguments:
            allowed = ", ".join(str(argument) for argument in arguments)
            raise ConfigError(f"{key}: expected one of {allowed}. Received: {value!r}.")
        return value
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ConfigError(f"{key}: expected a list. Received: {value!r}.")
        return tuple(_coerce(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(value))
    if kind is float and isinstance(value, str):
        # YAML 1.1 reads 5e-4 (no dot) as text.
        with contextlib.suppress(ValueError):
            value = float(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if value != value or value in (float("inf"), float("-inf")):
            raise ConfigError(f"{key}: expected a finite number. Received: {value!r}.")
        return float(value)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str | Path):
        return str(value)
    if kind is bool and isinstance(value, bool):
        return value
    name = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}[kind]
    raise ConfigError(f"{key}: expected {name}. Received: {value!r}.")
