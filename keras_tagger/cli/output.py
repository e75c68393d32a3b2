"""Output of the commands: results as a table, CSV or JSON, and messages."""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_tagger.cli.flags import positive
from keras_tagger.cli.inputs import Input, check_not_input
from keras_tagger.errors import AudioWarning, KerasTaggerError
from keras_tagger.files import csv_text, json_text, printable
from keras_tagger.progress import progress_bar

if TYPE_CHECKING:
    from keras_tagger.tags import Tags

FORMATS = ("table", "csv", "json", "jsonl")
_FORMAT_OF_SUFFIX = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def fail(message: str) -> int:
    """Print an error on stderr and return the exit status 1."""
    lines = [printable(line) for line in f"keras-tagger: {message}".split("\n")]
    print("\n".join(lines), file=sys.stderr)
    return 1


def warn(warning: Warning) -> None:
    """Print a warning on stderr."""
    print(f"keras-tagger: warning: {printable(str(warning))}", file=sys.stderr)


def print_result(result: Any, as_json: bool) -> None:
    """Print a report as text, or its `to_dict` as JSON."""
    print(pretty_json(result.to_dict()) if as_json else result)


def pretty_json(content: Any) -> str:
    """Return human-readable JSON."""
    return json_text(content, indent=2).rstrip("\n")


def add_output_flags(
    command: argparse.ArgumentParser, aliases: Mapping[str, str], about: str, formats: Sequence[str] = FORMATS
) -> None:
    """Add `--output`, `--format` and flags that are short for a format.

    Args:
        command: The command's parser.
        aliases: Formats by the name of the short flag.
        about: What the formats hold.
        formats: The formats.
    """
    command.add_argument("--output", metavar="FILE", help="write to FILE, result by result, instead of printing")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--format", choices=formats, help=f"{about} (by the ending of FILE, or else table)")
    for flag, name in aliases.items():
        form.add_argument(
            f"--{flag}", dest="format", action="store_const", const=name, help=f"short for --format {name}"
        )


def add_tag_flags(command: argparse.ArgumentParser, formats: Sequence[str] = FORMATS, about: str = "") -> None:
    """Add the flags that control which tags are printed, and how.

    Args:
        command: The command's parser.
        formats: The formats.
        about: What the formats that are not in `FORMATS` hold.
    """
    command.add_argument("--top", type=positive, default=10, metavar="N", help="number of tags to print (10)")
    add_rank_flag(command)
    command.add_argument(
        "--merge_synonyms", action="store_true", help="print one entry for vocal, vocals, voice, singing, and so on"
    )
    add_output_flags(
        command,
        {"json": "jsonl", "csv": "csv"},
        "csv has a row of file, tag, score, present, unheard and margin per tag; json is an array, jsonl a line per "
        f"file{about}",
        formats,
    )


def add_rank_flag(command: argparse.ArgumentParser) -> None:
    """Add the flag that says which tags are best."""
    command.add_argument(
        "--rank",
        choices=("score", "margin"),
        default="score",
        help="best first by score, or by how far the score exceeds the tag's threshold (score)",
    )


def chosen_format(arguments: argparse.Namespace, default: str = "table") -> str:
    """Return the format of `--format`, or else that of the ending of `--output`, or else the default."""
    by_suffix = _FORMAT_OF_SUFFIX.get(Path(arguments.output or "").suffix.lower(), default)
    return arguments.format or by_suffix


@dataclass(frozen=True)
class Form:
    """A format of results.

    Attributes:
        text: The text for a result, or for an error if `has_errors`, by the file's name.
        header: Text before the first result.
        separator: Text between two results.
        footer: Text after the last result.
        has_errors: Whether errors and warnings are part of the text. They are also printed on stderr, errors always
            and warnings only if they are not part of the text.
    """

    text: Callable[[str, Any], str]
    header: str = ""
    separator: str = ""
    footer: str = ""
    has_errors: bool = False


def tags_form(name: str, rank: str = "score") -> Form:
    """Return the form of `Tags` in one of `FORMATS`; a table ranked by margin shows the margins."""
    if name == "table":
        return Form(functools.partial(_tags_text, margins=rank == "margin"))
    if name == "csv":
        return Form(_tags_rows, csv_text([["file", "tag", "score", "present", "unheard", "margin"]]))
    return json_form(name, tags_values)


def json_form(name: str, values: Callable[[Any], Mapping[str, Any]]) -> Form:
    """Return the form "json" (an array with a line per result) or "jsonl" (a line per result).

    Each result is an object of `file` and the values of the result, or of `file` and `error`.
    """

    def text(file: str, result: Any) -> str:
        found = {"error": str(result)} if isinstance(result, KerasTaggerError) else values(result)
        line = json_text({"file": file, **found}).rstrip("\n")
        try:
            line.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            line = json.dumps({"file": file, **found})
        return line

    if name == "json":
        return Form(text, "[\n", ",\n", "\n]\n", has_errors=True)
    return Form(lambda file, result: f"{text(file, result)}\n", has_errors=True)


def tags_values(tags: Tags) -> dict[str, Any]:
    """Return tags and their warnings as JSON values."""
    values: dict[str, Any] = {"tags": tags.to_dict()}
    if tags.present is not None:
        values["present"] = [entry.name for entry in tags if entry.present]
    if tags.heard is not None:
        values["unheard"] = [entry.name for entry in tags if not entry.heard]
    if tags.margins is not None:
        values["margins"] = {entry.name: entry.margin for entry in tags}
    values["warnings"] = warning_values(warnings_of(tags))
    return values


def warning_values(warnings: Iterable[AudioWarning]) -> list[dict[str, str]]:
    """Return warnings as JSON values."""
    return [{"kind": warning.kind, "message": str(warning)} for warning in warnings]


def write_results(
    arguments: argparse.Namespace, inputs: Sequence[Input], results: Iterable[Any | KerasTaggerError], form: Form
) -> int:
    """Write the result for each input as soon as it is there.

    Errors are printed on stderr, and the remaining inputs are still processed.

    Returns:
        The exit status: 1 if there was an error, else 0.
    """
    status = 0
    bar = progress_bar(results, total=len(inputs), unit="file", hidden=len(inputs) == 1)
    found = zip(inputs, bar, strict=True)
    # A mistake that ends the command before its first result, such as a missing model, leaves an older file alone.
    first = next(found)
    with opened(arguments.output) as write:
        write(form.header)
        separator = ""
        try:
            for entry, result in itertools.chain([first], found):
                if isinstance(result, KerasTaggerError):
                    status = fail(str(result))
                if form.has_errors or not isinstance(result, KerasTaggerError):
                    write(separator + form.text(entry.name, result))
                    separator = form.separator
                for warning in () if form.has_errors else warnings_of(result):
                    warn(warning)
        finally:
            write(form.footer)
    return status


def check_output(arguments: argparse.Namespace, inputs: Sequence[Input]) -> None:
    """Raise `AudioError` if `--output` is one of the inputs."""
    if arguments.output:
        check_not_input("--output", arguments.output, arguments.files, inputs)


@contextlib.contextmanager
def opened(path: str | None) -> Iterator[Callable[[str], None]]:
    """Yield a function that writes and flushes text to a file, or to stdout if `path` is None."""
    if path is None:
        yield _write_stdout
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # The name of a file may be any bytes.
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:

        def write(text: str) -> None:
            file.write(text)
            file.flush()

        yield write


def _write_stdout(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def warnings_of(result: Any) -> Sequence[AudioWarning]:
    """Return the warnings of a result; none if it cannot have any."""
    found: Sequence[AudioWarning] = getattr(result, "warnings", ())
    return found


def _tags_text(file: str, tags: Tags, margins: bool) -> str:
    names = [printable(name) for name in tags.names]
    width = max(map(len, names))
    lines = [printable(file)]
    for name, entry in zip(names, tags, strict=True):
        note = f"  {entry.margin:+.2f}" if margins and entry.margin is not None else ""
        note += (" *" if entry.present else "") + ("  not heard in training" if entry.heard is False else "")
        lines.append(f"  {name:<{width}}  {entry.score:.3f}{note}")
    return "\n".join([*lines, ""])


def _tags_rows(file: str, tags: Tags) -> str:
    return csv_text(
        [
            file,
            entry.name,
            f"{entry.score:.6f}",
            "" if entry.present is None else int(entry.present),
            "" if entry.heard is None else int(not entry.heard),
            "" if entry.margin is None else f"{entry.margin:.6f}",
        ]
        for entry in tags
    )
