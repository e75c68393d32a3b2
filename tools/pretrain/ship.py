"""Cut a shipped tagger out of a run: some of its outputs, float16, with thresholds and a checksum.

    export PYTHONPATH=tools
    python -m pretrain.ship --run_dir runs/compact --data data/prepared --name compact --tags mtat
    python -m pretrain.ship --run_dir runs/compact --data data/prepared --name compact-msd --tags msd

writes keras_tagger/weights/NAME.npz and NAME's entry in registry.json beside it (keras_tagger/packaged.py has the
format). The run has outputs named after MagnaTagATune's 50 tags, and after the Million Song Dataset's 50 with "msd/"
before each, which is left out of the shipped names; the order is that of the published vocabularies.

Thresholds are fitted to the clips of --valid_split with the best F1, and evidence is counted on the split "train"
(keras_tagger/train/calibrate.py): a clip has a tag where its label is above --positive, and clips whose label is not
known do not count. A tag with too few clips to fit a threshold gets --positive; one that no training clip has is
flagged.
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
from pretrain.teacher import TAGS

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
    """Define the program's flags; a test that imports this module has none."""
    flags.DEFINE_string("run_dir", None, "The run, or its .keras file.", required=True)
    flags.DEFINE_string("data", None, "The prepared folder that the run was trained on.", required=True)
    flags.DEFINE_string("name", None, "What keras_tagger.load is to call it.", required=True)
    flags.DEFINE_enum("tags", "mtat", [*VOCABULARIES, "all"], "Which outputs.")
    flags.DEFINE_string("description", "", "One sentence for keras_tagger.pretrained(); there is one for each --tags.")
    flags.DEFINE_string("valid_split", "valid", "Split whose clips the thresholds are fitted to.")
    flags.DEFINE_float("positive", 0.3, "A clip has a tag where its label is above this.", 0.0, 1.0)
    flags.DEFINE_integer("min_clips", MIN_CLIPS, "Clips with and without a tag that its threshold needs.", 1)
    flags.DEFINE_string("out", str(weights_folder()), "Folder of the weights.")


def main(argv: Sequence[str]) -> None:
    """Ship, and say what was shipped."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
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
    """Write the packaged file, and give the tagger that is in it.

    Args:
        tagger: of the run.
        prepared: the data that it was trained on.
        name: of the file and its entry.
        tags: "mtat", "msd", or "all" outputs under their own names.
        out: folder of the weights; attribution is taken from its ATTRIBUTION.md.
        description: one sentence; by default that of `tags`.
        valid_split, positive, min_clips: see `calibrate`.
        report: plain values to keep about the run's measures.

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
    # Under the names that the data have; the shipped ones come after.
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


def report_of(run_dir: Path) -> dict[str, Any]:
    """The run's own measures, without the tables of tags and files; empty where there are none."""
    path = run_dir / "report.json"
    if not path.is_file():
        return {}
    report = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in report.items() if not isinstance(value, list)}


if __name__ == "__main__":
    define_flags()
    app.run(main)
