r"""Compare the kinds of attention at equal budget: the same data, crops, steps and sizes, with several seeds.

    python tools/attention_comparison.py --data data/albums/manifest.csv --out_dir runs/attention --epochs 4 --seeds 0,1

trains every kind with every seed, one after the other, and prints a table (docs/attention.md has one). It can be
stopped and started again: a run resumes from its checkpoint, and its measured.json keeps finished measurements.
Processes with different seeds may share OUT_DIR. It measures

- macro ROC-AUC and PR-AUC on the held-out split;
- localisation: halves of two held-out clips are joined, and a tag that only one of them has is chosen. ROC-AUC tells
  how well the columns of the tag's contributions within that half rank above the others (0.5 is chance), and the
  pointing game how often the largest lies in it;
- speed, at the end, with all kinds in turn in every round: a training step, inference on one window, and on one eight
  times as long, as ratios to the first kind (above 1 is slower; median over rounds, and the range).
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_tagger as kt
from keras_tagger.config import load_config, parse_override
from keras_tagger.data.manifest import Manifest
from keras_tagger.data.prepare import prepare
from keras_tagger.data.prepared import Prepared
from keras_tagger.data.sources import open_source
from keras_tagger.data.splits import assign_splits
from keras_tagger.errors import ConfigError
from keras_tagger.explain.localization import localization
from keras_tagger.files import write_json
from keras_tagger.models.losses import tag_loss

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
# Small, so that all runs take an evening on two cores; --set changes it.
BASE: dict[str, Any] = {
    "preset": "compact",
    "model": {
        "front_end": {"channels": [8, 24, 48, 64]},
        "encoder": {"n_layers": 3, "n_heads": 4, "width": 96, "feed_forward": 384},
    },
    "training": {"batch_size": 16, "learning_rate": 0.001, "warmup_epochs": 0.5},
    "board": {"preview_clips": 0},
}
MEASURES = ("roc_auc", "pr_auc", "localisation_roc_auc", "localisation_pointing")
SPEEDS = ("training_step", "one_window", "eight_windows")
LONG = 8
ROUNDS = 7

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("data", None, "A manifest, a folder per tag or a prepared folder.", required=True)
    flags.DEFINE_string("out_dir", None, "Folder of runs and results.", required=True)
    flags.DEFINE_integer("epochs", 4, "Epochs of every run.", lower_bound=1)
    flags.DEFINE_list("seeds", ["0", "1"], "Seeds of weights, order and crops.")
    flags.DEFINE_list("kinds", [], "Some of the names in VARIANTS; all by default.")
    flags.DEFINE_multi_string("set", [], "KEY=VALUE: a configuration value for all runs.")
    flags.DEFINE_integer("pairs", 200, "Number of joined clips for localisation.", lower_bound=1)


def main(_: list[str]) -> None:
    """Train and measure what the flags name, and print the table."""
    unknown = [name for name in FLAGS.kinds if name not in VARIANTS]
    if unknown:
        raise app.UsageError(f"--kinds: expected some of {'; '.join(VARIANTS)}. Received: {unknown[0]}.")
    overrides = dict(parse_override(text) for text in FLAGS.set)
    overrides["training.epochs"] = FLAGS.epochs
    kinds, out = FLAGS.kinds or list(VARIANTS), Path(FLAGS.out_dir)
    measured = compare(FLAGS.data, out, kinds, FLAGS.seeds, overrides, FLAGS.pairs)
    times = speeds({name: kt.load(folder(out, name, FLAGS.seeds[0])) for name in kinds}, ROUNDS)
    print(table(measured, times))


def compare(
    source: str, out: Path, kinds: Sequence[str], seeds: Sequence[str], overrides: Mapping[str, Any], pairs: int
) -> dict[str, list[dict[str, float]]]:
    """Train and measure all kinds with all seeds, except those that are done; return measures per seed by kind."""
    data = opened(source, out, load_config(BASE, overrides))
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    settings = json.loads(json.dumps({**overrides, "data": data.fingerprint, "pairs": pairs}, default=str))
    for seed in seeds:
        for name in kinds:
            path = folder(out, name, seed) / "measured.json"
            if not path.exists():
                found = measure(name, int(seed), data, path.parent, overrides, pairs)
                write_json(path, {"settings": settings, **found}, indent=1)
            found = json.loads(path.read_text("utf-8"))
            if found.pop("settings") != settings:
                raise ConfigError(
                    f"{path}: expected measures of the same settings and data. Received: measures of others."
                )
            measured[name].append(found)
    return measured


def folder(out: Path, name: str, seed: str) -> Path:
    """Return the run directory of a kind and a seed."""
    return out / f"{name.replace(', ', '_')}_{seed}"


def opened(source: str, out: Path, settings: kt.ExperimentConfig) -> Prepared:
    """Open the data, decoded once for all runs."""
    found = open_source(source)
    if isinstance(found, Manifest):
        split = settings.data.split
        found = assign_splits(found, split.valid, split.test, split.seed)
        found = prepare(found, out / "prepared", settings.audio.sample_rate, settings.data.segment_seconds)
    return found


def measure(
    name: str, seed: int, data: Prepared, run_dir: Path, overrides: Mapping[str, Any], pairs: int
) -> dict[str, float]:
    """Train one kind with one seed, or resume it, and measure."""
    variant = {f"model.attention.{key}": value for key, value in VARIANTS[name].items()}
    settings: dict[str, Any] = {**overrides, **variant, "training.seed": seed}
    run = kt.fit(BASE, data=data, run_dir=run_dir, resume=True, **settings)
    split = next(split for split in ("test", "valid", "train") if split in data.splits)
    heard = list(joined(data, split, run.tagger, pairs))
    return {
        "roc_auc": run.report.roc_auc,
        "pr_auc": run.report.pr_auc,
        "localisation_roc_auc": float(np.mean([one["roc_auc"] for one in heard])) if heard else float("nan"),
        "localisation_pointing": float(np.mean([one["pointing"] for one in heard])) if heard else float("nan"),
    }


def speeds(taggers: Mapping[str, kt.Tagger], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Time each kind and task, in seconds per round; the kinds take turns, and a first round is not counted."""
    work = {name: _work(tagger) for name, tagger in taggers.items()}
    times: dict[str, dict[str, list[float]]] = {name: {speed: [] for speed in SPEEDS} for name in taggers}
    for _ in range(rounds + 1):
        for name, by_speed in work.items():
            for speed, call in by_speed.items():
                started = time.perf_counter()
                call()
                times[name][speed].append(time.perf_counter() - started)
    return {name: {speed: found[1:] for speed, found in by_speed.items()} for name, by_speed in times.items()}


def _work(tagger: kt.Tagger) -> dict[str, Callable[[], Any]]:
    model = tagger.model
    noise = tf.random.stateless_normal([16, model.window_samples], [0, 0], stddev=0.1)
    long = tf.reshape(noise[:LONG], [1, -1])
    labels = tf.zeros([16, len(tagger.tags)])

    @tf.function
    def gradients() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tag_loss(labels, model(noise, training=True))
        return tape.gradient(loss, model.trainable_variables)

    return {
        "training_step": lambda: gradients()[-1].numpy(),
        "one_window": lambda: model.analyze(noise[:1], ("tags",))["tags"].numpy(),
        "eight_windows": lambda: model.analyze(long, ("tags",))["tags"].numpy(),
    }


def joined(data: Prepared, split: str, tagger: kt.Tagger, pairs: int) -> Iterator[dict[str, float]]:
    """Measure localisation in windows joined from halves of two clips, of which only one has the tag.

    That clip's label is above `data.positive`, the other's below 0.1.
    """
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


def table(measured: Mapping[str, list[dict[str, float]]], times: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Tabulate means and standard deviations over seeds, and speeds as ratios to the first kind, as Markdown."""
    heads = ("attention", "seeds", *(name.replace("_", " ") for name in (*MEASURES, *SPEEDS)))
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    first = next(iter(times.values()))
    for name, runs in measured.items():
        cells = []
        for measure_name in MEASURES:
            values = [run[measure_name] for run in runs]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}")
        for speed in SPEEDS:
            ratios = [one / base for one, base in zip(times[name][speed], first[speed], strict=True)]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
        lines.append(f"| {name} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    app.run(main)
