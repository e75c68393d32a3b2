"""Maps over tokens that one forward pass gives: attention, attention rollout, contributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.explain.maps import Maps, of_tokens
from keras_tagger.heatmap import Attention, AttentionWindow
from keras_tagger.models.music_tagger import MusicTagger


def attention(
    model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], *, layer: int, head: int | None
) -> Maps:
    """Where [CLS] looks (Won, Chun, Serra 2019, attention heat map); the same for every tag.

    In the last layer the row of the [CLS] query, in the others the sum of each column over all queries, as
    `Attention.heatmap` has them.
    """
    weights = model.analyze(waveforms, ("attention",))["attention"].numpy()
    maps = [
        Attention((AttentionWindow(0.0, found, found.shape[-1] - 1),), model.hop_seconds).heatmap(layer, head).values[0]
        for found in weights
    ]
    return of_tokens(model, np.repeat(np.stack(maps)[:, np.newaxis], len(rows), axis=1))


def rollout(model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int]) -> Maps:
    """Attention rollout (Abnar and Zuidema 2020, equation 1): [CLS]'s row of the product of the layers' attention.

    Each layer's attention is averaged over heads and mixed half and half with the identity, which stands for the
    residual. The same for every tag.
    """
    weights = model.analyze(waveforms, ("attention",))["attention"].numpy().mean(axis=2)
    joint = np.broadcast_to(np.eye(weights.shape[-1], dtype=np.float32), weights[:, 0].shape)
    for layer in range(weights.shape[1]):
        joint = 0.5 * (weights[:, layer] + np.eye(weights.shape[-1], dtype=np.float32)) @ joint
    return of_tokens(model, np.repeat(joint[:, np.newaxis, 0, 1:], len(rows), axis=1))


def contributions(model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int]) -> Maps:
    """Each tag's probability if the last layer attended to that token only (Won et al. 2019, section 3.2)."""
    return of_tokens(model, model.analyze(waveforms, ("contributions",))["contributions"].numpy()[:, rows])


def short_contributions(
    model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], *, context_seconds: float
) -> Maps:
    """Contributions from short contexts: what a moment says for a tag when the model hears little else.

    A token of a long window has seen all the others by the last layer, so its contribution tells of its surroundings
    too. Here the window is cut into contexts of `context_seconds` that overlap by half, each goes through the model by
    itself, and a token's value is the mean of its logits over the contexts that hold it, as a probability.
    """
    return of_tokens(model, _expit(_in_contexts(model, waveforms, rows, context_seconds)))


def two_scale_contributions(
    model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], *, context_seconds: float
) -> Maps:
    """What the window's score, its contributions and those of short contexts say together: the mean of their logits.

    The whole window knows better whether a tag is there, which counts between windows, the short contexts know better
    when. As a probability.
    """
    found = model.analyze(waveforms, ("tags", "contributions"))
    score, window = (found[name].numpy()[:, rows] for name in ("tags", "contributions"))
    short = _in_contexts(model, waveforms, rows, context_seconds)
    return of_tokens(model, _expit((_logit(score)[..., np.newaxis] + _logit(window) + short) / 3))


def _in_contexts(model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], seconds: float) -> npt.NDArray[Any]:
    """Mean logits over the contexts that hold a token, float64 [B, n_rows, T]."""
    tokens, length = model.n_tokens(waveforms.shape[1]), model.token_samples
    size = min(max(round(seconds / model.hop_seconds), 1), tokens)
    starts = [*range(0, tokens - size, max(size // 2, 1)), tokens - size]
    padded = np.pad(waveforms, ((0, 0), (0, max(tokens * length - waveforms.shape[1], 0))))
    total, count = np.zeros((len(waveforms), len(rows), tokens)), np.zeros(tokens)
    # All contexts of all windows are one batch: [B, contexts, samples].
    cut = np.stack([padded[:, start * length : (start + size) * length] for start in starts], axis=1)
    found = model.analyze(cut.reshape(-1, size * length), ("contributions",))["contributions"].numpy()[:, rows]
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
