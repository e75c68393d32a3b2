"""Playlists of music that matches a query, as extended M3U in UTF-8."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_tagger.errors import LibraryError
from keras_tagger.files import printable
from keras_tagger.tags import Tags, merged


@dataclass(frozen=True)
class Entry:
    """A file in a playlist.

    Attributes:
        path: The file.
        seconds: Its length; None if unknown.
    """

    path: str
    seconds: float | None = None


def m3u(entries: Iterable[Entry], folder: str | os.PathLike[str] = ".") -> str:
    r"""Return a playlist whose paths are relative to the folder that it will be in.

    A path that is not one line of UTF-8 becomes a `file://` URL.

    Example:
        >>> m3u([Entry("music/a.mp3", 61.2)], "music")
        '#EXTM3U\n#EXTINF:61,a\na.mp3\n'
    """
    lines = ["#EXTM3U"]
    for entry in entries:
        path = os.path.relpath(entry.path, folder)
        if printable(path) != path:
            path = Path(os.path.abspath(entry.path)).as_uri()
        seconds = -1 if entry.seconds is None else round(entry.seconds)
        lines += [
            f"#EXTINF:{seconds},{printable(Path(entry.path).stem)}",
            f"./{path}" if path.startswith("#") else path,
        ]
    return "\n".join([*lines, ""])


def read_scores(path: str | os.PathLike[str]) -> Iterator[tuple[str, Tags]]:
    """Read files and their tags, with merged synonyms, from what `keras-tagger tag --format jsonl` wrote.

    Files with an error are left out.

    Raises:
        LibraryError: If the file does not exist or has another form.
    """
    try:
        for line in Path(path).read_text("utf-8").splitlines():
            row = json.loads(line)
            if "error" not in row:
                names, scores = tuple(row["tags"]), np.array(list(row["tags"].values()), np.float32)
                present = np.isin(names, row["present"]) if "present" in row else None
                heard = ~np.isin(names, row["unheard"]) if "unheard" in row else None
                yield row["file"], merged(Tags(names, scores, present, heard))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LibraryError(
            f"expected what keras-tagger tag --format jsonl wrote. Received: {os.fspath(path)!r} ({error})."
        ) from None
