"""Measure exports: every format and precision of packaged models, each run in its own runtime. Prints a table.

    python tools/exports.py compact pons --out exports.md
    python tools/exports.py compact --formats onnx --precisions float32

Differences are the largest from Keras' tags, attention and contributions over windows of the packaged clips and of the
clips in `--clips`. Time is the processor time of a window of the model beside that of the SavedModel's signature in the
same run. Not part of the package.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from absl import app, flags

from keras_tagger.errors import ModelError
from keras_tagger.export import formats
from keras_tagger.export.formats import COMPARED, differences, export_format, packaged_windows
from keras_tagger.export.layout import FORMATS, PRECISIONS
from keras_tagger.files import write_text
from keras_tagger.storage.loading import load_model
from keras_tagger.storage.portable import load_portable

_FORMATS = flags.DEFINE_list("formats", list(FORMATS[1:]), "which formats")
_PRECISIONS = flags.DEFINE_list("precisions", list(PRECISIONS), "which precisions")
_WINDOWS = flags.DEFINE_integer("windows", 20, "how many windows of the packaged clips to compare")
_RUNS = flags.DEFINE_integer("runs", 5, "how many runs a time is the median of")
_OUT = flags.DEFINE_string("out", "", "a Markdown file to write")


def row(trained: Any, kind: str, precision: str, windows: Sequence[npt.NDArray[Any]], saved: float) -> list[str]:
    """Export a model, and measure what was written.

    Args:
        trained: The model.
        kind: The format.
        precision: The precision.
        windows: Waveforms to compare.
        saved: Processor time of the SavedModel for the first of them, seconds.

    Returns:
        The cells: size, differences, time, and why there is none.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = export_format(trained, folder, kind, precision).path
        except ModelError as error:
            return ["-"] * (len(COMPARED) + 2) + [str(error)]
        portable, _ = load_portable(path, kind)
        found = differences(trained, portable, windows)
        taken = processor_seconds(lambda: portable.analyze(windows[0], ("tags",)), _RUNS.value)
        apart = [f"{found[name]:.1e}" for name in COMPARED]
        return [f"{path.stat().st_size / 1e6:.1f} MB", *apart, f"{taken / saved:.2f}", "kept"]


def processor_seconds(run: Callable[[], Any], runs: int) -> float:
    """Return the median processor time of a call, after one that is not counted."""
    run()
    taken = []
    for _ in range(runs):
        before = time.process_time()
        run()
        taken.append(time.process_time() - before)
    return float(np.median(taken))


def more_windows(trained: Any, count: int) -> list[npt.NDArray[Any]]:
    """Return whole windows of the packaged clips: the first of each, then the second of each, and so on."""
    from keras_tagger.audio import load

    model = trained.model
    clips = sorted((Path(formats.__file__).parents[1] / "clips").glob("*.ogg"))
    waves = [load(clip, model.audio_config.sample_rate) for clip in clips]
    size, found = model.window_samples, list[npt.NDArray[Any]]()
    for index, wave in itertools.product(range(count), waves):
        if len(wave) >= (index + 1) * size and len(found) < count:
            found.append(wave[np.newaxis, index * size : (index + 1) * size])
    # Then windows that begin half a window later.
    for index, wave in itertools.product(range(count), waves):
        start = index * size + size // 2
        if len(wave) >= start + size and len(found) < count:
            found.append(wave[np.newaxis, start : start + size])
    return found


def table(names: Sequence[str]) -> str:
    """Return the table of the models, as Markdown."""
    head = ["model", "format", "precision", "size", *COMPARED, "time / SavedModel", "result"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name in names:
        trained = load_model(name)
        windows = [*more_windows(trained, _WINDOWS.value), *packaged_windows(trained)[-2:]]
        saved = _saved_model_seconds(trained, windows[0])
        for kind, precision in itertools.product(_FORMATS.value, _PRECISIONS.value):
            cells = [name, kind, precision, *row(trained, kind, precision, windows, saved)]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    versions = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")
    stated = []
    for package in versions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            stated.append(f"{package} {metadata.version(package)}")
    return "\n".join([*lines, "", ", ".join(stated), ""])


def _saved_model_seconds(trained: Any, waveforms: npt.NDArray[Any]) -> float:
    import tensorflow as tf

    from keras_tagger.export.saved_model import export

    with tempfile.TemporaryDirectory() as folder:
        signature = tf.saved_model.load(str(export(trained, folder))).signatures["serving_default"]
        return processor_seconds(lambda: signature(waveform=tf.constant(waveforms)), _RUNS.value)


def main(argv: list[str]) -> None:
    """Measure the models of the command line."""
    text = table(argv[1:] or ["compact", "pons"])
    if _OUT.value:
        write_text(_OUT.value, text)
    print(text)


if __name__ == "__main__":
    app.run(main)
