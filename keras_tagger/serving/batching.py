"""Batching of requests, for --enable_batching.

Only clips of the same length share a batch, so nothing is padded and no request changes another's answer. If a batch
fails, each of its requests is run again alone, so that one bad request does not fail the others.
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
    """A request in the queue."""

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
    """A queue of requests for all models of a server, and the threads that run them in batches.

    Args:
        options: Sizes, timeout and number of threads.
    """

    def __init__(self, options: BatchingOptions) -> None:
        self._options = options
        self._lock = threading.Condition()
        self._queue: deque[_Task] = deque()
        self._queued = 0
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{index}", daemon=True) for index in range(options.threads)
        ]
        for thread in self._threads:
            thread.start()

    def over(self, servable: Runner) -> Runner:
        """Return a runner that runs a servable in batches."""
        return _Batched(self, servable)

    def run(
        self,
        servable: Runner,
        feeds: Sequence[str],
        fetches: Sequence[str],
        arrays: Sequence[npt.NDArray[Any]],
        deadline: float | None,
    ) -> list[Any]:
        """Return the values of the fetches; in a batch if the arrays share their first axis, else alone."""
        sizes = {array.shape[0] if array.ndim else -1 for array in arrays}
        if len(sizes) != 1 or not 0 < min(sizes) <= self._options.max_batch_size:
            return servable.run(feeds, fetches, arrays, deadline)
        shapes = tuple((array.dtype.str, array.shape[1:]) for array in arrays)
        task = _Task((id(servable), tuple(feeds), tuple(fetches), shapes), servable, arrays, deadline)
        with self._lock:
            if self._queued + task.size > self._options.max_batch_size * self._options.max_enqueued_batches:
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
            # The batch runs already: the client has given up, but its arrays are in use until the batch is done.
            task.done.wait()
        if task.error is not None:
            raise task.error
        return task.values

    def close(self) -> None:
        """Finish what is queued, and end the threads."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while tasks := self._take():
            _run_together(tasks, self._options.allowed_batch_sizes)
            for task in tasks:
                task.done.set()

    def _take(self) -> list[_Task]:
        """Wait for the next batch: the oldest request, and those like it that arrive before its timeout."""
        with self._lock:
            while True:
                if not self._queue:
                    if self._stopping:
                        return []
                    self._lock.wait()
                    continue
                first, tasks, total = self._queue[0], [], 0
                for task in self._queue:
                    if task.key == first.key and total + task.size <= self._options.max_batch_size:
                        tasks.append(task)
                        total += task.size
                left = first.arrived + self._options.timeout_seconds - time.monotonic()
                if total < self._options.max_batch_size and left > 0 and not self._stopping:
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
    """Run tasks with the same key as one batch; one by one if the batch fails or has a single task."""
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
