"""Long clips: the client's answers are the tagger's, window by window, and of one version of the model."""

from __future__ import annotations

import asyncio
import io
import tracemalloc

import grpc
import numpy as np
import pytest
import soundfile
import tensorflow as tf

import tiny
from keras_tagger.client import AsyncClient, Client, plans
from keras_tagger.errors import AudioWarning, ServingError
from keras_tagger.serving.server import Server
from keras_tagger.tagger import Tagger
from keras_tagger.tags import TagInfo, TagScore
from scripted import scripted_server, waveforms

WINDOW, TOKEN = 14336, 2048


@pytest.fixture(scope="module")
def tagger(music):
    """A tagger with thresholds below and above its scores, and a tag without training examples."""
    info = {"high": TagInfo(0.125), "low": TagInfo(0.875, has_evidence=False)}
    return Tagger(music.model, music.config, info)


@pytest.fixture(scope="module")
def served(tagger, tmp_path_factory):
    base = tmp_path_factory.mktemp("windows")
    # A client sends samples, never files.
    with tiny.exporting("serving_default", "classify", "attention", "contributions", "embedding", "tag_info"):
        tagger.export(base)
    with Server(base, port=0, enable_model_warmup=False) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(autouse=True)
def short_requests(monkeypatch):
    """Clips count as long from two seconds on, so that the tests are short."""
    monkeypatch.setattr(plans, "MAX_REQUEST_SECONDS", 2.0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Seven and a half seconds, not a whole number of windows or tokens, as a file."""
    path = tmp_path_factory.mktemp("clip") / "long.wav"
    soundfile.write(path, tiny.noise(120_501, 3), tiny.RATE, subtype="FLOAT")
    return path


@pytest.fixture
def client(served):
    with Client(served) as client:
        yield client


def test_a_long_clip_is_seen_as_the_tagger_sees_it(client, tagger, clip):
    found, expected = client.classify(clip), tagger.tag(clip, top=None)
    assert found.names == expected.names
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    assert list(client.tag(clip, top=2)) == list(found[:2])
    named = client.tag(clip, tags=["x", "y", "z"])
    np.testing.assert_allclose([named[name].score for name in "xyz"], tagger.scores(clip), atol=1e-6)
    np.testing.assert_allclose(client.embed(clip), tagger.embed(clip), atol=1e-5)
    assert (tagger.model.window_samples, tagger.model.token_samples) == (WINDOW, TOKEN)
    # Pieces of two seconds whose windows begin elsewhere would give other scores.
    with Client(client.address, window_seconds=2.0) as other:
        moved = other.classify(clip)
    assert max(abs(moved[entry.name].score - entry.score) for entry in expected) > 1e-5


class Pipe(io.BytesIO):
    """A file object that cannot seek."""

    def seekable(self):
        return False

    def seek(self, *where):
        raise io.UnsupportedOperation("seek")


def test_a_long_clip_may_be_a_file_object(client, clip):
    """It is opened twice: to see whether one request may hold it, and to cut it."""
    expected = client.tag(clip).to_dict()
    with clip.open("rb") as file:
        assert client.tag(file).to_dict() == expected
        assert client.tag(file).to_dict() == expected
    assert client.tag(Pipe(clip.read_bytes())).to_dict() == expected
    heat = client.heatmap(Pipe(clip.read_bytes()), tags=["mid"])
    np.testing.assert_array_equal(heat.values, client.heatmap(clip, tags=["mid"]).values)


def test_thresholds_and_evidence_are_the_taggers(client, tagger, clip):
    if "tag_info" not in client.metadata():
        pytest.skip("expected exports with the signature tag_info")
    found, expected = client.tag(clip), tagger.tag(clip)
    assert set(expected.present) == set(expected.heard) == {True, False}
    for one, other in zip(found, expected, strict=True):
        assert one == TagScore(other.name, pytest.approx(other.score, abs=1e-6), other.present, other.heard)
    assert client.classify(clip).present.tolist() == expected.present.tolist()


def test_maps_of_a_long_clip_are_the_taggers(client, tagger, clip):
    expected = tagger.contributions(clip)
    for found in (client.heatmap(clip), asyncio.run(asynchronous(client.address, clip))):
        assert found.tags == expected.tags == tiny.TAGS
        assert found.method == "contributions"
        np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
        np.testing.assert_allclose(found.times, expected.times, atol=1e-5)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    attention = tagger.attention(clip).heatmap()
    found = client.heatmap(clip, "attention")
    assert found.tags == ("attention",)
    np.testing.assert_allclose(found.values, attention.values, atol=1e-5)
    np.testing.assert_allclose(found.times, attention.times, atol=1e-5)


async def asynchronous(address, clip):
    async with AsyncClient(address) as client:
        return await client.heatmap(clip)


def test_a_stretch_of_a_long_clip_is_a_clip_of_its_own(client, tagger, clip):
    waveform = tiny.noise(120_501, 3)[16000 : 16000 + 64000]
    expected = tagger.contributions((waveform, tiny.RATE), ["mid", "high"])
    found = client.heatmap(clip, tags=["mid", "high"], start_seconds=1.0, seconds=4.0)
    assert found.tags == ("mid", "high")
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
    np.testing.assert_allclose(found.times, expected.times + 1.0, atol=1e-5)
    found = client.contributions(clip, ["mid", "high"], start_seconds=1.0, seconds=4.0)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    found = client.attention(clip, 1.0, 4.0)
    expected = tagger.attention((waveform, tiny.RATE))
    np.testing.assert_allclose(found.times, expected.times + 1.0, atol=1e-5)


@pytest.mark.parametrize("n_samples", [120_501, 30_000, 20_000, 5_000, 1])
def test_attention_is_the_taggers_at_any_length(client, tagger, n_samples):
    clip = (tiny.noise(n_samples, 3), tiny.RATE)
    found, expected = client.attention(clip), tagger.attention(clip)
    assert len(found.windows) == len(expected.windows)
    for one, other in zip(found.windows, expected.windows, strict=True):
        assert (one.start_seconds, one.n_new) == (other.start_seconds, other.n_new)
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-5)
    assert found.hop_seconds == pytest.approx(expected.hop_seconds)
    np.testing.assert_allclose(found.times, expected.times, atol=1e-5)
    np.testing.assert_allclose(found.heatmap("all").values, expected.heatmap("all").values, atol=1e-5)


def test_a_short_clip_is_one_request_and_equal_too(client, tagger):
    clip = (tiny.noise(30_000, 4), tiny.RATE)
    np.testing.assert_allclose(client.heatmap(clip).values, tagger.contributions(clip).values, atol=1e-5)
    np.testing.assert_allclose(client.classify(clip).scores, tagger.tag(clip, top=None).scores, atol=1e-6)


def test_the_window_that_is_given_need_not_be_measured(served, tagger, clip):
    with Client(served, window_seconds=WINDOW / tiny.RATE) as client:
        np.testing.assert_allclose(client.embed(clip), tagger.embed(clip), atol=1e-5)


def test_names_of_rows_and_kinds(client, clip):
    assert client.tag_names() == tiny.TAGS
    with pytest.raises(ServingError, match=r"tags: expected some of high, low, mid\. Received: 'kazoo'\."):
        client.heatmap(clip, tags=["kazoo"])
    with pytest.raises(ServingError, match=r"kind: expected one of attention, contributions\. Received: 'x'\."):
        client.heatmap(clip, "x")
    with pytest.raises(ServingError, match=r"tags: expected None for attention, .* Received: low\."):
        client.heatmap(clip, "attention", ["low"])
    with pytest.raises(ServingError, match=r"top: expected at least 1\. Received: 0\."):
        client.tag(clip, top=0)


def test_the_async_client_answers_many_at_a_time(served, tagger):
    clips = [(tiny.noise(20_000 + 3000 * index, index), tiny.RATE) for index in range(6)]

    async def ask():
        async with AsyncClient(served) as client:
            scores = await asyncio.gather(*(client.tag(clip, top=None) for clip in clips))
            one = clips[0]
            metadata = await client.metadata()
            arrays = await client.predict({"waveform": one[0][np.newaxis]}, outputs=["tags"])
            maps = (await client.attention(one), await client.contributions(one))
            return scores, metadata, arrays, maps, await client.embed(one), await client.tag_names()

    scores, metadata, arrays, (attention, contributions), embedding, names = asyncio.run(ask())
    for clip, found in zip(clips, scores, strict=True):
        assert found.names == tagger.tag(clip, top=None).names
        np.testing.assert_allclose(found.scores, tagger.tag(clip, top=None).scores, atol=1e-6)
    assert metadata["embedding"]["inputs"] == {"waveform": ("float32", [None, None])}
    np.testing.assert_allclose(arrays["tags"][0], tagger.scores(clips[0]), atol=1e-6)
    expected = tagger.attention(clips[0]).heatmap("all").values
    np.testing.assert_allclose(attention.heatmap("all").values, expected, atol=1e-5)
    np.testing.assert_allclose(contributions.values, tagger.contributions(clips[0]).values, atol=1e-5)
    np.testing.assert_allclose(embedding, tagger.embed(clips[0]), atol=1e-5)
    assert names == tiny.TAGS


def test_what_a_version_knows_about_its_tags_is_asked_once():
    """Version 2, from the fourth `classify` on, has another threshold."""
    asked = []

    def answer(number, request, context):
        signature = request.model_spec.signature_name
        version = 1 if asked.count("classify") < 3 else 2
        asked.append(signature)
        if signature == "tag_info":
            assert tf.make_ndarray(request.inputs["tags"]).tolist() == [b"rock", b"jazz"]
            return {"threshold": np.float32([0.5, 0.25 * version]), "heard": np.array([True, False])}, version
        return {"classes": np.array([[b"rock", b"jazz"]]), "scores": np.float32([[0.75, 0.375]])}, version

    clip = (tiny.noise(16000), 16000)
    with scripted_server(answer) as (address, _), Client(address) as client:
        for _ in range(2):
            tags = client.tag(clip)
            assert list(tags) == [TagScore("rock", 0.75, True, True), TagScore("jazz", 0.375, True, False)]
        assert asked == ["classify", "tag_info", "classify"]
        client.classify(clip)
        # The version changes: the clip is asked anew, and then the tags of the new version.
        assert client.tag(clip)["jazz"].present is False
        assert asked[4:] == ["classify", "classify", "tag_info"]
        client.tag(clip)
        assert asked[7:] == ["classify"]


def test_a_server_that_fails_is_not_one_without_tag_info():
    def answer(number, request, context):
        if request.model_spec.signature_name == "tag_info":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
        return {"classes": np.array([[b"rock"]]), "scores": np.float32([[0.75]])}, 1

    with (
        scripted_server(answer) as (address, _),
        Client(address) as client,
        pytest.raises(ServingError, match="answered PERMISSION_DENIED: no"),
    ):
        client.tag((tiny.noise(16000), 16000))


def mean_scores(weight: float):
    """Answers `embedding` with weight x mean; refuses what would tell of windows."""

    def answer(request, context):
        if request.model_spec.signature_name != "embedding":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "Serving signature key not found.")
        return {"embedding": waveforms(request).mean(axis=1, keepdims=True) * np.float32(weight)}

    return answer


def test_a_clip_is_never_answered_by_two_versions():
    versions = []

    def answer(number, request, context):
        # Version 1 answers the first two requests, so that the clip has begun when version 2 comes.
        outputs = mean_scores(1.0 if number < 3 else 10.0)(request, context)
        versions.append(1 if number < 3 else 2)
        return outputs, versions[-1]

    clip = (np.repeat(np.float32([0.1, 0.2, 0.3, 0.4, 0.5]), 16000 * 16), 16000)
    with scripted_server(answer) as (address, _), Client(address, window_seconds=2.0) as client:
        assert client.embed(clip)[0] == pytest.approx(3.0, rel=1e-5)
    assert versions[0] == 1
    assert 2 in versions


def test_versions_that_change_without_end_are_told():
    def answer(number, request, context):
        return mean_scores(1.0)(request, context), number

    clip = (tiny.noise(16000 * 80), 16000)
    with (
        scripted_server(answer) as (address, _),
        Client(address, window_seconds=1.0) as client,
        pytest.raises(ServingError, match="expected one version of the model to answer for a whole clip"),
    ):
        client.embed(clip)


def test_memory_does_not_grow_with_the_clip(tmp_path):
    sizes = []

    def answer(number, request, context):
        sizes.append(request.ByteSize())
        return mean_scores(1.0)(request, context), 1

    path, minutes = tmp_path / "long.wav", 4
    with soundfile.SoundFile(path, "w", tiny.RATE, 1, "PCM_16") as file:
        for _ in range(minutes):
            file.write(np.full(60 * tiny.RATE, 0.25, np.float32))
    with scripted_server(answer) as (address, _), Client(address, window_seconds=2.0) as client:
        tracemalloc.start()
        try:
            mean = client.embed(path)[0]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert mean == pytest.approx(0.25, abs=1e-4)
    whole = minutes * 60 * tiny.RATE * 4
    assert sum(sizes) > whole
    # The server, which is in this process, has the requests too.
    assert peak < whole / 2


def strange(seconds):
    """Return clips by the kinds of their warnings."""
    wave = tiny.noise(round(seconds * tiny.RATE), 5)
    return {
        (): wave,
        ("silent",): np.zeros_like(wave),
        ("cancelled",): np.stack([wave, -wave], axis=1),
        ("level",): 2**15 * wave,
    }


@pytest.mark.parametrize("seconds", [1.0, 7.5])
def test_answers_say_what_a_listener_must_know(client, tagger, seconds):
    for kinds, wave in strange(seconds).items():
        source = (wave, tiny.RATE)
        tags, expected = client.tag(source, top=None), tagger.tag(source, top=None)
        found = (tags, client.classify(source), client.heatmap(source), client.attention(source))
        assert [tuple(warning.kind for warning in one.warnings) for one in found] == [kinds] * 4
        assert list(map(str, tags.warnings)) == list(map(str, expected.warnings))
        np.testing.assert_allclose(tags.scores, expected.scores, atol=1e-6)
        np.testing.assert_array_equal(tags.present, expected.present)
        scores = client.predict({"waveform": wave[np.newaxis]})["tags"] if wave.ndim == 1 else np.ones(1)
        assert scores.any() == (kinds != ("silent",))


def test_an_embedding_of_silence_issues_the_warning_once(client):
    for seconds in (1.0, 7.5):
        with pytest.warns(AudioWarning, match="silent") as caught:
            client.embed((np.zeros(round(seconds * tiny.RATE)), tiny.RATE))
        assert len(caught) == 1


def test_a_silent_stretch_of_a_long_clip_is_as_in_the_tagger(client, tagger):
    wave = tiny.noise(120_501, 3)
    wave[2 * WINDOW : 4 * WINDOW] = 0
    found, expected = client.classify((wave, tiny.RATE)), tagger.tag((wave, tiny.RATE), top=None)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    assert found.warnings == ()
