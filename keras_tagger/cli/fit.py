"""The command `fit`."""

from __future__ import annotations

import argparse
import os

from keras_tagger.cli.flags import Commands, positive
from keras_tagger.errors import ConfigError

DATA_HELP = "a manifest, a folder with labels, a prepared folder or 'demo'"

_EXAMPLES = """\
  keras-tagger fit --data my_music/                 (fine-tunes the default model; settings are chosen for you)
  keras-tagger fit finetune --data my_music/ --run_dir runs/mine --set training.epochs=3
  keras-tagger fit won2019 --data my_music/         (trains the paper's model from random weights)
  keras-tagger fit mine.yaml                        (your own configuration)
  keras-tagger fit mine.yaml --resume --set training.epochs=8   (continues, for more epochs)
  keras-tagger fit mine.yaml --workers one:2222,two:2222 --worker_index 0   (on machine one, 1 on two)
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("fit", run, "train a tagger", _EXAMPLES)
    command.add_argument(
        "config",
        metavar="CONFIG",
        nargs="?",
        help="a YAML file, or the name of a packaged configuration or preset; without it, the default model is "
        "fine-tuned, or the run in --run_dir is resumed",
    )
    command.add_argument("--data", help=f"{DATA_HELP}; replaces data.path of CONFIG")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a value of CONFIG: training.epochs=3"
    )
    command.add_argument(
        "--run_dir", metavar="DIR", help="where the run is written (runs/NAME); auto adds a number if it exists"
    )
    command.add_argument("--resume", action="store_true", help="continue from the last checkpoint of the run")
    command.add_argument(
        "--workers",
        metavar="HOST:PORT,...",
        help="train on several machines: the addresses of all workers, each of which runs this command; a number "
        "starts as many on the cores of this machine",
    )
    command.add_argument(
        "--worker_index", type=int, metavar="N", help="place of this worker in --workers, from 0; the first one writes"
    )


def run(arguments: argparse.Namespace) -> int:
    """Train, and print the report on the test split."""
    from keras_tagger import load_config
    from keras_tagger.config import parse_override

    overrides = dict(parse_override(text) for text in arguments.set)
    if arguments.config is None and arguments.data is None and not (arguments.resume and arguments.run_dir):
        raise ConfigError(
            "expected a configuration or --data with music (or --resume with --run_dir). Received: neither."
        )
    # Mistakes in the configuration are reported before TensorFlow is loaded.
    if arguments.workers:
        overrides["training.strategy"] = "multi_worker"
    settings = None if arguments.config is None else load_config(arguments.config, overrides)
    from keras_tagger.train.local_workers import cluster_config, end_with_parent, run_workers

    if arguments.workers and arguments.workers.isdecimal():
        return run_workers(positive(arguments.workers), ["-m", "keras_tagger", *_of_worker(arguments)])
    if arguments.workers:
        os.environ["TF_CONFIG"] = cluster_config(arguments.workers.split(","), arguments.worker_index)
    end_with_parent()
    from keras_tagger.train.fit import fit

    if settings is not None:
        overrides = {}
    result = fit(settings, arguments.data, arguments.run_dir, arguments.resume, **overrides)
    print(result.report)
    print(f"run directory: {result.dir}")
    return 0


def _of_worker(arguments: argparse.Namespace) -> list[str]:
    """Return the command line of a worker that finds the others by TF_CONFIG."""
    words = ["fit", *([arguments.config] if arguments.config is not None else [])]
    for flag in ("data", "run_dir"):
        value = getattr(arguments, flag)
        words += [f"--{flag}={value}"] if value is not None else []
    words += [f"--set={text}" for text in (*arguments.set, "training.strategy=multi_worker")]
    return words + ["--resume"] * arguments.resume
