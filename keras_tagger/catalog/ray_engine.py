"""The engine of a Ray cluster: Ray Data over actors that each hold a model; the extra `ray`.

Every actor decodes and describes whole files, because a decoded file is several times as large as an encoded one, and
sending it to another actor would cost more than keeping both on one core. Ray Data gives an actor new files when it
has room, and describes the files of a lost actor or node again elsewhere. Rows come to the driver, which alone writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from keras_tagger.catalog.arrow import arrow
from keras_tagger.catalog.entries import Entry
from keras_tagger.catalog.rows import Describer, Row
from keras_tagger.catalog.store import About, packed, rows_of
from keras_tagger.errors import CatalogError

# Files that an actor is given at once, and that are described again if its node is lost.
_FILES = 16
_MOST_BLOCKS = 50_000


class RayEngine:
    """Describes files on a Ray cluster, whose nodes must see them under the same paths or URLs.

    Args:
        about: The model, its tags and the options.
        provenance: Columns that every row gets.
        cpus: Largest number of actors, each on a core; None for as many as the cluster has cores.
        address: The address of a cluster, or "auto"; None to start one on this machine.

    Raises:
        CatalogError: If Ray is not installed.
    """

    def __init__(self, about: About, provenance: dict[str, str], cpus: int | None, address: str | None) -> None:
        try:
            import ray.data
        except ImportError:
            raise CatalogError('expected Ray, from pip install "keras_tagger[ray]". Received: none.') from None
        self._ray = ray
        self._about, self._provenance, self._cpus, self._address = about, provenance, cpus, address

    def rows(self, entries: Iterable[Entry]) -> Iterator[Row]:
        """Describe files; yield a row for each, in the order in which they are done.

        Raises:
            CatalogError: If there is no cluster at the address.
        """
        ray, found = self._ray, list(entries)
        if not found:
            return
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        try:
            ray.init(
                self._address,
                runtime_env={"env_vars": environment},
                log_to_driver=False,
                logging_level="ERROR",
                **({} if self._address else {"num_cpus": self._cpus, "include_dashboard": False}),
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CatalogError(f"address: expected a Ray cluster. Received: {self._address!r} ({reason}).") from None
        try:
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            count = self._cpus or max(int(ray.cluster_resources().get("CPU", 1)), 1)
            described = ray.data.from_arrow(_blocks(found)).map_batches(
                _Actor,
                fn_constructor_args=(self._about, self._provenance),
                batch_size=None,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=count),
                num_cpus=1,
            )
            for batch in described.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
                yield from rows_of(batch)
        finally:
            ray.shutdown()


def _blocks(entries: list[Entry]) -> list[Any]:
    """Return tables of a few files each: what Ray gives to an actor at a time."""
    pa, _ = arrow()
    size = max(_FILES, -(-len(entries) // _MOST_BLOCKS))
    parts = (entries[start : start + size] for start in range(0, len(entries), size))
    return [pa.Table.from_pylist([entry._asdict() for entry in part]) for part in parts]


class _Actor:
    """Holds a model, and maps tables of entries to tables of rows."""

    def __init__(self, about: About, provenance: dict[str, str]) -> None:
        from keras_tagger.catalog.worker import one_thread_each

        one_thread_each()
        self._about = about
        self._describer = Describer(about.model, about.options, provenance)

    def __call__(self, batch: Any) -> Any:
        pa, _ = arrow()
        entries = [Entry(**row) for row in batch.to_pylist()]
        return pa.Table.from_batches([packed(list(self._describer.rows(entries)), self._about)])
