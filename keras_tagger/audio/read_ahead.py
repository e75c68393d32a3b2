"""Decoding while something else is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_END: Any = object()


def read_ahead(items: Iterator[T], depth: int = 4) -> Iterator[T]:
    """The items of an iterator, in their order, of which a thread computes the next ones meanwhile.

    Decoders leave Python's lock, so that a file is decoded on one core while a model runs on another. What the
    iterator raises is raised here, after the items before it; an iterator that is given up is closed in its thread.

    Args:
        items: taken up by one thread only.
        depth: at most that many items are held.
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
