"""The command `evaluate`."""

from __future__ import annotations

import argparse
import os

from keras_tagger.cli.dataset import add_dataset_flags, open_data
from keras_tagger.cli.fit import DATA_HELP
from keras_tagger.cli.flags import MODEL_HELP, Commands
from keras_tagger.cli.output import print_result

_EXAMPLES = """\
  keras-tagger evaluate runs/mine
  keras-tagger evaluate runs/mine --data other_music/
  keras-tagger evaluate runs/mtat --data mtat --root MTAT/ --n_chunks 16 --out reports/mtat
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("evaluate", run, "measure a tagger on labelled audio", _EXAMPLES)
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument(
        "--data",
        help=f"{DATA_HELP}, or the name of a data set with --root; default: the held-out clips of the run",
    )
    add_dataset_flags(command)
    command.add_argument("--allow_missing", action="store_true", help="ignore clips of the data set without audio")
    command.add_argument("--split", choices=("train", "valid", "test"), help="default: test if there is one, else all")
    command.add_argument(
        "--positive", type=float, default=0.5, metavar="LABEL", help="a clip has a tag if its label is above this (0.5)"
    )
    command.add_argument(
        "--min_positives",
        type=int,
        default=1,
        metavar="N",
        help="leave tags with fewer clips out of the macro means (1)",
    )
    command.add_argument(
        "--n_chunks",
        type=int,
        default=0,
        metavar="N",
        help="average over N evenly spaced chunks, e.g. 16 as in the papers (0: over all windows)",
    )
    command.add_argument(
        "--resamples", type=int, default=1000, metavar="N", help="resamples of the bootstrap intervals, or 0 (1000)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the bootstrap (0)")
    command.add_argument(
        "--examples",
        type=int,
        default=1,
        metavar="N",
        help="worst false positives and false negatives of each tag in report.html, with players of about 80 kB (1)",
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.add_argument(
        "--out", metavar="DIR", help="where to write report.json, report.csv, report.html and scores.npz"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure a model and print the report."""
    from keras_tagger.evaluation.evaluate import evaluate
    from keras_tagger.evaluation.report import check_directory
    from keras_tagger.tagger import load

    if arguments.out:
        check_directory(arguments.out)
        _check_inputs(arguments)
    report = evaluate(
        # A run without --data brings its own.
        arguments.model if arguments.data is None else load(arguments.model),
        None if arguments.data is None else open_data(arguments, arguments.data),
        arguments.split,
        arguments.positive,
        arguments.min_positives,
        n_chunks=arguments.n_chunks,
        resamples=arguments.resamples,
        seed=arguments.seed,
        # Only the page shows them.
        examples=arguments.examples if arguments.out else 0,
        name=arguments.model,
    )
    # Save before printing, which fails if stdout is closed.
    if arguments.out:
        report.save(arguments.out)
    print_result(report, arguments.json)
    return 0


def _check_inputs(arguments: argparse.Namespace) -> None:
    """Check that the report replaces neither the data nor the report of the run that is evaluated."""
    from keras_tagger.cli.inputs import check_not_input
    from keras_tagger.evaluation.report import FILES

    for name in FILES:
        check_not_input("--out", os.path.join(arguments.out, name), [arguments.data] if arguments.data else [], [])
    if os.path.exists(os.path.join(arguments.out, FILES[0])) and os.path.isdir(arguments.model):
        check_not_input("--out", arguments.out, [arguments.model], [])
