"""Mix rendered solos into ensembles, which are the hardest to hear, in a fifth of the time of rendering.

    PYTHONPATH=tools python -m pretrain.remix --manifest data/scores/manifest.jsonl --out data/remixed --n_clips 6000

Every clip is a mixture of 2 to 4 training clips in which one instrument plays alone (`scores.py`, texture "single").
The first solo goes through all of them in turn, or with --first through those of some tags. Each is played at 0.8 to
1.25 times its speed, which also changes its pitch, and its louder passages are 0 to 10 dB below a common level, as in
`score_plan`; no solo makes a tag of another unknown. The mixture goes through the equalizer of `vary.py`, and its peak
is 0.5 to 14 dB below full scale. Unlike an ensemble of `scores.py`, the solos are not in time or in tune with each
other. With --apart every solo also gets its own equalizer, and half of them their own room (`effects.py`).

OUT/NNNNN.flac and .json depend only on the flags and the clip's number; a clip whose .flac exists is not made again.
OUT/manifest.jsonl is like that of `vary.py`; the group of a clip is the piece of its first solo.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags
from tqdm import tqdm

from keras_tagger.data.manifest import Clip, read_manifest
from keras_tagger.errors import KerasTaggerError, ManifestError
from keras_tagger.files import write_json_lines
from pretrain.effects import reverberant
from pretrain.score_labels import PRESENT
from pretrain.score_plan import clash
from pretrain.score_render import SAMPLE_RATE, level
from pretrain.vary import Times, at_other_speed, filtered, mixed_times, write_clip

SOFTEST_DB = -10.0
PEAK_DB = (0.5, 14.0)  # below full scale
# With --apart: the share of solos in a room, and the longest decay, so that no instrument sounds long after its notes.
ROOM_SHARE = 0.5
ROOM_SECONDS = 1.2
_TRIES = 100

Solo = tuple[Clip, int]  # a clip and its program

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_multi_string("manifest", None, "Manifest of rendered scores; may be repeated.", required=True)
    flags.DEFINE_string("out", None, "Folder of the clips.", required=True)
    flags.DEFINE_integer("n_clips", 6000, "The number of clips.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Another seed gives other clips.", lower_bound=0)
    flags.DEFINE_multi_enum("first", None, sorted(PRESENT), "Tags of a clip's first solo; all by default.")
    flags.DEFINE_bool("apart", False, "Give every solo its own equalizer and perhaps a room.")
    flags.DEFINE_integer("jobs", 2, "The number of processes.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Make the clips and print their number."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        solos = [solo for manifest in FLAGS.manifest for solo in read_solos(Path(manifest))]
        first = {program for tag in FLAGS.first or () for program in PRESENT[tag]}
        firsts = [solo for solo in solos if solo[1] in first] if first else solos
        if not firsts:
            raise ManifestError(f"expected a solo of {' or '.join(FLAGS.first)}. Received: none in {len(solos)} solos")
        remix(solos, Path(FLAGS.out), FLAGS.n_clips, FLAGS.seed, FLAGS.jobs, FLAGS.apart, firsts)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{FLAGS.n_clips} clips: {FLAGS.out}")


def read_solos(manifest: Path) -> list[Solo]:
    """Find the training clips of a manifest of `scores.py` in which one instrument plays alone.

    Raises:
        ManifestError: there is none.
    """
    solos = []
    for clip in read_manifest(manifest).select("train").clips:
        score = json.loads(Path(str(clip.labels)).read_text("utf-8"))
        if score["texture"] == "single":
            solos.append((clip, int(score["programs"][0])))
    if not solos:
        raise ManifestError(f"{manifest}: expected training clips of texture single. Received: none")
    return solos


def remix(
    solos: Sequence[Solo],
    out: Path,
    n_clips: int,
    seed: int = 0,
    jobs: int = 1,
    apart: bool = False,
    firsts: Sequence[Solo] | None = None,
) -> None:
    """Make the missing clips and the manifest; `firsts` are the possible first solos, or all.

    Raises:
        AudioError: a solo cannot be read.
    """
    firsts = solos if firsts is None else firsts
    missing = [number for number in range(n_clips) if not _path(out, number).exists()]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        work = pool.imap_unordered(functools.partial(_make, solos, firsts, out, seed, apart), missing, chunksize=8)
        for _ in tqdm(work, total=len(missing), desc="remix", unit="clip"):
            pass
    rows = []
    for number in range(n_clips):
        path, group = _path(out, number), firsts[number % len(firsts)][0].group
        row = {"path": path.name, "tags": {}, "labels": path.with_suffix(".json").name, "split": "train"}
        rows.append({**row, "group": group})
    write_json_lines(out / "manifest.jsonl", rows)


def remix_clip(
    solos: Sequence[Solo], number: int, seed: int, apart: bool = False, firsts: Sequence[Solo] | None = None
) -> tuple[np.ndarray, Times]:
    """Make one clip, whose first solo is one of `firsts` or any.

    Returns:
        float32 [samples] in -1..1 at 16 kHz, as long as its first solo; and when each tag of which something is known
        is heard, intervals in seconds.
    """
    rng = np.random.default_rng([seed, number])
    mix: np.ndarray | None = None
    times: Times = {}
    for solo in choose(solos, number, rng, firsts):
        waveform, heard = at_other_speed(solo[0], rng)
        if apart:
            waveform = filtered(waveform, rng)
            if rng.random() < ROOM_SHARE:
                waveform = reverberant(waveform, rng, ROOM_SECONDS)
        waveform = waveform / max(level(waveform), 1e-6) * 10.0 ** (rng.uniform(SOFTEST_DB, 0.0) / 20.0)
        if mix is None:
            mix, times = waveform, heard
        else:
            waveform = waveform[: len(mix)]
            mix[: len(waveform)] += waveform
            times = mixed_times(times, heard, len(mix) / SAMPLE_RATE)
    assert mix is not None
    mix = filtered(mix, rng)
    peak = 10.0 ** (-rng.uniform(*PEAK_DB) / 20.0)
    return (mix * (peak / max(np.abs(mix).max(), 1e-9))).astype(np.float32), times


def choose(
    solos: Sequence[Solo], number: int, rng: np.random.Generator, firsts: Sequence[Solo] | None = None
) -> list[Solo]:
    """Draw two to four solos of different programs that do not make tags of each other unknown."""
    firsts = solos if firsts is None else firsts
    chosen = [firsts[number % len(firsts)]]
    size = int(rng.choice([2, 3, 4], p=[0.2, 0.4, 0.4]))
    for _ in range(_TRIES):
        if len(chosen) == size:
            break
        solo = solos[int(rng.integers(len(solos)))]
        if not any(solo[1] == other or clash(solo[1], other) for _, other in chosen):
            chosen.append(solo)
    return chosen


def _make(solos: Sequence[Solo], firsts: Sequence[Solo], out: Path, seed: int, apart: bool, number: int) -> None:
    write_clip(_path(out, number), *remix_clip(solos, number, seed, apart, firsts))


def _path(out: Path, number: int) -> Path:
    return out / f"{number:05d}.flac"


if __name__ == "__main__":
    define_flags()
    app.run(main)
