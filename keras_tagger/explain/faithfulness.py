"""Measure whether a map is faithful to the model: replace the cells that it marks as important, and score the rest.

All measures are for one clip and one tag. A map is an array of any shape; `Perturbed` computes the model's score with
some of its cells replaced. Only `Perturbed` and `cascading_randomisation` use a model; the rest is numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ModelError
from keras_tagger.explain.localization import ranks

if TYPE_CHECKING:
    from keras_tagger.models.music_tagger import MusicTagger

# Scores masked inputs: bool [n, *shape of the map], True if a cell is replaced -> float [n].
Score = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
STEPS = 20


@dataclass(frozen=True, eq=False)
class Curve:
    """A score as cells are removed or inserted, from most to least important.

    Attributes:
        shares: Share of the cells changed so far, 0 to 1, float64 `[steps + 1]`.
        scores: The score at each share, float64 `[steps + 1]`.
    """

    shares: npt.NDArray[Any]
    scores: npt.NDArray[Any]

    @property
    def area(self) -> float:
        """Area under the curve by the trapezoidal rule."""
        widths = np.diff(self.shares)
        return float(np.sum(widths * (self.scores[1:] + self.scores[:-1]) / 2))


def deletion(values: npt.NDArray[Any], score: Score, steps: int = STEPS) -> Curve:
    """Measure the score as the most important cells are replaced (Petsiuk et al. 2018); a small area is good.

    Args:
        values: The map.
        score: Scores masked inputs.
        steps: Number of equal parts in which the cells are replaced. Cells of equal value are ordered by position.
    """
    return _curve(values, score, steps, insert=False)


def insertion(values: npt.NDArray[Any], score: Score, steps: int = STEPS) -> Curve:
    """Measure the score as the most important cells are inserted into a neutral input; a large area is good."""
    return _curve(values, score, steps, insert=True)


def faithfulness_on_removal(values: npt.NDArray[Any], score: Score, parts: int = STEPS) -> float:
    """Correlate the sums of parts of a map with the drops of the score when each part alone is removed.

    The faithfulness of Alvarez-Melis and Jaakkola 2018 by groups of cells: cells are sorted by value and split into
    `parts` groups of equal size. Returns Pearson's correlation, -1..1, or 0 if one of the two is constant.
    """
    groups = np.array_split(np.argsort(values, axis=None, kind="stable"), min(parts, values.size))
    masks = np.zeros((len(groups) + 1, values.size), bool)
    for index, group in enumerate(groups):
        masks[index + 1, group] = True
    scores = score(masks.reshape(-1, *values.shape))
    sums = np.array([values.reshape(-1)[group].sum() for group in groups])
    return _correlation(sums, scores[0] - scores[1:])


@dataclass(frozen=True)
class Averages:
    """Means over clips of how the score changes when only the explained part is left, each in 0..1.

    Attributes:
        drop: Relative loss of the score, 0 for clips whose score rises (Chattopadhay et al. 2018); small is good.
        increase: Share of clips whose score rises; large is good.
        gain: Rise relative to the distance to 1, 0 for clips whose score falls (Zhang et al. 2023); large is good.
    """

    drop: float
    increase: float
    gain: float


def averages(scores: Sequence[float], explained: Sequence[float]) -> Averages:
    """Compute the average drop, increase and gain.

    Args:
        scores: Probabilities of the whole clips.
        explained: Probabilities of the clips with only the explained part left.

    Raises:
        ModelError: If there are no clips, the lengths differ, or a value is outside 0..1.
    """
    whole, part = np.asarray(scores, np.float64), np.asarray(explained, np.float64)
    if whole.ndim != 1 or whole.shape != part.shape or not whole.size:
        raise ModelError(f"expected two scores for each clip. Received: shapes {whole.shape} and {part.shape}.")
    if not all(((values >= 0) & (values <= 1)).all() for values in (whole, part)):
        raise ModelError("expected scores in 0..1. Received: a score outside.")
    drop = np.maximum(whole - part, 0) / np.where(whole > 0, whole, 1)
    gain = np.maximum(part - whole, 0) / np.where(whole < 1, 1 - whole, 1)
    return Averages(float(drop.mean()), float((part > whole).mean()), float(gain.mean()))


def sparseness(values: npt.NDArray[Any]) -> float:
    """Compute the Gini index of the magnitudes (Chalasani et al. 2020): 0 if constant, 1 - 1/n for a single cell."""
    sizes = np.sort(np.abs(np.asarray(values, np.float64)), axis=None)
    n = sizes.size
    if not sizes.any():
        return 0.0
    return float(2 * np.sum(np.arange(1, n + 1) * sizes) / (n * sizes.sum()) - (n + 1) / n)


def complexity(values: npt.NDArray[Any]) -> float:
    """Compute the entropy of the magnitudes in nats (Bhatt et al. 2020): 0 for a single cell, log(n) if constant."""
    sizes = np.abs(np.asarray(values, np.float64)).reshape(-1)
    if not sizes.any():
        return float(np.log(sizes.size))
    shares = sizes[sizes > 0] / sizes.sum()
    return float(-np.sum(shares * np.log(shares)))


def rank_correlation(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Compute Spearman's correlation of two maps of equal shape, -1..1; 0 if one is constant."""
    return _correlation(ranks(one), ranks(other))


class Perturbed:
    """The score of a tag as a function of a mask on the spectrogram of a window.

    A mask has the shape of a map, `[T]` (all bands of a moment) or `[F, T]`, on any grid: each cell covers an equal
    share of the window's frames and bands.

    Args:
        model: A model with a spectrogram.
        waveform: float32 `[samples]`.
        row: Index of the tag.
        fill: Replacement of masked cells: "mean" (the mean of each band over the window), "silence", or a number.

    Raises:
        ModelError: If the model takes the raw waveform.
    """

    def __init__(self, model: MusicTagger, waveform: npt.NDArray[Any], row: int, fill: str | float = "mean") -> None:
        from keras_tagger.explain.inputs import filling, front_end_input

        found = front_end_input(model, waveform[np.newaxis])
        if found.ndim != 3:
            raise ModelError("expected a model with a spectrogram. Received: a model that takes the raw waveform.")
        self._model, self._row = model, row
        self._spectrogram = found[0]
        self._fill = filling(model, found, fill)[0]

    def __call__(self, masks: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Compute the probability of the tag for each mask, float32 `[n]`."""
        from keras_tagger.explain.inputs import probabilities

        frames, bands = self._spectrogram.shape
        scores = []
        for mask in masks:
            grid = mask[np.newaxis] if mask.ndim == 1 else mask
            cell = grid[np.arange(bands) * len(grid) // bands][:, np.arange(frames) * grid.shape[1] // frames]
            scores.append(np.where(cell.T, self._fill, self._spectrogram))
        return probabilities(self._model, np.stack(scores))[:, self._row]


def cascading_randomisation(
    model: MusicTagger, maps: Callable[[MusicTagger], Iterable[npt.NDArray[Any]]], seed: int = 0
) -> dict[str, float]:
    """Measure how similar maps stay as the model's weights are randomised from the head down (Adebayo et al. 2018).

    If the maps of a method stay similar, it explains the input rather than the model.

    Args:
        model: The trained model, which stays unchanged; a copy is randomised.
        maps: Computes maps with a model.
        seed: Seed of the permutations.

    Returns:
        The mean Spearman correlation with the maps of the trained model, by part: head, each block of the encoder from
        the last, front-end. Each part is randomised in addition to those before it.
    """
    from keras_tagger.models.music_tagger import MusicTagger

    copy = MusicTagger(model.tags, model.audio_config, model.model_config, dtype=model.dtype_policy)
    copy.build()
    copy.set_weights(model.get_weights())
    rng = np.random.default_rng(seed)
    before = [np.asarray(found) for found in maps(model)]
    blocks = {f"block {index + 1}": block for index, block in reversed(list(enumerate(copy.encoder.blocks)))}
    found = {}
    parts: dict[str, Any] = {"head": copy.head, **blocks, "front-end": copy.front_end}
    for name, part in parts.items():
        for weight in part.trainable_weights:
            values = weight.numpy()
            # A permutation keeps the distribution of the trained values.
            weight.assign(rng.permutation(values.reshape(-1)).reshape(values.shape))
        after = list(maps(copy))
        found[name] = float(np.mean([rank_correlation(one, other) for one, other in zip(before, after, strict=True)]))
    return found


def _curve(values: npt.NDArray[Any], score: Score, steps: int, insert: bool) -> Curve:
    if steps < 1:
        raise ModelError(f"steps: expected at least 1. Received: {steps!r}.")
    order = np.argsort(-np.asarray(values), axis=None, kind="stable")
    counts = np.round(np.linspace(0, values.size, min(steps, values.size) + 1)).astype(int)
    masks = np.full((len(counts), values.size), insert)
    for mask, count in zip(masks, counts, strict=True):
        mask[order[:count]] = not insert
    scores = np.asarray(score(masks.reshape(-1, *values.shape)), np.float64)
    return Curve(counts / values.size, scores)


def _correlation(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    one, other = one - one.mean(), other - other.mean()
    size = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / size) if size > 0 else 0.0
