"""Clients of load_test.py, in their own process: `python tools/load_client.py PLAN.json`.

Requests are prepared as bytes, so that neither TensorFlow nor the encoding of tensors is measured. Closed loop: each
worker sends a request when it has its reply. Open loop: requests arrive at random times (Poisson) whether or not
earlier ones have been answered. Latency counts from the arrival, so a server that stalls is charged for the requests
that arrive meanwhile.

The plan is JSON: kind (grpc, rest), address, path, requests (files), weights, mode (closed, open), workers, seconds,
warmup_seconds, rate (requests per second, open loop), seed, start (time.time). The output is JSON: latencies (seconds,
of requests answered within the measured time), failures (counts by text), seconds. Two more fields are optional:
deadline (seconds from its arrival until a request has failed, 120), and abandon (whether a closed loop gives up the
requests that are under way at its end, which do not count, instead of waiting for them; false). In an open loop, what
this process could not send before its deadline fails with the text NOT_SENT: then the client is the limit.
"""

from __future__ import annotations

import collections
import http.client
import itertools
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any, Protocol

# Connections of an open loop: over gRPC each carries many requests, over HTTP one at a time.
GRPC_CONNECTIONS, REST_CONNECTIONS = 4, 64
NOT_SENT = "NOT_SENT: the client was too busy."


class Sender(Protocol):
    """A connection that sends one request at a time."""

    def send(self, body: bytes) -> str | None:
        """Send a request; return None if it succeeds, else the error."""


class GrpcSender:
    """Sends over gRPC, on its own connection."""

    def __init__(self, address: str, path: str, deadline: float) -> None:
        import grpc

        options = (
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        )
        self._error, self._ok = grpc.RpcError, grpc.StatusCode.OK
        self._deadline = deadline
        self._call = grpc.insecure_channel(address, options=options).unary_unary(path)

    def send(self, body: bytes) -> str | None:
        """Make one call."""
        try:
            self._call(body, timeout=self._deadline)
        except self._error as error:
            return _text(error)
        return None

    def start(self, body: bytes, seconds: float, done: Callable[[str | None], None]) -> None:
        """Make a call that may take so long without waiting for it; `done` gets None if it succeeds, else the error."""
        call = self._call.future(body, timeout=seconds)
        call.add_done_callback(lambda call: done(None if call.code() is self._ok else _text(call)))


def _text(call: Any) -> str:
    return f"{call.code().name}: {call.details()}"[:200]


class RestSender:
    """Sends over HTTP, on a persistent connection."""

    def __init__(self, address: str, path: str, deadline: float) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=deadline)
        self._path = path

    def send(self, body: bytes) -> str | None:
        """Make one POST; if the server has closed the connection, the next one opens it again."""
        try:
            self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return type(error).__name__
        return None if response.status == 200 else f"{response.status}: {text[:200]!r}"


SENDERS: dict[str, Any] = {"grpc": GrpcSender, "rest": RestSender}


def sender_of(plan: dict[str, Any]) -> Sender:
    """Return a sender for a plan."""
    return SENDERS[plan["kind"]](plan["address"], plan["path"], plan.get("deadline", 120))


class Measured:
    """Latencies and failures within the measured time. Thread-safe."""

    def __init__(self, begin: float, end: float) -> None:
        self.begin, self.end = begin, end
        self.latencies: list[float] = []
        self.failures: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()

    def note(self, came: float, answered: float, failure: str | None, counts_from: float) -> None:
        """Record a request if `counts_from` is within the measured time."""
        if not self.begin <= counts_from < self.end:
            return
        with self._lock:
            if failure is None:
                self.latencies.append(answered - came)
            else:
                self.failures[failure] += 1


def closed_loop(plan: dict[str, Any], bodies: list[bytes], measured: Measured) -> None:
    """Run workers without pauses; a request counts when it is answered."""

    def work(number: int) -> None:
        sender = sender_of(plan)
        rng = random.Random(f"{plan['seed']}/{number}")
        while (came := time.perf_counter()) < measured.end:
            failure = sender.send(rng.choices(bodies, plan["weights"])[0])
            answered = time.perf_counter()
            measured.note(came, answered, failure, answered)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(plan["workers"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(measured.end - time.perf_counter(), 0.0) if plan.get("abandon") else None)


def open_loop(plan: dict[str, Any], bodies: list[bytes], measured: Measured) -> None:
    """Send requests at random times; a request counts when it arrives."""
    rng = random.Random(plan["seed"])
    deadline = plan.get("deadline", 120)
    with futures.ThreadPoolExecutor(REST_CONNECTIONS) as pool:
        start = _start_grpc(plan) if plan["kind"] == "grpc" else _start_rest(plan, pool)
        waiting = threading.Semaphore(0)
        came, begun = time.perf_counter(), 0

        def send(came: float, body: bytes) -> None:
            def done(failure: str | None) -> None:
                measured.note(came, time.perf_counter(), failure, came)
                waiting.release()

            start(body, lambda: came + deadline - time.perf_counter(), done)

        while (came := came + rng.expovariate(plan["rate"])) < measured.end:
            time.sleep(max(came - time.perf_counter(), 0.0))
            send(came, rng.choices(bodies, plan["weights"])[0])
            begun += 1
        for _ in range(begun):
            waiting.acquire()


# Starts a request: its body, the seconds that it still has, and what to call with the error.
Start = Callable[[bytes, Callable[[], float], Callable[[str | None], None]], None]


def _start_grpc(plan: dict[str, Any]) -> Start:
    senders = itertools.cycle([GrpcSender(plan["address"], plan["path"], 0) for _ in range(GRPC_CONNECTIONS)])

    def start(body: bytes, left: Callable[[], float], done: Callable[[str | None], None]) -> None:
        seconds = left()
        if seconds > 0:
            next(senders).start(body, seconds, done)
        else:
            done(NOT_SENT)

    return start


def _start_rest(plan: dict[str, Any], pool: futures.Executor) -> Start:
    local = threading.local()

    def ask(body: bytes, left: Callable[[], float], done: Callable[[str | None], None]) -> None:
        if not hasattr(local, "sender"):
            local.sender = sender_of(plan)
        done(local.sender.send(body) if left() > 0 else NOT_SENT)

    def start(body: bytes, left: Callable[[], float], done: Callable[[str | None], None]) -> None:
        pool.submit(ask, body, left, done)

    return start


def main(path: str) -> None:
    """Run a plan and print its result."""
    plan = json.loads(Path(path).read_text())
    bodies = [Path(file).read_bytes() for file in plan["requests"]]
    time.sleep(max(plan["start"] - time.time(), 0.0))
    begin = time.perf_counter() + plan["warmup_seconds"]
    measured = Measured(begin, begin + plan["seconds"])
    (closed_loop if plan["mode"] == "closed" else open_loop)(plan, bodies, measured)
    result = {"latencies": measured.latencies, "failures": measured.failures, "seconds": plan["seconds"]}
    print(json.dumps(result), flush=True)
    if plan.get("abandon"):
        # Threads that wait for a reply would delay the exit.
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
