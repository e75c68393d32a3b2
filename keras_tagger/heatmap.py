"""Heat maps: values of rows over time (and frequency). numpy only; `keras_tagger.views.drawing` draws."""

from __future__ import annotations

import html
import importlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from keras_tagger import audio as audio_module
from keras_tagger.audio import AudioSource, Waveform
from keras_tagger.audio.streams import is_file_object
from keras_tagger.errors import AudioError, AudioNotFoundError, AudioWarning, ModelError
from keras_tagger.files import csv_text, json_text, printable, replacing, write_json, write_text
from keras_tagger.interchange import jams, labels, sonic_visualiser
from keras_tagger.tables import dataframe
from keras_tagger.tags import ranking
from keras_tagger.views.drawing import column_edges as column_edges
from keras_tagger.views.drawing import draw_map, figure_bytes, shorten
from keras_tagger.views.pages import data_uri
from keras_tagger.views.spectra import mel_centres, spectrogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURES = (".png", ".svg", ".pdf")
SUFFIXES = (*PICTURES, ".html", ".json", ".npz", ".csv", ".jams", ".svl", ".txt", ".vtt")
"""The files that `Heatmap.save` writes."""

PLAYED_RATE = 16000
# A notebook gets about 4 kB per second of audio.
_PLAYED_SECONDS = 600.0
# Maps of fewer bands, such as Grad-CAM's, are drawn over a finer spectrogram.
_FINE_BANDS = 48


@dataclass(frozen=True, eq=False, repr=False)
class Heatmap:
    """Values of rows (tags, heads or layers) over time, or over frequency and time.

    Attributes:
        values: float32 `[n_rows, T]`, or `[n_rows, F, T]` if `frequencies` is given.
        tags: Names of the rows, all different.
        times: float64 `[T]`, centres of the columns in seconds, increasing.
        method: Kind of the values, e.g. "contributions"; the label of the colour bar.
        frequencies: float64 `[F]`, centres of the bands in Hz, increasing; None for maps over time only.
        scores: float32 `[n_rows]`, one score per row such as the tag's probability, or None. The constructor also takes
            a mapping from every row's name to its score.
        margins: float32 `[n_rows]`, how far each row's score exceeds its tag's threshold (`keras_tagger.tags.margin`),
            NaN for tags that training had no example of; None if unknown.
        warnings: What a listener must know about the audio, such as that it is silent; each has a `kind`.
        audio: The audio of the map, as `Tagger` takes it, which is read when it is played or drawn. None if it is
            unknown; file objects are not kept.
        uniform: float32 `[n_rows]`, the value of each row if attention were the same everywhere; None if the values are
            not attention.

    Raises:
        ModelError: If shapes disagree, names repeat, or times or frequencies do not increase.

    Example:
        >>> heatmap = tagger.contributions("song.mp3")
        >>> heatmap.top(5).crop(10, 20).save("contributions.png")
    """

    values: npt.NDArray[Any]
    tags: tuple[str, ...]
    times: npt.NDArray[Any]
    method: str
    frequencies: npt.NDArray[Any] | None = None
    scores: npt.NDArray[Any] | Mapping[str, float] | None = None
    warnings: tuple[AudioWarning, ...] = ()
    margins: npt.NDArray[Any] | None = None
    audio: AudioSource | None = None
    uniform: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        tags = tuple(str(tag) for tag in self.tags)
        if len(set(tags)) != len(tags):
            repeated = sorted({tag for tag in tags if tags.count(tag) > 1})
            raise ModelError(f"expected heat map rows with different names. Received: {repeated} more than once.")
        times = centres(self.times, "times")
        shape: tuple[int, ...] = (len(tags), len(times))
        frequencies = None
        if self.frequencies is not None:
            frequencies = centres(self.frequencies, "frequencies")
            shape = (len(tags), len(frequencies), len(times))
        values = np.asarray(self.values, dtype=np.float32)
        if values.shape != shape or not tags:
            raise ModelError(
                f"expected heat map values of shape {shape} for {len(tags)} rows and {len(times)} times. "
                f"Received: {values.shape}."
            )
        scores = self.scores
        if isinstance(scores, Mapping):
            if missing := [tag for tag in tags if tag not in scores]:
                raise ModelError(f"expected a score for every heat map row. Received: no score for {missing}.")
            scores = np.array([scores[tag] for tag in tags])
        if scores is not None:
            scores = np.asarray(scores, dtype=np.float32)
        margins, uniform = (
            None if value is None else np.asarray(value, dtype=np.float32) for value in (self.margins, self.uniform)
        )
        for one, found in (("score", scores), ("margin", margins), ("uniform value", uniform)):
            if found is not None and found.shape != (len(tags),):
                raise ModelError(f"expected one {one} for each of {len(tags)} heat map rows. Received: {found.shape}.")
        fields = {"values": values, "tags": tags, "times": times, "frequencies": frequencies}
        fields |= {"scores": scores, "margins": margins, "uniform": uniform}
        fields |= {"audio": None if is_file_object(self.audio) else self.audio}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def row(self, tag: str) -> npt.NDArray[Any]:
        """Return the values of one row, float32 `[T]` or `[F, T]`.

        Raises:
            ModelError: If there is no such row; the message lists the rows.

        Example:
            >>> heatmap.row("guitar").max()
        """
        if tag not in self.tags:
            raise ModelError(f"expected one of the heat map's rows: {', '.join(self.tags)}. Received: {tag!r}.")
        return self.values[self.tags.index(tag)]

    def top(self, n: int, rank: str = "score") -> Heatmap:
        """Return the n rows with the highest scores, highest first; without scores, the highest mean values.

        If there are fewer than n rows, all of them are returned.

        Args:
            n: How many rows.
            rank: "margin" for the rows whose scores exceed the thresholds by most, as in `Tags.top`.

        Raises:
            ModelError: If n is below 1, or `rank` is unknown or is "margin" for a map without margins.

        Example:
            >>> heatmap.top(3).tags
            ('rock', 'guitar', 'drums')
        """
        if n < 1:
            raise ModelError(f"expected at least 1 row to keep. Received: {n}.")
        means = self.values.reshape(len(self.tags), -1).mean(axis=1)
        index = ranking(means if self.scores is None else np.asarray(self.scores), self.margins, rank)[:n]
        per_row: dict[str, Any] = {
            name: None if (values := getattr(self, name)) is None else values[index]
            for name in ("scores", "margins", "uniform")
        }
        tags = tuple(self.tags[i] for i in index)
        return replace(self, values=self.values[index], tags=tags, **per_row)

    def crop(self, start: float, end: float) -> Heatmap:
        """Return the columns whose centres lie in [start, end), in seconds.

        Raises:
            ModelError: If there are no such columns.

        Example:
            >>> heatmap.crop(10.0, 20.0)
        """
        keep = (self.times >= start) & (self.times < end)
        if not keep.any():
            raise ModelError(
                f"expected a crop within the heat map's {self.times[0]:.2f} to {self.times[-1]:.2f} s. "
                f"Received: {start} to {end} s."
            )
        return replace(self, values=self.values[..., keep], times=self.times[keep])

    def relative(self) -> Heatmap:
        """Return the map with each row divided by its largest magnitude, for rows on different scales.

        Rows of zeros stay zero.

        Example:
            >>> tagger.attention("song.mp3").heatmap("all").relative()
        """
        peak = np.abs(self.values).max(axis=tuple(range(1, self.values.ndim)), keepdims=True)
        peak = np.where(peak > 0, peak, 1)
        uniform = None if self.uniform is None else self.uniform / peak.reshape(-1)
        return replace(self, values=self.values / peak, uniform=uniform)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a dict for JSON: arrays as nested lists, None for numbers that are not finite.

        Example:
            >>> json.dumps(heatmap.to_dict())
        """
        return {
            "method": self.method,
            "tags": list(self.tags),
            "times": self.times.tolist(),
            "frequencies": None if self.frequencies is None else self.frequencies.tolist(),
            "scores": None if self.scores is None else _json_list(np.asarray(self.scores)),
            "margins": None if self.margins is None else _json_list(self.margins),
            "uniform": None if self.uniform is None else _json_list(self.uniform),
            "values": _json_list(self.values),
            "warnings": [{"kind": warning.kind, "message": str(warning)} for warning in self.warnings],
        }

    def _interchange(self, suffix: str) -> str:
        if suffix == ".svl":
            rate = 44100 if self.audio is None else audio_module.info(self.audio).sample_rate
            return self.to_sonic_visualiser(rate)
        if suffix == ".jams":
            return json_text(self.to_jams())
        if suffix == ".csv":
            return csv_text([["time", *self.tags], *zip(self.times.tolist(), *self.curves().tolist(), strict=True)])
        return self.to_audacity() if suffix == ".txt" else self.to_webvtt()

    def to_dataframe(self) -> Any:
        """Return a pandas `DataFrame` with the columns tag, time, value, and frequency if the map has one.

        Raises:
            ImportError: If pandas is not installed.

        Example:
            >>> heatmap.to_dataframe().pivot(index="time", columns="tag", values="value")
        """
        bands = [None] if self.frequencies is None else self.frequencies.tolist()
        rows = [
            {"tag": tag, "time": time, "frequency": band, "value": float(value)}
            for tag, grid in zip(self.tags, self.values.reshape(len(self.tags), len(bands), -1), strict=True)
            for band, row in zip(bands, grid, strict=True)
            for time, value in zip(self.times.tolist(), row, strict=True)
        ]
        return dataframe(rows, ["tag", "time", *(["frequency"] if self.frequencies is not None else []), "value"])

    def to_jams(self) -> dict[str, Any]:
        """Return the content of a JAMS file: an annotation per row, an observation per column, values as confidence.

        A map over frequency is summed over its bands, here and in the other formats of time.

        Example:
            >>> Path("map.jams").write_text(json.dumps(heatmap.to_jams()))
        """
        return jams.of_map(self.tags, self.curves(), column_edges(self.times), self.method)

    def to_audacity(self) -> str:
        """Return an Audacity label track with the stretches in which each row is among its highest tenth.

        Example:
            >>> Path("map.txt").write_text(heatmap.to_audacity())
        """
        return labels.audacity(self.stretches())

    def to_webvtt(self) -> str:
        """Return WebVTT chapters, each named by the row that is highest.

        Example:
            >>> Path("map.vtt").write_text(tagger.taggram("song.mp3").to_webvtt())
        """
        return labels.webvtt(labels.leading_stretches(self.tags, self.curves(), column_edges(self.times)))

    def to_sonic_visualiser(self, sample_rate: int = 44100) -> str:
        """Return a layer of Sonic Visualiser (`.svl`) with a coloured row per row of the map.

        Args:
            sample_rate: Sample rate of the audio in Sonic Visualiser, in Hz.

        Example:
            >>> Path("map.svl").write_text(heatmap.to_sonic_visualiser())
        """
        return sonic_visualiser.grid(self.tags, self.curves(), column_edges(self.times), sample_rate, self.method)

    def curves(self) -> npt.NDArray[Any]:
        """Return the rows over time, float32 `[n_rows, T]`; a map over frequency is summed over its bands.

        Example:
            >>> heatmap.curves().shape
            (3, 468)
        """
        return self.values if self.values.ndim == 2 else self.values.sum(axis=1)

    def stretches(self) -> list[labels.Label]:
        """Return the stretches in which each row is among its highest tenth, in order of time.

        Example:
            >>> heatmap.stretches()[0]
            Label(start=1.2, end=2.6, name='guitar', value=0.83)
        """
        return labels.high_stretches(self.tags, self.curves(), column_edges(self.times))

    def plot(
        self,
        ax: Axes | None = None,
        *,
        cmap: str | None = None,
        figsize: tuple[float, float] | None = None,
        spectrogram: bool = False,
    ) -> Axes:
        """Draw the map with row names and scores, a time axis in seconds and a colour bar.

        A map over frequency takes one panel per row. The colour scale is symmetric about 0 if there are negative
        values; over frequency it ends at the 99th percentile. Attention is drawn in multiples of uniform attention, on
        the same scale for every map: from 1/8 to 8, with uniform in the neutral middle.

        Args:
            ax: Where to draw. None makes a new figure that pyplot does not know.
            cmap: Name of matplotlib's colours; by default "viridis", or "RdBu_r" for negative values and attention.
            figsize: Width and height of the new figure in inches; by default 10 wide and as tall as the rows need.
            spectrogram: Whether to draw the spectrogram of the audio below, with its frequencies in Hz.

        Returns:
            The axes, or the top panel of several; its `.figure` is the figure. As the last line of a notebook's cell
            it is the picture.

        Raises:
            ModelError: If several panels are to be drawn into one `ax`, or the map's audio is unknown.
            AudioError, AudioNotFoundError: If the spectrogram is wanted and the audio can no longer be read.

        Example:
            >>> heatmap.top(5).plot(cmap="magma", figsize=(6, 3), spectrogram=True)
        """
        if ax is not None and self.frequencies is not None and len(self.tags) > 1:
            raise ModelError(
                f"expected one row to draw over frequency in one axes, e.g. top(1). Received: {len(self.tags)} rows."
            )
        if ax is not None and (spectrogram or figsize):
            raise ModelError("expected no ax with spectrogram or figsize, which need a new figure. Received: both.")
        uniform, uniform_name = self.uniform, "uniform"
        if uniform is None and self.method == "attention":
            # A server does not say how many heads and keys there are.
            uniform, uniform_name = self.values.mean(axis=1), "mean"
        return draw_map(
            self.values,
            self.times,
            self.frequencies,
            self.labels(),
            self.method,
            ax,
            uniform=uniform,
            uniform_name=uniform_name,
            cmap=cmap,
            figsize=figsize,
            spectrogram=self._spectrogram() if spectrogram else None,
        )

    def save(self, path: str | os.PathLike[str], dpi: float = 100, **drawing: Any) -> Path:
        """Write the map as a file, creating missing folders.

        Args:
            path: Target; an existing file is replaced only when the new one is complete. Its suffix says what is
                written: `.png`, `.svg` or `.pdf`, the picture of `plot`; `.html`, a page with the player, without any
                other file; `.json`, `to_dict`; `.npz`, the fields as arrays, which are read without pickle; `.csv`, a
                column per row of the map; `.jams`, `.svl`, `.txt` and `.vtt`, `to_jams`, `to_sonic_visualiser`,
                `to_audacity` and `to_webvtt`.
            dpi: Resolution of a .png. At 100 dots per inch the picture is 1000 pixels wide.
            **drawing: `cmap`, `figsize` and `spectrogram`, as for `plot`.

        Returns:
            The path.

        Raises:
            ModelError: If the path has another suffix, or the audio of a page is unknown.
            AudioError, AudioNotFoundError: If the audio of a page or spectrogram cannot be read.

        Example:
            >>> heatmap.save("heatmap.pdf", spectrogram=True)
        """
        target = check_suffix(path)
        suffix = target.suffix.lower()
        if drawing and suffix not in PICTURES:
            raise ModelError(f"expected {', '.join(drawing)} with {', '.join(PICTURES)}. Received: {str(target)!r}.")
        if suffix in PICTURES:
            picture = figure_bytes(self.plot(**drawing).figure, suffix[1:], dpi)  # type: ignore[arg-type]
            with replacing(target) as temporary:
                temporary.write_bytes(picture)
        elif suffix == ".html":
            from keras_tagger.views.player import page

            document = self.clip_document()
            write_text(target, page([document], document["name"]))
        elif suffix == ".json":
            write_json(target, self.to_dict())
        elif suffix != ".npz":
            write_text(target, self._interchange(suffix))
        else:
            names = ("values", "tags", "times", "method", "frequencies", "scores", "margins", "uniform")
            fields = {name: np.asarray(value) for name in names if (value := getattr(self, name)) is not None}
            with replacing(target) as temporary:
                np.savez_compressed(temporary, **fields)
        return target

    def clip_document(self, name: str = "") -> dict[str, Any]:
        """Describe the map and its audio for the player (docs/player.md), as plain JSON.

        Args:
            name: The title; by default, the name of the audio file and where the map begins.

        Raises:
            ModelError: If the map's audio is unknown.
            AudioError, AudioNotFoundError: If the audio can no longer be read.

        Example:
            >>> document = heatmap.clip_document()
            >>> keras_tagger.views.player.page([document], "song.mp3")
        """
        from keras_tagger.views.player import clip_document

        waveform, start = self._heard()
        bands = self._bands()
        tags: list[dict[str, Any]] = []
        for row, tag in enumerate(self.tags if self.scores is not None else ()):
            tags.append({"name": tag, "score": float(np.asarray(self.scores)[row])})
            if self.margins is not None:
                margin = float(self.margins[row])
                tags[-1] |= {"heard": not np.isnan(margin), "present": margin >= 0}
        picture, times, hz = spectrogram(waveform, PLAYED_RATE, bands)
        return clip_document(
            name or clip_name(self.audio, start),
            waveform,
            PLAYED_RATE,
            token_seconds=column_seconds(self.times),
            tags=tags,
            maps=[self.player_map(start)],
            spectrogram=(picture.T, hz, column_seconds(times)),
            warnings=[str(warning) for warning in self.warnings],
        )

    def player_map(self, start_seconds: float = 0.0, bands: npt.NDArray[Any] | None = None) -> dict[str, Any]:
        """Describe the map alone for the player (docs/player.md).

        Args:
            start_seconds: Where the player's audio begins.
            bands: Centres of the bands of the spectrogram below a map over frequency, in Hz; fine ones by default.

        Example:
            >>> clip_document("song", waveform, 16000, token_seconds=0.128, maps=[heatmap.player_map()])
        """
        from keras_tagger.explain.methods import METHODS
        from keras_tagger.views.player import image_map, regular_columns, rows_map

        edges, step = self._edges(), column_seconds(self.times)
        first = float(edges[0]) - start_seconds
        about = METHODS[self.method].summary if self.method in METHODS else ""
        about = f"{about[:1].upper()}{about[1:]}." if about else ""
        values, name, high = self.values, self.method.replace("_", " "), None
        if self.uniform is not None:
            values, name, high = values / self.uniform[:, np.newaxis], f"{name} / uniform", 8.0
        if self.frequencies is not None:
            bands = self._bands() if bands is None else bands
            values = values[:, np.abs(self.frequencies - bands[:, np.newaxis]).argmin(axis=1)]
        values = regular_columns(values, edges, step)
        if self.frequencies is None:
            return rows_map(self.method, self.tags, values, about, method=name, seconds=step, first=first, high=high)
        frames = np.swapaxes(values, 1, 2)
        return image_map(self.method, self.tags, frames, about, method=name, seconds=step, first=first)

    def _edges(self) -> npt.NDArray[Any]:
        """Return where the columns begin and end; the last window of a taggram may be shorter than the others."""
        edges = column_edges(self.times)
        if self.method == "taggram" and len(edges) > 3:
            edges[-2] = self.times[-2] + (self.times[1] - self.times[0]) / 2
            edges[-1] = 2 * self.times[-1] - edges[-2]
        return edges

    def _bands(self) -> npt.NDArray[Any]:
        """Return the bands of the spectrogram that is shown with the map."""
        if self.frequencies is not None and len(self.frequencies) >= _FINE_BANDS:
            return self.frequencies
        return mel_centres(PLAYED_RATE / 2)

    def _spectrogram(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """Return the spectrogram of the map's audio: values `[F, T]`, times and frequencies."""
        waveform, start = self._heard()
        values, times, bands = spectrogram(waveform, PLAYED_RATE)
        return values, times + start, bands

    def _heard(self) -> tuple[Waveform, float]:
        return heard(self.audio, self.times)

    def labels(self, limit: int = 32) -> list[str]:
        """Return the rows' names for a picture, cut to `limit` characters and followed by the score if there is one.

        Example:
            >>> heatmap.top(2).labels()
            ['rock  0.90', 'guitar  0.30']
        """
        names = [shorten(tag, limit) for tag in self.tags]
        if self.scores is None:
            return names
        return [f"{name}  {score:.2f}" for name, score in zip(names, np.asarray(self.scores), strict=True)]

    def __repr__(self) -> str:
        return f"Heatmap({self._summary()})"

    def _summary(self) -> str:
        bands = "" if self.frequencies is None else f"{counted(len(self.frequencies), 'band')}, "
        return (
            f"{self.method}: {counted(len(self.tags), 'row')}, {bands}{counted(len(self.times), 'column')}, "
            f"{self.times[0]:.2f} to {self.times[-1]:.2f} s"
        )

    def _repr_html_(self) -> str:
        return notebook_player(self) or self._picture()

    def _picture(self) -> str:
        png = data_uri("image/png", figure_bytes(self.plot().figure))  # type: ignore[arg-type]
        return f'<img src="{png}" alt="{html.escape(self._summary())}">'


def check_suffix(path: str | os.PathLike[str]) -> Path:
    """Return the path; raise `ModelError` if `Heatmap.save` does not know its suffix."""
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise ModelError(
            f"expected a path that ends in {', '.join(SUFFIXES)} for a heat map. Received: {str(target)!r}."
        )
    return target


def heard(audio: AudioSource | None, times: npt.NDArray[Any]) -> tuple[Waveform, float]:
    """Read the part of the audio that a map covers.

    Args:
        audio: The map's audio.
        times: The centres of its columns in seconds.

    Returns:
        float32 `[samples]` at `PLAYED_RATE`, and where it begins in seconds.

    Raises:
        ModelError: If the audio is unknown.
        AudioError, AudioNotFoundError: If it can no longer be read.
    """
    if audio is None:
        raise ModelError("expected a map that knows its audio, such as those of Tagger. Received: one without audio.")
    edges = column_edges(times)
    start = max(float(edges[0]), 0.0)
    # What a listener must know about the audio is in the map's `warnings`.
    return audio_module.load(audio, PLAYED_RATE, start, float(edges[-1]), warnings=[]), start


class Playable(Protocol):
    """What the player can show: a map that may know its audio."""

    @property
    def audio(self) -> AudioSource | None:
        """The audio, or None."""

    @property
    def times(self) -> npt.NDArray[Any]:
        """The centres of its columns in seconds."""

    def clip_document(self) -> dict[str, Any]:
        """Describe the map and its audio for the player."""


def notebook_player(value: Playable) -> str:
    """Return the player of a map for a notebook, or "" if its audio is unknown, gone or too long."""
    from keras_tagger.views.player import fragment

    times = value.times
    if value.audio is None or times[-1] - times[0] > _PLAYED_SECONDS:
        return ""
    try:
        return fragment(value.clip_document())
    except (AudioError, AudioNotFoundError):
        return ""


def clip_name(audio: AudioSource | None, start_seconds: float) -> str:
    """Return the title of a clip: the file's name, and where in it the clip begins."""
    name = printable(Path(audio).name) if isinstance(audio, str | os.PathLike) else "clip"
    return f"{name}, from {start_seconds:.1f} s" if start_seconds else name


def column_seconds(centres: npt.NDArray[Any]) -> float:
    """Return the usual length of a column in seconds."""
    return float(np.median(np.diff(column_edges(centres))))


def centres(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return the centres of columns or bands as float64; raise `ModelError` unless they are finite and increase."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all() or (np.diff(array) <= 0).any():
        received = f"shape {array.shape}" if array.ndim != 1 or not array.size else f"{array[:8].tolist()}"
        raise ModelError(f"expected heat map {name} as one row of finite, increasing numbers. Received: {received}.")
    return array


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, such as "1 layer" or "2 layers"."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _json_list(array: npt.NDArray[Any]) -> list[Any]:
    plain = array.astype(object)
    plain[~np.isfinite(array)] = None
    return plain.tolist()


def __getattr__(name: str) -> Any:
    if name in ("Attention", "AttentionWindow"):
        warnings.warn(
            f"keras_tagger.heatmap.{name} is deprecated; use keras_tagger.attention.{name}.",
            DeprecationWarning,
            stacklevel=2,
        )
        # By name, because that module imports this one.
        return getattr(importlib.import_module("keras_tagger.attention"), name)
    raise AttributeError(f"module 'keras_tagger.heatmap' has no attribute {name!r}")
