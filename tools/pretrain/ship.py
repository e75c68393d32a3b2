"""Package a run for shipping: some of its outputs in float16, with thresholds and a checksum.

    export PYTHONPATH=tools
    python -m pretrain.ship --run_dir runs/compact --data data/prepared --name compact --tags mtat
    python -m pretrain.ship --run_dir runs/compact --data data/prepared --name compact-msd --tags msd

    python -m pretrain.ship --run_dir runs/learnt/last.keras --thresholds thresholds.json --name pons --tags both

writes keras_tagger/weights/NAME.npz and the entry NAME of registry.json (keras_tagger/storage/pretrained.py explains
the format). The outputs of the run are MagnaTagATune's 50 tags, and the Million Song Dataset's 50 with the prefix
"msd/", which is removed from the shipped names. The order is that of the published vocabularies.

Thresholds maximise F1 on the clips of --valid_split, and training clips are counted on the split "train"
(keras_tagger/evaluation/thresholds.py): a clip has a tag if its label is above --positive, and unknown labels do not
count. A tag with too few clips for a threshold gets --positive; a tag without training clips is flagged.

With --thresholds, they are those that `tools/real_music.py thresholds` fitted to real music, and every tag has the
evidence of the music that musicnn was trained on. --tags both writes one file with two names, NAME and NAME-msd.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

import keras_tagger
from keras_tagger.data.prepared import Prepared, open_prepared
from keras_tagger.errors import KerasTaggerError, ModelError
from keras_tagger.evaluation.thresholds import MIN_CLIPS, calibrate
from keras_tagger.storage.pretrained import read_packaged, weights_folder, write_packaged
from keras_tagger.tagger import Tagger, load
from keras_tagger.tags import TagInfo
from keras_tagger.teachers.musicnn import TAGS

ATTRIBUTION = "ATTRIBUTION.md"
MSD_PREFIX = "msd/"
VOCABULARIES = {
    "mtat": {tag: tag for tag in TAGS["MTT"]},
    "msd": {f"{MSD_PREFIX}{tag}": tag for tag in TAGS["MSD"]},
}
DESCRIPTIONS = {
    "mtat": "MagnaTagATune's 50 tags: instruments, voices, genres, tempo and mood.",
    "msd": "The Million Song Dataset's 50 tags: genres, moods and eras.",
    "all": "A self-attention music tagger.",
}

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("run_dir", None, "The run, or its .keras file.", required=True)
    flags.DEFINE_string("data", None, "The prepared folder that the run was trained on; not needed with --thresholds.")
    flags.DEFINE_string("thresholds", None, "The thresholds that tools/real_music.py wrote as JSON.")
    flags.DEFINE_string("name", None, "The name for keras_tagger.load.", required=True)
    flags.DEFINE_enum("tags", "mtat", [*VOCABULARIES, "both", "all"], "The outputs to ship.")
    flags.DEFINE_string(
        "description", "", "One sentence for keras_tagger.pretrained(); by default one that fits --tags."
    )
    flags.DEFINE_string("valid_split", "valid", "The split to fit thresholds to.")
    flags.DEFINE_float("positive", 0.3, "A clip has a tag if its label is above this value.", 0.0, 1.0)
    flags.DEFINE_integer(
        "min_clips", MIN_CLIPS, "The number of clips with and without a tag that a threshold needs.", 1
    )
    flags.DEFINE_string("out", str(weights_folder()), "Folder of the weights.")


def main(argv: Sequence[str]) -> None:
    """Package the run and print a summary."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    if bool(FLAGS.data) == bool(FLAGS.thresholds):
        raise app.UsageError("expected --data or --thresholds, and not both.")
    try:
        if FLAGS.thresholds:
            thresholds = json.loads(Path(FLAGS.thresholds).read_text("utf-8"))
            ship_both(load(FLAGS.run_dir), thresholds, FLAGS.name, Path(FLAGS.out), report_of(Path(FLAGS.run_dir)))
            return
        tagger = ship(
            load(FLAGS.run_dir),
            open_prepared(FLAGS.data),
            FLAGS.name,
            FLAGS.tags,
            Path(FLAGS.out),
            FLAGS.description,
            FLAGS.valid_split,
            FLAGS.positive,
            FLAGS.min_clips,
            report_of(Path(FLAGS.run_dir)),
        )
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    width = max(len(tag) for tag in tagger.tags)
    for tag, info in tagger.info.items():
        how = "" if info.calibrated else "  not calibrated"
        print(f"{tag:<{width}}  {info.train_clips:>6} clips  threshold {info.threshold:.3f}{how}")
    unheard = [tag for tag, info in tagger.info.items() if not info.has_evidence]
    path = Path(FLAGS.out) / f"{FLAGS.name}.npz"
    print(f"no evidence in training: {', '.join(unheard) or 'none'}")
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def ship(
    tagger: Tagger,
    prepared: Prepared,
    name: str,
    tags: str,
    out: Path,
    description: str = "",
    valid_split: str = "valid",
    positive: float = 0.3,
    min_clips: int = MIN_CLIPS,
    report: Mapping[str, Any] | None = None,
) -> Tagger:
    """Write the packaged file, and return the tagger in it.

    Args:
        tagger: The tagger of the run.
        prepared: The data that it was trained on.
        name: The name of the file and of its entry.
        tags: "mtat", "msd", or "all" for all outputs with their own names.
        out: The folder of the weights; its ATTRIBUTION.md is stored too.
        description: One sentence; by default that of `tags`.
        valid_split: See `calibrate`.
        positive: See `calibrate`.
        min_clips: See `calibrate`.
        report: The run's measures as plain values.

    Raises:
        ModelError: the run lacks a tag of the vocabulary, or the folder its attribution.
    """
    names = VOCABULARIES.get(tags, {tag: tag for tag in tagger.tags})
    missing = [tag for tag in names if tag not in tagger.tags]
    if missing:
        raise ModelError(f"expected a run with the tags {', '.join(names)}. Received: none named {missing[0]!r}.")
    attribution = out / ATTRIBUTION
    if not attribution.is_file():
        raise ModelError(f"expected {ATTRIBUTION} (origins and licences) in {out}. Received: a folder without it.")
    # With the names of the data; the shipped names are set later.
    cut = tagger.select(list(names))
    cut.info = calibrate(cut, prepared, valid_split, positive, min_clips)
    cut = cut.select(list(names), names)
    provenance = {
        "keras_tagger": keras_tagger.__version__,
        "data": {
            "fingerprint": prepared.fingerprint,
            "positive": positive,
            "clips": {split: prepared.n_clips(split) for split in prepared.splits},
            "hours": {split: round(prepared.seconds(split) / 3600, 2) for split in prepared.splits},
        },
        "training": tagger.config.to_dict()["training"],
        "report": dict(report or {}),
    }
    write_packaged(cut, name, description or DESCRIPTIONS[tags], provenance, attribution.read_text("utf-8"), out)
    packaged = read_packaged(name, out)
    return Tagger(packaged.build(), cut.config, packaged.info)


def ship_both(
    tagger: Tagger, fitted: Mapping[str, Any], name: str, out: Path, report: Mapping[str, Any] | None = None
) -> None:
    """Write one packaged file with both vocabularies, NAME and NAME-msd.

    Args:
        tagger: A tagger with the tags of both vocabularies, those of the second with the prefix "msd/".
        fitted: What `tools/real_music.py thresholds` writes.
        name: The name of the file and of its first entry.
        out: The folder of the weights; its ATTRIBUTION.md is stored too.
        report: Measures as plain values.

    Raises:
        ModelError: If a tag has no threshold, or the folder no attribution.
    """
    rows = {
        **fitted["thresholds"]["MTAT"],
        **{MSD_PREFIX + tag: row for tag, row in fitted["thresholds"]["MSD"].items()},
    }
    missing = [tag for tag in tagger.tags if tag not in rows]
    if missing:
        raise ModelError(f"expected a threshold of every tag. Received: none of {missing[0]!r}.")
    attribution = out / ATTRIBUTION
    if not attribution.is_file():
        raise ModelError(f"expected {ATTRIBUTION} (origins and licences) in {out}. Received: a folder without it.")
    tagger.info = {
        tag: TagInfo(
            threshold=round(rows[tag]["threshold"], 6),
            calibrated=True,
            rule="false_alarms" if rows[tag]["source"] == "labels" else "teacher",
            false_alarm_rate=round(rows[tag]["false_alarms"], 4),
            clips_with=rows[tag]["n_with"],
            clips_without=rows[tag]["n_without"],
            evidence_from="musicnn",
        )
        for tag in tagger.tags
    }
    provenance = {"keras_tagger": keras_tagger.__version__, "report": dict(report or {})}
    also = {f"{name}-msd": (MSD_PREFIX, DESCRIPTIONS["msd"])}
    path = write_packaged(
        tagger, name, DESCRIPTIONS["mtat"], provenance, attribution.read_text("utf-8"), out, also=also
    )
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def report_of(run_dir: Path) -> dict[str, Any]:
    """Return the run's own measures without the tables of tags and files, or {} if there are none."""
    path = run_dir / "report.json"
    if not path.is_file():
        return {}
    report = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in report.items() if not isinstance(value, list)}


if __name__ == "__main__":
    define_flags()
    app.run(main)
