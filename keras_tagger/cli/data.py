"""The commands `data check` and `data prepare`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_tagger.cli.dataset import add_dataset_flags, open_data
from keras_tagger.cli.flags import Commands
from keras_tagger.cli.inputs import INPUTS_HELP, STANDARD_INPUT, Input, check_not_input, find_inputs
from keras_tagger.cli.output import (
    Form,
    add_output_flags,
    chosen_format,
    fail,
    json_form,
    opened,
    pretty_json,
    warning_values,
)
from keras_tagger.errors import KerasTaggerError, ManifestError
from keras_tagger.files import csv_text

if TYPE_CHECKING:
    from keras_tagger.data.check import ClipCheck
    from keras_tagger.data.manifest import Manifest

_CHECK_EXAMPLES = """\
  keras-tagger data check my_music/
  keras-tagger data check song.mp3 mix.m3u8 album/ --format csv
  keras-tagger data check my_music/ --output clips.jsonl
  keras-tagger data check mtat --root MTAT/ --decode --json
"""
_SOURCE_HELP = "a manifest (.csv, .jsonl), a folder per tag, or mtat, mtg_jamendo, msd or gtzan with --root"
_PREPARE_EXAMPLES = """\
  keras-tagger data prepare my_music/ --out data/mine
  keras-tagger data prepare mtg_jamendo --root jamendo/ --subset genre --split_index 2 --out data/genre
"""


def add(commands: Commands) -> None:
    """Add the commands."""
    group = commands.group("data", "check or decode a data set")
    check = group.add("check", run_check, "count tags and hours, find unreadable files and duplicates", _CHECK_EXAMPLES)
    check.add_argument(
        "source",
        nargs="+",
        metavar="SOURCE",
        help=f"{_SOURCE_HELP}; or any number of {INPUTS_HELP}",
    )
    _add_source_flags(check)
    check.add_argument("--decode", action="store_true", help="also decode the files of a data set given with --root")
    check.add_argument(
        "--min_clips", type=int, default=10, metavar="N", help="report tags with fewer clips as rare (10)"
    )
    add_output_flags(
        check,
        aliases={"json": "json"},
        about="table and json describe the whole; csv and jsonl have a row for each clip, written as it is decoded",
    )
    prepare = group.add(
        "prepare", run_prepare, "decode audio once into TFRecord files, which fit reads", _PREPARE_EXAMPLES
    )
    prepare.add_argument("source", metavar="SOURCE", help=_SOURCE_HELP)
    _add_source_flags(prepare)
    prepare.add_argument("--allow_missing", action="store_true", help="ignore clips of the data set without audio")
    prepare.add_argument("--out", required=True, metavar="DIR", help="the folder to write")
    prepare.add_argument(
        "--sample_rate", type=int, default=16000, metavar="HZ", help="sample rate of the decoded audio (16000)"
    )
    for split in ("valid", "test"):
        prepare.add_argument(
            f"--{split}",
            type=float,
            default=0.1,
            metavar="SHARE",
            help=f"share of clips for the {split} split if the source has no splits (0.1)",
        )
    prepare.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the splits (0)")


def _add_source_flags(command: argparse.ArgumentParser) -> None:
    add_dataset_flags(command)
    command.add_argument(
        "--workers", type=int, default=0, metavar="N", help="number of threads; 0 for one per core (0)"
    )


def run_check(arguments: argparse.Namespace) -> int:
    """Check a data set, or audio without labels; the exit status is 1 if there are problems."""
    from keras_tagger.data.check import check
    from keras_tagger.data.datasets import count_dataset

    form = chosen_format(arguments)
    counts = None
    if arguments.root is not None:
        counts = count_dataset(_only(arguments.source), arguments.root, arguments.subset, arguments.split_index)
        if form in _CLIP_FORMS and not arguments.decode:
            raise ManifestError(f"--format {form}: expected --decode, as it describes decoded clips. Received: none.")
    inputs = _audio_inputs(arguments) if counts is None else None
    decoded = manifest = None
    if inputs is not None:
        if arguments.subset:
            raise ManifestError("--subset: expected --root and the name of a data set. Received: audio files.")
        manifest = _unlabelled(inputs)
    elif counts is None or (arguments.decode and counts.opened.located.paths):
        manifest = _open_manifest(arguments, _only(arguments.source))
    read = [Input(clip.path) for clip in manifest.clips] if manifest is not None else []
    if arguments.output:
        check_not_input("--output", arguments.output, arguments.source, read)
    failed = [entry for entry in inputs or () if entry.error is not None]
    for entry in failed:
        fail(str(entry.error))
    with opened(arguments.output) as write:
        rows = _CLIP_FORMS.get(form)
        if rows is not None:
            write(rows.header)
            for entry in failed:
                write(rows.text(entry.name, entry.error))
        if manifest is not None and manifest.clips:
            decoded = check(
                manifest,
                arguments.workers,
                arguments.min_clips,
                sources={entry.name: entry.source for entry in inputs or () if entry.error is None},
                on_clip=None if rows is None else lambda found: write(rows.text(found.clip.clip_id, found)),
            )
        parts: list[Any] = [part for part in (counts, decoded) if part is not None]
        if form == "table" and parts:
            write("\n\n".join(part.table() for part in parts) + "\n")
        elif form == "json" and parts:
            report = parts[0].to_dict()
            if counts is not None and decoded is not None:
                report["decoded"] = decoded.to_dict()
            write(f"{pretty_json(report)}\n")
    return 0 if all(part.ok for part in parts) and not failed else 1


def _only(sources: Sequence[str]) -> str:
    """Return the only source."""
    if len(sources) > 1:
        raise ManifestError(f"--root: expected the name of one data set. Received: {' '.join(sources)}.")
    return sources[0]


def _audio_inputs(arguments: argparse.Namespace) -> list[Input] | None:
    """Return the sources as audio without labels, or None if there is one source and it has labels."""
    from keras_tagger.audio.paths import AUDIO_SUFFIXES, is_playlist
    from keras_tagger.data.folder import has_labels
    from keras_tagger.data.sources import MANIFEST_SUFFIXES

    sources = arguments.source
    labelled = [source for source in sources if Path(source).suffix.lower() in MANIFEST_SUFFIXES]
    if len(sources) > 1 and labelled:
        raise ManifestError(f"expected one manifest, or audio without labels. Received: {' '.join(sources)}.")
    source = sources[0]
    if len(sources) == 1 and os.path.isdir(source):
        return None if has_labels(source) else find_inputs(sources)
    is_audio = source == STANDARD_INPUT or is_playlist(source) or Path(source).suffix.lower() in AUDIO_SUFFIXES
    is_audio = is_audio or (os.path.isfile(source) and not labelled)
    return find_inputs(sources) if len(sources) > 1 or is_audio else None


def _unlabelled(inputs: Sequence[Input]) -> Manifest:
    from keras_tagger.data.manifest import Clip, Manifest

    return Manifest(tuple(Clip(entry.name, {}) for entry in inputs if entry.error is None), (), name="audio")


def _clip_values(found: ClipCheck) -> dict[str, Any]:
    if found.seconds is None:
        return {"error": found.reason}
    return {"seconds": round(found.seconds, 3), "warnings": warning_values(found.warnings)}


def _clip_row(file: str, found: ClipCheck | KerasTaggerError) -> str:
    if isinstance(found, KerasTaggerError):
        return csv_text([[file, "", "unreadable", found]])
    if found.seconds is None:
        return csv_text([[file, "", "unreadable", found.reason]])
    kinds = ";".join(warning.kind for warning in found.warnings)
    return csv_text([[file, f"{found.seconds:.3f}", kinds, " ".join(map(str, found.warnings))]])


_CLIP_FORMS = {
    "csv": Form(_clip_row, csv_text([["file", "seconds", "problem", "message"]])),
    "jsonl": json_form("jsonl", _clip_values),
}


def run_prepare(arguments: argparse.Namespace) -> int:
    """Decode a data set and print the size of its splits."""
    from keras_tagger.data.prepare import prepare
    from keras_tagger.data.splits import assign_splits

    manifest = assign_splits(
        _open_manifest(arguments, arguments.source), arguments.valid, arguments.test, arguments.seed
    )
    prepared = prepare(manifest, arguments.out, arguments.sample_rate, workers=arguments.workers)
    for split in prepared.splits:
        print(f"{split:<6} {prepared.n_clips(split):>7} clips {prepared.seconds(split) / 3600:>8.2f} h")
    print(f"prepared: {arguments.out} ({len(prepared.failed)} unreadable files skipped)")
    return 0


def _open_manifest(arguments: argparse.Namespace, source: str) -> Manifest:
    from keras_tagger.data.manifest import Manifest

    found = open_data(arguments, source)
    if not isinstance(found, Manifest):
        raise ManifestError(f"expected a manifest or a folder per tag. Received: {source}, prepared data.")
    return found
