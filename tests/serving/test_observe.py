"""What the server records of requests: ids, the access log, traces, logged requests; and compressed replies."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

import unrelated
from keras_tagger.errors import ServingError
from keras_tagger.serving.compression import MIN_BYTES
from keras_tagger.serving.config_files import read_models
from keras_tagger.serving.observe import REQUEST_ID, make_tracer
from keras_tagger.serving.server import Server
from raw_requests import Raw, wait_until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
X = [[1.0, 2.0, 3.0]]
PATH = "/v1/models/m:predict"
BODY = {"signature_name": "mean", "inputs": X}


def message(name: str) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, "mean"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(X))
    return request


@pytest.fixture(scope="module")
def spans() -> Any:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


def config(base: Path, logging_config: str) -> str:
    return f"""
        model_config_list {{
          config {{
            name: "m" base_path: "{base}" model_platform: "tensorflow"
            logging_config {{ {logging_config} }}
          }}
        }}
    """


@pytest.fixture(scope="module")
def server(spans: Any, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that records everything."""
    base = tmp_path_factory.mktemp("observed")
    unrelated.save(base, 1)
    file = base / "models.config"
    collector = f'log_collector_config {{ type: "tfrecord" filename_prefix: "{logs}/m" }}'
    file.write_text(config(base, collector + " sampling_config { sampling_rate: 1.0 }"))
    flags = {
        "access_log": True,
        "enable_tracing": True,
        "grpc_channel_arguments": "grpc.default_compression_algorithm=2",
    }
    with Server(model_config_file=str(file), port=0, rest_api_port=-1, **flags) as server:
        yield server


def ask(server: Server, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, None if body is None else json.dumps(body), named)
    return connection.getresponse()


def lines(records: Any) -> list[dict[str, Any]]:
    return [record.fields for record in records if record.getMessage() == "request"]


def test_ids_and_lines_over_http(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "keras_tagger.serving"):
        reply = ask(server, "POST", PATH, BODY, X_Request_Id="abc-1", traceparent=TRACEPARENT)
        assert (reply.status, reply.headers[REQUEST_ID]) == (200, "abc-1")
        # Anything that could fake a header or a line gets a new id.
        other = ask(server, "GET", "/v1/models/nope", X_Request_Id="a b").headers[REQUEST_ID]
        assert re.fullmatch(r"[0-9a-f]{32}", other)
        ask(server, "GET", "/v2/health/live")
        ask(server, "GET", "/monitoring/prometheus/metrics").read()
    first, second = lines(caplog.records)
    assert first.pop("seconds") > 0
    assert first == {
        "request_id": "abc-1",
        "trace_id": TRACE,
        "method": "POST /v1/models/MODEL:predict",
        "path": PATH,
        "status": 200,
        "peer": first["peer"],
    }
    assert (second["request_id"], second["status"], second["path"]) == (other, 404, "/v1/models/nope")


def test_ids_and_lines_over_grpc(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    method = Raw(server.port).prediction.Predict
    with caplog.at_level(logging.INFO, "keras_tagger.serving"):
        metadata = ((REQUEST_ID, "g-1"), ("traceparent", TRACEPARENT))
        # Without a deadline, as grpc-js and others call.
        _, call = method.with_call(message("m"), metadata=metadata)
        assert dict(call.trailing_metadata())[REQUEST_ID] == "g-1"
        with pytest.raises(grpc.RpcError) as refusal:
            method(message("nope"), timeout=60)
        assert REQUEST_ID in dict(refusal.value.trailing_metadata())
    first, second = lines(caplog.records)
    assert (first["request_id"], first["trace_id"], first["status"]) == ("g-1", TRACE, "OK")
    assert first["path"] == "/tensorflow.serving.PredictionService/Predict"
    assert second["status"] == "NOT_FOUND"


def test_traces(server: Server, spans: Any) -> None:
    spans.clear()
    ask(server, "POST", PATH, BODY, traceparent=TRACEPARENT).read()
    run, request = spans.get_finished_spans()
    assert (run.name, dict(run.attributes)) == ("run model", {"model": "m", "version": 1})
    assert request.name == "POST /v1/models/MODEL:predict"
    assert request.attributes["http.response.status_code"] == 200
    assert {f"{span.context.trace_id:032x}" for span in (run, request)} == {TRACE}
    assert run.parent.span_id == request.context.span_id
    assert f"{request.parent.span_id:016x}" == "00f067aa0ba902b7"


def test_a_missing_opentelemetry_says_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ServingError, match=r'from pip install "keras_tagger\[otel\]". Received: it is missing'):
        make_tracer()


def test_requests_are_logged_as_warm_up_requests_are(server: Server, logs: Path) -> None:
    ask(server, "POST", PATH, BODY).read()

    def records() -> list[Any]:
        return [
            prediction_log_pb2.PredictionLog.FromString(record)
            for file in sorted(logs.glob("m-*.tfrecord"))
            for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
        ]

    wait_until(lambda: bool(records()))
    entry = records()[-1]
    assert tf.make_ndarray(entry.predict_log.request.inputs["x"]).tolist() == X
    assert entry.predict_log.response.outputs
    assert (entry.log_metadata.model_spec.name, entry.log_metadata.model_spec.version.value) == ("m", 1)
    assert entry.log_metadata.sampling_config.sampling_rate == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('log_collector_config { type: "file" filename_prefix: "x" }', "of type 'tfrecord'. Received: 'file'"),
        ('log_collector_config { type: "tfrecord" }', "expected a filename_prefix"),
        (
            'log_collector_config { type: "tfrecord" filename_prefix: "x" } sampling_config { sampling_rate: 2 }',
            "expected a sampling_rate of 0 to 1. Received: 2",
        ),
    ],
)
def test_a_logging_config_that_cannot_be_followed(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "models.config").write_text(config(tmp_path, text))
    with pytest.raises(ServingError, match=message):
        read_models(str(tmp_path / "models.config"))


def test_replies_are_compressed_if_the_client_accepts_it(server: Server) -> None:
    body = {"signature_name": "mean", "inputs": np.zeros((300, 3)).tolist()}
    plain = ask(server, "POST", PATH, body)
    assert plain.headers["Content-Encoding"] is None
    text = plain.read()
    assert len(text) > MIN_BYTES
    for accepted, coded in (("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False), ("br", False)):
        reply = ask(server, "POST", PATH, body, Accept_Encoding=accepted)
        found = reply.read()
        assert (reply.headers["Content-Encoding"] == "gzip") == coded
        assert (gzip.decompress(found) if coded else found) == text
    small = ask(server, "GET", "/v2/health/live", Accept_Encoding="gzip")
    assert small.headers["Content-Encoding"] is None


def test_a_stream_is_compressed_line_by_line(contract: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", contract.rest_api_port, timeout=60)
    path = "/v1/models/ours:stream?encoding=int16&sample_rate=16000"
    connection.request("POST", path, np.zeros(40_000, "<i2").tobytes(), {"Accept-Encoding": "gzip"})
    reply = connection.getresponse()
    assert reply.headers["Content-Encoding"] == "gzip"
    found = zlib.decompress(reply.read(), zlib.MAX_WBITS | 16)
    assert [json.loads(line).get("whole", False) for line in found.splitlines()] == [False, False, False, False, True]


def test_grpc_accepts_and_answers_compressed(server: Server) -> None:
    reply = Raw(server.port).prediction.Predict(message("m"), timeout=60, compression=grpc.Compression.Gzip)
    np.testing.assert_allclose(tf.make_ndarray(reply.outputs["y"]), [2.0])
