"""Vary the training clips in speed, mixture and spectrum, for the teacher to label again.

    PYTHONPATH=tools python -m pretrain.vary --manifest data/clips/manifest.jsonl --out data/varied --copies 2

A student memorises the clips if it hears nothing else. The teacher can label any audio, so its labels of varied clips
are as good as those of the original clips ("function matching", Beyer et al. 2022, arXiv 2106.05237).

Every copy of a clip of the split "train" is played at 0.8 to 1.25 times its speed, which also changes its pitch. Half
of the copies (--mixed_share) have a clip of another package added, 0 to 12 dB softer. All go through an equalizer of up
to 8 dB, and a fifth through a low-pass filter of 2.5 to 7 kHz. OUT/COPY/NNNNN.flac (16 kHz, mono, at most 30 s) depends
only on the seed, the copy, the share, --effects, --added and the clip's number in the manifest; a file that exists is
not made again. OUT/manifest.jsonl has path, split and group, as that of `clips.py`.

With --effects a copy, and the clip added to it, also goes through one or two of `effects.py`: separated, reversed, cut
up, at another pitch or tempo, distorted, or in a room.

--split valid varies the clips of the split "valid" instead, also mixed with those of "train", for weights that learn
from both. The copies still belong to the split "train".

With --production every copy is also compressed, limited, coded at a low bit rate, or played on a record, on the radio
or in a hall (`production.py`), as people's music is.

With --added a mixture has a training clip of that manifest added instead of one of another package, such as a rendered
score (`scores.py`) or a voice (`singing.py`). Its times are dropped if the other clip has none, because it is unknown
when that has the same instruments.

If labels are times, as those of `scores.py`, they are varied too: OUT/COPY/NNNNN.json has the times at the copy's
speed. In a mixture a tag is present if it is present in either clip, and unknown if it is unknown in either.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import soundfile
import soxr
from absl import app, flags
from tqdm import tqdm

from keras_tagger import audio
from keras_tagger.data.manifest import Clip, read_manifest
from keras_tagger.errors import KerasTaggerError, ManifestError
from keras_tagger.files import replacing, write_json, write_json_lines
from pretrain.effects import SAMPLE_RATE, changed, rms
from pretrain.production import produced
from pretrain.score_labels import NO_VOICE_TAGS, join

# The intervals in seconds in which each tag is heard. A tag that is not listed is unknown.
Times = dict[str, list[list[float]]]

MOST_SAMPLES = 30 * SAMPLE_RATE
STRETCH_SECONDS = 1.0  # as `scores.py`
SLOWEST, FASTEST = 0.8, 1.25
SOFTEST_DB = -12.0
EQUALIZER_DB, EQUALIZER_HZ = 8.0, (50.0, 150.0, 400.0, 1000.0, 2500.0, 5000.0, 8000.0)
LOW_PASS_SHARE, LOW_PASS_HZ, LOW_PASS_SLOPE_DB = 0.2, (2500.0, 7000.0), 48.0
# A range without clipping and near-silence, which would tell copies from clips.
PEAK = 0.99

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("manifest", None, "Manifest of clips.py or scores.py.", required=True)
    flags.DEFINE_string("out", None, "Folder of the copies.", required=True)
    flags.DEFINE_integer("copies", 2, "The number of copies of every clip.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Another seed gives other copies.", lower_bound=0)
    flags.DEFINE_float("mixed_share", 0.5, "The share of copies that have another clip added.", 0.0, 1.0)
    flags.DEFINE_bool("effects", False, "Also apply effects.py, if labels are not times.")
    flags.DEFINE_bool("production", False, "Also apply production.py.")
    flags.DEFINE_multi_string("added", [], "Manifest of clips to add to mixtures instead; may be given twice.")
    flags.DEFINE_enum("split", "train", ("train", "valid"), "The split to vary.")
    flags.DEFINE_integer("jobs", 2, "The number of processes.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Make the copies and print their number."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        how = {"mixed_share": FLAGS.mixed_share, "split": FLAGS.split, "effects": FLAGS.effects, "added": FLAGS.added}
        how["production"] = FLAGS.production
        count = vary(Path(FLAGS.manifest), Path(FLAGS.out), FLAGS.copies, FLAGS.seed, FLAGS.jobs, **how)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{count} copies: {FLAGS.out}")


def vary(
    manifest: Path,
    out: Path,
    copies: int,
    seed: int = 0,
    jobs: int = 1,
    mixed_share: float = 0.5,
    split: str = "train",
    effects: bool = False,
    added: Sequence[str | Path] = (),
    production: bool = False,
) -> int:
    """Make `copies` copies of each clip of a split in `out`, and their manifest; return their number.

    Clips of the split "valid" are numbered after those of "train", which they are mixed with.

    Raises:
        ManifestError: no clip is of the split, or nothing can be added to it: all are of one package, or no clip of
            `added` is of the split "train"; a clip's labels are times, with `effects` or if those of `added` are not.
        AudioError: a clip cannot be read.
    """
    found = read_manifest(manifest).clips
    clips = [clip for wanted in dict.fromkeys(("train", split)) for clip in found if clip.split == wanted]
    numbers = [number for number, clip in enumerate(clips) if clip.split == split]
    addable = [clip for path in added for clip in read_manifest(path).clips if clip.split == "train"]
    if added and not addable:
        raise ManifestError(f"{', '.join(map(str, added))}: expected clips of the split train. Received: none")
    if not numbers or (not added and len({_package(clip) for clip in clips}) < 2):
        raise ManifestError(
            f"{manifest}: expected clips of the split {split}, and of at least two packages. "
            f"Received: {len(numbers)} clips of the split, {len(clips)} in all"
        )
    timed = next((clip.path for clip in clips if _has_times(clip)), None)
    untimed = bool(added) and not all(_has_times(clip) for clip in addable)
    if (effects or untimed) and timed is not None:
        flag = "--effects" if effects else "--added with clips without times"
        raise ManifestError(f"{manifest}: expected clips without times, for {flag}. Received: those of '{timed}'")
    places = [(copy, number) for copy in range(copies) for number in numbers]
    missing = [place for place in places if not _path(out, *place).exists()]
    with multiprocessing.get_context("spawn").Pool(
        jobs, _start_worker, (clips, out, seed, mixed_share, effects, addable, production)
    ) as pool:
        work = pool.imap_unordered(_make, missing, chunksize=8)
        for _ in tqdm(work, total=len(missing), desc="vary", unit="clip"):
            pass
    rows: list[dict[str, Any]] = []
    for copy, number in places:
        clip = clips[number]
        path = _path(out, copy, number).relative_to(out)
        row: dict[str, Any] = {"path": path.as_posix(), "tags": [_package(clip)], "split": "train", "group": clip.group}
        if _has_times(clip):
            row.update(tags={}, labels=path.with_suffix(".json").as_posix())
        rows.append(row)
    write_json_lines(out / "manifest.jsonl", rows)
    return len(rows)


def vary_clip(
    clips: Sequence[Clip],
    number: int,
    copy: int,
    seed: int,
    mixed_share: float = 0.5,
    effects: bool = False,
    addable: Sequence[Clip] = (),
    production: bool = False,
) -> tuple[np.ndarray, Times]:
    """Make one copy of clip `number`, mixed with a clip of `addable` or, if there are none, of another package.

    Returns:
        float32 [samples] in -1..1 at 16 kHz, at most 30 s; and when each tag of which something is known is heard,
        intervals in seconds, none for clips without times.
    """
    rng = np.random.default_rng([seed, copy, number])
    waveform, times = at_other_speed(clips[number], rng)
    if effects:
        waveform = changed(waveform, rng)[:MOST_SAMPLES]
    others = addable or [clip for clip in clips if _package(clip) != _package(clips[number])]
    other = others[int(rng.integers(len(others)))]
    if rng.random() < mixed_share:
        added, added_times = at_other_speed(other, rng)
        if effects:
            added = changed(added, rng)
        added = added[: len(waveform)]
        level = 10.0 ** (rng.uniform(SOFTEST_DB, 0.0) / 20.0) * rms(waveform) / max(rms(added), 1e-6)
        waveform[: len(added)] += level * added
        times = mixed_times(times, added_times, len(waveform) / SAMPLE_RATE)
    waveform = filtered(waveform, rng)
    if production:
        waveform = produced(waveform, rng)
    return (waveform * min(1.0, PEAK / max(np.abs(waveform).max(), 1e-9))).astype(np.float32), times


def mixed_times(one: Times, other: Times, seconds: float) -> Times:
    """Return when tags are heard in a mixture of `seconds`.

    A tag is there when it is in either clip, and one of which either knows nothing is not among them. Nobody plays
    "solo" in a mixture, and it is free of voices only while both are.
    """
    mixed: Times = {}
    for tag in sorted(one.keys() & other.keys()):
        if tag == "solo":
            mixed[tag] = []
        elif tag in (*NO_VOICE_TAGS, "msd/instrumental"):
            # `scores.py` gives these tags for the whole clip or not at all.
            mixed[tag] = [[0.0, seconds]] if one[tag] and other[tag] else []
        else:
            mixed[tag] = within(join((start, end) for start, end in [*one[tag], *other[tag]]), seconds)
    return mixed


def within(intervals: Sequence[Sequence[float]], seconds: float) -> list[list[float]]:
    """Cut intervals at `seconds`."""
    return [[start, min(end, seconds)] for start, end in intervals if start < seconds]


def at_other_speed(clip: Clip, rng: np.random.Generator) -> tuple[np.ndarray, Times]:
    """Change speed and pitch by a log-uniform factor; return the clip and its times."""
    speed = float(np.exp(rng.uniform(np.log(SLOWEST), np.log(FASTEST))))
    waveform = audio.load(clip.path, SAMPLE_RATE, clip.start_seconds, clip.end_seconds)
    waveform = soxr.resample(waveform, SAMPLE_RATE * speed, SAMPLE_RATE)[:MOST_SAMPLES]
    times = json.loads(Path(str(clip.labels)).read_text("utf-8"))["tags"] if _has_times(clip) else {}
    played = {
        tag: [[round(start / speed, 3), round(end / speed, 3)] for start, end in heard] for tag, heard in times.items()
    }
    return waveform, {tag: within(heard, len(waveform) / SAMPLE_RATE) for tag, heard in played.items()}


def _has_times(clip: Clip) -> bool:
    return clip.labels is not None and Path(clip.labels).suffix == ".json"


def filtered(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply an equalizer with random gains at `EQUALIZER_HZ`, and perhaps a low-pass filter."""
    # For some lengths an FFT takes ten times as long.
    length = scipy.fft.next_fast_len(len(waveform), real=True)
    spectrum = scipy.fft.rfft(waveform, length)
    octaves = np.log2(np.maximum(scipy.fft.rfftfreq(length, 1.0 / SAMPLE_RATE), 1.0))
    curve = np.interp(octaves, np.log2(EQUALIZER_HZ), rng.uniform(-EQUALIZER_DB, EQUALIZER_DB, len(EQUALIZER_HZ)))
    cutoff = np.log2(rng.uniform(*LOW_PASS_HZ))
    if rng.random() < LOW_PASS_SHARE:
        curve -= LOW_PASS_SLOPE_DB * np.maximum(octaves - cutoff, 0.0)
    return scipy.fft.irfft(spectrum * 10.0 ** (curve / 20.0), length)[: len(waveform)]


def _package(clip: Clip) -> str:
    """Return the package in a group of `clips.py`, PACKAGE/PIECE."""
    return str(clip.group).partition("/")[0]


def _path(out: Path, copy: int, number: int) -> Path:
    return out / str(copy) / f"{number:05d}.flac"


_worker: tuple[Sequence[Clip], Path, int, float, bool, Sequence[Clip], bool] = ([], Path(), 0, 0.5, False, [], False)


def _start_worker(*arguments: Any) -> None:
    global _worker
    _worker = arguments


def _make(place: tuple[int, int]) -> None:
    clips, out, seed, mixed_share, effects, addable, production = _worker
    waveform, times = vary_clip(clips, place[1], place[0], seed, mixed_share, effects, addable, production)
    write_clip(_path(out, *place), waveform, times if _has_times(clips[place[1]]) else None)


def write_clip(path: Path, waveform: np.ndarray, times: Times | None) -> None:
    """Write a FLAC file and, before it, the times beside it as dense labels, if there are any."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if times is not None:
        seconds = round(len(waveform) / SAMPLE_RATE, 3)
        content = {"seconds": seconds, "stretch_seconds": STRETCH_SECONDS, "tags": times}
        write_json(path.with_suffix(".json"), content)
    with replacing(path) as temporary:
        soundfile.write(temporary, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")


if __name__ == "__main__":
    define_flags()
    app.run(main)
