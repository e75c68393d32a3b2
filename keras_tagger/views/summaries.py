"""TensorBoard summaries of a training run. Importing this imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_tagger.errors import ModelError
from keras_tagger.files import printable
from keras_tagger.views.preview import Preview, figure_to_png, preview_figure

_PREVIEW_DESCRIPTION = "Mel spectrogram, attention of each layer and contribution of each moment to the best tags."


def write_scalars(
    writer: tf.summary.SummaryWriter, values: Mapping[str, Any], step: int, description: str | None = None
) -> None:
    """Write each value as a scalar summary under its name."""
    with writer.as_default():
        for name, value in values.items():
            tf.summary.scalar(name, value, step=step, description=description)


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


def write_config(
    writer: tf.summary.SummaryWriter, yaml_text: str, step: int = 0, description: str | None = None
) -> None:
    """Write the resolved configuration as the text summary `config`, a Markdown code block."""
    with writer.as_default():
        tf.summary.text("config", f"```yaml\n{yaml_text.rstrip()}\n```", step=step, description=description)
