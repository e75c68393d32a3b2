"""TensorBoard summaries of a training run. Importing this imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import summary as hparams_summary
from tensorboard.plugins.pr_curve import summary as pr_curve_summary

from keras_tagger.config import ExperimentConfig, flat
from keras_tagger.errors import ModelError
from keras_tagger.files import printable
from keras_tagger.views.preview import Preview, figure_to_png, preview_figure

_THRESHOLDS = 101
_HPARAMS = ("audio.", "data.", "model.", "training.")
_PATHS = ("data.path", "data.root", "data.prepared_dir", "training.init")
_PREVIEW_DESCRIPTION = "Mel spectrogram, attention of each layer and contribution of each moment to the best tags."


def write_scalars(
    writer: tf.summary.SummaryWriter, values: Mapping[str, Any], step: int, description: str | None = None
) -> None:
    """Write each value as a scalar summary under its printable name."""
    with writer.as_default():
        for name, value in values.items():
            tf.summary.scalar(printable(name), value, step=step, description=description)


def write_preview(
    writer: tf.summary.SummaryWriter,
    preview: Preview,
    step: int,
    description: str | None = _PREVIEW_DESCRIPTION,
) -> None:
    """Write the preview's figure as the image summary `preview/NAME`."""
    image = tf.io.decode_png(figure_to_png(preview_figure(preview)), channels=3)
    with writer.as_default():
        tf.summary.image(f"preview/{printable(preview.name)}", image[tf.newaxis], step=step, description=description)


def write_clip(
    writer: tf.summary.SummaryWriter, preview: Preview, step: int = 0, description: str | None = None
) -> None:
    """Write the preview's waveform as the audio summary `clips/NAME`; once per run, as it does not change.

    Samples outside -1..1 are clipped (16-bit WAV).

    Raises:
        ModelError: If the preview has no waveform.
    """
    if preview.waveform is None or preview.sample_rate is None:
        raise ModelError(f"expected a preview with a waveform. Received: preview {preview.name!r} without one")
    samples = np.clip(np.asarray(preview.waveform, dtype=np.float32), -1.0, 1.0)
    with writer.as_default():
        tf.summary.audio(
            f"clips/{printable(preview.name)}",
            samples[np.newaxis, :, np.newaxis],
            sample_rate=preview.sample_rate,
            step=step,
            encoding="wav",
            description=description,
        )


def write_pr_curves(
    writer: tf.summary.SummaryWriter,
    present: Mapping[str, npt.NDArray[Any]],
    scores: Mapping[str, npt.NDArray[Any]],
    group: str,
    step: int,
) -> None:
    """Write the precision-recall curve of each tag as `GROUP/TAG`, for the tab "PR curves".

    Args:
        writer: Where to write.
        present: By tag, whether each clip has it, bool `[n]`; tags without clips of both kinds have no curve.
        scores: By tag, the probabilities of the same clips, float `[n]`.
        group: The first part of the names, such as the split.
        step: The step.
    """
    with writer.as_default():
        for tag, has in present.items():
            if has.any() and not has.all():
                name = f"{group}/{printable(tag)}"
                curve = pr_curve_summary.pb(name, has, scores[tag], num_thresholds=_THRESHOLDS, display_name=name)
                tf.summary.experimental.write_raw_pb(curve.SerializeToString(), step=step)


def write_hparams(writer: tf.summary.SummaryWriter, settings: ExperimentConfig, metrics: Sequence[str]) -> None:
    """Write the settings of a run for the tab "HParams".

    Args:
        writer: Where to write.
        settings: The experiment. Names and paths are left out; lists are text.
        metrics: The scalars that the tab compares.
    """
    values = {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in flat(settings.to_dict()).items()
        if key.startswith(_HPARAMS) and key not in _PATHS
    }
    kinds = {bool: api_pb2.DATA_TYPE_BOOL, str: api_pb2.DATA_TYPE_STRING}
    infos = [
        api_pb2.HParamInfo(name=key, type=kinds.get(type(value), api_pb2.DATA_TYPE_FLOAT64))
        for key, value in values.items()
    ]
    compared = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics]
    summaries = [hparams_summary.experiment_pb(infos, compared), hparams_summary.session_start_pb(values)]
    with writer.as_default():
        for summary in summaries:
            tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=0)


def write_config(
    writer: tf.summary.SummaryWriter, yaml_text: str, step: int = 0, description: str | None = None
) -> None:
    """Write the resolved configuration as the text summary `config`, a Markdown code block."""
    with writer.as_default():
        tf.summary.text("config", f"```yaml\n{yaml_text.rstrip()}\n```", step=step, description=description)
