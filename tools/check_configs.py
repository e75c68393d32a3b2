r"""One training step and one export for every file in configs/: full width, whole windows, two of the shipped clips.

    python tools/check_configs.py --out_dir /tmp/configs
    python tools/check_configs.py --out_dir /tmp/configs --only won2020_mtat,won2021_msd

For each file: `fit` for one step of its optimiser on a batch of two, the SavedModel, and the answer of its default
signature to one window of silence beside the tagger's own. Files that differ in nothing but their data set are done
once. Results go to OUT_DIR/checked.csv as they come; a file that is there already is not done again.
"""

from __future__ import annotations

import csv
import dataclasses
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
    flags.DEFINE_string("out_dir", None, "Where runs and exports go.", required=True)
    flags.DEFINE_string("configs", "configs", "The folder of YAML files.")
    flags.DEFINE_list("only", [], "Names of files without .yaml; all where empty.")


def main(_: list[str]) -> None:
    """The program."""
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
    """One row of the table."""
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
        raise ValueError(f"{path}: expected the tagger's answer from its SavedModel. Received: {difference} apart.")
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
    """A crop of each of the first two of the shipped clips, both in training; with softmax, of one tag each."""
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
