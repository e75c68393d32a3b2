"""Attack a server with thousands of malformed requests, and check that it survives.

    python tools/fuzz_server.py --model compact --requests 10000

It starts `keras-tagger serve` on an export, sends valid requests for a while, notes the server's memory, and then sends
the malformed requests of tools/fuzz_requests.py over gRPC and REST, in an order determined by --seed. Meanwhile some
connections send one byte a second (slow loris). Every 500 requests, and at the end, a valid request must be answered as
before.

The exit status is 0 if the server still answers, its memory has grown by at most --memory_share since the warm-up, and
no reply contains a stack, a path of this machine or details of the graph. Otherwise it is 1, and stderr lists the
problems.
"""

from __future__ import annotations

import collections
import concurrent.futures
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from absl import app, flags
from fuzz_requests import Attack, Corpus, SlowLoris, make_corpus, send_http
from tqdm import tqdm

import served
from keras_tagger.errors import KerasTaggerError

SERVICE = "/tensorflow.serving.PredictionService/"
# What no reply may contain: stacks of Python and C++, files of the machine, nodes of the graph.
LEAKS = re.compile(
    r"Traceback|File \"|\.py[\":, ]|\bline \d+, in |site-packages|/home/|/root/|/tmp/|/usr/|\{\{node|"
    r"StatefulPartitionedCall|\[\[\{?\{?node|Detected at node|\[Op:|0x[0-9a-f]{8,}|std::|\.cc:\d+"
)
ANSWER_SECONDS = 60.0
CHECK_EVERY = 500

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags; the tests import this module beside others that have their own."""
    served.define_flags()
    flags.DEFINE_integer("requests", 10000, "Number of malformed requests.", lower_bound=1)
    flags.DEFINE_integer("loris", 50, "Number of connections that send one byte a second.", lower_bound=0)
    flags.DEFINE_integer("warmup", 300, "Number of valid requests before memory is noted.", lower_bound=1)
    flags.DEFINE_integer("concurrency", 4, "Number of requests at a time.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of everything random.")
    flags.DEFINE_float("memory_share", 0.10, "How much memory may grow, as a fraction.", lower_bound=0.0)
    flags.DEFINE_string("json", None, "File for the report, as JSON.")


def main(argv: Sequence[str]) -> None:
    """Attack a server and print the report."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        with tempfile.TemporaryDirectory() as folder, served.serving(served.base_path(Path(folder))) as server:
            report = attack(
                server, FLAGS.requests, FLAGS.loris, FLAGS.warmup, FLAGS.concurrency, FLAGS.seed, FLAGS.memory_share
            )
    except (KerasTaggerError, OSError, served.ServerError) as error:
        sys.exit(f"error: {error}")
    print(report.text())
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(report.__dict__, indent=1) + "\n", encoding="utf-8")
    for problem in report.problems:
        print(f"found: {problem}", file=sys.stderr)
    sys.exit(1 if report.problems else 0)


@dataclass
class Report:
    """The result of an attack.

    Attributes:
        answers: Counts of statuses, by kind of attack.
        examples: One reply for each kind and status.
        bytes_before: Memory after the warm-up.
        bytes_meanwhile: Memory every 500 requests.
        bytes_after: Memory at the end.
        seconds: Duration of the attack.
        problems: Everything that is wrong, in sentences.
    """

    answers: dict[str, dict[str, int]] = field(default_factory=lambda: collections.defaultdict(collections.Counter))
    examples: dict[str, str] = field(default_factory=dict)
    bytes_before: int = 0
    bytes_meanwhile: list[int] = field(default_factory=list)
    bytes_after: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Growth of memory, as a fraction."""
        return self.bytes_after / self.bytes_before - 1.0

    def text(self) -> str:
        """Format the report for the terminal."""
        lines = []
        for kind, statuses in sorted(self.answers.items()):
            found = ", ".join(f"{status} {count}" for status, count in sorted(statuses.items()))
            lines.append(f"{kind:<28} {sum(statuses.values()):>6}  {found}")
        total = sum(sum(statuses.values()) for statuses in self.answers.values())
        lines.append(f"{total} requests in {self.seconds:.0f} s")
        before, *meanwhile, after = (
            f"{size / 2**20:.0f}" for size in (self.bytes_before, *self.bytes_meanwhile, self.bytes_after)
        )
        lines.append(f"memory {before} MiB before, {after} MiB after ({self.growth:+.1%})")
        lines.append(f"memory every {CHECK_EVERY} requests, MiB: {' '.join(meanwhile)}")
        return "\n".join(lines)


class Attacker:
    """Sends attacks to a server and records its replies."""

    def __init__(self, server: served.Served, corpus: Corpus, report: Report) -> None:
        self.server, self.corpus, self.report = server, corpus, report
        self._channel = grpc.insecure_channel(server.address, options=served.UNLIMITED)
        self._calls: dict[str, grpc.UnaryUnaryMultiCallable] = {}
        self._expected: np.ndarray | None = None
        self._told: set[tuple[str, str]] = set()

    def send(self, attack: Attack) -> None:
        """Send one attack, and record the status and any leak in the report."""
        status, text = self._grpc(attack) if attack.method else send_http(self.server.rest_port, attack.body)
        self.report.answers[attack.kind][status] += 1
        self.report.examples.setdefault(f"{attack.kind}: {status}", text[:300])
        leak = LEAKS.search(text)
        if leak and (attack.kind, leak[0]) not in self._told:
            self._told.add((attack.kind, leak[0]))
            self.problem(f"no internals of the server in a reply to {attack.kind}. Received: {text[:200]!r}")
        if status in ("no answer", "DEADLINE_EXCEEDED"):
            self.problem(f"a reply to {attack.kind} within {ANSWER_SECONDS:g} s. Received: no reply")

    def _grpc(self, attack: Attack) -> tuple[str, str]:
        path = attack.method if attack.method.startswith("/") else SERVICE + attack.method
        if path not in self._calls:
            self._calls[path] = self._channel.unary_unary(path)
        try:
            self._calls[path](attack.body, timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
        return "OK", ""

    def check(self) -> None:
        """Send a valid request, whose reply must be the same as ever."""
        if not self.server.alive():
            self.problem("a running server. Received: one that has ended")
            return
        try:
            answer = self._channel.unary_unary(served.PREDICT)(self.corpus.proper, timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            self.problem(f"a reply to a valid request. Received: {error.code().name} {error.details()}")
            return
        scores = self.corpus.scores(answer)
        if self._expected is None:
            self._expected = scores
        elif not np.allclose(scores, self._expected, atol=1e-5):
            self.problem(f"the same reply as before, {self._expected}. Received: {scores}")

    def problem(self, text: str) -> None:
        """Add a problem to the report, once."""
        sentence = f"expected {text}"
        if sentence not in self.report.problems and len(self.report.problems) < 50:
            self.report.problems.append(sentence)


def attack(
    server: served.Served,
    count: int,
    loris: int,
    warmup: int,
    concurrency: int,
    seed: int,
    memory_share: float,
) -> Report:
    """Warm up a server, attack it, and check that it survives.

    Args:
        server: The server; its REST API is attacked too if it has one.
        count: Number of malformed requests.
        loris: Number of connections that meanwhile send one byte a second.
        warmup: Number of valid requests before memory is noted.
        concurrency: Number of requests at a time.
        seed: Seed of everything random.
        memory_share: How much memory may grow, as a fraction.

    Returns:
        The report.
    """
    corpus = make_corpus(server.address)
    report = Report()
    attacker = Attacker(server, corpus, report)
    rng = np.random.default_rng(seed)
    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        # Malformed requests too: error paths allocate memory the first time.
        list(pool.map(attacker.send, [corpus.attack(rng, bool(server.rest_port)) for _ in range(warmup)]))
        list(pool.map(lambda _: attacker.check(), range(warmup)))
        report.answers.clear()
        report.bytes_before = server.resident_bytes()
        begin = time.monotonic()
        ports = [server.port, *([server.rest_port] if server.rest_port else [])]
        with SlowLoris([ports[index % len(ports)] for index in range(loris)]):
            for start in tqdm(range(0, count, CHECK_EVERY), unit=f"{CHECK_EVERY} requests", disable=None):
                batch = [corpus.attack(rng, bool(server.rest_port)) for _ in range(min(CHECK_EVERY, count - start))]
                list(pool.map(attacker.send, batch))
                attacker.check()
                report.bytes_meanwhile.append(server.resident_bytes() if server.alive() else 0)
        report.seconds = time.monotonic() - begin
        list(pool.map(lambda _: attacker.check(), range(20)))
    report.bytes_after = server.resident_bytes() if server.alive() else 0
    if report.growth > memory_share:
        attacker.problem(f"memory to grow by at most {memory_share:.0%}. Received: {report.growth:+.1%}")
    return report


if __name__ == "__main__":
    define_flags()
    app.run(main)
