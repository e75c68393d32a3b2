"""The command `playlist`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_tagger.cli.flags import Commands, add_model_flag, positive
from keras_tagger.cli.inputs import INPUTS_HELP, STANDARD_INPUT, find_inputs
from keras_tagger.cli.output import fail
from keras_tagger.errors import KerasTaggerError, LibraryError
from keras_tagger.files import write_text
from keras_tagger.progress import progress_bar

if TYPE_CHECKING:
    from keras_tagger.library.query import Query

_EXAMPLES = """\
  keras-tagger playlist "metal>0.5 & !voice" my_music/ --output metal.m3u8
  keras-tagger playlist '"female vocal" & (slow | quiet)' my_music/ --by quiet --most 20
  keras-tagger tag my_music/ --top 50 --output tags.jsonl       (tag once ...)
  keras-tagger playlist "techno & fast" --scores tags.jsonl     (... and ask many times)
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("playlist", run, "list the music that matches a query, as an M3U playlist", _EXAMPLES)
    command.add_argument(
        "query",
        metavar="QUERY",
        help="tags with & (and), | (or), ! (not), parentheses, and > >= < <= with a score; a tag alone means that it "
        "is present; names with spaces in quotes",
    )
    command.add_argument("files", nargs="*", metavar="FILE", help=INPUTS_HELP.replace(", or - for standard input", ""))
    add_model_flag(command, ", or several with commas between them")
    command.add_argument(
        "--scores", metavar="FILE", help="use the scores that `tag --top 50 --output FILE.jsonl` wrote, and no model"
    )
    command.add_argument("--by", metavar="TAG", help="sort by the score of a tag, highest first (in the order given)")
    command.add_argument("--most", type=positive, metavar="N", help="highest number of files (all)")
    command.add_argument(
        "--output", metavar="FILE", help="write FILE.m3u8 instead of printing; paths are relative to it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print or write the playlist; the exit status is 1 if a file could not be tagged."""
    from keras_tagger.library.playlist import Entry, m3u, read_scores
    from keras_tagger.library.query import Query, find_name

    query = Query(arguments.query)
    if bool(arguments.files) == bool(arguments.scores):
        raise LibraryError(
            "expected either audio files or --scores. Received: " + ("both." if arguments.files else "none.")
        )
    status = 0
    found: Iterator[tuple[str, tuple[Any, ...]]]
    if arguments.scores:
        found = ((file, (tags,)) for file, tags in read_scores(arguments.scores))
    else:
        inputs = find_inputs(arguments.files)
        for entry in inputs:
            if entry.error is not None:
                status = fail(str(entry.error))
        names = [entry.name for entry in inputs if entry.error is None]
        if STANDARD_INPUT in names:
            raise LibraryError("expected music files. Received: - (standard input).")
        found = _tagged(arguments, query, names)
    kept: list[tuple[float, Entry]] = []
    for file, results in found:
        if error := next((result for result in results if isinstance(result, KerasTaggerError)), None):
            status = fail(str(error))
        elif query.matches(*results):
            known = [name for tags in results for name in tags.names]
            by = find_name(arguments.by, known) if arguments.by else None
            score = next(tags[by].score for tags in results if by in tags.names) if by else 0.0
            kept.append((score, Entry(file, results[0].seconds)))
    kept.sort(key=lambda pair: -pair[0])
    entries = [entry for _, entry in kept[: arguments.most]]
    if arguments.output:
        write_text(arguments.output, m3u(entries, Path(arguments.output).parent))
        print(f"{arguments.output}: {len(entries)} file{'' if len(entries) == 1 else 's'}")
    else:
        print(m3u(entries), end="")
    return status


def _tagged(arguments: argparse.Namespace, query: Query, names: Sequence[str]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield what each model says about each file: `Tags` or an error."""
    from keras_tagger.storage.loading import find_model, stored_config
    from keras_tagger.tagger import load

    models = arguments.model.split(",")
    # A wrong name is reported before TensorFlow is loaded.
    query.check([tag for model in models for tag in stored_config(find_model(model))["tags"]])
    found = [load(model).tag_files(names, top=None, merge_synonyms=True) for model in models]
    bar = progress_bar(zip(names, *found, strict=True), total=len(names), unit="file", hidden=len(names) == 1)
    for name, *results in bar:
        yield name, tuple(tags for _, tags in results)
