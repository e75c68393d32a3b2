"""Measure how fast audio files are decoded or tagged and how much memory that takes, format by format.

    python tools/decoding.py --against ../other_checkout    alternate between this checkout (A) and the other (B)
    python tools/decoding.py --hours 3                      compare files of 3 hours with files of 3 minutes
    python tools/decoding.py --what tag                     from file to tags, not from file to samples

Speeds are seconds of audio per second, medians of several processes; A/B above 1 means that this checkout is faster.
Memory is the largest resident set of a process, in MB. FFmpeg, from imageio-ffmpeg, makes the files. Run this on a
machine that does nothing else. Not part of the package.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags

ROOT = Path(__file__).parents[1]
FLAGS = flags.FLAGS

_LONG_SECONDS = 1000.0

# FFmpeg's options for each suffix.
FORMATS = {
    "wav": "-c:a pcm_s16le",
    "flac": "-c:a flac",
    "mp3": "-c:a libmp3lame -b:a 192k",
    "ogg": "-c:a libvorbis -q:a 5",
    "opus": "-c:a libopus -ar 48000",
    "m4a": "-c:a aac -b:a 192k",
    "alac.m4a": "-c:a alac",
    "aac": "-c:a aac -b:a 192k",
    "wma": "-c:a wmav2 -b:a 192k",
    "webm": "-c:a libopus -ar 48000",
    "wv": "-c:a wavpack -sample_fmt s16p",
    "ac3": "-c:a ac3 -b:a 192k",
}


def define_flags() -> None:
    """Define the program's flags; the tests import this module beside others that have their own."""
    flags.DEFINE_string("against", None, "The other checkout; without one, only this checkout is measured.")
    flags.DEFINE_integer("repeats", 5, "Processes for each format and checkout.", lower_bound=1)
    flags.DEFINE_list("formats", list(FORMATS), "The formats to measure.")
    flags.DEFINE_float("minutes", 5.0, "The length of each file.", lower_bound=0.1)
    flags.DEFINE_float("hours", None, "Show the memory for files of this length, and for files of 1/60 of it.")
    flags.DEFINE_enum("what", "decode", ["decode", "tag"], "What is done with a file.")
    flags.DEFINE_string("path", None, "Used by the program itself: one measurement, printed as JSON.")


def make_file(folder: Path, suffix: str, seconds: float) -> Path:
    """Write stereo noise and tones at 44.1 kHz: a minute is encoded, and longer files repeat it."""
    import imageio_ffmpeg

    path = folder / f"{seconds:.0f}.{suffix}"
    tone = "0.2*sin(2*PI*(200+100*sin(t))*t)+0.1*(random(0)-0.5)"
    source = ["-f", "lavfi", "-i", f"aevalsrc={tone}|{tone}:s=44100:d={min(60.0, seconds)}"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
    minute = folder / "minute.wav"
    subprocess.run([*command, *source, minute], check=True)
    loops = ["-stream_loop", str(int(seconds // 60))]
    subprocess.run([*command, *loops, "-i", minute, "-t", str(seconds), *FORMATS[suffix].split(), path], check=True)
    return path


def measure(path: str, what: str) -> dict[str, float]:
    """Decode or tag a file several times in this process, of which the fastest counts."""
    from keras_tagger import audio

    seconds = sum(len(block) for block in audio.blocks(path)) / 16000
    work: Callable[[], object]
    if what == "decode":
        work = functools.partial(_decode, path)
    else:
        import keras_tagger as kt

        tagger = kt.load("compact")
        work = functools.partial(tagger.tag, path)
        work()
    elapsed = []
    for _ in range(1 if seconds > _LONG_SECONDS else 5):
        started = time.perf_counter()
        work()
        elapsed.append(time.perf_counter() - started)
    return {"speed": seconds / min(elapsed), "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _decode(path: str) -> None:
    from keras_tagger import audio

    for _ in audio.blocks(path):
        pass


def measured(path: Path, checkout: Path) -> dict[str, float] | None:
    """Measure in a process that imports the checkout's package; None if it cannot read the file."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(Path(__file__).resolve()), f"--path={path}", f"--what={FLAGS.what}"]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and "AudioError" not in done.stderr:
        sys.exit(f"{path.name} of {checkout}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1]) if not done.returncode else None


def compare(folder: Path, checkouts: Sequence[Path]) -> None:
    """Print a row for each format: speed and memory of each checkout, and the ratio of the speeds."""
    for suffix in FLAGS.formats:
        path = make_file(folder, suffix, 60 * FLAGS.minutes)
        # In turn, so that a machine whose speed drifts is fair to both.
        rows = [[measured(path, checkout) for checkout in checkouts] for _ in range(FLAGS.repeats)]
        text = f"{suffix:<9}"
        for name, column in zip("AB", zip(*rows, strict=True), strict=False):
            found = [row for row in column if row is not None]
            if found:
                speed, memory = (statistics.median(row[key] for row in found) for key in ("speed", "memory"))
                text += f"  {name} {speed:7.0f} x, {memory:5.0f} MB"
            else:
                text += f"  {name} not read"
        ratios = sorted(a["speed"] / b["speed"] for a, b in (row for row in rows if len(row) == 2 and None not in row))
        if ratios:
            text += f"  A/B {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        print(text, flush=True)
        path.unlink()


def compare_lengths(folder: Path) -> None:
    """Print the memory for a short and for a long file of each format."""
    for suffix in FLAGS.formats:
        row = []
        for seconds in (60 * FLAGS.hours, 3600 * FLAGS.hours):
            path = make_file(folder, suffix, seconds)
            row.append((seconds, measured(path, ROOT)))
            path.unlink()
        texts = [
            f"{seconds / 60:6.0f} min " + (f"{got['memory']:5.0f} MB" if got else "not read") for seconds, got in row
        ]
        print(f"{suffix:<9}  {'  '.join(texts)}", flush=True)


def main(argv: Sequence[str]) -> None:
    """Measure and print a row for each format."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    if FLAGS.path:
        print(json.dumps(measure(FLAGS.path, FLAGS.what)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if FLAGS.hours:
            compare_lengths(Path(folder))
        else:
            compare(Path(folder), [ROOT, *([Path(FLAGS.against).resolve()] if FLAGS.against else [])])


if __name__ == "__main__":
    define_flags()
    app.run(main)
