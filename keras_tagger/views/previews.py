"""What the model sees in one clip, gathered for a picture: for TensorBoard during `fit`, and for `heatmap.png`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_tagger import audio as audio_module
from keras_tagger.audio import AudioSource
from keras_tagger.views.figures import Preview

if TYPE_CHECKING:
    from keras_tagger.tagger import Tagger


def make_preview(
    tagger: Tagger,
    audio: AudioSource,
    name: str,
    truth: Sequence[str] = (),
    seconds: float = 30.0,
    top: int = 5,
) -> Preview:
    """Spectrogram, attention of every layer and contributions of the best tags, from the start of a clip.

    Args:
        tagger: the model.
        audio: path, bytes or (array, sample_rate).
        name: title.
        truth: its true tags, marked in the picture.
        seconds: how much of it.
        top: how many tags.
    """
    rate = tagger.model.audio_config.sample_rate
    waveform = audio_module.load(audio, rate, end_seconds=seconds)
    source = (waveform, rate)
    spectrogram = tagger.model.analyze(waveform[None], ("spectrogram",))["spectrogram"][0].numpy()
    layer = tagger.model.spectrogram
    return Preview(
        name=name,
        spectrogram=spectrogram,
        frame_times=layer.frame_times(len(spectrogram)),
        mel_frequencies=layer.mel_frequencies(),
        attention=tagger.attention(source).heatmap("all"),
        contributions=tagger.contributions(source).top(min(top, len(tagger.tags))),
        truth=tuple(truth),
        waveform=waveform,
        sample_rate=rate,
    )
