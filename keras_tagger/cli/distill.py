"""The command `distill`."""

from __future__ import annotations

import argparse
from typing import Any

from keras_tagger.cli.flags import DEFAULT_MODEL, MODEL_HELP, Commands, positive
from keras_tagger.cli.output import print_result

_EXAMPLES = """\
  keras-tagger distill --data my_music/
  keras-tagger distill --data my_music/ --teacher musicnn --run_dir runs/mine --epochs 8
  keras-tagger distill --data party.m3u8 --teacher runs/large --init compact --set training.batch_size=32
  keras-tagger distill --data my_music/ --run_dir runs/mine --resume
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("distill", run, "teach a tagger with music that has no labels", _EXAMPLES)
    command.add_argument(
        "--data", required=True, help="a folder, which is searched at any depth, a playlist, or a manifest"
    )
    command.add_argument(
        "--teacher",
        default="musicnn",
        metavar="MODEL",
        help="musicnn (downloaded by pip once) or the path of its wheel, a pretrained name, a run directory, a .keras "
        "file, or an exported SavedModel (musicnn)",
    )
    command.add_argument(
        "--init", default=DEFAULT_MODEL, metavar="MODEL", help=f"the model to teach: {MODEL_HELP} ({DEFAULT_MODEL})"
    )
    command.add_argument("--run_dir", metavar="DIR", help="where the run is written (runs/distilled)")
    command.add_argument("--resume", action="store_true", help="continue an interrupted run")
    command.add_argument("--epochs", type=positive, metavar="N", help="passes over the music (4)")
    command.add_argument(
        "--held_out",
        type=float,
        metavar="SHARE",
        help="share of the music that agreement is measured on, before and after; whole artists or folders (0.2)",
    )
    command.add_argument(
        "--keep",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="share of the clips in which tags that the teacher lacks are labelled by the model's own scores (1)",
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of fit: training.learning_rate=2e-4"
    )
    command.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Distil, and print the agreement with the teacher; the exit status is 1 if it did not improve."""
    from keras_tagger.config import parse_override

    overrides: dict[str, Any] = dict(parse_override(text) for text in arguments.set)
    for key, value in (("training.epochs", arguments.epochs), ("data.split.test", arguments.held_out)):
        if value is not None:
            overrides[key] = value
    from keras_tagger.train.distill import distill

    result = distill(
        arguments.data,
        arguments.teacher,
        arguments.init,
        arguments.run_dir,
        arguments.resume,
        arguments.keep,
        **overrides,
    )
    print_result(result, arguments.json)
    if not arguments.json:
        print(f"run directory: {result.dir}")
    return 0 if result.improved else 1
