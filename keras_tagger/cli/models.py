"""The command `models`."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from keras_tagger.cli.flags import Commands
from keras_tagger.cli.output import fail, pretty_json

if TYPE_CHECKING:
    from keras_tagger.storage.catalog import StoredModel

_EXAMPLES = """\
  keras-tagger models
  keras-tagger models runs/ exported/
  keras-tagger models runs/ --format json
"""
_COLUMNS = ("name", "kind", "tags", "preset", "rate", "window", "size", "licence", "")


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("models", run, "list the models that can be loaded or served", _EXAMPLES)
    command.add_argument(
        "folders",
        nargs="*",
        metavar="FOLDER",
        help="also list the run directories, .keras files and exports in FOLDER, at any depth",
    )
    command.add_argument("--format", choices=("table", "json"), default="table", help="how to print them (table)")


def run(arguments: argparse.Namespace) -> int:
    """List packaged models and those in folders; the exit status is 1 if one of them cannot be read."""
    from keras_tagger.errors import ModelNotFoundError
    from keras_tagger.storage.catalog import find_models, packaged_models

    found = packaged_models()
    status = 0
    for folder in arguments.folders:
        try:
            found += find_models(folder)
        except ModelNotFoundError as error:
            status = fail(str(error))
    if arguments.format == "json":
        print(pretty_json([dataclasses.asdict(model) for model in found]))
    else:
        rows = [_COLUMNS, *map(_cells, found)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for model in found:
        if model.error:
            status = fail(model.error)
    return status


def _cells(model: StoredModel) -> tuple[str, ...]:
    about = model.description or (f"versions {', '.join(map(str, model.versions))}" if model.versions else "")
    return (
        model.name,
        model.kind,
        str(model.tags or ""),
        model.preset,
        f"{model.sample_rate} Hz" if model.sample_rate else "",
        f"{model.window_seconds:.4g} s" if model.window_seconds else "",
        f"{model.size / 1e6:.1f} MB" if model.size else "",
        model.licence,
        "cannot be read" if model.error else about,
    )
