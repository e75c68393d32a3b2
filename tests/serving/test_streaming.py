"""Streams: audio in pieces over gRPC and HTTP, with the numbers that the tagger gives for the whole clip."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from google.protobuf import descriptor_pb2

from keras_tagger.audio import RawAudio
from keras_tagger.client import AsyncClient, AsyncTagStream, Client, StreamedWindow
from keras_tagger.client.stream_messages import STREAM
from keras_tagger.errors import AudioError, ServingError
from tiny import RATE, TAGS, noise

# Type, name and number.
FIELD = r"([\w ]+?) (\w+) = (\d+);"
# Two windows and a part of a third.
CLIP = noise(2 * 16384 + 5000, 3)


@pytest.fixture(scope="module")
def client(contract: Any) -> Iterator[Client]:
    with Client(f"127.0.0.1:{contract.port}", "ours", sample_rate=RATE) as client:
        yield client


def test_a_stream_says_what_the_tagger_says(client: Client, music: Any) -> None:
    stream = client.stream((CLIP, RATE), contributions=True, top=None)
    windows = list(stream)
    tags, heat = music.tag((CLIP, RATE), top=None), music.contributions((CLIP, RATE))
    assert stream.tags.names == tags.names
    np.testing.assert_allclose(stream.tags.scores, tags.scores, atol=1e-5)
    np.testing.assert_array_equal(stream.tags.present, tags.present)
    assert len(windows) == 3
    assert windows[0].tags == TAGS
    assert windows[0].start_seconds == 0
    assert [one.start_seconds for one in windows[1:]] == [one.end_seconds for one in windows[:-1]]
    assert windows[-1].end_seconds == pytest.approx(len(CLIP) / RATE)
    np.testing.assert_allclose(np.concatenate([one.contributions for one in windows], 1), heat.values, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([one.times for one in windows]), heat.times, atol=1e-6)
    first = music.scores((CLIP[: music.model.window_samples], RATE))
    np.testing.assert_allclose(windows[0].scores, first, atol=1e-5)


def test_an_asynchronous_stream_says_the_same(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("not audio")

    async def listen() -> tuple[list[StreamedWindow], AsyncTagStream]:
        async with AsyncClient(client.address, "ours", sample_rate=RATE) as own:
            with pytest.raises(AudioError, match=r"a\.wav"):
                await anext(own.stream(tmp_path / "a.wav"))
            stream = own.stream((CLIP, RATE), contributions=True, top=None)
            with pytest.raises(ServingError, match="expected a stream whose windows have all been read"):
                stream.tags  # noqa: B018
            return [window async for window in stream], stream

    found, stream = asyncio.run(listen())
    expected = client.stream((CLIP, RATE), contributions=True, top=None)
    for one, other in zip(found, expected, strict=True):
        assert (one.start_seconds, one.end_seconds, one.tags) == (other.start_seconds, other.end_seconds, other.tags)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
        np.testing.assert_allclose(one.contributions, other.contributions, atol=1e-6)
    assert stream.tags.to_dict() == pytest.approx(expected.tags.to_dict(), abs=1e-6)


def test_windows_come_while_the_audio_goes_on(client: Client, music: Any) -> None:
    heard = threading.Event()
    window = music.model.window_samples

    def pieces() -> Iterator[bytes]:
        yield CLIP[: window + RATE].astype("<f4").tobytes()
        assert heard.wait(60), "no window came before the end of the audio"
        yield CLIP[window + RATE :].astype("<f4").tobytes()

    stream = client.stream(RawAudio(pieces(), RATE), top=None)
    first = next(stream)
    heard.set()
    assert first.end_seconds == pytest.approx(window / RATE)
    assert len(list(stream)) == 2
    np.testing.assert_allclose(stream.tags.scores, music.tag((CLIP, RATE), top=None).scores, atol=1e-5)


def test_a_stream_of_bad_audio(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("not audio")
    with pytest.raises(AudioError, match=r"a\.wav"):
        list(client.stream(tmp_path / "a.wav"))
    with pytest.raises(ServingError, match="expected a stream whose windows have all been read"):
        client.stream((CLIP, RATE)).tags  # noqa: B018
    with Client(client.address, "nope") as other, pytest.raises(ServingError, match=r"NOT_FOUND.*Latest\(nope\)"):
        list(other.stream((CLIP, RATE)))
    with Client(client.address, "other") as other, pytest.raises(ServingError, match="FAILED_PRECONDITION.*exported"):
        list(other.stream((CLIP, RATE)))


def post(server: Any, query: str, pieces: list[bytes], name: str = "ours") -> tuple[int, list[dict[str, Any]]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=60)
    connection.request(
        "POST",
        f"/v1/models/{name}:stream?{query}",
        iter(pieces),
        encode_chunked=True,
        headers={"Transfer-Encoding": "chunked"},
    )
    response = connection.getresponse()
    return response.status, [json.loads(line) for line in response.read().splitlines()]


@pytest.mark.parametrize("kind", ["int16", "flac"])
def test_a_stream_over_http(contract: Any, music: Any, tmp_path: Path, kind: str) -> None:
    stereo = np.stack([CLIP, noise(len(CLIP), 4)], axis=1)
    samples = np.round(stereo * 2**15).clip(-(2**15), 2**15 - 1).astype("<i2")
    if kind == "int16":
        data, query = samples.tobytes(), f"encoding=int16&sample_rate={RATE}&channels=2&contributions=true"
    else:
        soundfile.write(tmp_path / "a.flac", samples, RATE)
        data, query = (tmp_path / "a.flac").read_bytes(), "contributions=true"
    # Pieces end within samples.
    status, lines = post(contract, query, [data[i : i + 10_001] for i in range(0, len(data), 10_001)])
    assert status == 200
    head, *windows, whole = lines
    assert head == {"model": "ours", "version": "1", "tags": list(TAGS)}
    assert whole["whole"]
    assert whole["warnings"] == []
    np.testing.assert_allclose(whole["scores"], music.scores((samples, RATE)), atol=1e-5)
    values = np.concatenate([window["contributions"] for window in windows], axis=1)
    np.testing.assert_allclose(values, music.contributions((samples, RATE)).values, atol=1e-5)


@pytest.mark.parametrize(
    ("query", "pieces", "name", "status", "text"),
    [
        ("encoding=mp4", [b"1"], "ours", 400, "expected encoding float32, int16 or file. Received: 'mp4'"),
        ("encoding=int16", [b"12"], "ours", 400, "sample rate of raw samples"),
        ("encoding=int16&sample_rate=x", [b"12"], "ours", 400, "expected sample_rate to be a whole number"),
        ("encoding=int16&sample_rate=8000&channels=99", [b"12"], "ours", 400, "1 to 64 channels"),
        ("encoding=int16&sample_rate=8000", [], "ours", 400, "at least one sample"),
        ("encoding=int16&sample_rate=8000", [b"123"], "ours", 400, "whole samples"),
        ("encoding=float32&sample_rate=8000", [np.float32("nan").tobytes()], "ours", 400, "finite samples"),
        ("rate=8000", [b"1"], "ours", 400, "expected encoding, sample_rate, channels, contributions"),
        ("", [b"not audio"], "ours", 400, "Expected"),
        ("", [b"not audio"], "nope", 404, "Latest(nope)"),
    ],
)
def test_refusals_over_http(contract: Any, query: str, pieces: list[bytes], name: str, status: int, text: str) -> None:
    found, (reply,) = post(contract, query, pieces, name)
    assert found == status
    assert text in reply["error"]


def test_refusals_over_grpc(contract: Any) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{contract.port}") as channel:
        kind, reply = STREAM.methods["Stream"]
        method = channel.stream_stream(f"/{STREAM.service}/Stream", kind.SerializeToString, reply.FromString)
        with pytest.raises(grpc.RpcError, match="expected a config in the first message"):
            next(method(iter([kind(audio=b"1")]), timeout=60))


def test_a_stream_that_sends_nothing_is_ended(contract: Any, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    list(client.stream((CLIP, RATE)))  # so that the server knows the model
    monkeypatch.setattr("keras_tagger.serving.streaming.IDLE_SECONDS", 0.3)
    over = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield CLIP[:RATE].astype("<i2").tobytes()
        over.wait(60)

    def chunks() -> Iterator[bytes]:
        for piece in pieces():
            yield b"%x\r\n%s\r\n" % (len(piece), piece)

    try:
        with pytest.raises(ServingError, match="CANCELLED"):
            list(client.stream(RawAudio(pieces(), RATE, sample_type="int16")))
        with socket.create_connection(("127.0.0.1", contract.rest_api_port), timeout=60) as connection:
            head = f"POST /v1/models/ours:stream?encoding=int16&sample_rate={RATE} HTTP/1.1\r\nHost: x\r\n"
            connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + next(chunks()))
            reply = http.client.HTTPResponse(connection)
            reply.begin()
            *_, last = map(json.loads, reply.read().splitlines())
        assert last["error"] == "expected a piece of audio within 0.3 s. Received: none."
    finally:
        over.set()


def test_silence_is_reported_at_the_end(contract: Any) -> None:
    silence = np.zeros(RATE, "<i2").tobytes()
    _, lines = post(contract, f"encoding=int16&sample_rate={RATE}", [silence])
    assert [one["kind"] for one in lines[-1]["warnings"]] == ["silent"]
    assert set(lines[-1]["scores"]) == {0.0}


def test_the_published_messages_are_those_in_use() -> None:
    text = (Path(__file__).parents[2] / "examples" / "audio_tagging.proto").read_text(encoding="utf-8")
    published = {
        name: {
            field: (int(number), kind.strip()) for kind, field, number in re.findall(r"([\w ]+?) (\w+) = (\d+);", body)
        }
        for name, body in re.findall(r"message (\w+) {(.*?)\n}", text, re.DOTALL)
    }
    kinds = {1: "double", 2: "float", 3: "int64", 5: "int32", 8: "bool", 9: "string", 12: "bytes"}
    used: dict[str, Any] = {}
    file = descriptor_pb2.FileDescriptorProto()
    STREAM.file.CopyToProto(file)
    for message in file.message_type:
        fields = used[message.name] = {}
        for field in message.field:
            kind = kinds.get(field.type) or field.type_name.rpartition(".")[2]
            fields[field.name] = (field.number, f"repeated {kind}" if field.label == field.LABEL_REPEATED else kind)
    assert published == used
    (method,) = file.service[0].method
    assert f"rpc {method.name}(stream StreamRequest) returns (stream StreamResponse);" in text
    assert (method.client_streaming, method.server_streaming) == (True, True)
