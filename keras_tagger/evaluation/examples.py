"""The worst mistakes of a model: clips with their audio, and where it speaks for the tag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger import audio
from keras_tagger.data.prepared import Prepared
from keras_tagger.errors import AudioError, AudioNotFoundError
from keras_tagger.progress import progress_bar

if TYPE_CHECKING:
    from keras_tagger.data.manifest import Manifest
    from keras_tagger.evaluation.clip_scores import ClipScores
    from keras_tagger.tagger import Tagger

EXCERPT_SECONDS = 8.0
FALSE_POSITIVE, FALSE_NEGATIVE = "false positive", "false negative"


@dataclass(frozen=True, eq=False)
class Example:
    """A clip that a model tags wrongly.

    Attributes:
        tag: The tag.
        kind: "false positive" or "false negative".
        clip: Name of the clip.
        score: The clip's score of the tag.
        threshold: The score from which the tag counts as present.
        document: An excerpt of the clip for the player, with the tag's contributions.
    """

    tag: str
    kind: str
    clip: str
    score: float
    threshold: float
    document: Mapping[str, Any]


def worst_clips(scores: ClipScores, thresholds: Mapping[str, float], n: int) -> list[tuple[int, str, str]]:
    """Find the n worst false positives and false negatives of each tag.

    Args:
        scores: Labels and scores.
        thresholds: The score from which a tag counts as present, by tag.
        n: How many of each kind.

    Returns:
        The clip's row, the tag and the kind, tag by tag, the worst ones first.
    """
    found: list[tuple[int, str, str]] = []
    for column, tag in enumerate(scores.tags):
        labels, values = scores.labels[:, column], scores.scores[:, column]
        called = values >= thresholds[tag]
        # An unknown label is neither.
        wrong = {
            FALSE_POSITIVE: (np.flatnonzero((labels <= scores.positive) & called), -values),
            FALSE_NEGATIVE: (np.flatnonzero((labels > scores.positive) & ~called), values),
        }
        for kind, (rows, order) in wrong.items():
            found += [(int(row), tag, kind) for row in rows[np.argsort(order[rows], kind="stable")][:n]]
    return found


def find_examples(
    tagger: Tagger,
    data: Manifest | Prepared,
    clips: Sequence[Any],
    scores: ClipScores,
    n: int,
    progress: bool = True,
) -> tuple[Example, ...]:
    """Make players of the n worst false positives and false negatives of each tag.

    Each shows the 8 seconds that speak most for the tag. A clip that can no longer be read is left out.

    Args:
        tagger: The model.
        data: Where the clips are from.
        clips: The clips, in the order of `scores`.
        scores: Labels and scores.
        n: How many of each kind and tag.
        progress: Whether to show a progress bar.
    """
    thresholds = {tag: tagger.info[tag].threshold for tag in scores.tags}
    wanted = worst_clips(scores, thresholds, n)
    by_row: dict[int, list[str]] = {}
    for row, tag, _ in wanted:
        by_row.setdefault(row, []).append(tag)
    rate = tagger.model.audio_config.sample_rate
    documents = {}
    with progress_bar(total=len(by_row), desc="examples", unit="clip", hidden=not progress, leave=False) as bar:
        for row, waveform in _waveforms(data, clips, by_row, rate):
            heat = replace(tagger.contributions((waveform, rate), by_row[row]), audio=(waveform, rate))
            for tag in by_row[row]:
                of_tag = replace(
                    heat,
                    values=heat.row(tag)[np.newaxis],
                    tags=(tag,),
                    scores={tag: float(scores.scores[row, scores.tags.index(tag)])},
                    margins=None,
                )
                start = _strongest(heat.row(tag), heat.times)
                excerpt = of_tag.crop(start, start + EXCERPT_SECONDS)
                documents[row, tag] = excerpt.clip_document(_title(scores.clips[row], start, len(waveform) / rate))
            bar.update()
    return tuple(
        Example(
            tag,
            kind,
            scores.clips[row],
            float(scores.scores[row, scores.tags.index(tag)]),
            thresholds[tag],
            documents[row, tag],
        )
        for row, tag, kind in wanted
        if (row, tag) in documents
    )


def _waveforms(
    data: Manifest | Prepared, clips: Sequence[Any], rows: Mapping[int, Any], rate: int
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield the audio of the clips of some rows."""
    if isinstance(data, Prepared):
        places = {clips[row].index: row for row in rows}
        for split in dict.fromkeys(clips[row].split for row in rows):
            for clip, waveform in data.iter_clips(split):
                if clip.index in places:
                    yield places[clip.index], waveform
        return
    for row in rows:
        clip = clips[row]
        try:
            yield row, audio.load(clip.path, rate, clip.start_seconds, clip.end_seconds, warnings=[])
        except (AudioError, AudioNotFoundError):
            continue


def _strongest(values: npt.NDArray[Any], times: npt.NDArray[Any]) -> float:
    """Return where the excerpt with the highest mean begins, in seconds."""
    hop = float(np.median(np.diff(times))) if len(times) > 1 else EXCERPT_SECONDS
    size = min(max(round(EXCERPT_SECONDS / hop), 1), len(values))
    means = np.convolve(values, np.ones(size) / size, mode="valid")
    return max(float(times[int(means.argmax())]) - hop / 2, 0.0)


def _title(clip: str, start: float, seconds: float) -> str:
    name = clip.replace("\\", "/").rsplit("/", 1)[-1]
    if seconds <= EXCERPT_SECONDS:
        return name
    return f"{name}, {start:.1f} to {min(start + EXCERPT_SECONDS, seconds):.1f} s"
