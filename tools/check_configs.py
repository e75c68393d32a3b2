r"""Train one step with every packaged experiment and export the model, at full size, on two of the shipped clips.

    python tools/check_configs.py --out_dir /tmp/configs
    python tools/check_configs.py --out_dir /tmp/configs --only won2020_mtat,won2021_msd

For each file, the program trains one step on a batch of two, exports the SavedModel, and compares its answer to a
window of silence with that of the tagger. Files that differ only in their data set are checked once. Results are
appended to OUT_DIR/checked.csv; files that it already contains are skipped.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_tagger as kt
from keras_tagger.data.manifest import Manifest
from keras_tagger.data.sources import open_source

FLAGS = flags.FLAGS

COLUMNS = ("config", "same_as", "parameters", "crop_seconds", "loss", "step_seconds", "export_seconds", "difference")


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("out_dir", None, "Folder for runs and exports.", required=True)
    flags.DEFINE_string("configs", os.path.join("keras_tagger", "config", "experiments"), "The folder of YAML files.")
    flags.DEFINE_list("only", [], "Names of files without .yaml; empty for all.")


def main(_: list[str]) -> None:
    """Check every file."""
    out = Path(FLAGS.out_dir)
    out.mkdir(parents=True, exist_ok=True)
    table = out / "checked.csv"
    rows = list(csv.DictReader(table.open(encoding="utf-8"))) if table.exists() else []
    done = {row["config"]: row for row in rows}
    seen = {}
    for path in sorted(Path(FLAGS.configs).glob("*.yaml")):
        if FLAGS.only and path.stem not in FLAGS.only:
            continue
        settings = kt.load_config(path)
        key = (settings.audio, settings.model, settings.training)
        first = seen.setdefault(key, path.stem)
        if path.stem not in done:
            row = {**done[first], "config": path.stem, "same_as": first} if first != path.stem else check(path, out)
            done[path.stem] = row
            with table.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(done.values())
        print(", ".join(f"{name} {done[path.stem][name]}" for name in COLUMNS if done[path.stem][name]), flush=True)


def check(path: Path, out: Path) -> dict[str, str]:
    """Train, export and compare one file; return its row of the table."""
    started = time.perf_counter()
    run = kt.fit(
        path,
        data=two_clips(kt.load_config(path)),
        run_dir=out / path.stem,
        **{"training.epochs": 1, "training.batch_size": 2, "board.preview_clips": 0, "data.n_chunks": 1},
    )
    if run.report.training["steps"] != 1 or not np.isfinite(run.history[0]["loss"]):
        raise ValueError(f"{path}: expected one step with a finite loss. Received: {run.history}.")
    trained = time.perf_counter()
    served = tf.saved_model.load(str(run.tagger.export(out / path.stem / "exported")))
    exported = time.perf_counter()
    model = run.tagger.model
    silence = tf.zeros([1, model.window_samples])
    answer = served.signatures["serving_default"](waveform=silence)["tags"]
    difference = float(tf.reduce_max(tf.abs(answer - model.analyze(silence, ("tags",))["tags"])))
    if not difference < 1e-5:
        raise ValueError(
            f"{path}: expected equal answers of the tagger and its SavedModel. Received: a difference of {difference}."
        )
    return {
        "config": path.stem,
        "same_as": "",
        "parameters": f"{model.count_params()}",
        "crop_seconds": f"{model.crop_samples / model.audio_config.sample_rate:.4g}",
        "loss": f"{run.history[0]['loss']:.4f}",
        "step_seconds": f"{trained - started:.1f}",
        "export_seconds": f"{exported - trained:.1f}",
        "difference": f"{difference:.1e}",
    }


def two_clips(settings: kt.ExperimentConfig) -> Manifest:
    """Return a crop of each of the first two shipped clips, both for training; with softmax, with one tag each."""
    clips = []
    for clip in open_source("demo").clips[:2]:
        tags = clip.tags
        if settings.model.head.activation == "softmax":
            tags = {f"of clip {len(clips)}": 1.0}
        end = 3.0 + settings.audio.window_seconds
        clips.append(dataclasses.replace(clip, tags=tags, start_seconds=3.0, end_seconds=end, split="train"))
    return Manifest(tuple(clips), tuple(sorted({tag for clip in clips for tag in clip.tags})))


if __name__ == "__main__":
    define_flags()
    app.run(main)
