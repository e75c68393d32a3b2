"""Correct the teacher's labels of rendered scores if the score contradicts them.

    PYTHONPATH=tools python -m pretrain.correct --scores data/scores/manifest.jsonl \
        --labels data/score_teacher/manifest.jsonl --out data/score_corrected

Hard labels of scores and soft labels of a teacher contradict each other: a harp that sounds gets 0.02 from the teacher
and 1 from the score, four times the teacher's highest label of any harp. A student of both learns neither well
(docs/training_notes.md). Corrected labels are the teacher's with the smallest change that ranks present tags above
absent ones: an instrument that sounds in a patch gets at least --present, one that does not sound at most --absent, and
singing that is absent at most --absent. Tags that the score does not determine, and patches in which an instrument
sounds only briefly, keep the teacher's label.

Writes dense labels (`keras_tagger.data.dense`) and OUT/manifest.jsonl for `fit`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import app, flags
from tqdm import tqdm

from keras_tagger.data.dense import UNKNOWN, DenseLabels, read_dense, write_dense
from keras_tagger.data.manifest import read_manifest
from keras_tagger.errors import KerasTaggerError, ManifestError
from keras_tagger.files import write_json_lines
from pretrain.score_labels import PRESENT as INSTRUMENTS
from pretrain.score_labels import VOICE_TAGS

# Share of a patch. If an instrument sounds for less, a listener may not notice it, so the label is not corrected.
LEAST_SHARE = 0.15
LOWERED = (*INSTRUMENTS, "choral", *VOICE_TAGS)
RAISED = (*INSTRUMENTS, "choral")

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("scores", None, "Manifest of the rendered scores, whose labels are intervals.", required=True)
    flags.DEFINE_string("labels", None, "Manifest that teacher.py wrote for all or some of these clips.", required=True)
    flags.DEFINE_string("out", None, "Folder of the corrected labels.", required=True)
    flags.DEFINE_float("present", 0.6, "Lowest label of an instrument that sounds.", lower_bound=0.0, upper_bound=1.0)
    flags.DEFINE_float(
        "absent", 0.04, "Highest label of an instrument that does not sound.", lower_bound=0.0, upper_bound=1.0
    )
    flags.DEFINE_bool(
        "only_corrected",
        False,
        "Make tags unknown that are never corrected. For labels by a tagger of your own (teacher.py --teacher), which "
        "learns only from the corrections of its own labels.",
    )


def main(argv: Sequence[str]) -> None:
    """Correct all labels and print their number."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        paths = (Path(FLAGS.scores), Path(FLAGS.labels), Path(FLAGS.out))
        count = correct_manifest(*paths, FLAGS.present, FLAGS.absent, FLAGS.only_corrected)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{count} clips corrected: {FLAGS.out}")


def correct_manifest(
    scores: Path, labels: Path, out: Path, present: float, absent: float, only_corrected: bool = False
) -> int:
    """Write corrected labels of every clip of the teacher's manifest, and a manifest; return the number of clips.

    With `only_corrected`, tags that are never corrected become unknown.

    Raises:
        ManifestError: the scores' manifest does not have a clip, or its labels are not times.
    """
    times = {clip.track: Path(str(clip.labels)) for clip in read_manifest(scores).clips}
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for clip in tqdm(read_manifest(labels).clips, desc="correct", unit="clip"):
        if times.get(clip.track, labels).suffix != ".json":
            raise ManifestError(
                f"{scores}: expected intervals of every clip of {labels}. Received: none of '{clip.path}'"
            )
        heard = json.loads(times[clip.track].read_text("utf-8"))["tags"]
        teacher = Path(str(clip.labels))
        dense = read_dense(teacher)
        values = correct(dense, heard, present, absent)
        if only_corrected:
            values[:, [tag not in LOWERED for tag in dense.tags]] = UNKNOWN
        write_dense(out / teacher.name, dataclasses.replace(dense, values=values))
        path = Path(os.path.relpath(clip.path, out)).as_posix()
        rows.append({"path": path, "tags": {}, "labels": teacher.name, "split": clip.split, "group": clip.group})
    write_json_lines(out / "manifest.jsonl", rows)
    return len(rows)


def correct(
    dense: DenseLabels, heard: Mapping[str, Sequence[Sequence[float]]], present: float, absent: float
) -> np.ndarray:
    """Correct the teacher's labels of one clip.

    Args:
        dense: The teacher's labels of patches.
        heard: The intervals in seconds in which each tag is heard, as in the score; a tag that is left out is unknown.
        present: The lowest label of an instrument that sounds.
        absent: The highest label of an instrument that does not sound.

    Returns:
        float32 [n_stretches, n_tags], as `dense.values`.
    """
    values = dense.values.copy()
    starts = np.arange(len(values)) * dense.hop_seconds
    for column, tag in enumerate(dense.tags):
        if tag not in heard or tag not in LOWERED:
            continue
        seconds = np.zeros(len(values))
        for start, end in heard[tag]:
            seconds += np.clip(np.minimum(end, starts + dense.length_seconds) - np.maximum(start, starts), 0.0, None)
        silent = seconds == 0.0
        values[silent, column] = np.minimum(values[silent, column], absent)
        sounds = seconds >= LEAST_SHARE * dense.length_seconds
        if tag in RAISED:
            values[sounds, column] = np.maximum(values[sounds, column], present)
    return values


if __name__ == "__main__":
    define_flags()
    app.run(main)
