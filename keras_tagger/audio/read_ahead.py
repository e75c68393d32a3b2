"""Decode in threads while something else is computed."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
S = TypeVar("S")

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""The number of cores that this process may use."""

_END: Any = object()


def read_ahead(items: Iterator[T], depth: int = 4) -> Iterator[T]:
    """Iterate over items of which a thread computes the next ones in advance.

    Decoders release Python's lock, so a file is decoded on one core while a model runs on another. An error of the
    iterator is raised after the items before it. If iteration stops early, the iterator is closed in its thread.

    Args:
        items: An iterator; only one thread uses it.
        depth: The largest number of items to hold.
    """
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        try:
            while True:
                while len(waiting) < depth:
                    waiting.append(pool.submit(next, items, _END))
                item = waiting.popleft().result()
                if item is _END:
                    return
                yield item
        finally:
            for future in waiting:
                future.cancel()
            close = getattr(items, "close", None)
            if close is not None:
                pool.submit(close)


def in_parallel(function: Callable[[S], T], items: Iterable[S], workers: int, stopped: threading.Event) -> Iterator[T]:
    """Apply a function to items in several threads, and yield the results in order.

    Decoders and TensorFlow release Python's lock, so a thread per core that decodes a file and runs the model on it
    keeps all cores busy. Items are taken in this thread, at most two more than there are workers in advance.

    Args:
        function: What to do with an item; its errors are raised when its result is due.
        items: The items.
        workers: Number of threads.
        stopped: Is set when iteration ends, if need be early, so that functions that take long can end too.
    """
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="in-parallel") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                # Results that are ready must not wait for the next item.
                while waiting and (len(waiting) > workers + 2 or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            stopped.set()
            for future in waiting:
                future.cancel()
