"""The queue in front of the models: which request runs when, which run together, and which are refused.

A request runs in its own thread: at once if a place is free, else when its turn comes. Whoever gets a place takes along
the waiting requests that can share a batch with it, so batches grow with the load and a lone client never waits. Only
clips of the same length share a batch, so nothing is padded and no request changes another's answer. If a batch fails,
each of its requests runs again alone, so that one bad request does not fail the others.

The queue is bounded. A request that may not be answered before its deadline, judged by how long such requests took so
far, is refused when it arrives, or dropped when its turn comes: an answer that comes too late only delays others.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from keras_tagger.serving.config_files import BatchingOptions
from keras_tagger.serving.servable import Servable
from keras_tagger.serving.status import StatusError, deadline_exceeded

# Time from the end of a run to the client: encoding, sending, and waking up on a busy machine.
REPLY_SECONDS = 0.01
# Estimates are means, which many requests exceed. A longer queue would answer no more of them, only later.
MARGIN = 1.5
# Weight of the newest measurement in the running mean of run times.
NEWEST_WEIGHT = 0.2
# Bytes of input that may wait.
MAX_QUEUED_BYTES = 2**28
# Run times are kept for this many kinds of requests.
MAX_KINDS = 1000

FULL = "The batch scheduling queue to which this task was submitted is full"


@dataclasses.dataclass
class Call:
    """A request as the server sees it: when its reply is due, and whether anybody still waits for it.

    Attributes:
        deadline: When the reply is due, as `time.monotonic`; None for no deadline.
        cancelled: Whether the client has gone. May be set at any time, from any thread.
        peer: Address of the client, for the log.
        version: The version of the model that answers, once it is known.
        started: When the request arrived, as `time.monotonic`.
    """

    deadline: float | None = None
    cancelled: bool = False
    peer: str = ""
    version: int | None = None
    started: float = dataclasses.field(default_factory=time.monotonic)

    def cancel(self) -> None:
        """Tell the server that nobody waits for the reply any more."""
        self.cancelled = True

    def seconds_left(self) -> float | None:
        """Return the time until the deadline, at least 0; None without a deadline."""
        return None if self.deadline is None else max(self.deadline - time.monotonic(), 0.0)


@dataclasses.dataclass(eq=False)
class _Task:
    """A request in the queue."""

    servable: Servable
    feeds: Sequence[str]
    fetches: Sequence[str]
    arrays: Sequence[npt.NDArray[Any]]
    call: Call
    batched: bool
    cost: float = 0.0
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    batch: list[_Task] = dataclasses.field(default_factory=list)
    values: list[Any] = dataclasses.field(default_factory=list)
    error: BaseException | None = None

    def __post_init__(self) -> None:
        sizes = {array.shape[0] if array.ndim else -1 for array in self.arrays}
        has_rows = len(sizes) == 1 and min(sizes) > 0
        self.rows = max(sizes) if has_rows else 1
        self.bytes = sum(_bytes(array) for array in self.arrays)
        target = (id(self.servable), tuple(self.feeds), tuple(self.fetches))
        # Clips of about the same size take about the same time.
        self.kind = (*target, (self.bytes // self.rows).bit_length())
        # Requests with the same key can share a batch; None runs alone.
        shapes = ((array.dtype.str, array.shape[1:]) for array in self.arrays)
        self.key = (*target, *shapes) if self.batched else None
        self.batched = self.batched and has_rows
        self.arrived = time.monotonic()


@dataclasses.dataclass
class _Cost:
    """Running means of the time of one kind of requests."""

    row_seconds: float
    run_seconds: float

    def learn(self, run_seconds: float, rows: int) -> None:
        """Include the newest measurement."""
        self.row_seconds += NEWEST_WEIGHT * (run_seconds / rows - self.row_seconds)
        self.run_seconds += NEWEST_WEIGHT * (run_seconds - self.run_seconds)


class Scheduler:
    """Runs the requests of all models of a server.

    Args:
        options: Sizes of batches, their timeout, and the number of runs at a time.
        batch_all: Whether to batch all models or none; None batches those known to treat rows independently.
    """

    def __init__(self, options: BatchingOptions, batch_all: bool | None = None) -> None:
        self._options = options
        self._batch_all = batch_all
        self._max_queued_rows = options.max_batch_size * options.max_enqueued_batches
        self._lock = threading.Condition()
        self._queue: deque[_Task] = deque()
        self._forming: list[list[_Task]] = []
        self._queued_bytes = 0
        self._backlog_seconds = 0.0
        self._running = 0
        self._running_seconds = 0.0
        self._costs: OrderedDict[tuple[Any, ...], _Cost] = OrderedDict()
        # Running mean over requests of all kinds.
        self._request_seconds = 0.0

    @property
    def queued(self) -> int:
        """Number of requests that wait."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Number of runs under way."""
        return self._running

    def check(self, call: Call, ahead: int = 0) -> None:
        """Refuse a request that has no chance, before it is even parsed.

        Args:
            call: The request.
            ahead: Number of requests that will be in the queue before it and are not yet.

        Raises:
            StatusError: If it cannot be answered in time.
        """
        if call.cancelled:
            raise cancelled()
        if call.deadline is None:
            return
        now = time.monotonic()
        if now >= call.deadline:
            raise deadline_exceeded()
        seconds = MARGIN * (self._wait_seconds() + ahead * self._request_seconds / self._options.threads)
        if (self._queue or ahead) and now + seconds > call.deadline:
            raise _too_late(seconds)

    def run(
        self,
        servable: Servable,
        feeds: Sequence[str],
        fetches: Sequence[str],
        arrays: Sequence[npt.NDArray[Any]],
        call: Call,
    ) -> list[Any]:
        """Return the values of the fetches; an error of the graph becomes a `StatusError`."""
        batched = servable.rows_are_independent if self._batch_all is None else self._batch_all
        task = _Task(servable, feeds, fetches, arrays, call, batched)
        with self._lock:
            self._admit(task)
            if self._join(task):
                pass
            elif self._running < self._options.threads and not self._queue:
                self._start([task])
            else:
                self._queue.append(task)
                self._queued_bytes += task.bytes
                self._backlog_seconds += task.cost
        if not task.batch:
            self._wait(task)
        if task.batch:
            self._lead(task.batch)
        if task.error is not None:
            raise task.error
        return task.values

    def _admit(self, task: _Task) -> None:
        """Refuse a task if the queue is full or its deadline cannot be met. An idle server tries everything."""
        cost = self._costs.get(task.kind)
        if cost is not None:
            task.cost = cost.row_seconds * task.rows
        if not self._running:
            return
        waiting = [*self._queue, *itertools.chain(*self._forming), task]
        # What is larger than a batch runs as one.
        rows = sum(min(other.rows, self._options.max_batch_size) for other in waiting)
        if rows > self._max_queued_rows or self._queued_bytes + task.bytes > MAX_QUEUED_BYTES:
            raise StatusError(grpc.StatusCode.UNAVAILABLE, FULL)
        if task.call.deadline is not None:
            needed = MARGIN * (self._wait_seconds() + max(task.cost, cost.run_seconds if cost else 0.0)) + REPLY_SECONDS
            if time.monotonic() + needed > task.call.deadline:
                raise _too_late(needed)

    def _wait_seconds(self) -> float:
        """Estimate how long a new request would wait."""
        if self._running < self._options.threads and not self._queue:
            return 0.0
        return (self._backlog_seconds + self._running_seconds / 2) / self._options.threads

    def _join(self, task: _Task) -> bool:
        """Add a task to a batch that is still waiting for others."""
        for batch in self._forming:
            if self._fits(task, batch):
                batch.append(task)
                self._lock.notify_all()
                return True
        return False

    def _fits(self, task: _Task, batch: Sequence[_Task]) -> bool:
        return (
            task.batched
            and batch[0].batched
            and task.key == batch[0].key
            and sum(other.rows for other in batch) + task.rows <= self._options.max_batch_size
            and sum(other.bytes for other in batch) + task.bytes <= self._options.max_batch_bytes
        )

    def _start(self, batch: list[_Task]) -> None:
        self._running += 1
        self._running_seconds += sum(task.cost for task in batch)
        batch[0].batch = batch

    def _wait(self, task: _Task) -> None:
        """Wait until the task has been run in another's batch, or may lead its own."""
        if task.done.wait(task.call.seconds_left()):
            return
        with self._lock:
            if task in self._queue:
                self._remove([task])
                raise deadline_exceeded()
        # It runs already, so its arrays are in use until the batch is done.
        task.done.wait()

    def _remove(self, tasks: Sequence[_Task]) -> None:
        for task in tasks:
            self._queue.remove(task)
            self._queued_bytes -= task.bytes
            self._backlog_seconds = max(self._backlog_seconds - task.cost, 0.0) if self._queue else 0.0

    def _lead(self, batch: list[_Task]) -> None:
        """Run a batch in this thread, then pass the place on."""
        if self._options.timeout_seconds > 0 and batch[0].batched:
            self._wait_for_others(batch)
        cost, rows = sum(task.cost for task in batch), sum(task.rows for task in batch)
        started = time.monotonic()
        try:
            _run_together(batch, self._options.allowed_batch_sizes)
        finally:
            seconds = time.monotonic() - started
            with self._lock:
                self._running -= 1
                self._running_seconds = max(self._running_seconds - cost, 0.0) if self._running else 0.0
                self._learn(batch[0].kind, seconds, rows)
                self._request_seconds += NEWEST_WEIGHT * (seconds / len(batch) - self._request_seconds)
                self._pass_on()
                self._lock.notify_all()
            for task in batch[1:]:
                task.done.set()

    def _wait_for_others(self, batch: list[_Task]) -> None:
        with self._lock:
            self._forming.append(batch)
            end = min(batch[0].arrived + self._options.timeout_seconds, batch[0].call.deadline or math.inf)
            while sum(task.rows for task in batch) < self._options.max_batch_size:
                left = end - time.monotonic()
                if left <= 0:
                    break
                self._lock.wait(left)
            self._forming = [other for other in self._forming if other is not batch]

    def _learn(self, kind: tuple[Any, ...], seconds: float, rows: int) -> None:
        if kind in self._costs:
            self._costs[kind].learn(seconds, rows)
            self._costs.move_to_end(kind)
        else:
            self._costs[kind] = _Cost(seconds / rows, seconds)
            if len(self._costs) > MAX_KINDS:
                self._costs.popitem(last=False)

    def _pass_on(self) -> None:
        """Give free places to the next batches."""
        while self._queue and self._running < self._options.threads:
            first = self._queue[0]
            if (error := self._hopeless(first)) is not None:
                self._remove([first])
                first.error = error
                first.done.set()
                continue
            batch = [first]
            for task in list(self._queue)[1:]:
                if self._fits(task, batch) and self._hopeless(task) is None:
                    batch.append(task)
            self._remove(batch)
            self._start(batch)
            first.done.set()

    def _hopeless(self, task: _Task) -> StatusError | None:
        """Return why a task is not worth running any more, if it is not."""
        if task.call.cancelled:
            return cancelled()
        if task.call.deadline is None:
            return None
        left = task.call.deadline - time.monotonic()
        if left <= 0:
            return deadline_exceeded()
        if (self._running or len(self._queue) > 1) and left < task.cost:
            return _too_late(task.cost)
        return None

    def close(self, seconds: float) -> None:
        """Wait until everything queued has been run, for at most `seconds`."""
        with self._lock:
            self._lock.wait_for(lambda: not self._running and not self._queue, seconds)


def cancelled() -> StatusError:
    """Return the error for a request whose client has gone."""
    return StatusError(grpc.StatusCode.CANCELLED, "The client cancelled the request.")


def _too_late(seconds: float) -> StatusError:
    text = f"The server is busy: the request would take about {seconds:.3g} s, which is beyond its deadline."
    return StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, text)


def _bytes(array: npt.NDArray[Any]) -> int:
    return sum(map(len, array.reshape(-1))) if array.dtype == object else array.nbytes


def _run_together(tasks: Sequence[_Task], allowed: Sequence[int]) -> None:
    """Run tasks with the same key as one batch; one by one if the batch fails or has a single task."""
    first = tasks[0]
    total = sum(task.rows for task in tasks)
    fits = first.batched and allowed and total <= allowed[-1]
    padded = allowed[bisect.bisect_left(allowed, total)] if fits else total
    if len(tasks) > 1 or padded > total:
        try:
            arrays = [np.concatenate(columns) for columns in zip(*(task.arrays for task in tasks), strict=True)]
            if padded > total:
                arrays = [np.concatenate([array, np.repeat(array[-1:], padded - total, axis=0)]) for array in arrays]
            deadlines = [task.call.deadline for task in tasks]
            latest = None if None in deadlines else max(filter(None, deadlines))
            values = [np.asarray(value) for value in first.servable.run(first.feeds, first.fetches, arrays, latest)]
            if all(value.ndim and len(value) == padded for value in values):
                start = 0
                for task in tasks:
                    task.values = [value[start : start + task.rows] for value in values]
                    start += task.rows
                return
        except Exception:
            pass
    for task in tasks:
        try:
            task.values = task.servable.run(task.feeds, task.fetches, task.arrays, task.call.deadline)
        except BaseException as error:
            task.error = error
