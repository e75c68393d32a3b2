"""Two versions of the embedded server, before and after a change, measured in turn in one run.

    python tools/serving_comparison.py --before=0d5c3c4 --minutes=8 --write=comparison.md

checks the commit --before out into a temporary worktree, starts its server and the one of this folder on the same
export, and writes one Markdown page: closed loops over gRPC and REST with clips of 4 s and 30 s and 1 to 128 clients;
open loops at 0.5 to 4 times the capacity with deadlines of 0.5 s, of which only replies in time count (goodput); the
latency of health checks behind 200 requests; that of small requests on a kept connection; memory after mixed and after
hostile requests; and gRPC with 8 clients next to the model in-process. The two servers take turns in every row, so that
other load on the machine affects both, and both are idle when a row begins. --minutes limits the whole run: each table
has a share of it, in which rows get shorter, and those that still do not fit are left out.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from absl import app, flags
from grpc_health.v1 import health_pb2, health_pb2_grpc

import benchmark
import fuzz_server
import load_client
import load_test
import served
from keras_tagger.errors import KerasTaggerError
from load_report import Settings

FLAGS = flags.FLAGS
CLIENTS, CLIPS, KINDS = (1, 8, 32, 128), (4.0, 30.0), ("grpc", "rest")
LOADS, DEADLINE = (0.5, 1.0, 2.0, 4.0), 0.5
WAITING, CHECKS = 200, 20
MIXED, HOSTILE = 5000, 10_000
# What starting the clients of a loop takes besides its measured time, and the least and the longest measured time.
CLIENT_SECONDS, LEAST_SECONDS, MOST_SECONDS = 2.5, 2.0, 6.0
# Shares of the time by table; the last is for stopping the servers.
SHARES = {"closed": 0.52, "in-process": 0.12, "open": 0.15, "small": 0.08, "memory": 0.08, "stop": 0.05}
# A server is idle if it uses less than this share of a core; a row waits so long for it at most.
IDLE_SHARE, SETTLE_SECONDS = 0.1, 10.0


def define_flags() -> None:
    """Define the program's flags; the tests import this module beside others that have their own."""
    served.define_flags()
    flags.DEFINE_string("before", None, "Commit of the server to compare with; without it, only this one is measured.")
    flags.DEFINE_float("minutes", 8.0, "Limit of the whole run, in minutes.", lower_bound=0.5)
    flags.DEFINE_string("write", None, "File for the page.")


@contextlib.contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out into a folder until the block ends."""
    git = ["git", "-C", str(served.ROOT), "worktree"]
    subprocess.run([*git, "add", "--detach", "--quiet", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


class Comparison:
    """The servers by name, the requests, and the time that is left."""

    def __init__(self, servers: dict[str, served.Served], folder: Path, base: Path, end: float) -> None:
        self.servers, self.base, self.end = servers, base, end
        self.lines: list[str] = []
        self.files: dict[tuple[str, float], Path] = {}
        for kind, encode in (("grpc", load_test.grpc_body), ("rest", load_test.rest_body)):
            for seconds in CLIPS:
                self.files[kind, seconds] = folder / f"{kind}-{seconds:g}"
                self.files[kind, seconds].write_bytes(encode("serving_default", load_test.clips(seconds, 1)))
        self._table_end, self._loops = end, 1

    def begin(self, table: str, loops: int) -> None:
        """Begin a table of so many loops: give it its share of the time that is left."""
        tables = list(SHARES)
        shares = [SHARES[name] for name in tables[tables.index(table) :]]
        now = time.monotonic()
        self._table_end, self._loops = now + (self.end - now) * shares[0] / sum(shares), loops

    def row_seconds(self) -> float:
        """Return the measured seconds of the next loop, so that all loops of the table fit."""
        share = (self._table_end - time.monotonic()) / max(self._loops, 1)
        self._loops -= 1
        return min(max(share - CLIENT_SECONDS, LEAST_SECONDS), MOST_SECONDS)

    def late(self, loops: int = 1) -> bool:
        """Return whether so many further loops do not fit into the table's time; then they are left out."""
        return time.monotonic() + loops * (CLIENT_SECONDS + LEAST_SECONDS) > self._table_end

    def settle(self) -> None:
        """Wait until the servers have answered what earlier clients asked, whether or not anybody waits for it."""
        end = min(time.monotonic() + SETTLE_SECONDS, self.end)
        while time.monotonic() < end:
            before = sum(server.cpu_seconds() for server in self.servers.values())
            time.sleep(0.2)
            if sum(server.cpu_seconds() for server in self.servers.values()) - before < 0.2 * IDLE_SHARE:
                break

    def loop(
        self, name: str, kind: str, seconds: float, clients: int, rate: float = 0.0, deadline: float = 120.0
    ) -> Any:
        """Run one loop of load_client.py against a server."""
        self.settle()
        settings = Settings(seconds, 1, clients, 2, self.row_seconds(), 0.5, 1, 0.0)
        more = {"deadline": deadline, "abandon": True}
        file = self.files[kind, seconds]
        return load_test.client_loop(kind, self.servers[name], [file], [1], settings, rate, more)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table to the page."""
        self.lines += ["", f"{title}:", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        self.lines += [f"| {' | '.join(row)} |" for row in rows]
        print("\n".join(self.lines[-len(rows) - 4 :]), flush=True)
        if FLAGS.write:
            Path(FLAGS.write).write_text("\n".join(self.lines) + "\n", encoding="utf-8")

    def closed(self) -> float:
        """Measure the closed loops; return the best rate over gRPC with clips of 4 s."""
        rows, best = [], 0.0
        self.begin("closed", len(self.servers) * len(KINDS) * len(CLIPS) * len(CLIENTS))
        for seconds in CLIPS:
            for kind in KINDS:
                for clients in CLIENTS:
                    if self.late(len(self.servers)):
                        continue
                    for name in self.servers:
                        loop = self.loop(name, kind, seconds, clients)
                        if (kind, seconds) == ("grpc", CLIPS[0]):
                            best = max(best, loop.rate)
                        times = [f"{loop.percentile(q):.0f}" for q in (50, 99)]
                        failed = str(sum(loop.failures.values()))
                        rows.append([kind, f"{seconds:g} s", str(clients), name, f"{loop.rate:.1f}", *times, failed])
        columns = ["protocol", "clips", "clients", "server", "requests/s", "p50, ms", "p99, ms", "failed"]
        self.table("Closed loop", columns, rows)
        return best

    def in_process(self) -> None:
        """Compare gRPC with the model in this process, with 8 callers and one clip each."""
        self.begin("in-process", len(self.servers) + 1)
        if self.late(2 * len(self.servers) + 2):
            return
        settings = Settings(CLIPS[0], 1, 8, 2, self.row_seconds(), 0.5, 1, 0.0)
        model = load_test.InProcess(load_test.newest(self.base))
        here = model.loop([("serving_default", load_test.clips(CLIPS[0], 1))], [1], settings)
        rows = [["in-process", f"{here.rate:.1f}", "100 %"]]
        for name in self.servers:
            loop = self.loop(name, "grpc", CLIPS[0], 8)
            rows.append([f"gRPC, {name}", f"{loop.rate:.1f}", f"{100 * loop.rate / here.rate:.0f} %"])
        self.table("8 callers, clips of 4 s", ["way", "requests/s", "of in-process"], rows)

    def opened(self, capacity: float) -> None:
        """Measure the goodput of open loops, relative to the best closed loop."""
        rows: dict[float, list[str]] = {}
        best = dict.fromkeys(self.servers, 0.0)
        self.begin("open", len(self.servers) * len(LOADS))
        for load in LOADS:
            if self.late(len(self.servers)):
                break
            rows[load] = [f"{load:g}", f"{load * capacity:.0f}"]
            for name in self.servers:
                loop = self.loop(name, "grpc", CLIPS[0], 2, load * capacity, DEADLINE)
                good = sum(latency <= DEADLINE for latency in loop.latencies) / loop.seconds
                best[name] = max(best[name], good)
                unsent = loop.failures.get(load_client.NOT_SENT, 0) / max(
                    len(loop.latencies) + sum(loop.failures.values()), 1
                )
                rows[load] += [f"{good:.1f}", f"{100 * good / max(best[name], 1e-9):.0f} %", f"{100 * unsent:.0f} %"]
        texts = ("good/s", "of peak", "not sent")
        columns = ["load", "offered/s", *(f"{text}, {name}" for name in self.servers for text in texts)]
        self.table(f"Open loop over gRPC, clips of 4 s, deadlines of {DEADLINE:g} s", columns, list(rows.values()))

    def small(self) -> None:
        """Measure health checks behind waiting requests, and the status over a kept connection."""
        rows = []
        self.begin("small", 2 * len(self.servers))
        if self.late(2 * len(self.servers)):
            return
        for name, server in self.servers.items():
            checks, failed = self._checks_behind_requests(name)
            self.settle()
            connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
            kept = []
            for _ in range(200):
                begun = time.perf_counter()
                connection.request("GET", f"/v1/models/{served.MODEL}")
                connection.getresponse().read()
                kept.append(1000 * (time.perf_counter() - begun))
            connection.close()
            health = f"{statistics.median(checks):.1f}, {max(checks):.1f}" if checks else "-"
            rows.append([name, health, f"{failed} of {len(checks) + failed}", f"{statistics.median(kept):.2f}"])
        columns = ["server", f"health behind {WAITING} requests: p50, most, ms", "over 1 s", "kept connection: p50, ms"]
        self.table("Small requests", columns, rows)

    def _checks_behind_requests(self, name: str) -> tuple[list[float], int]:
        """Check the health once a client in processes of its own keeps WAITING requests in flight."""
        server = self.servers[name]
        found, failed = [], 0
        self.settle()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            used = server.cpu_seconds()
            loop = pool.submit(self.loop, name, "grpc", CLIPS[0], WAITING)
            # Once the server works, all clients have sent.
            while server.cpu_seconds() < used + 1.0 and not loop.done():
                time.sleep(0.1)
            with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                while len(found) + failed < CHECKS and not loop.done():
                    begun = time.perf_counter()
                    try:
                        stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
                        found.append(1000 * (time.perf_counter() - begun))
                    except grpc.RpcError:
                        failed += 1
                    time.sleep(0.05)
            loop.result()
        return found, failed

    def memory(self) -> None:
        """Measure memory after mixed and after hostile requests, as many as there is time for."""
        rows = []
        self.begin("memory", 2 * len(self.servers))
        for name, server in self.servers.items():
            if self.late(2):
                break
            before = server.resident_bytes()
            mixed = self._mixed(server, self.row_seconds())
            middle = server.resident_bytes()
            begun = time.monotonic()
            end = begun + self.row_seconds() + CLIENT_SECONDS
            hostile, problems, longest = 0, 0, 0.0
            while hostile < HOSTILE and begun + longest < end:
                report = fuzz_server.attack(server, 100, 5, 20, 4, hostile, 10.0)
                hostile, problems = hostile + 100, problems + len(report.problems)
                longest, begun = max(longest, time.monotonic() - begun), time.monotonic()
            sizes = [f"{size / 2**20:.0f}" for size in (before, middle, server.resident_bytes())]
            rows.append([name, sizes[0], f"{sizes[1]} ({mixed})", f"{sizes[2]} ({hostile})", str(problems)])
        columns = ["server", "MiB before", "after mixed requests", "after hostile requests", "problems"]
        self.table("Memory after the loops above", columns, rows)

    def _mixed(self, server: served.Served, seconds: float) -> int:
        bodies = [load_test.grpc_body(name, load_test.clips(length, 1)) for name, length, _ in load_test.MIX]
        channel = grpc.insecure_channel(server.address, options=served.UNLIMITED)
        end, counts = time.monotonic() + seconds, [0] * 8

        def ask(number: int) -> None:
            rng = np.random.default_rng(number)
            while counts[number] < MIXED // 8 and time.monotonic() < end:
                with contextlib.suppress(grpc.RpcError):
                    channel.unary_unary(served.PREDICT)(bodies[rng.integers(len(bodies))], timeout=5)
                counts[number] += 1

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))
        channel.close()
        return sum(counts)


def main(argv: Sequence[str]) -> None:
    """Measure both servers and write the page."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    end = time.monotonic() + 60.0 * FLAGS.minutes
    try:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            base = served.base_path(folder)
            starting = {}
            if FLAGS.before:
                before = stack.enter_context(worktree(FLAGS.before, folder / "before"))
                starting["before"] = served.serving(base, root=before)
            starting["after"] = served.serving(base)
            # Starting takes longer than any row, so they start together.
            with concurrent.futures.ThreadPoolExecutor() as pool:
                servers = dict(zip(starting, pool.map(stack.enter_context, starting.values()), strict=True))
            comparison = Comparison(servers, folder, base, end)
            facts = benchmark.machine()
            comparison.lines = [
                f"{facts['processor']}; {facts['cores']} cores; {facts['system']}; TensorFlow "
                f"{facts['versions']['tensorflow']}. The clients use the same cores. Load average at the start "
                f"{facts['load']:.1f}."
            ]
            capacity = comparison.closed()
            comparison.in_process()
            comparison.opened(capacity)
            comparison.small()
            comparison.memory()
    except (KerasTaggerError, OSError, served.ServerError, load_test.LoadError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps({"seconds": round(time.monotonic() - end + 60.0 * FLAGS.minutes)}))


if __name__ == "__main__":
    define_flags()
    app.run(main)
