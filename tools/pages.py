"""Replace marked text in pages whose tables are measured."""

from __future__ import annotations

import re
from pathlib import Path

from keras_tagger.errors import ManifestError
from keras_tagger.files import write_text

END = "<!-- end -->"


def replace_marked(path: Path, name: str, text: str) -> None:
    """Replace the text between the marks `<!-- NAME -->` and `<!-- end -->` of a page.

    Args:
        path: A Markdown file.
        name: The name of the mark.
        text: The new text.

    Raises:
        ManifestError: If the page does not have the mark exactly once.
    """
    content = path.read_text("utf-8")
    begin = f"<!-- {name} -->"
    changed, count = re.subn(
        rf"({re.escape(begin)}\n).*?({re.escape(END)})", lambda m: f"{m[1]}{text}\n{m[2]}", content, flags=re.S
    )
    if count != 1:
        raise ManifestError(f"{path}: expected the mark {begin} once. Received: {count} times.")
    write_text(path, changed)
