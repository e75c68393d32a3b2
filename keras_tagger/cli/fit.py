"""The command `fit`."""

from __future__ import annotations

import argparse

from keras_tagger.cli.flags import Commands

_EXAMPLES = """\
  keras-tagger fit configs/demo.yaml
  keras-tagger fit configs/demo.yaml --data my_music/ --run_dir runs/mine --set training.epochs=3
  keras-tagger fit configs/demo.yaml --set training.init=compact   (start from the shipped weights)
  keras-tagger fit configs/albums.yaml --resume
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("fit", run, "train a tagger from a YAML file", _EXAMPLES)
    command.add_argument("config", metavar="CONFIG", help="a YAML file; configs/ has examples")
    command.add_argument(
        "--data", help="a manifest, a folder per tag, a prepared folder or 'demo'; replaces data.path of CONFIG"
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a value of CONFIG: training.epochs=3"
    )
    command.add_argument("--run_dir", metavar="DIR", help="where the run is written (runs/NAME)")
    command.add_argument("--resume", action="store_true", help="continue from the last checkpoint of the run")


def run(arguments: argparse.Namespace) -> int:
    """Train, and print the report on the test split."""
    from keras_tagger import load_config
    from keras_tagger.config import parse_override

    overrides = dict(parse_override(text) for text in arguments.set)
    # Mistakes in the configuration are reported before TensorFlow is loaded.
    settings = load_config(arguments.config, overrides)
    from keras_tagger.train.fit import fit

    result = fit(settings, data=arguments.data, run_dir=arguments.run_dir, resume=arguments.resume)
    print(result.report)
    print(f"run directory: {result.dir}")
    return 0
