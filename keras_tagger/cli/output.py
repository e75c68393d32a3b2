"""Output of the commands: tags as text, JSON or CSV, and messages."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from keras_tagger.cli.flags import positive
from keras_tagger.errors import KerasTaggerError
from keras_tagger.progress import progress_bar

if TYPE_CHECKING:
    from keras_tagger.tags import Tags

Found = TypeVar("Found")


def fail(message: str) -> int:
    """Print an error on stderr and return the exit status 1."""
    print(f"keras-tagger: {message}", file=sys.stderr)
    return 1


def print_result(result: Any, as_json: bool) -> None:
    """Print a report as text, or its `to_dict` as JSON."""
    print(pretty_json(result.to_dict()) if as_json else result)


def pretty_json(content: Any) -> str:
    """Return human-readable JSON."""
    return json.dumps(content, ensure_ascii=False, indent=2)


def add_tag_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags that control how tags are printed."""
    command.add_argument("--top", type=positive, default=10, metavar="N", help="number of tags to print (10)")
    command.add_argument(
        "--merge_synonyms", action="store_true", help="print one entry for vocal, vocals, voice, singing, and so on"
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one line of JSON per file")
    form.add_argument("--csv", action="store_true", help="print rows of file, tag, score, present and unheard")


def print_tags(arguments: argparse.Namespace, found: Iterable[Tags | KerasTaggerError]) -> int:
    """Print the tags of `arguments.files`, formatted by the flags of `add_tag_flags`; see `print_each`."""
    show = _show_json if arguments.json else _csv_writer() if arguments.csv else _show_text
    return print_each(arguments.files, found, show)


def print_each(
    files: Sequence[str], found: Iterable[Found | KerasTaggerError], show: Callable[[str, Found], None]
) -> int:
    """Print the result for each file.

    Errors are printed on stderr, and the remaining files are still processed.

    Returns:
        The exit status: 1 if there was an error, else 0.
    """
    status = 0
    bar = progress_bar(found, total=len(files), unit="file", hidden=len(files) == 1)
    for file, result in zip(files, bar, strict=True):
        if isinstance(result, KerasTaggerError):
            status = fail(str(result))
        else:
            show(file, result)
    return status


def print_json_line(content: Any) -> None:
    """Print JSON on one line, in ASCII if stdout cannot encode it otherwise."""
    line = json.dumps(content, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(content)
    print(line, flush=True)


def _show_text(file: str, tags: Tags) -> None:
    width = max(map(len, tags.names))
    print(file)
    for entry in tags:
        note = (" *" if entry.present else "") + ("  not heard in training" if entry.heard is False else "")
        print(f"  {entry.name:<{width}}  {entry.score:.3f}{note}")
    sys.stdout.flush()


def _show_json(file: str, tags: Tags) -> None:
    content: dict[str, Any] = {"file": file, "tags": tags.to_dict()}
    if tags.present is not None:
        content["present"] = [entry.name for entry in tags if entry.present]
    if tags.heard is not None:
        content["unheard"] = [entry.name for entry in tags if not entry.heard]
    print_json_line(content)


def _csv_writer() -> Callable[[str, Tags], None]:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["file", "tag", "score", "present", "unheard"])

    def show(file: str, tags: Tags) -> None:
        for entry in tags:
            present = "" if entry.present is None else int(entry.present)
            unheard = "" if entry.heard is None else int(not entry.heard)
            rows.writerow([file, entry.name, f"{entry.score:.6f}", present, unheard])

    return show
