"""Export: one SavedModel whose signatures are everything the tagger can say, for TensorFlow Serving.

All inputs and outputs are dense and batch-major, and only stock TensorFlow ops are reached, so the SavedModel loads
where keras, kapre and tensorflow-io are not installed. Clips of any length; those longer than the model's window are
seen window by window (`keras_tagger.models.windowed`), as `Tagger` does.

    serving_default  waveform float32 [B, samples]    -> tags float32 [B, n]
    classify         inputs string [B] (tf.Example with a float feature "waveform")
                                                      -> classes string [B, n], scores float32 [B, n], best first
    attention        waveform -> tags, attention float32 [B, layers, heads, 1+T, 1+T], heatmap [B, T], times [B, T]
    contributions    waveform -> tags, contributions float32 [B, n, T], times [B, T]
    embedding        waveform -> embedding float32 [B, D]

`times` are the tokens' centres in seconds. `assets/tags.txt`, `assets/tags.json` (each tag's threshold and evidence)
and `assets/config.yaml` travel inside, and so do warm-up requests (`assets.extra/tf_serving_warmup_requests`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from absl import logging

from keras_tagger.errors import ModelError
from keras_tagger.models.windowed import analyze_windows
from keras_tagger.tags import info_to_json

if TYPE_CHECKING:
    from keras_tagger.models.music_tagger import MusicTagger
    from keras_tagger.tagger import Tagger

WARMUP_FILE = "tf_serving_warmup_requests"


def export(tagger: Tagger, directory: str | os.PathLike[str]) -> Path:
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


def _write(tagger: Tagger, path: Path) -> None:
    module = tf.Module()
    # A SavedModel keeps what hangs on its root; Keras' variables wrap TensorFlow's.
    module.weights = [weight.value for weight in tagger.model.weights]
    with _quiet():
        tf.saved_model.save(module, str(path), signatures=_signatures(tagger.model))
    assets = path / "assets"
    assets.mkdir(exist_ok=True)
    (assets / "tags.txt").write_text("".join(f"{tag}\n" for tag in tagger.tags), encoding="utf-8")
    (assets / "tags.json").write_text(info_to_json(tagger.tags, tagger.info), encoding="utf-8")
    (assets / "config.yaml").write_text(tagger.config.to_yaml(), encoding="utf-8")
    _write_warmup(tagger.model, path)


def _signatures(model: MusicTagger) -> dict[str, Any]:
    names = tf.constant(model.tags)
    waveform = tf.TensorSpec([None, None], tf.float32, name="waveform")
    inputs = tf.TensorSpec([None], tf.string, name="inputs")

    def times(tokens: tf.Tensor) -> tf.Tensor:
        # tokens: [..., B, T]-like output whose first axis is the batch and last the tokens.
        shape = tf.shape(tokens)
        centres = (tf.range(shape[-1], dtype=tf.float32) + 0.5) * model.hop_seconds
        return tf.broadcast_to(centres, [shape[0], shape[-1]])

    @tf.function(input_signature=[waveform])
    def serving_default(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
        return analyze_windows(model, waveform, ("tags",))

    @tf.function(input_signature=[inputs])
    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        feature = {"waveform": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True)}

        # One by one: clips of a batch may differ in length, and padding would change their tags.
        def one(serialized: tf.Tensor) -> tf.Tensor:
            clip = tf.io.parse_single_example(serialized, feature)["waveform"]
            given = tf.debugging.assert_positive(tf.size(clip), "expected a float feature waveform in every tf.Example")
            with tf.control_dependencies([given]):
                clip = tf.identity(clip)
            return analyze_windows(model, clip[tf.newaxis], ("tags",))["tags"][0]

        spec = tf.TensorSpec([len(model.tags)], tf.float32)
        scores = tf.map_fn(one, inputs, fn_output_signature=spec, parallel_iterations=1)
        order = tf.argsort(scores, direction="DESCENDING", stable=True)
        return {"classes": tf.gather(names, order), "scores": tf.gather(scores, order, batch_dims=1)}

    @tf.function(input_signature=[waveform])
    def attention(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
        found = analyze_windows(model, waveform, ("tags", "attention"))
        return {**found, "times": times(found["heatmap"])}

    @tf.function(input_signature=[waveform])
    def contributions(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
        found = analyze_windows(model, waveform, ("tags", "contributions"))
        return {**found, "times": times(found["contributions"])}

    @tf.function(input_signature=[waveform])
    def embedding(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
        return analyze_windows(model, waveform, ("embedding",))

    functions = (serving_default, classify, attention, contributions, embedding)
    return {function.python_function.__name__: function for function in functions}


def _write_warmup(model: MusicTagger, path: Path) -> None:
    """A request per signature with one window of silence; a server answers them before it takes others."""
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    silence = np.zeros([1, model.window_samples], np.float32)
    example = tf.train.Example(
        features=tf.train.Features(
            feature={"waveform": tf.train.Feature(float_list=tf.train.FloatList(value=silence[0]))}
        )
    )
    # Of objects: numpy's own byte strings drop the zeros at their end, and this one ends with many.
    serialized = np.array([example.SerializeToString()], object)
    folder = path / "assets.extra"
    folder.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / WARMUP_FILE)) as writer:
        for signature in ("serving_default", "classify", "attention", "contributions", "embedding"):
            name, value = ("inputs", serialized) if signature == "classify" else ("waveform", silence)
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name="keras_tagger", signature_name=signature),
                inputs={name: tf.make_tensor_proto(value)},
            )
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Any:
    """Without TensorFlow's notes on every asset written."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)
