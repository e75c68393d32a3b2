"""Write explained clips for the `keras_tagger` tab. Importing this imports TensorFlow."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto import summary_pb2

from keras_tagger.audio import AudioSource
from keras_tagger.errors import ModelError
from keras_tagger.files import printable
from keras_tagger.tags import judged
from keras_tagger.views.board.records import PLUGIN_NAME, audio_tag, clip_tag, maps_tag, pack
from keras_tagger.views.player import attention_map, clip_document, encode_audio, rows_map
from keras_tagger.views.preview import Examined, examine

if TYPE_CHECKING:
    from keras_tagger.models.trained import TrainedModel

_ABOUT_CONTRIBUTIONS = "The probability of each tag if the last layer attended to this moment only."

# The clips whose audio a writer has written.
_written: weakref.WeakKeyDictionary[tf.summary.SummaryWriter, set[str]] = weakref.WeakKeyDictionary()


def log_explanation(
    writer: tf.summary.SummaryWriter,
    tagger: TrainedModel,
    clip: AudioSource,
    step: int,
    name: str | None = None,
    truth: Sequence[str] = (),
) -> None:
    """Write a clip, its attention, contributions and scores for the `keras_tagger` tab of TensorBoard.

    The audio, its waveform and its spectrogram are written once per writer, the maps at every step.

    Args:
        writer: A writer of `tf.summary.create_file_writer`.
        tagger: The model, such as a `Tagger`.
        clip: A path, encoded bytes or `(array, sample_rate)`.
        step: The step of training, 0 or more.
        name: The name shown; by default the file's. Audio without a path needs one.
        truth: The clip's true tags, which the tab names.

    Raises:
        ModelError: If a clip without a path has no name, or the step is negative.
        AudioError: If the audio cannot be decoded.

    Example:
        >>> writer = tf.summary.create_file_writer("logs")
        >>> log_explanation(writer, tagger, "song.mp3", step=1)
    """
    if name is None:
        if not isinstance(clip, str | os.PathLike):
            raise ModelError("name: expected a name for a clip that is not a file. Received: None.")
        name = PurePath(clip).name
    write_explanation(writer, tagger, examine(tagger, clip, name, truth), step)


def write_explanation(writer: tf.summary.SummaryWriter, tagger: TrainedModel, examined: Examined, step: int) -> None:
    """Write a clip that was examined already; see `log_explanation`."""
    if step < 0:
        raise ModelError(f"step: expected 0 or more. Received: {step}.")
    name = printable(examined.name)
    with writer.as_default(step):
        written = _written.setdefault(writer, set())
        if name not in written:
            audio, kind = encode_audio(examined.waveform, examined.sample_rate)
            _write(audio_tag(name), [kind.encode(), audio])
            _write(clip_tag(name), [pack(_clip_document(tagger, examined, kind))])
            written.add(name)
        rows = _tag_rows(tagger, examined)
        scores = {"scores": {row["name"]: round(row["score"], 5) for row in rows}}
        maps = {"tags": rows, "maps": _maps(examined)}
        _write(maps_tag(name, step), [pack(scores), pack(maps)])


def _clip_document(tagger: TrainedModel, examined: Examined, audio_type: str) -> dict[str, Any]:
    times, hop = examined.contributions.times, tagger.model.hop_seconds
    frames = examined.frame_times
    document = clip_document(
        printable(examined.name),
        examined.waveform,
        examined.sample_rate,
        token_seconds=hop,
        first_seconds=float(times[0] - hop / 2),
        spectrogram=(examined.spectrogram, examined.mel_frequencies, _spacing(frames)),
        model={"name": tagger.config.name, "settings": {"preset": tagger.config.preset}},
        audio_url=None,
    )
    return {**document, "audio": {"type": audio_type}}


def _tag_rows(tagger: TrainedModel, examined: Examined) -> list[dict[str, Any]]:
    scores = np.asarray(examined.contributions.scores)
    present, heard, _ = judged(tagger.tags, scores, tagger.info)
    return [
        {
            "name": printable(tag),
            "score": float(scores[index]),
            "threshold": tagger.info[tag].threshold,
            "heard": bool(heard[index]),
            "present": bool(present[index]),
            "truth": tag in examined.truth,
        }
        for index, tag in enumerate(tagger.tags)
    ]


def _maps(examined: Examined) -> list[dict[str, Any]]:
    windows = examined.attention.windows
    n_layers, _, n_keys, _ = windows[0].weights.shape
    cls = np.concatenate([window.weights[:, :, 0, 1:][..., -window.n_new :] for window in windows], axis=-1)
    found = examined.contributions
    rows = [printable(tag) for tag in found.tags]
    return [
        attention_map(cls.reshape(-1, cls.shape[-1]), n_layers, n_keys),
        rows_map("contributions", rows, found.values, _ABOUT_CONTRIBUTIONS, high=1.0),
    ]


def _spacing(times: Any) -> float:
    return float(times[1] - times[0]) if len(times) > 1 else 1.0


def _write(tag: str, values: list[bytes]) -> None:
    # TensorBoard's data server cannot read blobs of tags with quotation marks.
    metadata = summary_pb2.SummaryMetadata(data_class=summary_pb2.DATA_CLASS_TENSOR)
    metadata.plugin_data.plugin_name = PLUGIN_NAME
    tf.summary.write(tag, tf.constant(values, tf.string), metadata=metadata)
