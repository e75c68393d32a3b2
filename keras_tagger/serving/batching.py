"""Requests gathered to batches before they are run, as --enable_batching asks for.

Clips of one length go together and no others, so nothing is padded and no neighbour changes an answer. A request that
fails in a batch is run again alone, so its neighbours do not fail with it.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from keras_tagger.serving.config_files import BatchingOptions
from keras_tagger.serving.servable import Runner
from keras_tagger.serving.status import StatusError, deadline_exceeded

Key = tuple[int, tuple[str, ...], tuple[str, ...], tuple[tuple[str, tuple[int, ...]], ...]]


class _Task:
    """One request in the queue."""

    def __init__(self, key: Key, runner: Runner, arrays: Sequence[npt.NDArray[Any]], deadline: float | None) -> None:
        self.key = key
        self.runner = runner
        self.arrays = arrays
        self.size = len(arrays[0])
        self.deadline = deadline
        self.arrived = time.monotonic()
        self.done = threading.Event()
        self.taken = False
        self.values: list[Any] = []
        self.error: BaseException | None = None


class Batcher:
    """A queue and threads that run what is in it, for all models of a server; `over` is a servable seen through it."""

    def __init__(self, settings: BatchingOptions) -> None:
        self._settings = settings
        self._lock = threading.Condition()
        self._queue: deque[_Task] = deque()
        self._queued = 0
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{index}", daemon=True) for index in range(settings.threads)
        ]
        for thread in self._threads:
            thread.start()

    def over(self, servable: Runner) -> Runner:
        """What runs requests of a servable by way of batches."""
        return _Batched(self, servable)

    def run(
        self,
        servable: Runner,
        feeds: Sequence[str],
        fetches: Sequence[str],
        arrays: Sequence[npt.NDArray[Any]],
        deadline: float | None,
    ) -> list[Any]:
        """Values of the fetches, by way of a batch where the arrays have a common first axis."""
        sizes = {array.shape[0] if array.ndim else -1 for array in arrays}
        if len(sizes) != 1 or not 0 < min(sizes) <= self._settings.max_batch_size:
            return servable.run(feeds, fetches, arrays, deadline)
        shapes = tuple((array.dtype.str, array.shape[1:]) for array in arrays)
        task = _Task((id(servable), tuple(feeds), tuple(fetches), shapes), servable, arrays, deadline)
        with self._lock:
            if self._queued + task.size > self._settings.max_batch_size * self._settings.max_enqueued_batches:
                text = "The batch scheduling queue to which this task was submitted is full"
                raise StatusError(grpc.StatusCode.UNAVAILABLE, text)
            self._queue.append(task)
            self._queued += task.size
            self._lock.notify()
        if not task.done.wait(None if deadline is None else max(deadline - time.monotonic(), 0.0)):
            with self._lock:
                if not task.taken:
                    self._queue.remove(task)
                    self._queued -= task.size
                    raise deadline_exceeded()
            # It runs: the client has given up, but the array that it shares with others is still in use.
            task.done.wait()
        if task.error is not None:
            raise task.error
        return task.values

    def close(self) -> None:
        """End the threads, when the queue is empty."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while tasks := self._take():
            _run_together(tasks, self._settings.allowed_batch_sizes)
            for task in tasks:
                task.done.set()

    def _take(self) -> list[_Task]:
        """The next batch: the oldest request, and those of its kind that come before its time is up."""
        with self._lock:
            while True:
                if not self._queue:
                    if self._stopping:
                        return []
                    self._lock.wait()
                    continue
                first, tasks, total = self._queue[0], [], 0
                for task in self._queue:
                    if task.key == first.key and total + task.size <= self._settings.max_batch_size:
                        tasks.append(task)
                        total += task.size
                left = first.arrived + self._settings.timeout_seconds - time.monotonic()
                if total < self._settings.max_batch_size and left > 0 and not self._stopping:
                    self._lock.wait(left)
                    continue
                for task in tasks:
                    task.taken = True
                    self._queue.remove(task)
                    self._queued -= task.size
                return tasks


class _Batched:
    def __init__(self, batcher: Batcher, servable: Runner) -> None:
        self._batcher = batcher
        self._servable = servable

    def run(
        self, feeds: Sequence[str], fetches: Sequence[str], arrays: Sequence[npt.NDArray[Any]], deadline: float | None
    ) -> list[Any]:
        return self._batcher.run(self._servable, feeds, fetches, arrays, deadline)


def _run_together(tasks: Sequence[_Task], allowed: Sequence[int]) -> None:
    """Run tasks of one key as one batch; alone where they are one, or where the batch is refused."""
    _, feeds, fetches, _ = tasks[0].key
    total = sum(task.size for task in tasks)
    padded = allowed[bisect.bisect_left(allowed, total)] if allowed else total
    if len(tasks) > 1 or padded > total:
        try:
            arrays = [np.concatenate(columns) for columns in zip(*(task.arrays for task in tasks), strict=True)]
            if padded > total:
                arrays = [np.concatenate([array, np.repeat(array[-1:], padded - total, axis=0)]) for array in arrays]
            deadlines = [task.deadline for task in tasks]
            latest = None if None in deadlines else max(filter(None, deadlines))
            values = [np.asarray(value) for value in tasks[0].runner.run(feeds, fetches, arrays, latest)]
            if all(value.ndim and len(value) == padded for value in values):
                start = 0
                for task in tasks:
                    task.values = [value[start : start + task.size] for value in values]
                    start += task.size
                return
        except Exception:
            pass
    for task in tasks:
        try:
            task.values = task.runner.run(feeds, fetches, task.arrays, task.deadline)
        except BaseException as error:
            task.error = error
