"""Clients of load_test.py, in their own process: `python tools/load_client.py PLAN.json`.

Requests are prepared as bytes, so that neither TensorFlow nor the encoding of tensors is measured. Closed loop: each
worker sends a request when it has its reply. Open loop: requests arrive at random times (Poisson) whether or not
earlier ones have been answered. Latency counts from the arrival, so a server that stalls is charged for the requests
that arrive meanwhile.

The plan is JSON: kind (grpc, rest), address, path, requests (files), weights, mode (closed, open), workers, seconds,
warmup_seconds, rate (requests per second, open loop), seed, start (time.time). The output is JSON: latencies (seconds,
of requests answered within the measured time), failures (counts by text), seconds. Three more fields are optional:
deadline (seconds until a request has failed, 120), open_workers (64), and abandon (whether a closed loop gives up the
requests that are under way at its end, which do not count, instead of waiting for them; false).
"""

from __future__ import annotations

import collections
import http.client
import json
import os
import random
import sys
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Any, Protocol

OPEN_WORKERS = 64


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
        self._error = grpc.RpcError
        self._deadline = deadline
        self._call = grpc.insecure_channel(address, options=options).unary_unary(path)

    def send(self, body: bytes) -> str | None:
        """Make one call."""
        try:
            self._call(body, timeout=self._deadline)
        except self._error as error:
            return f"{error.code().name}: {error.details()}"[:200]
        return None


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
    local = threading.local()
    rng = random.Random(plan["seed"])

    def ask(came: float, body: bytes) -> None:
        if not hasattr(local, "sender"):
            local.sender = sender_of(plan)
        failure = local.sender.send(body)
        measured.note(came, time.perf_counter(), failure, came)

    with futures.ThreadPoolExecutor(plan.get("open_workers", OPEN_WORKERS)) as pool:
        came = time.perf_counter()
        while (came := came + rng.expovariate(plan["rate"])) < measured.end:
            time.sleep(max(came - time.perf_counter(), 0.0))
            pool.submit(ask, came, rng.choices(bodies, plan["weights"])[0])


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
