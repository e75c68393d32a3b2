"""The command `tag`."""

from __future__ import annotations

import argparse

from keras_tagger.cli.flags import DEFAULT_MODEL, MODEL_HELP, Commands
from keras_tagger.cli.output import add_tag_flags, print_tags

_EXAMPLES = """\
  keras-tagger tag song.mp3
  keras-tagger tag *.mp3 --merge_synonyms --csv > tags.csv
  keras-tagger tag song.mp3 --model runs/demo --top 3 --json
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add(
        "tag",
        run,
        "print the best tags of audio files, with * if the score reaches the tag's threshold",
        _EXAMPLES,
    )
    command.add_argument("files", nargs="+", metavar="FILE", help="audio files of any length")
    command.add_argument("--model", default=DEFAULT_MODEL, help=f"{MODEL_HELP} ({DEFAULT_MODEL})")
    add_tag_flags(command)


def run(arguments: argparse.Namespace) -> int:
    """Tag files with a local model."""
    from keras_tagger.tagger import load

    found = load(arguments.model).tag_files(arguments.files, arguments.top, arguments.merge_synonyms)
    return print_tags(arguments, (tags for _, tags in found))
