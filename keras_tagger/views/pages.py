"""HTML from the Jinja2 templates in `templates/`; every value put into a page is escaped.

It imports no other room than `files`, so that data classes can use it for their pictures in a notebook.
"""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from keras_tagger.files import printable


def render(template: str, **values: Any) -> str:
    """Render a file of `templates/`.

    Args:
        template: Name of the file.
        **values: Variables of the template; each one that the template uses must be given.
    """
    return _environment().get_template(template).render(**values)


def table(rows: Sequence[Sequence[Any]], head: Sequence[str] = (), caption: str = "", note: str = "") -> str:
    """Render a table without a page around it, as a notebook shows it.

    Args:
        rows: Cells; the first column is aligned to the left, the others to the right.
        head: Column names; may be empty.
        caption: A line above the table; may be empty.
        note: A line below the table; may be empty.

    Example:
        >>> table([("guitar", "0.91")], ["tag", "score"])
    """
    return render("table.html.j2", rows=rows, head=head, caption=caption, note=note)


def data_uri(kind: str, content: bytes) -> str:
    """Return content as a `data:` address, so that a page needs no other file.

    Args:
        kind: The media type, such as "image/png".
        content: The bytes of the file.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        # A macro's result is text of the page.
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["fixed"] = _fixed
    return environment


def _fixed(value: float | None, digits: int = 3) -> str:
    """Format a number, or return a dash if it is undefined."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
