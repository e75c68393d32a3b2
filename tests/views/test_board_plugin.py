"""The backend of the tab, on event files that `log_explanation` wrote, through both of TensorBoard's data servers."""

from __future__ import annotations

import base64
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.compat.proto import summary_pb2
from tensorboard.data.server_ingester import SubprocessServerDataIngester, get_server_binary
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.util.grpc_util import ChannelCredsType
from werkzeug.test import Client, TestResponse

import tiny
from keras_tagger.errors import ModelError
from keras_tagger.views import log_explanation
from keras_tagger.views.board.plugin import TaggerPlugin
from keras_tagger.views.board.records import pack, parse_maps_tag, unpack

HOSTILE = '<img src=x onerror="alert(1)">/../../etc/passwd'
STEPS = [*range(12), 2**40]
SECONDS = 2.5


@pytest.fixture(scope="module")
def tagger() -> Any:
    return tiny.random_tagger()


@pytest.fixture(scope="module")
def logdir(tagger: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs; the second has a clip with a hostile name at every step, and records that are damaged."""
    folder = tmp_path_factory.mktemp("logs")
    wave = tiny.noise(int(SECONDS * tiny.RATE), seed=3)
    soundfile.write(folder / "song.wav", wave, tiny.RATE)
    writer = tf.summary.create_file_writer(str(folder / "first"))
    log_explanation(writer, tagger, folder / "song.wav", step=4, truth=["low"])
    writer.close()
    writer = tf.summary.create_file_writer(str(folder / "second"))
    for step in STEPS:
        log_explanation(writer, tagger, (wave, tiny.RATE), step, name=HOSTILE)
    metadata = summary_pb2.SummaryMetadata(data_class=summary_pb2.DATA_CLASS_TENSOR)
    metadata.plugin_data.plugin_name = "keras_tagger"
    damaged = {
        "maps/song/1": [b"x"],
        "maps/song/2": [pack({"scores": {}}), b"not zlib"],
        "maps/song/3": [pack({"scores": {}}), zlib.compress(b'{"values": NaN}')],
        "maps/other/1": [pack({"scores": ["x"]}), pack({})],
        "clip/song": [pack({"version": 1})],
    }
    with writer.as_default(step=0):
        for tag, values in damaged.items():
            tf.summary.write(tag, tf.constant(values), metadata=metadata)
    writer.close()
    writer = tf.summary.create_file_writer(str(folder / "without"))
    with writer.as_default(step=0):
        tf.summary.scalar("loss", 1.0)
    writer.close()
    return folder


@pytest.fixture(scope="module", params=["rust", "python"])
def client(request: pytest.FixtureRequest, logdir: Path) -> Client:
    if request.param == "rust":
        ingester = SubprocessServerDataIngester(
            get_server_binary(), str(logdir), reload_interval=0, channel_creds_type=ChannelCredsType.LOCAL
        )
        ingester.start()
        provider = ingester.data_provider
    else:
        # As LocalDataIngester sets it up.
        multiplexer = EventMultiplexer(size_guidance={"tensors": 10})
        multiplexer.AddRunsFromDirectory(str(logdir))
        multiplexer.Reload()
        provider = MultiplexerDataProvider(multiplexer, str(logdir))
    plugin = TaggerPlugin(TBContext(data_provider=provider))
    found = Client(TensorBoardWSGI([plugin], data_provider=provider))
    for _ in range(100):
        runs = {run["name"]: run["clips"] for run in get(found, "runs").json["runs"]}
        if any(clip["steps"][-1:] == STEPS[-1:] for clip in runs.get("second", [])) and len(runs) == 3:
            break
        time.sleep(0.05)
    return found


def get(client: Client, route: str, **query: Any) -> TestResponse:
    headers = query.pop("headers", None)
    return client.get(f"/data/plugin/keras_tagger/{route}", query_string=query, headers=headers)


def array(value: dict[str, Any]) -> np.ndarray:
    low, high = value["range"]
    flat = np.frombuffer(base64.b64decode(value["data"]), value["dtype"])
    return low + flat.reshape(value["shape"]) / np.iinfo(value["dtype"]).max * (high - low)


def test_runs_have_all_their_clips_and_steps(client: Client) -> None:
    """More steps than TensorBoard keeps of a tag."""
    runs = get(client, "runs").json["runs"]
    assert [run["name"] for run in runs] == ["first", "second", "without"]
    assert runs[0]["clips"] == [{"name": "song.wav", "steps": [4]}]
    assert {"name": HOSTILE, "steps": STEPS} in runs[1]["clips"]
    assert runs[2]["clips"] == []


def test_maps_are_the_models(client: Client, tagger: Any, logdir: Path) -> None:
    found = get(client, "maps", run="first", clip="song.wav", step=4).json
    scores = tagger.scores(logdir / "song.wav")
    assert [tag["name"] for tag in found["tags"]] == list(tagger.tags)
    np.testing.assert_allclose([tag["score"] for tag in found["tags"]], scores, atol=1e-5)
    assert [tag["truth"] for tag in found["tags"]] == [tag == "low" for tag in tagger.tags]
    maps = {one["id"]: one for one in found["maps"]}
    expected = tagger.contributions(logdir / "song.wav").values
    np.testing.assert_allclose(array(maps["contributions"]["values"]), expected, atol=1 / 255)
    attention = tagger.attention(logdir / "song.wav")
    cls = np.concatenate([window.weights[:, :, 0, 1:][..., -window.n_new :] for window in attention.windows], axis=2)
    layers, heads, n_tokens = cls.shape
    assert (maps["attention"]["layers"], maps["attention"]["heads"]) == (layers, heads)
    np.testing.assert_allclose(array(maps["attention"]["values"]), cls.reshape(-1, n_tokens), atol=1e-4)


def test_clip_document(client: Client, tagger: Any) -> None:
    found = get(client, "clip", run="second", clip=HOSTILE).json
    assert found["name"] == HOSTILE
    assert found["seconds"] == SECONDS
    assert found["audio"] == {"type": "audio/ogg"}
    assert found["token_seconds"] == pytest.approx(tagger.model.hop_seconds)
    assert found["first_seconds"] == pytest.approx(0.0)
    frames, bands = found["spectrogram"]["values"]["shape"]
    assert (bands, len(found["spectrogram"]["hz"])) == (32, 32)
    assert frames * found["spectrogram"]["seconds"] == pytest.approx(SECONDS, abs=0.2)


def test_scores_over_the_steps(client: Client, tagger: Any) -> None:
    found = get(client, "scores", run="second", clip=HOSTILE).json
    assert found["tags"] == list(tagger.tags)
    assert found["steps"] == STEPS
    np.testing.assert_allclose(found["scores"], np.tile(found["scores"][0], (len(STEPS), 1)))


def test_audio_is_served_in_ranges(client: Client, logdir: Path, tmp_path: Path) -> None:
    whole = get(client, "audio", run="second", clip=HOSTILE)
    assert (whole.status_code, whole.mimetype) == (200, "audio/ogg"), whole.text
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    (tmp_path / "audio.ogg").write_bytes(whole.data)
    heard, rate = soundfile.read(tmp_path / "audio.ogg")
    assert len(heard) / rate == pytest.approx(SECONDS, abs=0.01)
    part = get(client, "audio", run="second", clip=HOSTILE, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.data) == (206, whole.data[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(whole.data)}"
    last = get(client, "audio", run="second", clip=HOSTILE, headers={"Range": "bytes=-5"})
    assert (last.status_code, last.data) == (206, whole.data[-5:])
    beyond = get(client, "audio", run="second", clip=HOSTILE, headers={"Range": f"bytes={len(whole.data)}-"})
    assert beyond.status_code == 416
    same = get(client, "audio", run="second", clip=HOSTILE, headers={"If-None-Match": whole.headers["ETag"]})
    assert same.status_code == 304


@pytest.mark.parametrize(
    ("route", "query", "status", "words"),
    [
        ("clip", {"run": "first"}, 400, "expected ?run=...&clip=..."),
        ("clip", {"run": "../first", "clip": "song.wav"}, 404, "run '../first' has no 'clip/song.wav'"),
        ("maps", {"run": "first", "clip": "song.wav", "step": "-1"}, 400, "Received: '-1'"),
        ("maps", {"run": "first", "clip": "song.wav", "step": "4/../4"}, 400, "expected step="),
        ("maps", {"run": "first", "clip": "song.wav", "step": "9" * 30}, 400, "expected step="),
        ("maps", {"run": "first", "clip": "song.wav", "step": "5"}, 404, "has no"),
        ("scores", {"run": "first", "clip": "/etc/passwd"}, 404, "has no clip '/etc/passwd'"),
        ("audio", {"run": "first", "clip": HOSTILE}, 404, "has no 'audio/"),
        ("audio", {"run": "second", "clip": "song"}, 404, "has no 'audio/"),
        ("maps", {"run": "second", "clip": "song", "step": "1"}, 400, "as log_explanation writes it"),
        ("maps", {"run": "second", "clip": "song", "step": "2"}, 400, "expected a document"),
        ("maps", {"run": "second", "clip": "song", "step": "3"}, 400, "a number is NaN"),
        ("scores", {"run": "second", "clip": "other"}, 400, "expected a score by tag"),
        ("plugin.py", {}, 404, "Not found"),
        ("../../../plugin.py", {}, 404, "Not found"),
    ],
)
def test_bad_requests(client: Client, route: str, query: dict[str, str], status: int, words: str) -> None:
    found = get(client, route, **query)
    assert (found.status_code, found.mimetype) == (status, "text/plain")
    assert words in found.text


def test_the_tab_and_its_files(client: Client) -> None:
    listed = client.get("/data/plugins_listing").json["keras_tagger"]
    assert listed["enabled"]
    assert listed["loading_mechanism"] == {"type": "IFRAME", "module_path": "/data/plugin/keras_tagger/index.js"}
    for name in ("index.js", "player.js"):
        found = get(client, name)
        assert (found.status_code, found.mimetype) == (200, "text/javascript")
    entry = client.get("/data/plugin_entry.html?name=keras_tagger")
    assert "default-src 'self'" in entry.headers["Content-Security-Policy"]


def test_a_damaged_document_is_refused() -> None:
    document = {
        "values": {"shape": [2, 3], "dtype": "uint8", "range": [0, 1], "data": base64.b64encode(bytes(6)).decode()}
    }
    packed = pack(document)
    assert unpack(packed) == document
    for shape, kind, data in (
        ([2, 2], "uint8", "AAAAAAAA"),
        ([-1], "uint8", ""),
        ([6], "object", "AAAAAAAA"),
        ([1], "uint8", "?"),
    ):
        bad = {"values": {"shape": shape, "dtype": kind, "data": data}}
        with pytest.raises(ModelError, match="expected a document of the keras_tagger plugin"):
            unpack(pack(bad))
    with pytest.raises(ModelError, match="cut off or too large"):
        unpack(packed[:-6])
    with pytest.raises(ModelError, match="cut off or too large"):
        unpack(zlib.compress(b" " * (65 << 20)))
    with pytest.raises(ModelError, match="Received: list"):
        unpack(zlib.compress(b"[]"))


def test_names_with_slashes_and_digits() -> None:
    assert parse_maps_tag("maps/a/1/2") == ("a/1", 2)
    assert parse_maps_tag("maps/2") is None
    assert parse_maps_tag("clip/a/2") is None
    assert parse_maps_tag("maps/a/\u00b2") is None


def test_what_cannot_be_logged(tagger: Any, tmp_path: Path) -> None:
    writer = tf.summary.create_file_writer(str(tmp_path))
    with pytest.raises(ModelError, match="name: expected a name for a clip that is not a file"):
        log_explanation(writer, tagger, (np.zeros(16000, np.float32), 16000), 0)
    with pytest.raises(ModelError, match="step: expected 0 or more. Received: -1"):
        log_explanation(writer, tagger, (np.zeros(16000, np.float32), 16000), -1, name="x")
