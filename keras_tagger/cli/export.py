"""The command `export`."""

from __future__ import annotations

import argparse

from keras_tagger.cli.flags import MODEL_HELP, Commands
from keras_tagger.errors import ModelError
from keras_tagger.export.layout import FORMATS, PRECISIONS

_EXAMPLES = """\
  keras-tagger export runs/demo exported/            (writes exported/1, then exported/2, ...)
  keras-tagger export runs/demo exported/ --check    (writes a version and checks it)
  keras-tagger export --check exported/              (checks the newest version)
  keras-tagger export compact exported/ --format onnx --precision float16   (writes exported/compact-float16.onnx)
  keras-tagger export runs/demo exported/ --format litert                   (writes exported/demo.tflite)
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("export", run, "write a model for a server or another runtime", _EXAMPLES)
    command.add_argument("model", metavar="MODEL", nargs="?", help=MODEL_HELP)
    command.add_argument("directory", metavar="DIR", nargs="?", help="the folder of all versions, or of the file")
    command.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="saved_model writes the next version for TensorFlow Serving; onnx and litert write one file, which is run "
        f"on the packaged clips and removed if it differs from Keras ({FORMATS[0]})",
    )
    command.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help=f"how the weights of an onnx or litert file are stored ({PRECISIONS[0]})",
    )
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
    if arguments.format != FORMATS[0]:
        if checked is not None or not given:
            raise ModelError(
                f"--format {arguments.format}: expected MODEL and DIR, and no --check, as it is always run."
            )
        from keras_tagger.export.formats import export_format
        from keras_tagger.storage.loading import load_model

        print(export_format(load_model(arguments.model), arguments.directory, arguments.format, arguments.precision))
        return 0
    if arguments.precision != PRECISIONS[0]:
        raise ModelError(
            f"--precision: expected {PRECISIONS[0]} for --format {FORMATS[0]}. Received: {arguments.precision}."
        )
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
