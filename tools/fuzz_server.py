"""Malformed requests by the thousand against a server, and what is left of it afterwards.

    python tools/fuzz_server.py --model compact --requests 10000

Starts `keras-tagger serve` on an export, asks it properly for a while, notes its memory, and then sends requests that
are wrong in every way that tools/fuzz_requests.py knows, over gRPC and REST, in an order that --seed gives; meanwhile
some connections only dribble (slow loris). Every so often, and at the end, a proper request must be answered as before.

The exit status is 0 if the server goes on to answer, its memory is within --memory_share of what it was after the
warm-up, and no reply shows a stack, a path of this machine or the inside of a graph; else 1, and stderr says what was
found.
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
from load_test import LoadError, export

SERVICE = "/tensorflow.serving.PredictionService/"
# What a client must never read: stacks of Python and C++, files of the machine, nodes of the graph.
LEAKS = re.compile(
    r"Traceback|File \"|\.py[\":, ]|\bline \d+, in |site-packages|/home/|/root/|/tmp/|/usr/|\{\{node|"
    r"StatefulPartitionedCall|\[\[\{?\{?node|Detected at node|\[Op:|0x[0-9a-f]{8,}|std::|\.cc:\d+"
)
ANSWER_SECONDS = 60.0
CHECK_EVERY = 500

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags; the tests import this module beside others that have their own."""
    flags.DEFINE_string("model", "compact", "A pretrained name, a run directory or a .keras file.")
    flags.DEFINE_string("base_path", None, "Folder of an export to serve, instead of exporting --model.")
    flags.DEFINE_integer("requests", 10000, "Malformed requests.", lower_bound=1)
    flags.DEFINE_integer("loris", 50, "Connections that dribble all the while.", lower_bound=0)
    flags.DEFINE_integer("warmup", 300, "Proper requests before memory is noted.", lower_bound=1)
    flags.DEFINE_integer("concurrency", 4, "Requests under way at a time.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of everything random.")
    flags.DEFINE_float("memory_share", 0.10, "How much memory may grow, as a share.", lower_bound=0.0)
    flags.DEFINE_string("json", None, "File for the report, if wanted.")


def main(argv: Sequence[str]) -> None:
    """Attack and report."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            base = Path(FLAGS.base_path) if FLAGS.base_path else export(FLAGS.model, Path(folder) / "exported")
            with served.serving(base) as server:
                report = attack(
                    server, FLAGS.requests, FLAGS.loris, FLAGS.warmup, FLAGS.concurrency, FLAGS.seed, FLAGS.memory_share
                )
    except (KerasTaggerError, OSError, served.ServerError, LoadError) as error:
        sys.exit(f"error: {error}")
    print(report.text())
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(report.__dict__, indent=1) + "\n", encoding="utf-8")
    for problem in report.problems:
        print(f"found: {problem}", file=sys.stderr)
    sys.exit(1 if report.problems else 0)


@dataclass
class Report:
    """What came of it.

    Attributes:
        answers: for each kind of attack, statuses to counts.
        examples: for each kind and status, one text that was answered.
        bytes_before: memory after the warm-up.
        bytes_meanwhile: memory every 500 requests.
        bytes_after: memory at the end.
        seconds: how long the attacks took.
        problems: what must not be, in sentences.
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
        """Of memory, as a share."""
        return self.bytes_after / self.bytes_before - 1.0

    def text(self) -> str:
        """A table for the terminal."""
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
    """Sends attacks to a server and notes what it answers."""

    def __init__(self, server: served.Served, corpus: Corpus, report: Report) -> None:
        self.server, self.corpus, self.report = server, corpus, report
        self._channel = grpc.insecure_channel(server.address, options=served.UNLIMITED)
        self._calls: dict[str, grpc.UnaryUnaryMultiCallable] = {}
        self._expected: np.ndarray | None = None
        self._told: set[tuple[str, str]] = set()

    def send(self, attack: Attack) -> None:
        """One attack; its status, and what its answer shows, go to the report."""
        status, text = self._grpc(attack) if attack.method else send_http(self.server.rest_port, attack.body)
        self.report.answers[attack.kind][status] += 1
        self.report.examples.setdefault(f"{attack.kind}: {status}", text[:300])
        leak = LEAKS.search(text)
        if leak and (attack.kind, leak[0]) not in self._told:
            self._told.add((attack.kind, leak[0]))
            self.problem(f"no inside of the server in a reply to {attack.kind}. Received: {text[:200]!r}")
        if status in ("no answer", "DEADLINE_EXCEEDED"):
            self.problem(f"an answer to {attack.kind} within {ANSWER_SECONDS:g} s. Received: none")

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
        """A proper request, which must have the answer that it always had."""
        if not self.server.alive():
            self.problem("a server that lives. Received: one that ended")
            return
        try:
            answer = self._channel.unary_unary(served.PREDICT)(self.corpus.proper, timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            self.problem(f"an answer to a proper request. Received: {error.code().name} {error.details()}")
            return
        scores = self.corpus.scores(answer)
        if self._expected is None:
            self._expected = scores
        elif not np.allclose(scores, self._expected, atol=1e-5):
            self.problem(f"the answer that there was before. Received: {scores}, not {self._expected}")

    def problem(self, text: str) -> None:
        """A finding; each is told once."""
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
    """Warm a server up, attack it, and look at what is left.

    Args:
        server: to be attacked; its REST interface too, where it has one.
        count: malformed requests.
        loris: connections that dribble meanwhile.
        warmup: proper requests of all kinds before memory is noted.
        concurrency: requests under way at a time.
        seed: of everything random.
        memory_share: how much memory may grow.
    """
    corpus = make_corpus(server.address)
    report = Report()
    attacker = Attacker(server, corpus, report)
    rng = np.random.default_rng(seed)
    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        # Mistakes too: their paths through the server have memory of their own the first time.
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
        attacker.problem(f"memory within {memory_share:.0%} of what it was. Received: {report.growth:+.1%}")
    return report


if __name__ == "__main__":
    define_flags()
    app.run(main)
