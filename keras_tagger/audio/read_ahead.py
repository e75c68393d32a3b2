"""Decode in a thread while something else is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

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
