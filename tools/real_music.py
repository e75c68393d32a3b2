"""Measure taggers on real music with labels by people, beside their teacher musicnn.

    python tools/real_music.py collect --out data/real gtzan-curated=checkouts/curated jamendolyrics=checkouts/lyrics
    python tools/real_music.py measure --data data/real --model compact --write docs/real_music.md
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from pages import replace_marked
from real_clips import HALVES, collect, read_clips
from real_measures import Resampling, Scored, Value, measure, model_scores, overlap, teacher_scores

from keras_tagger.errors import KerasTaggerError
from keras_tagger.files import write_json

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("out", None, "collect: folder of the development set.")
    flags.DEFINE_string("data", None, "measure: the folder that collect wrote.")
    flags.DEFINE_multi_string("model", [], "measure: a packaged name, a run directory or a .keras file.")
    flags.DEFINE_enum("half", None, HALVES, "measure: only the clips of one half.")
    flags.DEFINE_string("work_dir", "data/teacher", "measure: folder of musicnn's wheel.")
    flags.DEFINE_string("json", None, "measure: file of the numbers.")
    flags.DEFINE_string("write", None, "measure: a Markdown file with marks, between which tables are written.")


def main(argv: Sequence[str]) -> None:
    """Run the command that the first argument names."""
    commands = {"collect": run_collect, "measure": run_measure}
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
    clips = read_clips(folder)
    clips = [clip for clip in clips if FLAGS.half in (None, clip.half)]
    resampling = Resampling([clip.group for clip in clips])
    theirs = teacher_scores(clips, folder, FLAGS.work_dir)
    tables: dict[str, dict[str, dict[str, Value]]] = {}
    shared: dict[str, dict[str, float]] = {}
    for name in FLAGS.model:
        ours = model_scores(name, clips, folder)
        tables[name] = measure(clips, ours, resampling)
        shared[name] = overlap(clips, ours, theirs)
        teacher = {v: Scored(s.tags, theirs[v], s.thresholds) for v, s in ours.items()}
        tables[f"musicnn ({name}'s thresholds)"] = measure(clips, teacher, resampling)
    text = table(tables, shared)
    print(text)
    if FLAGS.json:
        write_json(FLAGS.json, to_json(tables, shared), indent=1)
    if FLAGS.write:
        replace_marked(Path(FLAGS.write), "real music", text)


def to_json(
    tables: Mapping[str, Mapping[str, Mapping[str, Value]]], shared: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Return all numbers as plain values."""
    numbers = {
        model: {name: {row: value.to_json() for row, value in rows.items()} for name, rows in sections.items()}
        for model, sections in tables.items()
    }
    return {"measures": numbers, "overlap": dict(shared)}


def table(
    tables: Mapping[str, Mapping[str, Mapping[str, Value]]], shared: Mapping[str, Mapping[str, float]]
) -> str:
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
    lines += [f"\n{model}: of the best five tags, shared with musicnn: " + ", ".join(f"{v:.2f} ({k})" for k, v in rows.items()) for model, rows in shared.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    app.run(main)
