"""The command `explain`."""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from keras_tagger.cli.flags import Commands, add_model_flag
from keras_tagger.cli.inputs import STANDARD_INPUT, Input, add_inputs, check_not_input, distinct_stems, find_inputs
from keras_tagger.cli.output import add_rank_flag, fail, warn, warnings_of
from keras_tagger.errors import AudioError, AudioNotFoundError, ModelError
from keras_tagger.files import printable, write_text

if TYPE_CHECKING:
    from keras_tagger.audio import AudioSource
    from keras_tagger.heatmap import Heatmap

_BEST = 3
_NOT_IN_NAMES = r'[\s/\\:*?"<>|\x00-\x1f]'
_STRETCHES = 5
_EXAMPLES = """\
  keras-tagger explain song.mp3 --tags guitar --out why.html          (a page with a player)
  keras-tagger explain my_music/ --out why.html                       (a page per file, and why.html, a table of them)
  keras-tagger explain song.mp3 --method integrated_gradients --tags guitar --out guitar.png --listen guitar.wav
  keras-tagger explain my_music/ --tags guitar --out maps/guitar.png     (writes maps/NAME/guitar.png for each file)
  keras-tagger explain --methods
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("explain", run, "show where and why a tag is heard in audio", _EXAMPLES)
    add_inputs(command, "*")
    add_model_flag(command)
    command.add_argument("--method", help="contributions, integrated_gradients, ...; by default, the most faithful one")
    command.add_argument("--methods", action="store_true", help="list the methods and their options, then exit")
    command.add_argument("--tags", metavar="TAG[,TAG]", help=f"tags to explain (the {_BEST} best ones, see --rank)")
    add_rank_flag(command)
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="set an option of the method, e.g. steps=64"
    )
    command.add_argument(
        "--out",
        metavar="PATH",
        help="a .png, .json, .npz, .csv, .jams, .svl (Sonic Visualiser), .txt (Audacity labels), .vtt (chapters), or "
        ".html, a page with a player; for a folder, a playlist or several files, each file's is in a folder of its "
        "name: DIR/map.png becomes DIR/NAME/map.png, and DIR/map.html is a table of pages; DIR/ is DIR/index.html",
    )
    command.add_argument(
        "--solo",
        action="store_true",
        help="add to a page the audio that maps over frequency keep and remove; other maps need none for that",
    )
    command.add_argument(
        "--listen",
        metavar="PATH.wav",
        help="write the part of the clip that the map keeps, and the rest as PATH_removed.wav; folders as for --out",
    )
    command.add_argument(
        "--share", type=float, default=0.25, metavar="SHARE", help="share of the map that --listen keeps, 0..1 (0.25)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Explain tags of audio: write a picture, a page or audio, or else print the times."""
    from keras_tagger.config import parse_override
    from keras_tagger.explain.methods import DEFAULT_METHOD, find_method

    if arguments.methods:
        return _print_methods()
    if not arguments.files:
        raise ModelError("expected an audio file to explain. Received: none.")
    # Mistakes are reported before TensorFlow is loaded.
    method = arguments.method or DEFAULT_METHOD
    options = dict(parse_override(text) for text in arguments.set)
    find_method(method, options)
    _check_targets(arguments)
    inputs = find_inputs(arguments.files)
    # A folder with one file has the same outputs as a folder with many.
    several = [entry.name for entry in inputs] != arguments.files or len(inputs) > 1
    folders = list(map(Path, distinct_stems(inputs))) if several else [Path()]
    for flag in ("out", "listen"):
        for folder in folders if getattr(arguments, flag) else ():
            _target(f"--{flag}", Path(getattr(arguments, flag)), folder, inputs)
    if arguments.solo and Path(arguments.out or "").suffix.lower() != ".html":
        raise ModelError(f"--solo: expected --out with a path that ends in .html. Received: {arguments.out!r}.")
    status = 0
    explained: _Explained | None = None
    for entry, folder in zip(inputs, folders, strict=True):
        try:
            if entry.error is not None:
                raise entry.error
            explained = explained or _Explained(arguments, method, options, inputs)
            explained.write(entry, folder, several)
        except (AudioError, AudioNotFoundError) as error:
            status = fail(str(error))
    if explained is not None and several:
        explained.write_index()
    return status


def _target(flag: str, path: Path, folder: Path, inputs: Sequence[Input]) -> Path:
    """Return where to write an input's output, which must not be the file of any input."""
    target = path.parent / folder / path.name
    check_not_input(flag, target, (), inputs)
    return target


class _Explained:
    """Explains one input after the other with the same model."""

    def __init__(
        self, arguments: argparse.Namespace, method: str, options: Mapping[str, Any], inputs: Sequence[Input]
    ) -> None:
        from keras_tagger.tagger import load

        self._arguments = arguments
        self._method = method
        self._options = options
        self._inputs = inputs
        self._tagger = load(arguments.model)
        self._pages: list[dict[str, Any]] = []

    def write(self, entry: Input, folder: Path, several: bool) -> None:
        """Write the outputs for an input, in a folder below that of `--out` and `--listen`; or print the times."""
        from keras_tagger.audio.streams import seekable
        from keras_tagger.views.explanation import write

        arguments = self._arguments
        # The audio is read several times.
        source = seekable(entry.source)
        if arguments.tags is None:
            tags = list(self._tagger.tag(source, top=_BEST, rank=arguments.rank).names)
        else:
            tags = list(dict.fromkeys(tag.strip() for tag in arguments.tags.split(",")))
        heat = self._tagger.explain(source, self._method, tags, **self._options)
        for warning in warnings_of(heat):
            warn(warning)
        if arguments.out:
            title = "standard input" if entry.name == STANDARD_INPUT else Path(entry.name).name
            target = _target("--out", Path(arguments.out), folder, self._inputs)
            if target.suffix.lower() == ".html":
                self._write_page(heat, target, source, title)
            else:
                write(heat, target, source, title)
            print(target, flush=True)
        if arguments.listen:
            self._write_audio(heat, source, folder)
        if not (arguments.out or arguments.listen):
            indent = "  " if several else ""
            name = [printable(entry.name)] if several else []
            print("\n".join([*name, *(f"{indent}{_line(heat, tag)}" for tag in heat.tags)]), flush=True)

    def write_index(self) -> None:
        """Write the table of the pages, if there are any."""
        from keras_tagger.views.player import index_page

        if self._pages:
            target = _target("--out", Path(self._arguments.out), Path(), self._inputs)
            write_text(target, index_page(self._pages, f"{target.stem}: {self._arguments.model}"))
            print(target, flush=True)

    def _write_page(self, heat: Heatmap, target: Path, source: AudioSource, title: str) -> None:
        from keras_tagger.views.clip_documents import explained_clip
        from keras_tagger.views.player import page

        document = explained_clip(self._tagger, source, title, [heat], model=self._facts, solo=self._arguments.solo)
        write_text(target, page([document], title))
        link = quote(os.fsencode(target.relative_to(Path(self._arguments.out).parent)))
        scores = {tag["name"]: round(tag["score"], 4) for tag in document["tags"]}
        self._pages.append({"name": title, "href": link, "seconds": document["seconds"], "scores": scores})

    @functools.cached_property
    def _facts(self) -> dict[str, Any]:
        """What a page states about the model and the method."""
        from keras_tagger import __version__
        from keras_tagger.explain.methods import find_method
        from keras_tagger.views.clip_documents import weights_sha256

        audio = self._tagger.model.audio_config
        _, options = find_method(self._method, self._options)
        return {
            "name": str(self._arguments.model),
            "sha256": weights_sha256(self._arguments.model),
            "version": f"keras_tagger {__version__}",
            "settings": {
                "method": self._method,
                **options,
                "sample rate": f"{audio.sample_rate} Hz",
                "window": f"{audio.window_seconds:g} s",
                "token": f"{self._tagger.model.hop_seconds:g} s",
            },
        }

    def _write_audio(self, heat: Heatmap, source: AudioSource, folder: Path) -> None:
        from keras_tagger.explain.listen import listen

        arguments = self._arguments
        for tag, kept in zip(heat.tags, _kept_paths(Path(arguments.listen), heat.tags), strict=True):
            # Both are checked before one of them is written.
            targets = {
                part: _target("--listen", path, folder, self._inputs)
                for part, path in {"kept": kept, "removed": kept.with_stem(f"{kept.stem}_removed")}.items()
            }
            heard = listen(heat, source, tag, arguments.share, self._tagger.model.audio_config.sample_rate)
            for part, target in targets.items():
                print(heard.save(target, part), flush=True)


def _kept_paths(path: Path, tags: Sequence[str]) -> list[Path]:
    """Return a file for each tag, none of which is another one or the `_removed` file of another one."""
    if len(tags) == 1:
        return [path]
    taken: set[str] = set()
    paths = []
    for tag in tags:
        stem = f"{path.stem}_{re.sub(_NOT_IN_NAMES, '_', tag)}"
        numbered = (stem if number == 1 else f"{stem}_{number}" for number in itertools.count(1))
        name = next(name for name in numbered if not {name.lower(), f"{name.lower()}_removed"} & taken)
        taken |= {name.lower(), f"{name.lower()}_removed"}
        paths.append(path.with_stem(name))
    return paths


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
        if os.path.isdir(arguments.out) or not os.path.basename(arguments.out):
            arguments.out = os.path.join(arguments.out, "index.html")
        check_suffix(arguments.out)
    if arguments.listen and Path(arguments.listen).suffix.lower() != ".wav":
        raise ModelError(f"--listen: expected a path that ends in .wav. Received: {arguments.listen!r}.")
    if not 0 < arguments.share <= 1:
        raise ModelError(f"--share: expected a number above 0 and up to 1. Received: {arguments.share!r}.")


def _line(heat: Heatmap, tag: str) -> str:
    """Return a tag with its score and the stretches, in seconds, in which its curve is among the highest tenth."""
    import numpy as np

    stretches = [label for label in heat.stretches() if label.name == tag]
    most = sorted(stretches, key=lambda label: label.value * (label.end - label.start), reverse=True)[:_STRETCHES]
    times = ", ".join(f"{label.start:.1f}-{label.end:.1f} s" for label in sorted(most, key=lambda label: label.start))
    score = np.asarray(heat.scores)[heat.tags.index(tag)]
    return f"{printable(tag)}  {score:.3f}  {times}".rstrip()
