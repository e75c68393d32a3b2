"""Helpers that the parsers of all commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

DEFAULT_MODEL = "pons"
MODEL_HELP = "a pretrained name, a run directory or a .keras file"
EXPORTED_HELP = "or a .onnx or .tflite file that was exported"
RUNTIMES = ("keras", "onnx", "litert")


class Commands:
    """The commands of a parser.

    Args:
        parser: The parser to which the commands belong.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands: Any = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        self, name: str, run: Callable[[argparse.Namespace], int], summary: str, examples: str
    ) -> argparse.ArgumentParser:
        """Add a command, implemented by `run`, and return its parser."""
        command = self._add(name, summary, epilog=f"examples:\n{examples}")
        command.set_defaults(run=run)
        return command

    def group(self, name: str, summary: str) -> Commands:
        """Add a command with subcommands."""
        # See the comment on allow_abbrev in `keras_tagger.cli.app.parse`.
        return Commands(self._add(name, summary, allow_abbrev=False))

    def _add(self, name: str, summary: str, **options: Any) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = self._commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,
        )
        return parser


def add_model_flag(command: Any, more: str = "") -> None:
    """Add the flag that says which model to load, which has a default.

    Args:
        command: The parser of the command, or a group of its arguments.
        more: What may be given beside `MODEL_HELP`, as the end of that sentence.
    """
    command.add_argument("--model", default=DEFAULT_MODEL, help=f"{MODEL_HELP}{more} ({DEFAULT_MODEL})")


def add_runtime_flag(command: argparse.ArgumentParser) -> None:
    """Add the flag that says what runs the model."""
    command.add_argument(
        "--runtime",
        choices=RUNTIMES,
        help="what runs the model; onnx and litert need no TensorFlow (keras; onnx if TensorFlow is not installed)",
    )


def underscored(argv: Sequence[str]) -> list[str]:
    """Spell the names of flags with underscores: `--n-chunks=16` becomes `--n_chunks=16`.

    Values, positional arguments, and everything after `--` are left alone.
    """
    words = list(argv)
    end = words.index("--") if "--" in words else len(words)
    return [_underscored(word) for word in words[:end]] + words[end:]


def _underscored(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, received {text!r}")
    return int(text)
