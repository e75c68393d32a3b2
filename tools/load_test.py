"""Throughput and latency of a served model: in-process, over gRPC and over REST, in one run.

    python tools/load_test.py                              the shipped model, tables on the terminal
    python tools/load_test.py --write docs/serving.md      and also between the marks of this page
    python tools/load_test.py --check                      exit status 1 if a limit below does not hold

The server (`keras-tagger serve`: tensorflow_model_server if it is installed, else the embedded one) and the clients
(tools/load_client.py) run in their own processes; the model called in-process is loaded here. In each round the three
take turns, so that other load on the machine affects all of them, and ratios are taken within a round.

Closed loop: --concurrency clients, each of which sends a request when it has its reply. Open loop: requests arrive at
random times at --load of the rate of the closed loop; latency counts from the arrival. Mixed: of ten requests, six ask
for tags of 4 s, and one each for tags of 1 s, tags of 30 s, attention of 4 s and contributions of 4 s.

--check enforces the project's promises for the embedded server: over gRPC, with clips of 4 s, at least 85 % of the
in-process throughput with as many callers and the same batch size, and a p99 of at most 4 times p50 at 70 % load.
"""

from __future__ import annotations

import concurrent.futures
import json
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from tqdm import tqdm

import served
from keras_tagger import audio
from keras_tagger.errors import KerasTaggerError
from load_report import Loop, Round, Settings, page, shortfalls
from pages import replace_marked

RATE = 16000
CLIENT = Path(__file__).with_name("load_client.py")
MARK = "load_test"
# Signature, seconds, how many of ten.
MIX = (
    ("serving_default", 4.0, 6),
    ("serving_default", 1.0, 1),
    ("serving_default", 30.0, 1),
    ("attention", 4.0, 1),
    ("contributions", 4.0, 1),
)

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags; the tests import this module beside others that have their own."""
    served.define_flags()
    flags.DEFINE_float("clip_seconds", 4.0, "Length of the clips outside the mix.", lower_bound=0.1)
    flags.DEFINE_integer("batch", 1, "Clips per request.", lower_bound=1)
    flags.DEFINE_integer("concurrency", 8, "Clients in the closed loop, and in-process callers.", lower_bound=1)
    flags.DEFINE_integer("client_processes", 2, "Processes that run the clients.", lower_bound=1)
    flags.DEFINE_float("seconds", 8.0, "Measured seconds of each loop.", lower_bound=0.2)
    flags.DEFINE_float("warmup_seconds", 2.0, "Seconds of warm-up before each loop.", lower_bound=0.0)
    flags.DEFINE_integer("rounds", 3, "Rounds of all loops.", lower_bound=1)
    flags.DEFINE_float("load", 0.7, "Open loop: share of the closed loop's rate.", lower_bound=0.01, upper_bound=1.0)
    flags.DEFINE_bool("rest", True, "Whether to measure REST too, if the server has it.")
    flags.DEFINE_multi_string("server_flag", [], "Another flag of the server, such as --enable_batching.")
    flags.DEFINE_string("write", None, "A Markdown file; the tables replace what is between its marks.")
    flags.DEFINE_bool("check", False, "Whether to exit with status 1 if a limit does not hold.")


def main(argv: Sequence[str]) -> None:
    """Measure, print, write and check."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            base = served.base_path(Path(folder))
            settings = Settings(**{setting.name: FLAGS[setting.name].value for setting in fields(Settings)})
            with served.serving(base, FLAGS.server_flag) as server:
                if not FLAGS.rest:
                    server.rest_port = 0
                rounds = measure(base, server, settings, Path(folder))
        text = page(rounds, settings, command_line())
        print(text)
        if FLAGS.write:
            replace_marked(Path(FLAGS.write), MARK, text)
    except (KerasTaggerError, OSError, served.ServerError, LoadError) as error:
        sys.exit(f"error: {error}")
    missed = shortfalls(rounds)
    for line in missed:
        print(f"not held: {line}", file=sys.stderr)
    sys.exit(1 if missed and FLAGS.check else 0)


class LoadError(Exception):
    """An error that stops the measurement, as one sentence."""


def clips(seconds: float, count: int) -> np.ndarray:
    """Return excerpts of the package's clips, float32 `[count, samples]`."""
    folder = resources.files("keras_tagger") / "clips"
    paths = sorted(str(path) for path in folder.iterdir() if path.name.endswith(".ogg"))
    samples = round(seconds * RATE)
    found = []
    for index in range(count):
        waveform = audio.load(paths[index % len(paths)], RATE)
        found.append(np.resize(waveform, samples) if len(waveform) < samples else waveform[-samples:])
    return np.stack(found).astype(np.float32)


# --- the three ways ----------------------------------------------------------------------------------------------


def newest(base: Path) -> Path:
    """Return the folder of the highest version."""
    versions = [entry for entry in base.iterdir() if entry.name.isdigit()]
    if not versions:
        raise LoadError(f"expected a folder with numbered versions. Received: {base}.")
    return max(versions, key=lambda entry: int(entry.name))


class InProcess:
    """The SavedModel, called by threads of this process."""

    def __init__(self, version: Path) -> None:
        import tensorflow as tf

        self._loaded = tf.saved_model.load(str(version))
        self._constant = tf.constant

    def loop(self, requests: Sequence[tuple[str, np.ndarray]], weights: Sequence[int], settings: Settings) -> Loop:
        """Run a closed loop of `concurrency` callers."""
        calls = [self._call(signature, waveform) for signature, waveform in requests]
        for call in calls:
            # Trace before measuring, as a server does before it is ready.
            call()
        begin = time.perf_counter() + settings.warmup_seconds
        end = begin + settings.seconds
        found = Loop(settings.seconds, [])
        lock = threading.Lock()
        timing = threading.Thread(target=_time_cpu, args=(found, time.process_time, settings))
        timing.start()

        def work(number: int) -> None:
            rng = np.random.default_rng(number)
            share = np.asarray(weights) / np.sum(weights)
            while (came := time.perf_counter()) < end:
                calls[int(rng.choice(len(calls), p=share))]()
                answered = time.perf_counter()
                if begin <= answered < end:
                    with lock:
                        found.latencies.append(answered - came)

        with concurrent.futures.ThreadPoolExecutor(settings.concurrency) as pool:
            for future in [pool.submit(work, number) for number in range(settings.concurrency)]:
                future.result()
        timing.join()
        return found

    def _call(self, signature: str, waveform: np.ndarray) -> Callable[[], Any]:
        function = self._loaded.signatures[signature]
        # Includes the copy of the array into a tensor.
        return lambda: {name: value.numpy() for name, value in function(waveform=self._constant(waveform)).items()}


def _time_cpu(loop: Loop, cpu_seconds: Callable[[], float], settings: Settings) -> None:
    """Measure the processor time within the measured time, which begins after a warm-up from now."""
    time.sleep(settings.warmup_seconds)
    before = cpu_seconds()
    time.sleep(settings.seconds)
    loop.cpu_seconds = cpu_seconds() - before


def grpc_body(signature: str, waveform: np.ndarray) -> bytes:
    """Return a serialized PredictRequest."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = served.MODEL
    request.model_spec.signature_name = signature
    request.inputs["waveform"].CopyFrom(tf.make_tensor_proto(waveform))
    return request.SerializeToString()


def rest_body(signature: str, waveform: np.ndarray) -> bytes:
    """Return a JSON request in columnar form, with the digits of a float32."""
    rows = ",".join(f"[{','.join(np.format_float_positional(v, trim='-') for v in row)}]" for row in waveform)
    return f'{{"signature_name":"{signature}","inputs":{{"waveform":[{rows}]}}}}'.encode()


def client_loop(
    kind: str,
    server: served.Served,
    files: Sequence[Path],
    weights: Sequence[int],
    settings: Settings,
    rate: float,
    more: Mapping[str, Any] | None = None,
) -> Loop:
    """Run a loop with client processes; an open loop if `rate` is positive. `more` has optional fields of the plan."""
    rest = kind == "rest"
    processes = max(1, min(settings.client_processes, settings.concurrency))
    with tempfile.TemporaryDirectory() as folder:
        running = []
        # Python takes a moment to start; then all clients begin together.
        start = time.time() + 1.5
        for number in range(processes):
            share = settings.concurrency // processes + (number < settings.concurrency % processes)
            plan = {
                "kind": kind,
                "address": f"127.0.0.1:{server.rest_port if rest else server.port}",
                "path": f"/v1/models/{served.MODEL}:predict" if rest else served.PREDICT,
                "requests": [str(file) for file in files],
                "weights": list(weights),
                "mode": "open" if rate else "closed",
                "workers": share,
                "seconds": settings.seconds,
                "warmup_seconds": settings.warmup_seconds,
                "rate": rate / processes,
                "seed": number,
                "start": start,
                **(more or {}),
            }
            path = Path(folder) / f"{number}.json"
            path.write_text(json.dumps(plan))
            running.append(subprocess.Popen([sys.executable, str(CLIENT), str(path)], stdout=subprocess.PIPE))
        found = Loop(settings.seconds, [], offered=rate or None)
        time.sleep(max(start - time.time(), 0.0))
        _time_cpu(found, server.cpu_seconds, settings)
        for process in running:
            output, _ = process.communicate()
            if process.returncode:
                raise LoadError("expected all clients to succeed. Received: a failure; see its output above.")
            result = json.loads(output)
            found.latencies += result["latencies"]
            for text, count in result["failures"].items():
                found.failures[text] = found.failures.get(text, 0) + count
    return found


def measure(base: Path, server: served.Served, settings: Settings, folder: Path) -> list[Round]:
    """Measure all loops, round by round."""
    single = [("serving_default", clips(settings.clip_seconds, settings.batch))]
    mixed = [(signature, clips(seconds, settings.batch)) for signature, seconds, _ in MIX]
    weights = {"": [1], ", mixed": [count for *_, count in MIX]}
    requests = {"": single, ", mixed": mixed}
    kinds = {"grpc": ("gRPC", grpc_body)}
    if server.rest_port:
        kinds["rest"] = ("REST", rest_body)
    files: dict[tuple[str, str], list[Path]] = {}
    for kind, (_, encode) in kinds.items():
        for name, group in requests.items():
            paths = [folder / f"{kind}{len(files)}-{index}" for index in range(len(group))]
            for path, request in zip(paths, group, strict=True):
                path.write_bytes(encode(*request))
            files[kind, name] = paths
    here = InProcess(newest(base))
    rounds: list[Round] = []
    for _ in tqdm(range(settings.rounds), desc="rounds", unit="round", disable=None):
        found: Round = {}
        for name in requests:
            found[f"in-process{name}"] = here.loop(requests[name], weights[name], settings)
            for kind, (title, _) in kinds.items():
                found[f"{title}{name}"] = client_loop(kind, server, files[kind, name], weights[name], settings, 0.0)
        for kind, (title, _) in kinds.items():
            rate = settings.load * found[title].rate
            found[f"{title}, open"] = client_loop(kind, server, files[kind, ""], [1], settings, rate)
        if not all(loop.latencies for loop in found.values()):
            name, loop = next((name, loop) for name, loop in found.items() if not loop.latencies)
            reason = next(iter(loop.failures), "no reply in time")
            raise LoadError(f"expected replies ({name}). Received: {reason}.")
        rounds.append(found)
    return rounds


def command_line() -> str:
    """Return the command line for the page, with the last part of each path."""
    words = ["python", "tools/load_test.py"]
    for name in ("model", "base_path", *(setting.name for setting in fields(Settings)), "rest", "server_flag"):
        if FLAGS[name].present:
            values = FLAGS[name].value if isinstance(FLAGS[name].value, list) else [FLAGS[name].value]
            words += [f"--{name}={Path(value).name if isinstance(value, str) else value}" for value in values]
    return shlex.join(words)


if __name__ == "__main__":
    define_flags()
    app.run(main)
