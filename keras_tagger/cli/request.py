"""The command `request`."""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from keras_tagger.cli.flags import Commands
from keras_tagger.cli.inputs import Input, add_inputs, answers, find_inputs
from keras_tagger.cli.output import (
    add_tag_flags,
    check_output,
    chosen_format,
    fail,
    json_form,
    opened,
    tags_form,
    tags_values,
    warning_values,
    warnings_of,
    write_results,
)
from keras_tagger.errors import KerasTaggerError, ServingError

if TYPE_CHECKING:
    from keras_tagger.audio import AudioSource
    from keras_tagger.client.client import Client
    from keras_tagger.client.streaming import StreamedWindow

_EXAMPLES = """\
  keras-tagger request song.mp3 --server localhost:8500
  keras-tagger request my_music/ mix.m3u8 --top 3 --output tags.csv
  keras-tagger request song.mp3 --signature attention --output attention.jsonl
  keras-tagger request song.mp3 --wait                     (for a server that is starting)
  keras-tagger request concert.flac --stream
  keras-tagger request song.mp3 --server music.example.com:443 --tls
"""

_LONGEST_WAIT_SECONDS = 300.0


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("request", run, "ask a server about audio files", _EXAMPLES)
    add_inputs(command)
    command.add_argument(
        "--server", default="localhost:8500", metavar="HOST:PORT", help="address of the server (localhost:8500)"
    )
    command.add_argument(
        "--model_name", default="keras_tagger", metavar="NAME", help="name of the served model (keras_tagger)"
    )
    command.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="deadline of one request (30)")
    command.add_argument("--wait", action="store_true", help="wait for up to 5 minutes until the model is ready")
    command.add_argument("--retries", type=int, default=4, metavar="N", help="how often to retry a busy server (4)")
    command.add_argument(
        "--signature",
        choices=("tags", "attention", "contributions", "embedding"),
        default="tags",
        help="what to request; all but tags are written as json or jsonl, which is then the default (tags)",
    )
    command.add_argument(
        "--stream",
        action="store_true",
        help="send the audio in pieces to keras-tagger serve, and print a line of JSON per window as it comes",
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
    if arguments.stream and (signature not in ("tags", "contributions") or arguments.format not in (None, "jsonl")):
        received = f"{signature} as {arguments.format or 'jsonl'}"
        raise ServingError(f"--stream: expected --signature tags or contributions, as jsonl. Received: {received}.")
    form = chosen_format(arguments, "table" if signature == "tags" else "jsonl")
    if signature != "tags" and form not in ("json", "jsonl"):
        raise ServingError(f"--format: expected json or jsonl for --signature {signature}. Received: {form}.")
    inputs = find_inputs(arguments.files)
    check_output(arguments, inputs)
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
        if arguments.wait:
            _wait(client)
        if arguments.stream:
            return _stream(arguments, inputs, client)
        if signature == "tags":
            choice = {key: getattr(arguments, key) for key in ("top", "merge_synonyms", "rank")}
            found = _answers(lambda source: client.tag(source, **choice))
            return write_results(arguments, inputs, answers(inputs, found), tags_form(form, arguments.rank))
        found = _answers(lambda source: _VALUES[signature](client, source))
        return write_results(arguments, inputs, answers(inputs, found), json_form(form, dict))


def _wait(client: Client) -> None:
    """Wait until the server answers about the model."""
    end = time.monotonic() + _LONGEST_WAIT_SECONDS
    while True:
        try:
            client.metadata()
            return
        except ServingError as error:
            # Servers refuse a model that they have not loaded yet as if it did not exist.
            if error.code not in ("UNAVAILABLE", "NOT_FOUND", "DEADLINE_EXCEEDED") or time.monotonic() > end:
                raise
            time.sleep(0.2)


def _stream(arguments: argparse.Namespace, inputs: Sequence[Input], client: Client) -> int:
    """Write a line for each window of every input, and one for the whole of it; the exit status is 1 after an error."""
    status = 0
    with opened(arguments.output) as write:
        for entry in inputs:
            line = functools.partial(json_form("jsonl", dict).text, entry.name)
            try:
                if entry.error is not None:
                    raise entry.error
                choice = {key: getattr(arguments, key) for key in ("top", "merge_synonyms", "rank")}
                stream = client.stream(entry.source, arguments.signature == "contributions", **choice)
                for window in stream:
                    write(line(_window_values(window, arguments.top)))
                write(line(tags_values(stream.tags)))
            except KerasTaggerError as error:
                status = fail(str(error))
                write(line(error))
    return status


def _window_values(window: StreamedWindow, top: int) -> dict[str, Any]:
    values: dict[str, Any] = {
        "start_seconds": round(window.start_seconds, 6),
        "end_seconds": round(window.end_seconds, 6),
        "tags": {name: round(score, 6) for name, score in window.top(top)},
    }
    if len(window.times):
        values["times"] = _rounded(window.times)
        values["contributions"] = dict(zip(window.tags, _rounded(window.contributions), strict=True))
    return values


def _answers(ask: Callable[[AudioSource], Any]) -> Callable[[Iterator[AudioSource]], Iterator[Any]]:
    """Return a function that asks about one source after the other, and yields answers and errors."""

    def ask_all(sources: Iterator[AudioSource]) -> Iterator[Any]:
        for source in sources:
            try:
                yield ask(source)
            except KerasTaggerError as error:
                yield error

    return ask_all


def _attention(client: Client, source: AudioSource) -> dict[str, Any]:
    heat = client.heatmap(source, "attention")
    values = {"times": _rounded(heat.times), "heatmap": _rounded(heat.values[0])}
    return {"attention": values, "warnings": warning_values(warnings_of(heat))}


def _contributions(client: Client, source: AudioSource) -> dict[str, Any]:
    heat = client.heatmap(source)
    values = {"tags": heat.tags, "times": _rounded(heat.times), "contributions": _rounded(heat.values)}
    return {"contributions": values, "warnings": warning_values(warnings_of(heat))}


def _embedding(client: Client, source: AudioSource) -> dict[str, Any]:
    # What a listener must know is printed, as an array has no warnings.
    return {"embedding": _rounded(client.embed(source))}


_VALUES: dict[str, Callable[[Client, AudioSource], Any]] = {
    "attention": _attention,
    "contributions": _contributions,
    "embedding": _embedding,
}


def _rounded(array: Any) -> list[Any]:
    rounded: list[Any] = array.astype(float).round(6).tolist()
    return rounded
