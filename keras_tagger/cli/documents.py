"""Tags in the formats of other programs: a file per clip, or one table in Parquet."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_tagger.cli.inputs import STANDARD_INPUT, Input, check_not_input, distinct_stems
from keras_tagger.cli.output import fail, opened, warn, warnings_of
from keras_tagger.errors import KerasTaggerError, ModelError
from keras_tagger.files import json_text, replacing
from keras_tagger.progress import progress_bar
from keras_tagger.tables import dataframe

if TYPE_CHECKING:
    from keras_tagger.tags import Tags

# The ending of a file by the name of its format.
_SUFFIXES = {"jams": ".jams", "audacity": ".txt", "svl": ".svl", "webvtt": ".vtt", "parquet": ".parquet"}
DOCUMENTS = tuple(_SUFFIXES)
ABOUT = "; jams, audacity (labels), svl (Sonic Visualiser) and webvtt are a file per clip, parquet is a table"
_COLUMNS = ("file", "tag", "score", "present", "heard", "margin")


def document_format(arguments: argparse.Namespace) -> str | None:
    """Return the format among `DOCUMENTS` that `--format` or the ending of `--output` names, if any."""
    suffix = Path(arguments.output or "").suffix.lower()
    by_suffix = next((name for name, ending in _SUFFIXES.items() if ending == suffix != ".txt"), None)
    name = arguments.format or by_suffix
    return name if name in DOCUMENTS else None


def write_documents(
    arguments: argparse.Namespace, inputs: Sequence[Input], results: Iterable[Any | KerasTaggerError], name: str
) -> int:
    """Write the result for each input; errors are printed on stderr.

    One file of audio is written to `--output` or stdout. For a folder, a playlist or several files, `--output` is a
    folder, with a file for each input. Parquet is one file for all.

    Returns:
        The exit status: 1 if there was an error, else 0.

    Raises:
        ModelError: If `--output` is missing although it is needed.
    """
    several = [entry.name for entry in inputs] != arguments.files or len(inputs) > 1
    if not arguments.output and (several or name == "parquet"):
        wanted = "a file" if name == "parquet" else "a folder, for several files"
        raise ModelError(f"--output: expected {wanted} in the format {name}. Received: none.")
    is_folder = several and name != "parquet"
    targets: list[Path | None] = (
        [Path(arguments.output) / f"{stem}{_SUFFIXES[name]}" for stem in distinct_stems(inputs)]
        if is_folder
        else [Path(arguments.output) if arguments.output else None] * len(inputs)
    )
    for target in targets:
        if target:
            check_not_input("--output", target, (), inputs)
    status = 0
    rows: list[Mapping[str, Any]] = []
    bar = progress_bar(results, total=len(inputs), unit="file", hidden=len(inputs) == 1)
    for entry, target, result in zip(inputs, targets, bar, strict=True):
        if isinstance(result, KerasTaggerError):
            status = fail(str(result))
            continue
        for warning in warnings_of(result):
            warn(warning)
        if name == "parquet":
            rows += _rows(entry.name, result)
        else:
            with opened(str(target) if target else None) as write:
                write(_TEXTS[name](entry, result))
    if name == "parquet":
        with replacing(arguments.output) as temporary:
            _write_parquet(rows, temporary)
    return status


def _write_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    try:
        dataframe(rows, _COLUMNS).to_parquet(path, index=False)
    except ImportError:
        raise ModelError(
            "expected pandas and pyarrow, which write Parquet. Received: an environment without both. "
            'Install them with: pip install "keras_tagger[parquet]"'
        ) from None


def _rows(file: str, tags: Tags) -> list[dict[str, Any]]:
    names = ("score", "present", "heard", "margin")
    return [{"file": file, "tag": entry.name, **{name: getattr(entry, name) for name in names}} for entry in tags]


def _svl(entry: Input, tags: Tags) -> str:
    from keras_tagger.audio import info

    # Standard input has been read; most audio has this rate.
    return tags.to_sonic_visualiser(44100 if entry.name == STANDARD_INPUT else info(entry.name).sample_rate)


_TEXTS: Mapping[str, Callable[[Input, Tags], str]] = {
    "jams": lambda _, tags: json_text(tags.to_jams(), indent=2),
    "audacity": lambda _, tags: tags.to_audacity(),
    "webvtt": lambda _, tags: tags.to_webvtt(),
    "svl": _svl,
}
