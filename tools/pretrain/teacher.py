"""Label the clips of a manifest with a teacher, for `fit`: musicnn, or a tagger of your own.

    python tools/pretrain/teacher.py --manifest data/clips/manifest.jsonl --out data/labels --vocabulary MTT \
        --vocabulary MSD

writes one .npz of dense labels per clip (`keras_tagger.data.dense`), with one row per patch of 3 s, OUT/manifest.jsonl
with the clips and their labels, and OUT/index.json (the settings, and in `failed` the clips that could not be read and
why). With both vocabularies, tags of the second are called msd/TAG. A clip whose .npz exists is not labelled again.
`keras-tagger distill` does the same for music of your own, and trains; here, labels can be corrected and joined first.

--hidden MTT adds the 200 values before the last layer of those weights as hidden/000 to hidden/199; `ship.py` leaves
them out. --teacher labels with anything that `keras_tagger.teachers.opening.open_teacher` takes instead of musicnn.

Imports TensorFlow. Not part of the package.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from keras_tagger.data.manifest import SPLITS, Clip, Manifest, read_manifest
from keras_tagger.errors import KerasTaggerError, ModelError
from keras_tagger.files import write_json, write_json_lines
from keras_tagger.teachers.labelling import label_clips
from keras_tagger.teachers.musicnn import TAGS, WHEEL_VARIABLE, MusicnnTeacher, find_wheel, load_musicnn, prefixed
from keras_tagger.teachers.opening import MUSICNN, open_teacher
from keras_tagger.teachers.teacher import HOP_SECONDS, PATCH_SECONDS, Teacher

INDEX = "index.json"
MANIFEST = "manifest.jsonl"

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("manifest", None, "CSV or JSON lines of the clips to label.", required=True)
    flags.DEFINE_string("out", None, "Folder of the labels.", required=True)
    flags.DEFINE_string("teacher", MUSICNN, "musicnn, a pretrained name, a run directory, a .keras file, a SavedModel.")
    flags.DEFINE_multi_enum("vocabulary", ["MTT"], sorted(TAGS), "The set of musicnn's weights; may be given twice.")
    flags.DEFINE_multi_enum(
        "hidden", [], sorted(TAGS), "Sets of weights whose values before the last layer are also labels."
    )
    flags.DEFINE_float("hop_seconds", HOP_SECONDS, "Time from one patch of 3 s to the next.", lower_bound=0.016)
    flags.DEFINE_enum("split", None, SPLITS, "Label only the clips of one split.")
    flags.DEFINE_string("work_dir", "data/teacher", f"Folder of musicnn's wheel (or set {WHEEL_VARIABLE}).")


def main(argv: Sequence[str]) -> None:
    """Label the clips and print their number."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        manifest = read_manifest(FLAGS.manifest)
        manifest = manifest.select(FLAGS.split) if FLAGS.split else manifest
        if FLAGS.teacher == MUSICNN:
            wheel = find_wheel(FLAGS.work_dir)
            networks = [load_musicnn(wheel, name, name in FLAGS.hidden) for name in FLAGS.vocabulary]
            teacher: Teacher = MusicnnTeacher(prefixed(networks))
        else:
            teacher = open_teacher(FLAGS.teacher)
        index = label_manifest(teacher, manifest, Path(FLAGS.out), FLAGS.hop_seconds)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{len(manifest) - len(index['failed'])} clips labelled, {len(index['failed'])} failed: {Path(FLAGS.out)}")


def label_manifest(teacher: Teacher, manifest: Manifest, out: Path, hop_seconds: float = HOP_SECONDS) -> dict[str, Any]:
    """Label every clip without labels in `out`; write the manifest and the index, and return the index.

    Clips that cannot be read are logged, listed under "failed" and tried again the next time.

    Raises:
        ModelError: If `out` holds labels of another teacher or hop.
    """
    settings: dict[str, Any] = {
        "teacher": list(teacher.names),
        "patch_seconds": PATCH_SECONDS,
        "hop_seconds": hop_seconds,
        "tags": list(teacher.tags),
    }
    known = json.loads((out / INDEX).read_text("utf-8")) if (out / INDEX).exists() else settings
    for name, value in settings.items():
        if known.get(name) != value:
            raise ModelError(f"{out / INDEX}: expected labels with {name}={known.get(name)!r}. Received: {value!r}.")
    write_json(out / INDEX, {**settings, "failed": known.get("failed", [])}, indent=1)
    ids = [relative_id(clip, manifest.root) for clip in manifest.clips]
    files = [out / f"{hashlib.sha256(clip_id.encode()).hexdigest()[:16]}.npz" for clip_id in ids]
    failed = label_clips(teacher, manifest.clips, files, hop_seconds)
    clips = enumerate(manifest.clips)
    write_json_lines(out / MANIFEST, [_row(clip, files[i].name, out) for i, clip in clips if i not in failed])
    index = {**settings, "failed": [{"id": ids[i], "reason": reason} for i, reason in sorted(failed.items())]}
    write_json(out / INDEX, index, indent=1)
    return index


def relative_id(clip: Clip, root: str) -> str:
    """Return the clip's id with a path relative to the manifest's folder, so that both can be moved."""
    path, mark, stretch = clip.clip_id.partition("#t=")
    return (path if "://" in path else Path(os.path.relpath(path, root)).as_posix()) + mark + stretch


def _row(clip: Clip, labels: str, out: Path) -> dict[str, Any]:
    """Return a clip's row of the manifest in `out`."""
    path = clip.path if "://" in clip.path else Path(os.path.relpath(clip.path, out)).as_posix()
    row = {"path": path, "tags": {}, "labels": labels, "split": clip.split, "group": clip.group}
    if clip.start_seconds or clip.end_seconds is not None:
        row |= {"start": clip.start_seconds, "end": clip.end_seconds}
    return row


if __name__ == "__main__":
    define_flags()
    app.run(main)
