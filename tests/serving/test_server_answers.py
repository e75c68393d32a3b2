"""What the embedded server answers: predictions, metadata, status; several at once, and too late."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from keras_tagger.errors import ServingError
from keras_tagger.serving.grpc_services import Gate, RequestThreads
from keras_tagger.serving.server import Server
from keras_tagger.serving.status import StatusError
from raw_requests import Raw, as_numpy, refusal
from served_modules import CLIP, CLIP_TAGS, WEIGHTS


def test_predict_answers_the_default_signature_in_typed_fields(tagger):
    response = tagger.predict({"waveform": CLIP})
    np.testing.assert_allclose(as_numpy(response)["tags"], CLIP_TAGS, rtol=1e-6)
    proto = response.outputs["tags"]
    assert list(proto.float_val) == pytest.approx(CLIP_TAGS.ravel().tolist())
    assert proto.tensor_content == b""
    assert proto.dtype == types_pb2.DT_FLOAT
    assert [dim.size for dim in proto.tensor_shape.dim] == [2, 3]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 1, "serving_default")


def test_predict_answers_a_named_signature_and_version(tagger):
    response = tagger.predict({"waveform": CLIP}, "attention", version=1)
    outputs = as_numpy(response)
    assert sorted(outputs) == ["attention", "tags"]
    outer = CLIP[:, :, None] * CLIP[:, None, :]
    np.testing.assert_allclose(outputs["attention"], np.stack([outer, 2 * outer], axis=1), rtol=1e-6)
    assert response.model_spec.signature_name == "attention"
    assert response.model_spec.version.value == 1


def test_output_filter_gives_only_what_was_asked_for(tagger):
    assert list(tagger.predict({"waveform": CLIP}, "attention", outputs=["attention"]).outputs) == ["attention"]


def test_two_inputs_of_other_dtypes_from_the_highest_version(words):
    sent = [b"a", b"b\xc3\xa9\x00"]
    response = words.predict({"words": np.array(sent, object), "counts": np.array([7, -1], np.int32)})
    assert response.model_spec.version.value == 2
    assert list(response.outputs["joined"].string_val) == [b"a:7", b"b\xc3\xa9\x00:-1"]
    assert list(response.outputs["product"].int64_val) == [21, -3]


def test_the_attention_of_a_long_clip_is_larger_than_grpcs_default_limit(tagger):
    clip = np.linspace(-1.0, 1.0, 1100, dtype=np.float32)[None]
    attention = as_numpy(tagger.predict({"waveform": clip}, "attention"))["attention"]
    assert attention.nbytes > 2 * 4 * 2**20
    np.testing.assert_allclose(attention[0, 1], 2 * np.outer(clip[0], clip[0]), rtol=1e-6)


def test_metadata_has_every_signature(tagger):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "m"
    response = tagger.prediction.GetModelMetadata(request, timeout=60)
    assert (response.model_spec.name, response.model_spec.version.value) == ("m", 1)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "attention", "read"} <= set(signatures.signature_def)
    info = signatures.signature_def["serving_default"].inputs["waveform"]
    assert (info.dtype, [dim.size for dim in info.tensor_shape.dim]) == (types_pb2.DT_FLOAT, [-1, -1])


@pytest.mark.parametrize("version", [None, 2])
def test_status_of_the_served_version_is_available(words, version):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "m"
    if version:
        request.model_spec.version.value = version
    (status,) = words.model.GetModelStatus(request, timeout=60).model_version_status
    assert status.version == 2
    assert status.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert status.HasField("status")
    assert (status.status.error_code, status.status.error_message) == (0, "")


def test_concurrent_requests_each_get_their_own_answer(tagger):
    results = {}

    def ask(index):
        clip = np.full((1, 16), float(index), np.float32)
        results[index] = as_numpy(tagger.predict({"waveform": clip}))["tags"]

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(20):
        np.testing.assert_allclose(results[index], index * WEIGHTS[None], rtol=1e-6)


def test_a_deadline_stops_a_graph_that_runs(tagger_base, tmp_path):
    """A slow request of a client that has given up does not keep the place of others."""
    with Server(tagger_base, "m", port=0, workers=1) as server:
        raw = Raw(server.port)
        begun = time.monotonic()
        for _ in range(2):
            code, _ = refusal(raw.predict, {"path": str(tmp_path / "never")}, "wait", timeout=0.5)
            assert code in ("DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
        assert as_numpy(raw.predict({"by": np.int64(1)}, "count", timeout=20))["calls"] == 1
        assert time.monotonic() - begun < 20


def test_a_request_whose_client_has_gone_is_not_run(tagger_base, tmp_path):
    with Server(tagger_base, "m", port=0, workers=1) as server:
        raw = Raw(server.port)
        busy = threading.Thread(target=raw.predict, args=({"path": str(tmp_path / "go")}, "wait"))
        busy.start()
        time.sleep(0.5)
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "m", "count"
        request.inputs["by"].CopyFrom(tf.make_tensor_proto(np.int64(100)))
        waiting = raw.prediction.Predict.future(request)
        time.sleep(0.5)
        waiting.cancel()
        time.sleep(0.5)
        (tmp_path / "go").touch()
        busy.join()
        assert as_numpy(raw.predict({"by": np.int64(1)}, "count"))["calls"] == 1


def test_what_cannot_be_in_time_is_refused_before_it_is_received(tagger_base, tmp_path):
    """With every thread taken, and although the request itself has not come."""
    with Server(tagger_base, "m", port=0, workers=1, grpc_max_threads=2) as server:
        raw = Raw(server.port)
        slow = threading.Timer(1.0, (tmp_path / "later").touch)
        slow.start()
        raw.predict({"path": str(tmp_path / "later")}, "wait")
        waiting = [
            threading.Thread(target=raw.predict, args=({"path": str(tmp_path / "end")}, "wait")) for _ in range(4)
        ]
        for thread in waiting:
            thread.start()
        time.sleep(0.5)

        unsent = threading.Event()
        never = (b"" for _ in iter(unsent.wait, None))
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            with pytest.raises(grpc.RpcError) as caught:
                channel.stream_unary("/tensorflow.serving.PredictionService/Predict")(never, timeout=1.0)
            unsent.set()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "which is beyond its deadline" in caught.value.details()
        (tmp_path / "end").touch()
        for thread in waiting:
            thread.join()


def test_a_refusal_stays_in_the_thread_of_grpc_and_cannot_end_it():
    def check(call, waiting):
        if call.seconds_left() < 10:
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")

    def event(seconds):
        return SimpleNamespace(call_details=SimpleNamespace(deadline=time.time() + seconds))

    gate = Gate(RequestThreads(1), check)
    here = threading.get_ident()
    assert gate.submit(lambda event: threading.get_ident(), event(5)).result() == here
    assert gate.submit(lambda event: threading.get_ident(), event(50)).result() != here
    assert isinstance(gate.submit(lambda event: 1 / 0, event(5)).exception(), ZeroDivisionError)
    assert gate.submit(lambda event: threading.get_ident(), event(50)).result() != here


def test_a_request_without_a_message_is_refused(tagger):
    with grpc.insecure_channel(tagger.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary("/tensorflow.serving.PredictionService/Predict")(iter(()), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_server_stops_within_its_grace(tagger_base, tmp_path):
    server = Server(tagger_base, "m", port=0).start()
    raw = Raw(server.port)
    request = {"path": str(tmp_path / "go")}
    busy = threading.Thread(target=refusal, args=(raw.predict, request, "wait"))
    busy.start()
    time.sleep(0.5)
    begun = time.monotonic()
    server.stop(1.0)
    took = time.monotonic() - begun
    (tmp_path / "go").touch()
    busy.join()
    # The grace, and half a second for each of what is closed after it.
    assert took < 4.5
    assert not server.idle


def test_a_unix_socket(words_base, tmp_path):
    path = str(tmp_path / "grpc.sock")
    with Server(words_base, "m", port=0, grpc_socket_path=path), grpc.insecure_channel(f"unix:{path}") as channel:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "m"
        call = channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus")
        assert call(request.SerializeToString(), timeout=10)
    (tmp_path / "file").write_text("")
    with pytest.raises(ServingError, match="grpc_socket_path: expected the path of a socket"):
        Server(words_base, "m", port=0, grpc_socket_path=str(tmp_path / "file")).start()


def test_a_request_whose_deadline_passed_while_it_waited_is_not_run(tagger_base, tmp_path):
    with Server(tagger_base, "m", port=0, workers=1) as server:
        raw = Raw(server.port)
        assert as_numpy(raw.predict({"by": np.int64(1)}, "count"))["calls"] == 1
        busy = threading.Thread(target=raw.predict, args=({"path": str(tmp_path / "go")}, "wait"))
        busy.start()
        time.sleep(0.3)
        code, _ = refusal(raw.predict, {"by": np.int64(100)}, "count", timeout=0.3)
        assert code == "DEADLINE_EXCEEDED"
        # The server counts from when the request reached it, and gives up a little later than its client.
        time.sleep(1.0)
        (tmp_path / "go").touch()
        busy.join()
        assert as_numpy(raw.predict({"by": np.int64(1)}, "count"))["calls"] == 2
