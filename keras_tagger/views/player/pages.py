"""Pages with players: HTML that needs no other file and no network."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_tagger.files import json_text
from keras_tagger.views.pages import render

_FRAME_HEIGHT = 640


@functools.cache
def bundle() -> bytes:
    """Return the player's ES module, UTF-8."""
    return Path(__file__).with_name("assets").joinpath("player.js").read_bytes()


def element(document: Mapping[str, Any]) -> str:
    """Return the HTML of one player, for a page that also has `scripts()` once.

    Args:
        document: A clip document.
    """
    return _data_element("keras-tagger-player", document, 'style="min-height: 600px"')


def scripts() -> str:
    """Return the script element with the player, which a page needs once."""
    return f'<script type="module">{_inline_bundle()}</script>'


def policy() -> str:
    """Return the content security policy of a page with `scripts()`, which forbids every request."""
    script = f"'sha256-{_script_hash()}'"
    return f"default-src 'none'; script-src {script}; style-src 'unsafe-inline'; img-src data:; media-src data:"


def page(documents: Sequence[Mapping[str, Any]], title: str) -> str:
    """Render a page with a player per document.

    The page needs no other file, and its content security policy forbids every request.

    Args:
        documents: Clip documents.
        title: The title of the page.

    Example:
        >>> Path("song.html").write_text(page([document], "song.mp3"))
    """
    return _page([element(document) for document in documents], title)


def index_page(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """Render a page with a table of files that is sorted by the score of any tag.

    Args:
        rows: For each file its `name`, its `href` relative to the page, its length in `seconds`, and `scores` by tag.
        title: The title of the page.

    Example:
        >>> index_page([{"name": "a.mp3", "href": "a/why.html", "seconds": 30.0, "scores": {"rock": 0.9}}], "Songs")
    """
    return _page([_data_element("keras-tagger-index", list(rows))], title)


def fragment(document: Mapping[str, Any], height: int = _FRAME_HEIGHT) -> str:
    """Return HTML for a notebook cell: a frame with the player, which needs no kernel and no network.

    Args:
        document: A clip document.
        height: Height of the frame in pixels until the player sets it.
    """
    name = html.escape(str(document.get("name", "")))
    content = html.escape(page([document], str(document.get("name", ""))))
    return (
        f'<iframe data-keras-tagger-frame title="{name}" srcdoc="{content}" '
        f'style="width: 100%; height: {height}px; border: 0" allow="autoplay"></iframe>'
    )


def _page(elements: Sequence[str], title: str) -> str:
    return render("player.html.j2", title=title, hash=_script_hash(), elements=elements, scripts=scripts())


def _data_element(kind: str, content: Any, attributes: str = "") -> str:
    # No text of the content can end the script element.
    text = json_text(content).replace("<", "\\u003c")
    return f'<div class="{kind}" {attributes}><script type="application/json">{text}</script></div>'


@functools.cache
def _inline_bundle() -> str:
    text = bundle().decode("utf-8")
    if "</script" in text.lower() or "<!--" in text:
        raise AssertionError("expected a bundle that can stand inside a script element")
    return text


@functools.cache
def _script_hash() -> str:
    return base64.b64encode(hashlib.sha256(_inline_bundle().encode()).digest()).decode("ascii")
