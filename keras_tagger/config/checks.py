"""How a configuration's values are checked."""

from __future__ import annotations

from typing import Any

from keras_tagger.errors import ConfigError


def require(ok: bool, key: str, expected: str, received: Any) -> None:
    """Raise `ConfigError`, naming the key, what was expected and what was received, unless `ok`."""
    if not ok:
        raise ConfigError(f"{key}: expected {expected}. Received: {received!r}.")
