"""The command `import-checkpoint`."""

from __future__ import annotations

import argparse

from keras_tagger.cli.flags import Commands

_ARCHITECTURES = ("won2019", "won2019_raw", "won2020", "won2021")
_EXAMPLES = """\
  keras-tagger import-checkpoint best_model.pth --architecture won2020 --tags mtat --out runs/won2020
  keras-tagger tag song.mp3 --model runs/won2020
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add(
        "import-checkpoint", run, "convert a PyTorch checkpoint of the papers' authors to a tagger", _EXAMPLES
    )
    command.add_argument(
        "file", metavar="FILE", help="a .pth or .ckpt file; PyTorch is not needed, and no code in the file is run"
    )
    command.add_argument("--architecture", required=True, choices=_ARCHITECTURES, help="the model in the file")
    command.add_argument(
        "--tags",
        required=True,
        metavar="mtat|msd|jamendo|FILE",
        help="names of the outputs: a published vocabulary (for won2021, msd is that of CALS), or a file with one "
        "name per line",
    )
    command.add_argument("--out", required=True, metavar="DIR", help="a new directory, which --model accepts")


def run(arguments: argparse.Namespace) -> int:
    """Convert a checkpoint and print its size."""
    from keras_tagger.tagger import import_checkpoint

    tagger = import_checkpoint(arguments.file, arguments.architecture, arguments.tags, arguments.out)
    size = f"{tagger.model.count_params():,} parameters, {len(tagger.tags)} tags"
    print(f"{arguments.out}: {arguments.architecture}, {size}")
    return 0
