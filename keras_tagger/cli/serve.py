"""The sub-command `serve` of the command line."""

from __future__ import annotations

import argparse
import os
from typing import Any

from keras_tagger.serving.flags import add_flags, flags_of


def add_serve(add: Any) -> None:
    """Add `serve`; `add` makes a sub-command from its name, function and help."""
    serve = add("serve", _serve, "serve the versions below a directory over gRPC and REST, as TensorFlow Serving does")
    serve.add_argument("directory", metavar="DIR", nargs="?", help="a folder with a numbered folder per version")
    serve.add_argument("--embedded", action="store_true", help="not tensorflow_model_server, where that is on PATH")
    add_flags(serve)


def _serve(arguments: argparse.Namespace) -> int:
    flags, given = flags_of(arguments, arguments.directory)
    # TensorFlow's own notes on refused requests quote what clients send, as it is.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from keras_tagger.serving.server import serve

    given.pop("model_base_path", None)
    serve(flags.model_base_path or None, embedded=arguments.embedded, **given)
    return 0
