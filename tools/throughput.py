"""Compare the throughput of two checkouts: training, tagging and gRPC, in turn on one machine.

    python tools/throughput.py --against ../other_checkout

runs every task in processes of its own, alternating between this checkout (A) and the other (B), and prints the medians
and the ratio A/B of each; above 1 means that this checkout is faster. Run it on a machine that does nothing else. Not
part of the package.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from absl import app, flags

ROOT = Path(__file__).parents[1]
FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags; the tests import this module beside others that have their own."""
    flags.DEFINE_string("against", None, "The other checkout; without one, only this checkout is measured.")
    flags.DEFINE_integer("repeats", 5, "Processes for each task and checkout.", lower_bound=1)
    flags.DEFINE_list("tasks", list(TASKS), "What to measure.")
    flags.DEFINE_string("task", None, "Used by the program itself: one measurement, printed as a number.")


def training() -> float:
    """Return seconds of audio per second while the `compact` model is trained on the demo clips."""
    import keras_tagger as kt

    with tempfile.TemporaryDirectory() as folder:
        run = kt.fit(
            {"preset": "compact", "data": {"path": "demo"}},
            run_dir=Path(folder) / "run",
            **{"training.epochs": 2, "training.batch_size": 4, "board.preview_clips": 0},
        )
        return float(run.report.training["audio_seconds_per_second"])


def tagging() -> float:
    """Return seconds of audio per second, from files to tags, of the shipped weights."""
    import keras_tagger as kt
    from keras_tagger import audio

    tagger = kt.load("compact")
    clips = sorted(Path(str(resources.files("keras_tagger") / "clips")).glob("*.ogg")) * 3
    tagger.tag(clips[0])
    seconds = sum(audio.info(clip).seconds or 0.0 for clip in clips)
    return seconds / timed(lambda: sum(1 for _ in tagger.tag_files(clips)))


def grpc() -> float:
    """Return requests per second of the embedded server: tags of clips of 10 s, one client."""
    import grpc as grpc_library
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    import keras_tagger as kt
    from keras_tagger.serving.server import Server

    with tempfile.TemporaryDirectory() as folder:
        kt.load("compact").export(folder)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "keras_tagger"
        waveform = np.random.default_rng(0).normal(0, 0.1, (1, 160_000)).astype(np.float32)
        request.inputs["waveform"].CopyFrom(tf.make_tensor_proto(waveform))
        with Server(folder, port=0) as server, grpc_library.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            count = 60

            def ask() -> None:
                for _ in range(count):
                    stub.Predict(request, timeout=60)

            ask()
            return count / timed(ask)


TASKS: dict[str, Callable[[], float]] = {"training": training, "tagging": tagging, "grpc": grpc}


def timed(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def measured(task: str, checkout: Path) -> float:
    """Run a task in a process that imports the checkout's package."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(Path(__file__).resolve()), f"--task={task}"]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{task} of {checkout}: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.splitlines()[-1])


def main(argv: Sequence[str]) -> None:
    """Measure and print a row per task."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    if FLAGS.task:
        print(json.dumps(TASKS[FLAGS.task]()))
        return
    checkouts = [ROOT, *([Path(FLAGS.against).resolve()] if FLAGS.against else [])]
    for task in FLAGS.tasks:
        # In turn, so that a machine whose speed drifts is fair to both.
        rows = [[measured(task, checkout) for checkout in checkouts] for _ in range(FLAGS.repeats)]
        medians = [statistics.median(column) for column in zip(*rows, strict=True)]
        text = f"{task:<10} " + "  ".join(f"{name} {median:.1f}" for name, median in zip("AB", medians, strict=False))
        if len(checkouts) == 2:
            ratios = sorted(a / b for a, b in rows)
            text += f"  A/B {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        print(text, flush=True)


if __name__ == "__main__":
    define_flags()
    app.run(main)
