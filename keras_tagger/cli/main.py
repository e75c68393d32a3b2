"""The command line: `keras-tagger COMMAND ...`, also `python -m keras_tagger`.

Results go to stdout, logs and progress to stderr. The exit status is 0 when all went well, 1 when something given could
not be used (one sentence on stderr says what), 2 for a command line that is wrong, 130 after Ctrl-C.
Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import argparse
import codecs
import csv
import dataclasses
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import app
from absl.flags import argparse_flags

from keras_tagger.cli.data import add_data, add_measuring
from keras_tagger.cli.explain import add_explain
from keras_tagger.cli.import_checkpoint import add_import
from keras_tagger.cli.serve import add_serve
from keras_tagger.errors import KerasTaggerError, ModelError

if TYPE_CHECKING:
    from keras_tagger.tags import Tags

DEFAULT = "compact"

_EXAMPLES = """examples:
  keras-tagger tag song.mp3                               the best tags of a file, by the weights that are shipped
  keras-tagger tag *.mp3 --merge_synonyms --csv           a table of many; one name for vocal, vocals, voice, singing
  keras-tagger explain song.mp3 --tags guitar --out guitar.html   where in the song, with players
  keras-tagger explain song.mp3 --method integrated_gradients --tags guitar --out guitar.png --listen guitar.wav
  keras-tagger data check my_music/                       what is there, what is broken
  keras-tagger fit configs/demo.yaml                      train; the run goes to runs/demo
  keras-tagger fit configs/albums.yaml --set training.epochs=3 --resume
  keras-tagger fit mine.yaml --set training.init=compact  start from the shipped weights
  keras-tagger tag song.mp3 --model runs/demo             the same by your own model
  keras-tagger evaluate runs/albums --data runs/albums/manifest.csv
  keras-tagger evaluate runs/mtat --data mtat --root MTAT/ --n_chunks 16 --out reports/mtat
  keras-tagger compare reports/mtat reports/other         which is better, on the same clips
  keras-tagger import-checkpoint best_model.pth --architecture won2020 --tags mtat --out runs/won2020
  keras-tagger export runs/demo exported/                 a SavedModel as exported/1
  keras-tagger export --check exported/                   whether TensorFlow Serving can serve it, and why not
  keras-tagger serve exported/ --port 8500                gRPC, for any TensorFlow Serving client
  keras-tagger request song.mp3 --server localhost:8500   ask a server
  tensorboard --logdir runs/demo/logs                     metrics, pictures and clips of a run
"""


def main() -> None:
    """The console script."""
    app.run(_run, flags_parser=_parse)


def _run(arguments: argparse.Namespace) -> None:
    # Keras imports matplotlib, which tells of its fonts when it first looks for them.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_ANY_NAME)
    try:
        status = arguments.command(arguments)
    except KerasTaggerError as error:
        status = _fail(str(error))
    except KeyboardInterrupt:
        status = 130
        _fail("interrupted")
    except OSError as error:
        # What is left in stdout's buffer must not fail again at the end.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        # The reader of our output (head, say) has seen enough; or a disk is full.
        status = 0 if isinstance(error, BrokenPipeError) else _fail(f"expected to read and write files ({error})")
    if "tensorflow_io" in sys.modules:
        # tensorflow-io 0.37 aborts in its destructors, which would turn success into a failing exit status.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _fail(message: str) -> int:
    print(f"keras-tagger: {message}", file=sys.stderr)
    return 1


def _as_it_is(error: UnicodeError) -> tuple[str | bytes, int]:
    """The bytes of a file's name that are no text, as they are, and what stdout's encoding has not as an escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


_ANY_NAME = "keras_tagger.any_name"
codecs.register_error(_ANY_NAME, _as_it_is)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    from keras_tagger import __version__

    parser = argparse_flags.ArgumentParser(
        prog="keras-tagger",
        description="Tag music with a self-attention model: train, see, export, serve.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # Or a command's --test could be short for one of absl's flags, where something has defined them.
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"keras_tagger {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], help: str, group: Any = commands) -> Any:
        command = group.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        command.set_defaults(command=run)
        return command

    tag = add("tag", _tag, "print the best tags of audio files, * where a score reaches the tag's threshold")
    tag.add_argument("files", nargs="+", metavar="FILE")
    tag.add_argument(
        "--model", default=DEFAULT, help=f"a pretrained name, a run directory or a .keras file ({DEFAULT})"
    )
    tag.add_argument("--merge_synonyms", action="store_true", help="one entry for vocal, vocals, voice, singing, ...")
    _add_output(tag)

    add_explain(add, DEFAULT)

    fit = add("fit", _fit, "train a tagger from a YAML file")
    fit.add_argument("config", metavar="CONFIG")
    fit.add_argument("--data", help="manifest, folder per tag, prepared folder or 'demo', instead of data.path")
    fit.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="training.epochs=3, say")
    fit.add_argument("--run-dir", "--run_dir", help="where the run is kept (runs/NAME)")
    fit.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")

    add_measuring(add)
    add_import(add)

    export = add("export", _export, "write a SavedModel as the next version below a directory")
    export.add_argument("model", metavar="MODEL", nargs="?", help="a pretrained name, a run directory or a .keras file")
    export.add_argument("directory", metavar="DIR", nargs="?")
    export.add_argument(
        "--check",
        metavar="DIR",
        nargs="?",
        const="",
        help="say whether TensorFlow Serving can serve a version (or the newest below DIR); after MODEL DIR, what is "
        "written",
    )

    add_serve(add)

    request = add("request", _request, "ask a server about audio files")
    request.add_argument("files", nargs="+", metavar="FILE")
    request.add_argument("--server", default="localhost:8500", metavar="HOST:PORT")
    request.add_argument("--model_name", default="keras_tagger")
    request.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="of one request (30)")
    request.add_argument("--retries", type=int, default=4, metavar="N", help="how often to ask a busy server again (4)")
    request.add_argument(
        "--signature",
        choices=("tags", "attention", "contributions", "embedding"),
        default="tags",
        help="all but tags print one JSON object per file",
    )
    which = request.add_mutually_exclusive_group()
    which.add_argument("--model_version", type=int, metavar="N", help="instead of the newest")
    which.add_argument("--model_version_label", metavar="LABEL", help="stable, say")
    request.add_argument("--tls", action="store_true", help="an encrypted connection; the options below imply it")
    request.add_argument("--root_certificates", metavar="PEM", help="authorities of the server's certificate")
    request.add_argument("--client_certificate", metavar="PEM", help="for a server that asks for one")
    request.add_argument("--client_key", metavar="PEM", help="the private key of --client_certificate")
    request.add_argument("--server_name", metavar="NAME", help="the name in its certificate, if not HOST")
    _add_output(request)

    add_data(add, commands)
    return parser.parse_args(argv[1:])


def _add_output(command: Any) -> None:
    command.add_argument("--top", type=_positive, default=10, metavar="N", help="how many tags")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object per file and line")
    form.add_argument("--csv", action="store_true", help="rows of file, tag and score")


def _positive(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, received {text!r}")
    return int(text)


def _tag(arguments: argparse.Namespace) -> int:
    from keras_tagger.tagger import load

    tagger = load(arguments.model)

    def answer(tags: Tags) -> Answer:
        present = [name for name, there in zip(tags.names, tags.present, strict=True) if there]
        unheard = [name for name, heard in zip(tags.names, tags.heard, strict=True) if not heard]
        return Answer(tags.as_dict(), {"present": present, "unheard": unheard})

    found = tagger.tag_files(arguments.files, arguments.top, arguments.merge_synonyms)
    return _print_each(arguments, (tags if isinstance(tags, KerasTaggerError) else answer(tags) for _, tags in found))


def _request(arguments: argparse.Namespace) -> int:
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
        if arguments.signature == "tags":
            return _each_file(arguments, lambda file: Answer(client.tag(file, top=arguments.top)))

        def maps(file: str) -> Answer:
            if arguments.signature == "attention":
                reply = client.attention(file, seconds=None)
                return Answer({"times": _rounded(reply["times"][0]), "heatmap": _rounded(reply["heatmap"][0])})
            heat = client.heatmap(file)
            values = {"tags": heat.tags, "times": _rounded(heat.times), "contributions": _rounded(heat.values)}
            return Answer(values)

        def embedding(file: str) -> Answer:
            return Answer(_rounded(client.embed(file)))

        arguments.json = True
        return _each_file(arguments, embedding if arguments.signature == "embedding" else maps, key=arguments.signature)


def _rounded(array: Any) -> list[Any]:
    return array.astype(float).round(6).tolist()


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is printed of a file: tag to score, maps or a vector, and in `names` which tags are present or unheard."""

    values: Any
    names: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def note(self, tag: str) -> str:
        """What a line of text says after the tag's score."""
        star = " *" if tag in self.names.get("present", ()) else ""
        return star + ("  not heard in training" if tag in self.names.get("unheard", ()) else "")


def _each_file(arguments: argparse.Namespace, ask: Callable[[str], Answer], key: str = "tags") -> int:
    """Ask about each file and print what is known of it, as `_print_each`."""

    def answers() -> Iterator[Answer | KerasTaggerError]:
        for file in arguments.files:
            try:
                yield ask(file)
            except KerasTaggerError as error:
                yield error

    return _print_each(arguments, answers(), key)


def _print_each(arguments: argparse.Namespace, answers: Iterator[Answer | KerasTaggerError], key: str = "tags") -> int:
    """Print what is known of each file; those that fail are told of on stderr, and the rest goes on."""
    from tqdm import tqdm

    rows = csv.writer(sys.stdout, lineterminator="\n")
    if arguments.csv:
        rows.writerow(["file", "tag", "score", *(["present", "unheard"] if arguments.command is _tag else [])])
    failed = 0
    n_files = len(arguments.files)
    bar = tqdm(answers, total=n_files, unit="file", disable=n_files == 1 or not sys.stderr.isatty())
    for file, found in zip(arguments.files, bar, strict=True):
        if isinstance(found, KerasTaggerError):
            failed = _fail(str(found))
        elif arguments.json:
            print(_json_line({"file": file, key: found.values, **found.names}), flush=True)
        elif arguments.csv:
            for tag, score in found.values.items():
                rows.writerow([file, tag, f"{score:.6f}", *(int(tag in names) for names in found.names.values())])
        else:
            print("\n".join([file, *_tag_lines(found)]), flush=True)
    return failed


def _json_line(values: Mapping[str, Any]) -> str:
    """JSON as plain text, or in ASCII where stdout could not write a name so that it can be read back."""
    line = json.dumps(values, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(values)
    return line


def _tag_lines(answer: Answer) -> list[str]:
    width = max(len(tag) for tag in answer.values)
    return [f"  {tag:<{width}}  {score:.3f}{answer.note(tag)}" for tag, score in answer.values.items()]


def _fit(arguments: argparse.Namespace) -> int:
    from keras_tagger.config import load_config, parse_override

    overrides = dict(parse_override(text) for text in arguments.set)
    # A mistake in the configuration is told before TensorFlow is loaded.
    settings = load_config(arguments.config, overrides)
    from keras_tagger.train.fit import fit

    run = fit(settings, data=arguments.data, run_dir=arguments.run_dir, resume=arguments.resume)
    print(run.report)
    print(f"run directory: {run.dir}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    given = [part for part in (arguments.model, arguments.directory) if part is not None]
    if len(given) != 2 and (given or not arguments.check):
        raise ModelError(f"export: expected MODEL and DIR, or --check DIR. Received: {' '.join(given) or 'neither'}.")
    checked = arguments.check
    if given:
        from keras_tagger.tagger import load

        version = load(arguments.model).export(arguments.directory)
        print(version)
        checked = checked if checked is None else checked or str(version)
    if checked is None:
        return 0
    from keras_tagger.export.check import check_export

    found = check_export(checked)
    print(found)
    return 0 if found.ok else 1
