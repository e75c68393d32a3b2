"""The command `search`."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

from keras_tagger.cli.flags import Commands, positive
from keras_tagger.cli.output import pretty_json
from keras_tagger.files import printable, write_text

if TYPE_CHECKING:
    from keras_tagger.catalog.reading import Match

_EXAMPLES = """\
  keras-tagger search catalogue --like song.mp3
  keras-tagger search catalogue --like song.mp3 --near 1:12.5 --listen
  keras-tagger search catalogue --tags "guitar>0.5, no vocals" --most 50 --m3u guitar.m3u8
  keras-tagger search catalogue --like song.mp3 --tags "!voice" --format json
  keras-tagger search catalogue --page catalogue.html
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("search", run, "find music in a catalogue: like a track, or by its tags", _EXAMPLES)
    command.add_argument("catalog", metavar="DIR", help="a folder that keras-tagger catalog wrote")
    command.add_argument("--like", metavar="FILE", help="audio, in the catalogue or not: the most similar tracks first")
    command.add_argument(
        "--near", type=_time, metavar="TIME", help="a time in that audio, such as 12.5s or 1:12: like that moment"
    )
    command.add_argument(
        "--tags",
        metavar="QUERY",
        help="conditions with commas between them, each as for keras-tagger playlist: guitar>0.5, no vocals, !voice",
    )
    command.add_argument("--most", type=positive, default=10, metavar="N", help="highest number of tracks (10)")
    command.add_argument(
        "--listen", action="store_true", help="look for the moments in common in the audio, if DIR does not have them"
    )
    command.add_argument("--m3u", metavar="FILE", help="also write the tracks as a playlist; paths are relative to it")
    command.add_argument("--format", choices=("table", "json"), default="table", help="how to print them (table)")
    command.add_argument("--page", metavar="FILE", help="write a page on which the catalogue can be browsed")


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; the exit status is 1 if nothing was."""
    from keras_tagger.catalog.entries import local_path
    from keras_tagger.catalog.reading import Catalog
    from keras_tagger.errors import CatalogError
    from keras_tagger.library.playlist import Entry, m3u
    from keras_tagger.library.query import listed_conditions

    if not (arguments.like or arguments.tags or arguments.page):
        raise CatalogError("expected --like, --tags or --page. Received: none of them.")
    catalog = Catalog(arguments.catalog)
    if arguments.page:
        from keras_tagger.catalog.page import catalog_page

        write_text(arguments.page, catalog_page(catalog, Path(arguments.page).parent))
        print(arguments.page)
        if not (arguments.like or arguments.tags):
            return 0
    query = listed_conditions(arguments.tags) if arguments.tags else None
    matches = catalog.search(query, arguments.like, arguments.near, arguments.most, arguments.listen)
    if arguments.m3u:
        entries = [Entry(local_path(match.path), match.seconds) for match in matches]
        write_text(arguments.m3u, m3u(entries, Path(arguments.m3u).parent))
    if arguments.format == "json":
        print(pretty_json([dataclasses.asdict(match) for match in matches]))
    else:
        for match in matches:
            print(_text(match))
    return 0 if matches else 1


def _text(match: Match) -> str:
    cosine = "" if match.similarity is None else f"{match.similarity:.3f}  "
    lines = [f"{cosine}{printable(match.path)}  {_clock(match.seconds)}"]
    if match.reasons:
        lines += [
            f"{' ' * len(cosine)}both {printable(one.tag)}: {_place(one.scores[0], one.moments[0])} and "
            f"{_place(one.scores[1], one.moments[1])}"
            for one in match.reasons
        ]
    elif match.tags:
        lines.append(f"{' ' * len(cosine)}  {', '.join(map(printable, match.tags))}")
    return "\n".join(lines)


def _place(score: float, moment: float | None) -> str:
    return f"{score:.2f}" + ("" if moment is None else f" at {_clock(moment)}")


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def _time(text: str) -> float:
    match = re.fullmatch(r"(?:(\d+):)?(\d+(?:\.\d*)?)s?", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 12.5s or 1:12, received {text!r}")
    return 60 * int(match[1] or 0) + float(match[2])
