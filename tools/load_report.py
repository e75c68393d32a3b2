"""The results of load_test.py: loops, limits, tables and a histogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

import benchmark

LEAST_SHARE, MOST_SPREAD = 0.85, 4.0


@dataclass(frozen=True)
class Settings:
    """Settings of the measurement; the flags of load_test.py with the same names."""

    clip_seconds: float
    batch: int
    concurrency: int
    client_processes: int
    seconds: float
    warmup_seconds: float
    rounds: int
    load: float


@dataclass
class Loop:
    """The result of one loop.

    Attributes:
        seconds: Measured time.
        latencies: Latencies of answered requests, in seconds.
        failures: Counts by error text.
        offered: Requests per second that arrived, in an open loop.
        cpu_seconds: Processor time of the process that runs the model, within the measured time.
    """

    seconds: float
    latencies: list[float]
    failures: dict[str, int] = field(default_factory=dict)
    offered: float | None = None
    cpu_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answered requests per second."""
        return len(self.latencies) / self.seconds

    @property
    def cpu_milliseconds(self) -> float:
        """Processor time per answered request, in milliseconds."""
        return 1000.0 * self.cpu_seconds / max(len(self.latencies), 1)

    def percentile(self, q: float) -> float:
        """Return the q-th percentile of the latency, in milliseconds."""
        return float(np.percentile(self.latencies, q)) * 1000.0 if self.latencies else float("nan")


# Loops of one round by name: "in-process", "gRPC", "REST", each also with ", mixed"; "gRPC, open" and "REST, open".
Round = dict[str, Loop]


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """Format the median and, in parentheses, the smallest and largest value."""
    return f"{np.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def shares(rounds: Sequence[Round], name: str) -> list[float]:
    """Return the throughput relative to in-process, in each round."""
    suffix = ", mixed" if name.endswith(", mixed") else ""
    return [found[name].rate / found[f"in-process{suffix}"].rate for found in rounds]


def spreads(rounds: Sequence[Round], name: str) -> list[float]:
    """Return p99 / p50 in each round."""
    return [found[name].percentile(99) / found[name].percentile(50) for found in rounds]


def shortfalls(rounds: Sequence[Round]) -> list[str]:
    """Return the limits that the median of the rounds does not meet."""
    missed = []
    share, ratio = np.median(shares(rounds, "gRPC")), np.median(spreads(rounds, "gRPC, open"))
    if share < LEAST_SHARE:
        missed.append(f"gRPC throughput at least {LEAST_SHARE:.0%} of in-process. Received: {share:.1%}")
    if ratio > MOST_SPREAD:
        missed.append(f"p99 over p50 at most {MOST_SPREAD:g} in the open loop. Received: {ratio:.2f}")
    failed = sum(sum(loop.failures.values()) for found in rounds for loop in found.values())
    if failed:
        text = next(text for found in rounds for loop in found.values() for text in loop.failures)
        missed.append(f"no failed request. Received: {failed}, such as {text}")
    return missed


def closed_table(rounds: Sequence[Round], names: Sequence[str]) -> str:
    """Format the table of closed loops."""
    rows = [
        "| clips | path | requests/s | of in-process | p50, ms | p90, ms | p99, ms | CPU, ms | failed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        loops = [found[name] for found in rounds]
        way, _, mixed = name.partition(", ")
        share = "" if way == "in-process" else spread([100.0 * value for value in shares(rounds, name)], ".0f") + " %"
        latencies = [spread([loop.percentile(q) for loop in loops]) for q in (50, 90, 99)]
        failed = sum(sum(loop.failures.values()) for loop in loops)
        cpu = spread([loop.cpu_milliseconds for loop in loops])
        cells = [mixed or "same", way, spread([loop.rate for loop in loops]), share, *latencies, cpu, str(failed)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def open_table(rounds: Sequence[Round], names: Sequence[str]) -> str:
    """Format the table of open loops."""
    rows = [
        "| path | requests/s offered | p50, ms | p90, ms | p99, ms | p99 / p50 | failed |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        loops = [found[name] for found in rounds]
        cells = [
            name.partition(", ")[0],
            spread([loop.offered or 0.0 for loop in loops]),
            *(spread([loop.percentile(q) for loop in loops]) for q in (50, 90, 99)),
            spread(spreads(rounds, name), ".2f"),
            str(sum(sum(loop.failures.values()) for loop in loops)),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def histogram(latencies: Sequence[float], width: int = 40) -> str:
    """Format a histogram whose bucket limits grow by a factor of the square root of 2."""
    exponents = np.floor(2.0 * np.log2(np.asarray(latencies) * 1000.0)).astype(int)
    counts = np.bincount(exponents - exponents.min())
    lines = []
    for index, count in enumerate(counts):
        low, high = (2.0 ** ((exponents.min() + index + step) / 2.0) for step in (0, 1))
        bar = "#" * round(width * count / counts.max())
        lines.append(f"{low:8.1f} to {high:8.1f} ms {count:7d} {bar}".rstrip())
    return "\n".join(lines)


def page(rounds: Sequence[Round], settings: Settings, command: str) -> str:
    """Format settings, tables and histogram as Markdown."""
    names = list(rounds[0])
    opened = [name for name in names if name.endswith(", open")]
    latencies = [value for found in rounds for value in found["gRPC, open"].latencies]
    facts = benchmark.machine()
    return f"""    {command}

{facts["processor"]}; {facts["cores"]} cores, load average {facts["load"]:.1f} at the end; {facts["system"]}; TensorFlow
{facts["versions"]["tensorflow"]}.
{settings.rounds} rounds of {settings.seconds:g} s per loop; medians, with the smallest and largest round. A request has
{settings.batch} clip(s) of {settings.clip_seconds:g} s, or is one of the mix. CPU is the processor time per request of
the process that runs the model.

Closed loop, {settings.concurrency} clients:

{closed_table(rounds, [name for name in names if name not in opened])}

Open loop, {settings.load:.0%} of the rate above:

{open_table(rounds, opened)}

Latency over gRPC in the open loop, all rounds:

```
{histogram(latencies)}
```"""
