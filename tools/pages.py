"""Pages whose tables are measured: text between marks, which programs replace."""

from __future__ import annotations

import re
from pathlib import Path

from keras_tagger.errors import ManifestError
from keras_tagger.files import replacing

END = "<!-- end -->"


def replace_marked(path: Path, name: str, text: str) -> None:
    """Put `text` between the marks `<!-- NAME -->` and `<!-- end -->` of a page, whole or not at all.

    Raises:
        ManifestError: the page does not have the mark exactly once.
    """
    content = path.read_text("utf-8")
    begin = f"<!-- {name} -->"
    changed, count = re.subn(
        rf"({re.escape(begin)}\n).*?({re.escape(END)})", lambda m: f"{m[1]}{text}\n{m[2]}", content, flags=re.S
    )
    if count != 1:
        raise ManifestError(f"{path}: expected the mark {begin} once. Received: it {count} times")
    with replacing(path) as temporary:
        temporary.write_text(changed, "utf-8")
