"""The command `request`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from keras_tagger.cli.flags import Commands
from keras_tagger.cli.output import add_tag_flags, print_each, print_json_line, print_tags
from keras_tagger.errors import KerasTaggerError, ServingError

if TYPE_CHECKING:
    from keras_tagger.client.client import Client

Answer = TypeVar("Answer")

_EXAMPLES = """\
  keras-tagger request song.mp3 --server localhost:8500
  keras-tagger request *.mp3 --top 3 --csv > tags.csv
  keras-tagger request song.mp3 --signature attention
  keras-tagger request song.mp3 --server music.example.com:443 --tls
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("request", run, "ask a server about audio files", _EXAMPLES)
    command.add_argument("files", nargs="+", metavar="FILE", help="audio files of any length")
    command.add_argument(
        "--server", default="localhost:8500", metavar="HOST:PORT", help="address of the server (localhost:8500)"
    )
    command.add_argument(
        "--model_name", default="keras_tagger", metavar="NAME", help="name of the served model (keras_tagger)"
    )
    command.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="deadline of one request (30)")
    command.add_argument("--retries", type=int, default=4, metavar="N", help="how often to retry a busy server (4)")
    command.add_argument(
        "--signature",
        choices=("tags", "attention", "contributions", "embedding"),
        default="tags",
        help="what to request; all but tags are printed as one line of JSON per file (tags)",
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("--model_version", type=int, metavar="N", help="use version N instead of the newest")
    which.add_argument("--model_version_label", metavar="LABEL", help="use the version with this label, e.g. stable")
    command.add_argument("--tls", action="store_true", help="encrypt the connection; the options below imply it")
    command.add_argument("--root_certificates", metavar="PEM", help="certificates of the authorities to trust")
    command.add_argument("--client_certificate", metavar="PEM", help="certificate for a server that asks for one")
    command.add_argument("--client_key", metavar="PEM", help="private key of --client_certificate")
    command.add_argument("--server_name", metavar="NAME", help="name in the server's certificate, if it is not HOST")
    add_tag_flags(command)


def run(arguments: argparse.Namespace) -> int:
    """Ask a server about every file."""
    signature = arguments.signature
    if arguments.csv and signature != "tags":
        raise ServingError(f"--csv: expected --signature tags. Received: {signature}, which is printed as JSON.")
    from keras_tagger.client.channel import Tls
    from keras_tagger.client.client import Client

    pems = (arguments.root_certificates, arguments.client_certificate, arguments.client_key, arguments.server_name)
    with Client(
        arguments.server,
        arguments.model_name,
        arguments.timeout,
        version=arguments.model_version,
        version_label=arguments.model_version_label,
        retries=arguments.retries,
        tls=Tls(*pems) if arguments.tls or any(pems) else None,
    ) as client:
        if signature == "tags":
            top, merge = arguments.top, arguments.merge_synonyms
            tags = _answers(arguments.files, lambda file: client.tag(file, top=top, merge_synonyms=merge))
            return print_tags(arguments, tags)

        def show(file: str, values: Any) -> None:
            print_json_line({"file": file, signature: values})

        ask = _VALUES[signature]
        return print_each(arguments.files, _answers(arguments.files, lambda file: ask(client, file)), show)


def _answers(files: Sequence[str], ask: Callable[[str], Answer]) -> Iterator[Answer | KerasTaggerError]:
    for file in files:
        try:
            yield ask(file)
        except KerasTaggerError as error:
            yield error


def _attention(client: Client, file: str) -> dict[str, Any]:
    heat = client.heatmap(file, "attention")
    return {"times": _rounded(heat.times), "heatmap": _rounded(heat.values[0])}


def _contributions(client: Client, file: str) -> dict[str, Any]:
    heat = client.heatmap(file)
    return {"tags": heat.tags, "times": _rounded(heat.times), "contributions": _rounded(heat.values)}


def _embedding(client: Client, file: str) -> list[Any]:
    return _rounded(client.embed(file))


_VALUES: dict[str, Callable[[Client, str], Any]] = {
    "attention": _attention,
    "contributions": _contributions,
    "embedding": _embedding,
}


def _rounded(array: Any) -> list[Any]:
    rounded: list[Any] = array.astype(float).round(6).tolist()
    return rounded
