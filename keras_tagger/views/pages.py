"""HTML from the Jinja2 templates in `templates/`; every value put into a page is escaped.

It imports no other room than `files`, so that data classes can use it for their pictures in a notebook.
"""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_tagger.files import printable

if TYPE_CHECKING:
    import jinja2


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


def frame(page: str, title: str, height: int = 480) -> str:
    """Return a page as a frame for a notebook, which needs no other file.

    Args:
        page: The HTML of the page.
        title: What the frame is, for screen readers.
        height: Height in pixels; the page scrolls.
    """
    return render("frame.html.j2", page=page, title=title, height=height)


def line_charts(lines: Mapping[str, Sequence[float]]) -> str:
    """Render small line charts without a page around them, as a notebook shows them.

    Args:
        lines: By name, the values at 1, 2, 3, ...; undefined values are left out.

    Example:
        >>> line_charts({"loss": [0.7, 0.5, 0.4]})
    """
    width, height = 220, 70
    charts = []
    for name, values in lines.items():
        known = [(place, value) for place, value in enumerate(values) if math.isfinite(value)]
        if not known:
            continue
        low, high = min(value for _, value in known), max(value for _, value in known)
        points = [
            (width * place / max(len(values) - 1, 1), height * (1 - (value - low) / ((high - low) or 1.0)))
            for place, value in known
        ]
        charts.append({"name": name, "points": points, "low": low, "high": high, "last": known[-1][1]})
    return render("lines.html.j2", charts=charts, width=width, height=height)


def data_uri(kind: str, content: bytes) -> str:
    """Return content as a `data:` address, so that a page needs no other file.

    Args:
        kind: The media type, such as "image/png".
        content: The bytes of the file.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


@functools.cache
def _environment() -> jinja2.Environment:
    # Imported only where a page is made: data classes import this module, and tagging needs no page.
    import jinja2

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
