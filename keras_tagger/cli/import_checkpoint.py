"""The command `import-checkpoint`."""

from __future__ import annotations

import argparse
from typing import Any

ARCHITECTURES = ("won2019", "won2019_raw", "won2020", "won2021")


def add_import(add: Any) -> None:
    """Add `import-checkpoint`; `add(name, function, help)` makes a command."""
    command = add("import-checkpoint", _import, "make a tagger of one of the authors' PyTorch checkpoints")
    command.add_argument(
        "file", metavar="FILE", help="a .pth or .ckpt file; PyTorch is not needed, nothing in it is run"
    )
    command.add_argument("--architecture", required=True, choices=ARCHITECTURES, help="whose model it is")
    command.add_argument(
        "--tags",
        required=True,
        metavar="mtat|msd|jamendo|FILE",
        help="names of the outputs: a published vocabulary (msd of won2021 is that of CALS), or a file of one per line",
    )
    command.add_argument("--out", required=True, metavar="DIR", help="a new directory, for --model DIR")


def _import(arguments: argparse.Namespace) -> int:
    from keras_tagger.tagger import import_checkpoint

    tagger = import_checkpoint(arguments.file, arguments.architecture, arguments.tags, arguments.out)
    size = f"{tagger.model.count_params():,} parameters, {len(tagger.tags)} tags"
    print(f"{arguments.out}: {arguments.architecture}, {size}")
    return 0
