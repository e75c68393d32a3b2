"""The command `compare`."""

from __future__ import annotations

import argparse
import os

from keras_tagger.cli.flags import Commands
from keras_tagger.cli.output import print_result
from keras_tagger.errors import ModelError

_EXAMPLES = """\
  keras-tagger compare reports/mine reports/other
  keras-tagger compare runs/first runs/second --resamples 5000 --json
  keras-tagger compare runs/* --by pr_auc --out leaderboard.html   (three or more: a leaderboard)
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("compare", run, "compare reports on the same clips by a paired bootstrap", _EXAMPLES)
    command.add_argument(
        "reports", metavar="DIR", nargs="+", help="run directories, or directories that evaluate --out wrote"
    )
    command.add_argument("--by", choices=("roc_auc", "pr_auc", "accuracy"), help="what orders a leaderboard")
    command.add_argument("--resamples", type=int, default=1000, metavar="N", help="resamples of the bootstrap (1000)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the bootstrap (0)")
    command.add_argument("--json", action="store_true", help="print the comparison as JSON")
    command.add_argument("--out", metavar="FILE", help="also write the leaderboard to a .csv or .html file")


def run(arguments: argparse.Namespace) -> int:
    """Compare reports and print the differences, or a leaderboard of more than two."""
    from keras_tagger.evaluation.compare import compare
    from keras_tagger.evaluation.leaderboard import leaderboard

    # `runs/*` also names what lies beside runs.
    reports = [path for path in arguments.reports if not _beside_runs(path)]
    how = (arguments.resamples, arguments.seed)
    if len(reports) < 2:
        raise ModelError(f"expected at least two reports. Received: {', '.join(arguments.reports)}.")
    if len(reports) == 2 and not arguments.out and not arguments.by:
        print_result(compare(reports[0], reports[1], *how), arguments.json)
        return 0
    board = leaderboard(reports, arguments.by, *how)
    if arguments.out:
        board.save(arguments.out)
    print_result(board, arguments.json)
    return 0


def _beside_runs(path: str) -> bool:
    """Return whether a path exists and is neither a report nor a run; an unfinished run has a configuration."""
    from keras_tagger.storage.run_dir import RunDir

    run = RunDir(path)
    return os.path.exists(path) and not (path.endswith(run.report.name) or run.report.is_file() or run.config.is_file())
