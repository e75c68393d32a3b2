r"""Compare this package with the authors' PyTorch code: the probabilities of real clips with the same checkpoint.

    python tools/compare_authors.py --architecture won2020 --repo ../sota-music-tagging-models \
        --torch_python ../torch/bin/python --clips 'data/clips/*.flac'

cuts the middle of each clip to the length of the model's input, runs the authors' model at full width with random
weights (tools/authors_reference.py), imports its checkpoint, and prints the largest differences. docs/import.md has the
results, and explains how the golden data of the tests were recorded with --small.
"""

from __future__ import annotations

import glob
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from absl import app, flags

import keras_tagger as kt
from keras_tagger import audio
from keras_tagger.errors import KerasTaggerError
from keras_tagger.models.music_tagger import MusicTagger
from keras_tagger.tagger import import_checkpoint

FLAGS = flags.FLAGS


def middles(architecture: str, pattern: str, n_clips: int) -> np.ndarray:
    """Cut the middles of long enough clips, taking turns between folders; float32 `[n_clips, samples]`."""
    settings = kt.presets()[architecture]
    model = MusicTagger(["a"], settings.audio, settings.model)
    by_folder: dict[Path, list[str]] = {}
    for path in sorted(glob.glob(pattern)):
        by_folder.setdefault(Path(path).parent, []).append(path)
    turns = [paths[turn] for turn in range(n_clips) for paths in by_folder.values() if turn < len(paths)]
    found: list[np.ndarray] = []
    for path in turns:
        wave = audio.load(path, settings.audio.sample_rate)
        start = (len(wave) - model.crop_samples) // 2
        if start >= 0 and len(found) < n_clips:
            found.append(wave[start : start + model.crop_samples])
    if len(found) < n_clips:
        raise KerasTaggerError(
            f"clips: expected {n_clips} of {settings.audio.window_seconds} s. Received: {len(found)}."
        )
    return np.stack(found)


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_enum(
        "architecture", None, ["won2019", "won2019_raw", "won2020", "won2021"], "Which model.", required=True
    )
    flags.DEFINE_string("repo", None, "The authors' checkout.", required=True)
    flags.DEFINE_string("torch_python", None, "A Python with PyTorch, torchaudio, einops and librosa.", required=True)
    flags.DEFINE_string("clips", None, "A pattern of audio files.", required=True)
    flags.DEFINE_integer("n_clips", 20, "The number of clips.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "The seed of the random weights.")
    flags.DEFINE_bool("double", False, "Run the authors' code in float64.")
    flags.DEFINE_float("tolerance", 1e-5, "The largest allowed difference of a probability.")


def main(_: list[str]) -> int:
    """Compare; the exit status is 1 if a difference is larger than allowed."""
    waveforms = middles(FLAGS.architecture, FLAGS.clips, FLAGS.n_clips)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "clips.npz", waveforms=waveforms)
        program = Path(__file__).with_name("authors_reference.py")
        flags_given = {
            "architecture": FLAGS.architecture,
            "repo": FLAGS.repo,
            "waveforms": Path(folder) / "clips.npz",
            "out_dir": folder,
            "seed": FLAGS.seed,
        }
        words = [str(word) for name, value in flags_given.items() for word in (f"--{name}", value)]
        more = ["--double"] if FLAGS.double else []
        subprocess.run([FLAGS.torch_python, str(program), *words, *more], check=True)
        reference = np.load(Path(folder) / "reference.npz")
        tags = "msd" if FLAGS.architecture == "won2021" else "mtat"
        tagger = import_checkpoint(Path(folder) / "checkpoint.pth", FLAGS.architecture, tags)
    found = [tagger.model.analyze(wave[np.newaxis], ("tags", "spectrogram")) for wave in waveforms]
    probabilities = np.concatenate([one["tags"] for one in found])
    difference = float(np.abs(probabilities - reference["probabilities"]).max())
    print(f"{FLAGS.architecture}: {len(waveforms)} clips, {tagger.model.count_params():,} parameters")
    if reference["spectrograms"].size:
        spectrograms = np.concatenate([one["spectrogram"] for one in found])
        apart = np.abs(spectrograms - reference["spectrograms"])
        print(f"  spectrograms differ by up to {apart.max():.2e} dB, on average {apart.mean():.1e} dB")
    theirs = reference["probabilities"]
    print(f"  probabilities {theirs.min():.3f} to {theirs.max():.3f}, {theirs.std(axis=0).mean():.3f} between clips")
    print(f"  probabilities differ by up to {difference:.2e} (allowed: {FLAGS.tolerance:g})")
    return int(difference > FLAGS.tolerance)


if __name__ == "__main__":
    define_flags()
    app.run(main)
