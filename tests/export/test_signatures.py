"""The signatures' own work: WAV of any rate and channels, tf.Examples, and what is refused with which sentence."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from keras_tagger.export.signatures import MAX_ATTENTION_VALUES, attention_fits, signatures
from keras_tagger.tagger import Tagger
from keras_tagger.tags import TagInfo
from tiny import RATE, TAGS, noise


def riff(wave: np.ndarray, rate: int, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def example(**features: Any) -> bytes:
    made = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, bytes)
        else tf.train.Feature(float_list=tf.train.FloatList(value=value))
        for name, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


@pytest.fixture(scope="module")
def served(exported: Path) -> Any:
    loaded = tf.saved_model.load(exported)
    return lambda signature, **inputs: {
        name: value.numpy()
        for name, value in loaded.signatures[signature](**{k: tf.constant(v) for k, v in inputs.items()}).items()
    }


def test_wav_takes_a_batch_of_any_rates_channels_lengths_and_encodings(tagger: Any, served: Any) -> None:
    clips = [
        (noise(20000, 1), RATE, "PCM_16"),
        (np.stack([noise(50000, 2), noise(50000, 3)], axis=1), 44100, "PCM_24"),
        (np.stack([noise(70000, seed) for seed in range(6)], axis=1), 48000, "FLOAT"),
        (noise(9000, 5), 8000, "PCM_U8"),
        (noise(30000, 6), 22050, "PCM_32"),
        (noise(3, 7), 11025, "DOUBLE"),
        (np.outer(noise(30000, 8), [1, -1]), RATE, "PCM_16"),  # the channels cancel each other
    ]
    files = [riff(*clip) for clip in clips]
    found = served("wav", audio_bytes=files)["tags"]
    assert found.shape == (len(files), len(TAGS))
    for row, data in zip(found, files, strict=True):
        # What soxr leaves of the highest fifth of an octave differs.
        np.testing.assert_allclose(row, tagger.scores(data), atol=2e-3)


def test_classify_takes_audio_bytes_beside_waveforms(tagger: Any, served: Any) -> None:
    wave, data = noise(20000, 1), riff(noise(40000, 2), 44100)
    found = served("classify", inputs=[example(waveform=wave), example(audio_bytes=data)])
    for index, source in enumerate([(wave, RATE), data]):
        scores = tagger.scores(source)
        assert [name.decode() for name in found["classes"][index]] == [TAGS[i] for i in np.argsort(-scores)]
        np.testing.assert_allclose(found["scores"][index], np.sort(scores)[::-1], atol=2e-3)


def test_tag_info_is_what_is_known_of_each_tag(tagger: Any) -> None:
    info = {
        "high": TagInfo(0.25),
        "low": TagInfo(0.0, has_evidence=False),
        "mid": TagInfo(1.0, True, True, 7, "f1", 0.125),
    }
    ask = signatures(Tagger(tagger.model, tagger.config, info))["tag_info"]
    names = ["mid", "jazz", "low", "high", "mid", "", "Mid"]
    found = {name: value.numpy() for name, value in ask(tf.constant(names)).items()}
    np.testing.assert_array_equal(found["threshold"], [1.0, np.nan, 0.0, 0.25, 1.0, np.nan, np.nan])
    np.testing.assert_array_equal(found["heard"], [True, False, False, True, True, False, False])
    rates = [0.125, np.nan, np.nan, np.nan, 0.125, np.nan, np.nan]
    np.testing.assert_array_equal(found["false_alarm_rate"], np.array(rates, np.float32))
    assert [found[name].dtype for name in sorted(found)] == [np.float32, bool, np.float32]


BAD = np.array([[0.0, np.nan]], np.float32)
REFUSED = {
    "no clip": ("serving_default", {"waveform": np.zeros((0, 5), np.float32)}, "at least one clip, .* shape.*0 5"),
    "no sample": ("embedding", {"waveform": np.zeros((2, 0), np.float32)}, "at least one sample.*2 0"),
    "millions of clips without samples": (
        "attention",
        {"waveform": np.zeros((2**24, 0), np.float32)},
        "at least one sample",
    ),
    "nan": ("serving_default", {"waveform": BAD}, "expected a waveform of finite numbers. Received: NaN or infinity"),
    "infinity": ("contributions", {"waveform": np.array([[0.5, -np.inf]], np.float32)}, "finite numbers"),
    "nan in an example": ("classify", {"inputs": [example(waveform=BAD[0])]}, "finite numbers"),
    "no file": ("wav", {"audio_bytes": np.zeros(0, object)}, "at least one clip. Received: none"),
    "no tag": ("tag_info", {"tags": np.zeros(0, object)}, "expected at least one tag. Received: none"),
    "no example": ("classify", {"inputs": np.zeros(0, object)}, "at least one clip. Received: none"),
    "an empty example": ("classify", {"inputs": [example()]}, "in every tf.Example. Received: neither"),
    "not an example": ("classify", {"inputs": [b"not an example"]}, "parse"),
    "an mp3": ("wav", {"audio_bytes": [b"ID3 and so on" * 9]}, "expected a WAV file .* Received an mp3. Decode it"),
    "a flac in an example": ("classify", {"inputs": [example(audio_bytes=b"fLaC")]}, "Received a flac. Decode it"),
    "ADPCM": ("wav", {"audio_bytes": [riff(noise(99), RATE, "MS_ADPCM")]}, "Received format code 2, 4 bits"),
    "nan in a wav": ("wav", {"audio_bytes": [riff(BAD[0], RATE, "FLOAT")]}, "finite numbers"),
    "truncated": ("wav", {"audio_bytes": [riff(noise(9999), RATE)[:60]]}, "truncated: 16 bytes .* instead of 19998"),
    "a wav without samples": ("wav", {"audio_bytes": [riff(noise(99)[:0], RATE)]}, "at least one sample"),
    "an impossible rate": ("wav", {"audio_bytes": [riff(noise(99), 999)]}, "1000 to 1000000 Hz. Received:.*999"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_tagged_is_refused_with_a_sentence(served: Any, case: str) -> None:
    signature, inputs, text = REFUSED[case]
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        served(signature, **inputs)


def test_attention_beyond_one_message_is_refused(tagger: Any) -> None:
    model = tagger.model
    maps = model.model_config.encoder.n_layers * model.model_config.encoder.n_heads
    longest = int((MAX_ATTENTION_VALUES / maps) ** 0.5 - 1)
    assert maps * (1 + longest) ** 2 <= MAX_ATTENTION_VALUES < maps * (2 + longest) ** 2
    fits = tf.function(lambda shape: tf.shape(attention_fits(model, tf.zeros(shape))), autograph=False)
    np.testing.assert_array_equal(fits(tf.constant([1, longest * model.token_samples])), [1, longest * 2048])
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected clips of at most 1048 s, or fewer of them"):
        fits(tf.constant([1, longest * model.token_samples + 1]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="fewer of them"):
        fits(tf.constant([2, longest * model.token_samples]))
