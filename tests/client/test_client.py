"""The client against the embedded server, on modules whose outputs have a closed form."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_tagger.client.client import SAMPLE_RATE, Client
from keras_tagger.errors import AudioNotFoundError, ModelError, ServingError
from keras_tagger.serving.server import Server
from keras_tagger.tags import TagScore, margin

SPEC = tf.TensorSpec([None, None], tf.float32, name="waveform")
WEIGHTS = np.array([1.0, 3.0, -1.0, 2.0], np.float32)
NAMES = ["piano", "drums", "flûte", "guitar"]
THRESHOLDS = np.array([0.25, 1.0, 0.5, 0.75, np.nan], np.float32)
HEARD = np.array([True, True, False, True, False])


class Tagger(tf.Module):
    """tags = mean(waveform) x WEIGHTS, named NAMES; one token a second, whose heat is the second's mean.

    Every row of the attention weights is [0, heat]. `tag_info` gives THRESHOLDS and HEARD, for other names NaN.
    """

    @tf.function(input_signature=[SPEC])
    def tag(self, waveform):
        return {"tags": tf.reduce_mean(waveform, axis=1, keepdims=True) * WEIGHTS}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        feature = {"waveform": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True)}
        scores = self.tag(tf.io.parse_example(inputs, feature)["waveform"])["tags"]
        order = tf.argsort(scores, direction="DESCENDING")
        return {"classes": tf.gather(NAMES, order), "scores": tf.gather(scores, order, batch_dims=1)}

    @tf.function(input_signature=[SPEC])
    def attention(self, waveform):
        heat = tf.reduce_mean(tf.reshape(waveform, [tf.shape(waveform)[0], -1, SAMPLE_RATE]), axis=2)
        times = tf.cast(tf.range(tf.shape(heat)[1]), tf.float32)[None] + 0.5
        weights = tf.pad(heat, [[0, 0], [1, 0]])[:, None, None, None, :]
        weights = tf.repeat(weights, tf.shape(weights)[-1], axis=3)
        return {"heatmap": heat, "times": times, "attention": weights}

    @tf.function(input_signature=[SPEC])
    def contributions(self, waveform):
        maps = self.attention(waveform)
        return {
            "contributions": maps["heatmap"][:, None, :] * WEIGHTS[:, None],
            "times": maps["times"],
            **self.tag(waveform),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="tags")])
    def tag_info(self, tags):
        known = tags[:, None] == tf.constant(NAMES)
        row = tf.where(tf.reduce_any(known, 1), tf.argmax(known, 1), len(NAMES))
        return {"threshold": tf.gather(THRESHOLDS, row), "heard": tf.gather(HEARD, row)}


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    base = tmp_path_factory.mktemp("client")
    module = Tagger()
    signatures = {"serving_default": module.tag}
    for name in ("classify", "attention", "contributions", "tag_info"):
        signatures[name] = getattr(module, name)
    tf.saved_model.save(module, str(base / "3"), signatures=signatures)
    with Server(base, port=0) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def client(served):
    with Client(served, window_seconds=2.0) as client:
        yield client


def steps(*values: float) -> tuple[np.ndarray, int]:
    """A clip with one mean for each second; a constant would be silent."""
    ripple = np.tile(np.float32([2**-10, -(2**-10)]), SAMPLE_RATE // 2 * len(values))
    return np.repeat(np.array(values, np.float32), SAMPLE_RATE) + ripple, SAMPLE_RATE


def test_predict(client):
    waveform = np.array([[1.0, 3.0], [0.0, 0.5]], np.float32)
    outputs = client.predict({"waveform": waveform}, outputs=["tags"])
    assert list(outputs) == ["tags"]
    np.testing.assert_allclose(outputs["tags"], np.outer([2.0, 0.25], WEIGHTS), rtol=1e-6)


def test_metadata(client):
    metadata = client.metadata()
    assert sorted(metadata) == ["attention", "classify", "contributions", "serving_default", "tag_info"]
    assert metadata["serving_default"] == {
        "inputs": {"waveform": ("float32", [None, None])},
        "outputs": {"tags": ("float32", [None, 4])},
    }


def test_tag_gives_the_best_tags_first_by_the_models_names(client):
    tags = client.tag(steps(0.5), top=3)
    assert list(tags) == [
        TagScore("drums", pytest.approx(1.5), True, True),
        TagScore("guitar", pytest.approx(1.0), True, True),
        TagScore("piano", pytest.approx(0.5), True, True),
    ]
    tags = client.tag(steps(-0.5))
    assert tags.names == ("flûte", "piano", "guitar", "drums")
    assert tags.present.tolist() == [True, False, False, False]
    assert tags.heard.tolist() == [False, True, True, True]
    assert client.classify(steps(0.5)).to_dict() == client.tag(steps(0.5), top=None).to_dict()


def test_margins_are_those_of_the_served_thresholds(client):
    tags = client.tag(steps(0.3), rank="margin")
    known = dict(zip(NAMES, THRESHOLDS, strict=False))
    expected = {name: float(margin(tags[name].score, known[name])) for name in NAMES if tags[name].heard}
    assert {entry.name: entry.margin for entry in tags if entry.heard} == pytest.approx(expected, abs=1e-4)
    assert tags.names == (*sorted(expected, key=expected.get, reverse=True), "flûte")
    assert client.contributions(steps(0.3)).top(4, rank="margin").tags == tags.names
    assert client.heatmap(steps(0.3), "attention").margins is None
    with pytest.raises(ModelError, match="rank: expected score or margin. Received: 'best'"):
        client.tag(steps(0.3), rank="best")
    with pytest.raises(ModelError, match="rank: expected 'score' if the thresholds of the tags are unknown"):
        client.tag(steps(0.3), tags=["a", "b", "c", "d"], rank="margin")


def test_names_can_be_given(client):
    tags = client.tag(steps(0.5), top=2, tags=["a", "b", "c", "d"])
    assert list(tags.to_dict().items()) == [("b", pytest.approx(1.5)), ("d", pytest.approx(1.0))]
    # The model has no such names, so that nothing is known about them.
    assert (tags.present, tags.heard) == (None, None)
    assert client.tag(steps(0.5), top=1, tags=NAMES)["drums"].present is True


def test_one_name_is_not_a_list_of_letters(client):
    clip = steps(0.5, 1.0)
    assert client.contributions(clip, "drums").tags == ("drums",)
    assert client.heatmap(clip, tags="drums").to_dict() == client.heatmap(clip, tags=["drums"]).to_dict()
    assert list(client.predict({"waveform": clip[0][np.newaxis]}, outputs="tags")) == ["tags"]
    with pytest.raises(ServingError, match="tags: expected a list with the names of all outputs. Received: 'abcd'"):
        client.tag(clip, tags="abcd")


def test_synonyms_are_merged(client):
    names = ["vocals", "drums", "voice", "guitar"]
    merged = client.tag(steps(-0.5), tags=names, merge_synonyms=True)
    assert list(merged.to_dict().items()) == [
        ("vocals", pytest.approx(0.5)),
        ("guitar", pytest.approx(-1.0)),
        ("drums", pytest.approx(-1.5)),
    ]


@pytest.mark.parametrize("tags", [None, NAMES])
def test_tags_of_a_long_clip_are_the_mean_of_its_windows_by_new_samples(client, tags):
    # Windows of two seconds: (0.1, 0.3), (-0.5, -0.7) and, for the fifth second, (-0.7, 0.9). The second is
    # negative, so its reply of `classify` has the names in the opposite order.
    mean = (2 * 0.2 + 2 * -0.6 + 1 * 0.1) / 5
    found = client.tag(steps(0.1, 0.3, -0.5, -0.7, 0.9), tags=tags)
    assert found.names == ("flûte", "piano", "guitar", "drums")
    assert found.scores.tolist() == pytest.approx([-mean, mean, 2 * mean, 3 * mean], rel=1e-5)


def test_a_model_that_does_not_name_its_tags(tagger):
    with Client(tagger.address, "m") as client:
        with pytest.raises(ServingError) as caught:
            client.tag(steps(0.5))
        assert str(caught.value) == (
            "expected a model with the signature classify, or the names of its tags as `tags`. Received: "
            f'server at {tagger.address} answered FAILED_PRECONDITION: Serving signature key "classify" not found.'
        )
        tags = client.tag(steps(0.5), tags=["a", "b", "c"])  # `served_modules.WEIGHTS` x 0.5
        # Nor does it have the signature tag_info.
        assert list(tags) == [TagScore("a", 0.5), TagScore("c", 0.25), TagScore("b", -1.0)]


def test_a_model_whose_classify_is_of_another_kind(tmp_path):
    module = Tagger()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"classify": module.tag})
    with (
        Server(tmp_path, "m", port=0) as server,
        Client(f"127.0.0.1:{server.port}", "m") as client,
        pytest.raises(ServingError, match="answered INVALID_ARGUMENT: "),
    ):
        client.tag(steps(0.5))


def test_audio_is_resampled_to_the_models_rate(client):
    clip = np.full((44_100, 2), 0.25, np.float32)
    attention = client.attention((clip, 44_100))
    assert attention.weights.shape == (1, 1, 2, 2)
    assert attention.heatmap().values[0, 0] == pytest.approx(0.25, abs=1e-3)


def test_attention_and_contributions_of_an_excerpt(client):
    clip = steps(0.1, 0.2, 0.3, 0.4, 0.5)
    attention = client.attention(clip, start_seconds=1.0, seconds=2.0)
    np.testing.assert_allclose(attention.weights, [[[[0, 0.2, 0.3]] * 3]], rtol=1e-5)
    np.testing.assert_allclose(attention.times, [1.5, 2.5])
    assert attention.hop_seconds == 1.0
    heatmap = client.contributions(clip, seconds=2.0)
    assert heatmap.tags == tuple(NAMES)
    np.testing.assert_allclose(heatmap.values, np.outer(WEIGHTS, [0.1, 0.2]), rtol=1e-5)
    np.testing.assert_allclose(heatmap.times, [0.5, 1.5])
    np.testing.assert_allclose(heatmap.scores, 0.15 * WEIGHTS, rtol=1e-5)


def test_attention_of_a_long_clip_is_by_window(client):
    # The last second is in a window that begins at three seconds.
    attention = client.attention(steps(0.1, 0.2, 0.3, 0.4, 0.5))
    assert [(window.start_seconds, window.n_new) for window in attention.windows] == [(0.0, 2), (2.0, 2), (3.0, 1)]
    np.testing.assert_allclose(attention.windows[2].weights, [[[[0, 0.4, 0.5]] * 3]], rtol=1e-5)
    np.testing.assert_allclose(attention.heatmap().values, [[0.1, 0.2, 0.3, 0.4, 0.5]], rtol=1e-5)
    np.testing.assert_allclose(attention.times, [0.5, 1.5, 2.5, 3.5, 4.5])


def test_a_refusal_is_one_sentence_with_the_status(client, served):
    with pytest.raises(ServingError) as caught:
        client.predict({"waveform": np.zeros((1, 2), np.float32)}, "x")
    text = f'server at {served} answered FAILED_PRECONDITION: Serving signature key "x" not found.'
    assert str(caught.value) == text
    with (
        Client(served, model_name="other") as other,
        pytest.raises(ServingError, match="NOT_FOUND: Servable"),
    ):
        other.metadata()


def test_an_unreachable_server():
    with Client("127.0.0.1:1", timeout_seconds=20) as client, pytest.raises(ServingError) as caught:
        client.metadata()
    assert str(caught.value).startswith("expected a server at 127.0.0.1:1. Received: UNAVAILABLE")
    assert "\n" not in str(caught.value)


def test_mistakes_in_arguments(client, served):
    with pytest.raises(ServingError, match=r"tags: expected 4 names, one per output\. Received: 2\."):
        client.tag(steps(0.5), tags=["a", "b"])
    with pytest.raises(ServingError, match=r"window_seconds: expected a time above 0\. Received: 0\."):
        Client(served, window_seconds=0)
    with pytest.raises(AudioNotFoundError):
        client.tag("/nowhere/at/all.wav")


def test_importing_the_client_imports_neither_tensorflow_nor_grpc():
    code = (
        "import sys, keras_tagger.client.client; "
        "print([name for name in ('tensorflow', 'grpc', 'tensorflow_serving') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
