"""Render scores: music with labels and times that are true by construction.

    PYTHONPATH=tools python -m pretrain.scores --out data/scores --n_train 1400 --n_valid 150 --n_test 360

renders excerpts of music21's corpus with fluidsynth, 20 to 30 s each, transposed and at another tempo, for 1 to 4
General MIDI instruments and sometimes drums. Programs become labels, and notes their times. It writes
OUT/{train,valid,test}/NNNNN.flac (16 kHz, mono), NNNNN.json beside each, and OUT/manifest.jsonl. A .json has

    {"seconds": 24.5, "stretch_seconds": 1.0, "tags": {"piano": [[0.0, 1.25], [2.0, 9.5]], "cello": []}, ...}

with sorted intervals in seconds from the start of the audio. A tag with intervals is present in them and absent
elsewhere, a tag with an empty list is absent, and a tag that is not listed is unknown.

A clip depends only on the seed, --texture, --vary_timbre, the split and its number; a clip whose .json exists is not
rendered again. Splits share no work. `test` is rendered with MuseScore General, `train` and `valid` with FluidR3 and
TimGM6mb. With --vary_timbre the timbres of `train` are varied (`score_timbre.py`).

Needs music21 (`pip install music21`), the program fluidsynth, and the soundfonts of Debian's fluid-soundfont-gm,
timgm6mb-soundfont and musescore-general-soundfont. Not part of the package.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile
from absl import app, flags, logging
from tqdm import tqdm

from keras_tagger.errors import AudioError, KerasTaggerError, ManifestError
from keras_tagger.files import replacing, write_json, write_json_lines
from pretrain.score_labels import NO_VOICE_TAGS, PRESENT, VOICE_TAGS, label
from pretrain.score_pieces import SPLITS, load_pieces, split_of
from pretrain.score_plan import TEXTURES, make_plan
from pretrain.score_render import SAMPLE_RATE, render
from pretrain.score_soundfonts import SOUNDFONTS, find_soundfonts

STRETCH_SECONDS = 1.0
MANIFEST = "manifest.jsonl"

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("out", None, "Folder of the clips, their labels and the manifest.", required=True)
    flags.DEFINE_integer("n_train", 1400, "Clips for training.", lower_bound=0)
    flags.DEFINE_integer("n_valid", 150, "Clips for validation.", lower_bound=0)
    flags.DEFINE_integer("n_test", 360, "Clips for testing, with another soundfont.", lower_bound=0)
    flags.DEFINE_integer("seed", 0, "Another seed gives other clips.", lower_bound=0)
    flags.DEFINE_enum(
        "texture", None, TEXTURES, "Only clips of one kind: one instrument, several together, or in turn."
    )
    flags.DEFINE_bool("vary_timbre", False, "Vary the instruments' timbres in the training clips.")
    flags.DEFINE_string("work_dir", "data/scores_work", "Folder of the parsed pieces.")
    flags.DEFINE_string("soundfonts", "/usr/share/sounds", f"Folder with {', '.join(SOUNDFONTS.values())}.")
    flags.DEFINE_integer("jobs", 2, "The number of processes.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Render the clips, write the manifest and print the number of clips of each tag."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    counts = {split: FLAGS[f"n_{split}"].value for split in SPLITS}
    try:
        soundfonts = find_soundfonts(FLAGS.soundfonts, [split for split in SPLITS if counts[split]])
        pieces = load_pieces(Path(FLAGS.work_dir), FLAGS.jobs)
        failed = render_set(
            Path(FLAGS.out), pieces, soundfonts, counts, FLAGS.seed, FLAGS.jobs, FLAGS.texture, FLAGS.vary_timbre
        )
        rows = write_manifest(Path(FLAGS.out), counts)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    print(table(Path(FLAGS.out), rows))
    if failed:
        sys.exit(f"error: expected {sum(counts.values())} clips. Received: {len(failed)} that failed, {failed[0]}")


def render_set(
    out: Path,
    pieces: Sequence[dict[str, Any]],
    soundfonts: dict[str, str],
    counts: dict[str, int],
    seed: int,
    jobs: int,
    texture: str | None = None,
    vary_timbre: bool = False,
) -> list[str]:
    """Render the missing clips; return a message for each that failed.

    Raises:
        ManifestError: `out` has clips of another seed or other timbres, or a split has no piece.
    """
    by_split = {split: [piece for piece in pieces if split_of(piece["work"]) == split] for split in SPLITS}
    todo = []
    for split, count in counts.items():
        if count and not by_split[split]:
            raise ManifestError(f"expected pieces for the split {split}. Received: none of {len(pieces)}")
        for number in range(count):
            path = out / split / f"{number:05d}.json"
            if not path.exists():
                todo.append((split, number))
                continue
            found = json.loads(path.read_text("utf-8"))
            if found["seed"] != seed:
                raise ManifestError(f"{path}: expected a clip of seed {seed}. Received: one of seed {found['seed']}")
            if found.get("vary_timbre", False) != (vary_timbre and split == "train"):
                made = "with" if found.get("vary_timbre", False) else "without"
                raise ManifestError(f"{path}: expected clips with equal settings. Received: one {made} --vary_timbre")
    logging.info("%d clips exist, %d to render.", sum(counts.values()) - len(todo), len(todo))
    # The splits take turns, so that a set that is stopped early has clips of each.
    todo.sort(key=lambda clip: clip[1] / counts[clip[0]])
    failed: list[str] = []
    if todo:
        context = multiprocessing.get_context("spawn")
        with context.Pool(jobs, _start_worker, (out, by_split, soundfonts, seed, texture, vary_timbre)) as pool:
            for problem in tqdm(pool.imap_unordered(_render_task, todo), total=len(todo), desc="render", unit="clip"):
                if problem:
                    logging.warning("%s", problem)
                    failed.append(problem)
    return failed


_worker: tuple[Any, ...] = ()


def _start_worker(*arguments: Any) -> None:
    global _worker
    _worker = arguments


def _render_task(clip: tuple[str, int]) -> str | None:
    out, by_split, soundfonts, seed, texture, vary_timbre = _worker
    try:
        render_clip(out, by_split[clip[0]], soundfonts, *clip, seed, texture, vary_timbre)
    except AudioError as error:
        return f"{clip[0]}/{clip[1]:05d}: {error}"
    return None


def render_clip(
    out: Path,
    pieces: Sequence[dict[str, Any]],
    soundfonts: dict[str, str],
    split: str,
    number: int,
    seed: int,
    texture: str | None = None,
    vary_timbre: bool = False,
) -> None:
    """Write OUT/SPLIT/NNNNN.flac and then NNNNN.json, whose existence means that both are finished.

    Raises:
        AudioError: as `render`.
    """
    plan = make_plan(pieces, split, number, seed, texture, vary_timbre)
    waveform = render(plan, soundfonts[plan.soundfont])
    audio_path = out / split / f"{number:05d}.flac"
    with replacing(audio_path) as temporary:
        soundfile.write(temporary, waveform, SAMPLE_RATE, subtype="PCM_16")
    labels = {
        "seconds": plan.seconds,
        "stretch_seconds": STRETCH_SECONDS,
        "tags": label(plan.instruments, plan.seconds),
        "piece": plan.piece,
        "work": plan.work,
        "texture": plan.texture,
        "soundfont": plan.soundfont,
        "programs": [instrument.program for instrument in plan.instruments if instrument.notes],
        "levels_db": [instrument.level_db for instrument in plan.instruments if instrument.notes],
        "seed": seed,
    }
    if vary_timbre and split == "train":
        labels["vary_timbre"] = True
    write_json(audio_path.with_suffix(".json"), labels)


def write_manifest(out: Path, counts: dict[str, int]) -> list[dict[str, Any]]:
    """Write OUT/manifest.jsonl with a row for every existing clip, and return the rows."""
    rows = []
    for split, count in counts.items():
        for number in range(count):
            path = out / split / f"{number:05d}.json"
            if not path.exists():
                continue
            labels = json.loads(path.read_text("utf-8"))
            rows.append(
                {
                    "path": f"{split}/{number:05d}.flac",
                    "labels": f"{split}/{number:05d}.json",
                    "tags": {},
                    "split": split,
                    "group": labels["work"],
                    **{key: labels[key] for key in ("piece", "soundfont", "programs", "texture", "seconds")},
                }
            )
    write_json_lines(out / MANIFEST, rows)
    return rows


def table(out: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Tabulate clips and minutes of every split, and clips with, without and unknown for every tag."""
    lines = []
    for split in SPLITS:
        labels = [json.loads((out / row["labels"]).read_text("utf-8")) for row in rows if row["split"] == split]
        lines.append(f"{split}: {len(labels)} clips, {sum(clip['seconds'] for clip in labels) / 60:.1f} min")
        for tag in (*PRESENT, "choral", "solo", *NO_VOICE_TAGS[:1], *VOICE_TAGS[:1]):
            known = [clip["tags"][tag] for clip in labels if tag in clip["tags"]]
            present = sum(bool(times) for times in known)
            lines.append(
                f"  {tag:12} {present:5} with {len(known) - present:5} without {len(labels) - len(known):5} unknown"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    app.run(main)
