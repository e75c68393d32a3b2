"""Throughput and latency of a served model: in-process, over gRPC and over REST, in one run.

    python tools/load_test.py                              the shipped model, tables to the terminal
    python tools/load_test.py --write docs/serving.md      and between the page's marks
    python tools/load_test.py --check                      exit status 1 unless the limits below hold

A server (`keras-tagger serve`: tensorflow_model_server where that is installed, else the embedded one) and the clients
(tools/load_client.py) are processes of their own; the model that is called in-process is loaded here. In each round the
three take turns, so that whatever else the machine does touches them alike, and ratios are taken within a round.

Closed loop: --concurrency clients, each of which asks when it has its answer. Open loop: requests come at random
moments at --load of the rate that gRPC reached in the closed loop; latency counts from the moment a request came.
Mixed: of ten requests, six ask for tags of 4 s, and one each for tags of 1 s, tags of 30 s, attention and contributions
of 4 s.

--check holds the embedded server to what the project promises: over gRPC, with clips of 4 s, at least 85 % of the
throughput in-process with as many callers and the same batch size, and p99 at most 4 times p50 at 70 % load.
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
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from pages import replace_marked
from tqdm import tqdm

import served
from keras_tagger import audio
from keras_tagger.errors import KerasTaggerError
from load_report import Loop, Round, Settings, page, shortfalls

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
    flags.DEFINE_string("model", "compact", "A pretrained name, a run directory or a .keras file.")
    flags.DEFINE_string("base_path", None, "Folder of an export to serve, instead of exporting --model.")
    flags.DEFINE_float("clip_seconds", 4.0, "Length of the clips that are not mixed.", lower_bound=0.1)
    flags.DEFINE_integer("batch", 1, "Clips a request.", lower_bound=1)
    flags.DEFINE_integer("concurrency", 8, "Clients in the closed loop, and callers in-process.", lower_bound=1)
    flags.DEFINE_integer("client_processes", 2, "Processes that the clients are spread over.", lower_bound=1)
    flags.DEFINE_float("seconds", 8.0, "Measured time of each loop.", lower_bound=0.2)
    flags.DEFINE_float("warmup_seconds", 2.0, "Time before it.", lower_bound=0.0)
    flags.DEFINE_integer("rounds", 3, "Rounds of all loops.", lower_bound=1)
    flags.DEFINE_float("load", 0.7, "Open loop: share of the closed loop's rate.", lower_bound=0.01, upper_bound=1.0)
    flags.DEFINE_bool("rest", True, "Whether REST is loaded too, where the server has it.")
    flags.DEFINE_multi_string("server_flag", [], "A further flag for the server, such as --enable_batching.")
    flags.DEFINE_string("write", None, "A Markdown file with marks to put the tables between.")
    flags.DEFINE_bool("check", False, "Whether limits that do not hold are an exit status of 1.")


def main(argv: Sequence[str]) -> None:
    """Measure, print, write and check."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            base = Path(FLAGS.base_path) if FLAGS.base_path else export(FLAGS.model, Path(folder) / "exported")
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
    """What stops a measurement, in one sentence."""


def export(model: str, folder: Path) -> Path:
    """An export of a model, in a process of its own: this one keeps its memory and threads for the measurement."""
    command = [sys.executable, "-m", "keras_tagger", "export", model, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise LoadError((done.stderr.strip().splitlines() or ["export failed"])[-1])
    return folder


def clips(seconds: float, count: int) -> np.ndarray:
    """Excerpts of the clips that the package ships, float32 [count, samples]."""
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
    """The highest version below a folder."""
    versions = [entry for entry in base.iterdir() if entry.name.isdigit()]
    if not versions:
        raise LoadError(f"expected a folder with numbered versions. Received: {base}")
    return max(versions, key=lambda entry: int(entry.name))


class InProcess:
    """The SavedModel called by threads of this process."""

    def __init__(self, version: Path) -> None:
        import tensorflow as tf

        self._loaded = tf.saved_model.load(str(version))
        self._constant = tf.constant

    def loop(self, requests: Sequence[tuple[str, np.ndarray]], weights: Sequence[int], settings: Settings) -> Loop:
        """A closed loop of `concurrency` callers."""
        calls = [self._call(signature, waveform) for signature, waveform in requests]
        for call in calls:
            # Tracing is once; a server has it behind it when it is ready.
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
        # As a caller with an array in hand would: the copy into a tensor counts.
        return lambda: {name: value.numpy() for name, value in function(waveform=self._constant(waveform)).items()}


def _time_cpu(loop: Loop, cpu_seconds: Callable[[], float], settings: Settings) -> None:
    """Processor time within the measured time, which begins after the warm-up from now."""
    time.sleep(settings.warmup_seconds)
    before = cpu_seconds()
    time.sleep(settings.seconds)
    loop.cpu_seconds = cpu_seconds() - before


def grpc_body(signature: str, waveform: np.ndarray) -> bytes:
    """A serialized PredictRequest."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = served.MODEL
    request.model_spec.signature_name = signature
    request.inputs["waveform"].CopyFrom(tf.make_tensor_proto(waveform))
    return request.SerializeToString()


def rest_body(signature: str, waveform: np.ndarray) -> bytes:
    """A JSON request in columnar form, with the digits that a float32 has."""
    rows = ",".join(f"[{','.join(np.format_float_positional(v, trim='-') for v in row)}]" for row in waveform)
    return f'{{"signature_name":"{signature}","inputs":{{"waveform":[{rows}]}}}}'.encode()


def client_loop(
    kind: str, server: served.Served, files: Sequence[Path], weights: Sequence[int], settings: Settings, rate: float
) -> Loop:
    """A loop of client processes; an open one where `rate` is above 0."""
    rest = kind == "rest"
    processes = max(1, min(settings.client_processes, settings.concurrency))
    with tempfile.TemporaryDirectory() as folder:
        running = []
        # Python needs a moment to come up; then all begin together.
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
                raise LoadError("expected clients that end well. Received: one that failed, as it says above")
            result = json.loads(output)
            found.latencies += result["latencies"]
            for text, count in result["failures"].items():
                found.failures[text] = found.failures.get(text, 0) + count
    return found


def measure(base: Path, server: served.Served, settings: Settings, folder: Path) -> list[Round]:
    """All loops, round by round."""
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
            reason = next(iter(loop.failures), "none came back in time")
            raise LoadError(f"expected answers ({name}). Received: {reason}")
        rounds.append(found)
    return rounds


def command_line() -> str:
    """The command of the page; of a path, its last part."""
    words = ["python", "tools/load_test.py"]
    for name in ("model", "base_path", *(setting.name for setting in fields(Settings)), "rest", "server_flag"):
        if FLAGS[name].present:
            values = FLAGS[name].value if isinstance(FLAGS[name].value, list) else [FLAGS[name].value]
            words += [f"--{name}={Path(value).name if isinstance(value, str) else value}" for value in values]
    return shlex.join(words)


if __name__ == "__main__":
    define_flags()
    app.run(main)
