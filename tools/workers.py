"""Check that training on several workers is training on one, also if workers are killed.

    python tools/workers.py                  three epochs of 18 steps of a small model on the clips of the package
    python tools/workers.py --preset compact --steps 6     the time of a step of a whole preset, without killing

trains once with one worker; once with two; with two of which first the second and then the first is killed
(`kill -9`), each time followed by `--resume`; and with two workers up to the first kill and one worker from there. It
prints how far losses, step by step, and the last weights are from those of one worker, and seconds per step. Every
worker has one thread. Not part of the package.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

ROOT = Path(__file__).parents[1]
FLAGS = flags.FLAGS
SMALL = {
    "preset": "compact",
    "audio": {"window_seconds": 1.0},
    "model": {
        "spectrogram": {"n_mels": 32},
        "front_end": {"channels": [4, 8, 8, 8]},
        "encoder": {"n_layers": 2, "n_heads": 2, "width": 16, "feed_forward": 32},
    },
    "training": {"epochs": 3, "batch_size": 8, "checkpoint_steps": 1, "augment": {"mixup_alpha": 0.2}},
    "board": {"preview_clips": 0, "embedding_clips": 0},
}
KILLS = ((1, 17), (0, 33))  # which worker, and at which step


def define_flags() -> None:
    """Define the program's flags; the tests import this module beside others that have their own."""
    flags.DEFINE_string("preset", None, "Measure the step of this preset instead.")
    flags.DEFINE_integer("steps", 6, "Steps for --preset, of which the first is not timed.", lower_bound=2)
    flags.DEFINE_integer("batch_size", 8, "Crops per step for --preset.", lower_bound=2)


def fit(config: Path, run: Path, workers: int, kill: tuple[int, int] | None = None) -> bool:
    """Run `keras-tagger fit --resume`; return whether it ended well. `kill` ends a worker at a step."""
    command = [sys.executable, "-m", "keras_tagger", "fit", str(config), f"--run_dir={run}", "--resume"]
    command += [f"--workers={workers}"] if workers > 1 else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1"}
    with (run.parent / f"{run.name}.log").open("a") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        while kill and process.poll() is None:
            if done_steps(run) >= kill[1]:
                os.kill(worker_processes(process.pid)[kill[0]], signal.SIGKILL)
                break
            time.sleep(0.05)
        return process.wait() == 0


def worker_processes(pid: int) -> list[int]:
    """Return the workers that a process has started, in order."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def done_steps(run: Path) -> int:
    """Return how many steps the checkpoint of a run has."""
    from keras_tagger.storage.run_dir import RunDir
    from keras_tagger.train.checkpoint import read_progress

    path = RunDir(run).checkpoint
    return read_progress(path).total_steps if path.exists() else 0


def losses(run: Path) -> dict[int, float]:
    """Return the loss of each step, as TensorBoard has it; steps that were made again count once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[int, float] = {}
    for path in sorted((run / "logs").rglob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime):
        events = EventAccumulator(str(path), {"tensors": 0, "scalars": 0})
        events.Reload()
        for tag in events.Tags()["tensors"]:
            if tag == "steps/loss":
                import tensorflow as tf

                found |= {event.step: float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)}
    return found


def difference(run: Path, reference: Path) -> str:
    """Return the largest differences of two runs, in words."""
    from keras_tagger.storage.run_dir import RunDir

    found, expected = losses(run), losses(reference)
    # A process that is killed loses what TensorBoard's writer had not written.
    gaps = [abs(found[step] - expected[step]) / expected[step] for step in expected if step in found]
    with np.load(RunDir(run).checkpoint) as one, np.load(RunDir(reference).checkpoint) as two:
        names = [name for name in two.files if name != "progress" and two[name].dtype.kind == "f"]
        weights = max(float(np.abs(one[name] - two[name]).max()) for name in names)
    return (
        f"{len(gaps)} of {len(expected)} losses within {max(gaps):.1e} (relative), "
        f"weights and optimiser within {weights:.1e}"
    )


def seconds_per_step(run: Path) -> float:
    """Return the mean time of the steps that did not trace the graph."""
    training = json.loads((run / "report.json").read_text())["training"]
    return float(training["train_seconds"]) / (training["steps"] - 1)


def check_equality(folder: Path) -> bool:
    """Print a row for each way of training; return whether all succeeded."""
    config = folder / "small.yaml"
    config.write_text(json.dumps({**SMALL, "data": {"path": "demo"}}))
    one = folder / "one"
    ended = fit(config, one, 1)
    runs: dict[str, tuple[Path, list[Any]]] = {
        "two workers": (folder / "two", [(2, None)]),
        "two workers, each killed once": (folder / "killed", [(2, KILLS[0]), (2, KILLS[1]), (2, None)]),
        "two workers, then one": (folder / "then_one", [(2, KILLS[0]), (1, None)]),
    }
    for name, (run, ways) in runs.items():
        for workers, kill in ways:
            good = fit(config, run, workers, kill)
            ended &= good == (kill is None)
            if kill:
                print(f"  worker {kill[0]} killed; the checkpoint has {done_steps(run)} steps", flush=True)
        print(f"{name}: {difference(run, one)}", flush=True)
    return ended


def measure_steps(folder: Path) -> bool:
    """Print the seconds per step of one worker and of two that have half of the batch each."""
    config = folder / "preset.yaml"
    size = FLAGS.batch_size
    training = {"epochs": 1, "batch_size": size, "epoch_crops": FLAGS.steps * size, "checkpoint_steps": 10_000}
    config.write_text(
        json.dumps(
            {
                **{"preset": FLAGS.preset, "data": {"path": "demo"}, "training": training},
                "audio": {"window_seconds": 3.0},
                "board": {"preview_clips": 0, "embedding_clips": 0},
            }
        )
    )
    ended = all([fit(config, folder / "one", 1), fit(config, folder / "two", 2)])
    one, two = seconds_per_step(folder / "one"), seconds_per_step(folder / "two")
    print(f"{FLAGS.preset}, {size} crops of 3 s: {one:.3f} s a step with one worker, {two:.3f} s with two", flush=True)
    return ended


def main(argv: Sequence[str]) -> None:
    """Run the check; the exit status is 1 if a run ended otherwise than it should."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not (measure_steps(folder) if FLAGS.preset else check_equality(folder)):
            print("\n".join(path.read_text()[-3000:] for path in folder.glob("*.log")), file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    define_flags()
    app.run(main)
