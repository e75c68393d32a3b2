"""The commands `data check` and `data prepare`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from keras_tagger.cli.dataset import add_dataset_flags, open_data
from keras_tagger.cli.flags import Commands
from keras_tagger.cli.output import pretty_json
from keras_tagger.errors import ManifestError

if TYPE_CHECKING:
    from keras_tagger.data.manifest import Manifest

_CHECK_EXAMPLES = """\
  keras-tagger data check my_music/
  keras-tagger data check mtat --root MTAT/ --decode --json
"""
_PREPARE_EXAMPLES = """\
  keras-tagger data prepare my_music/ --out data/mine
  keras-tagger data prepare mtg_jamendo --root jamendo/ --subset genre --split_index 2 --out data/genre
"""


def add(commands: Commands) -> None:
    """Add the commands."""
    group = commands.group("data", "check or decode a data set")
    check = group.add("check", run_check, "count tags and hours, find unreadable files and duplicates", _CHECK_EXAMPLES)
    _add_source(check)
    check.add_argument("--decode", action="store_true", help="also decode the files of a data set given with --root")
    check.add_argument(
        "--min_clips", type=int, default=10, metavar="N", help="report tags with fewer clips as rare (10)"
    )
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    prepare = group.add(
        "prepare", run_prepare, "decode audio once into TFRecord files, which fit reads", _PREPARE_EXAMPLES
    )
    _add_source(prepare)
    prepare.add_argument("--allow_missing", action="store_true", help="ignore clips of the data set without audio")
    prepare.add_argument("--out", required=True, metavar="DIR", help="the folder to write")
    prepare.add_argument(
        "--sample_rate", type=int, default=16000, metavar="HZ", help="sample rate of the decoded audio (16000)"
    )
    for split in ("valid", "test"):
        prepare.add_argument(
            f"--{split}",
            type=float,
            default=0.1,
            metavar="SHARE",
            help=f"share of clips for the {split} split if the source has no splits (0.1)",
        )
    prepare.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the splits (0)")


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "source",
        metavar="SOURCE",
        help="a manifest (.csv, .jsonl), a folder per tag, or mtat, mtg_jamendo, msd or gtzan with --root",
    )
    add_dataset_flags(command)
    command.add_argument(
        "--workers", type=int, default=0, metavar="N", help="number of threads; 0 for one per core (0)"
    )


def run_check(arguments: argparse.Namespace) -> int:
    """Print a summary of a data set; the exit status is 1 if it has problems."""
    from keras_tagger.data.check import check
    from keras_tagger.data.datasets import count_dataset

    counts = None
    if arguments.root is not None:
        counts = count_dataset(arguments.source, arguments.root, arguments.subset, arguments.split_index)
    decoded = None
    if counts is None or (arguments.decode and counts.opened.located.paths):
        decoded = check(_open_manifest(arguments), arguments.workers, arguments.min_clips)
    parts: list[Any] = [part for part in (counts, decoded) if part is not None]
    if not arguments.json:
        print("\n\n".join(part.table() for part in parts))
    elif counts is None:
        print(pretty_json(parts[0].to_dict()))
    else:
        print(pretty_json({**counts.to_dict(), **({} if decoded is None else {"decoded": decoded.to_dict()})}))
    return 0 if all(part.ok for part in parts) else 1


def run_prepare(arguments: argparse.Namespace) -> int:
    """Decode a data set and print the size of its splits."""
    from keras_tagger.data.prepare import prepare
    from keras_tagger.data.splits import assign_splits

    manifest = assign_splits(_open_manifest(arguments), arguments.valid, arguments.test, arguments.seed)
    prepared = prepare(manifest, arguments.out, arguments.sample_rate, workers=arguments.workers)
    for split in prepared.splits:
        print(f"{split:<6} {prepared.n_clips(split):>7} clips {prepared.seconds(split) / 3600:>8.2f} h")
    print(f"prepared: {arguments.out} ({len(prepared.failed)} unreadable files skipped)")
    return 0


def _open_manifest(arguments: argparse.Namespace) -> Manifest:
    from keras_tagger.data.manifest import Manifest

    found = open_data(arguments, arguments.source)
    if not isinstance(found, Manifest):
        raise ManifestError(f"expected a manifest or a folder per tag. Received: {arguments.source}, prepared data.")
    return found
