"""gRPC from outside: Classify, Regress, MultiInference, versions, labels, reload, health, reflection, odd messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    regression_pb2,
)

import unrelated
from keras_tagger.serving.server import Server
from raw_requests import Raw, as_numpy, refusal
from tiny import TAGS, noise
from unrelated import example

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
WORDS = {"words": np.array([b"a"], object), "counts": np.array([3], np.int32)}


@pytest.fixture(scope="module")
def raw(contract: Any) -> Raw:
    return Raw(contract.port)


def classification(signature: str, *examples: tf.train.Example, name: str = "other", context: Any = None) -> Any:
    return _filled(classification_pb2.ClassificationRequest(), signature, examples, name, context)


def regression(signature: str, *examples: tf.train.Example, name: str = "other") -> Any:
    return _filled(regression_pb2.RegressionRequest(), signature, examples, name, None)


def _filled(request: Any, signature: str, examples: Any, name: str, context: Any) -> Any:
    request.model_spec.name, request.model_spec.signature_name = name, signature
    into = request.input.example_list
    if context is not None:
        into = request.input.example_list_with_context
        into.context.CopyFrom(context)
    into.examples.extend(examples)
    return request


def test_classify(raw: Raw) -> None:
    reply = raw.prediction.Classify(classification("classify", example(x=1.5), example(x=-1.0)), timeout=60)
    found = [[(entry.label, entry.score) for entry in row.classes] for row in reply.result.classifications]
    assert found == [[("up", 3.0), ("down", -3.0)], [("up", -2.0), ("down", 2.0)]]
    spec = reply.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("other", 2, "classify")


def test_classify_with_scores_alone_and_a_context(raw: Raw) -> None:
    request = classification("scores_only", example(y=1.0), example(x=4.0), context=example(x=2.5))
    reply = raw.prediction.Classify(request, timeout=60)
    found = [[(entry.label, entry.score) for entry in row.classes] for row in reply.result.classifications]
    assert found == [[("", 5.0)], [("", 8.0)]]


def test_classify_gives_our_tags(raw: Raw, music: Any) -> None:
    wave = noise(9000, seed=1)
    reply = raw.prediction.Classify(classification("classify", example(waveform=wave), name="ours"), timeout=60)
    scores = music.scores((wave, 16000))
    (row,) = reply.result.classifications
    assert [entry.label for entry in row.classes] == [TAGS[i] for i in np.argsort(-scores)]
    np.testing.assert_allclose([entry.score for entry in row.classes], np.sort(scores)[::-1], atol=1e-5)


def test_regress(raw: Raw) -> None:
    reply = raw.prediction.Regress(regression("regress", example(x=1.5), example(y=1.0)), timeout=60)
    assert [entry.value for entry in reply.result.regressions] == [3.0, 0.0]
    assert reply.model_spec.version.value == 2


def multi(*tasks: tuple[str, str, str], n_examples: int = 1) -> Any:
    request = inference_pb2.MultiInferenceRequest()
    for name, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = name, signature
    request.input.example_list.examples.extend([example(x=1.5)] * n_examples)
    return request


def test_multi_inference(raw: Raw) -> None:
    request = multi(("other", "regress", REGRESS), ("other", "classify", CLASSIFY))
    first, second = raw.prediction.MultiInference(request, timeout=60).results
    assert [entry.value for entry in first.regression_result.regressions] == [3.0]
    assert [entry.score for entry in second.classification_result.classifications[0].classes] == [3.0, -3.0]
    assert (second.model_spec.signature_name, second.model_spec.version.value) == ("classify", 2)


INVALID = "INVALID_ARGUMENT"
NO_SIGNATURE = "No signature was found with the name: x"
BOTH = ("other", "regress", REGRESS), ("other", "classify", CLASSIFY)
REFUSED = {
    "classify, no such signature": (classification("x", example(x=1.0)), INVALID, NO_SIGNATURE),
    "classify, another signature": (classification("", example(x=1.0)), INVALID, "Expected one input Tensor."),
    "classify, no examples": (classification("classify"), INVALID, "Input is empty."),
    "classify, no model": (classification("x", name="no"), "NOT_FOUND", "Servable not found for request: Latest(no)"),
    "classify, no name": (classification("x", name=""), INVALID, "ModelSpec has no name specified."),
    "regress, no such signature": (regression("x", example(x=1.0)), INVALID, NO_SIGNATURE),
    "regress, another signature": (regression("classify", example(x=1.0)), INVALID, "Expected one output Tensor."),
    "regress, no examples": (regression("regress"), INVALID, "Input is empty."),
    "multi, no name": (
        multi(BOTH[0], ("", "classify", CLASSIFY)),
        INVALID,
        "Found ModelSpec with an empty model name.",
    ),
    "multi, two models": (
        multi(BOTH[0], ("ours", "classify", CLASSIFY)),
        INVALID,
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    ),
    "multi, twice the same": (multi(BOTH[0], BOTH[0]), INVALID, "Duplicate evaluation of signature: regress"),
    "multi, no such signature": (
        multi(("other", "x", REGRESS)),
        INVALID,
        "Requested signature not found in model graph: x",
    ),
    "multi, another method": (
        multi(("other", "regress", "predict")),
        "UNIMPLEMENTED",
        "Unsupported signature method_name: predict",
    ),
    "multi, no examples": (multi(BOTH[0], n_examples=0), INVALID, "Input is empty."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(raw: Raw, case: str) -> None:
    request, code, text = REFUSED[case]
    method = {"cl": raw.prediction.Classify, "re": raw.prediction.Regress, "mu": raw.prediction.MultiInference}[
        case[:2]
    ]
    assert refusal(method, request, timeout=60) == (code, text)


EMPTY = "expected at least one clip, of at least one sample. Received a waveform of shape "
NOT_FINITE = "expected a waveform of finite numbers. Received: NaN or infinity in it."
SHAPE = "expected waveform to have the shape [any, any]. Received: "
OURS_REFUSED = {
    "no clip": (np.zeros((0, 5), np.float32), f"{EMPTY}0 5"),
    "no sample": (np.zeros((3, 0), np.float32), f"{EMPTY}3 0"),
    "not finite": (np.array([[0.0, np.inf]], np.float32), NOT_FINITE),
    "no batch": (np.zeros(5, np.float32), f"{SHAPE}[5]."),
    "a scalar": (np.float32(0.5), f"{SHAPE}[]."),
    "three axes": (np.zeros((1, 2, 3), np.float32), f"{SHAPE}[1, 2, 3]."),
}


@pytest.mark.parametrize("signature", ["serving_default", "attention", "contributions", "embedding"])
@pytest.mark.parametrize("case", OURS_REFUSED)
def test_a_waveform_that_is_none(raw: Raw, case: str, signature: str) -> None:
    value, text = OURS_REFUSED[case]
    assert refusal(raw.predict, {"waveform": value}, signature, name="ours") == (INVALID, text)


def test_a_batch_of_millions_of_empty_clips_is_not_begun(raw: Raw) -> None:
    huge = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
    for size in (2**40, 0):
        huge.tensor_shape.dim.add(size=size)
    assert refusal(raw.predict, {"waveform": huge}, name="ours") == (INVALID, "tensor parsing error: waveform")


def test_bytes_that_are_no_example_and_not_text(raw: Raw) -> None:
    code, text = refusal(raw.predict, {"inputs": np.array([b"\xff\xfe" * 9], object)}, "classify", name="ours")
    assert code == INVALID
    assert text == "The model refused the request, with an error text that is not UTF-8."


@pytest.mark.parametrize("method", ["Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"])
def test_bytes_that_are_no_request(raw: Raw, method: str) -> None:
    with grpc.insecure_channel(raw.address) as channel:
        call = channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")
        code, text = refusal(call, b"\xff" * 10, timeout=60)
    assert code == INVALID
    assert text.startswith("expected a ")
    assert text.endswith(". Received: 10 bytes that do not parse as one.")


def test_a_method_that_is_none(raw: Raw) -> None:
    with grpc.insecure_channel(raw.address) as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Explain")
        assert refusal(call, b"", timeout=60)[0] == "UNIMPLEMENTED"


@pytest.mark.parametrize(
    ("choice", "version"), [({}, 2), ({"version": 1}, 1), ({"version": 2}, 2), ({"label": "old"}, 1)], ids=str
)
def test_versions_and_labels(raw: Raw, choice: dict[str, Any], version: int) -> None:
    reply = raw.predict(WORDS, name="other", **choice)
    assert reply.model_spec.version.value == version
    assert as_numpy(reply)["product"].tolist() == [3 * version]


@pytest.mark.parametrize(("label", "expected"), [("", [2, 1]), ("old", [1])])
def test_status(raw: Raw, label: str, expected: list[int]) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "other"
    if label:
        request.model_spec.version_label = label
    reply = raw.model.GetModelStatus(request, timeout=60)
    assert [status.version for status in reply.model_version_status] == expected
    assert {status.state for status in reply.model_version_status} == {30}


def test_metadata_of_a_label(raw: Raw) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name, request.model_spec.version_label = "other", "old"
    assert raw.prediction.GetModelMetadata(request, timeout=60).model_spec.version.value == 1


def reload(raw: Raw, **models: dict[str, Any]) -> Any:
    request = model_management_pb2.ReloadConfigRequest()
    for name, fields in models.items():
        labels = fields.pop("labels", {})
        config = request.config.model_config_list.config.add(name=name, **{"model_platform": "tensorflow", **fields})
        config.version_labels.update(labels)
    return raw.model.HandleReloadConfigRequest(request, timeout=60)


def test_reload(tmp_path: Any) -> None:
    """Models come and go, labels move, and what cannot be leaves all as it was."""
    (tmp_path / "a").mkdir()
    unrelated.save(tmp_path / "a", 1)
    a = str(tmp_path / "a")
    with Server(a, "a", port=0, max_num_load_retries=0, enable_model_management=True) as server:
        raw = Raw(server.port)
        # A label can name a version only after that is available.
        unavailable = "Request to assign label to version 1 of model b, which is not currently available for inference"
        both = {"a": {"base_path": a}, "b": {"base_path": a}}
        assert refusal(reload, raw, a={"base_path": a}, b={"base_path": a, "labels": {"best": 1}}) == (
            "FAILED_PRECONDITION",
            unavailable,
        )
        assert refusal(raw.predict, WORDS, name="b")[0] == "NOT_FOUND"
        assert reload(raw, **both).status.error_code == 0
        assert reload(raw, a={"base_path": a}, b={"base_path": a, "labels": {"best": 1}}).status.error_code == 0
        assert as_numpy(raw.predict(WORDS, name="b", label="best"))["product"].tolist() == [3]
        precondition = "FAILED_PRECONDITION"
        for models, code, text in [
            ({"a": {"base_path": "a"}}, INVALID, "Expected model a to have an absolute path or URI; got base_path()=a"),
            (
                {"a": {"base_path": a, "model_platform": ""}},
                INVALID,
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                "ModelServerConfig::model_platform, model name is a",
            ),
            ({"a": {"base_path": a, "model_platform": "x"}}, INVALID, "Model a requests unsupported platform x"),
            (
                {"a": {"base_path": a}, "b": {"base_path": a, "labels": {"best": 7}}},
                precondition,
                "Request to assign label to version 7 of model b, which is not currently available for inference",
            ),
        ]:
            assert refusal(reload, raw, **models) == (code, text)
        # A reload that fails changes nothing: neither what it would add, nor labels, nor what it leaves out.
        code, text = refusal(reload, raw, b={"base_path": a}, c={"base_path": a}, d={"base_path": f"{a}/none"})
        assert code == "UNKNOWN"
        assert "expected a folder with numbered versions" in text
        assert refusal(raw.predict, WORDS, name="c")[0] == "NOT_FOUND"
        assert as_numpy(raw.predict(WORDS, name="a"))["product"].tolist() == [3]
        assert as_numpy(raw.predict(WORDS, name="b", label="best"))["product"].tolist() == [3]
        assert reload(raw, b={"base_path": a, "labels": {"new": 1}}).status.error_code == 0
        expected = ("NOT_FOUND", "Servable not found for request: Latest(a)")
        assert refusal(raw.predict, WORDS, name="a") == expected
        assert refusal(raw.predict, WORDS, name="b", label="best") == (
            INVALID,
            "Unrecognized servable version label: best",
        )
        assert as_numpy(raw.predict(WORDS, name="b", label="new"))["product"].tolist() == [3]


def test_health(raw: Raw, words_base: Any) -> None:
    state = health_pb2.HealthCheckResponse

    def check(channel: grpc.Channel, service: str) -> int:
        request = health_pb2.HealthCheckRequest(service=service)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=60).status

    with grpc.insecure_channel(raw.address) as channel:
        for service in ("", "PredictionService", "tensorflow.serving.ModelService"):
            assert check(channel, service) == state.SERVING
        assert refusal(check, channel, "x")[0] == "NOT_FOUND"
    server = Server(words_base, "m", port=0).start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(states).status == state.SERVING
        # An open stream does not hold up the end.
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 10
        assert [reply.status for reply in states] == [state.NOT_SERVING]
    with (
        Server(words_base, "m", port=0, enable_grpc_healthcheck_service=False) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        assert refusal(check, channel, "")[0] == "UNIMPLEMENTED"


def test_streams_and_waiting_requests_leave_threads_for_health(tagger_base: Any, tmp_path: Any) -> None:
    """With every thread of requests taken, checks are answered at once, and watchers have no limit of eight."""
    done = threading.Event()

    def forever() -> Iterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        done.wait(60)

    with (
        Server(tagger_base, "m", port=0, grpc_max_threads=2, workers=2) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        raw = Raw(server.port)
        waiting = {"path": str(tmp_path / "go")}
        busy = [threading.Thread(target=raw.predict, args=(waiting, "wait")) for _ in range(20)]
        for thread in busy:
            thread.start()
        health, reflection = health_pb2_grpc.HealthStub(channel), reflection_pb2_grpc.ServerReflectionStub(channel)
        time.sleep(0.3)
        begun = time.monotonic()
        for _ in range(5):
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=1).status == 1
        assert time.monotonic() - begun < 1
        streams = [health.Watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(12)]
        streams += [reflection.ServerReflectionInfo(forever(), timeout=60) for _ in range(12)]
        assert all(next(stream) for stream in streams)
        done.set()
        (tmp_path / "go").touch()
        for thread in busy:
            thread.join()


def took(stream: Any) -> bool:
    try:
        return bool(next(stream))
    except grpc.RpcError:
        return False


def test_health_changes_while_streams_come_and_go(words_base: Any) -> None:
    """A change of state and the end of a stream do not wait for each other."""
    server = Server(words_base, "m", port=0).start()
    done = threading.Event()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def come_and_go() -> None:
            while not done.is_set():
                stream = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
                took(stream)
                stream.cancel()

        threads = [threading.Thread(target=come_and_go) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 10
        done.set()
        for thread in threads:
            thread.join()


def test_reflection(raw: Raw) -> None:
    symbol = "tensorflow.serving.PredictionService"
    ask = reflection_pb2.ServerReflectionRequest
    requests = [
        ask(list_services=""),
        ask(file_containing_symbol=symbol),
        ask(file_containing_symbol="grpc.health.v1.Health"),
        ask(file_containing_symbol="grpc.reflection.v1alpha.ServerReflection"),
        ask(file_by_filename="tensorflow_serving/apis/predict.proto"),
        ask(file_containing_symbol="x"),
    ]
    with grpc.insecure_channel(raw.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        services, *files, missing = list(stub.ServerReflectionInfo(iter(requests), timeout=60))
    names = {service.name for service in services.list_services_response.service}
    assert {symbol, "tensorflow.serving.ModelService", "grpc.health.v1.Health"} <= names
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    # The first file is the one asked for, and the others are what it imports.
    first, *others = (
        descriptor_pb2.FileDescriptorProto.FromString(file)
        for file in files[0].file_descriptor_response.file_descriptor_proto
    )
    assert first.package == "tensorflow.serving"
    (service,) = first.service
    methods = {"Classify", "Regress", "Predict", "MultiInference", "GetModelMetadata"}
    assert (service.name, {method.name for method in service.method}) == ("PredictionService", methods)
    assert set(first.dependency) <= {file.name for file in others}
    assert all(reply.file_descriptor_response.file_descriptor_proto for reply in files)
