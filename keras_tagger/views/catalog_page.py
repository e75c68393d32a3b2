"""The page of a catalogue: a table with filters, a map and a player, in one HTML file."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_tagger.files import json_text
from keras_tagger.views.pages import render

# Of the most frequent best tags; apart in hue and lightness on light and dark pages.
_COLOURS = ("#3b82f6", "#f97316", "#22a06b", "#d946ef", "#eab308", "#ef4444", "#14b8a6", "#8b5cf6")


def catalog_page(
    title: str, about: str, tags: Sequence[str], rows: Sequence[Mapping[str, Any]], explained: float
) -> str:
    """Render the page.

    It needs no other file but the audio that is played, and its content security policy forbids every other request.

    Args:
        title: The title.
        about: A line below it.
        tags: The names of the tags.
        rows: For each track its `name`, its `href` relative to the page, `seconds`, `present` (places in `tags`, best
            first), `scores` in hundredths, and `x` and `y` on the map, 0..1.
        explained: Share of the variance that the map shows.
    """
    best = Counter(row["present"][0] for row in rows if row["present"])
    colours = [[tag, colour] for (tag, _), colour in zip(best.most_common(len(_COLOURS)), _COLOURS, strict=False)]
    # No text of the data can end its element.
    data = json_text({"tags": list(tags), "colours": colours, "rows": list(rows)}).replace("<", "\\u003c")
    digest = base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode("ascii")
    return render(
        "catalog.html.j2",
        title=title,
        about=about,
        tags=tags,
        data=data,
        explained=explained,
        script=_script(),
        policy=f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; media-src * file:",
    )


@functools.cache
def _script() -> str:
    return Path(__file__).with_name("templates").joinpath("catalog.js").read_text(encoding="utf-8")
