"""Counters and latencies under TensorFlow Serving's names, in Prometheus' text format."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Sequence

# Microseconds: 10 * 1.8^i, up to 20 minutes; tensorflow_serving/servables/tensorflow/util.cc.
LATENCY_BUCKETS = tuple(10 * 1.8**i for i in range(33))
EXAMPLE_BUCKETS = tuple(float(2**i) for i in range(15))


class Counter:
    """Sums, by label values."""

    kind = "counter"

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        self.name = name
        self._labels = labels
        self._lock = threading.Lock()
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, by: float = 1) -> None:
        """Add to the sum for these label values."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + by

    def value(self, *labels: str) -> float:
        """Return the sum for these label values."""
        with self._lock:
            return self._values.get(labels, 0)

    def lines(self) -> list[str]:
        """Return the lines for Prometheus."""
        with self._lock:
            values = sorted(self._values.items())
        return [f"{self.name}{{{_labels(self._labels, labels)}}} {value:g}" for labels, value in values]


class Histogram:
    """Distributions, by label values."""

    kind = "histogram"

    def __init__(self, name: str, labels: Sequence[str], limits: Sequence[float]) -> None:
        self.name = name
        self._labels = labels
        self._limits = limits
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, value: float) -> None:
        """Count one value."""
        with self._lock:
            counts = self._counts.setdefault(labels, [0] * (len(self._limits) + 1))
            counts[bisect.bisect_left(self._limits, value)] += 1
            self._sums[labels] = self._sums.get(labels, 0.0) + value

    def lines(self) -> list[str]:
        """Return the lines for Prometheus."""
        with self._lock:
            rows = [(labels, list(counts), self._sums[labels]) for labels, counts in sorted(self._counts.items())]
        lines = []
        for labels, counts, total in rows:
            written, below = _labels(self._labels, labels), 0
            for limit, count in zip([*(f"{limit:g}" for limit in self._limits), "+Inf"], counts, strict=True):
                below += count
                lines.append(f'{self.name}_bucket{{{written},le="{limit}"}} {below}')
            lines += [f"{self.name}_sum{{{written}}} {total:g}", f"{self.name}_count{{{written}}} {below}"]
        return lines


class Metrics:
    """All metrics of one server."""

    def __init__(self) -> None:
        prefix = ":tensorflow:serving:"
        model = ("model_name", "API")
        self.requests = Counter(f"{prefix}request_count", ("model_name", "status"))
        self.latency = Histogram(f"{prefix}request_latency", (*model, "entrypoint"), LATENCY_BUCKETS)
        self.runtime = Histogram(f"{prefix}runtime_latency", (*model, "runtime"), LATENCY_BUCKETS)
        self.examples = Histogram(f"{prefix}request_example_counts", ("model",), EXAMPLE_BUCKETS)
        self.examples_total = Counter(f"{prefix}request_example_count_total", ("model",))
        self.loads = Counter(":tensorflow:cc:saved_model:load_attempt_count", ("model_path", "status"))

    def page(self) -> str:
        """Return all metrics in Prometheus' text format."""
        parts: list[str] = []
        for metric in (self.loads, self.examples_total, self.examples, self.requests, self.latency, self.runtime):
            parts += [f"# TYPE {metric.name} {metric.kind}", *metric.lines()]
        return "\n".join(parts) + "\n"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    escaped = (value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for value in values)
    return ",".join(f'{name}="{value}"' for name, value in zip(names, escaped, strict=True))
