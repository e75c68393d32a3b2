"""Whether a map says what the model does: take away what it calls important, and look at the score.

Everything here is of one clip and one tag. A map is an array of any shape; `Perturbed` gives the model's score when
some of its cells are replaced. Curves, areas and the other measures are numpy; only `Perturbed` knows the model.
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

# Scores of masked inputs: bool [n, *shape of the map], True where a cell is replaced -> float [n].
Score = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
STEPS = 20


@dataclass(frozen=True, eq=False)
class Curve:
    """A score while cells are replaced or put back, from most to least important.

    Attributes:
        shares: float64 [steps + 1], share of the cells that are changed, 0 to 1.
        scores: float64 [steps + 1].
    """

    shares: npt.NDArray[Any]
    scores: npt.NDArray[Any]

    @property
    def area(self) -> float:
        """Area under the curve, by trapezoids: the mean score on the way."""
        widths = np.diff(self.shares)
        return float(np.sum(widths * (self.scores[1:] + self.scores[:-1]) / 2))


def deletion(values: npt.NDArray[Any], score: Score, steps: int = STEPS) -> Curve:
    """The score while the most important cells are replaced (Petsiuk et al. 2018); a small area is good.

    Args:
        values: the map.
        score: of masked inputs.
        steps: in how many equal parts the cells are replaced. Cells of equal value go by their place.
    """
    return _curve(values, score, steps, insert=False)


def insertion(values: npt.NDArray[Any], score: Score, steps: int = STEPS) -> Curve:
    """The score while the most important cells are put back into an input of nothing; a large area is good."""
    return _curve(values, score, steps, insert=True)


def faithfulness_on_removal(values: npt.NDArray[Any], score: Score, parts: int = STEPS) -> float:
    """Correlation of what parts of the map add up to with the drop of the score when each part alone is removed.

    Pearson's, -1..1 (faithfulness of Alvarez-Melis and Jaakkola 2018, by groups of cells): cells are ordered by value
    and cut into `parts` groups of one size. 0 where either does not vary.
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
    """Means over clips of what happens when only the explained part is left (0..1 each).

    Attributes:
        drop: how much of the score is lost, relative to it, where it falls (Chattopadhay et al. 2018); small is good.
        increase: the share of clips whose score rises; large is good.
        gain: how much of the way to 1 the score rises, where it does (Zhang et al. 2023); large is good.
    """

    drop: float
    increase: float
    gain: float


def averages(scores: Sequence[float], explained: Sequence[float]) -> Averages:
    """Average drop, increase and gain.

    Args:
        scores: probabilities of the whole clips.
        explained: probabilities of the clips with only the explained part left.

    Raises:
        ModelError: no clips, or not as many of one as of the other, or values outside 0..1.
    """
    whole, part = np.asarray(scores, np.float64), np.asarray(explained, np.float64)
    if whole.ndim != 1 or whole.shape != part.shape or not whole.size:
        raise ModelError(f"expected a score with and without for each clip. Received: {whole.shape} and {part.shape}.")
    if not all(((values >= 0) & (values <= 1)).all() for values in (whole, part)):
        raise ModelError("expected scores in 0..1. Received: others.")
    drop = np.maximum(whole - part, 0) / np.where(whole > 0, whole, 1)
    gain = np.maximum(part - whole, 0) / np.where(whole < 1, 1 - whole, 1)
    return Averages(float(drop.mean()), float((part > whole).mean()), float(gain.mean()))


def sparseness(values: npt.NDArray[Any]) -> float:
    """Gini index of the magnitudes (Chalasani et al. 2020): 0 for a constant map, 1 - 1/n for a single cell."""
    sizes = np.sort(np.abs(np.asarray(values, np.float64)), axis=None)
    n = sizes.size
    if not sizes.any():
        return 0.0
    return float(2 * np.sum(np.arange(1, n + 1) * sizes) / (n * sizes.sum()) - (n + 1) / n)


def complexity(values: npt.NDArray[Any]) -> float:
    """Entropy of the magnitudes' shares in nats (Bhatt et al. 2020): 0 for a single cell, log(n) for a constant map."""
    sizes = np.abs(np.asarray(values, np.float64)).reshape(-1)
    if not sizes.any():
        return float(np.log(sizes.size))
    shares = sizes[sizes > 0] / sizes.sum()
    return float(-np.sum(shares * np.log(shares)))


def rank_correlation(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Spearman's of two maps of one shape, -1..1; 0 where one is constant."""
    return _correlation(ranks(one), ranks(other))


class Perturbed:
    """A window of audio whose spectrogram loses cells: the score of a tag as a function of a mask.

    A mask has the shape of a map: [T] (all bands of a moment) or [F, T'], of any grid over the window's frames and
    bands, which are read off by what each cell covers.

    Args:
        model: the tagger's model; one with a spectrogram.
        waveform: float32 [samples].
        row: the tag's number.
        fill: what cells are replaced by: "mean" (each band's mean over the window), "silence", or a number.

    Raises:
        ModelError: a model that hears the raw waveform.
    """

    def __init__(self, model: MusicTagger, waveform: npt.NDArray[Any], row: int, fill: str | float = "mean") -> None:
        from keras_tagger.explain.inputs import filling, front_end_input

        found = front_end_input(model, waveform[np.newaxis])
        if found.ndim != 3:
            raise ModelError("expected a model with a spectrogram. Received: one that hears the raw waveform.")
        self._model, self._row = model, row
        self._spectrogram = found[0]
        self._fill = filling(model, found, fill)[0]

    def __call__(self, masks: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Probability of the tag for each mask, float32 [n]."""
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
    """How alike maps stay while the model's parts lose their weights, from the tags downwards (Adebayo et al. 2018).

    A method whose maps stay alike explains the input and not the model.

    Args:
        model: left as it is; a copy is randomised.
        maps: a model to maps, the same ones for every model.
        seed: of the random weights.

    Returns:
        Part (head, each block of the encoder from the last, front-end; each with all before it) to the mean Spearman
        correlation with the maps of the trained model.
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
            # The values of a trained weight in another order keep their distribution.
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
