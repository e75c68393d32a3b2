"""Previews: what they collect of a clip, what the figure shows, and that its panels share one time axis."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from keras_tagger.errors import ModelError
from keras_tagger.heatmap import Heatmap
from keras_tagger.views.preview import Preview, figure_to_png, make_preview, preview_figure
from tiny import RATE, noise


def a_preview(n_tags: int = 3, n_layers: int = 2, seconds: float = 5.0, name: str = "clip") -> Preview:
    rng = np.random.default_rng(0)
    frames, tokens = int(seconds / 0.016), int(seconds / 0.125)
    times = (np.arange(tokens) + 0.5) * 0.125
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 98)[1:-1]
    return Preview(
        name=name,
        spectrogram=rng.random((frames, 96), dtype=np.float32),
        frame_times=(np.arange(frames) + 0.5) * 0.016,
        mel_frequencies=700 * (10 ** (mel / 2595) - 1),
        attention=Heatmap(
            10.0 ** np.arange(n_layers)[:, None] * rng.random((n_layers, tokens)),
            tuple(f"layer {number + 1}, all heads" for number in range(n_layers)),
            times,
            "attention",
        ),
        contributions=Heatmap(
            0.4 * rng.random((n_tags, tokens)),
            tuple(f"tag {number}" for number in range(n_tags)),
            times,
            "contributions",
            scores=np.linspace(0.9, 0.1, n_tags),
        ),
        truth=("tag 1", "elsewhere"),
    )


def panels(figure):
    """The three panels (not the colour bars), from the top."""
    return [ax for ax in figure.axes if ax.get_title(loc="left")]


def test_a_preview_is_of_the_clips_start(tagger: Any) -> None:
    wave = noise(3 * RATE, seed=6)
    preview = make_preview(tagger, (wave, RATE), "song", ["low"], seconds=1.5, top=2)
    start = (wave[: 3 * RATE // 2], RATE)
    assert (preview.name, preview.truth, preview.sample_rate) == ("song", ("low",), RATE)
    np.testing.assert_array_equal(preview.waveform, start[0])
    expected = tagger.model.analyze(start[0][None], ("spectrogram",))["spectrogram"][0]
    np.testing.assert_allclose(preview.spectrogram, expected, atol=1e-6)
    # 12 tokens of 8 frames of 16 ms, the last of them half there.
    np.testing.assert_allclose(preview.frame_times, 0.016 * np.arange(96) + 0.008, atol=1e-9)
    np.testing.assert_allclose(preview.mel_frequencies, tagger.model.spectrogram.mel_frequencies())
    attention = tagger.attention(start).heatmap("all")
    assert preview.attention.tags == attention.tags == ("layer 1, all heads", "layer 2, all heads")
    np.testing.assert_allclose(preview.attention.values, attention.values, atol=1e-5)
    best = tagger.tag(start, top=2)
    assert preview.contributions.tags == best.names
    np.testing.assert_allclose(preview.contributions.scores, best.scores, atol=1e-6)
    expected = tagger.contributions(start, best.names).values
    np.testing.assert_allclose(preview.contributions.values, expected, atol=1e-6)


def test_no_more_rows_than_tags_and_no_more_clip_than_there_is(tagger: Any) -> None:
    wave = noise(9000)
    preview = make_preview(tagger, (wave, RATE), "short", top=50)
    assert preview.contributions.tags == tagger.tag((wave, RATE), top=None).names
    assert (preview.truth, len(preview.waveform)) == ((), 9000)


@pytest.mark.parametrize(("n_tags", "n_layers", "seconds"), [(3, 2, 5.0), (10, 4, 25.0), (5, 2, 180.0), (1, 1, 0.25)])
def test_panels_share_one_time_axis_exactly(n_tags, n_layers, seconds):
    figure = preview_figure(a_preview(n_tags, n_layers, seconds))
    figure.draw_without_rendering()
    shown = panels(figure)
    assert len(shown) == 3
    boxes = [ax.get_window_extent() for ax in shown]
    assert len({(round(box.x0, 3), round(box.x1, 3)) for box in boxes}) == 1
    assert boxes[0].y0 > boxes[1].y1 > boxes[1].y0 > boxes[2].y1
    for ax in shown:
        assert ax.get_xlim()[0] == 0
        assert ax.get_xlim()[1] == pytest.approx(seconds, abs=0.125)
    assert shown[2].get_xlabel() == "time (s)"


def test_all_text_stays_inside_the_picture_and_rows_apart():
    preview = a_preview(10, 4, name="a very long path of a clip/" * 5)
    long = tuple(f"a tag whose name is rather long, number {number}" for number in range(10))
    preview = replace(preview, contributions=replace(preview.contributions, tags=long), truth=long[:2])
    figure = preview_figure(preview)
    figure.draw_without_rendering()
    labels = [label.get_window_extent() for label in panels(figure)[2].get_yticklabels()]
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(labels))
    title = figure.get_suptitle()
    assert "…" in title
    box = figure.get_tightbbox()
    assert box.x0 >= 0
    assert box.x1 <= figure.get_figwidth()
    assert box.y0 >= 0
    assert box.y1 <= figure.get_figheight()


def test_rows_are_named_scored_and_true_tags_marked():
    figure = preview_figure(a_preview())
    spectrogram, attention, contributions = panels(figure)
    assert [label.get_text() for label in spectrogram.get_yticklabels()] == [
        "100",
        "500",
        "1k",
        "2k",
        "4k",
        "8k",
    ]
    assert [label.get_text() for label in attention.get_yticklabels()] == ["layer 1", "layer 2"]
    labels = contributions.get_yticklabels()
    assert [label.get_text() for label in labels] == ["tag 0  0.90", "* tag 1  0.50", "tag 2  0.10"]
    assert [label.get_fontweight() for label in labels] == ["normal", "bold", "normal"]
    assert contributions.get_title(loc="left") == "tag-wise contribution (* true tag)"
    assert figure.get_suptitle() == "clip\ntrue: tag 1, elsewhere"


def test_panels_hold_the_values_given():
    preview = a_preview()
    spectrogram, attention, contributions = (ax.collections[0] for ax in panels(preview_figure(preview)))
    np.testing.assert_allclose(spectrogram.get_array(), preview.spectrogram.T, rtol=1e-6)
    # Attention is a multiple of uniform attention, or of its mean if that is unknown; the scale is always the same.
    values = preview.attention.values
    expected = np.clip(values / values.mean(axis=1, keepdims=True), 1 / 8, 8)
    np.testing.assert_allclose(attention.get_array(), expected, rtol=1e-6)
    known = replace(preview.attention, uniform=[2.0, 0.5])
    of_known = panels(preview_figure(replace(preview, attention=known)))[1].collections[0]
    np.testing.assert_allclose(of_known.get_array(), np.clip(values / [[2.0], [0.5]], 1 / 8, 8), rtol=1e-6)
    assert (attention.norm.vmin, attention.norm.vmax) == (of_known.norm.vmin, of_known.norm.vmax) == (1 / 8, 8)
    np.testing.assert_allclose(contributions.get_array(), preview.contributions.values)
    assert contributions.norm.vmin == 0
    assert contributions.norm.vmax == pytest.approx(preview.contributions.values.max())


def test_a_waveform_sets_the_end_of_the_axis():
    preview = replace(a_preview(), waveform=np.zeros(16000 * 6, np.float32), sample_rate=16000)
    assert panels(preview_figure(preview))[0].get_xlim() == (0.0, 6.0)


def test_png_has_the_colour_of_a_value_where_its_time_is():
    preview = a_preview(n_tags=1, seconds=10.0)
    values = np.zeros_like(preview.contributions.values)
    values[0, (preview.contributions.times > 4) & (preview.contributions.times < 6)] = 1.0
    figure = preview_figure(replace(preview, contributions=replace(preview.contributions, values=values)))
    image = imread(io.BytesIO(figure_to_png(figure)))
    assert image.shape[1] == 1120
    for second, colour in [(2.0, "#440154"), (4.9, "#fde725"), (5.1, "#fde725"), (8.0, "#440154")]:
        x, y = panels(figure)[2].transData.transform((second, 0.5))
        np.testing.assert_allclose(image[image.shape[0] - int(y), int(x), :3], to_rgb(colour), atol=0.01)


def test_height_follows_the_number_of_rows():
    heights = [imread(io.BytesIO(figure_to_png(preview_figure(a_preview(n))))).shape[0] for n in (3, 10)]
    assert heights[1] - heights[0] == pytest.approx(0.24 * 200 * 7, abs=2)


def test_a_diverged_model_still_draws():
    preview = a_preview()
    nothing = replace(preview.contributions, values=np.full_like(preview.contributions.values, np.nan))
    empty = replace(preview.attention, values=np.full_like(preview.attention.values, np.nan))
    blank = imread(io.BytesIO(figure_to_png(preview_figure(replace(preview, contributions=nothing, attention=empty)))))
    full = imread(io.BytesIO(figure_to_png(preview_figure(preview))))
    assert blank.shape == full.shape
    assert not np.array_equal(blank, full)


def test_figures_drawn_in_threads_are_the_same():
    previews = [a_preview(n) for n in (1, 2, 3)]
    alone = [figure_to_png(preview_figure(preview)) for preview in previews]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda preview: figure_to_png(preview_figure(preview)), previews))
    assert together == alone
    assert len(set(alone)) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spectrogram": np.zeros((96, 312))}, r"\(312, 96\) for preview 'clip'. Received: \(96, 312\)"),
        ({"waveform": np.zeros(10)}, r"shape \(10,\) at None Hz"),
        ({"waveform": np.zeros((10, 1)), "sample_rate": 16000}, r"shape \(10, 1\) at 16000 Hz"),
    ],
)
def test_parts_that_disagree_are_refused(changes, words):
    with pytest.raises(ModelError, match=words):
        replace(a_preview(), **changes)
