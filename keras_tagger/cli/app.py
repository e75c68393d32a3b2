"""The program `keras-tagger`: its parser, error handling and exit status.

Results go to stdout; messages and progress go to stderr. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import argparse
import atexit
import codecs
import contextlib
import functools
import importlib.util
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from absl import app
from absl import logging as absl_logging
from absl.flags import argparse_flags

from keras_tagger.cli import (
    catalog,
    compare,
    data,
    distill,
    evaluate,
    explain,
    export,
    fit,
    import_checkpoint,
    models,
    playlist,
    request,
    search,
    serve,
    sweep,
    tag,
    write,
)
from keras_tagger.cli.flags import Commands, underscored
from keras_tagger.cli.output import fail, warn
from keras_tagger.errors import AudioWarning, KerasTaggerError
from keras_tagger.startup import hide_optional_packages_from_keras

_COMMANDS = (
    tag,
    explain,
    write,
    playlist,
    catalog,
    search,
    models,
    fit,
    sweep,
    distill,
    evaluate,
    compare,
    import_checkpoint,
    export,
    serve,
    request,
    data,
)

_EPILOG = """examples:
  keras-tagger tag song.mp3                               print the best tags of a file
  keras-tagger explain song.mp3 --tags guitar --out guitar.html   show where in the song the guitar is
  keras-tagger tag my_music/ --output tags.csv            tag a folder; also playlists, and - for standard input
  keras-tagger write my_music/ --apply                    write genre, mood and instrument into the files
  keras-tagger playlist "rock & !voice" my_music/ --output rock.m3u8   list the files that match
  keras-tagger catalog my_music/ --out catalogue          tag millions of files on all cores, as Parquet
  keras-tagger search catalogue --like song.mp3           find music in it, and why
  keras-tagger models runs/                               list the models that can be loaded
  keras-tagger data check my_music/                       count clips, find unreadable files
  keras-tagger fit --data my_music/                       train on your music; the run is written to runs/my_music
  keras-tagger tag song.mp3 --model runs/my_music         tag with your own model
  keras-tagger distill --data my_music/                   let musicnn teach the tagger your unlabelled music
  keras-tagger evaluate runs/my_music                     measure it on the clips that were held out
  keras-tagger compare runs/my_music runs/other           compare models on the same clips
  keras-tagger export runs/my_music exported/             write a SavedModel to exported/1
  keras-tagger serve exported/ --port 8500                serve it to any TensorFlow Serving client
  keras-tagger request song.mp3 --server localhost:8500   ask a server
  tensorboard --logdir runs/my_music/logs                 see metrics, pictures and clips of a run

`keras-tagger COMMAND --help` shows the options and examples of a command. Flags may be written with dashes
(--n-chunks) or underscores (--n_chunks).

exit status: 0 success; 1 an error, described on stderr, or a failed check; 2 a wrong command line; 130 interrupted.
"""

# How names of files are written to stdout.
_ANY_NAME = "keras_tagger.any_name"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        argv: The arguments without the program's name. If None, the arguments of the process are run under absl, and
            the process ends with the command's exit status.

    Returns:
        0 for success, 1 for an error or a failed check, 2 for a wrong command line, 130 if interrupted.

    Example:
        >>> main(["tag", "song.mp3", "--top", "3"])
        0
    """
    if argv is None:
        hide_optional_packages_from_keras()
        app.run(_run_process, flags_parser=lambda words: parse(words[1:]))
    try:
        arguments = parse(argv or ())
    except SystemExit as stopped:
        # argparse has printed the help or a message.
        return int(stopped.code or 0)
    return run(arguments)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse arguments (without the program's name); `run` in the result is the command's function.

    Raises:
        SystemExit: After `--help` and `--version` (0), and if the arguments are wrong (2).
    """
    from keras_tagger import __version__

    parser = argparse_flags.ArgumentParser(
        prog="keras-tagger",
        description="Tag music with a self-attention model: train, explain, export, serve.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # Otherwise a command's --test could be taken as the abbreviation of one of absl's flags.
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"keras_tagger {__version__}")
    commands = Commands(parser)
    for module in _COMMANDS:
        module.add(commands)
    return parser.parse_args(underscored(argv))


def run(arguments: argparse.Namespace) -> int:
    """Run a parsed command and return its exit status; an error becomes one sentence on stderr."""
    # Keras imports matplotlib, which reports when it builds its cache of fonts.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_ANY_NAME)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", AudioWarning)
            warnings.showwarning = functools.partial(_show_warning, warnings.showwarning)
            status: int = arguments.run(arguments)
        print(end="", flush=True)  # sys.stdout is None if it was closed before the start
    except KerasTaggerError as error:
        return fail(str(error))
    except ModuleNotFoundError as error:
        if importlib.util.find_spec("tensorflow") is not None:
            raise
        return fail(
            f"expected an installation with TensorFlow. Received: one without it, and without {error.name}; "
            "install the whole package with: pip install keras_tagger"
        )
    except KeyboardInterrupt:
        fail("interrupted")
        return 130
    except OSError as error:
        # Flushing the rest of stdout's buffer must not fail again when the process ends.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        if isinstance(error, BrokenPipeError):
            # The reader of our output, such as head, has seen enough.
            return 0
        return fail(f"expected to read and write files. Received: {error}.")
    return status


def _show_warning(otherwise: Callable[..., None], message: Warning | str, *args: Any, **kwargs: Any) -> None:
    """Print what a listener must know as one line, and any other warning as Python does."""
    if isinstance(message, AudioWarning):
        warn(message)
    else:
        otherwise(message, *args, **kwargs)


def log_plainly() -> None:
    """Let the lines of absl's log begin with the program's name, not with a date, a thread and a line of code."""
    absl_logging.get_absl_handler().setFormatter(_PlainFormatter())


class _PlainFormatter(logging.Formatter):
    """Formats a record as `keras-tagger: warning: MESSAGE`."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return f"keras-tagger: {level}{super().format(record)}"


def _run_process(arguments: argparse.Namespace) -> int:
    log_plainly()
    ended: list[int] = []
    # Handlers run in reverse order, so this one comes after those of everything that the command imports.
    atexit.register(_leave, ended)
    ended.append(run(arguments))
    return ended[0]


def _leave(ended: list[int]) -> None:
    """End the process with the status of the command, if it has ended and TensorFlow was used.

    TensorFlow takes seconds to dismantle itself, and tensorflow-io 0.37 aborts in its destructors, which would turn
    success into a failure. All threads and the handlers of `atexit` have finished.
    """
    if ended and "tensorflow" in sys.modules:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # it may be None or closed
                stream.flush()
        os._exit(ended[0])


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write bytes that are not text unchanged, and characters that stdout cannot encode as backslash escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error(_ANY_NAME, _escape)
