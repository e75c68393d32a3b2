"""What a request may cost, so that no client can take the memory of the server."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy.typing as npt

from keras_tagger.serving.servable import Servable
from keras_tagger.serving.status import deadline_exceeded, invalid_argument

# An attention map grows with the square of the length: with four layers of four heads, that of 120 s has 56 MB.
MAX_ATTENTION_SECONDS = 120.0
# The most that a number, and a list or an object, of a JSON document takes until it is part of an array.
_NUMBER_BYTES, _CONTAINER_BYTES = 56, 88


def check_audio(
    servable: Servable,
    feeds: Sequence[str],
    fetches: Sequence[str],
    arrays: Sequence[npt.NDArray[Any]],
    max_seconds: float,
) -> None:
    """Refuse a request with too much audio; models of others, whose inputs may be anything, have no limit.

    Args:
        servable: The version that would run the request.
        feeds: Names of the tensors to feed.
        fetches: Names of the tensors to fetch.
        arrays: The values to feed.
        max_seconds: The most audio of all clips of a request, in seconds; 0 for no limit.

    Raises:
        StatusError: INVALID_ARGUMENT if the request has more.
    """
    lengths = servable.clip_seconds(feeds, arrays)
    if max_seconds > 0 and sum(lengths) > max_seconds:
        raise invalid_argument(
            f"expected at most {max_seconds:g} s of audio in one request (--max_request_seconds). "
            f"Received: {sum(lengths):.6g} s. Send several requests."
        )
    if servable.gives_attention(fetches) and sum(length**2 for length in lengths) > MAX_ATTENTION_SECONDS**2:
        raise invalid_argument(
            f"expected a clip of at most {MAX_ATTENTION_SECONDS:g} s, or fewer clips, for a reply with attention. "
            f"Received: {len(lengths)} of {max(lengths):.6g} s."
        )


class Budget:
    """Memory that requests share while they are being read.

    Args:
        size: Bytes for all of them.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._left = size
        self._freed = threading.Condition()

    def take(self, size: int) -> bool:
        """Take some of the memory if there is enough; return whether there is."""
        with self._freed:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        """Give back what was taken."""
        with self._freed:
            self._left += size
            self._freed.notify_all()

    @contextlib.contextmanager
    def held(self, size: int, deadline: float | None) -> Iterator[None]:
        """Hold memory while the block runs; wait for it until the deadline.

        Raises:
            StatusError: INVALID_ARGUMENT if it is more than there is in all, DEADLINE_EXCEEDED if it does not become
                free in time.
        """
        if size > self.size:
            raise invalid_argument(
                f"expected a JSON document that needs at most {self.size >> 20} MiB when parsed. Received: one that "
                f"needs up to {size >> 20} MiB. Send fewer values, or use gRPC."
            )
        with self._freed:
            while size > self._left:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise deadline_exceeded("while the request waited for memory")
                self._freed.wait(left)
            self._left -= size
        try:
            yield
        finally:
            self.give(size)


def json_bytes(body: bytes) -> int:
    """Return the most memory that parsing a JSON document can take, without parsing it."""
    values = body.count(b",") + 1
    containers = body.count(b"[") + body.count(b"{")
    return 2 * len(body) + _NUMBER_BYTES * values + _CONTAINER_BYTES * containers
