"""The HTTP/1.1 server of the REST API: Tornado on one thread, a bounded pool of threads for the answers.

A slow or silent connection costs a socket and a few kilobytes, never a thread. It is closed when it times out, or
when its slot is needed. Tornado parses requests and limits their headers; what it leaves to the application is here:
the Host header, limits on bodies, the pace at which a body must arrive, and the number of connections.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http
import queue
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tornado import httputil
from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httpserver import HTTPServer

from keras_tagger.serving import log
from keras_tagger.serving.addresses import bind, resolve
from keras_tagger.serving.limits import Budget
from keras_tagger.serving.scheduler import Call

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 2**28
# Bodies that are arriving or waiting, of all connections.
MAX_BODIES_BYTES = 2**29
# Requests that may wait for a thread.
MAX_WAITING = 64
# Requests for status, metadata and metrics are answered however many others wait.
CONTROL_THREADS = 2
# Requests whose body or reply is a stream each keep a thread.
MAX_STREAMS = 64
MAX_STREAM_BYTES = 2**40
STREAM_CHUNKS = 4
MAX_CONNECTIONS = 512
# For the headers, for an idle connection, and before the pace of a body or a reply is judged.
HEAD_SECONDS = 15.0
MIN_BYTES_PER_SECOND = 50_000
# Silence and repetition compress a thousandfold, and so do attacks.
MAX_INFLATED_BYTES = 64 * 2**20
MAX_INFLATED_RATIO = 20
_ENCODINGS = ("", "identity", "gzip", "deflate")


@dataclasses.dataclass(frozen=True)
class HttpRequest:
    """A request that has arrived completely.

    Attributes:
        method: HTTP method, in upper case.
        path: Path and query, as sent.
        body: Decompressed body; empty if `chunks` has it.
        call: When the reply is due, and whether the client still waits.
        headers: Headers; names may have any case.
        end_chunks: Ends `chunks` while they are waited for.
        chunks: The body as it arrives, on a path given to `HttpServer.stream`.
    """

    method: str
    path: str
    body: bytes
    call: Call
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    end_chunks: Callable[[], None] = lambda: None
    chunks: Iterator[bytes] = dataclasses.field(default_factory=lambda: iter(()))


@dataclasses.dataclass(frozen=True)
class HttpReply:
    """A reply: status, body and headers. A body that is an iterator is sent in chunks, as they come."""

    status: int
    body: bytes | Iterator[bytes]
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class _HttpError(Exception):
    """An error in the HTTP of a request, with the status that answers it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class HttpServer:
    """An HTTP server that answers requests by calling a function, from `start` to `stop`.

    Args:
        host: Address or host name to listen on.
        port: TCP port; 0 picks a free one, and the attribute `port` then names it.
        handle: Returns the reply to a request. Called in one of `threads` threads.
        error: Returns the reply for a status and an error text.
        threads: Number of requests answered at a time.
        timeout_seconds: Time from the arrival of the whole request to the reply; later ones get a 504.
        max_body_bytes: Largest body accepted; -1 means 256 MiB.
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
        self.error = error
        self.max_body_bytes = max_body_bytes if max_body_bytes > 0 else MAX_BODY_BYTES
        self._handle = handle
        self._timeout = timeout_seconds
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._control_pool = ThreadPoolExecutor(CONTROL_THREADS, thread_name_prefix="rest-control")
        self._stream_pool = ThreadPoolExecutor(MAX_STREAMS, thread_name_prefix="rest-stream")
        self._streams: list[re.Pattern[str]] = []
        self._active = self._active_streams = 0
        self.bodies = Budget(MAX_BODIES_BYTES)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest", daemon=True)
        self._listener: _Listener | None = None

    def stream(self, pattern: str) -> None:
        """Pass the bodies of requests to these paths on as they arrive, as `HttpRequest.chunks`."""
        self._streams.append(re.compile(pattern))

    def streams(self, path: str) -> bool:
        """Return whether the body of a request to a path is passed on as it arrives."""
        return any(pattern.fullmatch(path.partition("?")[0]) for pattern in self._streams)

    def start(self) -> None:
        """Start listening.

        Raises:
            ServingError: If the port is taken or the address does not belong to this machine.
        """
        listening = bind(resolve(self.host), self.port)
        listening.setblocking(False)
        listening.listen(256)
        self.port = listening.getsockname()[1]
        self._thread.start()

        async def listen() -> _Listener:
            listener = _Listener(
                self,
                chunk_size=256 * 1024,
                max_header_size=MAX_HEAD_BYTES,
                idle_connection_timeout=HEAD_SECONDS,
                max_body_size=self.max_body_bytes,
            )
            listener.add_sockets([listening])
            return listener

        self._listener = asyncio.run_coroutine_threadsafe(listen(), self._loop).result()

    def stop(self, grace_seconds: float) -> None:
        """Refuse new requests, finish running ones within `grace_seconds`, and close all connections."""
        if self._listener is None:
            return
        asyncio.run_coroutine_threadsafe(self._listener.drain(grace_seconds), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for pool in (self._pool, self._control_pool, self._stream_pool):
            pool.shutdown(wait=False, cancel_futures=True)
        self._listener = None

    async def answer(self, request: HttpRequest, encoding: str, streamed: bool) -> HttpReply:
        """Return the reply to a request that has arrived, or an error once it times out."""
        request.call.deadline = None if streamed else time.monotonic() + self._timeout
        if streamed:
            if self._active_streams >= MAX_STREAMS:
                return self.error(429, "The server is busy: too many streams are open.")
            self._active_streams += 1
            try:
                return await self._loop.run_in_executor(self._stream_pool, self._answer, request, encoding)
            finally:
                self._active_streams -= 1
        control = request.method in ("GET", "HEAD", "OPTIONS")
        if not control and self._active >= self._threads + MAX_WAITING:
            return self.error(429, "The server is busy: too many requests wait.")
        self._active += not control
        pool = self._control_pool if control else self._pool
        future = self._loop.run_in_executor(pool, self._answer, request, encoding)
        future.add_done_callback(lambda _: self._finished(control))
        try:
            return await asyncio.wait_for(asyncio.shield(future), self._timeout + 1.0)
        except (asyncio.TimeoutError, TimeoutError):
            return self.error(504, f"Timed out after {self._timeout:g} s.")

    def _finished(self, control: bool) -> None:
        self._active -= not control

    async def next_chunk(self, chunks: Iterator[bytes]) -> bytes | None:
        """Return the next chunk of a reply; None at its end."""
        return await self._loop.run_in_executor(self._stream_pool, next, chunks, None)

    def _answer(self, request: HttpRequest, encoding: str) -> HttpReply:
        try:
            if encoding in ("gzip", "deflate"):
                request = dataclasses.replace(request, body=_inflate(request.body))
            return self._handle(request)
        except _HttpError as error:
            return self.error(error.status, str(error))
        except Exception:
            log.error("request failed", method=request.method)
            return self.error(500, "Internal error; see the server's log.")


class _Listener(HTTPServer):
    """Tornado's server with a limit on connections: the one that has waited longest gives way to a new one."""

    def initialize(self, server: HttpServer, **options: Any) -> None:  # type: ignore[override]
        super().initialize(lambda request: None, **options)
        self._owner = server
        # Open connections, in the order of their last request; True while the server waits for a request.
        self._open: dict[HTTP1ServerConnection, bool] = {}
        self._answers: set[asyncio.Task[None]] = set()
        self.stopping = False

    def start_request(self, server_conn: Any, request_conn: Any) -> httputil.HTTPMessageDelegate:
        self._open.pop(server_conn, None)
        if len(self._open) >= MAX_CONNECTIONS:
            longest = next((connection for connection, waiting in self._open.items() if waiting), None)
            if longest is not None:
                del self._open[longest]
                longest.stream.close()
        self._open[server_conn] = True
        if self.stopping:
            server_conn.stream.close()
        return _Exchange(self._owner, self, server_conn, request_conn)

    def on_close(self, server_conn: Any) -> None:
        super().on_close(server_conn)
        self._open.pop(server_conn, None)

    def begin_answer(self, connection: HTTP1ServerConnection, exchange: _Exchange) -> None:
        """Answer a request in a task."""
        self._open[connection] = False
        task = asyncio.get_running_loop().create_task(exchange.answer())
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def drain(self, grace_seconds: float) -> None:
        """Stop listening, close waiting connections, and wait until the answers have been sent."""
        self.stopping = True
        self.stop()
        for connection, waiting in list(self._open.items()):
            if waiting:
                connection.stream.close()
        if self._answers:
            await asyncio.wait(set(self._answers), timeout=grace_seconds)
        await self.close_all_connections()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


class _Exchange(httputil.HTTPMessageDelegate):
    """One request as it arrives, and its reply."""

    def __init__(
        self, server: HttpServer, listener: _Listener, server_connection: HTTP1ServerConnection, connection: Any
    ) -> None:
        self._server = server
        self._listener = listener
        self._server_connection = server_connection
        self._connection: HTTP1Connection = connection
        self._loop = asyncio.get_running_loop()
        self._request = HttpRequest("", "", b"", Call())
        self._encoding = ""
        self._body = bytearray()
        self._taken = 0
        self._received = 0
        self._chunks: _Chunks | None = None
        self._answered = False
        self._started = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> None:
        path = start_line.path
        if path.startswith("http://"):
            path = "/" + path.split("/", 3)[-1]
        self._request = HttpRequest(start_line.method, path, b"", Call(), headers)
        self._encoding = headers.get("Content-Encoding", "").lower()
        length = headers.get("Content-Length", "0")
        hosts = headers.get_list("Host")
        if len(hosts) > 1 or (not hosts and start_line.version == "HTTP/1.1"):
            self._send(self._server.error(400, f"expected one Host header. Received: {len(hosts)}."))
        elif self._encoding not in _ENCODINGS:
            received = repr(self._encoding[:40])
            self._send(self._server.error(415, f"expected Content-Encoding gzip or deflate. Received: {received}."))
        elif self._server.streams(path):
            self._chunks = _Chunks(self._loop)
            self._connection.set_max_body_size(MAX_STREAM_BYTES)
            self._request = dataclasses.replace(self._request, chunks=self._chunks, end_chunks=self._chunks.end)
            self._begin_answer()
        elif length.isdecimal() and (len(length) > 18 or int(length) > self._server.max_body_bytes):
            # Tornado would say no more than 400. It does so itself if chunks add up to more.
            text = f"expected a body of at most {self._server.max_body_bytes} bytes. Received: {length[:20]}."
            self._send(self._server.error(413, text))
        else:
            self._started = self._loop.time()
            self._check_pace()

    async def data_received(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._answered:
            return
        if self._chunks is not None:
            await self._chunks.put(chunk)
        elif self._server.bodies.take(len(chunk)):
            self._taken += len(chunk)
            self._body += chunk
        else:
            self._send(self._server.error(503, "The server is busy: it is receiving too much."))

    def finish(self) -> None:
        self._stop_timer()
        if self._chunks is not None:
            self._chunks.end()
        else:
            self._begin_answer()

    def on_connection_close(self) -> None:
        self._stop_timer()
        self._body.clear()
        self._give_back()
        self._request.call.cancel()
        if self._chunks is not None:
            self._chunks.end()

    def _begin_answer(self) -> None:
        self._connection.set_close_callback(self._request.call.cancel)
        self._listener.begin_answer(self._server_connection, self)

    def _give_back(self) -> None:
        self._server.bodies.give(self._taken)
        self._taken = 0

    async def answer(self) -> None:
        """Answer the request, and wait until the reply has been sent or the client is too slow to read it."""
        request = dataclasses.replace(self._request, body=bytes(self._body))
        self._body.clear()
        try:
            reply = await self._server.answer(request, self._encoding, self._chunks is not None)
        finally:
            self._give_back()
        del request
        if isinstance(reply.body, bytes):
            self._send(reply)
            await self._drained(len(reply.body))
            return
        self._write_head(reply, ("Transfer-Encoding", "chunked"))
        try:
            while (chunk := await self._server.next_chunk(reply.body)) is not None:
                if self._connection.stream.closed():
                    return
                self._connection.write(chunk)
                await self._drained(len(chunk))
        except Exception:
            # The head has been sent: only the missing end can tell the client.
            log.error("reply broken off", path=self._request.path)
            self._connection.stream.close()
            return
        finally:
            self._ignore_rest()
        self._connection.finish()

    def _ignore_rest(self) -> None:
        """Drop what still arrives of a request that has its reply."""
        self._answered = True
        self._body.clear()
        self._give_back()
        if self._chunks is not None:
            self._chunks.abandon()

    async def _drained(self, size: int) -> None:
        stream = self._connection.stream
        end = self._loop.time() + HEAD_SECONDS + size / MIN_BYTES_PER_SECOND
        while stream.writing():
            if self._loop.time() >= end:
                stream.close()
            await asyncio.sleep(0.02)

    def _check_pace(self) -> None:
        """Refuse the request if its body arrives too slowly; else look again when it would be."""
        due = self._started + HEAD_SECONDS + self._received / MIN_BYTES_PER_SECOND
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._check_pace)
        else:
            self._send(self._server.error(408, "expected a complete request in time. Received: only part of it."))

    def _send(self, reply: HttpReply) -> None:
        self._stop_timer()
        self._ignore_rest()
        if self._connection.stream.closed():
            return
        assert isinstance(reply.body, bytes)
        length = ("Content-Length", str(len(reply.body)))
        self._write_head(reply, length, body=b"" if self._request.method == "HEAD" else reply.body)
        self._connection.finish()

    def _write_head(self, reply: HttpReply, *more: tuple[str, str], body: bytes = b"") -> None:
        headers = httputil.HTTPHeaders({"Content-Type": reply.content_type})
        for name, value in (*more, *reply.headers):
            headers.add(name, value)
        if self._listener.stopping:
            headers["Connection"] = "close"
        start_line = httputil.ResponseStartLine("HTTP/1.1", reply.status, _phrase(reply.status))
        self._connection.write_headers(start_line, headers, body)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Chunks(Iterator[bytes]):
    """The body of a request as it arrives: written by the event loop, read by a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(STREAM_CHUNKS)
        self._abandoned = False

    async def put(self, chunk: bytes) -> None:
        """Add a chunk; wait until earlier ones have been read."""
        await self._room.acquire()
        if self._abandoned:
            self._room.release()
        else:
            self._queue.put(chunk)

    def abandon(self) -> None:
        """Drop all further chunks, as nobody reads them."""
        self._abandoned = True
        self._room.release()

    def end(self) -> None:
        """Add the end."""
        self._queue.put(None)

    def __next__(self) -> bytes:
        chunk = self._queue.get()
        if chunk is None:
            self._queue.put(None)
            raise StopIteration
        self._loop.call_soon_threadsafe(self._room.release)
        return chunk


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        # 499, which TensorFlow Serving uses for a cancelled request, is not a registered status.
        return "Error"


def _inflate(data: bytes) -> bytes:
    """Decompress a gzip or zlib body; refuse one that grows beyond what audio could."""
    limit = max(MAX_INFLATED_BYTES, MAX_INFLATED_RATIO * len(data))
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        found = inflater.decompress(data, limit)
    except zlib.error:
        raise _HttpError(400, "expected a gzip body. Received: data that is not gzip.") from None
    if inflater.unconsumed_tail:
        raise _HttpError(413, f"expected a compressed body of at most {limit} bytes. Received: more.")
    if not inflater.eof:
        raise _HttpError(400, "expected a complete gzip body. Received: only part of it.")
    return found
