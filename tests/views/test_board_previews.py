"""What a preview gathers is what the tagger says of the clip's start."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_tagger.views.previews import make_preview
from tiny import RATE, noise


def test_a_preview_is_of_the_clips_start(tagger: Any) -> None:
    wave = noise(3 * RATE, seed=6)
    preview = make_preview(tagger, (wave, RATE), "song", ["low"], seconds=1.5, top=2)
    start = (wave[: 3 * RATE // 2], RATE)
    assert (preview.name, preview.truth, preview.sample_rate) == ("song", ("low",), RATE)
    np.testing.assert_array_equal(preview.waveform, start[0])
    expected = tagger.model.analyze(start[0][None], ("spectrogram",))["spectrogram"][0]
    np.testing.assert_allclose(preview.spectrogram, expected, atol=1e-6)
    # 12 tokens of 8 frames of 16 ms, the last of them half there.
    np.testing.assert_allclose(preview.frame_times, 0.016 * np.arange(96) + 0.008, atol=1e-9)
    np.testing.assert_allclose(preview.mel_frequencies, tagger.model.spectrogram.mel_frequencies())
    attention = tagger.attention(start).heatmap("all")
    assert preview.attention.tags == attention.tags == ("layer 1, all heads", "layer 2, all heads")
    np.testing.assert_allclose(preview.attention.values, attention.values, atol=1e-5)
    best = tagger.tag(start, top=2)
    assert preview.contributions.tags == best.names
    np.testing.assert_allclose(preview.contributions.scores, best.scores, atol=1e-6)
    expected = tagger.contributions(start, best.names).values
    np.testing.assert_allclose(preview.contributions.values, expected, atol=1e-6)


def test_no_more_rows_than_tags_and_no_more_clip_than_there_is(tagger: Any) -> None:
    wave = noise(9000)
    preview = make_preview(tagger, (wave, RATE), "short", top=50)
    assert preview.contributions.tags == tagger.tag((wave, RATE), top=None).names
    assert (preview.truth, len(preview.waveform)) == ((), 9000)
