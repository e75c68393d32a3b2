"""The audio that a command line names: files, folders, playlists and standard input."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from keras_tagger.errors import AudioError, KerasTaggerError

if TYPE_CHECKING:
    from keras_tagger.audio import AudioSource

Answer = TypeVar("Answer")

STANDARD_INPUT = "-"
INPUTS_HELP = (
    "audio files of any length, folders, which are searched at any depth, playlists (.m3u, .m3u8, .pls, .xspf), or - "
    "for standard input"
)


@dataclass(frozen=True)
class Input:
    """One audio file, or the reason why there is none.

    Attributes:
        name: The path, or `-` for standard input.
        error: The error to report instead of reading it.
    """

    name: str
    error: KerasTaggerError | None = None

    @property
    def source(self) -> AudioSource:
        """What to read."""
        return sys.stdin.buffer if self.name == STANDARD_INPUT else self.name


def add_inputs(command: argparse.ArgumentParser, nargs: str = "+") -> None:
    """Add the positional argument `files`."""
    command.add_argument("files", nargs=nargs, metavar="FILE", help=INPUTS_HELP)


def find_inputs(words: Sequence[str]) -> list[Input]:
    """Find the audio that positional arguments name, in order; a name that is given twice counts twice."""
    from keras_tagger.audio.paths import expand

    found: list[Input] = []
    for word in words:
        if word != STANDARD_INPUT:
            found += [Input(path, error) for path, error in expand([word])]
        else:
            known = any(entry.name == STANDARD_INPUT for entry in found)
            received = "a second -" if known else _without_audio()
            error = received and AudioError(f"Expected one audio file on standard input (-). Received: {received}.")
            found.append(Input(word, error or None))
    return found


def _without_audio() -> str:
    """Describe a standard input that cannot hold audio; "" if it may."""
    if sys.stdin is None or sys.stdin.closed:
        return "none, as it is closed"
    return "a terminal" if sys.stdin.isatty() else ""


def distinct_stems(inputs: Sequence[Input]) -> list[str]:
    """Return the name of each input without extension, with a number if that is not the first one."""
    taken: set[str] = set()
    names = []
    for entry in inputs:
        stem = "stdin" if entry.name == STANDARD_INPUT else Path(entry.name).stem.lstrip(".") or "audio"
        numbered = (stem if number == 1 else f"{stem}_{number}" for number in itertools.count(1))
        name = next(name for name in numbered if name.lower() not in taken)
        taken.add(name.lower())
        names.append(name)
    return names


def answers(
    inputs: Sequence[Input], ask_all: Callable[[Iterator[AudioSource]], Iterator[Any]]
) -> Iterator[Any | KerasTaggerError]:
    """Yield the error or the answer of each input.

    Args:
        inputs: The inputs.
        ask_all: Maps the sources of the inputs without an error to their answers, lazily.
    """
    asked = ask_all(entry.source for entry in inputs if entry.error is None)
    for entry in inputs:
        yield entry.error or next(asked)


def check_not_input(flag: str, path: str | os.PathLike[str], words: Sequence[str], inputs: Sequence[Input]) -> None:
    """Raise `AudioError` if a path to write is one of the files to read."""
    if os.path.exists(path):
        for name in (*words, *(entry.name for entry in inputs)):
            if os.path.exists(name) and os.path.samefile(name, path):
                raise AudioError(f"{flag}: expected a file that is not an input. Received: {os.fspath(path)!r}.")
