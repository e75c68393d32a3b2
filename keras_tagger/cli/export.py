"""The command `export`."""

from __future__ import annotations

import argparse

from keras_tagger.cli.flags import MODEL_HELP, Commands
from keras_tagger.errors import ModelError

_EXAMPLES = """\
  keras-tagger export runs/demo exported/            (writes exported/1, then exported/2, ...)
  keras-tagger export runs/demo exported/ --check    (writes a version and checks it)
  keras-tagger export --check exported/              (checks the newest version)
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("export", run, "write a SavedModel as the next version in a directory", _EXAMPLES)
    command.add_argument("model", metavar="MODEL", nargs="?", help=MODEL_HELP)
    command.add_argument("directory", metavar="DIR", nargs="?", help="the folder of all versions")
    command.add_argument(
        "--check",
        metavar="DIR",
        nargs="?",
        const="",
        help="report whether TensorFlow Serving can serve a version, or the newest one in DIR; after MODEL DIR, the "
        "version that is written",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export a model, check a SavedModel, or both; the exit status is 1 if the check fails."""
    given = [part for part in (arguments.model, arguments.directory) if part is not None]
    if len(given) != 2 and (given or not arguments.check):
        raise ModelError(f"export: expected MODEL and DIR, or --check DIR. Received: {' '.join(given) or 'neither'}.")
    checked = arguments.check
    if given:
        from keras_tagger.tagger import load

        version = load(arguments.model).export(arguments.directory)
        print(version)
        checked = checked if checked is None else checked or str(version)
    if checked is None:
        return 0
    from keras_tagger.export.check import check_export

    result = check_export(checked)
    print(result)
    return 0 if result.ok else 1
