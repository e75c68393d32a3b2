"""The command `sweep`."""

from __future__ import annotations

import argparse
from typing import Any

from keras_tagger.cli.fit import DATA_HELP
from keras_tagger.cli.flags import Commands
from keras_tagger.cli.output import print_result
from keras_tagger.errors import ConfigError

_EXAMPLES = """\
  keras-tagger sweep finetune --data my_music/ --grid training.learning_rate=0.0001,0.001 --grid training.seed=0,1
  keras-tagger sweep --data my_music/ --grid training.class_weights=none,balanced --set training.epochs=4
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("sweep", run, "train with each combination of some settings", _EXAMPLES)
    command.add_argument("config", metavar="CONFIG", nargs="?", help="as for fit")
    command.add_argument("--data", help=f"{DATA_HELP}, as for fit")
    command.add_argument(
        "--grid",
        action="append",
        required=True,
        metavar="KEY=V1,V2",
        help="values to try, separated by commas or as a YAML list",
    )
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all runs")
    command.add_argument(
        "--sweep_dir", default="runs/sweep", metavar="DIR", help="where the runs are written; continued if it exists"
    )
    command.add_argument("--json", action="store_true", help="print the leaderboard as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Train all runs, and print their leaderboard."""
    from keras_tagger.config import parse_override

    if arguments.config is None and arguments.data is None:
        raise ConfigError("expected a configuration or --data with music. Received: neither.")
    overrides = dict(parse_override(text) for text in arguments.set)
    grid = dict(map(_values, arguments.grid))
    from keras_tagger.train.sweep import sweep

    print_result(sweep(arguments.config, grid, arguments.data, arguments.sweep_dir, **overrides), arguments.json)
    return 0


def _values(text: str) -> tuple[str, list[Any]]:
    from keras_tagger.config import parse_override

    key, value = parse_override(text)
    if isinstance(value, list):
        return key, value
    return key, [parse_override(f"{key}={part}")[1] for part in text.partition("=")[2].split(",")]
