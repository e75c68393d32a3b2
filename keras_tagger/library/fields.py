"""Which tags of a model become which values in the fields of a music file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from keras_tagger.errors import ConfigError
from keras_tagger.files import json_text
from keras_tagger.tags import Tags

# What a listener or another program has written; a tagger has nothing to say about it.
_OTHERS = frozenset({"title", "artist", "album", "albumartist", "date", "year", "bpm", "comment", "keras_tagger"})


@dataclass(frozen=True)
class FieldMap:
    """The values that each tag adds to the fields of a music file.

    Attributes:
        values: Values by tag by field, such as `{"genre": {"rock": ("Rock",)}}`.

    Example:
        >>> read_field_map().fields(tagger.tag("song.mp3", top=None))
        {'genre': ['Rock'], 'instrument': ['Guitar', 'Drums']}
    """

    values: Mapping[str, Mapping[str, tuple[str, ...]]]

    def fields(self, tags: Tags, most: int | None = None) -> dict[str, list[str]]:
        """Return the values of the tags that are present, by field, the most certain first.

        Tags that training had no example of are left out, whatever their score.

        Args:
            tags: Tags of a clip, with thresholds.
            most: The highest number of values per field; None for all.

        Raises:
            ConfigError: If the thresholds are unknown.
        """
        if tags.present is None:
            raise ConfigError("expected tags with thresholds. Received: tags of a model without thresholds.")
        ranked = [entry for entry in tags.top(rank="margin") if entry.present and entry.heard is not False]
        found = {}
        for field, by_tag in self.values.items():
            values = list(dict.fromkeys(value for entry in ranked for value in by_tag.get(entry.name, ())))
            if values:
                found[field] = values[:most]
        return found

    @property
    def digest(self) -> str:
        """Eight digits that differ if the values differ."""
        return hashlib.sha256(json_text(self.values).encode()).hexdigest()[:8]


def read_field_map(path: str | os.PathLike[str] | None = None) -> FieldMap:
    """Read a map from YAML: field, tag, and a value or a list of values.

    Args:
        path: The YAML file; None for the map of the package (`keras_tagger/library/fields.yaml`).

    Raises:
        ConfigError: If the file does not exist, is not YAML, has another form, or names a field such as `title` or
            `bpm`, which a tagger must not change.
    """
    source = Path(str(resources.files("keras_tagger") / "library" / "fields.yaml")) if path is None else Path(path)
    try:
        content = yaml.safe_load(source.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"expected a YAML file of fields. Received: {str(source)!r} ({error}).") from None
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{source}: expected field, tag and value. Received: {content!r:.80}.")
    return FieldMap({_field(source, field): _by_tag(source, field, tags) for field, tags in content.items()})


def _field(source: Path, field: Any) -> str:
    if not isinstance(field, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_ ]*", field) or field.lower() in _OTHERS:
        raise ConfigError(f"{source}: expected genre, mood, instrument or a field of your own. Received: {field!r}.")
    return field.lower()


def _by_tag(source: Path, field: str, tags: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(tags, dict):
        raise ConfigError(f"{source}: {field}: expected tags and values. Received: {tags!r:.80}.")
    found = {}
    for tag, values in tags.items():
        listed = values if isinstance(values, list) else [values]
        if not listed or not all(isinstance(value, str) and value.strip() for value in listed):
            raise ConfigError(f"{source}: {field}: {tag}: expected a value or a list. Received: {values!r:.80}.")
        found[str(tag)] = tuple(listed)
    return found
