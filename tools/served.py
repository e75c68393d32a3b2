"""A server in its own process, for the tools that measure and attack it.

`keras-tagger serve` runs `tensorflow_model_server` if it is installed, and the embedded server otherwise.
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
from absl import flags as absl_flags

ROOT = Path(__file__).parents[1]
MODEL = "keras_tagger"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
START_SECONDS = 600.0
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class ServerError(Exception):
    """A server that does not start or has ended, or a model that cannot be exported."""


@dataclass
class Served:
    """A running server.

    Attributes:
        process: Its process; None if something else started it.
        port: Port of gRPC.
        rest_port: Port of REST; 0 if nothing answers there.
        log: File with its output.
    """

    process: subprocess.Popen[bytes] | None
    port: int
    rest_port: int
    log: Path | None

    @property
    def address(self) -> str:
        """Address of gRPC, as HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def alive(self) -> bool:
        """Return whether the process runs."""
        return self.process is None or self.process.poll() is None

    def cpu_seconds(self) -> float:
        """Return the processor time of the process (Linux only)."""
        # What follows the name in parentheses: user and system time are fields 14 and 15 of proc(5), in ticks.
        fields = Path(f"/proc/{self._pid()}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Return the resident memory of the process (Linux only)."""
        for line in Path(f"/proc/{self._pid()}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ServerError("expected a running server. Received: one that has ended.")

    def _pid(self) -> int:
        if self.process is None:
            raise ServerError("expected a server started by this program. Received: another one.")
        return self.process.pid


def define_flags() -> None:
    """Define the flags of both tools that say what is served."""
    absl_flags.DEFINE_string("model", "compact", "A pretrained name, a run directory or a .keras file to export.")
    absl_flags.DEFINE_string("base_path", None, "Folder of an export to serve, instead of exporting --model.")


def base_path(folder: Path) -> Path:
    """Return --base_path, or the folder of a new export of --model below `folder`."""
    values = absl_flags.FLAGS
    return Path(values.base_path) if values.base_path else export(values.model, folder / "exported")


def export(model: str, folder: Path) -> Path:
    """Export a model in another process, so that this one keeps its memory and threads for the measurement.

    Raises:
        ServerError: If it cannot be exported, with the last line of the error.
    """
    command = [sys.executable, "-m", "keras_tagger", "export", model, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ServerError((done.stderr.strip().splitlines() or ["export failed"])[-1])
    return folder


def free_ports(count: int) -> list[int]:
    """Return free ports of this machine."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def serving(
    base_path: str | os.PathLike[str], flags: Sequence[str] = (), root: str | os.PathLike[str] = ROOT
) -> Iterator[Served]:
    """Serve the versions below a folder until the block ends; then send SIGTERM, and SIGKILL if that has no effect.

    Args:
        base_path: DIR of `keras-tagger serve`.
        flags: Other flags of `keras-tagger serve`.
        root: Folder of the package to run; by default the one of these tools.

    Raises:
        ServerError: If it ends or does not serve within ten minutes, with the end of its output.
    """
    port, rest_port = free_ports(2)
    command = [sys.executable, "-m", "keras_tagger", "serve", os.fspath(base_path)]
    command += [f"--port={port}", f"--rest_api_port={rest_port}", f"--model_name={MODEL}", *flags]
    environment = {**os.environ, "PYTHONPATH": os.fspath(root)}
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
    """Wait until the status of the model is AVAILABLE."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if not served.alive():
            last = served.log.read_text(errors="replace")[-500:] if served.log else ""
            raise ServerError(f"expected a running server. Received: one that has ended: {last}")
        with grpc.insecure_channel(served.address) as channel, contextlib.suppress(grpc.RpcError):
            reply = channel.unary_unary(STATUS)(_status_request(), timeout=5)
            # ModelVersionStatus.state is field 2, AVAILABLE is 30.
            if b"\x10\x1e" in reply:
                return
        time.sleep(0.2)
    raise ServerError(f"expected a server within {START_SECONDS:g} s. Received: no answer from {served.address}.")


def _status_request() -> bytes:
    # GetModelStatusRequest{model_spec{name}}: both are field 1.
    name = MODEL.encode()
    spec = b"\x0a" + bytes([len(name)]) + name
    return b"\x0a" + bytes([len(spec)]) + spec


def rest_answers(port: int) -> bool:
    """Return whether REST knows the model."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", f"/v1/models/{MODEL}")
        status = connection.getresponse().status
        connection.close()
    except OSError:
        return False
    return status == 200
