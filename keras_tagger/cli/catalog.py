"""The command `catalog`."""

from __future__ import annotations

import argparse
import re
import sys

from keras_tagger.cli.flags import Commands, add_model_flag, positive
from keras_tagger.cli.output import fail

_EXAMPLES = """\
  keras-tagger catalog my_music/ --out catalogue
  keras-tagger catalog my_music/ --out catalogue --retry_errors       (again: only what is missing or has changed)
  keras-tagger catalog tracks.csv s3://bucket/albums/ --out catalogue --cpus 8 --memory 12G --nice 10
  keras-tagger catalog my_music/ --out catalogue --seconds 60 --spread --model compact
  keras-tagger catalog my_music/ --out part1 --part 1/8               (on the first of eight machines)
  keras-tagger catalog /shared/music/ --out catalogue --engine ray --address auto
  keras-tagger catalog /shared/music/ --out catalogue --engine beam --engine_option direct_running_mode=multi_processing
"""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add(
        "catalog",
        run,
        "describe very many files: scores, embeddings and warnings as Parquet, resumable, on all cores or a cluster",
        _EXAMPLES,
    )
    command.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="audio files, folders, playlists, tables (.csv, .tsv, .parquet) with a column path, and URLs that fsspec "
        "reads, such as s3://bucket/folder/",
    )
    command.add_argument("--out", required=True, metavar="DIR", help="the folder of the catalogue, new or begun")
    add_model_flag(command)
    what = command.add_argument_group("what is computed")
    what.add_argument("--seconds", type=float, metavar="S", help="listen to S seconds of each file (all)")
    what.add_argument("--spread", action="store_true", help="spread these seconds over the file (its middle)")
    what.add_argument("--taggram", action="store_true", help="also store the taggram, from a second pass")
    what.add_argument(
        "--top_contributions",
        type=positive,
        default=0,
        metavar="N",
        help="also store the moment that contributes most to each of the N best tags",
    )
    again = command.add_argument_group("what is done again")
    again.add_argument("--retry_errors", action="store_true", help="try files that could not be read again")
    again.add_argument(
        "--compare",
        choices=("mtime", "content"),
        default="mtime",
        help="a file is unchanged if its size and modification time are, or its size and SHA-256 (mtime)",
    )
    again.add_argument("--prune", action="store_true", help="remove the rows of files that no SOURCE names any more")
    budget = command.add_argument_group("where, and at what cost")
    budget.add_argument("--engine", choices=("local", "ray", "beam"), default="local", help="what runs it (local)")
    budget.add_argument("--cpus", type=positive, metavar="N", help="number of processes (a process per core)")
    budget.add_argument("--memory", type=_bytes, metavar="SIZE", help="memory of all processes together, such as 8G")
    budget.add_argument("--nice", type=int, default=0, metavar="N", help="let other programs go first, 0 to 19 (0)")
    budget.add_argument("--part", type=_part, default=(1, 1), metavar="I/N", help="describe the I-th of N parts")
    budget.add_argument("--shard_rows", type=positive, default=10_000, metavar="N", help="rows in a shard (10000)")
    budget.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster (one of this machine)")
    budget.add_argument(
        "--engine_option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of a Beam pipeline, such as runner=FlinkRunner; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    """Make or continue a catalogue; the exit status is 1 if a file could not be read."""
    from keras_tagger.catalog.driver import build
    from keras_tagger.catalog.rows import Options

    built = build(
        arguments.sources,
        arguments.out,
        arguments.model,
        Options(
            arguments.seconds,
            arguments.spread,
            arguments.taggram,
            arguments.top_contributions,
            arguments.compare == "content",
        ),
        engine=arguments.engine,
        cpus=arguments.cpus,
        memory=arguments.memory,
        nice=arguments.nice,
        retry_errors=arguments.retry_errors,
        compare=arguments.compare,
        prune=arguments.prune,
        part=arguments.part,
        shard_rows=arguments.shard_rows,
        address=arguments.address,
        engine_options=arguments.engine_option,
        report=lambda text: print(f"keras-tagger: {text}", file=sys.stderr, flush=True),
    )
    status = 0
    for _, error in built.errors[:_SHOWN]:
        status = fail(error)
    if len(built.errors) > _SHOWN:
        fail(f"and {len(built.errors) - _SHOWN:,} more, all in {arguments.out}/errors.parquet")
    print(f"{arguments.out}: {built}")
    return status


_SHOWN = 20


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a size such as 8G or 900M, received {text!r}")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"expected I/N with 1 <= I <= N, such as 3/8, received {text!r}")
    return int(match[1]), int(match[2])
