"""The engine of Apache Beam, for those who have Dataflow, Flink or Spark; the extra `beam`.

`Describe` is a transform for pipelines of your own: paths become rows, and files that cannot be read are an output of
their own. `BeamEngine` is the pipeline of `keras-tagger catalog --engine beam`: its workers write the rows of a few
files at a time into the folder of the catalogue, under a name that these files determine. So a bundle that Beam runs
twice writes one file, and what a killed pipeline has written is taken over by the next run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_tagger.catalog.arrow import arrow
from keras_tagger.catalog.entries import Entry
from keras_tagger.catalog.rows import Describer, Options, Row
from keras_tagger.catalog.store import About, packed, rows_of, whole_batches
from keras_tagger.errors import CatalogError
from keras_tagger.files import replacing

try:
    import apache_beam as beam
    from apache_beam.metrics import Metrics
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.utils.shared import Shared
except ImportError:
    raise CatalogError('expected Apache Beam, from pip install "keras_tagger[beam]". Received: none.') from None

ROWS, ERRORS = "rows", "errors"
_INCOMING = ".incoming"
_FILES = 16  # that are described together


class Describe(beam.PTransform):
    """Describes the files of a collection: paths, URLs or `Entry` tuples.

    The metrics of the namespace `keras_tagger` count `tracks`, `errors` and `audio_seconds`.

    Args:
        model: A pretrained name, a run directory or a `.keras` file that the workers can read.
        options: What is computed of each file.

    Returns:
        Two collections: `rows`, and `errors` of the files that cannot be read, each with its `error`.

    Example:
        >>> found = paths | Describe("compact")
        >>> found.rows | "write" >> beam.Map(print)
        >>> found.errors | "dead letters" >> beam.io.WriteToText("errors")
    """

    def __init__(self, model: str = "pons", options: Options | None = None) -> None:
        super().__init__()
        self._describers = _Describers(model, options or Options(), {})

    def expand(self, paths: Any) -> Any:
        """Return the two collections."""
        batches = paths | beam.Map(_entry) | beam.BatchElements(min_batch_size=1, max_batch_size=_FILES)
        return batches | beam.ParDo(_Describe(self._describers)).with_outputs(ERRORS, main=ROWS)


class BeamEngine:
    """Describes files by a pipeline, whose workers must see them, and the catalogue, under the same paths.

    Args:
        about: The model, its tags and the options.
        provenance: Columns that every row gets.
        folder: The folder of the catalogue.
        cpus: Number of workers of the direct runner.
        options: Pipeline options, such as "runner=FlinkRunner"; without any, the direct runner with a process per
            worker.
    """

    def __init__(
        self, about: About, provenance: dict[str, str], folder: Path, cpus: int | None, options: Sequence[str]
    ) -> None:
        self._about, self._provenance = about, provenance
        self._incoming = folder.absolute() / _INCOMING
        given = [option if option.startswith("--") else f"--{option}" for option in options]
        named = {option.partition("=")[0] for option in given}
        defaults = {
            # By its own name, as the name DirectRunner downloads another runner first.
            "--runner": "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
            "--direct_running_mode": "multi_processing",
            "--direct_num_workers": str(cpus or 0),
        }
        self._options = [*given, *(f"{name}={value}" for name, value in defaults.items() if name not in named)]

    def rows(self, entries: Iterable[Entry]) -> Iterator[Row]:
        """Describe files; yield a row for each after the pipeline has ended, and first those of a killed one."""
        todo = {entry.path: entry for entry in entries}
        for row in _taken(self._incoming):
            entry = todo.get(row["path"])
            if entry is not None and (row["size"], row["mtime_ns"]) == (entry.size, entry.mtime_ns):
                del todo[entry.path]
                yield row
        if not todo:
            return
        self._incoming.mkdir(parents=True, exist_ok=True)
        found = list(todo.values())
        groups = [[tuple(entry) for entry in found[start : start + _FILES]] for start in range(0, len(found), _FILES)]
        describers = _Describers(self._about.model, self._about.options, self._provenance)
        with beam.Pipeline(options=PipelineOptions(self._options)) as pipeline:
            stage = beam.ParDo(_Stage(describers, self._about, str(self._incoming)))
            pipeline | beam.Create(groups) | beam.Reshuffle() | stage
        yield from _taken(self._incoming)


def _taken(folder: Path) -> Iterator[Row]:
    """Yield the rows that workers have written, and remove their files."""
    pa, _ = arrow()
    for path in sorted(folder.glob("*.arrows")) if folder.is_dir() else []:
        for batch in whole_batches(path) if not path.name.startswith(".") else ():
            yield from rows_of(pa.Table.from_batches([batch]))
        path.unlink()


def _entry(path: Any) -> Entry:
    return Entry(path) if isinstance(path, str) else Entry(*path)


class _Describers:
    """One model per process, whatever the number of its threads; sent to workers without it."""

    def __init__(self, model: str, options: Options, provenance: dict[str, str]) -> None:
        self._arguments = (model, options, provenance)
        self._shared = Shared()

    def get(self) -> Describer:
        found: Describer = self._shared.acquire(self._load)
        return found

    def _load(self) -> Describer:
        from keras_tagger.catalog.worker import one_thread_each

        one_thread_each()
        return Describer(*self._arguments)


class _Describe(beam.DoFn):
    def __init__(self, describers: _Describers) -> None:
        self._describers = describers

    def process(self, batch: Sequence[Entry]) -> Iterator[Any]:
        for row in self._describers.get().rows(batch):
            yield beam.pvalue.TaggedOutput(ERRORS, row) if _count(row) else row


class _Stage(beam.DoFn):
    def __init__(self, describers: _Describers, about: About, folder: str) -> None:
        self._describers, self._about, self._folder = describers, about, folder

    def process(self, group: Sequence[Sequence[Any]]) -> Iterator[int]:
        pa, _ = arrow()
        entries = [Entry(*values) for values in group]
        rows = list(self._describers.get().rows(entries))
        for row in rows:
            _count(row)
        name = hashlib.sha256("\n".join(entry.path for entry in entries).encode()).hexdigest()[:32]
        batch = packed(rows, self._about)
        with (
            replacing(Path(self._folder) / f"{name}.arrows") as temporary,
            pa.OSFile(str(temporary), "wb") as file,
            pa.ipc.new_stream(file, batch.schema) as writer,
        ):
            writer.write_batch(batch)
        yield len(rows)


def _count(row: Row) -> bool:
    """Count a row in the metrics, and return whether it is an error."""
    failed = row.get("error") is not None
    Metrics.counter("keras_tagger", "errors" if failed else "tracks").inc()
    Metrics.counter("keras_tagger", "audio_seconds").inc(round(row.get("seconds") or 0.0))
    return failed
