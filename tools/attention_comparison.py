r"""The kinds of attention at equal budget: one data set, the same crops, steps and sizes, several seeds.

    python tools/attention_comparison.py --data data/albums/manifest.csv --out_dir runs/attention --epochs 4 --seeds 0,1

trains every kind with every seed, one after the other, and prints a table (docs/attention.md has one). It can be
stopped and started again: a run goes on from its checkpoint, and OUT_DIR/results.csv keeps what is done. Measured are

- ROC-AUC and PR-AUC, macro, on the split that was held out;
- speed: seconds of audio per second in training, and of inference on one window and on one eight times as long;
- localisation: halves of two held-out clips joined, and for a tag that only one of them has, how the columns of the
  tag-wise contributions within that half rank above the others (ROC-AUC, 0.5 is chance) and how often the largest lies
  in it (pointing game).
"""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_tagger as kt
from keras_tagger.config import load_config, parse_override
from keras_tagger.data.manifest import Manifest, open_source
from keras_tagger.data.prepare import prepare
from keras_tagger.data.prepared import Prepared
from keras_tagger.data.splits import assign_splits
from keras_tagger.explain.localization import localization
from keras_tagger.files import replacing

FLAGS = flags.FLAGS

VARIANTS: dict[str, dict[str, Any]] = {
    "absolute, sinusoidal": {"kind": "absolute", "positions": "sinusoidal"},
    "absolute, learned": {"kind": "absolute", "positions": "learned"},
    "absolute, none": {"kind": "absolute", "positions": "none"},
    "relative": {"kind": "relative", "positions": "none", "max_distance": 32},
    "rotary": {"kind": "rotary", "positions": "none"},
    "alibi": {"kind": "alibi", "positions": "none"},
    "local": {"kind": "local", "positions": "sinusoidal", "window": 8},
    "linear": {"kind": "linear", "positions": "sinusoidal"},
}
# Small, so that all runs are an evening's on two cores; --set changes it.
BASE: dict[str, Any] = {
    "preset": "compact",
    "model": {
        "front_end": {"channels": [8, 24, 48, 64]},
        "encoder": {"n_layers": 3, "n_heads": 4, "width": 96, "feed_forward": 384},
    },
    "training": {"batch_size": 16, "learning_rate": 0.001, "warmup_epochs": 0.5},
    "board": {"preview_clips": 0},
}
MEASURES = (
    *("roc_auc", "pr_auc", "train_speed", "window_ms", "long_window_ms"),
    *("localisation_roc_auc", "localisation_pointing"),
)
LONG = 8


def define_flags() -> None:
    """Define the program's flags; a test that imports this module has none."""
    flags.DEFINE_string("data", None, "A manifest, a folder per tag or a prepared folder.", required=True)
    flags.DEFINE_string("out_dir", None, "Where runs and results go.", required=True)
    flags.DEFINE_integer("epochs", 4, "Of every run.", lower_bound=1)
    flags.DEFINE_list("seeds", ["0", "1"], "Of weights, order and crops.")
    flags.DEFINE_list("kinds", [], "Some of the names in VARIANTS; all where empty.")
    flags.DEFINE_multi_string("set", [], "KEY=VALUE of the configuration, for all runs.")
    flags.DEFINE_integer("pairs", 200, "Joined clips to localise in.", lower_bound=1)


def main(_: list[str]) -> None:
    """The program."""
    unknown = [name for name in FLAGS.kinds if name not in VARIANTS]
    if unknown:
        raise app.UsageError(f"--kinds: expected some of {'; '.join(VARIANTS)}. Received: {unknown[0]}.")
    overrides = dict(parse_override(text) for text in FLAGS.set)
    overrides["training.epochs"] = FLAGS.epochs
    rows = compare(FLAGS.data, Path(FLAGS.out_dir), FLAGS.kinds or list(VARIANTS), FLAGS.seeds, overrides, FLAGS.pairs)
    print(table(rows))


def compare(
    source: str, out: Path, kinds: Sequence[str], seeds: Sequence[str], overrides: Mapping[str, Any], pairs: int
) -> list[dict[str, Any]]:
    """Measure all kinds with all seeds that are not in `out/results.csv`; return its rows."""
    data = opened(source, out, load_config(BASE, overrides))
    rows = read(out / "results.csv")
    for seed in seeds:
        for name in kinds:
            if not any(row["attention"] == name and row["seed"] == seed for row in rows):
                measured = measure(name, int(seed), data, out, overrides, pairs)
                rows.append({"attention": name, "seed": seed, **measured})
                write(out / "results.csv", rows)
    return rows


def opened(source: str, out: Path, settings: kt.ExperimentConfig) -> Prepared:
    """The data, decoded once for all runs."""
    found = open_source(source)
    if isinstance(found, Manifest):
        split = settings.data.split
        found = assign_splits(found, split.valid, split.test, split.seed)
        found = prepare(found, out / "prepared", settings.audio.sample_rate, settings.data.segment_seconds)
    return found


def measure(
    name: str, seed: int, data: Prepared, out: Path, overrides: Mapping[str, Any], pairs: int
) -> dict[str, Any]:
    """Train one kind with one seed, or go on with it, and measure."""
    variant = {f"model.attention.{key}": value for key, value in VARIANTS[name].items()}
    overrides = {**overrides, **variant, "training.seed": seed}
    folder = out / f"{name.replace(', ', '_')}_{seed}"
    run = kt.fit(BASE, data=data, run_dir=folder, resume=True, **overrides)
    split = next(split for split in ("test", "valid", "train") if split in data.splits)
    heard = list(joined(data, split, run.tagger, pairs))
    return {
        "roc_auc": run.report.roc_auc,
        "pr_auc": run.report.pr_auc,
        "train_speed": run.report.training["audio_seconds_per_second"],
        "window_ms": 1000 * seconds(run.tagger, 1),
        "long_window_ms": 1000 * seconds(run.tagger, LONG),
        "localisation_roc_auc": float(np.mean([one["roc_auc"] for one in heard])) if heard else float("nan"),
        "localisation_pointing": float(np.mean([one["pointing"] for one in heard])) if heard else float("nan"),
    }


def seconds(tagger: kt.Tagger, windows: int) -> float:
    """Median time of a pass over a clip of that many windows, seen at once."""
    model = tagger.model
    if model.positions is not None and windows * model.window_samples // model.token_samples >= getattr(
        model.positions, "max_positions", 1 << 30
    ):
        return float("nan")
    waveform = tf.random.stateless_normal([1, windows * model.window_samples], [0, 0], stddev=0.1)
    times = []
    for _ in range(6):
        started = time.perf_counter()
        model.analyze(waveform, ("tags",))["tags"].numpy()
        times.append(time.perf_counter() - started)
    # The first traces the function.
    return statistics.median(times[1:])


def joined(data: Prepared, split: str, tagger: kt.Tagger, pairs: int) -> Iterator[dict[str, float]]:
    """Localisation of a tag in halves of a window, of two clips: one has it (over `data.positive`), one not (< 0.1)."""
    model = tagger.model
    half = model.window_samples // model.token_samples // 2 * model.token_samples
    clips = [(clip.tags, wave[:half]) for clip, wave in data.iter_clips(split) if len(wave) >= half]
    rng = np.random.default_rng(0)
    rate, present = data.sample_rate, tagger.config.data.positive
    for _ in range(pairs * 20):
        if pairs == 0 or len(clips) < 2:
            return
        first, second = (clips[index] for index in rng.choice(len(clips), 2, replace=False))
        only = [tag for tag in tagger.tags if first[0].get(tag, 0.0) > present and second[0].get(tag, 0.0) < 0.1]
        if not only:
            continue
        tag, swapped = str(rng.choice(only)), bool(rng.integers(2))
        parts = [second[1], first[1]] if swapped else [first[1], second[1]]
        heat = tagger.contributions((np.concatenate(parts), rate), [tag])
        begin = half / rate if swapped else 0.0
        pairs -= 1
        yield localization(heat, tag, [(begin, begin + half / rate)], heat.times)


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of an earlier call."""
    return list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """All rows, whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("attention", "seed", *MEASURES), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds with the standard deviation, as a Markdown table."""
    heads = ("attention", "seeds", *(name.replace("_", " ") for name in MEASURES))
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name in VARIANTS:
        runs = [row for row in rows if row["attention"] == name]
        if runs:
            cells = []
            for measured in MEASURES:
                values = [float(row[measured]) for row in runs]
                digits = 1 if measured in ("train_speed", "window_ms", "long_window_ms") else 3
                spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.{digits}f}{spread}")
            lines.append(f"| {name} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    app.run(main)
