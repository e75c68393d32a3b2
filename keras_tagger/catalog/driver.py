"""`build`: make or continue a catalogue with any engine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_tagger.catalog.arrow import arrow
from keras_tagger.catalog.entries import Entry, find_entries
from keras_tagger.catalog.local import LocalEngine
from keras_tagger.catalog.rows import Options, Row
from keras_tagger.catalog.store import SHARD_ROWS, About, Store, digests
from keras_tagger.errors import CatalogError
from keras_tagger.progress import progress_bar
from keras_tagger.storage.loading import find_model, stored_config, weights_sha256

ENGINES = ("local", "ray", "beam")
COMPARISONS = ("mtime", "content")
_REPORT_SECONDS = 60.0


@dataclass(frozen=True)
class Built:
    """What `build` has done.

    Attributes:
        described: Files that were described in this run.
        unchanged: Files that had been described before, or found unreadable, and have not changed.
        errors: Files that could not be read in this run, each with the reason.
        all_errors: Number of files in `errors.parquet`.
        seconds: How long it took.
        warned: How many of the described files have warnings, which are in the column `warnings`.
    """

    described: int
    unchanged: int
    errors: tuple[tuple[str, str], ...]
    all_errors: int
    seconds: float
    warned: int = 0

    def __str__(self) -> str:
        rate = self.described / max(self.seconds, 1e-9)
        return (
            f"{self.described:,} described ({rate:.1f} a second; {self.warned:,} with warnings), "
            f"{self.unchanged:,} unchanged, "
            f"{len(self.errors):,} could not be read ({self.all_errors:,} in all)"
        )


def build(
    sources: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    model: str = "pons",
    options: Options | None = None,
    *,
    engine: str = "local",
    cpus: int | None = None,
    memory: int | None = None,
    nice: int = 0,
    retry_errors: bool = False,
    compare: str = "mtime",
    prune: bool = False,
    part: tuple[int, int] = (1, 1),
    shard_rows: int = SHARD_ROWS,
    address: str | None = None,
    engine_options: Sequence[str] = (),
    report: Callable[[str], None] | None = None,
) -> Built:
    """Make a catalogue, or continue one: describe what is missing and has changed, and nothing twice.

    It can be killed at any moment and run again.

    Args:
        sources: Files, folders, playlists, tables and URLs; see `find_entries`.
        out: The folder of the catalogue.
        model: A pretrained name, a run directory or a `.keras` file.
        options: What is computed of each file.
        engine: "local" for processes of this machine, "ray" or "beam".
        cpus: Number of processes; None for all cores, or all of the cluster.
        memory: Bytes that the processes of this machine may have together.
        nice: Added to the niceness of the processes of this machine.
        retry_errors: Whether files that could not be read are tried again.
        compare: What an unchanged file has kept: its "mtime" and size, or its "content" (SHA-256).
        prune: Whether rows of files that the sources do not name any more are removed.
        part: (i, n) to describe only the i-th of n parts of the files, on a machine of n.
        shard_rows: Rows in a shard.
        address: The address of a Ray cluster.
        engine_options: Pipeline options of Beam.
        report: Called about every minute with a sentence on the progress, if there is no progress bar.

    Raises:
        CatalogError: If an argument is not allowed, the folder is another catalogue or in use, or an extra is missing.
        ModelNotFoundError: If there is no such model.

    Example:
        >>> print(build(["music/"], "catalogue", "compact", cpus=4))
        3,000 described (38.1 a second; 12 with warnings), 0 unchanged, 0 could not be read (0 in all)
    """
    _check("engine", engine, ENGINES)
    _check("compare", compare, COMPARISONS)
    if not 1 <= part[0] <= part[1]:
        raise CatalogError(f"part: expected i of n, 1 <= i <= n. Received: {part[0]} of {part[1]}.")
    arrow()
    options = options or Options(sha256=compare == "content")
    about = describe_model(model, options)
    begun = time.monotonic()
    errors, warned = [], 0
    with Store(out, about, shard_rows) as store:
        todo, unchanged = store.missing(_of_part(find_entries(sources), part), retry_errors, compare, prune)
        found = _engine(engine, about, out, cpus, memory, nice, address, engine_options)(todo)
        for row in _with_progress(found, len(todo), report):
            if store.add(row):
                errors += [(row["path"], row["error"])] if row.get("error") is not None else []
                warned += bool(row.get("warnings"))
        store.commit()
        seconds = time.monotonic() - begun
        return Built(len(todo) - len(errors), unchanged, tuple(errors), store.n_errors, seconds, warned)


def describe_model(model: str, options: Options) -> About:
    """Return what all rows of a catalogue have in common, without loading the model.

    Raises:
        ModelNotFoundError: If there is no such model.
        ModelError: If it cannot be read.
    """
    from keras_tagger.storage.loading import stored_tag_info

    found = find_model(model)
    stored = stored_config(found)
    tags = tuple(map(str, stored["tags"]))
    width = int(stored["model"]["encoder"]["width"])
    # A path means the same from every working directory.
    name = found.name or str(Path(model).resolve())
    return About(name, weights_sha256(model), tags, stored_tag_info(found), width, options)


def provenance(about: About) -> dict[str, str]:
    """Return the columns that every row gets."""
    from keras_tagger import __version__

    return {"model": about.model, "weights_sha256": about.weights_sha256, "package_version": __version__}


def _engine(
    name: str,
    about: About,
    out: str | os.PathLike[str],
    cpus: int | None,
    memory: int | None,
    nice: int,
    address: str | None,
    engine_options: Sequence[str],
) -> Callable[[list[Entry]], Iterator[Row]]:
    if name == "local":
        return LocalEngine(about.model, about.options, provenance(about), cpus, memory, nice).rows
    for given, value in (("memory", memory), ("nice", nice)):
        if value:
            raise CatalogError(f"{given}: expected engine='local', which has this budget. Received: {name!r}.")
    if name == "ray":
        from keras_tagger.catalog.ray_engine import RayEngine

        return RayEngine(about, provenance(about), cpus, address).rows
    from keras_tagger.catalog.beam_engine import BeamEngine

    return BeamEngine(about, provenance(about), Path(out), cpus, engine_options).rows


def _of_part(entries: Iterable[Entry], part: tuple[int, int]) -> Iterator[Entry]:
    index, count = part
    for entry in entries:
        if count == 1 or int(digests([entry.path])[0]) % count == index - 1:
            yield entry


def _with_progress(rows: Iterable[Row], total: int, report: Callable[[str], None] | None) -> Iterator[Row]:
    """Show rate and time left: a progress bar on a terminal, else a sentence every minute."""
    bar = progress_bar(rows, total=total, unit="track", smoothing=0.05)
    begun = shown = time.monotonic()
    for done, row in enumerate(bar, 1):
        yield row
        now = time.monotonic()
        if report is not None and bar.disable and now > shown + _REPORT_SECONDS:
            shown = now
            left = (total - done) * (now - begun) / done
            report(f"{done:,} of {total:,} tracks, {done / (now - begun):.1f} a second, {_duration(left)} left")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60} min"


def _check(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise CatalogError(f"{name}: expected {', '.join(allowed)}. Received: {value!r}.")
