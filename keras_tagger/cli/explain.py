"""The command `explain`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from keras_tagger.cli.flags import DEFAULT_MODEL, MODEL_HELP, Commands
from keras_tagger.errors import ModelError

if TYPE_CHECKING:
    from keras_tagger.heatmap import Heatmap

_BEST = 3
_STRETCHES = 5
_EXAMPLES = """\
  keras-tagger explain song.mp3 --tags guitar --out guitar.html
  keras-tagger explain song.mp3 --method integrated_gradients --tags guitar --out guitar.png --listen guitar.wav
  keras-tagger explain --methods
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("explain", run, "show where and why a tag is heard in an audio file", _EXAMPLES)
    command.add_argument("file", nargs="?", metavar="FILE", help="an audio file of any length")
    command.add_argument("--model", default=DEFAULT_MODEL, help=f"{MODEL_HELP} ({DEFAULT_MODEL})")
    command.add_argument("--method", help="contributions, integrated_gradients, ...; by default, the most faithful one")
    command.add_argument("--methods", action="store_true", help="list the methods and their options, then exit")
    command.add_argument(
        "--tags", metavar="TAG[,TAG]", help=f"tags to explain (the {_BEST} tags with the highest scores)"
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="set an option of the method, e.g. steps=64"
    )
    command.add_argument("--out", metavar="FILE", help="a .png, .json, .npz, or .html, a page with audio players")
    command.add_argument(
        "--listen",
        metavar="FILE.wav",
        help="write the part of the clip that the map keeps, and the rest as FILE_removed.wav",
    )
    command.add_argument(
        "--share", type=float, default=0.25, metavar="SHARE", help="share of the map that --listen keeps, 0..1 (0.25)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Explain tags of a file: write a picture, a page or audio, or else print the times."""
    from keras_tagger.config import parse_override
    from keras_tagger.explain.methods import DEFAULT_METHOD, find_method

    if arguments.methods:
        return _print_methods()
    if not arguments.file:
        raise ModelError("expected an audio file to explain. Received: none.")
    # Mistakes are reported before TensorFlow is loaded.
    method = arguments.method or DEFAULT_METHOD
    options = dict(parse_override(text) for text in arguments.set)
    find_method(method, options)
    _check_targets(arguments)
    from keras_tagger.tagger import load
    from keras_tagger.views.explanation import write

    tagger = load(arguments.model)
    if arguments.tags is None:
        tags = list(tagger.tag(arguments.file, top=_BEST).names)
    else:
        tags = list(dict.fromkeys(tag.strip() for tag in arguments.tags.split(",")))
    heat = tagger.explain(arguments.file, method, tags, **options)
    if arguments.out:
        write(heat, arguments.out, arguments.file, Path(arguments.file).name)
        print(arguments.out)
    if arguments.listen:
        _write_audio(arguments, heat, tagger.model.audio_config.sample_rate)
    if not (arguments.out or arguments.listen):
        for tag in heat.tags:
            print(_line(heat, tag))
    return 0


def _print_methods() -> int:
    from keras_tagger.explain.methods import DEFAULT_METHOD, METHODS

    for method in METHODS.values():
        star = " (default)" if method.name == DEFAULT_METHOD else ""
        print(f"{method.name:<24}{method.summary}{star}")
        if settings := [f"--set {key}={option.default}" for key, option in method.options.items()]:
            print(f"{'':<24}{' '.join(settings)}")
    return 0


def _check_targets(arguments: argparse.Namespace) -> None:
    from keras_tagger.views.explanation import check_suffix

    if arguments.out:
        check_suffix(arguments.out)
    if arguments.listen:
        target = Path(arguments.listen)
        if target.suffix.lower() != ".wav":
            raise ModelError(f"--listen: expected a path that ends in .wav. Received: {arguments.listen!r}.")
        if target.resolve() == Path(arguments.file).resolve():
            raise ModelError(f"--listen: expected a path other than the clip's own. Received: {arguments.listen!r}.")
    if not 0 < arguments.share <= 1:
        raise ModelError(f"--share: expected a number above 0 and up to 1. Received: {arguments.share!r}.")


def _write_audio(arguments: argparse.Namespace, heat: Heatmap, sample_rate: int) -> None:
    from keras_tagger.explain.listen import listen

    for tag in heat.tags:
        heard = listen(heat, arguments.file, tag, arguments.share, sample_rate)
        target = Path(arguments.listen)
        if len(heat.tags) > 1:
            target = target.with_stem(f"{target.stem}_{tag.replace(' ', '_')}")
        print(heard.save(target))
        print(heard.save(target.with_stem(f"{target.stem}_removed"), "removed"))


def _line(heat: Heatmap, tag: str) -> str:
    """Return a tag with its score and the stretches, in seconds, in which its curve is among the highest tenth."""
    import numpy as np

    from keras_tagger.explain.localization import time_curve
    from keras_tagger.heatmap import column_edges

    curve = time_curve(heat, tag)
    edges = column_edges(heat.times)
    # Where "is among the highest tenth" changes, a stretch begins or ends.
    changes = np.diff(np.concatenate([[False], curve >= np.quantile(curve, 0.9), [False]]).astype(int))
    begins, ends = np.flatnonzero(changes == 1), np.flatnonzero(changes == -1)
    stretches = [(curve[a:b].sum(), edges[a], edges[b]) for a, b in zip(begins, ends, strict=True)]
    best = sorted(sorted(stretches, reverse=True)[:_STRETCHES], key=lambda stretch: stretch[1])
    times = ", ".join(f"{start:.1f}-{end:.1f} s" for _, start, end in best)
    score = np.asarray(heat.scores)[heat.tags.index(tag)]
    return f"{tag}  {score:.3f}  {times}"
