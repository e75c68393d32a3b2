"""A clip whose sound tells its place: a tone that rises by 300 Hz a second. Its maps are made up."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_tagger.views.player import attention_map, clip_document, image_map, query_map, rows_map

RATE, SECONDS, TOKEN = 16000, 12.0, 0.125
FIRST_HZ, HZ_PER_SECOND = 300.0, 300.0
HOSTILE = '<img src=x onerror="window.hacked=1"></script><script>window.hacked=2</script>'
TAGS = ("guitar", HOSTILE, "piano", *(f"tag {number}" for number in range(12)))
KEPT = (4.0, 6.0)  # seconds in which "guitar" is heard, a quarter of the columns would be 3 seconds


def waveform() -> np.ndarray:
    """The rising tone."""
    times = np.arange(int(SECONDS * RATE)) / RATE
    phase = 2 * np.pi * (FIRST_HZ * times + HZ_PER_SECOND * times**2 / 2)
    return (0.5 * np.sin(phase)).astype(np.float32)


def document(name: str = "tone <b>.wav", attention: float = 0.02, shift: float = 0.0, **options: Any) -> dict[str, Any]:
    """The clip document.

    Args:
        name: The title.
        attention: How far attention is from uniform, as a standard deviation of its logarithm.
        shift: Added to the time at which "guitar" is heard.
        **options: Replace arguments of `clip_document`.
    """
    rng = np.random.default_rng(0)
    tokens = round(SECONDS / TOKEN)
    times = (np.arange(tokens) + 0.5) * TOKEN
    values = np.zeros((len(TAGS), tokens))
    values[0, (times > KEPT[0] + shift) & (times < KEPT[1] + shift)] = 0.9
    values[1:] = np.clip(np.sin(times[None] + np.arange(len(TAGS) - 1)[:, None]), 0, 1) * 0.5
    weights = np.exp(rng.normal(0, attention, (4, tokens))) / (tokens + 1)
    queries = np.exp(rng.normal(0, 0.3, (2, tokens, tokens))) / (tokens + 1)
    frames = round(SECONDS / 0.016)
    spectrum = rng.random((frames, 48))
    given: dict[str, Any] = {
        "token_seconds": TOKEN,
        "tags": [
            {"name": tag, "score": 0.9 - 0.05 * row, "threshold": 0.4, "heard": row != 4, "present": row < 10}
            for row, tag in enumerate(TAGS)
        ],
        "maps": [
            rows_map("contributions", TAGS, values, "The tag's probability if only this moment counted."),
            image_map("gradients", TAGS[:2], rng.normal(0, 1, (2, frames, 48)), "What each cell adds.", seconds=0.016),
            attention_map(weights, 2, tokens + 1),
            query_map(queries),
        ],
        "spectrogram": (spectrum, np.geomspace(40, 7900, 48), 0.016),
        "model": {"name": "made", "sha256": "ab" * 32, "version": "keras_tagger 0", "settings": {"steps": 64}},
    }
    return clip_document(name, waveform(), RATE, **(given | options))
