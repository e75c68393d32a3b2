"""The command `explain`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from keras_tagger.errors import ModelError

BEST = 3


def add_explain(add: Any, default_model: str) -> None:
    """Add `explain`; `add(name, function, help)` makes a command."""
    explain = add("explain", _explain, "show where and why a tag is heard in an audio file")
    explain.add_argument("file", nargs="?", metavar="FILE")
    explain.add_argument("--model", default=default_model, help="a pretrained name, a run directory or a .keras file")
    explain.add_argument("--method", help="contributions, integrated_gradients, ...; the one that measured best")
    explain.add_argument("--methods", action="store_true", help="list the methods and their options, and do no more")
    explain.add_argument("--tags", metavar="TAG[,TAG]", help=f"the tags to explain; the {BEST} with the highest scores")
    explain.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the method: steps=64, say")
    explain.add_argument("--out", metavar="FILE", help="a .png, a page with players (.html), .json or .npz")
    explain.add_argument(
        "--listen", metavar="FILE.wav", help="what a map keeps of the clip, and beside it FILE_removed.wav, all else"
    )
    explain.add_argument("--share", type=float, default=0.25, help="how much of a map is kept to listen to, 0..1")


def _explain(arguments: argparse.Namespace) -> int:
    from keras_tagger.explain.methods import DEFAULT_METHOD, METHODS, find_method

    if arguments.methods:
        for method in METHODS.values():
            star = " (default)" if method.name == DEFAULT_METHOD else ""
            settings = [f"{key}={option.default}" for key, option in method.options.items()]
            print(f"{method.name:<24}{method.summary}{star}")
            if settings:
                print(f"{'':<24}--set {' --set '.join(settings)}")
        return 0
    if not arguments.file:
        raise ModelError("expected an audio file to explain. Received: none.")
    # Mistakes are told before TensorFlow is loaded.
    name = arguments.method or DEFAULT_METHOD
    options = _options(arguments.set)
    find_method(name, options)
    _check_targets(arguments)
    from keras_tagger.explain.listen import listen
    from keras_tagger.tagger import load
    from keras_tagger.views.explanation_files import write

    tagger = load(arguments.model)
    if arguments.tags is None:
        tags: list[str] = list(tagger.tag(arguments.file, top=BEST).names)
    else:
        tags = list(dict.fromkeys(tag.strip() for tag in arguments.tags.split(",")))
    heat = tagger.explain(arguments.file, name, tags, **options)
    if arguments.out:
        write(heat, arguments.out, arguments.file, Path(arguments.file).name)
        print(arguments.out)
    if arguments.listen:
        for tag in heat.tags:
            heard = listen(heat, arguments.file, tag, arguments.share, tagger.model.audio_config.sample_rate)
            target = Path(arguments.listen)
            if len(heat.tags) > 1:
                target = target.with_stem(f"{target.stem}_{tag.replace(' ', '_')}")
            print(heard.save(target))
            print(heard.save(target.with_stem(f"{target.stem}_removed"), "removed"))
    if not (arguments.out or arguments.listen):
        for tag in heat.tags:
            print(_line(heat, tag))
    return 0


def _options(settings: list[str]) -> dict[str, Any]:
    from keras_tagger.config import parse_override

    return dict(parse_override(text) for text in settings)


def _check_targets(arguments: argparse.Namespace) -> None:
    from keras_tagger.views.explanation_files import check_suffix

    if arguments.out:
        check_suffix(arguments.out)
    if arguments.listen:
        target = Path(arguments.listen)
        if target.suffix.lower() != ".wav":
            raise ModelError(f"--listen: expected a path that ends in .wav. Received: {arguments.listen!r}.")
        if target.resolve() == Path(arguments.file).resolve():
            raise ModelError(f"--listen: expected another path than the clip's own. Received: {arguments.listen!r}.")
    if not 0 < arguments.share <= 1:
        raise ModelError(f"--share: expected a number above 0 and up to 1. Received: {arguments.share!r}.")


def _line(heat: Any, tag: str) -> str:
    """A tag with its score and the stretches with the highest tenth of its curve, in seconds."""
    import numpy as np

    from keras_tagger.explain.localization import time_curve
    from keras_tagger.heatmap import column_edges

    curve = time_curve(heat, tag)
    high = curve >= np.quantile(curve, 0.9)
    edges = column_edges(heat.times)
    begins = np.flatnonzero(high & ~np.roll(high, 1) | (high & (np.arange(len(high)) == 0)))
    ends = np.flatnonzero(high & ~np.roll(high, -1) | (high & (np.arange(len(high)) == len(high) - 1)))
    stretches = [(curve[a : b + 1].sum(), edges[a], edges[b + 1]) for a, b in zip(begins, ends, strict=True)]
    best = sorted(sorted(stretches, reverse=True)[:5], key=lambda stretch: stretch[1])
    score = heat.scores[heat.tags.index(tag)]
    return f"{tag}  {score:.3f}  {', '.join(f'{start:.1f}-{end:.1f} s' for _, start, end in best)}"
