"""Tags beside music files, in files of their own: JSON, JAMS and XMP."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from keras_tagger.errors import LibraryError
from keras_tagger.files import json_text, write_text
from keras_tagger.library.writing import Origin
from keras_tagger.tags import Tags

KINDS = ("json", "jams", "xmp")
_XMP = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:xmpDM="http://ns.adobe.com/xmp/1.0/DynamicMedia/"
    xmp:CreatorTool={tool}{properties}>
   <dc:subject>
    <rdf:Bag>
{subjects}    </rdf:Bag>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


def sidecar_path(path: str | os.PathLike[str], kind: str) -> Path:
    """Return the path of a sidecar: `song.mp3.json` is beside `song.mp3`."""
    return Path(f"{os.fspath(path)}.{kind}")


def is_done(path: Path, origin: Origin) -> bool:
    """Return whether a sidecar of this origin exists."""
    return str(origin) in _content(path)


def check_own(path: Path) -> None:
    """Raise `LibraryError` if another program has written the sidecar."""
    if path.exists() and "keras_tagger " not in _content(path):
        raise LibraryError(
            f"expected a sidecar of keras_tagger to replace, or --replace. Received: {str(path)!r} of another program."
        )


def write_sidecar(path: Path, kind: str, tags: Tags, fields: Mapping[str, Sequence[str]], origin: Origin) -> None:
    """Write a sidecar.

    Args:
        path: From `sidecar_path`.
        kind: One of `KINDS`. JSON holds all scores and the fields; JAMS all scores, as a `tag_open` annotation; XMP the
            fields as `dc:subject`, with `xmpDM:genre` and `xmpDM:instrument`.
        tags: All tags of the clip.
        fields: The values for each field.
        origin: Where the values come from.
    """
    if kind == "jams":
        content = {**tags.to_jams(), "sandbox": {"keras_tagger": {"origin": str(origin), "fields": fields}}}
        text = json_text(content, indent=2)
    elif kind == "xmp":
        text = _xmp(fields, origin)
    else:
        present = [entry.name for entry in tags if entry.present]
        values: dict[str, Any] = {"origin": str(origin), "fields": fields, "tags": tags.to_dict(), "present": present}
        text = json_text(values, indent=2)
    write_text(path, text)


def _xmp(fields: Mapping[str, Sequence[str]], origin: Origin) -> str:
    subjects = dict.fromkeys(value for values in fields.values() for value in values)
    properties = "".join(
        f"\n    xmpDM:{field}={quoteattr(', '.join(fields[field]))}"
        for field in ("genre", "instrument")
        if field in fields
    )
    return _XMP.format(
        tool=quoteattr(str(origin)),
        properties=properties,
        subjects="".join(f"     <rdf:li>{escape(value)}</rdf:li>\n" for value in subjects),
    )


def _content(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""
