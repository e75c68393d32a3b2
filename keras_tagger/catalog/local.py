"""The engine of one machine: a process per core, each of which decodes ahead of its model.

A file costs decoding and a model, both on one core at a time. So processes that each do the whole, with one thread
for the model, keep all cores busy without waiting for each other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from keras_tagger.audio.streams import audio_error
from keras_tagger.catalog.entries import Entry
from keras_tagger.catalog.rows import Row
from keras_tagger.catalog.worker import Settings
from keras_tagger.errors import CatalogError
from keras_tagger.files import printable

# Memory of a process with a packaged model; `--memory` decides by this how many there are.
PROCESS_BYTES = 1 << 30
_AHEAD = 3  # files that a process has been given: for its model, for its decoder, and the next
_TRIES = 3  # of a file at which processes end, and of starting one


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection[Any, Any]
    given: deque[Entry] = field(default_factory=deque)
    ready: bool = False
    retiring: bool = False


class LocalEngine:
    """Describes files in processes of this machine.

    A process that is killed or crashes is replaced, and the files that it had are given to others, one at a time. A
    file at which three processes have ended is given up, with an error.

    Args:
        model: The model, as `keras_tagger.load` takes it.
        options: What is computed of each file; see `keras_tagger.catalog.rows.Options`.
        provenance: Columns that every row gets.
        cpus: Number of processes, and of cores that they use together; None for all that this process may use.
        memory: Bytes that they may have together; None for no limit. It limits their number, and a process that has
            had more than its share is replaced.
        nice: Added to their niceness.

    Raises:
        CatalogError: If a budget is out of range.

    Attributes:
        processes: The largest number of processes.
    """

    def __init__(
        self,
        model: str,
        options: Any,
        provenance: dict[str, str],
        cpus: int | None = None,
        memory: int | None = None,
        nice: int = 0,
    ) -> None:
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        count = len(allowed) if cpus is None else cpus
        if count < 1:
            raise CatalogError(f"cpus: expected at least 1. Received: {cpus!r}.")
        if memory is not None and memory < PROCESS_BYTES:
            raise CatalogError(f"memory: expected at least {PROCESS_BYTES >> 20} MiB. Received: {memory >> 20} MiB.")
        self.processes = count if memory is None else min(count, memory // PROCESS_BYTES)
        self._share = None if memory is None else memory // self.processes
        cores = frozenset(allowed[:count]) if count < len(allowed) else None
        self._settings = Settings(model, options, provenance, cores, nice)
        self._workers: list[_Worker] = []

    def rows(self, entries: Iterable[Entry]) -> Iterator[Row]:
        """Describe files; yield a row for each, in the order in which they are done.

        Raises:
            CatalogError: If no process can be started.
        """
        todo = deque(entries)
        suspects: deque[Entry] = deque()  # at which a process has ended
        tries: dict[str, int] = {}
        failures = 0
        try:
            while todo or suspects or any(worker.given for worker in self._workers):
                self._give(todo, suspects, tries)
                ready = wait([worker.connection for worker in self._workers])
                for worker in [worker for worker in self._workers if worker.connection in ready]:
                    try:
                        row, peak = worker.connection.recv()
                    except (EOFError, OSError):
                        reason = self._remove(worker)
                        if not worker.ready:
                            failures += 1
                            if failures >= _TRIES:
                                raise CatalogError(
                                    f"expected processes that load the model. Received: {failures} that {reason}."
                                ) from None
                            todo.extendleft(reversed(worker.given))
                            continue
                        for entry in worker.given:
                            tries[entry.path] = tries.get(entry.path, 0) + 1
                            if tries[entry.path] < _TRIES:
                                suspects.append(entry)
                            else:
                                yield self._given_up(entry, reason)
                        continue
                    if row is None:
                        worker.ready, failures = True, 0
                        continue
                    worker.given.popleft()
                    if self._share is not None and peak > self._share and not worker.retiring:
                        worker.retiring = True
                        self._send(worker, None)
                    yield row
        finally:
            for worker in list(self._workers):
                worker.process.kill()
                self._remove(worker)

    @property
    def process_ids(self) -> list[int]:
        """The processes that are running."""
        return [worker.process.pid for worker in self._workers]

    def _give(self, todo: deque[Entry], suspects: deque[Entry], tries: Mapping[str, int]) -> None:
        """Give files to the processes, and start as many as there are files for."""
        idle = sum(not worker.given for worker in self._workers)
        for _ in range(min(self.processes - len(self._workers), len(todo) + len(suspects) - idle)):
            self._workers.append(self._start())
        while workers := [worker for worker in self._workers if self._has_room(worker, tries)]:
            worker = min(workers, key=lambda worker: len(worker.given))
            if suspects and not worker.given:
                entry = suspects.popleft()
            elif todo:
                entry = todo.popleft()
            else:
                return
            worker.given.append(entry)
            self._send(worker, entry)

    def _has_room(self, worker: _Worker, tries: Mapping[str, int]) -> bool:
        # A file at which a process has ended is the only one that its next process has.
        suspected = any(entry.path in tries for entry in worker.given)
        return len(worker.given) < _AHEAD and not suspected and not worker.retiring

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        environment = {
            **os.environ,
            # The process finds this package and what it needs where this one does.
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
            **{name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")},
        }
        command = [sys.executable, "-m", "keras_tagger.catalog.worker", str(theirs.fileno())]
        process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        worker = _Worker(process, ours)
        self._send(worker, self._settings)
        return worker

    def _send(self, worker: _Worker, message: Any) -> None:
        # A process that has ended is noticed when it is read from.
        with contextlib.suppress(OSError):
            worker.connection.send(message)

    def _remove(self, worker: _Worker) -> str:
        """Forget a process, and return how it ended."""
        self._workers.remove(worker)
        worker.connection.close()
        status = worker.process.wait()
        return f"were ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def _given_up(self, entry: Entry, reason: str) -> Row:
        error = audio_error("a file that can be read", f"{entry.path!r}, at which {_TRIES} processes {reason}")
        row = {"path": entry.path, "size": entry.size, "mtime_ns": entry.mtime_ns, "error": printable(str(error))}
        return {**row, **self._settings.provenance}
