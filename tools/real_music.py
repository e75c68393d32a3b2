"""Measure taggers on real music with labels by people, beside their teacher musicnn.

    python tools/real_music.py collect --out data/real gtzan-curated=checkouts/curated jamendolyrics=checkouts/lyrics
    python tools/real_music.py measure --data data/real --model compact --write docs/real_music.md
    python tools/real_music.py thresholds --data data/real --model compact --json thresholds.json
    python tools/real_music.py transfer --data data/real --model compact --write docs/real_music.md

`collect` takes NAME=PATH for each repository of `real_clips.SOURCES` that lies on this machine, as a git directory or a
work tree, and writes clips at 16 kHz and a manifest with labels by people. Nothing is downloaded, and a source that is
not given is left out. The clips are copyrighted unless the manifest says otherwise ("learn"): they are for measuring.

`measure` compares models with musicnn: genres, singing against instrumental music, female against male voices,
instruments, a cappella, and the best five tags that a model shares with musicnn. Intervals (95 percent) come from
resamples of artists. A packaged NAME is measured with its twin NAME-msd.

`thresholds` fits the thresholds of all tags to one half of the artists and checks them on the other half.

`transfer` trains a linear classifier of GTZAN's genres on frozen features of each model and of musicnn, and with
--fine_tune also the whole model.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from keras_tagger.errors import KerasTaggerError
from keras_tagger.files import write_json
from pages import replace_marked
from real_clips import HALVES, clips_to_measure, collect
from real_measures import FALSE_ALARMS, Resampling, Scored, Value, measure, overlap
from real_scores import model_scores, teacher_scores
from real_thresholds import check_thresholds, fit_thresholds, thresholds_json, voice_rates

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("out", None, "collect: folder of the development set.")
    flags.DEFINE_string("data", None, "measure: the folder that collect wrote.")
    flags.DEFINE_multi_string("model", [], "measure: a packaged name, a run directory or a .keras file.")
    flags.DEFINE_enum("half", None, HALVES, "measure: only the clips of one half.")
    flags.DEFINE_string("work_dir", "data/teacher", "measure: folder of musicnn's wheel.")
    flags.DEFINE_string("fine_tune", None, "transfer: also fine-tune each model, with runs in this folder.")
    flags.DEFINE_string("json", None, "measure: file of the numbers.")
    flags.DEFINE_string("write", None, "measure: a Markdown file with marks, between which tables are written.")


def main(argv: Sequence[str]) -> None:
    """Run the command that the first argument names."""
    commands = {
        "collect": run_collect,
        "measure": run_measure,
        "thresholds": run_thresholds,
        "transfer": run_transfer,
    }
    if len(argv) < 2 or argv[1] not in commands:
        raise app.UsageError(f"expected one of {', '.join(commands)}. Received: {' '.join(argv[1:2]) or 'nothing'}.")
    try:
        commands[argv[1]](argv[2:])
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")


def run_collect(arguments: Sequence[str]) -> None:
    """Write the development set."""
    checkouts = dict(argument.partition("=")[::2] for argument in arguments)
    clips, failed = collect(checkouts, Path(FLAGS.out))
    for source, count in Counter(clip.source for clip in clips).items():
        print(f"{source:16} {count:4} clips")
    print(f"{len(clips)} clips, {sum(clip.seconds for clip in clips) / 60:.0f} minutes, {len(failed)} files left out")


def run_measure(arguments: Sequence[str]) -> None:
    """Measure the models and the teacher."""
    folder = Path(FLAGS.data)
    clips = clips_to_measure(folder)
    clips = [clip for clip in clips if FLAGS.half in (None, clip.half)]
    resampling = Resampling([clip.group for clip in clips])
    theirs = teacher_scores(clips, folder, FLAGS.work_dir)
    tables: dict[str, dict[str, dict[str, Value]]] = {}
    shared: dict[str, dict[str, float]] = {}
    goals = []
    for name in FLAGS.model:
        ours = model_scores(name, clips, folder)
        tables[name] = measure(clips, ours, resampling)
        shared[name] = overlap(clips, ours, theirs)
        teacher = {v: Scored(s.tags, theirs[v], s.thresholds) for v, s in ours.items()}
        tables[f"musicnn, thresholds of {name}"] = measure(clips, teacher, resampling)
        goals.append(goal_table(name, tables[name], tables[f"musicnn, thresholds of {name}"], shared[name]))
    text = "\n\n".join([*goals, table(tables, shared)])
    print(text)
    if FLAGS.json:
        write_json(FLAGS.json, to_json(tables, shared), indent=1)
    if FLAGS.write:
        replace_marked(Path(FLAGS.write), "real music", text)


def run_thresholds(_: Sequence[str]) -> None:
    """Fit thresholds on each half of the artists, check them on the other, and fit them on both."""
    folder = Path(FLAGS.data)
    clips = clips_to_measure(folder)
    theirs = teacher_scores(clips, folder, FLAGS.work_dir)
    halves = {half: np.array([clip.half == half for clip in clips]) for half in HALVES}
    everything = np.ones(len(clips), bool)
    for name in FLAGS.model:
        ours = model_scores(name, clips, folder)
        content: dict[str, Any] = {"false_alarms": FALSE_ALARMS}
        for half, other in zip(HALVES, reversed(HALVES), strict=True):
            found = fit_thresholds(ours, clips, theirs, halves[half])
            checked = check_thresholds(found, ours, clips, theirs, halves[other])
            recall, alarms = voice_rates(found, ours, clips, halves[other])
            print(f"{name}, fitted on {half}, voices on {other}: recall {recall:.3f}, false alarms {alarms:.3f}")
            rates = [row["false_alarms"] for rows in checked.values() for row in rows.values() if row["n_without"]]
            print(f"{name}, fitted on {half}, mean false alarms of all tags on {other}: {np.mean(rates):.3f}")
            content[f"fitted on {half}"] = {
                "thresholds": thresholds_json(found),
                f"on {other}": checked,
                f"voices on {other}": {"recall": recall, "false_alarms": alarms},
            }
        found = fit_thresholds(ours, clips, theirs, everything)
        recall, alarms = voice_rates(found, ours, clips, everything)
        print(f"{name}, fitted on all clips, voices on the same: recall {recall:.3f}, false alarms {alarms:.3f}")
        content["thresholds"] = thresholds_json(found)
        if FLAGS.json:
            write_json(FLAGS.json, content, indent=1)


def run_transfer(_: Sequence[str]) -> None:
    """Compare linear classifiers on frozen features."""
    # scikit-learn is only needed here.
    from real_transfer import fine_tuned, genre_clips, linear_head, model_features, teacher_features

    folder = Path(FLAGS.data)
    clips = genre_clips(clips_to_measure(folder))
    features: dict[str, np.ndarray] = {}
    for name in FLAGS.model:
        features |= model_features(name, clips, folder)
    features |= teacher_features(clips, folder, FLAGS.work_dir)
    resampling = Resampling([clip.group for clip in clips])
    everything = np.ones(len(clips), bool)
    lines = ["| features | size | accuracy, 95 % interval over artists |", "|---|---|---|"]
    for name, values in features.items():
        right = linear_head(values, clips)
        found = resampling.mean(right.mean(axis=0), everything)
        lines.append(f"| {name} | {values.shape[1]} | {found} |")
        print(lines[-1], flush=True)
    for name in FLAGS.model if FLAGS.fine_tune else ():
        right = fine_tuned(name, clips, folder, Path(FLAGS.fine_tune) / Path(name).stem)
        lines.append(f"| {name}, fine-tuned by `fit(init=...)` | | {resampling.mean(right, everything)} |")
        print(lines[-1], flush=True)
    if FLAGS.write:
        replace_marked(Path(FLAGS.write), "transfer", "\n".join(lines))


# Section, row, the least value, and the least difference from musicnn (None: not asked for).
GOALS: tuple[tuple[str, str, float | None, float | None], ...] = (
    ("genres, MSD tags", "macro", None, -0.01),
    ("genres, MTAT tags", "macro", None, None),
    ("singing or instrumental, MTAT", "ROC-AUC, largest margin", 0.95, None),
    ("singing or instrumental, MTAT", "recall, published thresholds", 0.75, None),
    ("singing or instrumental, MTAT", "false alarms, published thresholds", None, None),
    ("female or male, MTAT", "all, female less male", None, -0.03),
    ("female or male, MSD", "all, female less male", None, -0.03),
    ("instruments, all", "macro", None, 0.01),
    ("a cappella", "best tag is a voice, MTAT", 0.8, None),
    ("a cappella", "best tag is a voice, MSD", 0.8, None),
)
SHARED_GOAL = 4.2


def goal_table(
    name: str,
    ours: Mapping[str, Mapping[str, Value]],
    theirs: Mapping[str, Mapping[str, Value]],
    shared: Mapping[str, float],
) -> str:
    """Return the measures that have goals, as Markdown: the model, musicnn, the goal and whether it is reached."""
    lines = [f"| goals of {name} | {name} | musicnn | goal | reached |", "|---|---|---|---|---|"]
    for section, row, least, difference in GOALS:
        if row not in ours.get(section, {}):
            continue
        mine, other = ours[section][row].value, theirs[section][row].value
        goal, reached = "", ""
        if row.startswith("false alarms"):
            goal, reached = f"at most {FALSE_ALARMS}", _said(mine <= FALSE_ALARMS)
        elif least is not None:
            goal, reached = f"at least {least}", _said(mine >= least)
        elif difference is not None:
            goal, reached = f"musicnn {difference:+}", _said(mine >= other + difference)
        lines.append(f"| {section}: {row} | {mine:.3f} | {other:.3f} | {goal} | {reached} |")
    for kind, value in shared.items():
        if kind.endswith("music"):
            reached = _said(value >= SHARED_GOAL)
            lines.append(f"| best five tags shared, {kind} | {value:.2f} | | at least {SHARED_GOAL} | {reached} |")
    return "\n".join(lines)


def _said(reached: bool) -> str:
    return "yes" if reached else "no"


def to_json(
    tables: Mapping[str, Mapping[str, Mapping[str, Value]]], shared: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Return all numbers as plain values."""
    numbers = {
        model: {name: {row: value.to_json() for row, value in rows.items()} for name, rows in sections.items()}
        for model, sections in tables.items()
    }
    return {"measures": numbers, "overlap": dict(shared)}


def table(tables: Mapping[str, Mapping[str, Mapping[str, Value]]], shared: Mapping[str, Mapping[str, float]]) -> str:
    """Return all measures as Markdown, one column for each model."""
    lines = [f"| | clips with, without | {' | '.join(tables)} |", "|---" * (2 + len(tables)) + "|"]
    for section in dict.fromkeys(name for sections in tables.values() for name in sections):
        lines.append(f"| **{section}** |" + " |" * (1 + len(tables)))
        columns = [sections.get(section, {}) for sections in tables.values()]
        for row in dict.fromkeys(name for rows in columns for name in rows):
            cells = [str(rows.get(row, "-")) for rows in columns]
            first = next(rows[row] for rows in columns if row in rows)
            counts = f"{first.n_with}, {first.n_without}" if first.n_with + first.n_without else ""
            lines.append(f"| {row} | {counts} | {' | '.join(cells)} |")
    for model, rows in shared.items():
        found = ", ".join(f"{value:.2f} ({name})" for name, value in rows.items())
        lines += ["", f"Of the best five tags, {model} shares with musicnn: {found}."]
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    app.run(main)
