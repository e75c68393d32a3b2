"""The command `write`."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_tagger.cli.flags import Commands, add_model_flag, positive
from keras_tagger.cli.inputs import STANDARD_INPUT, add_inputs, find_inputs
from keras_tagger.cli.output import fail, warn, warnings_of
from keras_tagger.errors import KerasTaggerError, LibraryError
from keras_tagger.files import printable
from keras_tagger.progress import progress_bar

if TYPE_CHECKING:
    from keras_tagger.library.fields import FieldMap
    from keras_tagger.library.writing import Change, Origin, Target
    from keras_tagger.tags import Tags

_EXAMPLES = """\
  keras-tagger write my_music/                        (prints what would be written; no file is changed)
  keras-tagger write my_music/ --apply                (writes it)
  keras-tagger write my_music/ --undo                 (restores the files as they were, to the byte)
  keras-tagger write my_music/ --model pons,pons-msd --most 3 --apply
  keras-tagger write my_music/ --fields my_fields.yaml --replace --apply --keep_mtime
  keras-tagger write my_music/ --sidecar xmp --apply
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add("write", run, "write genre, mood and instrument into music files", _EXAMPLES)
    add_inputs(command)
    add_model_flag(command, ", or several with commas between them")
    action = command.add_mutually_exclusive_group()
    action.add_argument("--apply", action="store_true", help="write; without it, only print what would be written")
    action.add_argument("--undo", action="store_true", help="restore the bytes of the files before the last write")
    existing = command.add_mutually_exclusive_group()
    existing.add_argument("--replace", action="store_true", help="replace values that a field already has")
    existing.add_argument("--add", action="store_true", help="add to values that a field already has")
    command.add_argument(
        "--fields", metavar="YAML", help="which tags become which values (keras_tagger/library/fields.yaml)"
    )
    command.add_argument("--most", type=positive, metavar="N", help="highest number of values per field (all)")
    command.add_argument("--sidecar", choices=("json", "jams", "xmp"), help="write FILE.json and so on, not the files")
    command.add_argument("--keep_mtime", action="store_true", help="keep the modification times of the files")
    command.add_argument("--journal", metavar="FILE", help="where --undo finds what was written (in ~/.local/state)")


def run(arguments: argparse.Namespace) -> int:
    """Plan, write or undo."""
    from keras_tagger.library.writing import unique

    inputs = find_inputs(arguments.files)
    if any(entry.name == STANDARD_INPUT for entry in inputs):
        raise LibraryError("expected music files. Received: - (standard input).")
    status = 0
    for entry in inputs:
        if entry.error is not None:
            status = fail(str(entry.error))
    names = list(unique(entry.name for entry in inputs if entry.error is None))
    if arguments.undo:
        return max(status, _undo(arguments, names))
    return max(status, _write(arguments, names))


def _undo(arguments: argparse.Namespace, names: Sequence[str]) -> int:
    from keras_tagger.library.journal import Journal, default_journal
    from keras_tagger.library.writing import undo

    status = restored = 0
    with Journal(arguments.journal or default_journal()) as journal:
        for name in progress_bar(names, unit="file", hidden=len(names) == 1):
            try:
                restored += undo(name, journal)
            except (KerasTaggerError, OSError) as error:
                status = fail(str(error))
    print(f"{_files(restored)} restored, {_files(len(names) - restored)} left as they are.")
    return status


def _write(arguments: argparse.Namespace, names: Sequence[str]) -> int:
    from keras_tagger.library.fields import read_field_map
    from keras_tagger.library.journal import Journal, default_journal

    field_map = read_field_map(arguments.fields)
    origin = _origin(arguments, field_map)
    counts = dict.fromkeys(("written", "done", "nothing", "failed"), 0)
    with contextlib.ExitStack() as stack:
        needs_journal = arguments.apply and not arguments.sidecar
        journal = stack.enter_context(Journal(arguments.journal or default_journal())) if needs_journal else None
        kind = _Sidecars(arguments, origin) if arguments.sidecar else _Files(arguments, origin, journal)
        todo = []
        for name in names:
            try:
                target = kind.target(name)
            except KerasTaggerError as error:
                counts["failed"] += 1
                fail(str(error))
                continue
            if target is None:
                counts["done"] += 1
            else:
                todo.append((name, target))
        found = _tags(arguments.model.split(","), [name for name, _ in todo]) if todo else iter(())
        bar = progress_bar(zip(todo, found, strict=True), total=len(todo), unit="file", hidden=len(todo) == 1)
        for (name, target), results in bar:
            try:
                fields, tags = _fields(results, field_map, arguments.most)
                counts["written" if kind.write(name, target, fields, tags) else "nothing"] += 1
            except (KerasTaggerError, OSError) as error:
                counts["failed"] += 1
                fail(str(error))
    print(_summary(arguments, counts))
    return int(counts["failed"] > 0)


def _summary(arguments: argparse.Namespace, counts: Mapping[str, int]) -> str:
    verb = "written" if arguments.apply else "would be written"
    parts = [f"{_files(counts['written'])} {verb}"]
    for key, text in (("done", "done before"), ("nothing", "with nothing to write"), ("failed", "skipped, see above")):
        if counts[key]:
            parts.append(f"{counts[key]} {text}")
    end = "." if arguments.apply or not counts["written"] else ". Add --apply to write."
    return ", ".join(parts) + end


class _Files:
    """Writes into the files themselves."""

    def __init__(self, arguments: argparse.Namespace, origin: Origin, journal: Any) -> None:
        self._arguments = arguments
        self._origin = origin
        self._journal = journal

    def target(self, name: str) -> Target | None:
        """Return what to write to; None if it has these values already."""
        from keras_tagger.library.writing import find_target

        target = find_target(name, self._origin)
        return None if target.done else target

    def write(self, name: str, target: Target, fields: Mapping[str, Sequence[str]], tags: Tags) -> bool:
        """Print and, with `--apply`, write the changes of a file; return whether there are any."""
        from keras_tagger.library.writing import make_plan, write

        existing = "replace" if self._arguments.replace else "add" if self._arguments.add else "keep"
        plan = make_plan(target, fields, self._origin, existing)
        if plan.writes and self._journal is not None:
            write(plan, self._journal, self._arguments.keep_mtime)
        links = ["  (one of several hard links; the others keep the old tags)"] if target.names > 1 else []
        lines = [printable(name), *links, *(line for change in plan.changes for line in _diff(change))]
        print("\n".join(lines), flush=True)
        return plan.writes


class _Sidecars:
    """Writes files beside the music."""

    def __init__(self, arguments: argparse.Namespace, origin: Origin) -> None:
        self._arguments = arguments
        self._origin = origin

    def target(self, name: str) -> Path | None:
        """Return what to write to; None if it exists already."""
        from keras_tagger.library.sidecars import check_own, is_done, sidecar_path

        path = sidecar_path(name, self._arguments.sidecar)
        if is_done(path, self._origin):
            return None
        if not self._arguments.replace:
            check_own(path)
        return path

    def write(self, name: str, target: Path, fields: Mapping[str, Sequence[str]], tags: Tags) -> bool:
        """Print and, with `--apply`, write a sidecar; return True."""
        from keras_tagger.library.sidecars import write_sidecar

        if self._arguments.apply:
            write_sidecar(target, self._arguments.sidecar, tags, fields, self._origin)
        lines = [printable(str(target)), *(f"  {field:<12}+ {'; '.join(values)}" for field, values in fields.items())]
        print("\n".join(lines), flush=True)
        return True


def _origin(arguments: argparse.Namespace, field_map: FieldMap) -> Origin:
    from keras_tagger import __version__
    from keras_tagger.library.writing import Origin
    from keras_tagger.storage.loading import weights_digest

    models = arguments.model.split(",")
    settings = json.dumps([field_map.digest, arguments.most, arguments.replace, arguments.add])
    return Origin(
        model=",".join(Path(model).name for model in models),
        weights=",".join(map(weights_digest, models)),
        version=__version__,
        settings=hashlib.sha256(settings.encode()).hexdigest()[:8],
    )


def _tags(models: Sequence[str], names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield what each model says about each file: `Tags` or an error."""
    from keras_tagger.tagger import load

    found = [load(model).tag_files(names, top=None) for model in models]
    for results in zip(*found, strict=True):
        yield tuple(result for _, result in results)


def _fields(results: Sequence[Any], field_map: FieldMap, most: int | None) -> tuple[dict[str, list[str]], Tags]:
    """Return the values of all models for each field, and the tags of the first model."""
    fields: dict[str, list[str]] = {}
    for tags in results:
        if isinstance(tags, KerasTaggerError):
            raise tags
        for field, values in field_map.fields(tags).items():
            fields[field] = list(dict.fromkeys([*fields.get(field, ()), *values]))
    for warning in warnings_of(results[0]):
        warn(warning)
    return {field: values[:most] for field, values in fields.items()}, results[0]


def _diff(change: Change) -> list[str]:
    """Return the lines of a field: what it loses (-), gets (+) or keeps (=)."""
    lines = []
    if change.before == change.after:
        if change.before:
            other = [value for value in change.proposed if value not in change.before]
            lines.append(f"= {'; '.join(change.before)}" + (f"   (not written: {'; '.join(other)})" if other else ""))
    else:
        for sign, values, others in (("-", change.before, change.after), ("+", change.after, change.before)):
            if only := [value for value in values if value not in others]:
                lines.append(f"{sign} {'; '.join(only)}")
    names = [change.field, *[""] * len(lines)]
    return [f"  {name:<12}{printable(line)}" for name, line in zip(names, lines, strict=False)]


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"
