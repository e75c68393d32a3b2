"""Export: one SavedModel whose signatures are everything the tagger can say, for TensorFlow Serving.

The signatures are those of `keras_tagger.export.signatures`; the SavedModel loads where keras, kapre and tensorflow-io are not
installed. `assets/tags.txt`, `assets/tags.json` (each tag's threshold and evidence) and `assets/config.yaml` travel
inside, and so do warm-up requests (`assets.extra/tf_serving_warmup_requests`). `keras_tagger.export.check` says whether
a SavedModel is one that TensorFlow Serving serves.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from absl import logging
from tensorflow.core.framework import tensor_pb2, types_pb2

from keras_tagger.errors import ModelError
from keras_tagger.export.signatures import signatures
from keras_tagger.tags import info_to_json

if TYPE_CHECKING:
    from keras_tagger.models.music_tagger import MusicTagger
    from keras_tagger.models.trained import TrainedModel

WARMUP_FILE = "tf_serving_warmup_requests"
# The longest clip of the warm-up, which is also the longest that `Client` asks maps of by default.
WARMUP_SECONDS = 30.0


def export(tagger: TrainedModel, directory: str | os.PathLike[str]) -> Path:
    """Write the next free version below a directory.

    The version is written to a hidden sibling and renamed when it is whole, because a server loads a numbered folder
    as soon as it sees it.

    Returns:
        The version's path, e.g. `exported/1`.

    Raises:
        ModelError: the directory cannot be written.
    """
    base = Path(directory)
    try:
        base.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".export-", dir=base))
    except OSError as error:
        raise ModelError(f"expected a directory to export to. Received: {base} ({error.strerror}).") from None
    try:
        _write(tagger, temporary)
        temporary.chmod(0o755)
        while True:
            version = base / str(_next_version(base))
            try:
                # Renaming onto a folder that holds files fails, so two exports at once get two versions.
                os.rename(temporary, version)
                return version
            except OSError:
                if not version.exists():
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _next_version(base: Path) -> int:
    taken = [int(entry.name) for entry in base.iterdir() if entry.name.isascii() and entry.name.isdigit()]
    return max(taken, default=0) + 1


def _write(tagger: TrainedModel, path: Path) -> None:
    module = tf.Module()
    # A SavedModel keeps what hangs on its root; Keras' variables wrap TensorFlow's.
    module.weights = [weight.value for weight in tagger.model.weights]
    with _quiet():
        tf.saved_model.save(module, str(path), signatures=signatures(tagger.model))
    assets = path / "assets"
    assets.mkdir(exist_ok=True)
    (assets / "tags.txt").write_text("".join(f"{tag}\n" for tag in tagger.tags), encoding="utf-8")
    (assets / "tags.json").write_text(info_to_json(tagger.tags, tagger.info), encoding="utf-8")
    (assets / "config.yaml").write_text(tagger.config.to_yaml(), encoding="utf-8")
    _write_warmup(tagger.model, path)


def _write_warmup(model: MusicTagger, path: Path) -> None:
    """Requests of silence at the sizes that are used; a server answers them before it takes others."""
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    folder = path / "assets.extra"
    folder.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / WARMUP_FILE)) as writer:
        for signature, name, tensor in _warmup_inputs(model):
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name="keras_tagger", signature_name=signature), inputs={name: tensor}
            )
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def _warmup_inputs(model: MusicTagger) -> Iterator[tuple[str, str, Any]]:
    """Signature, input and its tensor: one window, several windows, and WAV at the two usual rates."""
    window, rate = model.window_samples, model.audio_config.sample_rate
    several = max(round(WARMUP_SECONDS * rate), 2 * window)
    for signature in ("serving_default", "attention", "contributions", "embedding"):
        for n_samples in (window, several):
            # One value stands for all, so that long requests take no space.
            shape = tf.TensorShape([1, n_samples]).as_proto()
            yield (
                signature,
                "waveform",
                tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape=shape, float_val=[0.0]),
            )
    seconds = window / rate
    waves = [_silent_wav(seconds, rate, channels=1), _silent_wav(seconds, 44_100, channels=2)]
    for data in waves:
        yield "wav", "audio_bytes", _strings(data)
    silence = tf.train.Feature(float_list=tf.train.FloatList(value=np.zeros(window, np.float32)))
    as_bytes = tf.train.Feature(bytes_list=tf.train.BytesList(value=[waves[1]]))
    for feature in ({"waveform": silence}, {"audio_bytes": as_bytes}):
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        yield "classify", "inputs", _strings(example.SerializeToString())


def _strings(value: bytes) -> Any:
    # An array of objects: numpy's own byte strings drop the zeros at their end, and these end with many.
    return tf.make_tensor_proto(np.array([value], object))


def _silent_wav(seconds: float, rate: int, channels: int) -> bytes:
    """RIFF WAV, 16-bit PCM."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(bytes(2 * channels * round(seconds * rate)))
    return file.getvalue()


@contextlib.contextmanager
def _quiet() -> Any:
    """Without TensorFlow's notes on every asset written."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)
