"""Show pages of the repository that are not in docs/ on the documentation site; mkdocs.yml names this file as a hook.

A page of docs/ that consists of `--8<-- "serving/README.md"` shows that file. Relative links are changed to lead to the
same page on the site; a link to a file that is not on the site becomes its text. Not part of the package.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
_INCLUDE = re.compile(r'^--8<-- "(.*)"$', re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page's Markdown with the files that it includes."""
    return included(markdown, Path(page.file.src_uri).parent)


def included(markdown: str, folder: Path = Path()) -> str:
    """Return Markdown with the files that it includes, for a page in a folder of docs/."""
    return _INCLUDE.sub(lambda match: _with_links(ROOT / match[1], folder), markdown)


def pages_of_files() -> Mapping[Path, Path]:
    """Return the page of docs/ that shows each file: pages themselves, and the files that they include."""
    found = {}
    for page in DOCS.rglob("*.md"):
        found[page] = page
        found.update({ROOT / name: page for name in _INCLUDE.findall(page.read_text("utf-8"))})
    return found


def _with_links(path: Path, folder: Path) -> str:
    pages = pages_of_files()

    def changed(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target:
            return match[0]
        page = pages.get((path.parent / target).resolve())
        return text if page is None else f"[{text}]({os.path.relpath(page, DOCS / folder)}{anchor})"

    return _LINK.sub(changed, path.read_text("utf-8"))
