"""The commands that look at labelled music: `evaluate`, `compare`, `data check`, `data prepare`."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from keras_tagger.errors import ManifestError, ManifestNotFoundError

_SOURCE = "a manifest (.csv, .jsonl), a folder per tag, or mtat, mtg_jamendo, msd or gtzan with --root"


def add_measuring(add: Any) -> None:
    """Add `evaluate` and `compare`; `add(name, function, help)` makes a command."""
    evaluate = add("evaluate", _evaluate, "measure a tagger on labelled audio")
    evaluate.add_argument("model", metavar="MODEL", help="a pretrained name, a run directory or a .keras file")
    evaluate.add_argument(
        "--data", required=True, help="manifest, folder per tag, prepared folder, 'demo', or a data set with --root"
    )
    _add_dataset(evaluate)
    evaluate.add_argument("--allow_missing", action="store_true", help="leave out the data set's clips without audio")
    evaluate.add_argument("--split", choices=("train", "valid", "test"), help="test where there is one, else all")
    evaluate.add_argument("--positive", type=float, default=0.5, help="a clip has a tag where its label is above this")
    evaluate.add_argument(
        "--min_positives", "--min-positives", type=int, default=1, help="rarer tags do not count in the macro means"
    )
    evaluate.add_argument(
        "--n_chunks", "--n-chunks", type=int, default=0, help="mean over 16 evenly spaced chunks, say, as papers do"
    )
    evaluate.add_argument("--resamples", type=int, default=1000, help="of the bootstrap intervals; 0 is none")
    evaluate.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    evaluate.add_argument("--json", action="store_true")
    evaluate.add_argument("--out", help="directory for report.json, report.csv, report.html and scores.npz")

    compare = add("compare", _compare, "compare two reports on the same clips by a paired bootstrap")
    for name in ("A", "B"):
        compare.add_argument(name.lower(), metavar=name, help="a run, or a directory that evaluate --out wrote")
    compare.add_argument("--resamples", type=int, default=1000)
    compare.add_argument("--seed", type=int, default=0)
    compare.add_argument("--json", action="store_true")


def add_data(add: Any, commands: Any) -> None:
    """Add `data check` and `data prepare`."""
    # As of the parser above: what follows is of the step's parser.
    data = commands.add_parser(
        "data", help="check or decode a data set", description="Check or decode a data set.", allow_abbrev=False
    )
    steps = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = add("check", _check, "count tags and hours, find unreadable files and repeats", steps)
    check.add_argument("source", metavar="SOURCE", help=_SOURCE)
    _add_dataset(check)
    check.add_argument("--decode", action="store_true", help="decode a data set with --root, too, not only count")
    check.add_argument("--min-clips", type=int, default=10, help="tags with fewer clips are called rare")
    check.add_argument("--json", action="store_true")
    check.add_argument("--workers", type=int, default=0, help="threads; 0 is one per core")
    prepare = add("prepare", _prepare, "decode once into TFRecords that fit reads", steps)
    prepare.add_argument("source", metavar="SOURCE", help=_SOURCE)
    _add_dataset(prepare)
    prepare.add_argument("--allow_missing", action="store_true", help="leave out the data set's clips without audio")
    prepare.add_argument("--out", required=True, metavar="DIR")
    prepare.add_argument("--sample_rate", type=int, default=16000, help="Hz")
    prepare.add_argument("--valid", type=float, default=0.1, help="share held out, where the source has no splits")
    prepare.add_argument("--test", type=float, default=0.1, help="share held out, where the source has no splits")
    prepare.add_argument("--seed", type=int, default=0, help="of the splits")
    prepare.add_argument("--workers", type=int, default=0, help="threads; 0 is one per core")


def _add_dataset(command: Any) -> None:
    command.add_argument("--root", metavar="DIR", help="the folder of a data set by name")
    command.add_argument("--subset", default="", help="of the data set: clean, all, top50, genre, mood, cals, ...")
    command.add_argument("--split_index", "--split-index", type=int, default=0, help="of mtg_jamendo, 0 to 4")


def _evaluate(arguments: argparse.Namespace) -> int:
    from keras_tagger.evaluation.evaluate import evaluate
    from keras_tagger.evaluation.report import check_directory
    from keras_tagger.tagger import load

    if arguments.out:
        check_directory(arguments.out)
    tagger = load(arguments.model)
    report = evaluate(
        tagger,
        _open(arguments, arguments.data),
        arguments.split,
        arguments.positive,
        arguments.min_positives,
        n_chunks=arguments.n_chunks,
        resamples=arguments.resamples,
        seed=arguments.seed,
    )
    # Before it is shown: the reader of our output may have gone.
    if arguments.out:
        report.save(arguments.out)
    _show(report, arguments.json)
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from keras_tagger.evaluation.compare import compare

    _show(compare(arguments.a, arguments.b, arguments.resamples, arguments.seed), arguments.json)
    return 0


def _show(found: Any, as_json: bool) -> None:
    print(_json(found.to_dict()) if as_json else found)


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2)


def _open(arguments: argparse.Namespace, source: str) -> Any:
    """What the source is: a data set by name with --root, or a manifest, folder or prepared folder."""
    from keras_tagger.config.data import SUBSETS
    from keras_tagger.data.datasets import open_dataset
    from keras_tagger.data.sources import open_source

    if arguments.root is not None:
        allow_missing = getattr(arguments, "allow_missing", True)
        return open_dataset(
            source, arguments.root, arguments.subset, arguments.split_index, allow_missing=allow_missing
        )
    if source in SUBSETS and not os.path.exists(source):
        raise ManifestNotFoundError(f"expected --root DIR, the folder of {source}. Received: no --root.")
    if arguments.subset:
        raise ManifestError(f"--subset: expected --root and a data set by name with it. Received: {source!r}.")
    return open_source(source)


def _manifest(arguments: argparse.Namespace) -> Any:
    from keras_tagger.data.manifest import Manifest

    found = _open(arguments, arguments.source)
    if not isinstance(found, Manifest):
        raise ManifestError(f"expected a manifest or a folder per tag. Received: {arguments.source}, prepared data.")
    return found


def _check(arguments: argparse.Namespace) -> int:
    from keras_tagger.data.check import check
    from keras_tagger.data.datasets import count_dataset

    counts = None
    if arguments.root is not None:
        counts = count_dataset(arguments.source, arguments.root, arguments.subset, arguments.split_index)
    found = None
    if counts is None or (arguments.decode and counts.opened.located.paths):
        found = check(_manifest(arguments), arguments.workers, arguments.min_clips)
    if arguments.json:
        content = {**(counts.to_dict() if counts else {}), **({"decoded": found.to_dict()} if found else {})}
        print(_json(content if counts else content["decoded"]))
    else:
        print("\n\n".join(part.table() for part in (counts, found) if part))
    return 0 if all(part.ok for part in (counts, found) if part) else 1


def _prepare(arguments: argparse.Namespace) -> int:
    from keras_tagger.data.prepare import prepare
    from keras_tagger.data.splits import assign_splits

    manifest = assign_splits(_manifest(arguments), arguments.valid, arguments.test, arguments.seed)
    prepared = prepare(manifest, arguments.out, arguments.sample_rate, workers=arguments.workers)
    for split in prepared.splits:
        hours = prepared.seconds(split) / 3600
        print(f"{split:<6} {prepared.n_clips(split):>7} clips {hours:>8.2f} h")
    print(f"{len(prepared.failed)} files left out; prepared: {arguments.out}")
    return 0
