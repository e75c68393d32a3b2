"""What the programs that invent clips share: flags, processes and the manifest."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from keras_tagger.files import write_json_lines
from pretrain.vary import Times, write_clip

# The semitones of the scales above the tonic: major, natural minor, major pentatonic.
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))

# Returns a clip, float32 [samples] at 16 kHz, and when each known tag is heard.
Make = Callable[[np.random.Generator], tuple[np.ndarray, Times]]


def define_flags(n_clips: int) -> None:
    """Define the flags of a program that makes `n_clips` clips by default."""
    flags.DEFINE_string("out", None, "Folder of the clips.", required=True)
    flags.DEFINE_integer("n_clips", n_clips, "The number of clips.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Another seed gives other clips.", lower_bound=0)
    flags.DEFINE_integer("jobs", 1, "The number of processes.", lower_bound=1)


def make_clips(make: Make, out: Path, group: str, n_clips: int, seed: int, jobs: int) -> None:
    """Make the missing ones of `out/NNNNN.flac` with their labels, and `out/manifest.jsonl`, all of the split "train".

    Args:
        make: A function that can be pickled; a clip depends on it, the seed and the number alone.
        out: The folder of the clips.
        group: A clip's group is GROUP/NUMBER.
        n_clips: The number of clips, made or found.
        seed: Another seed gives other clips.
        jobs: The number of processes.
    """
    missing = [number for number in range(n_clips) if not (out / f"{number:05d}.flac").exists()]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        work = pool.imap_unordered(functools.partial(_make, make, out, seed), missing, chunksize=8)
        for _ in tqdm(work, total=len(missing), desc=group, unit="clip"):
            pass
    rows = [
        {"path": f"{n:05d}.flac", "labels": f"{n:05d}.json", "tags": {}, "split": "train", "group": f"{group}/{n}"}
        for n in range(n_clips)
    ]
    write_json_lines(out / "manifest.jsonl", rows)
    print(f"{n_clips} clips: {out}")


def _make(make: Make, out: Path, seed: int, number: int) -> None:
    write_clip(out / f"{number:05d}.flac", *make(np.random.default_rng([seed, number])))
