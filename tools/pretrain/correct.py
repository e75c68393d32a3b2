"""Correct the teacher's labels of rendered scores where the score knows better.

    PYTHONPATH=tools python -m pretrain.correct --scores data/scores/manifest.jsonl \
        --labels data/score_teacher/manifest.jsonl --out data/score_corrected

Hard labels of scores and soft labels of a teacher contradict each other: the teacher gives a harp that is there 0.02,
and the score 1, four times what the teacher gives any harp. A student of both learns neither well
(docs/training_notes.md). Corrected labels stay the teacher's, with the least change that puts what is there above what
is not: an instrument that sounds in a patch has at least --present, one that does not at most --absent, and singing
that is not there at most --absent. Tags that the score cannot know, and patches in which an instrument sounds for a
moment only, keep the teacher's label.

Writes dense labels (`keras_tagger.data.dense`) and OUT/manifest.jsonl, which `fit` takes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import app, flags
from tqdm import tqdm

from keras_tagger.data.dense import DenseLabels, read_dense
from keras_tagger.data.manifest import read_manifest
from keras_tagger.errors import KerasTaggerError, ManifestError
from keras_tagger.files import replacing
from pretrain.score_labels import PRESENT as INSTRUMENTS
from pretrain.score_labels import VOICE_TAGS

# Of a patch; with less the score does not say what a listener to the patch would.
LEAST_SHARE = 0.15
LOWERED = (*INSTRUMENTS, "choral", *VOICE_TAGS)
RAISED = (*INSTRUMENTS, "choral")

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags; other programs that import this module have flags of their own."""
    flags.DEFINE_string("scores", None, "The rendered scores' manifest, whose labels are times.", required=True)
    flags.DEFINE_string("labels", None, "What `teacher.py` made of it, or of a part of it.", required=True)
    flags.DEFINE_string("out", None, "Folder of the corrected labels.", required=True)
    flags.DEFINE_float("present", 0.6, "Least label of what sounds.", lower_bound=0.0, upper_bound=1.0)
    flags.DEFINE_float("absent", 0.04, "Greatest label of what does not.", lower_bound=0.0, upper_bound=1.0)


def main(argv: Sequence[str]) -> None:
    """Correct all labels and say how many."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        count = correct_manifest(Path(FLAGS.scores), Path(FLAGS.labels), Path(FLAGS.out), FLAGS.present, FLAGS.absent)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{count} clips corrected: {FLAGS.out}")


def correct_manifest(scores: Path, labels: Path, out: Path, present: float, absent: float) -> int:
    """Write corrected labels of every clip of the teacher's manifest, and a manifest; return how many.

    Raises:
        ManifestError: the scores' manifest does not have a clip, or its labels are not times.
    """
    times = {clip.track: Path(str(clip.labels)) for clip in read_manifest(scores).clips}
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for clip in tqdm(read_manifest(labels).clips, desc="correct", unit="clip"):
        if times.get(clip.track, labels).suffix != ".json":
            raise ManifestError(f"{scores}: expected times of every clip of {labels}. Received none of '{clip.path}'")
        heard = json.loads(times[clip.track].read_text("utf-8"))["tags"]
        teacher = Path(str(clip.labels))
        dense = read_dense(teacher)
        with replacing(out / teacher.name) as temporary:
            np.savez(
                temporary,
                values=correct(dense, heard, present, absent).astype(np.float16),
                tags=np.array(dense.tags),
                hop_seconds=dense.hop_seconds,
                length_seconds=dense.length_seconds,
                pool=dense.pool,
            )
        path = Path(os.path.relpath(clip.path, out)).as_posix()
        rows.append({"path": path, "tags": {}, "labels": teacher.name, "split": clip.split, "group": clip.group})
    with replacing(out / "manifest.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return len(rows)


def correct(
    dense: DenseLabels, heard: Mapping[str, Sequence[Sequence[float]]], present: float, absent: float
) -> np.ndarray:
    """The teacher's labels of one clip, corrected.

    Args:
        dense: the teacher's, of patches.
        heard: when each tag is heard, seconds, as a score knows it; a tag it does not name is unknown.
        present, absent: least label of what sounds, greatest of what does not.

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
