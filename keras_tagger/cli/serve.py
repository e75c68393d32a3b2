"""The command `serve`."""

from __future__ import annotations

import argparse
import os

from keras_tagger.cli.flags import Commands
from keras_tagger.serving.flags import add_flags, flags_of, stock_flags_of

_EXAMPLES = """\
  keras-tagger serve exported/ --port 8500 --rest_api_port 8501
  keras-tagger serve --model_config_file models.config --host 0.0.0.0
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add(
        "serve", run, "serve the versions in a directory over gRPC and REST, as TensorFlow Serving does", _EXAMPLES
    )
    command.add_argument("directory", metavar="DIR", nargs="?", help="a folder with one numbered folder per version")
    command.add_argument(
        "--embedded", action="store_true", help="never start tensorflow_model_server, even with --host 0.0.0.0"
    )
    add_flags(command)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    flags, given = flags_of(arguments, arguments.directory)
    # TensorFlow's own messages on refused requests quote what clients send.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from keras_tagger.serving.server import serve

    given.pop("model_base_path", None)
    stock_flags = stock_flags_of(arguments)
    serve(flags.model_base_path or None, embedded=arguments.embedded, stock_flags=stock_flags, **given)
    return 0
