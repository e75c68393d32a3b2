"""Summaries, read back from the event files."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_tagger.errors import ModelError
from keras_tagger.heatmap import Heatmap
from keras_tagger.views.preview import Preview, figure_to_png, preview_figure
from keras_tagger.views.summaries import write_clip, write_config, write_preview, write_scalars


@pytest.fixture
def preview() -> Preview:
    rng = np.random.default_rng(0)
    times = np.arange(8) * 0.125 + 0.0625
    return Preview(
        name="song",
        spectrogram=rng.random((50, 20), dtype=np.float32),
        frame_times=np.arange(50) * 0.02 + 0.01,
        mel_frequencies=np.linspace(100, 7900, 20),
        attention=Heatmap(rng.random((2, 8)), ("layer 1", "layer 2"), times, "attention"),
        contributions=Heatmap(rng.random((2, 8)), ("rock", "loud"), times, "contributions", scores=[0.6, 0.4]),
        waveform=np.sin(np.arange(22050) / 10).astype(np.float32) * 1.5,
        sample_rate=22050,
    )


@pytest.fixture
def log(tmp_path):
    """(writer, function that closes it and reads the folder back)."""
    writer = tf.summary.create_file_writer(str(tmp_path))

    def read() -> EventAccumulator:
        writer.close()
        return EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()

    return writer, read


def plugin_of(events: EventAccumulator, tag: str) -> str:
    return events.SummaryMetadata(tag).plugin_data.plugin_name


def test_scalars_have_names_values_steps_and_a_description(log):
    writer, read = log
    write_scalars(writer, {"loss": 0.5, "validation/roc_auc": 0.875}, step=3, description="per epoch")
    write_scalars(writer, {"loss": 0.25}, step=4)
    events = read()
    losses = events.Tensors("loss")
    assert [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in losses] == [
        (3, 0.5),
        (4, 0.25),
    ]
    (auc,) = events.Tensors("validation/roc_auc")
    assert float(tf.make_ndarray(auc.tensor_proto)) == 0.875
    assert plugin_of(events, "loss") == "scalars"
    assert events.SummaryMetadata("loss").summary_description == "per epoch"


def test_preview_is_the_figure_as_an_image(log, preview):
    writer, read = log
    write_preview(writer, preview, step=7)
    events = read()
    assert events.Tags()["tensors"] == ["preview/song"]
    assert plugin_of(events, "preview/song") == "images"
    assert "attention" in events.SummaryMetadata("preview/song").summary_description
    (event,) = events.Tensors("preview/song")
    assert event.step == 7
    width, height, png = tf.make_ndarray(event.tensor_proto)
    image = imread(io.BytesIO(png))
    assert (int(width), int(height)) == (image.shape[1], image.shape[0])
    assert image.shape[1] == 1120
    expected = imread(io.BytesIO(figure_to_png(preview_figure(preview))))
    np.testing.assert_array_equal(image[..., :3], expected[..., :3])
    assert image[..., :3].std() > 0.1


def test_clip_is_heard_at_its_rate(log, preview):
    writer, read = log
    write_clip(writer, preview)
    events = read()
    assert plugin_of(events, "clips/song") == "audio"
    (event,) = events.Tensors("clips/song")
    wav = tf.make_ndarray(event.tensor_proto).ravel()[0]
    samples, rate = soundfile.read(io.BytesIO(wav))
    assert rate == 22050
    np.testing.assert_allclose(samples, np.clip(preview.waveform, -1, 1), atol=2 / 32768)


def test_clip_needs_a_waveform(log, preview):
    writer, _ = log
    silent = Preview(**{**vars(preview), "waveform": None, "sample_rate": None})
    with pytest.raises(ModelError, match="'song'"):
        write_clip(writer, silent)


def test_config_is_text_in_a_code_block(log):
    writer, read = log
    write_config(writer, "model:\n  width: 192\n")
    events = read()
    assert plugin_of(events, "config") == "text"
    (event,) = events.Tensors("config")
    assert tf.make_ndarray(event.tensor_proto).item() == b"```yaml\nmodel:\n  width: 192\n```"
