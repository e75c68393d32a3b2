"""The open inference protocol v2, as clients of KServe and Triton speak it, against the predictions of the model."""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import pytest

from keras_tagger.serving.open_inference import LENGTH_HEADER, PROTOCOL
from tiny import TAGS, noise

CLIPS = np.stack([noise(9000, seed) for seed in (1, 2)])


@pytest.fixture(scope="module")
def expected(music: Any) -> Any:
    return np.stack([music.scores((clip, music.model.audio_config.sample_rate)) for clip in CLIPS])


@pytest.fixture(scope="module")
def call(contract: Any) -> Any:
    """Calls a method of GRPCInferenceService."""
    with grpc.insecure_channel(f"127.0.0.1:{contract.port}") as channel:

        def ask(method: str, **fields: Any) -> Any:
            kind, reply = PROTOCOL.methods[method]
            path = f"/{PROTOCOL.service}/{method}"
            return channel.unary_unary(path, kind.SerializeToString, reply.FromString)(kind(**fields), timeout=60)

        yield ask


def ask(server: Any, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Any:
    """Return status, headers and body of a reply."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=60)
    connection.request(method, path, body or None, dict(headers or {}))
    response = connection.getresponse()
    return response.status, response.headers, response.read()


def tensor(name: str, datatype: str, shape: list[int], **fields: Any) -> Any:
    return PROTOCOL.InferInputTensor(name=name, datatype=datatype, shape=shape, **fields)


@pytest.mark.parametrize("raw", [True, False])
def test_infer_over_grpc(call: Any, expected: Any, raw: bool) -> None:
    waveform = tensor("waveform", "FP32", [2, 9000])
    contents = [CLIPS.tobytes()]
    if not raw:
        waveform.contents.fp32_contents.extend(CLIPS.reshape(-1))
        contents = []
    reply = call("ModelInfer", model_name="ours", id="7", inputs=[waveform], raw_input_contents=contents)
    assert (reply.model_name, reply.model_version, reply.id) == ("ours", "1", "7")
    (output,) = reply.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("tags", "FP32", [2, len(TAGS)])
    found = np.frombuffer(reply.raw_output_contents[0], "<f4").reshape(2, -1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_strings_and_signatures_over_grpc(call: Any) -> None:
    names = [TAGS[0].encode(), b"nothing"]
    parameters = {"signature_name": PROTOCOL.InferParameter(string_param="tag_info")}
    asked = [PROTOCOL.InferRequestedOutputTensor(name=name) for name in ("threshold", "heard")]
    raw = b"".join(struct.pack("<I", len(name)) + name for name in names)
    inputs = [tensor("tags", "BYTES", [2])]
    reply = call(
        "ModelInfer", model_name="ours", parameters=parameters, inputs=inputs, outputs=asked, raw_input_contents=[raw]
    )
    assert [output.name for output in reply.outputs] == ["threshold", "heard"]
    thresholds = np.frombuffer(reply.raw_output_contents[0], "<f4")
    assert np.isfinite(thresholds[0])
    assert np.isnan(thresholds[1])
    assert reply.raw_output_contents[1] == b"\1\0"
    inputs = [tensor("tags", "BYTES", [2], contents={"bytes_contents": names})]
    again = call("ModelInfer", model_name="ours", parameters=parameters, inputs=inputs, outputs=asked)
    assert again.raw_output_contents == reply.raw_output_contents


def test_health_and_metadata(contract: Any, call: Any) -> None:
    assert call("ServerLive").live
    assert call("ServerReady").ready
    assert call("ModelReady", name="ours", version="1").ready
    assert not call("ModelReady", name="ours", version="9").ready
    assert call("ServerMetadata").name == "keras_tagger"
    described = call("ModelMetadata", name="ours")
    assert (described.versions, described.platform) == (["1"], "tensorflow_savedmodel")
    assert [(one.name, one.datatype, list(one.shape)) for one in described.inputs] == [("waveform", "FP32", [-1, -1])]

    def get(path: str) -> Any:
        status, _, body = ask(contract, "GET", path)
        return status, json.loads(body)

    assert get("/v2/health/live") == (200, {"live": True})
    assert get("/v2/health/ready") == (200, {"ready": True})
    assert get("/v2/models/ours/ready") == (200, {"name": "ours", "ready": True})
    assert get("/v2/models/ours/versions/9/ready") == (404, {"name": "ours", "ready": False})
    assert get("/v2")[1]["extensions"] == ["binary_tensor_data"]
    status, found = get("/v2/models/ours/versions/1?signature_name=contributions")
    assert (status, [one["name"] for one in found["outputs"]]) == (200, ["contributions", "tags", "times"])
    assert found["inputs"] == [{"name": "waveform", "datatype": "FP32", "shape": [-1, -1]}]


@pytest.mark.parametrize("nested", [True, False])
def test_infer_over_http_in_json(contract: Any, expected: Any, nested: bool) -> None:
    data = CLIPS.tolist() if nested else CLIPS.reshape(-1).tolist()
    body = {"id": "a", "inputs": [{"name": "waveform", "shape": [2, 9000], "datatype": "FP32", "data": data}]}
    status, _, reply = ask(contract, "POST", "/v2/models/ours/infer", json.dumps(body).encode())
    found = json.loads(reply)
    assert (status, found["model_name"], found["model_version"], found["id"]) == (200, "ours", "1", "a")
    (output,) = found["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("tags", "FP32", [2, len(TAGS)])
    np.testing.assert_allclose(np.reshape(output["data"], (2, -1)), expected, atol=1e-5)


def test_infer_over_http_in_binary(contract: Any, expected: Any) -> None:
    size = {"binary_data_size": CLIPS.nbytes}
    head = {
        "inputs": [{"name": "waveform", "shape": [2, 9000], "datatype": "FP32", "parameters": size}],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    headers = {LENGTH_HEADER: str(len(text))}
    status, replied, body = ask(contract, "POST", "/v2/models/ours/infer", text + CLIPS.tobytes(), headers)
    assert status == 200
    length = int(replied[LENGTH_HEADER])
    (output,) = json.loads(body[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": len(body) - length}
    np.testing.assert_allclose(np.frombuffer(body[length:], "<f4").reshape(2, -1), expected, atol=1e-5)


GOOD = {"name": "waveform", "shape": [1, 2], "datatype": "FP32", "data": [0.1, 0.2]}


@pytest.mark.parametrize(
    ("path", "document", "status", "text"),
    [
        ("ours", {"inputs": [{**GOOD, "shape": [1, 3]}]}, 400, "expected 3 elements of waveform"),
        ("ours", {"inputs": [{**GOOD, "datatype": "FP33"}]}, 400, "expected datatype of waveform"),
        ("ours", {"inputs": [{**GOOD, "shape": [-1]}]}, 400, "expected shape of waveform"),
        ("ours", {"inputs": [{**GOOD, "datatype": "INT32", "data": [1, 2]}]}, 400, "to be float but int32 is provided"),
        ("ours", {"inputs": [{**GOOD, "name": "x"}]}, 400, "x"),
        ("ours", {"inputs": [{"name": "waveform"}]}, 400, "expected name, datatype and shape"),
        ("ours", {"inputs": []}, 400, "expected inputs"),
        ("ours", {}, 400, "expected inputs"),
        ("ours", {"inputs": [GOOD], "parameters": {"signature_name": "no"}}, 400, '"no" not found'),
        ("ours", {"inputs": [GOOD], "outputs": [{"name": "no"}]}, 400, "not found in signature: no"),
        (
            "ours",
            {"inputs": [{**GOOD, "parameters": {"binary_data_size": 9}}]},
            400,
            "binary_data_size up to 0",
        ),
        ("ours/versions/9", {"inputs": [GOOD]}, 404, "Specific(ours, 9)"),
        ("ours/versions/x", {"inputs": [GOOD]}, 400, "Unrecognized servable version label: x"),
        ("nope", {"inputs": [GOOD]}, 404, "Latest(nope)"),
    ],
)
def test_refusals(contract: Any, path: str, document: Any, status: int, text: str) -> None:
    found, _, reply = ask(contract, "POST", f"/v2/models/{path}/infer", json.dumps(document).encode())
    assert found == status
    assert text in json.loads(reply)["error"]


def test_refusals_over_grpc(call: Any) -> None:
    for fields, code in (
        ({"model_name": "nope"}, "NOT_FOUND"),
        ({"inputs": [tensor("waveform", "FP32", [1, 3])], "raw_input_contents": [b"1234"]}, "INVALID_ARGUMENT"),
        ({"inputs": [tensor("waveform", "FP32", [1, 3])], "raw_input_contents": [b"", b""]}, "INVALID_ARGUMENT"),
        ({"inputs": [tensor("waveform", "FP16", [1, 1])]}, "INVALID_ARGUMENT"),
    ):
        with pytest.raises(grpc.RpcError) as refusal:
            call("ModelInfer", **{"model_name": "ours", **fields})
        assert refusal.value.code().name == code


def test_a_label_is_a_version(contract: Any, call: Any) -> None:
    assert call("ModelReady", name="other", version="old").ready
    assert call("ModelMetadata", name="other", version="old").versions == ["1"]
