"""Measure every method of `keras_tagger.explain`, and write the tables of docs/explanations.md.

    PYTHONPATH=tools python -m pretrain.solos --out data/solos --n_clips 240
    python tools/explain_benchmark.py --labels data/labels/manifest.jsonl --solos data/solos/manifest.jsonl \
        --write docs/explanations.md

Measured are, with the rules of `explain_cases.py`:

- localisation, where a map points: on real clips of two tracks joined in the middle, and on rendered solos of 0.5 to
  3 s; all methods, the taggram of 3 s and chance, on the model's grid of tokens;
- faithfulness, whether a map agrees with what the model does: on real clips, for the tag with the highest score;
- sanity, whether a map depends on the weights at all: cascading randomisation;
- cost: milliseconds for one tag and one window.

Methods that take dozens of passes are measured on the first --n_slow cases. Results are kept in --work_dir under a hash
of the model's weights and not measured again; delete them when a method has changed. --quick uses few cases. --write
replaces the text between `<!-- explain NAME -->` and `<!-- end -->`; without it the tables are printed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging
from explain_cases import Case, excerpts, pairs, solos
from tqdm import tqdm

from keras_tagger.errors import KerasTaggerError
from keras_tagger.explain import DEFAULT_METHOD, METHODS, faithfulness, localization
from keras_tagger.files import write_json
from keras_tagger.tagger import Tagger, load
from pages import replace_marked

SLOW = ("integrated_gradients", "smooth_grad", "occlusion")
SHOWN = (DEFAULT_METHOD, "contributions", "taggram")
KEPT_SHARE = 0.25
STEPS = 10
RUNS = 5

FLAGS = flags.FLAGS
Rows = dict[str, list[dict[str, Any]]]  # the numbers of each case, by method


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("model", "compact", "A pretrained name, a run directory or a .keras file.")
    flags.DEFINE_string("labels", None, "Manifest with the teacher's dense labels.", required=True)
    flags.DEFINE_string("solos", None, "Manifest that pretrain/solos.py wrote.", required=True)
    flags.DEFINE_string("work_dir", "data/explain_benchmark", "Folder of kept results.")
    flags.DEFINE_string("write", None, "Markdown file whose marked places get the tables.")
    flags.DEFINE_integer("n_pairs", 200, "Number of joined clips.", lower_bound=1)
    flags.DEFINE_integer("n_solos", 240, "Number of rendered clips.", lower_bound=1)
    flags.DEFINE_integer("n_slow", 24, "Number of cases for methods that take dozens of passes.", lower_bound=1)
    flags.DEFINE_integer("n_clips", 40, "Number of clips for faithfulness.", lower_bound=1)
    flags.DEFINE_integer("n_sanity", 4, "Number of clips for cascading randomisation.", lower_bound=1)
    flags.DEFINE_bool("quick", False, "Use a twentieth of the cases, to try the program.")


def main(argv: Sequence[str]) -> None:
    """Measure, and print or write the tables."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    started = time.perf_counter()
    try:
        tagger = load(FLAGS.model)
        counts = {name: FLAGS[name].value for name in ("n_pairs", "n_solos", "n_slow", "n_clips", "n_sanity")}
        if FLAGS.quick:
            counts = {name: max(count // 20, 2) for name, count in counts.items()}
        tables = measure(tagger, Path(FLAGS.labels), Path(FLAGS.solos), Path(FLAGS.work_dir), counts)
        for name, text in tables.items():
            print(f"{text}\n")
            if FLAGS.write:
                replace_marked(Path(FLAGS.write), f"explain {name}", text)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    logging.info("%.0f s", time.perf_counter() - started)


def measure(tagger: Tagger, labels: Path, rendered: Path, work_dir: Path, counts: dict[str, int]) -> dict[str, str]:
    """Measure everything; return the tables as Markdown by name."""
    model, rate = tagger.model, tagger.model.audio_config.sample_rate
    kept = KeptResults(work_dir, tagger)
    n_pairs = counts["n_pairs"]
    sets: dict[str, Callable[[], list[Case]]] = {
        "pairs": lambda: pairs(labels, tagger.tags, rate, n_pairs),
        "loose": lambda: pairs(labels, tagger.tags, rate, n_pairs, strict=False),
        "solos": lambda: solos(rendered, tagger.tags, rate, counts["n_solos"]),
    }
    where: dict[str, Rows] = {}
    for name, make in sets.items():
        cases = functools.cache(make)
        most = counts["n_solos"] if name == "solos" else n_pairs
        where[name] = {
            method: kept.rows(
                f"{name} {method}",
                min(counts["n_slow"], most) if method in SLOW else most,
                lambda index, method=method, cases=cases: localized(tagger, cases()[index], method),
            )
            # The loose rule is only for the methods that a table shows.
            for method in (SHOWN if name == "loose" else METHODS)
        }
    clips = functools.cache(lambda: excerpts(labels, rate, model.window_samples / rate, counts["n_clips"]))
    faithful = {
        method: kept.rows(
            f"faithful {method}",
            min(counts["n_slow"], counts["n_clips"]) if method in SLOW else counts["n_clips"],
            lambda index, method=method: faithful_row(tagger, clips()[index], method),
        )
        for method in METHODS
    }
    sane = {
        method: kept.rows(
            f"sane {method} {counts['n_sanity']}",
            1,
            lambda _, method=method: sanity(tagger, clips()[: counts["n_sanity"]], method),
        )
        for method in METHODS
        if method not in ("random", "taggram")
    }
    costs = kept.rows("cost", 1, lambda _: cost(tagger, clips()[0]))[0]
    return {
        "choice": choice_text(where),
        "pairs": where_table(where["pairs"]),
        "loose": where_table(where["loose"]),
        "solos": where_table(where["solos"]),
        "instruments": instruments_table(where["solos"]),
        "faithfulness": faithful_table(faithful),
        "sanity": sanity_table(sane),
        "cost": cost_table(costs),
        "contributions": contributions_text(costs),
    }


class KeptResults:
    """Results on disk for one model's weights: a JSON file per part, with the numbers of its first cases.

    Args:
        folder: The folder of all models.
        tagger: The model.
    """

    def __init__(self, folder: Path, tagger: Tagger) -> None:
        digest = hashlib.sha256()
        for weight in tagger.model.get_weights():
            digest.update(np.ascontiguousarray(weight).tobytes())
        self._folder = folder / digest.hexdigest()[:16]

    def rows(self, name: str, count: int, one: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the numbers of the first `count` cases; measure those that are missing, and write after every ten."""
        path = self._folder / f"{name.replace(' ', '_')}.json"
        found = json.loads(path.read_text("utf-8")) if path.exists() else []
        for index in tqdm(range(len(found), count), desc=name, unit="clip", disable=len(found) >= count):
            found.append(one(index))
            if index + 1 == count or index % 10 == 9:
                write_json(path, found)
        return found[:count]


def localized(tagger: Tagger, case: Case, method: str) -> dict[str, Any]:
    """Measure pointing game, IoU and ROC-AUC of a method on a case, on the model's grid of tokens."""
    rate = tagger.model.audio_config.sample_rate
    heat = tagger.explain((case.waveform, rate), method, case.tag)
    times = tagger.model.token_times(tagger.model.n_tokens(len(case.waveform)))
    return {"tag": case.tag, **localization.localization(heat, case.tag, case.intervals, times)}


def faithful_row(tagger: Tagger, clip: np.ndarray, method: str) -> dict[str, Any]:
    """Measure faithfulness of a method on a clip of one window, by tokens, for the tag with the highest score."""
    model = tagger.model
    audio = (clip, model.audio_config.sample_rate)
    row = int(np.argmax(tagger.scores(audio)))
    heat = tagger.explain(audio, method, tagger.tags[row])
    times = model.token_times(model.n_tokens(len(clip)))
    curve = localization.at_times(localization.time_curve(heat, heat.tags[0]), heat.times, times)
    score = faithfulness.Perturbed(model, clip, row)
    least = np.argsort(np.argsort(curve, kind="stable")) < round((1 - KEPT_SHARE) * len(curve))
    whole, part = score(np.stack([np.zeros_like(least), least]))
    return {
        "deletion": faithfulness.deletion(curve, score, STEPS).area,
        "insertion": faithfulness.insertion(curve, score, STEPS).area,
        "removal": faithfulness.faithfulness_on_removal(curve, score, STEPS),
        "whole": float(whole),
        "part": float(part),
        "gini": faithfulness.sparseness(heat.values[0]),
        "entropy": faithfulness.complexity(heat.values[0]) / np.log(heat.values[0].size),
    }


def sanity(tagger: Tagger, clips: Sequence[np.ndarray], method: str) -> dict[str, float]:
    """Correlate a method's maps with those of the trained model as its parts are randomised one after the other."""
    rows = [int(np.argmax(tagger.scores((clip, tagger.model.audio_config.sample_rate)))) for clip in clips]

    def maps(model: Any) -> list[np.ndarray]:
        changed = Tagger(model, tagger.config)
        rate = model.audio_config.sample_rate
        return [
            changed.explain((clip, rate), method, changed.tags[row]).values[0]
            for clip, row in zip(clips, rows, strict=True)
        ]

    return faithfulness.cascading_randomisation(tagger.model, maps)


def cost(tagger: Tagger, clip: np.ndarray) -> dict[str, Any]:
    """Time each method for one tag of one window, a forward pass, and T + 1 passes; in seconds."""
    model = tagger.model
    audio = (clip, model.audio_config.sample_rate)
    timed = {name: _seconds(lambda name=name: tagger.explain(audio, name, tagger.tags[0])) for name in METHODS}
    waveform = clip[np.newaxis]
    n_tokens = model.n_tokens(len(clip))
    every = brute_force(model)

    def one_by_one() -> np.ndarray:
        return np.stack([every(waveform, token)[0] for token in range(n_tokens + 1)], axis=-1)[:, 1:]

    found = model.analyze(waveform, ("contributions",))["contributions"].numpy()[0]
    return {
        "methods": timed,
        "pass": _seconds(lambda: model.analyze(waveform, ("tags",))["tags"].numpy()),
        "contributions": _seconds(lambda: model.analyze(waveform, ("contributions",))["contributions"].numpy()),
        "passes": _seconds(one_by_one),
        "tokens": n_tokens,
        "apart": float(np.abs(found - one_by_one()).max()),
    }


def brute_force(model: Any) -> Callable[[np.ndarray, int], np.ndarray]:
    """Make the authors' way to contributions: a whole forward pass per token with a masked last layer."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([], tf.int32)], autograph=False)
    def probabilities(waveform: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
        tokens = model.class_token(model.front_end(model.see(waveform), training=False))
        context, _ = model.encoder.encode_context(tokens if model.positions is None else model.positions(tokens), False)
        block = model.encoder.blocks[-1]
        mask = tf.range(tf.shape(context)[1])[tf.newaxis, tf.newaxis] == token
        x = block(context, attention_mask=mask, training=False)
        x = x if model.encoder.final_norm is None else model.encoder.final_norm(x)
        return model.probabilities(model.head(x[:, 0], training=False))

    return lambda waveform, token: probabilities(tf.constant(waveform), tf.constant(token)).numpy()


def _seconds(call: Callable[[], Any]) -> float:
    """Return the shortest of some runs after a first that traces: the time without disturbance."""
    call()
    found = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return min(found)


def choice_text(where: dict[str, Rows]) -> str:
    """Name the best methods by ROC-AUC, and the default."""
    areas = {name: {m: _mean(rows, "roc_auc") for m, rows in found.items()} for name, found in where.items()}
    both = {method: (areas["pairs"][method] + areas["solos"][method]) / 2 for method in METHODS}
    best = max(both, key=lambda method: both[method])
    single = {name: max(found, key=lambda method, found=found: found[method]) for name, found in areas.items()}
    return (
        f"By mean ROC-AUC over both sets the best method is `{best}` ({both[best]:.3f}: "
        f"{areas['pairs'][best]:.3f} on joined clips, {areas['solos'][best]:.3f} on solos); `{single['pairs']}` is "
        f"best on joined clips ({areas['pairs'][single['pairs']]:.3f}) and `{single['solos']}` on solos "
        f"({areas['solos'][single['solos']]:.3f}). The default of `explain` is `{DEFAULT_METHOD}` "
        f"({both[DEFAULT_METHOD]:.3f})."
    )


def where_table(found: Rows) -> str:
    """Tabulate localisation, the best ROC-AUC first."""
    lines = ["| method | clips | pointing | IoU | ROC-AUC |", "|---|---|---|---|---|"]
    for method in sorted(found, key=lambda name: -_mean(found[name], "roc_auc")):
        numbers = " | ".join(f"{_mean(found[method], key):.3f}" for key in localization.MEASURES)
        lines.append(f"| {method} | {len(found[method])} | {numbers} |")
    return "\n".join(lines)


def instruments_table(found: Rows) -> str:
    """Tabulate ROC-AUC on solos by instrument for the default, contributions and the taggram."""
    lines = [f"| instrument | clips | {' | '.join(SHOWN)} |", "|---|---|---|---|---|"]
    for tag in sorted({row["tag"] for row in found["random"]}):
        chosen = [[row for row in found[method] if row["tag"] == tag] for method in SHOWN]
        areas = " | ".join(f"{_mean(rows, 'roc_auc'):.3f}" for rows in chosen)
        lines.append(f"| {tag} | {len(chosen[0])} | {areas} |")
    return "\n".join(lines)


def faithful_table(found: Rows) -> str:
    """Tabulate faithfulness, the largest insertion minus deletion first."""

    def gap(rows: list[dict[str, Any]]) -> np.ndarray:
        return np.array([row["insertion"] - row["deletion"] for row in rows])

    lines = [
        "| method | deletion ↓ | insertion ↑ | beats random | removal ↑ "
        "| drop ↓ | increase ↑ | gain ↑ | Gini | entropy |",
        f"|{'---|' * 10}",
    ]
    for method in sorted(found, key=lambda name: -gap(found[name]).mean()):
        rows = found[method]
        part = faithfulness.averages([row["whole"] for row in rows], [row["part"] for row in rows])
        chance = gap(found["random"])[: len(rows)]
        wins = "-" if method == "random" else f"{(gap(rows) > chance).sum()} of {len(rows)}"
        lines.append(
            f"| {method} | {_mean(rows, 'deletion'):.3f} | {_mean(rows, 'insertion'):.3f} | {wins} | "
            f"{_mean(rows, 'removal'):.3f} | {part.drop:.3f} | {part.increase:.3f} | {part.gain:.3f} | "
            f"{_mean(rows, 'gini'):.3f} | {_mean(rows, 'entropy'):.3f} |"
        )
    return "\n".join(lines)


def sanity_table(found: Rows) -> str:
    """Tabulate the correlation with the trained model's maps, part by part."""
    parts = list(next(iter(found.values()))[0])
    lines = [f"| method | {' | '.join(parts)} |", f"|---|{'---|' * len(parts)}"]
    lines += [f"| {name} | {' | '.join(f'{rows[0][part]:.2f}' for part in parts)} |" for name, rows in found.items()]
    return "\n".join(lines)


def cost_table(found: dict[str, Any]) -> str:
    """Tabulate what each method costs, the cheapest first."""
    lines = ["| method | ms | as many forward passes |", "|---|---|---|"]
    for method, seconds in sorted(found["methods"].items(), key=lambda pair: pair[1]):
        lines.append(f"| {method} | {1000 * seconds:.1f} | {seconds / found['pass']:.1f} |")
    return "\n".join(lines)


def contributions_text(found: dict[str, Any]) -> str:
    """Compare one batched pass with T + 1 passes."""
    return (
        f"Contributions of T = {found['tokens']} tokens take {1000 * found['contributions']:.1f} ms, and "
        f"{found['tokens'] + 1} forward passes with a masked last layer {1000 * found['passes']:.0f} ms: "
        f"{found['passes'] / found['contributions']:.0f} times as long, for values that differ by "
        f"{found['apart']:.1e} at most."
    )


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float:
    return float(np.mean([row[key] for row in rows])) if rows else float("nan")


if __name__ == "__main__":
    define_flags()
    app.run(main)
