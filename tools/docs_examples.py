"""Show the `Example:` section of docstrings as code on the documentation site; mkdocs.yml names this file.

Griffe, which reads the docstrings, knows the section as `Examples:` only. Not part of the package.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """A Griffe extension that renames the sections `Example:` to `Examples:`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section in the object's docstring."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
