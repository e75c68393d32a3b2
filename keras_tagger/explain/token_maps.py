"""Maps over tokens that need no gradients: attention, rollout, contributions, and a random map to compare with."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.attention import Attention, AttentionWindow
from keras_tagger.explain.maps import Maps, of_tokens

if TYPE_CHECKING:
    from keras_tagger.models.music_tagger import MusicTagger


def attention(
    model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], *, layer: int, head: int | None
) -> Maps:
    """Show where [CLS] attends to (Won, Chun, Serra 2019, attention heat map); the same for every tag.

    As in `Attention.heatmap`: in the last layer the row of the [CLS] query, in the others the sum over all queries.
    """
    weights, scores = _analyzed(model, waveforms, rows, "attention")
    maps = [
        Attention((AttentionWindow(0.0, found, found.shape[-1] - 1),), model.hop_seconds).heatmap(layer, head)
        for found in weights
    ]
    values = np.stack([found.values[0] for found in maps])
    uniform = float(np.asarray(maps[0].uniform).flat[0])
    return replace(of_tokens(model, _for_every(rows, values), scores), uniform=uniform)


def rollout(model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int]) -> Maps:
    """Multiply attention through the layers (attention rollout, Abnar and Zuidema 2020, equation 1).

    Each layer's attention is averaged over heads and mixed half and half with the identity, which stands for the
    residual connection. The map is the row of [CLS] in the product, the same for every tag.
    """
    weights, scores = _analyzed(model, waveforms, rows, "attention")
    weights = weights.mean(axis=2)
    identity = np.eye(weights.shape[-1], dtype=np.float32)
    joint = np.broadcast_to(identity, weights[:, 0].shape)
    for layer in range(weights.shape[1]):
        joint = 0.5 * (weights[:, layer] + identity) @ joint
    return of_tokens(model, _for_every(rows, joint[:, 0, 1:]), scores)


def contributions(model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int]) -> Maps:
    """Compute each tag's probability if the last layer attended to one token only (Won et al. 2019, section 3.2)."""
    found, scores = _analyzed(model, waveforms, rows, "contributions")
    return of_tokens(model, found[:, rows], scores)


def short_contributions(
    model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], *, context_seconds: float
) -> Maps:
    """Compute contributions from short contexts: the evidence of a moment if the model hears little else.

    By the last layer, a token of a long window has attended to all others, so that its contribution also reflects its
    surroundings. Here the window is cut into contexts of `context_seconds` that overlap by half, and each goes through
    the model alone. A token's value is the mean of its logits over the contexts that contain it, as a probability.
    """
    return of_tokens(model, _expit(_in_contexts(model, waveforms, rows, context_seconds)))


def two_scale_contributions(
    model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], *, context_seconds: float
) -> Maps:
    """Average the logits of the window's score, its contributions and the short contributions.

    The whole window is better at whether a tag is present, which matters between windows; short contexts are better at
    when. The mean is given as a probability.
    """
    window, scores = _analyzed(model, waveforms, rows, "contributions")
    short = _in_contexts(model, waveforms, rows, context_seconds)
    logits = (_logit(scores)[..., np.newaxis] + _logit(window[:, rows]) + short) / 3
    return of_tokens(model, _expit(logits), scores)


def random(model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], *, seed: int) -> Maps:
    """Draw a number in 0..1 for each token, reproducibly for the same audio, tag and seed."""
    tokens = model.n_tokens(waveforms.shape[1])
    values = [
        [np.random.default_rng([seed, zlib.crc32(wave.tobytes()), row]).random(tokens) for row in rows]
        for wave in waveforms
    ]
    return of_tokens(model, np.array(values))


def _analyzed(
    model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], output: str
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return an output of the model, and the probabilities of the rows from the same pass."""
    found = model.analyze(waveforms, ("tags", output))
    return np.asarray(found[output]), np.asarray(found["tags"])[:, rows]


def _for_every(rows: list[int], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Repeat a map [B, T] for every row, [B, n_rows, T]."""
    return np.repeat(values[:, np.newaxis], len(rows), axis=1)


def _in_contexts(model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], seconds: float) -> npt.NDArray[Any]:
    """Return the mean logits over the contexts that contain a token, float64 [B, n_rows, T]."""
    tokens, length = model.n_tokens(waveforms.shape[1]), model.token_samples
    size = min(max(round(seconds / model.hop_seconds), 1), tokens)
    starts = [*range(0, tokens - size, max(size // 2, 1)), tokens - size]
    total, count = np.zeros((len(waveforms), len(rows), tokens)), np.zeros(tokens)
    # All contexts of all windows are one batch: [B, contexts, samples].
    # The last one ends on the last sample.
    begins = [max(min(start * length, waveforms.shape[1] - size * length), 0) for start in starts]
    cut = np.stack([waveforms[:, begin : begin + size * length] for begin in begins], axis=1)
    found = np.asarray(model.analyze(cut.reshape(-1, cut.shape[2]), ("contributions",))["contributions"])[:, rows]
    values = _logit(found).reshape(len(waveforms), len(starts), len(rows), -1)
    for index, start in enumerate(starts):
        total[:, :, start : start + values.shape[3]] += values[:, index]
        count[start : start + values.shape[3]] += 1
    return total / count


def _logit(probability: npt.NDArray[Any]) -> npt.NDArray[Any]:
    inside = np.clip(probability.astype(np.float64), 1e-12, 1 - 1e-12)
    return np.log(inside / (1 - inside))


def _expit(logit: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return 1 / (1 + np.exp(-logit))
