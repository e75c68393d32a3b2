"""Configurations that start from a stored model: `training.init` gives what the configuration does not set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from keras_tagger import config
from keras_tagger.config import ExperimentConfig
from keras_tagger.errors import ConfigError, ModelError, ModelNotFoundError
from keras_tagger.storage.loading import find_source, stored_values


def load_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | ExperimentConfig, overrides: Mapping[str, Any] | None = None
) -> ExperimentConfig:
    """Read a configuration, as `keras_tagger.config.load_config`.

    Without a preset, what it does not set of `audio` and `model` is what the model has that `training.init` names.

    Args:
        source: a YAML file, a nested dictionary, or a configuration.
        overrides: values by dotted key, e.g. `{"training.epochs": 3}`.

    Raises:
        ConfigError: the file is missing or no YAML, a key or value is not allowed, or there is no such init.
    """
    return config.load_config(source, overrides, init_sections)


def init_sections(init: str) -> dict[str, Any]:
    """The sections `audio` and `model` of a stored model, as plain values; `ConfigError` where there is none."""
    try:
        stored = stored_values(find_source(init))
        return {"audio": stored["audio"], "model": stored["model"]}
    except (ModelError, ModelNotFoundError, KeyError) as error:
        raise ConfigError(f"training.init: {error}") from None
