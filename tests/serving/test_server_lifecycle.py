"""The embedded server and `serve` from loading and warm-up to stopping."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from keras_tagger.errors import ServingError
from keras_tagger.serving import server
from keras_tagger.serving.server import ARRIVING_SECONDS, REFUSING_SECONDS, Server
from raw_requests import Raw, as_numpy, wait_until
from served_modules import Tagger

ON_THE_WAY_SECONDS = 0.05
# What TensorFlow says of the machine while it is loaded, whatever its log level.
TENSORFLOW_ITSELF = re.compile(r"WARNING: All log messages|[EWIF]0000 |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [EWI] ")


def warm_up(version: Path, *logs: prediction_log_pb2.PredictionLog) -> None:
    (version / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(version / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def predict_log(inputs, signature) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = "any"
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return log


def test_warm_up_requests_run_before_the_first_request(tmp_path):
    module = Tagger()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"count": module.count})
    warm_up(tmp_path / "1", *[predict_log({"by": np.int64(n)}, "count") for n in (10, 20)])
    with Server(tmp_path, "m", port=0) as server:
        assert as_numpy(Raw(server.port).predict({"by": np.int64(1)}, "count"))["calls"] == 31


def test_a_failing_warm_up_request_fails_the_load(tmp_path):
    module = Tagger()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"count": module.count})
    good, bad = predict_log({"by": np.int64(1)}, "count"), predict_log({"by": np.int64(1)}, "x")
    warm_up(tmp_path / "1", good, bad)
    with pytest.raises(ServingError, match=r'number 1 \(Serving signature key "x" not found.\)'):
        Server(tmp_path, "m", port=0).start()


def test_a_warm_up_file_that_is_not_a_tfrecord_fails_the_load(tmp_path):
    module = Tagger()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"count": module.count})
    warm_up(tmp_path / "1")
    (tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"not a TFRecord file at all")
    with pytest.raises(ServingError, match="expected a SavedModel that loads"):
        Server(tmp_path, "m", port=0).start()


def test_a_folder_without_a_version(tmp_path):
    (tmp_path / "1.tmp").mkdir()
    for base in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ServingError, match="expected a folder with numbered versions") as caught:
            Server(base).start()
        assert str(base) in str(caught.value)


def test_a_version_that_does_not_load(tmp_path):
    (tmp_path / "4").mkdir()
    with pytest.raises(ServingError, match="expected a SavedModel that loads") as caught:
        Server(tmp_path).start()
    assert "\n" not in str(caught.value)
    (tmp_path / "4" / "saved_model.pb").write_bytes(b"rubbish")
    with pytest.raises(ServingError, match="expected a SavedModel that loads"):
        Server(tmp_path).start()


def test_a_taken_port_is_an_error_and_not_shared(words_base):
    with Server(words_base, "m", port=0) as first, pytest.raises(ServingError, match=f":{first.port}, which"):
        Server(words_base, "m", port=first.port).start()
    with Server(words_base, "m", port=first.port) as second:
        assert second.port == first.port


def test_a_name_of_two_addresses_is_not_served_on_one(words_base):
    # "localhost" is 127.0.0.1 and ::1. Another server has the port of the first alone.
    with Server(words_base, "m", port=0) as first, pytest.raises(ServingError, match=f":{first.port}, which"):
        Server(words_base, "m", port=first.port, host="localhost").start()
    with Server(words_base, "m", port=0, host="localhost") as named:
        socket.create_connection(("127.0.0.1", named.port), timeout=10).close()


@pytest.mark.parametrize("host", ["not a host", "a" * 70])
def test_a_host_that_is_none_is_named(words_base, host):
    with pytest.raises(ServingError, match=f"expected an address to listen on. Received: '{host}' "):
        Server(words_base, "m", port=0, host=host).start()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def start_serve(
    base: Path, port: int, rest_api_port: int, host: str = "127.0.0.1", **variables: str
) -> Iterator[subprocess.Popen]:
    """`serve` in a process, which is killed at the end if it has not ended itself."""
    arguments = "sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), 'm'"
    fractions = "file_system_poll_wait_seconds=0.5"
    code = f"import sys; from keras_tagger.serving.server import serve; serve({arguments}, {host!r}, {fractions})"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(base), str(port), str(rest_api_port)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until_ready(process: subprocess.Popen, port: int) -> list[str]:
    """Waits until `serve` answers on `port`; the lines that it has written."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "serving m version 1 on" in line:
            break
    assert f"serving m version 1 on 127.0.0.1:{port}" in lines[-1]
    return lines


class Load:
    """Eight clients that ask until they fail, for at most `seconds`; `failures` are (asked at, code)."""

    def __init__(self, raw: Raw, seconds: float = 30.0) -> None:
        self.answered = 0
        self.failures: list[tuple[float, str]] = []
        self._raw = raw
        self._end = time.monotonic() + seconds
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(8)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while (begun := time.monotonic()) < self._end:
            try:
                self._raw.predict({"x": np.ones((64, 64), np.float32)}, "square", timeout=self._end - begun)
                self.answered += 1
            except grpc.RpcError as error:
                self.failures.append((begun, error.code().name))
                return

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize(("number", "stalled_seconds"), [(signal.SIGTERM, 0.4), (signal.SIGINT, 0.0)])
def test_serve_finishes_what_runs_under_load_and_exits_0_on_a_signal(tagger_base, number, stalled_seconds, tmp_path):
    port = free_port()
    with start_serve(tagger_base, port, free_port(), PATH=str(tmp_path)) as process:
        lines = until_ready(process, port)
        process.send_signal(signal.SIGHUP)
        raw = Raw(port)
        results = []
        request = {"path": str(tmp_path / "go")}
        busy = threading.Thread(target=lambda: results.append(raw.predict(request, "wait")), daemon=True)
        busy.start()
        wait_until((tmp_path / "go.runs").exists)
        load = Load(raw)
        time.sleep(1.0)
        if stalled_seconds:
            # A busy machine: the process does not run, and what is asked meanwhile waits for it.
            process.send_signal(signal.SIGSTOP)
            time.sleep(stalled_seconds)
        sent = time.monotonic()
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        time.sleep(ARRIVING_SECONDS + REFUSING_SECONDS + 0.25)
        # One request still runs; new ones are refused.
        assert process.poll() is None
        (tmp_path / "go").touch()
        _, rest = process.communicate(timeout=60)
        busy.join()
        load.join()
    assert process.returncode == 0
    assert as_numpy(results[0])["looks"] > 1
    assert load.answered > 8
    # Whatever had reached the server before the signal was answered; a request begun just before it may come after it.
    early = sent - ON_THE_WAY_SECONDS
    assert [(begun - sent, code) for begun, code in load.failures if begun < early or code != "UNAVAILABLE"] == []
    assert len(load.failures) == 8
    ours = [line for line in [*lines, *rest.splitlines()] if not TENSORFLOW_ITSELF.match(line)]
    messages = [json.loads(line)["message"] for line in ours]
    assert messages[-1] == "stopped"
    assert "SIGHUP: reading the configuration again" in messages


def test_serve_answers_on_a_signal_what_was_asked_while_it_was_stalled(tagger_base, tmp_path):
    port = free_port()
    with start_serve(tagger_base, port, free_port(), PATH=str(tmp_path)) as process:
        until_ready(process, port)
        raw = Raw(port)
        raw.predict({"x": np.ones((64, 64), np.float32)}, "square")
        # Nothing runs that would end when the process goes on, and so show it that it is being asked.
        process.send_signal(signal.SIGSTOP)
        load = Load(raw)
        time.sleep(0.4)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
        load.join()
    assert process.returncode == 0
    early = sent - ON_THE_WAY_SECONDS
    assert [(begun - sent, code) for begun, code in load.failures if begun < early or code != "UNAVAILABLE"] == []
    assert load.answered >= 8
    assert len(load.failures) == 8


def test_a_server_that_was_asked_a_moment_ago_takes_what_is_on_its_way(tagger_base):
    with Server(tagger_base, "m", port=0) as server:
        raw = Raw(server.port)
        raw.predict({"x": np.ones((2, 2), np.float32)}, "square")
        time.sleep(0.4)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        time.sleep(0.05)
        assert as_numpy(raw.predict({"x": np.ones((2, 2), np.float32)}, "square"))["y"].tolist() == [[2, 2], [2, 2]]
        stopping.join()


def test_a_server_that_nobody_asks_stops_at_once(words_base):
    seconds = []
    for _ in range(3):
        with Server(words_base, "m", port=0):
            asked = time.monotonic()
        seconds.append(time.monotonic() - asked)
    assert min(seconds) < ARRIVING_SECONDS


@pytest.mark.parametrize(("late", "slept"), [(0.001, 0.26), (0.2, 2.025)])
def test_waiting_takes_longer_where_the_machine_is_busy(late, slept, monkeypatch):
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds + late

    monkeypatch.setattr(server, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    server.sleep_undisturbed(0.25)
    assert now[0] - 100.0 == pytest.approx(slept, abs=0.01)


def test_serve_becomes_tensorflow_model_server_when_it_is_on_path(words_base, tmp_path):
    program = tmp_path / "tensorflow_model_server"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/arguments\nexit 7\n")
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    relative = os.path.relpath(words_base)
    with start_serve(Path(relative), 1234, 8501, host="0.0.0.0", PATH=path) as process:
        process.communicate(timeout=60)
    assert process.returncode == 7
    assert (tmp_path / "arguments").read_text().splitlines() == [
        "--port=1234",
        "--rest_api_port=8501",
        "--model_name=m",
        f"--model_base_path={words_base}",
        "--file_system_poll_wait_seconds=1",
        "--enable_grpc_healthcheck_service=true",
    ]
