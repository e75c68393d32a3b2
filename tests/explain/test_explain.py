"""`Tagger.explain`: every method, any length, any model; and what it says to mistakes."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
import weakref
from typing import Any

import numpy as np
import pytest
import soundfile

from keras_tagger.errors import ModelError
from keras_tagger.explain import DEFAULT_METHOD, METHODS, explain, taggram
from keras_tagger.models.music_tagger import MusicTagger
from keras_tagger.models.trained import TrainedModel
from keras_tagger.tagger import Tagger
from tiny import RATE, TAGS, noise, random_tagger

TOKEN = 2048
FAST: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 4},
    "smooth_grad": {"samples": 2},
    "occlusion": {"patch_seconds": 0.3},
}


@pytest.mark.parametrize("method", METHODS)
def test_long_audio_is_explained_window_by_window(tagger: Any, method: str) -> None:
    """Two windows of seven tokens and two and a half tokens more."""
    wave = noise(16 * TOKEN + 1000)
    whole = tagger.explain((wave, RATE), method, ["low", "high"], **FAST.get(method, {}))
    assert whole.tags == ("low", "high")
    assert whole.method == method
    assert np.isfinite(whole.values).all()
    assert np.ptp(whole.values) > 0
    np.testing.assert_allclose(
        whole.scores, tagger.scores((wave, RATE))[[1, 0]], atol=0.02 if method == "taggram" else 1e-6
    )
    if method == "taggram":
        return
    first = tagger.explain((wave[: 7 * TOKEN], RATE), method, ["low", "high"], **FAST.get(method, {}))
    # The last window ends on the last sample.
    last = tagger.explain((wave[-7 * TOKEN :], RATE), method, ["low", "high"], **FAST.get(method, {}))
    steps = first.values.shape[-1] // 7
    new = -(-(2 * TOKEN + 1000) * steps // TOKEN)
    assert whole.values.shape[-1] == 14 * steps + new
    np.testing.assert_allclose(whole.values[..., : 7 * steps], first.values, atol=1e-5)
    np.testing.assert_allclose(whole.values[..., -new:], last.values[..., -new:], atol=1e-5)
    times = 0.128 / steps * (np.arange(14 * steps) + 0.5)
    times_of_last = last.times[-new:] + (len(wave) - 7 * TOKEN) / RATE
    np.testing.assert_allclose(whole.times, [*times, *times_of_last], atol=1e-9)
    assert (whole.frequencies is not None) == METHODS[method].frequency
    if METHODS[method].by_tag:
        assert np.abs(whole.row("low") - whole.row("high")).max() > 0
    else:
        np.testing.assert_array_equal(whole.row("low"), whole.row("high"))


@pytest.mark.parametrize("method", ["two_scale_contributions", "gradient_input", "attention", "taggram"])
def test_a_file_is_explained_as_an_array(tagger: Any, method: str) -> None:
    """Files are decoded in the background and run in other batches."""
    wave = noise(20 * TOKEN + 700)
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format="WAV", subtype="FLOAT")
    found, expected = (explain(tagger, audio, method, "mid") for audio in (file.getvalue(), (wave, RATE)))
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    np.testing.assert_array_equal(found.times, expected.times)


def test_a_model_without_the_public_class_is_explained(tagger: Any) -> None:
    """`explain` and `taggram` are functions of a model; `Tagger` has them as methods."""
    bare = TrainedModel(tagger.model, tagger.config)
    audio = (noise(9 * TOKEN), RATE)
    np.testing.assert_array_equal(explain(bare, audio, "rollout").values, tagger.explain(audio, "rollout").values)
    found = taggram(bare, audio, 0.3, ["mid", "high"])
    assert found.tags == ("mid", "high")
    np.testing.assert_array_equal(found.values, tagger.taggram(audio, 0.3).values[[2, 0]])


@pytest.mark.parametrize("method", METHODS)
def test_less_than_a_token(tagger: Any, method: str) -> None:
    found = tagger.explain((noise(300), RATE), method, "mid", **FAST.get(method, {}))
    assert found.tags == ("mid",)
    assert np.isfinite(found.values).all()


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("method", sorted(set(METHODS) - {"taggram", "random", "attention", "rollout"}))
def test_a_model_of_another_kind(post_norm_tagger: Any, method: str) -> None:
    """Post-norm, a token a frame, no frequency in the last feature maps."""
    found = post_norm_tagger.explain((noise(4000), RATE), method, **FAST.get(method, {}))
    assert found.values.shape[-1] == 16
    assert np.isfinite(found.values).all()
    assert np.ptp(found.values) > 0


@pytest.mark.usefixtures("eagerly")
def test_a_model_of_the_raw_waveform() -> None:
    tagger = random_tagger(
        {
            "preset": "won2019_raw",
            "audio": {"window_seconds": 0.5},
            "model": {"front_end": {"channels": [2]}, "encoder": {"n_layers": 1}},
        }
    )
    audio = (noise(243 * 10), RATE)
    for method in ("gradient_input", "occlusion", "grad_cam", "contributions"):
        options = {"patch_seconds": 0.03} if method == "occlusion" else {}
        found = tagger.explain(audio, method, **options)
        assert found.frequencies is None
        assert found.values.shape == (3, 10)
        assert np.ptp(found.values) > 0


GRADIENTS = ("gradient_input", "integrated_gradients", "relevance", "grad_cam", DEFAULT_METHOD)


@pytest.fixture(scope="module")
def in_float32(tagger: Any) -> dict[str, np.ndarray]:
    """The maps of five tokens by method."""
    audio = (noise(5 * TOKEN), RATE)
    return {method: tagger.explain(audio, method, ["mid"], **FAST.get(method, {})).values for method in GRADIENTS}


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(tagger: Any, in_float32: dict[str, np.ndarray], precision: str) -> None:
    model = MusicTagger(TAGS, tagger.config.audio, tagger.config.model, dtype=precision)
    model.build()
    model.set_weights(tagger.model.get_weights())
    half = Tagger(model, tagger.config)
    audio = (noise(5 * TOKEN), RATE)
    for method, expected in in_float32.items():
        found = half.explain(audio, method, ["mid"], **FAST.get(method, {})).values
        assert np.isfinite(found).all()
        assert found.dtype == np.float32
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9, method
        # Also in size: a loss that is scaled for float16 is scaled back.
        assert np.std(found) / np.std(expected) == pytest.approx(1.0, abs=0.5), method


def test_the_default_and_all_tags(tagger: Any) -> None:
    audio = (noise(5 * TOKEN), RATE)
    found, named = tagger.explain(audio), tagger.explain(audio, DEFAULT_METHOD, list(TAGS))
    assert found.tags == TAGS
    np.testing.assert_allclose(found.values, named.values, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"method": "gradcam"}, r"method: expected one of attention, rollout, .*\. Received: 'gradcam'\."),
        ({"tags": []}, r"tags: expected at least one of high, low, mid\. Received: none\."),
        ({"tags": ["low", "guitar"]}, r"tags: expected some of high, low, mid\. Received: 'guitar'\."),
        (
            {"method": "occlusion", "steps": 3},
            r"options of occlusion: expected one of patch_seconds, .* Received: 'steps'\.",
        ),
        ({"method": "rollout", "head": 3}, r"options of rollout: expected no options\. Received: 'head'\."),
        (
            {"method": "integrated_gradients", "steps": 0},
            r"steps of integrated_gradients: expected a whole number from 1",
        ),
        ({"method": "integrated_gradients", "steps": True}, r"steps of integrated_gradients: .* Received: True\."),
        ({"method": "occlusion", "fill": "black"}, r'fill of occlusion: expected "mean", "silence" or a number\.'),
        ({"method": "occlusion", "fill": float("nan")}, r"fill of occlusion: .* Received: nan\."),
        ({"method": "attention", "layer": 2}, r"layer of attention: expected -2 to 1\. Received: 2\."),
        ({"method": "attention", "head": -3}, r"head of attention: expected -2 to 1\. Received: -3\."),
    ],
)
def test_mistakes(tagger: Any, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        tagger.explain((noise(3000), RATE), **arguments)


def test_the_table_of_methods_needs_no_tensorflow() -> None:
    code = (
        "import sys\nfrom keras_tagger.explain import METHODS, faithfulness, listen\n"
        "import keras_tagger.views.explanation\n"
        "sys.exit('imported' if {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_traced_functions_do_not_keep_their_model() -> None:
    tagger = random_tagger({"model": {"encoder": {"n_layers": 1}}})
    tagger.explain((noise(TOKEN), RATE), "gradient_input", "low")
    gone = weakref.ref(tagger.model)
    del tagger
    gc.collect()
    assert gone() is None
