"""Tables and lists: aligned text for a terminal, names in a sentence, and pandas data frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_tagger.files import printable


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Align rows of cells as text: the first column to the left, the others to the right.

    Example:
        >>> print(text_table([["tag", "clips"], ["guitar", "3"]]))
        tag     clips
        guitar      3
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def listed(names: Sequence[str], most: int = 10) -> str:
    """List names in a sentence: the first ones, and how many more there are.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def dataframe(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Any:
    """Make a pandas `DataFrame` of rows.

    Raises:
        ImportError: If pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise ImportError('to_dataframe needs pandas. Install it with: pip install "keras_tagger[dataframe]"') from None
    return pandas.DataFrame(list(rows), columns=list(columns))
