"""From files to rows of a catalogue: the one function that all engines share."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_tagger.audio import AudioSource, Window, blocks, info
from keras_tagger.audio.decode import seeks
from keras_tagger.audio.streams import audio_error
from keras_tagger.audio.windows import Stitcher, WindowMean, accumulate_clips
from keras_tagger.catalog.entries import Entry, check_readable, opened
from keras_tagger.errors import AudioError, AudioNotFoundError, AudioWarning, CatalogError
from keras_tagger.files import printable
from keras_tagger.library.journal import sha256
from keras_tagger.tags import make_tags

if TYPE_CHECKING:
    from keras_tagger.tagger import Tagger

Row: TypeAlias = dict[str, Any]
"""What is known about a file, by the names of `keras_tagger.catalog.store.packed_schema`; `error` instead, if it cannot
be read."""


@dataclass(frozen=True)
class Options:
    """What is computed of each file.

    Attributes:
        seconds: How much of a file is listened to, in seconds; None for all. The middle, unless `spread`.
        spread: Whether the sample is windows of the model that are spread evenly over the file.
        taggram: Whether rows have the taggram, which takes a second pass over the audio.
        top_contributions: Number of the best tags for which rows have the moment that contributes most.
        sha256: Whether rows have the SHA-256 of the file.

    Raises:
        CatalogError: If a number is out of range, or `spread` is given without `seconds`.
    """

    seconds: float | None = None
    spread: bool = False
    taggram: bool = False
    top_contributions: int = 0
    sha256: bool = False

    def __post_init__(self) -> None:
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise CatalogError(f"seconds: expected a time above 0. Received: {self.seconds!r}.")
        if self.spread and self.seconds is None:
            raise CatalogError("spread: expected seconds, the length of what is spread. Received: none.")
        if self.top_contributions < 0:
            raise CatalogError(f"top_contributions: expected 0 or more. Received: {self.top_contributions!r}.")


class Describer:
    """Describes files by a model: scores, embedding, length and warnings of each.

    Args:
        model: A pretrained name, a run directory, a `.keras` file, or a loaded `Tagger`.
        options: What is computed.
        provenance: Columns that every row gets, such as the name of the model.

    Raises:
        ModelNotFoundError: If there is no such model.
        ModelError: If the model cannot be loaded.

    Example:
        >>> describer = Describer("compact")
        >>> for row in describer.rows([Entry("song.mp3")]):
        ...     print(row["seconds"], row["present"])
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Tagger,
        options: Options | None = None,
        provenance: dict[str, str] | None = None,
    ) -> None:
        if isinstance(model, str | os.PathLike):
            from keras_tagger.tagger import load

            model = load(model)
        self.tagger = model
        self.options = options or Options()
        self._provenance = provenance or {}
        self._outputs = ("tags", "embedding", *(["contributions"] if self.options.top_contributions else []))

    def rows(
        self,
        entries: Iterable[Entry],
        read_ahead_windows: int = 8,
        excerpt: tuple[float, float] | None = None,
    ) -> Iterator[Row]:
        """Describe files, decoding the next ones in the background.

        Args:
            entries: The files, taken one after the other as they are needed.
            read_ahead_windows: Number of windows that a thread decodes in advance; 0 for no thread.
            excerpt: Begin and end, in seconds, of what is listened to, whatever the options say.

        Yields:
            A row per file, in order. A file that cannot be read has `error`, one sentence, and no scores.
        """
        found = accumulate_clips(self._clips(entries, excerpt), self._run, self._track, 1, read_ahead_windows)
        for clip, result in found:
            yield {**self._row(clip, result), **self._provenance}

    def _clips(
        self, entries: Iterable[Entry], excerpt: tuple[float, float] | None
    ) -> Iterator[tuple[_Clip, Iterator[Window]]]:
        for entry in entries:
            clip = _Clip(Entry(*entry))
            yield clip, self._windows(clip, excerpt)

    def _windows(self, clip: _Clip, excerpt: tuple[float, float] | None) -> Iterator[Window]:
        try:
            check_readable(clip.entry)
            source = opened(clip.entry.path)
            if self.options.sha256:
                clip.sha256 = _sha256(source)
            windowing = self.tagger.model.windowing
            excerpts = list(self._excerpts(clip, source)) if excerpt is None else [excerpt]
            if excerpts == [(0.0, None)]:
                yield from windowing.cut(source, warnings=clip.warnings)
            else:
                # The time in a file counts from its beginning, not from that of an excerpt.
                found: list[list[AudioWarning]] = []
                once: list[AudioWarning] = []
                parts: Iterable[tuple[AudioSource, float, float | None]] = [(source, *excerpt) for excerpt in excerpts]
                if len(excerpts) > 1 and not seeks(info(source)):
                    parts = _decoded_once(source, windowing.sample_rate, excerpts, once)
                for (start, _), part in zip(excerpts, parts, strict=True):
                    found.append([])
                    offset = round(start * windowing.sample_rate)
                    for window in windowing.cut(*part, found[-1]):
                        yield dataclasses.replace(window, start_sample=window.start_sample + offset)
                # The levels of what is between the excerpts are not heard.
                clip.warnings += [warning for warning in once if warning.kind in ("damaged", "cancelled")]
                clip.warnings += _of_all(found)
            if self.options.taggram:
                clip.taggram = self.tagger.taggram(source)
        except CatalogError as error:
            raise AudioError(str(error)) from None
        except (AudioError, AudioNotFoundError):
            raise
        except Exception as error:  # one file must not end the work on millions
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise audio_error("a file that can be read", f"{clip.entry.path!r} ({reason})") from error

    def _excerpts(self, clip: _Clip, source: AudioSource) -> Iterator[tuple[float, float | None]]:
        seconds = self.options.seconds
        total = None if seconds is None else info(source).seconds
        clip.seconds = total
        if seconds is None or total is None or total <= seconds:
            yield 0.0, None
        elif not self.options.spread:
            yield (total - seconds) / 2, (total + seconds) / 2
        else:
            windowing = self.tagger.model.windowing
            length = windowing.window_samples / windowing.sample_rate
            count = max(round(seconds / length), 1)
            for index in range(count):
                start = max((index + 0.5) * total / count - length / 2, 0.0)
                yield start, start + length

    def _run(self, waveforms: npt.NDArray[Any]) -> Iterator[dict[str, npt.NDArray[Any]]]:
        outputs = {name: value.numpy() for name, value in self.tagger.model.analyze(waveforms, self._outputs).items()}
        for index in range(len(waveforms)):
            yield {name: value[index] for name, value in outputs.items()}

    def _track(self) -> _Track:
        return _Track(Stitcher(self.tagger.model.windowing) if self.options.top_contributions else None)

    def _row(self, clip: _Clip, result: _Track | AudioError | AudioNotFoundError) -> Row:
        row: Row = {"path": clip.entry.path, "size": clip.entry.size, "mtime_ns": clip.entry.mtime_ns}
        if clip.sha256:
            row["sha256"] = clip.sha256
        if not isinstance(result, _Track):
            return {**row, "error": printable(str(result))}
        heard = result.tags.samples / self.tagger.model.windowing.sample_rate
        names = self.tagger.tags
        best = make_tags(names, result.tags.value, self.tagger.info, None, False, clip.warnings, "margin")
        scores = best.to_dict()
        row |= {
            "seconds": heard if clip.seconds is None else clip.seconds,
            "heard_seconds": heard,
            "scores": np.array([scores[name] for name in names], np.float16),
            "present": [entry.name for entry in best if entry.present and entry.heard is not False],
            "embedding": result.embedding.value.astype(np.float16),
            "warnings": [{"kind": warning.kind, "message": printable(str(warning))} for warning in clip.warnings],
        }
        if result.contributions is not None:
            times, values = result.contributions.times, result.contributions.values
            row["contributions"] = []
            for entry in best[: self.options.top_contributions]:
                curve = values[names.index(entry.name)]
                place = int(np.argmax(curve))
                moment = {"tag": entry.name, "seconds": float(times[place]), "value": float(curve[place])}
                row["contributions"].append(moment)
        if clip.taggram is not None:
            row["taggram"] = clip.taggram.values.T.astype(np.float16)
            row["taggram_times"] = clip.taggram.times.astype(np.float32)
        return row


@dataclass
class _Clip:
    """A file on its way, and what is found beside the model's outputs."""

    entry: Entry
    warnings: list[AudioWarning] = dataclasses.field(default_factory=list)
    seconds: float | None = None
    sha256: str = ""
    taggram: Any = None


class _Track:
    """Accumulates the outputs of a file's windows."""

    def __init__(self, contributions: Stitcher | None) -> None:
        self.tags, self.embedding, self.contributions = WindowMean(), WindowMean(), contributions

    def add(self, window: Window, value: dict[str, npt.NDArray[Any]], /) -> None:
        self.tags.add(window, value["tags"])
        self.embedding.add(window, value["embedding"])
        if self.contributions is not None:
            # Nothing in a silent window speaks for a tag.
            self.contributions.add(window, value["contributions"] * np.any(value["tags"]))


def _decoded_once(
    source: AudioSource, rate: int, excerpts: Sequence[tuple[float, float | None]], warnings: list[AudioWarning]
) -> Iterator[tuple[AudioSource, float, float | None]]:
    """Decode a file once, and yield the arguments of `Windowing.cut` for each excerpt; excerpts are in order of time.

    Args:
        source: The file.
        rate: The rate of the samples in Hz.
        excerpts: Begin and end of each, in seconds.
        warnings: A list for what a listener must know about the file.

    Yields:
        (float32 `[samples]`, rate), and 0.0 and None: the whole of it.
    """
    origin = round(excerpts[0][0] * rate)
    pieces = blocks(source, rate, 10.0, excerpts[0][0], excerpts[-1][1], warnings)
    # `held` begins at the sample `position`, counted from the first excerpt.
    held, position = np.zeros(0, np.float32), 0
    for start, end in excerpts:
        begin = round(start * rate) - origin
        stop = math.inf if end is None else round(end * rate) - origin
        while True:
            passed = min(max(begin - position, 0), len(held))
            held, position = held[passed:], position + passed
            if position + len(held) >= stop or (piece := next(pieces, None)) is None:
                break
            held = np.concatenate([held, piece])
        yield (held if end is None else held[: round(stop) - begin], rate), 0.0, None


def _of_all(found: list[list[AudioWarning]]) -> Iterator[AudioWarning]:
    """Yield the warnings of an excerpted file: a level counts only if all of its excerpts have it."""
    seen: set[str] = set()
    for warning in (warning for warnings in found for warning in warnings):
        everywhere = all(any(other.kind == warning.kind for other in warnings) for warnings in found)
        if warning.kind not in seen and (everywhere or warning.kind not in ("silent", "level")):
            seen.add(warning.kind)
            yield warning


def sha256_of(path: str) -> str:
    """Return the SHA-256 of an entry's file as hexadecimal digits; "" if it cannot be read."""
    try:
        return _sha256(opened(path))
    except (AudioError, AudioNotFoundError, CatalogError):
        return ""


def _sha256(source: AudioSource) -> str:
    if isinstance(source, io.BytesIO):
        return hashlib.sha256(source.getvalue()).hexdigest()
    try:
        return sha256(str(source))
    except OSError:  # decoding will say why
        return ""
