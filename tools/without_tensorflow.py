"""Measure an installation of keras-tagger-lite beside this one: size, cold start, memory, throughput, and equal tags.

    python tools/build_lite.py dist/
    python -m venv lite && lite/bin/pip install dist/keras_tagger_lite-*.whl
    python tools/without_tensorflow.py lite/bin/python

Times are processor times, of processes that run one after the other. Not part of the package.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import numpy as np

MODELS = ("compact", "pons")
ROUNDS = 3

# Tags every clip, twice; prints the scores, and the processor time for a second of audio in the second round.
_TAG_ALL = """
import json, sys, time
import keras_tagger as kt
name, *clips = sys.argv[1:]
tagger = kt.load(name)
scores = [tagger.scores(clip).tolist() for clip in clips]
before = time.process_time()
seconds = sum(tags.seconds for _, tags in tagger.tag_files(clips))
print(json.dumps({"scores": scores, "per_second": (time.process_time() - before) / seconds}))
"""


def measured(command: list[str]) -> tuple[str, float, float, float]:
    """Run a program; return what it prints, its processor time and its time in seconds, and its memory in MB."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/")
    output = process.stdout.read() if process.stdout else ""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"expected {command[:4]} to succeed. Received: status {status}.")
    return output, used.ru_utime + used.ru_stime, time.monotonic() - begun, used.ru_maxrss / 1000


def installed_megabytes(python: str) -> float:
    """Return the size of the packages of an environment, without pip and setuptools, in MB."""
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    folder = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    left_out = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
    files = (path for entry in folder.iterdir() if not entry.name.startswith(left_out) for path in entry.rglob("*"))
    return sum(path.stat().st_size for path in files if path.is_file() and path.suffix != ".pyc") / 1e6


def main() -> None:
    """Print the comparison as Markdown."""
    lite = sys.argv[1]
    clips = sorted(map(str, (Path(str(resources.files("keras_tagger"))) / "clips").glob("*.ogg")))
    print(f"Size of the packages: {installed_megabytes(lite):.0f} MB.\n")
    print("| model | | cold `tag`, processor s | wall s | memory, MB | processor ms / s of audio | tags apart |")
    print("|---|---|---|---|---|---|---|")
    for model in MODELS:
        found = {}
        for name, python in (("lite", lite), ("TensorFlow", sys.executable)):
            cold = ["-m", "keras_tagger", "tag", clips[0], "--model", model, "--json"]
            runs = [measured([python, *cold])[1:] for _ in range(ROUNDS)]
            processor, wall, memory = np.median(np.array(runs), axis=0)
            found[name] = json.loads(measured([python, "-c", _TAG_ALL, model, *clips])[0])
            apart = np.abs(np.array(found[name]["scores"]) - np.array(found["lite"]["scores"])).max()
            cells = (
                f"{processor:.2f} | {wall:.2f} | {memory:.0f} | {1000 * found[name]['per_second']:.1f} | {apart:.1e}"
            )
            print(f"| {model} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
