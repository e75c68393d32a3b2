"""The preview of a clip: its spectrogram, attention and best tags on one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger import audio as audio_module
from keras_tagger.attention import Attention, AttentionWindow
from keras_tagger.audio import AudioSource
from keras_tagger.audio.windows import Stitcher, WindowMean, batches, stacked
from keras_tagger.errors import ModelError
from keras_tagger.heatmap import Heatmap
from keras_tagger.views.drawing import (
    OCTAVES,
    column_edges,
    draw_rows,
    draw_spectrum,
    figure_bytes,
    mark_uniform,
    relative_to_uniform,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from keras_tagger.models.trained import TrainedModel

# TensorBoard first shows pictures at a third of their size: large letters on few inches stay legible.
_WIDTH_INCHES = 5.6
_DPI = 200
_MAX_HEADING, _MAX_TAG = 52, 20  # characters that fit
_LETTER_INCHES = 0.078  # the mean width of a letter of a row's label
_AXIS_INCHES = 0.62  # the frequency axis with its label
_TITLE_INCHES = 0.22  # the title of a panel


@dataclass(frozen=True, eq=False)
class Preview:
    """The content of a clip's preview; `make_preview` makes it and `preview_figure` draws it.

    Attributes:
        name: Name of the clip, in titles and in the names of summaries.
        spectrogram: Log-compressed spectrogram, float32 `[frames, mels]`.
        frame_times: Centres of the frames in seconds, increasing, `[frames]`.
        mel_frequencies: Centres of the bands in Hz, increasing, `[mels]`.
        attention: One row per layer, the first layer first (`Attention.heatmap("all")`).
        contributions: One row per tag, the best first, probabilities in 0..1, with the tags' scores.
        truth: The clip's true tags.
        waveform: float32 `[samples]` in -1..1, or None. It is played, not drawn.
        sample_rate: Sample rate of the waveform in Hz; required with it.

    Raises:
        ModelError: If the spectrogram does not have the shape `[frames, mels]`, or a waveform has no sample rate.
    """

    name: str
    spectrogram: npt.NDArray[Any]
    frame_times: npt.NDArray[Any]
    mel_frequencies: npt.NDArray[Any]
    attention: Heatmap
    contributions: Heatmap
    truth: tuple[str, ...] = ()
    waveform: npt.NDArray[Any] | None = None
    sample_rate: int | None = None

    def __post_init__(self) -> None:
        shape = (len(self.frame_times), len(self.mel_frequencies))
        if np.shape(self.spectrogram) != shape:
            raise ModelError(
                f"expected a spectrogram of shape [frames, mels] = {shape} for preview {self.name!r}. "
                f"Received: {np.shape(self.spectrogram)}"
            )
        if self.waveform is not None and (np.ndim(self.waveform) != 1 or not self.sample_rate):
            raise ModelError(
                f"expected a waveform [samples] with its sample rate for preview {self.name!r}. "
                f"Received: shape {np.shape(self.waveform)} at {self.sample_rate} Hz"
            )


@dataclass(frozen=True, eq=False)
class Examined:
    """A clip as a model sees it; `examine` makes it.

    Attributes:
        name: Name of the clip.
        waveform: float32 `[samples]` in -1..1.
        sample_rate: Its sample rate in Hz.
        spectrogram: Log-compressed spectrogram, float32 `[frames, mels]`.
        frame_times: Centres of the frames in seconds, increasing, `[frames]`.
        mel_frequencies: Centres of the bands in Hz, increasing, `[mels]`.
        attention: The weights of every layer and head.
        contributions: One row per tag, in the order of the model, probabilities in 0..1, with the tags' scores.
        truth: The clip's true tags.
    """

    name: str
    waveform: npt.NDArray[Any]
    sample_rate: int
    spectrogram: npt.NDArray[Any]
    frame_times: npt.NDArray[Any]
    mel_frequencies: npt.NDArray[Any]
    attention: Attention
    contributions: Heatmap
    truth: tuple[str, ...] = ()

    def preview(self, top: int = 5) -> Preview:
        """Return what the picture shows, with the best `top` tags."""
        return Preview(
            name=self.name,
            spectrogram=self.spectrogram,
            frame_times=self.frame_times,
            mel_frequencies=self.mel_frequencies,
            attention=self.attention.heatmap("all"),
            contributions=self.contributions.top(top),
            truth=self.truth,
            waveform=self.waveform,
            sample_rate=self.sample_rate,
        )


def examine(
    trained: TrainedModel,
    audio: AudioSource,
    name: str,
    truth: Sequence[str] = (),
    seconds: float | None = None,
) -> Examined:
    """Run a model on a clip, or on its start.

    Args:
        trained: The model, such as a `Tagger`.
        audio: A path, encoded bytes or `(array, sample_rate)`.
        name: The name of the clip.
        truth: The clip's true tags.
        seconds: How much of the clip, from its start; None for all of it.
    """
    model = trained.model
    rate, windowing = model.audio_config.sample_rate, model.windowing
    waveform = audio_module.load(audio, rate, end_seconds=seconds)
    spectrogram = model.analyze(waveform[None], ("spectrogram",))["spectrogram"][0].numpy()
    attention, contributions, scores = [], Stitcher(windowing), WindowMean()
    for batch in batches(windowing.cut((waveform, rate), warnings=[])):
        found = model.analyze(stacked(batch), ("tags", "attention", "contributions"))
        for index, window in enumerate(batch):
            values = {key: value[index].numpy() for key, value in found.items()}
            contributions.add(window, values["contributions"])
            scores.add(window, values["tags"])
            n_new = int(windowing.is_new(window, windowing.token_times(values["contributions"].shape[1])).sum())
            attention.append(AttentionWindow(window.start_sample / rate, values["attention"], n_new))
    return Examined(
        name=name,
        waveform=waveform,
        sample_rate=rate,
        spectrogram=spectrogram,
        frame_times=model.spectrogram.frame_times(len(spectrogram)),
        mel_frequencies=model.spectrogram.mel_frequencies(),
        attention=Attention(tuple(attention), model.hop_seconds),
        contributions=Heatmap(
            contributions.values, trained.tags, contributions.times, "contributions", scores=scores.value
        ),
        truth=tuple(truth),
    )


def make_preview(
    trained: TrainedModel,
    audio: AudioSource,
    name: str,
    truth: Sequence[str] = (),
    seconds: float = 30.0,
    top: int = 5,
) -> Preview:
    """Run a model on the start of a clip and collect the content of its preview.

    Args:
        trained: The model, such as a `Tagger`.
        audio: A path, encoded bytes or `(array, sample_rate)`.
        name: The title.
        truth: The clip's true tags, which the picture marks.
        seconds: How much of the clip, from its start.
        top: How many tags.

    Example:
        >>> figure = preview_figure(make_preview(tagger, "song.mp3", "song"))
    """
    return examine(trained, audio, name, truth, seconds).preview(top)


def preview_figure(preview: Preview) -> Figure:
    """Draw a preview: mel spectrogram, attention per layer and best tags, aligned on one time axis in seconds.

    The figure is 1120 pixels wide and as tall as its rows need. Attention is in multiples of uniform attention, on the
    same scale for every clip and step; contributions are probabilities, from 0 to the largest shown, on a square-root
    scale, so that weak values show beside strong ones. True tags are bold, have a star, and are listed under the title.
    """
    from matplotlib.colors import LogNorm, PowerNorm
    from matplotlib.figure import Figure

    attention, contributions = preview.attention, preview.contributions
    uniform = attention.values.mean(axis=1) if attention.uniform is None else attention.uniform
    heights = [1.7, max(0.5, 0.24 * len(attention.tags)), max(0.7, 0.24 * len(contributions.tags))]
    labels = _tag_labels(preview)
    heading = _heading(preview)
    # Fixed margins: matplotlib's own layout would draw everything twice.
    left = max(_AXIS_INCHES, 0.12 + _LETTER_INCHES * max(map(len, labels), default=0))
    above = 0.16 + 0.18 * len(heading.splitlines()) + _TITLE_INCHES
    height = above + sum(heights) + 2 * (_TITLE_INCHES + 0.08) + 0.52
    figure = Figure(figsize=(_WIDTH_INCHES, height), dpi=_DPI)
    grid = figure.add_gridspec(
        3,
        2,
        height_ratios=heights,
        width_ratios=[50, 1],
        left=left / _WIDTH_INCHES,
        right=1 - 0.62 / _WIDTH_INCHES,
        top=1 - above / height,
        bottom=0.52 / height,
        hspace=3 * (_TITLE_INCHES + 0.08) / sum(heights),
        wspace=0.05,
    )

    top = figure.add_subplot(grid[0, 0])
    middle = figure.add_subplot(grid[1, 0], sharex=top)
    bottom = figure.add_subplot(grid[2, 0], sharex=top)
    peak = float(np.nan_to_num(contributions.values).max()) or 1.0
    meshes = [
        draw_spectrum(
            top,
            np.asarray(preview.spectrogram).T,
            np.asarray(preview.frame_times),
            np.asarray(preview.mel_frequencies),
            cmap="magma",
        ),
        draw_rows(
            middle,
            relative_to_uniform(attention.values, np.asarray(uniform)),
            attention.times,
            [f"layer {number + 1}" for number in range(len(attention.tags))],
            cmap="RdBu_r",
            norm=LogNorm(2.0**-OCTAVES, 2.0**OCTAVES),
        ),
        draw_rows(
            bottom,
            contributions.values,
            contributions.times,
            labels,
            cmap="viridis",
            norm=PowerNorm(0.5, 0.0, peak),
        ),
    ]
    for label, tag in zip(bottom.get_yticklabels(), contributions.tags, strict=True):
        label.set_fontweight("bold" if tag in preview.truth else "normal")

    titles = [
        "mel spectrogram",
        "attention, in multiples of uniform attention",
        "tag-wise contribution" + (" (* true tag)" if set(preview.truth) & set(contributions.tags) else ""),
    ]
    for ax, title in zip((top, middle, bottom), titles, strict=True):
        ax.set_title(title, fontsize=10, loc="left", parse_math=False)
        ax.label_outer()
    bars = []
    for row, (mesh, title) in enumerate(zip(meshes, ("log magnitude", "", "probability"), strict=True)):
        bars.append(figure.colorbar(mesh, cax=figure.add_subplot(grid[row, 1])))
        bars[-1].set_label(title, fontsize=9)
        bars[-1].ax.tick_params(labelsize=8)
    mark_uniform(bars[1])
    ticks = [0.0, peak / 4, peak]  # evenly spaced on a square-root scale, and never crowded
    bars[2].set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bottom.set_xlabel("time (s)")
    top.set_xlim(0.0, _end_seconds(preview))

    figure.suptitle(heading, y=1 - 0.08 / height, va="top", fontsize=11, parse_math=False)
    return figure


def figure_to_png(figure: Figure) -> bytes:
    """Return the figure as PNG bytes at its own resolution; needs no display and does not use pyplot."""
    return figure_bytes(figure)


def _tag_labels(preview: Preview) -> list[str]:
    rows = zip(preview.contributions.tags, preview.contributions.labels(_MAX_TAG), strict=True)
    return [f"* {label}" if tag in preview.truth else label for tag, label in rows]


def _heading(preview: Preview) -> str:
    lines = [preview.name] + ([f"true: {', '.join(preview.truth)}"] if preview.truth else [])
    return "\n".join(shorten(line, _MAX_HEADING) for line in lines)


def _end_seconds(preview: Preview) -> float:
    if preview.waveform is not None and preview.sample_rate:
        return len(preview.waveform) / preview.sample_rate
    parts = (preview.frame_times, preview.attention.times, preview.contributions.times)
    return max(float(column_edges(np.asarray(times))[-1]) for times in parts)
