"""Render clips of short solos with their times, to test where in a clip a tagger hears an instrument.

    PYTHONPATH=tools python -m pretrain.solos --out data/solos --n_clips 240

In a clip of 20 s, three or four instruments play one at a time, for 0.5 to 3 s each; the tag of one of them is the
`target`. Instruments, levels and reverberation are those of `scores.py`. The pieces are those of its split `test`, and
the soundfont is MuseScore General, which no training clip uses. Every instrument with its own tag is the target equally
often.

It writes OUT/NNNNN.flac (16 kHz, mono), NNNNN.json (`keras_tagger/data/dense.py`, with "target") and
OUT/manifest.jsonl, whose column `target` names the tag. A clip depends only on the seed and its number; one whose .json
exists is not rendered again. It has the requirements of `scores.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from absl import app, flags
from tqdm import tqdm

from keras_tagger.errors import KerasTaggerError, ManifestError
from keras_tagger.files import replacing, write_json, write_json_lines
from pretrain.score_arrangement import arrange, excerpt, within
from pretrain.score_drums import KITS, drum_pattern
from pretrain.score_instruments import DRUMS, KINDS, Instrument, Line
from pretrain.score_labels import PRESENT, label
from pretrain.score_pieces import load_pieces, split_of
from pretrain.score_plan import Plan, choose_programs, play
from pretrain.score_render import SAMPLE_RATE, render
from pretrain.score_soundfonts import SOUNDFONTS, find_soundfonts

SECONDS = 20.0
SOLO_SECONDS = (0.5, 3.0)
TARGETS = tuple(PRESENT)
MANIFEST = "manifest.jsonl"
STRETCH_SECONDS = 0.5
# The share of the clip in which a target is heard; outside this range there is little to find.
_HEARD_SECONDS = (1.5, 0.7 * SECONDS)
_SPLIT = "test"

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("out", None, "Folder of the clips, their labels and the manifest.", required=True)
    flags.DEFINE_integer("n_clips", 240, "The number of clips.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Another seed gives other clips.", lower_bound=0)
    flags.DEFINE_string("work_dir", "data/scores_work", "Folder of the parsed pieces.")
    flags.DEFINE_string("soundfonts", "/usr/share/sounds", f"Folder with {', '.join(SOUNDFONTS.values())}.")
    flags.DEFINE_integer("jobs", 2, "The number of processes that parse pieces.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Render the missing clips and write the manifest."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        soundfonts = find_soundfonts(FLAGS.soundfonts, [_SPLIT])
        pieces = [p for p in load_pieces(Path(FLAGS.work_dir), FLAGS.jobs) if split_of(p["work"]) == _SPLIT]
        for number in tqdm(range(FLAGS.n_clips), desc="render", unit="clip"):
            render_clip(Path(FLAGS.out), pieces, soundfonts, number, FLAGS.seed)
        rows = write_manifest(Path(FLAGS.out), FLAGS.n_clips)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    for target in TARGETS:
        print(f"{target:12} {sum(row['target'] == target for row in rows):4} clips")


def render_clip(
    out: Path, pieces: Sequence[dict[str, Any]], soundfonts: dict[str, str], number: int, seed: int
) -> None:
    """Write OUT/NNNNN.flac and then NNNNN.json, unless the latter exists.

    Raises:
        ManifestError: the clip that is there has another seed.
        AudioError: as `render`.
    """
    path = out / f"{number:05d}.json"
    if path.exists():
        if (found := json.loads(path.read_text("utf-8"))["seed"]) != seed:
            raise ManifestError(f"{path}: expected a clip of seed {seed}. Received: one of seed {found}")
        return
    plan, target = make_solos(pieces, number, seed)
    waveform = render(plan, soundfonts[plan.soundfont])
    with replacing(path.with_suffix(".flac")) as temporary:
        soundfile.write(temporary, waveform, SAMPLE_RATE, subtype="PCM_16")
    labels = {
        "seconds": plan.seconds,
        "stretch_seconds": STRETCH_SECONDS,
        "tags": label(plan.instruments, plan.seconds),
        "target": target,
        "piece": plan.piece,
        "work": plan.work,
        "soundfont": plan.soundfont,
        "programs": [instrument.program for instrument in plan.instruments if instrument.notes],
        "seed": seed,
    }
    write_json(path, labels)


def make_solos(pieces: Sequence[dict[str, Any]], number: int, seed: int) -> tuple[Plan, str]:
    """Plan a clip and choose its target; the same arguments give the same plan.

    Plans are drawn until the target is heard for 1.5 to 14 s of the 20.
    """
    order = np.random.default_rng([seed, number // len(TARGETS), 7]).permutation(len(TARGETS))
    target = TARGETS[int(order[number % len(TARGETS)])]
    rng = np.random.default_rng([seed, number, 20])
    while True:
        plan = _draw(pieces, target, rng)
        heard = sum(end - start for start, end in label(plan.instruments, plan.seconds).get(target, []))
        if _HEARD_SECONDS[0] <= heard <= _HEARD_SECONDS[1]:
            return plan, target


def _draw(pieces: Sequence[dict[str, Any]], target: str, rng: np.random.Generator) -> Plan:
    drums = target == "drums"
    programs = choose_programs([] if drums else [target], int(rng.integers(2, 4) if drums else rng.integers(3, 5)), rng)
    piece = pieces[int(rng.integers(len(pieces)))]
    lines, beat = excerpt(piece["parts"], SECONDS, rng)
    scores = arrange([line for line in lines if line], [KINDS[name] for name, _ in programs], beat, SECONDS, rng)
    if drums:
        scores.insert(0, drum_pattern(beat, SECONDS, rng))
    instruments = []
    for i, score in enumerate(solos(scores, SECONDS, rng)):
        is_drums = drums and i == 0
        name, program = ("drums", DRUMS + int(rng.choice(KITS))) if is_drums else programs[i - drums]
        instruments.append(
            Instrument(
                program,
                play(score, SECONDS, rng, is_drums),
                level_db=round(float(rng.uniform(-6.0, 0.0)), 2),
                decays=is_drums or KINDS[name].decays,
                controls={91: int(rng.integers(10, 70)), 93: int(rng.integers(0, 40)), 10: int(rng.integers(20, 108))},
            )
        )
    synth = {
        "synth.reverb.active": int(rng.random() < 0.85),
        "synth.reverb.room-size": round(float(rng.uniform(0.1, 0.6)), 3),
        "synth.reverb.level": round(float(rng.uniform(0.1, 0.6)), 3),
        "synth.chorus.active": int(rng.random() < 0.4),
    }
    peak_db = round(float(-rng.uniform(0.5, 10.0)), 2)
    return Plan(piece["piece"], piece["work"], "solos", SECONDS, "MuseScore General", peak_db, synth, instruments)


def solos(scores: Sequence[Line], seconds: float, rng: np.random.Generator) -> list[Line]:
    """Cut a clip into phrases of 0.5 to 3 s for one instrument each, never two in a row for the same.

    The first instrument has six in ten of the turns that it can have.

    Args:
        scores: what each instrument would play throughout, in seconds.
        seconds: length of the clip.
        rng: draws lengths and turns.

    Returns:
        What each plays in its turns.
    """
    kept: list[Line] = [[] for _ in scores]
    start, before = 0.0, -1
    while start < seconds:
        end = min(start + float(rng.uniform(*SOLO_SECONDS)), seconds)
        others = [i for i in range(1, len(scores)) if i != before]
        turn = 0 if not others or (before != 0 and rng.random() < 0.6) else int(rng.choice(others))
        kept[turn] += within(scores[turn], start, end)
        start, before = end, turn
    return kept


def write_manifest(out: Path, n_clips: int) -> list[dict[str, Any]]:
    """Write OUT/manifest.jsonl with a row for every clip, and return the rows."""
    rows = []
    for number in range(n_clips):
        labels = json.loads((out / f"{number:05d}.json").read_text("utf-8"))
        name = {"path": f"{number:05d}.flac", "labels": f"{number:05d}.json", "tags": {}, "split": _SPLIT}
        rows.append({**name, "group": labels["work"], "target": labels["target"], "piece": labels["piece"]})
    write_json_lines(out / MANIFEST, rows)
    return rows


if __name__ == "__main__":
    define_flags()
    app.run(main)
