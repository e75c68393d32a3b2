"""Text between the marks of a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from keras_tagger.errors import ManifestError
from pages import replace_marked


def test_text_replaces_what_stands_between_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- measure x -->\nold\n<!-- end -->\nb\n<!-- measure y -->\n<!-- end -->\n<!-- z -->\n")
    replace_marked(page, "measure x", r"| new \1 |")
    replace_marked(page, "measure x", r"| newer \1 |")
    expected = "a\n<!-- measure x -->\n| newer \\1 |\n<!-- end -->\nb\n<!-- measure y -->\n<!-- end -->\n<!-- z -->\n"
    assert page.read_text() == expected
    for name in ("absent", "z"):
        with pytest.raises(ManifestError, match=f"expected the mark <!-- {name} --> once. Received: 0 times"):
            replace_marked(page, name, "text")
    assert page.read_text() == expected
