"""Maps over time and frequency from gradients with respect to what the front-end sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.explain import inputs
from keras_tagger.explain.maps import Maps, of_input
from keras_tagger.models.music_tagger import MusicTagger


def gradient_input(model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], *, baseline: str) -> Maps:
    """Gradient of a tag's logit times the input's difference to a baseline (Shrikumar et al. 2016).

    The first-order guess of what the logit would lose if a cell became the baseline's.
    """
    seen = inputs.front_end_input(model, waveforms)
    difference = seen - inputs.filling(model, seen, baseline)
    return of_input(model, np.stack([inputs.gradients(model, seen, row) * difference for row in rows], axis=1))


def integrated_gradients(
    model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], *, baseline: str, steps: int
) -> Maps:
    """Gradients along the straight line from a baseline to the input (Sundararajan, Taly, Yan 2017, equation 1).

    The integral is taken by Gauss and Legendre's rule. A map adds up to the difference of the tag's logits at input and
    baseline (completeness), as closely as the rule goes: `completeness` says how closely.
    """
    seen = inputs.front_end_input(model, waveforms)
    begin = inputs.filling(model, seen, baseline)
    difference = seen - begin
    places, weights = np.polynomial.legendre.leggauss(steps)
    # From -1..1 to 0..1.
    shares, weights = ((places + 1) / 2).astype(np.float32), (weights / 2).astype(np.float32)
    together = max(inputs.BATCH // len(seen), 1)
    maps = []
    for row in rows:
        total = np.zeros_like(seen)
        for first in range(0, steps, together):
            part = slice(first, first + together)
            points = begin + np.multiply.outer(shares[part], difference)
            found = inputs.gradients(model, points.reshape(-1, *seen.shape[1:]), row).reshape(points.shape)
            total += np.tensordot(weights[part], found, axes=1)
        maps.append(total * difference)
    return of_input(model, np.stack(maps, axis=1))


def completeness(
    model: MusicTagger, waveforms: npt.NDArray[Any], row: int, *, baseline: str = "silence"
) -> npt.NDArray[Any]:
    """What integrated gradients should add up to: a tag's logit of each window less its baseline's, float32 [B]."""
    seen = inputs.front_end_input(model, waveforms)
    begin = inputs.filling(model, seen, baseline)
    return (inputs.logits(model, seen) - inputs.logits(model, begin))[:, row]


def smooth_grad(
    model: MusicTagger,
    waveforms: npt.NDArray[Any],
    rows: list[int],
    *,
    samples: int,
    noise: float,
    times_input: bool,
    seed: int,
) -> Maps:
    """The mean gradient over noisy copies of the input (Smilkov et al. 2017), times the input where asked for.

    Args:
        samples: copies.
        noise: standard deviation, as a share of the window's largest less its smallest value.
        times_input: whether the mean is multiplied by the input's difference to silence.
        seed: of the noise; the same for every window.
    """
    seen = inputs.front_end_input(model, waveforms)
    axes = tuple(range(1, seen.ndim))
    spread = noise * (seen.max(axis=axes, keepdims=True) - seen.min(axis=axes, keepdims=True))
    factor = seen - inputs.silence(model, seen) if times_input else np.ones_like(seen)
    maps = []
    for row in rows:
        # The same noise for every tag and window, so that a map does not depend on what else is asked for.
        rng = np.random.default_rng(seed)
        total = np.zeros_like(seen)
        for _ in range(samples):
            noisy = seen + spread * rng.standard_normal(seen.shape[1:], np.float32)
            total += inputs.gradients(model, noisy, row)
        maps.append(total / samples * factor)
    return of_input(model, np.stack(maps, axis=1))
