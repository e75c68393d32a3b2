"""Read the rows of CSV and JSON manifests and parse their cells. Does not import TensorFlow."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_tagger.errors import ManifestError

_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # as `surrogateescape` reads bytes
# Only a number after the last colon is a label, so that tags such as "genre:rock" need no escaping.
_WEIGHTED = re.compile(r"^(?P<tag>.*\S)\s*:\s*(?P<weight>[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|nan|[-+]?inf|\?)$")


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the rows of a CSV file, JSON lines or a JSON array.

    Yields:
        The place of a row ("line 3") and its values by column.

    Raises:
        ManifestError: If the file cannot be parsed; the message names file, line and column.
    """
    return _json_rows(path) if path.suffix in (".jsonl", ".json") else _csv_rows(path)


def as_text(value: Any) -> str | None:
    """Strip surrounding whitespace; return None for empty text."""
    return None if value is None else str(value).strip() or None


def as_seconds(value: Any, where: str, column: str) -> float | None:
    """Parse a number; return None for an empty cell."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        if isinstance(value, (bool, list, dict)):
            raise ValueError
        return float(value)
    except ValueError:
        raise ManifestError(f"{where}, column {column}: expected a number of seconds. Received: {value!r}.") from None


def as_tags(value: Any, where: str) -> dict[str, float]:
    """Parse labels by tag from a cell `guitar;rock:0.1;pop:?`, a list or an object; `?` and null become NaN."""
    pairs: list[tuple[Any, Any]] = []
    if value is None:
        pass
    elif isinstance(value, str):
        for part in filter(None, map(str.strip, value.split(";"))):
            match = _WEIGHTED.match(part)
            weight = match and (None if match["weight"] == "?" else float(match["weight"]))
            pairs.append((match["tag"], weight) if match else (part, 1.0))
    elif isinstance(value, list):
        pairs.extend((tag, 1.0) for tag in value)
    elif isinstance(value, dict):
        pairs.extend(value.items())
    else:
        raise ManifestError(
            f"{where}, column tags: expected a list of tags or an object of labels. Received: {value!r}."
        )
    tags: dict[str, float] = {}
    for tag, label in pairs:
        if not isinstance(tag, str) or not tag.strip():
            raise ManifestError(f"{where}, column tags: expected tags as text. Received: {tag!r}.")
        if label is None:
            label = math.nan
        elif isinstance(label, bool) or not isinstance(label, (int, float)) or math.isnan(label):
            raise ManifestError(f"{where}, column tags: expected a label of {tag!r} in 0..1. Received: {label!r}.")
        before = tags.setdefault(tag.strip(), float(label))
        if before != label and not (math.isnan(before) and math.isnan(label)):
            raise ManifestError(
                f"{where}, column tags: expected one label of {tag!r}. Received: {tags[tag]:g} and {label:g}."
            )
    return tags


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        try:
            header = [name.strip() for name in next(reader, [])]
            if not header:
                raise ManifestError(
                    f"{path}: expected a CSV header with the columns path and tags. Received: an empty file."
                )
            for column in ("path", "tags"):
                if header.count(column) != 1:
                    raise ManifestError(
                        f"{path}, line 1: expected one column {column}. Received: the columns {', '.join(header)}."
                    )
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(header):
                    raise ManifestError(
                        f"{path}, line {reader.line_num}, column {header[min(len(row), len(header)) - 1]}: "
                        f"expected {len(header)} cells (quote a cell that contains a comma). Received: {len(row)}."
                    )
                values = dict(zip(header, row, strict=True))
                for column, cell in values.items():
                    if _NOT_UTF8.search(cell) and not _is_name(column, cell, values, path.parent):
                        raise ManifestError(
                            f"{path}, line {reader.line_num}, column {column}: expected UTF-8 text. "
                            "Received: text in another encoding."
                        )
                yield f"line {reader.line_num}", values
        except csv.Error as error:
            raise ManifestError(f"{path}, line {reader.line_num}: expected CSV. Received: {error}.") from None


def _is_name(column: str, cell: str, row: Mapping[str, str], folder: Path) -> bool:
    """Return whether a cell that is not UTF-8 names a file, or as tags folders beside or above the audio.

    Such a name may be any bytes; other text in another encoding is a mistake.
    """
    if column in ("path", "labels"):
        return os.path.lexists(folder / cell)
    tags = [tag for tag in as_tags(cell, column) if _NOT_UTF8.search(tag)] if column == "tags" else [cell]
    return all(any(os.path.isdir(parent / tag) for parent in (folder / row["path"]).parents) for tag in tags)


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ManifestError(f"{path}: expected UTF-8 text. Received: text in another encoding.") from None
    # `splitlines` would also split at U+2028 and others, which a JSON string may contain.
    array = text.lstrip().startswith("[")
    parts: list[tuple[str, Any]] = (
        [("line 1", text)]
        if array
        else [(f"line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    )
    for where, part in parts:
        try:
            value = json.loads(part)
        except ValueError as error:
            raise ManifestError(f"{path}, {where}: expected JSON. Received: {error}.") from None
        entries = [(f"entry {i}", entry) for i, entry in enumerate(value, 1)] if array else [(where, value)]
        for place, entry in entries:
            if not isinstance(entry, dict):
                raise ManifestError(
                    f"{path}, {place}: expected a JSON object with path and tags. Received: {str(entry)[:80]!r}."
                )
            for column in ("path", "tags"):
                if column not in entry:
                    raise ManifestError(
                        f"{path}, {place}: expected the key {column}. Received: the keys {', '.join(entry)}."
                    )
            yield place, entry


def tags_cell(tags: Mapping[str, float]) -> str:
    """Write a cell that `as_tags` reads back."""
    parts = []
    for tag, label in tags.items():
        if ";" in tag:
            raise ManifestError(f"expected tags without ';' in a CSV manifest (.jsonl allows it). Received: {tag!r}.")
        hard = label == 1.0 and not _WEIGHTED.match(tag)
        parts.append(tag if hard else f"{tag}:{'?' if math.isnan(label) else repr(float(label))}")
    return ";".join(parts)
