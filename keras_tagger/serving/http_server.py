"""A small HTTP/1.1 server: one thread reads and writes all connections, a bounded pool answers whole requests.

A connection that sends slowly, or nothing, costs a socket and a few kilobytes and never a thread; it is closed when its
time is up, or when its place is needed. Keep-alive, `Expect: 100-continue`, chunked and gzip bodies are understood.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus

from keras_tagger.errors import ServingError
from keras_tagger.serving import log

MAX_HEAD_BYTES = 64 * 1024
MAX_CONNECTIONS = 512
HEAD_SECONDS = 15.0
# Of a body: a connection that brings less than this is too slow.
MIN_BYTES_PER_SECOND = 50_000
# What a compressed body may become: silence and repetition shrink a thousandfold, and so do attacks.
MAX_INFLATED_BYTES = 64 * 2**20
MAX_INFLATED_TIMES = 20
_CHUNK = 256 * 1024


@dataclass(frozen=True)
class HttpRequest:
    """A request that has arrived whole."""

    method: str
    path: str
    body: bytes
    deadline: float  # as time.monotonic
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HttpReply:
    """What is sent back."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class _BadRequest(Exception):  # noqa: N818
    """A request that is answered, and its connection closed, before it is whole."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class HttpServer:
    """Answers requests by a function, from `start` to `stop`.

    Args:
        host, port: address; port 0 takes a free one, and `port` then says which.
        handle: reply of a request; runs in one of `threads`.
        error: reply of a status and a text, for what goes wrong before and besides.
        timeout_seconds: from the arrival of the whole request to the reply.
        max_body_bytes: of a request; -1 for 1 GiB.
    """

    def __init__(
        self,
        host: str,
        port: int,
        handle: Callable[[HttpRequest], HttpReply],
        error: Callable[[int, str], HttpReply],
        threads: int,
        timeout_seconds: float = 30.0,
        max_body_bytes: int = -1,
    ) -> None:
        self.host = host
        self.port = port
        self._handle = handle
        self._error = error
        self._timeout = timeout_seconds
        self._max_body = max_body_bytes if max_body_bytes > 0 else 2**30
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest", daemon=True)
        self._server: asyncio.Server | None = None
        # Connections that wait for a request, oldest first; and how many requests are being answered.
        self._waiting: dict[asyncio.StreamWriter, float] = {}
        self._open = 0
        self._busy = 0
        self._stopping = False

    def start(self) -> None:
        """Listen.

        Raises:
            ServingError: the port is taken, or the address is none of this machine.
        """
        address = self.host.strip("[]")
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, self.port))
        except OSError as error:
            raise ServingError(
                f"expected a free port to listen on. Received: {self.host}:{self.port} ({error.strerror})"
            ) from None
        self.port = listener.getsockname()[1]
        self._thread.start()

        async def listen() -> asyncio.Server:
            return await asyncio.start_server(self._connection, sock=listener, limit=MAX_HEAD_BYTES, backlog=256)

        self._server = asyncio.run_coroutine_threadsafe(listen(), self._loop).result()

    def stop(self, grace_seconds: float) -> None:
        """Take no new requests, finish those that are being answered, and end."""
        if self._server is None:
            return
        asyncio.run_coroutine_threadsafe(self._drain(grace_seconds), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._server = None

    async def _drain(self, grace_seconds: float) -> None:
        assert self._server is not None
        self._stopping = True
        self._server.close()
        for writer in list(self._waiting):
            writer.close()
        end = time.monotonic() + grace_seconds
        while self._busy and time.monotonic() < end:
            await asyncio.sleep(0.02)
        # Their replies have been handed over; let them leave.
        await asyncio.sleep(0.02)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        if self._open > MAX_CONNECTIONS and self._waiting:
            # The one that has been silent longest gives way.
            longest = next(iter(self._waiting))
            del self._waiting[longest]
            longest.transport.abort()
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, asyncio.CancelledError):
            pass
        except Exception:
            log.error("connection failed")
        finally:
            self._open -= 1
            self._waiting.pop(writer, None)
            with contextlib.suppress(Exception):
                writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its reply; whether the connection stays open."""
        self._waiting[writer] = time.monotonic()
        try:
            method, path, version, headers = await asyncio.wait_for(self._head(reader), HEAD_SECONDS)
            body = await self._body(reader, writer, headers)
        except _BadRequest as error:
            await self._send(writer, self._error(error.status, str(error)), keep=False)
            return False
        except (asyncio.TimeoutError, TimeoutError):
            await self._send(
                writer, self._error(408, "expected a whole request in time. Received: a part."), keep=False
            )
            return False
        finally:
            self._waiting.pop(writer, None)
        keep = headers.get("connection", "").lower() != "close" and version != "HTTP/1.0" and not self._stopping
        self._busy += 1
        try:
            request = HttpRequest(method, path, body, time.monotonic() + self._timeout, headers)
            reply = await self._answer(request)
            await self._send(writer, reply, keep=keep and not self._stopping, bodiless=method == "HEAD")
        finally:
            self._busy -= 1
        return keep and not self._stopping

    async def _answer(self, request: HttpRequest) -> HttpReply:
        future = self._loop.run_in_executor(self._pool, self._handle, request)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self._timeout + 1.0)
        except (asyncio.TimeoutError, TimeoutError):
            return self._error(504, f"Timed out after {self._timeout:g} s.")

    async def _head(self, reader: asyncio.StreamReader) -> tuple[str, str, str, dict[str, str]]:
        try:
            data = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            text = f"expected at most {MAX_HEAD_BYTES} bytes of headers. Received: more."
            raise _BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text) from None
        lines = data.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1.") or not parts[0].isalpha():
            raise _BadRequest(HTTPStatus.BAD_REQUEST, "expected an HTTP/1.1 request. Received: something else.")
        headers: dict[str, str] = {}
        for line in lines[1:-2]:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise _BadRequest(HTTPStatus.BAD_REQUEST, "expected headers of the form Name: value.")
            key = name.lower()
            if key in headers and key in ("content-length", "transfer-encoding"):
                raise _BadRequest(HTTPStatus.BAD_REQUEST, f"expected one header {key}. Received: several.")
            headers[key] = value.strip()
        return parts[0].upper(), parts[1], parts[2], headers

    async def _body(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]) -> bytes:
        chunked = headers.get("transfer-encoding", "").lower()
        length_text = headers.get("content-length")
        if chunked not in ("", "chunked") or (chunked and length_text is not None):
            raise _BadRequest(HTTPStatus.BAD_REQUEST, "expected Content-Length, or Transfer-Encoding: chunked.")
        if not chunked and length_text is None:
            return b""
        length = -1
        if length_text is not None:
            if not (length_text.isascii() and length_text.isdigit() and len(length_text) < 20):
                raise _BadRequest(HTTPStatus.BAD_REQUEST, "expected a number as Content-Length.")
            length = int(length_text)
            self._check_length(length)
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        seconds = HEAD_SECONDS + (length if length >= 0 else self._max_body) / MIN_BYTES_PER_SECOND
        reading = self._chunks(reader) if chunked else self._bytes(reader, length)
        data = await asyncio.wait_for(reading, seconds)
        encoding = headers.get("content-encoding", "").lower()
        if encoding in ("", "identity"):
            return data
        if encoding not in ("gzip", "deflate"):
            text = "expected Content-Encoding gzip or none. Received: another."
            raise _BadRequest(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
        return await self._loop.run_in_executor(self._pool, _inflated, data)

    def _check_length(self, length: int) -> None:
        if length > self._max_body:
            text = f"expected a body of at most {self._max_body} bytes. Received: {length}."
            raise _BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)

    async def _bytes(self, reader: asyncio.StreamReader, length: int) -> bytes:
        parts, left = [], length
        while left:
            # Nothing is set aside for what is only announced.
            part = await asyncio.wait_for(reader.read(min(left, _CHUNK)), HEAD_SECONDS)
            if not part:
                raise asyncio.IncompleteReadError(b"", left)
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        parts, total = [], 0
        while True:
            line = await asyncio.wait_for(reader.readuntil(b"\r\n"), HEAD_SECONDS)
            try:
                size = int(line.split(b";")[0].strip() or b"x", 16)
            except ValueError:
                size = -1
            if size < 0:
                raise _BadRequest(HTTPStatus.BAD_REQUEST, "expected the size of a chunk in hexadecimal.")
            if size == 0:
                break
            total += size
            self._check_length(total)
            parts.append(await self._bytes(reader, size))
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return b"".join(parts)

    async def _send(self, writer: asyncio.StreamWriter, reply: HttpReply, keep: bool, bodiless: bool = False) -> None:
        phrase = HTTPStatus(reply.status).phrase if reply.status in set(HTTPStatus) else "Error"
        lines = [
            f"HTTP/1.1 {reply.status} {phrase}",
            f"Content-Type: {reply.content_type}",
            f"Content-Length: {len(reply.body)}",
            f"Connection: {'keep-alive' if keep else 'close'}",
            *(f"{name}: {value}" for name, value in reply.headers),
        ]
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        if not bodiless:
            writer.write(reply.body)
        # A client that does not read its reply does not keep it here for ever.
        await asyncio.wait_for(writer.drain(), HEAD_SECONDS + len(reply.body) / MIN_BYTES_PER_SECOND)


def _inflated(data: bytes) -> bytes:
    """A gzip or zlib body; refused when it grows beyond what audio could."""
    limit = max(MAX_INFLATED_BYTES, MAX_INFLATED_TIMES * len(data))
    try:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        found = inflater.decompress(data, limit)
    except zlib.error:
        raise _BadRequest(HTTPStatus.BAD_REQUEST, "expected a gzip body. Received: one that is not.") from None
    if inflater.unconsumed_tail:
        text = f"expected a compressed body of at most {limit} bytes. Received: more."
        raise _BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
    if not inflater.eof:
        raise _BadRequest(HTTPStatus.BAD_REQUEST, "expected a whole gzip body. Received: a part.")
    return found
