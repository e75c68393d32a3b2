"""Read the rows of CSV and JSON manifests and parse their cells. Does not import TensorFlow."""

from __future__ import annotations

import ast
import codecs
import csv
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_tagger.errors import ManifestError

COLUMNS = ("path", "tags", "start", "end", "split", "group", "labels")
_OTHER_NAMES = {
    "path": ("file", "filename", "file_name", "filepath", "file_path"),
    "tags": ("tag", "label", "genre", "genres", "class"),
}
# A comma between digits may be a decimal comma, as in `guitar:0,8`.
_SEPARATORS = re.compile(r"[;|]|(?<!:\d),|,(?!\d)")
_SEPARATORS_BUT_COMMA = re.compile(r"[;|]")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # as `surrogateescape` reads bytes
# Only a number after the last colon is a label, so that tags such as "genre:rock" need no escaping.
_WEIGHTED = re.compile(r"^(?P<tag>.*\S)\s*:\s*(?P<weight>[-+]?(\d+[.,]?\d*|\.\d+)([eE][-+]?\d+)?|nan|[-+]?inf|\?)$")


def read_rows(path: Path, columns: Sequence[str] = ("path", "tags")) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the rows of a CSV file, JSON lines or a JSON array.

    Args:
        path: The file.
        columns: The columns or keys that must be there.

    Yields:
        The place of a row ("line 3") and its values by column.

    Raises:
        ManifestError: If the file cannot be parsed; the message names file, line and column.
    """
    if path.suffix.lower() in (".jsonl", ".json"):
        return _json_rows(path, columns)
    rows = _csv_rows(path, columns)
    return with_tags(rows, f"{path}, line 1") if "tags" in columns else rows


def standard_names(header: Iterable[str]) -> list[str]:
    """Return the names of columns, in which other usual names of `path` and `tags` are replaced.

    Example:
        >>> standard_names(["Filename", "genre", "year"])
        ['path', 'tags', 'year']
    """
    names = [name.strip() for name in header]
    names = [name.lower() if name.lower() in COLUMNS else name for name in names]
    for column, others in _OTHER_NAMES.items():
        places = [index for other in others for index, name in enumerate(names) if name.lower() == other]
        if column not in names and places:
            names[places[0]] = column
    return names


def with_tags(rows: Iterable[tuple[str, dict[str, Any]]], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give rows without the column `tags` the labels of the columns named after tags, which hold numbers in 0..1.

    Args:
        rows: Rows as `read_rows` yields them; all have the same columns.
        where: The place of the header, for messages.

    Raises:
        ManifestError: If there are neither `tags` nor such columns.
    """
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return
    if "tags" in first[1] or "labels" in first[1]:
        yield first
        yield from rows
        return
    kept = [first, *rows]
    found: dict[str, list[float]] = {}
    for column in first[1]:
        labels = [label for _, row in kept if (label := _label(row[column])) is not None]
        if column not in COLUMNS and len(labels) == len(kept) and any(label > 0 for label in labels):
            found[column] = labels
    if not found:
        raise ManifestError(
            f"{where}: expected a column tags, or a column of numbers in 0..1 for each tag. "
            f"Received: the columns {', '.join(first[1])}."
        )
    for index, (place, row) in enumerate(kept):
        of_row = {column: labels[index] for column, labels in found.items()}
        yield place, {**row, "tags": {tag: None if math.isnan(label) else label for tag, label in of_row.items()}}


def _label(cell: Any) -> float | None:
    """Return a number in 0..1, NaN for an empty cell, or None for anything else."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return math.nan
    try:
        label = float(cell)
    except (TypeError, ValueError):
        return None
    return label if math.isnan(label) or 0 <= label <= 1 else None


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


class TagCells:
    """Parses the cells of a column of tags, and counts those that do not separate tags by `;`.

    A cell is `guitar;rock:0.1;pop:?`; a list, also written as text; or an object of labels. `?` and null become NaN.
    `|` separates as `;` does, and `,` if no cell has one of these.

    Args:
        column: All values of the column.
    """

    def __init__(self, column: Iterable[Any]) -> None:
        texts = [value for value in column if isinstance(value, str) and _parsed(value) is None]
        self._comma_separates = not any(";" in text or "|" in text for text in texts)
        self._count = 0
        self._split: list[tuple[str, list[str]]] = []
        self._whole: list[str] = []

    def parse(self, value: Any, where: str) -> dict[str, float]:
        """Return labels by tag.

        Args:
            value: The cell.
            where: Its place, for messages.

        Raises:
            ManifestError: If a tag is not text, or a label not a number.
        """
        self._count += 1
        if isinstance(value, str):
            parsed = _parsed(value)
            if parsed is None:
                pairs = self._split_text(value)
            else:
                pairs = _pairs(parsed, where)
                # `tags_cell` writes objects.
                if isinstance(parsed, list):
                    self._split.append((value, [str(tag) for tag, _ in pairs]))
        else:
            pairs = _pairs(value, where)
        return _labels(pairs, where)

    def warnings(self) -> Iterator[str]:
        """Yield a sentence about the cells that do not separate tags by `;`, and one about commas within tags."""
        if self._split:
            cell, tags = self._split[0]
            read = " and ".join(map(repr, tags[:5])) or "none"
            yield (
                f"expected ';' between tags. Received: another form in {len(self._split)} of {self._count} cells, "
                f"which were read as several tags, for example {cell[:80]!r} as {read}."
            )
        if self._whole:
            yield (
                f"tags with a comma in {len(self._whole)} of {self._count} cells, for example {self._whole[0][:80]!r}, "
                "were not split, because other cells separate tags by ';' or '|'."
            )

    def _split_text(self, cell: str) -> list[tuple[str, float | None]]:
        pattern = _SEPARATORS if self._comma_separates else _SEPARATORS_BUT_COMMA
        parts = list(filter(None, map(str.strip, pattern.split(cell))))
        if len(parts) > 1 and ("|" in cell or self._comma_separates):
            self._split.append((cell, parts))
        elif any("," in part and not _WEIGHTED.match(part) for part in parts):
            self._whole.append(cell)
        pairs: list[tuple[str, float | None]] = []
        for part in parts:
            match = _WEIGHTED.match(part)
            weight = match and (None if match["weight"] == "?" else float(match["weight"].replace(",", ".")))
            pairs.append((match["tag"], weight) if match else (part, 1.0))
        return pairs


def _parsed(cell: str) -> list[Any] | dict[Any, Any] | None:
    """Parse a list or an object that is written as text, in JSON or Python; return None for other text."""
    cell = cell.strip()
    if cell[:1] + cell[-1:] not in ("[]", "{}", "()"):
        return None
    # numpy writes no commas: ['guitar' 'rock']
    with_commas = re.sub(r"(['\"])\s+(['\"])", r"\1, \2", cell)
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(with_commas)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(found, dict):
            return found
        if isinstance(found, (list, tuple, set)):
            return sorted(found, key=str) if isinstance(found, set) else list(found)
    # [guitar, rock]
    return [part.strip() for part in cell[1:-1].split(",")] if cell[0] == "[" and "," in cell else None


def _pairs(value: Any, where: str) -> list[tuple[Any, Any]]:
    if value is None:
        return []
    if isinstance(value, list):
        return [(tag, 1.0) for tag in value]
    if isinstance(value, dict):
        return list(value.items())
    raise ManifestError(f"{where}, column tags: expected a list of tags or an object of labels. Received: {value!r}.")


def _labels(pairs: Sequence[tuple[Any, Any]], where: str) -> dict[str, float]:
    """Check tags and labels."""
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


def _csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    encoding = _encoding(path)
    with open(
        path, encoding=encoding, errors="surrogateescape" if encoding == "utf-8-sig" else "strict", newline=""
    ) as file:
        try:
            reader = csv.reader(file, delimiter=_delimiter(file.readline()))
            file.seek(0)
            header = standard_names(next(reader, []))
            if not header:
                raise ManifestError(
                    f"{path}: expected a CSV header with the columns {' and '.join(columns)}. Received: an empty file."
                )
            for column in columns:
                if header.count(column) > 1 or (column not in header and column != "tags"):
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
        except UnicodeDecodeError:
            raise ManifestError(f"{path}: expected UTF-8 text. Received: damaged UTF-16.") from None


def _encoding(path: Path) -> str:
    """Return UTF-8, or UTF-16 if the file begins with its byte order mark."""
    with open(path, "rb") as file:
        start = file.read(2)
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _delimiter(header: str) -> str:
    """Return the delimiter that separates a column path from others; spreadsheets also write semicolons and tabs."""
    for delimiter in ",;\t":
        names = standard_names(next(csv.reader([header], delimiter=delimiter), []))
        if "path" in names and len(names) > 1:
            return delimiter
    return ","


def _is_name(column: str, cell: str, row: Mapping[str, str], folder: Path) -> bool:
    """Return whether a cell that is not UTF-8 names a file, or as tags folders beside or above the audio.

    Such a name may be any bytes; other text in another encoding is a mistake.
    """
    if column in ("path", "labels"):
        return os.path.lexists(folder / cell)
    tags = (
        [tag for tag in TagCells([cell]).parse(cell, column) if _NOT_UTF8.search(tag)] if column == "tags" else [cell]
    )
    return all(any(os.path.isdir(parent / tag) for parent in (folder / row["path"]).parents) for tag in tags)


def _json_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        text = path.read_text(encoding=_encoding(path))
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
                    f"{path}, {place}: expected a JSON object with {' and '.join(columns)}. "
                    f"Received: {str(entry)[:80]!r}."
                )
            for column in columns:
                if column not in entry:
                    raise ManifestError(
                        f"{path}, {place}: expected the key {column}. Received: the keys {', '.join(entry)}."
                    )
            yield place, entry


def tags_cell(tags: Mapping[str, float]) -> str:
    """Write a cell that `TagCells` reads back: `guitar;rock:0.1`, or JSON if a tag contains a separator."""
    if any(_parsed(tag) is not None or re.search("[;|,]", tag) for tag in tags):
        return json.dumps(
            {tag: None if math.isnan(label) else label for tag, label in tags.items()}, ensure_ascii=False
        )
    parts = []
    for tag, label in tags.items():
        hard = label == 1.0 and not _WEIGHTED.match(tag)
        parts.append(tag if hard else f"{tag}:{'?' if math.isnan(label) else repr(float(label))}")
    return ";".join(parts)
