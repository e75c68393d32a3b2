"""The command `compare`."""

from __future__ import annotations

import argparse

from keras_tagger.cli.flags import Commands
from keras_tagger.cli.output import print_result

_EXAMPLES = """\
  keras-tagger compare reports/mine reports/other
  keras-tagger compare runs/first runs/second --resamples 5000 --json
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("compare", run, "compare two reports on the same clips by a paired bootstrap", _EXAMPLES)
    for name in ("A", "B"):
        command.add_argument(name.lower(), metavar=name, help="a run directory, or one that evaluate --out wrote")
    command.add_argument("--resamples", type=int, default=1000, metavar="N", help="resamples of the bootstrap (1000)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the bootstrap (0)")
    command.add_argument("--json", action="store_true", help="print the comparison as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Compare two reports and print the differences."""
    from keras_tagger.evaluation.compare import compare

    print_result(compare(arguments.a, arguments.b, arguments.resamples, arguments.seed), arguments.json)
    return 0
