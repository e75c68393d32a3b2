"""HTTP itself: slow, odd and many connections; TLS and other files that flags name; limits."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import re
import socket
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_tagger.serving import http_server
from keras_tagger.serving.server import Server
from raw_requests import Raw, as_numpy, refusal, wait_until
from rest_requests import ask

PATH = "/v1/models/m:predict"
BODY = json.dumps({"inputs": {"words": ["a"], "counts": [3]}}).encode()
ANSWER = {"outputs": {"joined": ["a:3"], "product": [9]}}
WORDS = {"words": np.array([b"a"], object), "counts": np.array([3], np.int32)}


@pytest.fixture(scope="module")
def server(words_base: Path) -> Any:
    with Server(words_base, "m", port=0, rest_api_port=-1) as server:
        yield server


def exchange(port: int, *parts: bytes, seconds: float = 20.0) -> bytes:
    """All that comes back for what is sent, until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        for part in parts:
            connection.sendall(part)
        received = b""
        while part := connection.recv(65536):
            received += part
    return received


def head(*lines: str) -> bytes:
    return "\r\n".join([f"POST {PATH} HTTP/1.1", "Host: x", "Connection: close", *lines, "", ""]).encode()


GET = b"GET /v1/models/m HTTP/1.1\r\nConnection: close\r\n"
IN_CHUNKS = head("Transfer-Encoding: chunked")
CHUNKED = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:])) + b"0\r\n\r\n"
# Of what is not HTTP/1.1, the library says no more than 400, or closes the connection.
ODD = {
    "chunks": (IN_CHUNKS + CHUNKED, 200, ANSWER),
    "HTTP/1.0": (b"GET /v1/models/m HTTP/1.0\r\n\r\n", 200, None),
    "a query": (GET.replace(b" HTTP", b"?x=1 HTTP") + b"Host: x\r\n\r\n", 200, None),
    "an absolute address": (GET.replace(b" /", b" http://x/") + b"Host: x\r\n\r\n", 200, None),
    "no host": (GET + b"\r\n", 400, "expected one Host header. Received: 0."),
    "two hosts": (GET + b"Host: x\r\nHost: y\r\n\r\n", 400, "expected one Host header. Received: 2."),
    "NUL in a header": (head("X: a\0b"), 400, b""),
    "NUL in the name of a header": (head("X\0: a"), 400, b""),
    "a space before the colon": (head("Content-Length : 1"), 400, b""),
    "a folded header": (head("X: a\r\n b"), 400, b""),
    "a length with a sign": (head("Content-Length: +1"), 400, b""),
    "a chunk size with a sign": (IN_CHUNKS + b"+5\r\nhello\r\n0\r\n\r\n", 400, b""),
    "a chunk size with 0x": (IN_CHUNKS + b"0x5\r\nhello\r\n0\r\n\r\n", 400, b""),
    "a chunk size with an underscore": (IN_CHUNKS + b"0_5\r\nhello\r\n0\r\n\r\n", 400, b""),
    "a chunk size after a space": (IN_CHUNKS + b" 5\r\nhello\r\n0\r\n\r\n", 400, b""),
    "a chunk size without a carriage return": (IN_CHUNKS + b"5\nhello\r\n0\r\n\r\n", 400, b""),
    "an encoding besides chunks": (head("Transfer-Encoding: gzip, chunked"), 400, b""),
    "no request": (b"rubbish\r\n\r\n", 400, b""),
    "TLS": (b"\x16\x03\x01\x02\x00\r\n\r\n", 400, b""),
    "a header without a colon": (head("nonsense"), 400, b""),
    "two lengths": (head("Content-Length: 1", "Content-Length: 2"), 400, b""),
    "length and chunks": (head("Content-Length: 1", "Transfer-Encoding: chunked"), 400, b""),
    "a negative length": (head("Content-Length: -1"), 400, b""),
    "a length of a thousand digits": (head(f"Content-Length: {'9' * 1000}"), 413, "expected a body of at most"),
    "an announced terabyte": (head(f"Content-Length: {10**12}"), 413, "expected a body of at most"),
    "a chunk of a terabyte": (IN_CHUNKS + b"ffffffffff\r\n", 400, b""),
    "a chunk of no size": (IN_CHUNKS + b"xyz\r\n", 400, b""),
    "long headers": (head("X: " + "x" * 100_000), None, b""),
    "an unknown encoding": (
        head("Content-Encoding: br", "Content-Length: 1") + b"x",
        415,
        "expected Content-Encoding gzip or deflate. Received: 'br'.",
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_requests(server: Any, case: str) -> None:
    sent, status, expected = ODD[case]
    received = exchange(server.rest_api_port, sent)
    first, _, body = received.partition(b"\r\n\r\n")
    if status is None:
        assert received == b""
    else:
        assert first.split(b"\r\n")[0].split(b" ")[1] == str(status).encode(), received
    if isinstance(expected, bytes):
        assert body == expected
    elif isinstance(expected, str):
        assert expected in json.loads(body)["error"]
    elif expected is not None:
        assert json.loads(body) == expected


def test_a_compressed_terabyte_is_not_unpacked(server: Any) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(80)) + packer.flush()
    assert len(bomb) < 100_000
    status, reply = ask(server.rest_api_port, "POST", PATH, bomb, {"Content-Encoding": "gzip"})
    assert (status, reply["error"]) == (413, f"expected a compressed body of at most {2**26} bytes. Received: more.")


def test_a_connection_is_kept_and_told_to_go_on(server: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=20)
    for _ in range(3):
        connection.request("POST", PATH, BODY)
        assert json.loads(connection.getresponse().read()) == ANSWER
    first = connection.sock
    connection.request("GET", "/v1/models/m")
    connection.getresponse().read()
    assert connection.sock is first
    connection.close()
    received = exchange(server.rest_api_port, head(f"Content-Length: {len(BODY)}", "Expect: 100-continue"), BODY)
    assert received.startswith(b"HTTP/1.1 100 (Continue)\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_connections_that_say_nothing_or_little_take_no_place(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than there are places: the longest silent gives way, and requests are answered all the while."""
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 50)
    beginnings = (b"", b"POST /v1/mo", head("Content-Length: 1000")[:-2], head("Content-Length: 1000") + b"{")
    slow = []
    for index in range(120):
        connection = socket.create_connection(("127.0.0.1", server.rest_api_port), timeout=20)
        connection.sendall(beginnings[index % 4])
        slow.append(connection)
        if index % 20 == 19:
            begun = time.monotonic()
            assert ask(server.rest_api_port, "POST", PATH, BODY) == (200, ANSWER)
            assert time.monotonic() - begun < 5
    closed = sum(1 for connection in slow if is_closed(connection))
    assert closed >= 60
    for connection in slow:
        connection.close()


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_request_that_arrives_too_slowly_is_ended(words_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.3)
    with Server(words_base, "m", port=0, rest_api_port=-1) as server:
        assert exchange(server.rest_api_port, b"POST /v1") == b""
        assert exchange(server.rest_api_port, b"") == b""
        for sent in (head("Content-Length: 1000") + b"{", IN_CHUNKS + b"5\r\n{"):
            received = exchange(server.rest_api_port, sent)
            assert b" 408 " in received.split(b"\r\n")[0]
            assert b"expected a complete request in time" in received


def test_a_body_that_arrives_steadily_but_too_slowly_is_ended(
    words_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.5)
    with Server(words_base, "m", port=0, rest_api_port=-1) as server:
        address = ("127.0.0.1", server.rest_api_port)
        with socket.create_connection(address, timeout=20) as connection:
            begun = time.monotonic()
            connection.sendall(head("Content-Length: 1000000"))
            connection.settimeout(0.1)
            received = b""
            while not received and time.monotonic() - begun < 10:
                connection.sendall(b" ")
                with contextlib.suppress(TimeoutError):
                    received = connection.recv(65536)
        assert b" 408 " in received.split(b"\r\n")[0]
        assert time.monotonic() - begun < 5


def test_a_reply_that_is_not_read_does_not_keep_its_connection(
    echo_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(http_server, "MIN_BYTES_PER_SECOND", 10**9)
    body = json.dumps({"signature_name": "string", "inputs": ["x" * 1000] * 20_000}).encode()
    with Server(echo_base, "m", port=0, rest_api_port=-1) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", server.rest_api_port))
        connection.sendall(head(f"Content-Length: {len(body)}") + body)
        time.sleep(3)
        received = 0
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(2**20):
                received += len(part)
    assert received < len(body)


def test_a_request_that_takes_too_long(tagger_base: Path, tmp_path: Path) -> None:
    with Server(tagger_base, "m", port=0, rest_api_port=-1, rest_api_timeout_in_ms=300, workers=1) as server:
        body = {"signature_name": "wait", "inputs": {"path": str(tmp_path / "go")}}
        status, reply = ask(server.rest_api_port, "POST", PATH, body)
        assert (status, set(reply)) == (504, {"error"})
        # The deadline stops the graph, and so frees the one place.
        wait_until(lambda: ask(server.rest_api_port, "POST", PATH, {"instances": [[1.0]]})[0] == 200, 20)


def test_a_server_that_stops_finishes_its_requests_and_closes_idle_connections(
    tagger_base: Path, tmp_path: Path
) -> None:
    server = Server(tagger_base, "m", port=0, rest_api_port=-1).start()
    body = {"signature_name": "wait", "inputs": {"path": str(tmp_path / "go")}}
    with (
        concurrent.futures.ThreadPoolExecutor(2) as pool,
        socket.create_connection(("127.0.0.1", server.rest_api_port), timeout=20) as idle,
    ):
        running = pool.submit(ask, server.rest_api_port, "POST", PATH, body)
        time.sleep(0.5)
        stopped = pool.submit(server.stop, 30)
        assert idle.recv(1) == b""
        assert refused(server.rest_api_port)
        assert not running.done()
        (tmp_path / "go").touch()
        assert running.result(timeout=20)[0] == 200
        stopped.result(timeout=20)


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=20).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_server_does_not_wait_longer_than_its_grace(tagger_base: Path, tmp_path: Path) -> None:
    server = Server(tagger_base, "m", port=0, rest_api_port=-1).start()
    body = {"signature_name": "wait", "inputs": {"path": str(tmp_path / "go")}}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = pool.submit(ask, server.rest_api_port, "POST", PATH, body)
        time.sleep(0.5)
        begun = time.monotonic()
        stopped = pool.submit(server.stop, 0.2)
        with pytest.raises((OSError, http.client.HTTPException)):
            running.result(timeout=20)
        assert time.monotonic() - begun < 5
        (tmp_path / "go").touch()
        stopped.result(timeout=20)


def test_head_has_no_body(server: Any) -> None:
    received = exchange(server.rest_api_port, b"HEAD /v1/models/m HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    first, _, body = received.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert int(re.search(rb"Content-Length: (\d+)", first)[1]) > 0
    assert body == b""


def test_ipv6(words_base: Path) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("expected a machine with IPv6")
    with Server(words_base, "m", port=0, rest_api_port=-1, host="[::1]") as server:
        connection = http.client.HTTPConnection("::1", server.rest_api_port, timeout=20)
        connection.request("POST", PATH, BODY)
        assert json.loads(connection.getresponse().read()) == ANSWER
        connection.close()


def test_cors(words_base: Path) -> None:
    with Server(words_base, "m", port=0, rest_api_port=-1, rest_api_enable_cors_support=True) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=20)
        connection.request("OPTIONS", PATH, headers={"Origin": "https://example.org"})
        reply = connection.getresponse()
        reply.read()
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (200, "*")


def test_a_limit_of_messages(words_base: Path) -> None:
    with Server(words_base, "m", port=0, rest_api_port=-1, max_message_bytes=1000) as server:
        long = {"words": np.array([b"a" * 2000], object), "counts": np.array([3], np.int32)}
        assert refusal(Raw(server.port).predict, long)[0] == "RESOURCE_EXHAUSTED"
        assert as_numpy(Raw(server.port).predict(WORDS))["product"].tolist() == [9]
        assert ask(server.rest_api_port, "POST", PATH, b" " * 2000 + BODY)[0] == 413


@pytest.mark.parametrize(("text", "path"), [("prometheus_config { enable: true path: '/m' }", "/m"), ("", None)])
def test_monitoring_config(words_base: Path, tmp_path: Path, text: str, path: str | None) -> None:
    config = tmp_path / "monitoring.config"
    config.write_text(text)
    with Server(words_base, "m", port=0, rest_api_port=-1, monitoring_config_file=str(config)) as server:
        assert ask(server.rest_api_port, "GET", "/monitoring/prometheus/metrics", raw=True)[0] == 404
        if path:
            assert ask(server.rest_api_port, "GET", path, raw=True)[0] == 200
