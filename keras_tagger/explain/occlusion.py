"""Occlusion: how much a tag loses when a patch of time and frequency is replaced."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.explain import inputs
from keras_tagger.explain.maps import Maps, of_input
from keras_tagger.models.music_tagger import MusicTagger


def occlusion(
    model: MusicTagger,
    waveforms: npt.NDArray[Any],
    rows: list[int],
    *,
    patch_seconds: float,
    patch_bands: int,
    fill: str | float,
) -> Maps:
    """Measure how much of a tag's logit is lost when a patch is replaced (Zeiler and Fergus 2014).

    Patches tile the window, and each cell of the map has the value of its patch. All tags share the same passes.

    Args:
        model: The model.
        waveforms: float32 `[B, samples]`.
        rows: Indices of the tags.
        patch_seconds: Length of a patch, rounded to whole frames.
        patch_bands: Height of a patch in mel bands.
        fill: Replacement of a patch: "mean" (the mean of each band over the window), "silence", or a number.
    """
    seen = inputs.front_end_input(model, waveforms)
    fills = inputs.filling(model, seen, fill)
    times = model.front_end.frames_per_token / model.hop_seconds  # frames (or samples) per second
    columns = min(max(round(patch_seconds * times), 1), seen.shape[1])
    bands = seen.shape[2] if seen.ndim == 3 else 1
    patches: list[tuple[slice, ...]] = [
        (slice(start, start + columns), *([slice(low, low + patch_bands)] if seen.ndim == 3 else []))
        for start in range(0, seen.shape[1], columns)
        for low in range(0, bands, patch_bands)
    ]
    whole = inputs.logits(model, seen)[:, rows]
    lost = np.zeros((len(seen), len(rows), *seen.shape[1:]), np.float32)
    together = max(inputs.BATCH // len(seen), 1)
    for first in range(0, len(patches), together):
        part = patches[first : first + together]
        changed = np.repeat(seen[np.newaxis], len(part), axis=0)
        for index, cells in enumerate(part):
            every: tuple[slice, ...] = (slice(None), *cells)
            changed[index][every] = fills[every]
        found = inputs.logits(model, changed.reshape(-1, *seen.shape[1:]))[:, rows].reshape(len(part), *whole.shape)
        for cells, drop in zip(part, whole - found, strict=True):
            everywhere: tuple[slice, ...] = (slice(None), slice(None), *cells)
            lost[everywhere] = drop.reshape(*drop.shape, *[1] * (seen.ndim - 1))
    return of_input(model, lost)
