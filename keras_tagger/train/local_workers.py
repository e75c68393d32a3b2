"""Start the workers of a training run as processes of this machine, and end them together."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from keras_tagger.errors import ConfigError, WorkerError

_LIFELINE = "KERAS_TAGGER_LIFELINE"  # the descriptor of a pipe that closes when the process that started this one ends
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0


def cluster_config(workers: Sequence[str], index: int | None) -> str:
    """Return the value of `TF_CONFIG` for one of several workers.

    Args:
        workers: The addresses of all workers, as host:port.
        index: Number of this worker, from 0.

    Raises:
        ConfigError: If an address is not host:port, two are the same, or there is no such worker.
    """
    for worker in workers:
        host, _, port = worker.rpartition(":")
        if not host or not port.isdecimal() or workers.count(worker) > 1:
            raise ConfigError(f"--workers: expected different addresses host:port. Received: {worker!r}.")
    if index is None or not 0 <= index < len(workers):
        received = "none" if index is None else str(index)
        raise ConfigError(f"--worker_index: expected 0..{len(workers) - 1}, this worker's place. Received: {received}.")
    return json.dumps({"cluster": {"worker": list(workers)}, "task": {"type": "worker", "index": index}})


def run_workers(count: int, command: Sequence[str]) -> int:
    """Run a command in several processes that find each other by `TF_CONFIG`, and return the exit status.

    The processes share the machine's cores and use no GPU. Only the first one's output is shown. If one stops, all do.

    Args:
        count: Number of workers.
        command: The arguments of the Python interpreter.

    Raises:
        WorkerError: If one was killed.
    """
    workers = [f"127.0.0.1:{port}" for port in free_ports(count)]
    threads = str(max((os.cpu_count() or 1) // count, 1))
    lifeline, held = os.pipe()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for index in range(count):
            environment = {
                **{"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": "2", **os.environ},
                "CUDA_VISIBLE_DEVICES": "-1",
                "TF_CONFIG": cluster_config(workers, index),
                _LIFELINE: str(lifeline),
            }
            stdout = None if index == 0 else subprocess.DEVNULL
            processes.append(
                subprocess.Popen([sys.executable, *command], env=environment, stdout=stdout, pass_fds=[lifeline])
            )
        return _first_failure(processes)
    finally:
        _end(processes)
        os.close(lifeline)
        os.close(held)


def end_with_parent() -> None:
    """End this process when the one that started it with `run_workers` ends, however that happens."""
    lifeline = os.environ.pop(_LIFELINE, "")
    if lifeline:

        def wait() -> None:
            with contextlib.suppress(OSError):
                os.read(int(lifeline), 1)
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()


def _first_failure(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    while True:
        codes = [process.poll() for process in processes]
        for index, code in enumerate(codes):
            if code is not None and code < 0:
                raise WorkerError(
                    f"expected {len(processes)} workers until the end. Received: worker {index} stopped by "
                    f"{signal.Signals(-code).name}. Run the command again with --resume."
                )
            if code:
                return code
        if all(code == 0 for code in codes):
            return 0
        time.sleep(_POLL_SECONDS)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nothing uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]
