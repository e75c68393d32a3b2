"""Metrics for Prometheus: TensorFlow Serving's, under its names, and those that it lacks."""

from __future__ import annotations

import re
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Microseconds: 10 * 1.8^i, up to 20 minutes; tensorflow_serving/servables/tensorflow/util.cc.
LATENCY_BUCKETS = tuple(10 * 1.8**i for i in range(33))
EXAMPLE_BUCKETS = tuple(float(2**i) for i in range(15))
# In seconds.
REQUEST_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_PREFIX = ":tensorflow:serving:"
_REQUESTS, _LOADS = f"{_PREFIX}request_count", ":tensorflow:cc:saved_model:load_attempt_count"
# prometheus_client ends every counter's name in _total and adds the time of its creation.
_RENAMED = re.compile(rf"^((?:# \w+ )?(?:{_REQUESTS}|{_LOADS}))_total\b", re.MULTILINE)
_CREATED = re.compile(r"^(?:# \w+ )?[\w:]+_created\b.*\n", re.MULTILINE)
_WHOLE = re.compile(r"(?<= )(\d+)\.0$|(?<= )(\d\.\d+e\+\d+)$", re.MULTILINE)
_LIMIT = re.compile(r'(?<=le=")([\d.e+]+)(?=")')


class Metrics:
    """All metrics of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        model = ("model_name", "API")

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, limits: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=limits, registry=registry)

        self.requests = counter(_REQUESTS, "Requests.", "model_name", "status")
        self.latency = histogram(
            f"{_PREFIX}request_latency", "Microseconds of a request.", LATENCY_BUCKETS, *model, "entrypoint"
        )
        self.runtime = histogram(
            f"{_PREFIX}runtime_latency", "Microseconds in the model.", LATENCY_BUCKETS, *model, "runtime"
        )
        self.examples = histogram(
            f"{_PREFIX}request_example_counts", "tf.Examples of a request.", EXAMPLE_BUCKETS, "model"
        )
        self.examples_total = counter(f"{_PREFIX}request_example_count_total", "tf.Examples.", "model")
        self.loads = counter(_LOADS, "Attempts to load a version.", "model_path", "status")
        # Not in TensorFlow Serving: by version, for comparing a canary; and the load, for autoscaling.
        version = ("model_name", "version", "method")
        self.version_requests = counter("keras_tagger_requests", "Requests by version.", *version, "status")
        self.version_seconds = histogram(
            "keras_tagger_request_seconds", "Seconds of a request by version.", REQUEST_BUCKETS, *version
        )
        self.in_flight = Gauge("keras_tagger_requests_in_flight", "Requests being handled.", registry=registry)
        self._queued = Gauge("keras_tagger_queue_length", "Requests waiting for the model.", registry=registry)
        self._running = Gauge("keras_tagger_runs", "Runs of the model under way.", registry=registry)
        ProcessCollector(registry=registry)

    def watch(self, queued: Callable[[], float], running: Callable[[], float]) -> None:
        """Read the gauges of the queue from these functions."""
        self._queued.set_function(queued)
        self._running.set_function(running)

    def page(self) -> bytes:
        """Return all metrics in Prometheus' text format, with whole numbers in full."""
        text = generate_latest(self._registry).decode()
        text = _RENAMED.sub(r"\1", _CREATED.sub("", text))
        text = _LIMIT.sub(lambda found: f"{float(found[1]):g}", text)
        return _WHOLE.sub(lambda found: _full(found[1] or found[2]), text).encode()


def _full(text: str) -> str:
    value = float(text)
    return str(int(value)) if value.is_integer() else text
