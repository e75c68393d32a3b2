"""Label music with a published tagger: musicnn 0.1.0, rebuilt in Keras with its own weights.

    python tools/pretrain/teacher.py --manifest data/clips/manifest.jsonl --out data/labels --vocabulary MTT \
        --vocabulary MSD

writes one .npz of dense labels per clip (see `keras_tagger.data.dense`: `values` float16 [n_patches, n_tags] in 0..1
with one row per 3 s patch, `tags`, `hop_seconds`, `length_seconds`, `pool`), OUT/manifest.jsonl with the clips and
their labels for `fit`, and OUT/index.json (the settings, and in `failed` the clips that could not be read and why).
With both vocabularies, tags of the second are called msd/TAG. A clip whose .npz exists is not labelled again.

--hidden MTT adds the 200 values before the last layer of those weights as hidden/000 to hidden/199, because they tell a
student more than 50 tags ("FitNets: hints for thin deep nets", Romero et al. 2015, arXiv 1412.6550). They are logits of
soft labels, as those of tags are, so `fit` treats them as tags, and `ship.py` leaves them out.

Imports TensorFlow. Not part of the package.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import librosa
import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from tqdm import tqdm

from keras_tagger import audio
from keras_tagger.data.manifest import SPLITS, Clip, Manifest, read_manifest
from keras_tagger.errors import AudioError, KerasTaggerError, ModelError, ModelNotFoundError
from keras_tagger.files import replacing, write_json, write_json_lines

SAMPLE_RATE = 16000
N_FFT, HOP_LENGTH, N_MELS = 512, 256, 96
PATCH_FRAMES = 187
PATCH_SECONDS = PATCH_FRAMES * HOP_LENGTH / SAMPLE_RATE
# 96 frames, which are twelve tokens of the compact front-end; patches overlap by half.
HOP_SECONDS = 96 * HOP_LENGTH / SAMPLE_RATE

WHEEL = "musicnn-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
WHEEL_VARIABLE = "KERAS_TAGGER_MUSICNN_WHEEL"

# The 50 tags of each set of weights, in the order of its outputs: MagnaTagATune and the Million Song Dataset.
_TAGS = {
    "MTT": (
        "guitar, classical, slow, techno, strings, drums, electronic, rock, fast, piano, ambient, beat, violin, vocal, "
        "synth, female, indian, opera, male, singing, vocals, no vocals, harpsichord, loud, quiet, flute, woman, "
        "male vocal, no vocal, pop, soft, sitar, solo, man, classic, choir, voice, new age, dance, male voice, "
        "female vocal, beats, harp, cello, no voice, weird, country, metal, female voice, choral"
    ),
    "MSD": (
        "rock, pop, alternative, indie, electronic, female vocalists, dance, 00s, alternative rock, jazz, beautiful, "
        "metal, chillout, male vocalists, classic rock, soul, indie rock, Mellow, electronica, 80s, folk, 90s, chill, "
        "instrumental, punk, oldies, blues, hard rock, ambient, acoustic, experimental, female vocalist, guitar, "
        "Hip-Hop, 70s, party, country, easy listening, sexy, catchy, funk, electro, heavy metal, Progressive rock, "
        "60s, rnb, indie pop, sad, House, happy"
    ),
}
TAGS = {vocabulary: tuple(names.split(", ")) for vocabulary, names in _TAGS.items()}
HIDDEN_PREFIX = "hidden/"
INDEX = "index.json"
MANIFEST = "manifest.jsonl"

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("manifest", None, "CSV or JSON lines of the clips to label.", required=True)
    flags.DEFINE_string("out", None, "Folder of the labels.", required=True)
    flags.DEFINE_multi_enum("vocabulary", ["MTT"], sorted(TAGS), "The set of musicnn's weights; may be given twice.")
    flags.DEFINE_multi_enum(
        "hidden", [], sorted(TAGS), "Sets of weights whose values before the last layer are also labels."
    )
    flags.DEFINE_float(
        "hop_seconds", HOP_SECONDS, "Time from one patch of 3 s to the next.", lower_bound=HOP_LENGTH / SAMPLE_RATE
    )
    flags.DEFINE_enum("split", None, SPLITS, "Label only the clips of one split.")
    flags.DEFINE_string("work_dir", "data/teacher", f"Folder of musicnn's wheel (or set {WHEEL_VARIABLE}).")


def main(argv: Sequence[str]) -> None:
    """Label the clips and print their number."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        manifest = read_manifest(FLAGS.manifest)
        manifest = manifest.select(FLAGS.split) if FLAGS.split else manifest
        teachers = [
            load_teacher(FLAGS.work_dir, vocabulary, vocabulary in FLAGS.hidden) for vocabulary in FLAGS.vocabulary
        ]
        index = label_manifest(teachers, manifest, Path(FLAGS.out), FLAGS.hop_seconds)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{len(manifest) - len(index['failed'])} clips labelled, {len(index['failed'])} failed: {Path(FLAGS.out)}")


class Labeller(Protocol):
    """The interface that `label_manifest` needs: `Teacher` or `pseudo.PseudoTeacher`."""

    name: str
    vocabulary: str
    tags: tuple[str, ...]

    def patches(self, waveform: np.ndarray, hop_seconds: float = ...) -> tuple[np.ndarray, np.ndarray]:
        """Return logits, float32 [n_patches, n_tags], and the centres of patches in seconds, as `Teacher.patches`."""


class Teacher:
    """musicnn with one of its published sets of weights.

    Attributes:
        name: what it is, for the index.
        vocabulary: "MTT" or "MSD".
        tags: the 50 tags, in the order of the logits; then, with `hidden`, the names of the 200 values before the last
            layer, which are given as logits too.
        model: `build_model` with the weights.
    """

    def __init__(self, vocabulary: str, model: keras.Model, hidden: bool = False) -> None:
        self.name = f"musicnn 0.1.0, {vocabulary}"
        self.vocabulary = vocabulary
        self.tags = TAGS[vocabulary]
        self.model = model
        self._layers = {layer.name: layer for layer in model.layers}
        logits = model.output
        if hidden:
            values = self._layers["dense_1"].input
            self.tags += tuple(f"{HIDDEN_PREFIX}{i:03d}" for i in range(values.shape[-1]))
            logits = keras.ops.concatenate([logits, values], axis=-1)
        self._after_front_end = keras.Model(self._layers["front_end"].output, logits)
        frames = tf.TensorSpec([None, N_MELS], tf.float32)
        starts = tf.TensorSpec([None], tf.int32)
        self._logits = tf.function(self._patch_logits, input_signature=[frames, starts])

    def _patch_logits(self, frames: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
        """Compute logits [n_patches, n_tags] of overlapping patches, as `model` does on each.

        The tall filters, which are most of the work, run once over all frames, and again at the padding of patches.
        """
        normed = self._layers["batch_normalization"](frames[tf.newaxis, :, :, tf.newaxis], training=False)[0]
        patches = tf.gather(normed, starts[:, tf.newaxis] + tf.range(PATCH_FRAMES))
        columns = []
        for conv, norm in (("conv2d", "batch_normalization_1"), ("conv2d_1", "batch_normalization_2")):
            reach = self._layers[conv].kernel_size[0] // 2
            edge = [[0, 0], [reach, 0], [0, 0], [0, 0]]
            inner = tf.gather(
                self._filtered(normed[tf.newaxis], conv, norm)[0],
                starts[:, tf.newaxis] + tf.range(PATCH_FRAMES - 2 * reach),
            )
            first = self._filtered(tf.pad(patches[:, : 2 * reach], edge), conv, norm)
            last = self._filtered(tf.pad(patches[:, -2 * reach :], [edge[0], edge[1][::-1], *edge[2:]]), conv, norm)
            columns.append(tf.concat([first, inner, last], axis=1))
        for index in (2, 3, 4):
            columns.append(self._filtered(patches, f"conv2d_{index}", f"batch_normalization_{index + 1}"))
        return self._after_front_end(tf.concat(columns, axis=-1), training=False)

    def _filtered(self, x: tf.Tensor, conv: str, norm: str) -> tf.Tensor:
        """Compute a branch of the front-end and its maximum over frequency: [B, time, channels]."""
        return tf.reduce_max(self._layers[norm](self._layers[conv](x), training=False), axis=2)

    def patches(
        self, waveform: np.ndarray, hop_seconds: float = HOP_SECONDS, batch_size: int = 32
    ) -> tuple[np.ndarray, np.ndarray]:
        """Label a clip in patches of 187 frames (2.992 s).

        Patch i begins at the frame nearest to `i * hop_seconds`; patches that would reach beyond the end are left
        out, as in musicnn (whose patches follow each other: `hop_seconds=PATCH_SECONDS`). A clip shorter than a patch
        is repeated until it fills one, as in musicnn's training.

        Args:
            waveform: float32 [samples], 16 kHz, at least one sample.
            hop_seconds: from one patch to the next, at least a frame of 0.016 s.
            batch_size: patches in memory at a time.

        Returns:
            Logits float32 [n_patches, n_tags] (musicnn's taggram is their sigmoid), and the centres of the patches,
            seconds from the clip's start, float32 [n_patches].

        Raises:
            ValueError: `hop_seconds` is shorter than a frame.
        """
        frames = log_mel(waveform)
        n_frames = len(frames)
        starts = patch_starts(n_frames, hop_seconds)
        if n_frames < PATCH_FRAMES:
            frames = np.resize(frames, (PATCH_FRAMES, N_MELS))
        logits = []
        for batch in np.split(starts, range(batch_size, len(starts), batch_size)):
            stretch = frames[batch[0] : batch[-1] + PATCH_FRAMES]
            logits.append(self._logits(stretch, (batch - batch[0]).astype(np.int32)).numpy())
        # Frame j is centred on sample j * HOP_LENGTH.
        centres = starts + (min(n_frames, PATCH_FRAMES) - 1) / 2
        return np.concatenate(logits), (centres * HOP_LENGTH / SAMPLE_RATE).astype(np.float32)


def patch_starts(n_frames: int, hop_seconds: float) -> np.ndarray:
    """Return the first frames of a clip's patches, int64 [n_patches], at least one, without accumulated rounding."""
    hop_frames = hop_seconds * SAMPLE_RATE / HOP_LENGTH
    if not (math.isfinite(hop_frames) and hop_frames >= 1):
        raise ValueError(f"Expected hop_seconds of at least {HOP_LENGTH / SAMPLE_RATE}. Received: {hop_seconds!r}.")
    last = max(0, n_frames - PATCH_FRAMES)
    starts = np.floor(np.arange(int(last / hop_frames) + 2) * hop_frames + 0.5).astype(np.int64)
    return starts[starts <= last]


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """Compute musicnn's input: log10(10000 x + 1) of a power mel spectrogram x.

    librosa's: Hann window, frames centred, 96 Slaney bands of unit area over 0-8000 Hz. musicnn was published with
    librosa 0.7, which reflects the signal at its ends; librosa 0.10 and later pad with zeros unless told.

    Args:
        waveform: float32 [samples], 16 kHz, at least one sample.

    Returns:
        float32 [1 + samples // 256, 96]; frame j is centred on sample 256 j.
    """
    mel = librosa.feature.melspectrogram(
        y=waveform,
        sr=SAMPLE_RATE,
        n_fft=N_FFT,
        hop_length=HOP_LENGTH,
        n_mels=N_MELS,
        power=2.0,
        center=True,
        pad_mode="reflect",
        htk=False,
        norm="slaney",
    )
    # musicnn rounds to half precision. NumPy 1 then computed the logarithm in single precision; with NumPy 2 the
    # original expression would overflow half precision in loud music.
    rounded = mel.T.astype(np.float16).astype(np.float32)
    return np.log10(10000.0 * rounded + 1.0)


def build_model() -> keras.Model:
    """Build musicnn without weights: float32 [B, 187, 96] (`log_mel`) -> logits [B, 50].

    Front-end: vertical (timbral) filters of 7 frames by 0.4 and 0.7 of the bands and horizontal (temporal) ones of
    128, 64 and 32 frames, each followed by a maximum over frequency; mid-end: three convolutions of 7 frames, the
    last two residual; back-end: maximum and mean over time of all of them, and two dense layers. Batch normalisation
    stands after ReLU. Layers have the names of the checkpoint's scopes.
    """
    n_convs, n_norms = 0, 0

    def norm(x: Any) -> Any:
        nonlocal n_norms
        n_norms += 1
        return keras.layers.BatchNormalization(epsilon=1e-3, name=_scope("batch_normalization", n_norms))(x)

    def conv_name() -> str:
        nonlocal n_convs
        n_convs += 1
        return _scope("conv2d", n_convs)

    def filters(x: Any, n_filters: int, size: tuple[int, int], padding: str) -> Any:
        x = keras.layers.Conv2D(n_filters, size, padding=padding, activation="relu", name=conv_name())(x)
        return keras.ops.max(norm(x), axis=2)

    def mix(x: Any) -> Any:
        return norm(keras.layers.Conv1D(64, 7, padding="same", activation="relu", name=conv_name())(x))

    patch = keras.Input((PATCH_FRAMES, N_MELS))
    x = norm(keras.ops.expand_dims(patch, -1))
    padded = keras.layers.ZeroPadding2D((3, 0))(x)
    front = [filters(padded, 204, (7, bands), "valid") for bands in (38, 67)]
    front += [filters(x, 51, (frames, 1), "same") for frames in (128, 64, 32)]
    features = [keras.layers.Concatenate(name="front_end")(front)]
    features.append(mix(features[0]))
    features.append(features[1] + mix(features[1]))
    features.append(features[2] + mix(features[2]))
    over_time = keras.ops.concatenate(features, axis=-1)
    # Flattened by channel: maximum and mean of the first, then of the second, ...
    pooled = keras.ops.stack([keras.ops.max(over_time, axis=1), keras.ops.mean(over_time, axis=1)], axis=-1)
    x = norm(keras.layers.Flatten()(pooled))
    x = norm(keras.layers.Dense(200, activation="relu", name="dense")(x))
    return keras.Model(patch, keras.layers.Dense(50, name="dense_1")(x), name="musicnn")


def _scope(kind: str, count: int) -> str:
    """Return TensorFlow 1's name of the count-th layer of a kind: conv2d, conv2d_1, ..."""
    return kind if count == 1 else f"{kind}_{count - 1}"


def load_teacher(work_dir: str | os.PathLike[str], vocabulary: str = "MTT", hidden: bool = False) -> Teacher:
    """Rebuild musicnn with the weights of its wheel, which is downloaded to `work_dir` if necessary.

    `vocabulary` is "MTT" (MagnaTagATune) or "MSD" (Million Song Dataset); `hidden` as in `Teacher`.

    Raises:
        ModelNotFoundError: there is no such wheel, and pip cannot download it.
        ModelError: `vocabulary` is neither, or the wheel is not the published one.
    """
    if vocabulary not in TAGS:
        raise ModelError(f"expected one of the vocabularies {', '.join(TAGS)}. Received: {vocabulary!r}")
    model = build_model()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(find_wheel(work_dir)) as wheel:
        prefix = f"musicnn/{vocabulary}_musicnn/"
        for name in (".index", ".data-00000-of-00001"):
            wheel.extract(prefix + name, folder)
        reader = tf.compat.v1.train.NewCheckpointReader(os.path.join(folder, prefix))
        for layer in model.layers:
            for weight in layer.weights:
                # Only axes of length one differ, because the mid-end's convolutions are 2D in the checkpoint.
                weight.assign(reader.get_tensor(f"{layer.name}/{weight.name}").reshape(weight.shape))
    return Teacher(vocabulary, model, hidden)


def find_wheel(work_dir: str | os.PathLike[str]) -> Path:
    """Find musicnn's wheel: KERAS_TAGGER_MUSICNN_WHEEL, or a file in `work_dir`, downloaded by pip if necessary.

    Raises:
        ModelNotFoundError: it is not there, and pip cannot download it.
        ModelError: the file is not the published one.
    """
    named = os.environ.get(WHEEL_VARIABLE)
    path = Path(named) if named else Path(work_dir) / WHEEL
    if not path.is_file():
        if named:
            raise ModelNotFoundError(f"expected {WHEEL} at the path in {WHEEL_VARIABLE}. Received: '{path}'")
        _download(path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise ModelError(f"{path}: expected the SHA-256 of {WHEEL}, {WHEEL_SHA256[:12]}... Received: {found[:12]}...")
    return path


def _download(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.info("Downloading %s.", WHEEL)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
        command = [*pip, "musicnn==0.1.0", "--no-deps", "--only-binary=:all:", "--dest", folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not (Path(folder) / WHEEL).is_file():
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ModelNotFoundError(f"expected {WHEEL} in '{path.parent}' or from pip download. Received: {reason}")
        os.replace(Path(folder) / WHEEL, path)


def label_manifest(
    teachers: Sequence[Labeller], manifest: Manifest, out: Path, hop_seconds: float = HOP_SECONDS
) -> dict[str, Any]:
    """Label every clip without labels in `out`; write the manifest and the index, and return the index.

    Clips that cannot be read are logged, listed under "failed" and tried again the next time.

    Raises:
        ModelError: `out` holds labels of another vocabulary or hop.
    """
    settings: dict[str, Any] = {
        "teacher": [teacher.name for teacher in teachers],
        "patch_seconds": PATCH_SECONDS,
        "hop_seconds": hop_seconds,
        "tags": list(joined_tags(teachers)),
    }
    known = json.loads((out / INDEX).read_text("utf-8")) if (out / INDEX).exists() else settings
    for name, value in settings.items():
        if known.get(name) != value:
            raise ModelError(f"{out / INDEX}: expected labels with {name}={known.get(name)!r}. Received: {value!r}")
    index = {**settings, "failed": []}
    if not (out / INDEX).exists():
        _write_index(out, index)
    rows = []
    for clip in tqdm(manifest.clips, desc="label", unit="clip"):
        clip_id = relative_id(clip, manifest.root)
        file = f"{hashlib.sha256(clip_id.encode()).hexdigest()[:16]}.npz"
        try:
            _label(teachers, clip, out / file, hop_seconds)
        except (AudioError, OSError) as error:
            logging.warning("%s: left out: %s", clip_id, error)
            index["failed"].append({"id": clip_id, "reason": str(error)})
            continue
        rows.append(_row(clip, file, out))
    write_json_lines(out / MANIFEST, rows)
    _write_index(out, index)
    return index


def joined_tags(teachers: Sequence[Labeller]) -> tuple[str, ...]:
    """Return the tags of all teachers; those of the second and later ones have a prefix such as msd/."""
    first, *others = teachers
    return (*first.tags, *(f"{other.vocabulary.lower()}/{tag}" for other in others for tag in other.tags))


def relative_id(clip: Clip, root: str) -> str:
    """Return the clip's id with a path relative to the manifest's folder, so that both can be moved."""
    path, mark, stretch = clip.clip_id.partition("#t=")
    return (path if "://" in path else Path(os.path.relpath(path, root)).as_posix()) + mark + stretch


def _label(teachers: Sequence[Labeller], clip: Clip, path: Path, hop_seconds: float) -> None:
    """Write the labels of one clip unless they exist."""
    if path.exists():
        return
    waveform = audio.load(clip.path, SAMPLE_RATE, clip.start_seconds, clip.end_seconds)
    logits = np.concatenate([teacher.patches(waveform, hop_seconds)[0] for teacher in teachers], axis=1)
    if not np.isfinite(logits).all():
        raise AudioError(f"{clip.path}: expected audio roughly in -1..1. Received: {np.abs(waveform).max():g}")
    values = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    with replacing(path) as temporary:
        np.savez(
            temporary,
            values=values.astype(np.float16),
            tags=np.array(joined_tags(teachers)),
            hop_seconds=hop_seconds,
            length_seconds=min(PATCH_SECONDS, len(waveform) / SAMPLE_RATE),
            pool="mean",
        )


def _row(clip: Clip, labels: str, out: Path) -> dict[str, Any]:
    """Return a clip's row of the manifest in `out`."""
    path = clip.path if "://" in clip.path else Path(os.path.relpath(clip.path, out)).as_posix()
    row = {"path": path, "tags": {}, "labels": labels, "split": clip.split, "group": clip.group}
    if clip.start_seconds or clip.end_seconds is not None:
        row |= {"start": clip.start_seconds, "end": clip.end_seconds}
    return row


def _write_index(out: Path, index: dict[str, Any]) -> None:
    write_json(out / INDEX, index, indent=1)


if __name__ == "__main__":
    define_flags()
    app.run(main)
