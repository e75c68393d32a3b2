"""A server in a process of its own, for the tools that load and attack it.

`keras-tagger serve` runs `tensorflow_model_server` where that is installed, and else the embedded server.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

MODEL = "keras_tagger"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
START_SECONDS = 600.0
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class ServerError(Exception):
    """A server that does not start, or that ended."""


@dataclass
class Served:
    """A running server.

    Attributes:
        process: None for one that somebody else started.
        port: of gRPC.
        rest_port: of REST; 0 where nothing answers there.
        log: what it wrote to stderr.
    """

    process: subprocess.Popen[bytes] | None
    port: int
    rest_port: int
    log: Path | None

    @property
    def address(self) -> str:
        """HOST:PORT of gRPC."""
        return f"127.0.0.1:{self.port}"

    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is None or self.process.poll() is None

    def cpu_seconds(self) -> float:
        """Processor time that the process has taken (Linux only)."""
        # What follows the name in parentheses: user and system time are fields 14 and 15 of proc(5), in ticks.
        fields = Path(f"/proc/{self._pid()}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Memory of the process that is in RAM (Linux only)."""
        for line in Path(f"/proc/{self._pid()}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ServerError("expected a running server. Received: one that ended")

    def _pid(self) -> int:
        if self.process is None:
            raise ServerError("expected a server of our own to measure. Received: somebody else's")
        return self.process.pid


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def serving(base_path: str | os.PathLike[str], flags: Sequence[str] = ()) -> Iterator[Served]:
    """Serve the versions below a folder until the block ends; SIGTERM then, and SIGKILL if that does not help.

    Args:
        base_path: as `keras-tagger serve` takes it.
        flags: further ones of `keras-tagger serve`.

    Raises:
        ServerError: it ended, or did not serve within ten minutes; with its last words.
    """
    port, rest_port = free_ports(2)
    command = [sys.executable, "-m", "keras_tagger", "serve", os.fspath(base_path)]
    command += [f"--port={port}", f"--rest_api_port={rest_port}", f"--model_name={MODEL}", *flags]
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stderr=stream, stdout=stream, env=environment)
        try:
            served = Served(process, port, rest_port, log)
            wait_until_serving(served)
            if not rest_answers(rest_port):
                served.rest_port = 0
            yield served
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_serving(served: Served) -> None:
    """Wait until the model's status can be had and says AVAILABLE."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if not served.alive():
            last = served.log.read_text(errors="replace")[-500:] if served.log else ""
            raise ServerError(f"expected a server. Received: one that ended: {last}")
        with grpc.insecure_channel(served.address) as channel, contextlib.suppress(grpc.RpcError):
            reply = channel.unary_unary(STATUS)(_status_request(), timeout=5)
            # ModelVersionStatus.state is field 2, AVAILABLE is 30.
            if b"\x10\x1e" in reply:
                return
        time.sleep(0.2)
    raise ServerError(f"expected a server within {START_SECONDS:g} s. Received: none at {served.address}")


def _status_request() -> bytes:
    # GetModelStatusRequest{model_spec{name}}: both are field 1.
    name = MODEL.encode()
    spec = b"\x0a" + bytes([len(name)]) + name
    return b"\x0a" + bytes([len(spec)]) + spec


def rest_answers(port: int) -> bool:
    """Whether the REST interface says anything of the model."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", f"/v1/models/{MODEL}")
        status = connection.getresponse().status
        connection.close()
    except OSError:
        return False
    return status == 200
