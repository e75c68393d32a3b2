"""Warm-up requests: a server answers them when it loads a model, before it takes other requests."""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from keras_tagger.export import layout
from keras_tagger.files import to_bytes

if TYPE_CHECKING:
    from keras_tagger.models.music_tagger import MusicTagger


def write_warmup(model: MusicTagger, version: Path) -> None:
    """Write the warm-up requests of a version: silence, in the sizes that clients usually send."""
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    path = version / layout.WARMUP_REQUESTS
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(os.fsencode(path)) as writer:
        for signature, name, tensor in _requests(model):
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name="keras_tagger", signature_name=signature), inputs={name: tensor}
            )
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def _requests(model: MusicTagger) -> Iterator[tuple[str, str, Any]]:
    """Yield signature, input and tensor: one window, several windows, and WAV at the two usual sample rates."""
    window, rate = model.window_samples, model.audio_config.sample_rate
    several = max(round(layout.WARMUP_SECONDS * rate), 2 * window)
    for signature in ("serving_default", "attention", "contributions", "embedding"):
        for n_samples in (window, several):
            # A TensorProto with one value is filled with it, so that long requests take no space.
            shape = tf.TensorShape([1, n_samples]).as_proto()
            tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape=shape, float_val=[0.0])
            yield signature, "waveform", tensor
    seconds = window / rate
    waves = [_silent_wav(seconds, rate, channels=1), _silent_wav(seconds, 44_100, channels=2)]
    for data in waves:
        yield "wav", "audio_bytes", _string(data)
    silence = tf.train.Feature(float_list=tf.train.FloatList(value=np.zeros(window, np.float32)))
    as_bytes = tf.train.Feature(bytes_list=tf.train.BytesList(value=[waves[1]]))
    for feature in ({"waveform": silence}, {"audio_bytes": as_bytes}):
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        yield "classify", "inputs", _string(example.SerializeToString())
    for tag in (model.tags[0], model.tags[-1]):
        yield "tag_info", "tags", _string(to_bytes(tag))


def _string(value: bytes) -> Any:
    # An array of objects, because numpy's byte strings drop trailing zeros, and WAV files of silence end with many.
    return tf.make_tensor_proto(np.array([value], object))


def _silent_wav(seconds: float, rate: int, channels: int) -> bytes:
    """Return a RIFF WAV file of 16-bit PCM."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(bytes(2 * channels * round(seconds * rate)))
    return file.getvalue()
