"""Compressed replies over HTTP, for clients that accept them."""

from __future__ import annotations

import dataclasses
import gzip
import re
import zlib
from collections.abc import Callable, Iterator

from keras_tagger.serving.http_server import HttpReply, HttpRequest

# Smaller replies would hardly become shorter.
MIN_BYTES = 1024
# Numbers as text become half as long at any level, and this one is the fastest.
LEVEL = 1
_ACCEPTS = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q\s*=\s*(?P<q>[\d.]+)\s*)?(?=,|$)", re.IGNORECASE)


def compressed(handle: Callable[[HttpRequest], HttpReply]) -> Callable[[HttpRequest], HttpReply]:
    """Return a function that answers as `handle` does, with gzip if the client accepts it."""

    def answer(request: HttpRequest) -> HttpReply:
        reply = handle(request)
        found = _ACCEPTS.search(request.headers.get("Accept-Encoding", ""))
        if found is None or not float(found["q"] or 1.0):
            return reply
        body: bytes | Iterator[bytes]
        if not isinstance(reply.body, bytes):
            body = _by_chunk(reply.body)
        elif len(reply.body) >= MIN_BYTES:
            body = gzip.compress(reply.body, LEVEL, mtime=0)
        else:
            return reply
        headers = (*reply.headers, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
        return dataclasses.replace(reply, body=body, headers=headers)

    return answer


def _by_chunk(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Compress chunks so that each can be read when it arrives."""
    deflater = zlib.compressobj(LEVEL, wbits=zlib.MAX_WBITS | 16)
    for chunk in chunks:
        yield deflater.compress(chunk) + deflater.flush(zlib.Z_SYNC_FLUSH)
    yield deflater.flush()
