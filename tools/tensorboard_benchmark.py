"""Measure the `keras_tagger` tab of TensorBoard on a large log directory.

    python tools/tensorboard_benchmark.py [--runs 20 --steps 50 --clips 8] [--logdir logs]

makes a log directory with one demo clip under several names, whose maps differ from step to step, starts TensorBoard
on it, opens the tab in a headless Chromium, and prints how long the first view and changes of the step take. Needs
playwright and a Chromium. `--logging` measures instead what logging one clip costs. Not part of the package.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
CLIP = "rock_guitar_war.ogg"
SECONDS = 30.0


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_integer("runs", 20, "Number of runs.", lower_bound=1)
    flags.DEFINE_integer("steps", 50, "Steps per run.", lower_bound=1)
    flags.DEFINE_integer("clips", 8, "Clips per run.", lower_bound=1)
    flags.DEFINE_integer("changes", 20, "How many changes of the step are timed.", lower_bound=1)
    flags.DEFINE_string(
        "logdir", None, "Where the logs are made, or found if they exist; a temporary folder by default."
    )
    flags.DEFINE_string("model", "compact", "The model that logs.")
    flags.DEFINE_bool("logging", False, "Measure what logging one clip costs.")


def song(rate: int) -> np.ndarray:
    """Return 30 s of audio, float32 `[samples]`."""
    from keras_tagger import audio

    with resources.as_file(resources.files("keras_tagger") / "clips" / CLIP) as path:
        wave = audio.load(str(path), rate)
    return np.resize(wave, int(SECONDS * rate))


def make_logs(folder: Path, model: str, runs: int, steps: int, clips: int) -> None:
    """Write a run per folder below `folder`; all have the same content."""
    import tensorflow as tf

    import keras_tagger as kt
    from keras_tagger.views.board.log import write_explanation
    from keras_tagger.views.preview import examine

    tagger = kt.load(model)
    rate = tagger.model.audio_config.sample_rate
    examined = examine(tagger, (song(rate), rate), "clip")
    rng = np.random.default_rng(0)
    shown = examined.contributions
    by_step = []
    for step in range(steps):
        # As if training moved the scores from a base rate to what they are.
        done = (step + 1) / steps
        values = 0.1 + done * (shown.values - 0.1) + rng.normal(0, 0.03 * (1 - done) + 1e-3, shown.values.shape)
        scores = 0.1 + done * (np.asarray(shown.scores) - 0.1)
        maps = dataclasses.replace(shown, values=np.clip(values, 0, 1), scores=scores)
        by_step.append(dataclasses.replace(examined, contributions=maps))
    writer = tf.summary.create_file_writer(str(folder / "run_00"))
    for step, one in enumerate(by_step, 1):
        for clip in range(clips):
            write_explanation(writer, tagger, dataclasses.replace(one, name=f"clip {clip}"), step)
    writer.close()
    for run in range(1, runs):
        shutil.copytree(folder / "run_00", folder / f"run_{run:02d}")


@contextmanager
def tensorboard(logdir: Path, *arguments: str) -> Iterator[str]:
    """Run TensorBoard on a folder, and yield its address when it has read everything."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", str(port), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://localhost:{port}"
    try:
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)


def n_maps(address: str) -> int:
    """Return how many pairs of clip and step TensorBoard has read."""
    try:
        with urllib.request.urlopen(f"{address}/data/plugin/keras_tagger/runs", timeout=30) as answer:
            runs = json.load(answer)["runs"]
    except OSError:
        return 0
    return sum(len(clip["steps"]) for run in runs for clip in run["clips"])


def measure(logdir: Path, expected: int, changes: int) -> dict[str, float]:
    """Return the seconds of the first view and of changes of the step, in a browser."""
    from playwright.sync_api import sync_playwright

    found = {}
    started = time.perf_counter()
    with tensorboard(logdir) as address:
        while n_maps(address) < expected:
            if time.perf_counter() - started > 300:
                raise RuntimeError(f"expected {expected} maps within 300 s. Received: {n_maps(address)}.")
            time.sleep(0.2)
        found["TensorBoard has read the logs"] = time.perf_counter() - started
        with sync_playwright() as playwright:
            flags_ = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags_)
            for view in ("first view of the tab", "second view of the tab"):
                page = browser.new_page(viewport={"width": 1600, "height": 1000})
                started = time.perf_counter()
                page.goto(f"{address}/data/plugin_entry.html?name=keras_tagger")
                page.wait_for_selector(".side[data-step]")
                page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
                found[view] = time.perf_counter() - started
            times = []
            slider = page.locator("input[type=range][aria-label='Step of side A']")
            last = int(slider.get_attribute("max") or 0)
            order = np.random.default_rng(0).permutation(last)[:changes]
            for index in order.tolist():
                # From the event to the frame that shows the new maps.
                times.append(page.evaluate(CHANGE, index) / 1000)
            browser.close()
    found["change of the step, median"] = statistics.median(times)
    found["change of the step, longest"] = max(times)
    return found


CHANGE = """(index) => new Promise((done) => {
    const side = document.querySelector(".side");
    const slider = side.querySelector("input[type=range]");
    delete side.dataset.step;
    const started = performance.now();
    new MutationObserver((_, observer) => {
        observer.disconnect();
        requestAnimationFrame(() => setTimeout(() => done(performance.now() - started)));
    }).observe(side, { attributes: true, attributeFilter: ["data-step"] });
    slider.value = index;
    slider.dispatchEvent(new Event("input"));
})"""


def logging_costs(model: str, repeats: int = 10) -> dict[str, float]:
    """Return the seconds that logging one clip takes, by part, medians."""
    import tensorflow as tf

    import keras_tagger as kt
    from keras_tagger.views.board.log import write_explanation
    from keras_tagger.views.preview import examine

    tagger = kt.load(model)
    rate = tagger.model.audio_config.sample_rate
    wave = song(rate)
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        started = time.perf_counter()
        result = work(*arguments)
        times.setdefault(name, []).append(time.perf_counter() - started)
        return result

    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats + 2):
            writer = tf.summary.create_file_writer(f"{folder}/{repeat}")
            examined = timed("the model's pass", examine, tagger, (wave, rate), "clip")
            timed("write, first time", write_explanation, writer, tagger, examined, 0)
            timed("write, later", write_explanation, writer, tagger, examined, 1)
            timed("draw the picture", _drawn, examined.preview())
            writer.close()
    # The first rounds trace the graph.
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def _drawn(preview: Any) -> bytes:
    from keras_tagger.views.preview import figure_to_png, preview_figure

    return figure_to_png(preview_figure(preview))


def main(_: list[str]) -> None:
    """Print the measurements."""
    if FLAGS.logging:
        found = logging_costs(FLAGS.model)
    else:
        folder = Path(FLAGS.logdir or tempfile.mkdtemp(prefix="tensorboard_benchmark_"))
        if not any(folder.glob("run_*")):
            make_logs(folder, FLAGS.model, FLAGS.runs, FLAGS.steps, FLAGS.clips)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{FLAGS.runs} runs x {FLAGS.steps} steps x {FLAGS.clips} clips: {size / 1e6:.0f} MB in {folder}")
        found = measure(folder, FLAGS.runs * FLAGS.steps * FLAGS.clips, FLAGS.changes)
    for name, seconds in found.items():
        print(f"{name:34s} {1000 * seconds:8.0f} ms")


if __name__ == "__main__":
    define_flags()
    app.run(main)
