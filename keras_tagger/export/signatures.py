"""The signatures of an exported model: its inputs and outputs in TensorFlow Serving.

    serving_default  waveform float32 [B, samples]    -> tags float32 [B, n]
    wav              audio_bytes string [B] (WAV files: PCM or float, any sample rate and channels) -> tags
    classify         inputs string [B]: tf.Example with a float feature "waveform" or bytes "audio_bytes" (WAV)
                                                      -> classes string [B, n], scores float32 [B, n], best first
    attention        waveform -> tags, attention float32 [B, layers, heads, 1+T, 1+T], heatmap [B, T], times [B, T]
    contributions    waveform -> tags, contributions float32 [B, n, T], times [B, T]
    embedding        waveform -> embedding float32 [B, D]
    tag_info         tags string [B] (names)          -> threshold float32 [B], heard bool [B],
                                                         false_alarm_rate float32 [B]

All inputs and outputs are dense and batch-major, and only stock TensorFlow ops are used. Waveforms have the model's
sample rate and values in about -1..1; `times` are the centres of the tokens in seconds. Clips may have any length of at
least one sample; a clip longer than the model's window is processed window by window
(`keras_tagger.export.windowed`), as `Tagger` does. The tags and contributions of a silent window are 0. A waveform
without clips or samples, or with a sample that is not finite, is refused (INVALID_ARGUMENT).

`tag_info` returns what `TagInfo` holds for a tag: the score from which it counts as present, whether the training data
contained it, and the threshold's share of false alarms, NaN if unknown. For a name that the model does not have, the
numbers are NaN and `heard` is false.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import tensorflow as tf

from keras_tagger.export.levels import mix_to_mono
from keras_tagger.export.resample import resample
from keras_tagger.export.wav import decode_wav
from keras_tagger.export.windowed import analyze_windows
from keras_tagger.files import to_bytes

if TYPE_CHECKING:
    from keras_tagger.models.music_tagger import MusicTagger
    from keras_tagger.models.trained import TrainedModel

# An attention map grows with the square of the clip's length, and a message holds at most 2 GiB.
MAX_ATTENTION_VALUES = 2**28


def signatures(trained: TrainedModel) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """Return a `tf.function` for each signature name, for `tf.saved_model.save`."""
    model = trained.model
    # Without autograph, as nothing here branches on a tensor: tracing, which takes most of an export, is faster.
    traced = functools.partial(tf.function, autograph=False)
    waveform = tf.TensorSpec([None, None], tf.float32, name="waveform")
    names = tf.constant([to_bytes(tag) for tag in model.tags])
    # The last entries are for names that the model does not have.
    thresholds = tf.constant([*(trained.info[tag].threshold for tag in trained.tags), float("nan")], tf.float32)
    evidence = tf.constant([*(trained.info[tag].has_evidence for tag in trained.tags), False])
    measured = [trained.info[tag].false_alarm_rate for tag in trained.tags]
    false_alarms = tf.constant(
        [*(float("nan") if rate is None else rate for rate in measured), float("nan")], tf.float32
    )

    # Functions of their own, so that the signatures that call them share their graphs.
    @traced(input_signature=[waveform])
    def tags_of(waveform: tf.Tensor) -> tf.Tensor:
        return analyze_windows(model, usable(waveform), ("tags",))["tags"]

    @traced(input_signature=[tf.TensorSpec([], tf.string)])
    def load_wav(data: tf.Tensor) -> tf.Tensor:
        channels, rate = decode_wav(data)
        return resample(mix_to_mono(channels, rate), rate, model.audio_config.sample_rate)

    def tags_of_each(inputs: tf.Tensor, decode: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        # One by one, because clips of a batch may differ in length, and padding would change their tags.
        def one(item: tf.Tensor) -> tf.Tensor:
            return tags_of(decode(item)[tf.newaxis])[0]

        spec = tf.TensorSpec([len(model.tags)], tf.float32)
        return tf.map_fn(one, at_least_one(inputs), fn_output_signature=spec, parallel_iterations=1)

    @traced(input_signature=[waveform])
    def serving_default(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"tags": tags_of(waveform)}

    @traced(input_signature=[tf.TensorSpec([None], tf.string, name="audio_bytes")])
    def wav(audio_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"tags": tags_of_each(audio_bytes, load_wav)}

    @traced(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = tags_of_each(inputs, lambda example: decode_example(example, load_wav))
        order = tf.argsort(scores, direction="DESCENDING", stable=True)
        return {"classes": tf.gather(names, order), "scores": tf.gather(scores, order, batch_dims=1)}

    @traced(input_signature=[waveform])
    def attention(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
        return analyze_windows(model, attention_fits(model, usable(waveform)), ("tags", "attention"))

    @traced(input_signature=[waveform])
    def contributions(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
        return analyze_windows(model, usable(waveform), ("tags", "contributions"))

    @traced(input_signature=[waveform])
    def embedding(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
        return analyze_windows(model, usable(waveform), ("embedding",))

    @traced(input_signature=[tf.TensorSpec([None], tf.string, name="tags")])
    def tag_info(tags: tf.Tensor) -> dict[str, tf.Tensor]:
        same = at_least_one(tags, "tag")[:, tf.newaxis] == names
        rows = tf.where(tf.reduce_any(same, axis=1), tf.argmax(same, axis=1), len(model.tags))
        values = {"threshold": thresholds, "heard": evidence, "false_alarm_rate": false_alarms}
        return {name: tf.gather(value, rows) for name, value in values.items()}

    functions = (serving_default, wav, classify, attention, contributions, embedding, tag_info)
    return {function.python_function.__name__: function for function in functions}


def decode_example(example: tf.Tensor, load_wav: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Return the clip in a serialized tf.Example (string scalar), float32 `[samples]`."""
    features = {
        "waveform": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
        "audio_bytes": tf.io.FixedLenFeature([], tf.string, default_value=""),
    }
    found = tf.io.parse_single_example(example, features)
    waveform, data = found["waveform"], found["audio_bytes"]
    given = tf.debugging.Assert(
        (tf.size(waveform) > 0) | (tf.strings.length(data) > 0),
        ["expected a float feature waveform, or a bytes feature audio_bytes, in every tf.Example. Received: neither."],
    )
    with tf.control_dependencies([given]):
        return tf.cond(tf.size(waveform) > 0, lambda: waveform, lambda: load_wav(data))


def usable(waveform: tf.Tensor) -> tf.Tensor:
    """Return the waveform, float32 `[B, samples]`; refuse it if it is empty or not finite."""
    shape = tf.shape(waveform)
    enough = tf.debugging.Assert(
        tf.reduce_all(shape > 0),
        ["expected at least one clip, of at least one sample. Received a waveform of shape", shape],
    )
    with tf.control_dependencies([enough]):
        finite = tf.debugging.Assert(
            tf.reduce_all(tf.math.is_finite(waveform)),
            ["expected a waveform of finite numbers. Received: NaN or infinity in it."],
        )
    with tf.control_dependencies([finite]):
        return tf.identity(waveform)


def at_least_one(inputs: tf.Tensor, what: str = "clip") -> tf.Tensor:
    """Return the strings `[B]`; refuse them if there are none."""
    enough = tf.debugging.Assert(tf.size(inputs) > 0, [f"expected at least one {what}. Received: none."])
    with tf.control_dependencies([enough]):
        return tf.identity(inputs)


def attention_fits(model: MusicTagger, waveform: tf.Tensor) -> tf.Tensor:
    """Return the waveform, float32 `[B, samples]`; refuse it if its attention would not fit into one reply."""
    maps = model.model_config.encoder.n_layers * model.model_config.encoder.n_heads
    shape = tf.shape(waveform, out_type=tf.int64)
    tokens = -(-shape[1] // model.token_samples)
    # In float64, because the product may overflow an integer.
    values = maps * tf.cast(shape[0], tf.float64) * tf.square(tf.cast(1 + tokens, tf.float64))
    longest = int((MAX_ATTENTION_VALUES / maps) ** 0.5 - 1) * model.hop_seconds
    fits = tf.debugging.Assert(
        values <= MAX_ATTENTION_VALUES,
        [
            f"expected clips of at most {longest:.0f} s, or fewer of them, for the signature attention. "
            "Received a waveform of shape",
            shape,
        ],
    )
    with tf.control_dependencies([fits]):
        return tf.identity(waveform)
