"""Compare the time that tagging many files takes with the bound that the cores allow.

    python tools/core_time.py                 30 s clips and songs of 4 minutes, all cores
    python tools/core_time.py --against ../other_checkout   alternate between this checkout (A) and the other (B)

The bound is the processor time of decoding and of the model, each measured alone in one thread, over the number of
cores. `wall / bound` is 1 if no core ever waits. Run it on a machine that does nothing else; the processor times are
right on a busy one too. The clips are those in the package, as stereo mp3s. Not part of the package.
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
from pathlib import Path

import numpy as np
from absl import app, flags

ROOT = Path(__file__).parents[1]
FLAGS = flags.FLAGS
RATE = 44100
KINDS = {"clips of 30 s": (30.0, 48), "songs of 240 s": (240.0, 8)}


def define_flags() -> None:
    """Define the program's flags; the tests import this module beside others that have their own."""
    flags.DEFINE_string("against", None, "The other checkout; without one, only this checkout is measured.")
    flags.DEFINE_integer("repeats", 3, "Processes for each kind of file and checkout.", lower_bound=1)
    flags.DEFINE_string("model", "compact", "A pretrained name, a run directory or a .keras file.")
    flags.DEFINE_list("kinds", [name.split()[0] for name in KINDS], "What to measure: clips, songs.")
    flags.DEFINE_string("task", None, "Used by the program itself: a folder of files; prints the measurement as JSON.")


def make_files(folder: Path, seconds: float, count: int) -> None:
    """Write stereo mp3s of this length, at about 160 kb/s, each another excerpt of the package's clips."""
    import soundfile

    from keras_tagger import audio

    sources = sorted((ROOT / "keras_tagger" / "clips").glob("*.ogg"))
    music = np.concatenate([audio.load(source, RATE) for source in sources])
    for index in range(count):
        part = np.resize(np.roll(music, -index * 9 * RATE), int(seconds * RATE))
        stereo = np.stack([part, 0.7 * np.roll(part, RATE // 100)], axis=1)
        soundfile.write(folder / f"{index:03}.mp3", stereo, RATE, format="MP3", subtype="MPEG_LAYER_III")


def measure(folder: Path, model: str) -> dict[str, float]:
    """Return seconds per file: of the processor for decoding and for the model, and of the clock for both."""
    import keras_tagger as kt

    paths = sorted(folder.glob("*.mp3"))
    tagger = kt.load(model)
    windowing = tagger.model.windowing
    few = paths[: max(len(paths) // 4, 2)]
    tagger.tag(paths[0])

    def decode() -> None:
        for path in few:
            sum(len(window.waveform) for window in windowing.cut(path))

    windows = [[window.waveform for window in windowing.cut(path)] for path in few]
    full = np.stack([waveform for waveforms in windows for waveform in waveforms])

    def run() -> None:
        for start in range(0, len(full), 4):
            tagger.model.analyze(full[start : start + 4], ("tags",))["tags"].numpy()

    def tag() -> None:
        for _, tags in tagger.tag_files(paths):
            if isinstance(tags, Exception):
                raise tags

    tag()
    result = {name: _processor(call) / len(few) for name, call in (("decode", decode), ("model", run))}
    started, used = time.perf_counter(), time.process_time()
    tag()
    wall, used = time.perf_counter() - started, time.process_time() - used
    cores = len(os.sched_getaffinity(0))
    bound = (result["decode"] + result["model"]) / cores
    return {**result, "bound": bound, "wall": wall / len(paths), "processor": used / len(paths)}


def _processor(call: Callable[[], None]) -> float:
    call()
    started = time.process_time()
    call()
    return time.process_time() - started


def measured(folder: Path, checkout: Path) -> dict[str, float]:
    """Measure in a process that imports the checkout's package."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(Path(__file__).resolve()), f"--task={folder}", f"--model={FLAGS.model}"]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{checkout}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(argv: Sequence[str]) -> None:
    """Measure and print a row for each kind of file and checkout, in milliseconds per file."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    if FLAGS.task:
        print(json.dumps(measure(Path(FLAGS.task), FLAGS.model)))
        return
    checkouts = {"A": ROOT, **({"B": Path(FLAGS.against).resolve()} if FLAGS.against else {})}
    print("| files | decode | model | bound | wall | wall / bound | processor |\n|---|---|---|---|---|---|---|")
    for kind, (seconds, count) in KINDS.items():
        if kind.split()[0] not in FLAGS.kinds:
            continue
        with tempfile.TemporaryDirectory() as folder:
            make_files(Path(folder), seconds, count)
            rows: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
            for _ in range(FLAGS.repeats):  # in turn, so that a machine whose speed drifts is fair to both
                for name, checkout in checkouts.items():
                    rows[name].append(measured(Path(folder), checkout))
        for name, found in rows.items():
            middle = {key: 1000 * statistics.median(row[key] for row in found) for key in found[0]}
            ratio = statistics.median(row["wall"] / row["bound"] for row in found)
            cells = [f"{middle[key]:.1f}" for key in ("decode", "model", "bound", "wall", "processor")]
            cells.insert(4, f"{ratio:.2f}")
            label = f"{kind} ({name})" if len(checkouts) > 1 else kind
            print(f"| {' | '.join([label, *cells])} |", flush=True)


if __name__ == "__main__":
    define_flags()
    app.run(main)
