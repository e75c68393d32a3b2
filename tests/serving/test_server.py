"""The embedded server, asked with nothing but the official stubs, as any TensorFlow Serving client would."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from keras_tagger.errors import ServingError
from keras_tagger.serving.server import Server

WEIGHTS = np.array([1.0, -2.0, 0.5], np.float32)
DTYPES = [
    *(tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64, tf.complex128),
    *(tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64, tf.bool, tf.string),
]


class Tagger(tf.Module):
    """tags = mean(waveform) x WEIGHTS; attention[b, h, q, k] = (h + 1) x waveform[b, q] x waveform[b, k]."""

    def __init__(self) -> None:
        self.calls = tf.Variable(0, dtype=tf.int64)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="waveform")])
    def tag(self, waveform):
        return {"tags": tf.reduce_mean(waveform, axis=1, keepdims=True) * WEIGHTS}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="waveform")])
    def attention(self, waveform):
        maps = waveform[:, None, :, None] * waveform[:, None, None, :]
        heads = tf.reshape(tf.constant([1.0, 2.0]), [1, 2, 1, 1])
        return {"tags": self.tag(waveform)["tags"], "attention": maps * heads}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="text")])
    def refuse(self, text):
        with tf.control_dependencies([tf.debugging.Assert(False, [text], summarize=1)]):
            return {"text": tf.identity(text)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])
    def read(self, path):
        return {"data": tf.io.read_file(path)}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
    def square(self, x):
        return {"y": tf.matmul(x, x)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64, name="by")])
    def count(self, by):
        return {"calls": self.calls.assign_add(by)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])
    def wait(self, path):
        """Runs until there is a file at `path`."""
        looks, found = tf.constant(0, tf.int64), tf.constant(0)
        while found == 0:
            looks += 1
            # The pattern seems to change at each turn, so that the look is not moved out of the loop.
            nothing = tf.strings.substr(tf.strings.as_string(looks), 0, 0)
            found = tf.size(tf.io.matching_files(tf.strings.join([path, nothing])))
        return {"looks": looks}


class Words(tf.Module):
    """joined = word + ":" + count as text; product = factor x count, as int64."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="words"),
            tf.TensorSpec([None], tf.int32, name="counts"),
        ]
    )
    def join(self, words, counts):
        joined = tf.strings.join([words, tf.strings.as_string(counts)], separator=":")
        return {"joined": joined, "product": tf.cast(counts, tf.int64) * self.factor}


class Echo(tf.Module):
    """One signature per dtype, which gives back what it got."""

    def signatures(self):
        return {
            dtype.name: tf.function(
                lambda x: {"y": tf.identity(x)}, input_signature=[tf.TensorSpec(None, dtype, name="x")]
            ).get_concrete_function()
            for dtype in DTYPES
        }


@pytest.fixture(scope="session")
def tagger_base(tmp_path_factory):
    base = tmp_path_factory.mktemp("tagger")
    module = Tagger()
    signatures = {"serving_default": module.tag}
    for name in ("attention", "refuse", "read", "square", "count", "wait"):
        signatures[name] = getattr(module, name)
    tf.saved_model.save(module, str(base / "1"), signatures=signatures)
    return base


@pytest.fixture(scope="session")
def words_base(tmp_path_factory):
    base = tmp_path_factory.mktemp("words")
    for version, factor in ((1, 2), (2, 3)):
        module = Words(factor)
        tf.saved_model.save(module, str(base / str(version)), signatures=module.join)
    for junk in ("3.tmp", "tmp-4", "-5", "latest", "٦"):
        (base / junk).mkdir()
    (base / "7").write_text("a file, not a version")
    return base


@pytest.fixture(scope="session")
def echo_base(tmp_path_factory):
    base = tmp_path_factory.mktemp("echo")
    module = Echo()
    tf.saved_model.save(module, str(base / "1"), signatures=module.signatures())
    return base


class Raw:
    """The official stubs on one server, with requests built by hand."""

    def __init__(self, port: int) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def predict(self, inputs, signature="", name="m", version=None, label="", outputs=(), timeout=60):
        request = predict_pb2.PredictRequest(output_filter=outputs)
        request.model_spec.name = name
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        if label:
            request.model_spec.version_label = label
        for alias, value in inputs.items():
            proto = value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
            request.inputs[alias].CopyFrom(proto)
        return self.prediction.Predict(request, timeout=timeout)


@pytest.fixture(scope="session")
def tagger(tagger_base):
    with Server(tagger_base, "m", port=0) as server:
        yield Raw(server.port)


@pytest.fixture(scope="session")
def words(words_base):
    with Server(words_base, "m", port=0) as server:
        yield Raw(server.port)


@pytest.fixture(scope="session")
def echo(echo_base):
    with Server(echo_base, "m", port=0) as server:
        yield Raw(server.port)


def refusal(call, *args, **kwargs):
    """The status code name and text that a call ends with; never a stack of Python."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    details = caught.value.details()
    assert "Traceback" not in details
    assert 'File "' not in details
    return caught.value.code().name, details


def as_numpy(response):
    return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}


CLIP = np.array([[0.0, 1.0, 2.0, 5.0], [4.0, 4.0, 4.0, -4.0]], np.float32)  # means 2 and 2
CLIP_TAGS = np.array([[2.0, -4.0, 1.0], [2.0, -4.0, 1.0]], np.float32)


# Answers


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
    assert list(tagger.predict({"waveform": CLIP}, "attention", outputs=["attention"]).outputs) == [
        "attention"
    ]


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


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shape", [(), (2, 3), (0, 2)], ids=str)
def test_every_dtype_comes_back_as_it_went(echo, dtype, shape):
    numbers = np.arange(6)[: int(np.prod(shape))].reshape(shape)
    if dtype == tf.string:
        array = (
            np.vectorize(lambda n: b"\x00\xff" * n + b"\x00", otypes=[object])(numbers)
            if shape
            else b"\x00a\x00"
        )
    elif dtype == tf.bool:
        array = numbers % 2 == 0
    elif dtype.is_complex:
        array = (numbers - 2.5j).astype(dtype.as_numpy_dtype)
    else:
        array = (numbers + 1.25).astype(dtype.as_numpy_dtype)
    request = tf.make_tensor_proto(array, dtype=dtype, shape=shape)
    reply = echo.predict({"x": request}, dtype.name).outputs["y"]
    assert reply.dtype == dtype.as_datatype_enum
    assert reply.tensor_content == b""
    assert tuple(dim.size for dim in reply.tensor_shape.dim) == shape
    assert tf.make_ndarray(reply).tolist() == tf.make_ndarray(request).tolist()
    # The typed reply is itself a valid request.
    assert echo.predict({"x": reply}, dtype.name).outputs["y"] == reply


def test_a_typed_field_with_fewer_values_than_declared_repeats_its_last(echo):
    proto = tf.make_tensor_proto([1.0, 2.0])
    proto.Clear()
    proto.dtype = types_pb2.DT_FLOAT
    proto.tensor_shape.dim.add(size=4)
    proto.float_val.extend([1.0, 2.0])
    assert list(echo.predict({"x": proto}, "float32").outputs["y"].float_val) == [1.0, 2.0, 2.0, 2.0]


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


# Refusals: the rows of TensorFlow Serving's table


@pytest.mark.parametrize(
    ("spec", "code", "text"),
    [
        ({"name": "x"}, "NOT_FOUND", "Servable not found for request: Latest(x)"),
        ({"version": 999}, "NOT_FOUND", "Servable not found for request: Specific(m, 999)"),
        ({"version": 0}, "NOT_FOUND", "Servable not found for request: Specific(m, 0)"),
        ({"name": "x", "version": 1}, "NOT_FOUND", "Servable not found for request: Specific(x, 1)"),
        ({"label": "stable"}, "INVALID_ARGUMENT", "Unrecognized servable version label: stable"),
        ({"name": ""}, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ],
    ids=str,
)
def test_a_spec_that_names_nothing_served(tagger, spec, code, text):
    assert refusal(tagger.predict, {"waveform": CLIP}, **spec) == (code, text)
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = spec.get("name", "m")
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    assert refusal(tagger.prediction.GetModelMetadata, request, timeout=60) == (code, text)


def test_no_spec_at_all(tagger):
    missing = ("INVALID_ARGUMENT", "Missing ModelSpec")
    assert refusal(tagger.prediction.Predict, predict_pb2.PredictRequest(), timeout=60) == missing
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    assert refusal(tagger.prediction.GetModelMetadata, metadata, timeout=60) == missing
    status = get_model_status_pb2.GetModelStatusRequest()
    assert refusal(tagger.model.GetModelStatus, status, timeout=60) == missing


def test_an_unknown_signature(tagger):
    expected = ("FAILED_PRECONDITION", 'Serving signature key "x" not found.')
    assert refusal(tagger.predict, {"waveform": CLIP}, "x") == expected


COUNTS = np.array([1], np.int32)
WORDS = np.array([b"a"], object)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (
            {},
            "input size does not match signature: 0!=2 len({}) != len({counts,words}). "
            "Sent extra: {}. Missing but required: {counts,words}.",
        ),
        (
            {"words": WORDS, "counts": COUNTS, "z": COUNTS},
            "input size does not match signature: 3!=2 len({counts,words,z}) != len({counts,words}). "
            "Sent extra: {z}. Missing but required: {}.",
        ),
        (
            {"words": WORDS, "z": COUNTS},
            "Signature input alias: counts(feed name: serving_default_counts:0) not found in request and "
            "no default value provided. Inputs expected to be in the request {words,z}, "
            "or default input alias set: ",
        ),
        # Arguments are numbered by the order of their feed names: counts before words.
        (
            {"words": WORDS, "counts": COUNTS.astype(float)},
            "Expects arg[0] to be int32 but double is provided",
        ),
        ({"words": COUNTS, "counts": COUNTS}, "Expects arg[1] to be string but int32 is provided"),
    ],
    ids=["missing", "extra", "misnamed", "first dtype", "second dtype"],
)
def test_inputs_that_are_not_the_signatures(words, inputs, text):
    assert refusal(words.predict, inputs) == ("INVALID_ARGUMENT", text)


def test_a_wrong_dtype(tagger):
    expected = ("INVALID_ARGUMENT", "Expects arg[0] to be float but string is provided")
    assert refusal(tagger.predict, {"waveform": np.array([[b"a"]], object)}) == expected


def tensor(dtype, sizes, **fields):
    proto = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


UNKNOWN_RANK = tensor(types_pb2.DT_FLOAT, [], float_val=[1.0])
UNKNOWN_RANK.tensor_shape.unknown_rank = True


@pytest.mark.parametrize(
    "proto",
    [
        tensor_pb2.TensorProto(),
        tensor(types_pb2.DT_RESOURCE, [1]),
        tensor(types_pb2.DT_FLOAT_REF, [1], float_val=[1.0]),
        tensor(9999, [1], float_val=[1.0]),
        UNKNOWN_RANK,
        tensor(types_pb2.DT_FLOAT, [1, -1], float_val=[1.0]),
        tensor(types_pb2.DT_FLOAT, [1, 3], tensor_content=bytes(8)),
        tensor(types_pb2.DT_FLOAT, [1, 3], tensor_content=bytes(13)),
        tensor(types_pb2.DT_FLOAT, [1, 2], float_val=[1.0, 2.0, 3.0]),
        tensor(types_pb2.DT_FLOAT, [1, 2**40], float_val=[1.0]),
        tensor(types_pb2.DT_FLOAT, [1, 2**40]),
        tensor(types_pb2.DT_FLOAT, [2**40, 2**40], float_val=[1.0]),
        tensor(types_pb2.DT_FLOAT, [2**62, 4, 0]),
        tensor(types_pb2.DT_FLOAT, [1] * 300, float_val=[1.0]),
        tensor(types_pb2.DT_STRING, [2**16], string_val=[bytes(2**16)]),
        tensor(types_pb2.DT_STRING, [2**40], tensor_content=b"\x00\x00"),
        tensor(types_pb2.DT_STRING, [2], tensor_content=b"\x05\x05a"),
    ],
    ids=lambda proto: f"{proto.dtype}-{[dim.size for dim in proto.tensor_shape.dim][:3]}-{proto.ByteSize()}",
)
def test_a_malformed_tensor(tagger, proto):
    before = time.monotonic()
    assert refusal(tagger.predict, {"waveform": proto}) == (
        "INVALID_ARGUMENT",
        "tensor parsing error: waveform",
    )
    assert time.monotonic() - before < 5
    np.testing.assert_allclose(as_numpy(tagger.predict({"waveform": CLIP}))["tags"], CLIP_TAGS, rtol=1e-6)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (
            ["y"],
            "output tensor alias not found in signature: y "
            "Outputs expected to be in the set {attention,tags}.",
        ),
        (["tags", "tags"], "duplicate output tensor alias: tags"),
    ],
)
def test_an_impossible_output_filter(tagger, outputs, text):
    refused = refusal(tagger.predict, {"waveform": CLIP}, "attention", outputs=outputs)
    assert refused == ("INVALID_ARGUMENT", text)


def test_an_error_of_the_graph_keeps_its_code(tagger, tmp_path):
    code, text = refusal(tagger.predict, {"x": np.ones((2, 3), np.float32)}, "square")
    assert code == "INVALID_ARGUMENT"
    assert "In[0]: [2,3], In[1]: [2,3]" in text
    code, text = refusal(tagger.predict, {"path": str(tmp_path / "nothing")}, "read")
    assert code == "NOT_FOUND"
    assert str(tmp_path / "nothing") in text


def test_a_long_error_is_cut(tagger):
    code, text = refusal(tagger.predict, {"text": "x" * 5000}, "refuse")
    assert code == "INVALID_ARGUMENT"
    assert text.endswith("x...TRUNCATED")
    assert len(text) == 1024 + len("...TRUNCATED")
    code, text = refusal(tagger.predict, {"waveform": CLIP}, name="é" * 2000)
    assert code == "NOT_FOUND"
    assert text.startswith("Servable not found for request: Latest(éé")
    assert text.endswith("é...TRUNCATED")


def test_metadata_of_other_fields(tagger):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def", "weights"])
    request.model_spec.name = "m"
    expected = ("INVALID_ARGUMENT", "Metadata field weights is not supported")
    assert refusal(tagger.prediction.GetModelMetadata, request, timeout=60) == expected
    del request.metadata_field[:]
    text = "GetModelMetadataRequest must specify at least one metadata_field"
    assert refusal(tagger.prediction.GetModelMetadata, request, timeout=60) == ("INVALID_ARGUMENT", text)


def test_status_of_what_is_not_served(tagger):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "x"
    expected = ("NOT_FOUND", "Could not find any versions of model x")
    assert refusal(tagger.model.GetModelStatus, request, timeout=60) == expected
    request.model_spec.name = "m"
    request.model_spec.version.value = 999
    expected = ("NOT_FOUND", "Could not find version 999 of model m")
    assert refusal(tagger.model.GetModelStatus, request, timeout=60) == expected
    request.model_spec.version.value = 0
    expected = ("NOT_FOUND", "Could not find version 0 of model m")
    assert refusal(tagger.model.GetModelStatus, request, timeout=60) == expected


def test_what_is_not_served_yet(tagger):
    for method, request in [
        ("Classify", classification_pb2.ClassificationRequest()),
        ("Regress", regression_pb2.RegressionRequest()),
        ("MultiInference", inference_pb2.MultiInferenceRequest()),
    ]:
        code, text = refusal(getattr(tagger.prediction, method), request, timeout=60)
        assert code == "UNIMPLEMENTED"
        assert text == f"{method} is not served yet; a later version of keras_tagger will."
    request = model_management_pb2.ReloadConfigRequest()
    assert refusal(tagger.model.HandleReloadConfigRequest, request, timeout=60)[0] == "UNIMPLEMENTED"


def test_a_request_whose_deadline_passed_while_it_waited_is_not_run(tagger_base, tmp_path):
    with Server(tagger_base, "m", port=0, workers=1) as server:
        raw = Raw(server.port)
        assert as_numpy(raw.predict({"by": np.int64(1)}, "count"))["calls"] == 1
        busy = threading.Thread(target=raw.predict, args=({"path": str(tmp_path / "go")}, "wait"))
        busy.start()
        time.sleep(0.3)
        code, _ = refusal(raw.predict, {"by": np.int64(100)}, "count", timeout=0.3)
        assert code == "DEADLINE_EXCEEDED"
        (tmp_path / "go").touch()
        busy.join()
        assert as_numpy(raw.predict({"by": np.int64(1)}, "count"))["calls"] == 2


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


# Loading, warm-up, starting and stopping


def warm_up(version: Path, *logs: prediction_log_pb2.PredictionLog) -> None:
    (version / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(version / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def predict_log(inputs, signature) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = "any"
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return log


def test_warm_up_requests_run_before_the_first_request(tmp_path):
    module = Tagger()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"count": module.count})
    warm_up(tmp_path / "1", *[predict_log({"by": np.int64(n)}, "count") for n in (10, 20)])
    with Server(tmp_path, "m", port=0) as server:
        assert as_numpy(Raw(server.port).predict({"by": np.int64(1)}, "count"))["calls"] == 31


def test_a_failing_warm_up_request_fails_the_load(tmp_path):
    module = Tagger()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"count": module.count})
    good, bad = predict_log({"by": np.int64(1)}, "count"), predict_log({"by": np.int64(1)}, "x")
    warm_up(tmp_path / "1", good, bad)
    with pytest.raises(ServingError, match=r'number 1 \(Serving signature key "x" not found.\)'):
        Server(tmp_path, "m", port=0).start()


def test_a_warm_up_file_that_is_not_a_tfrecord_fails_the_load(tmp_path):
    module = Tagger()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"count": module.count})
    warm_up(tmp_path / "1")
    (tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests").write_bytes(
        b"not a TFRecord file at all"
    )
    with pytest.raises(ServingError, match="expected a SavedModel that loads"):
        Server(tmp_path, "m", port=0).start()


def test_a_folder_without_a_version(tmp_path):
    (tmp_path / "1.tmp").mkdir()
    for base in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ServingError, match="expected a folder with numbered versions") as caught:
            Server(base).start()
        assert str(base) in str(caught.value)


def test_a_version_that_does_not_load(tmp_path, words_base):
    (tmp_path / "4").mkdir()
    with pytest.raises(ServingError, match="expected a SavedModel that loads") as caught:
        Server(tmp_path).start()
    assert "\n" not in str(caught.value)
    (tmp_path / "4" / "saved_model.pb").write_bytes(b"rubbish")
    with pytest.raises(ServingError, match="expected a SavedModel that loads"):
        Server(tmp_path).start()


def test_a_taken_port_is_an_error_and_not_shared(words_base):
    with Server(words_base, "m", port=0) as first, pytest.raises(ServingError, match=f":{first.port}, which"):
        Server(words_base, "m", port=first.port).start()
    with Server(words_base, "m", port=first.port) as second:
        assert second.port == first.port


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_serve(base: Path, port: int, **variables: str) -> subprocess.Popen:
    code = (
        "import sys; from keras_tagger.serving.server import serve; "
        "serve(sys.argv[1], int(sys.argv[2]), 8501, 'm')"
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(base), str(port)], stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_finishes_what_runs_and_exits_0_on_a_signal(tagger_base, number, tmp_path):
    port = free_port()
    with start_serve(tagger_base, port, PATH=str(tmp_path)) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "serving m version 1 on" in line:
                break
        assert f"serving m version 1 on 127.0.0.1:{port}" in lines[-1]
        assert sum("REST is not served yet" in line for line in lines) == 1
        raw = Raw(port)
        results = []
        request = {"path": str(tmp_path / "go")}
        busy = threading.Thread(target=lambda: results.append(raw.predict(request, "wait")))
        busy.start()
        time.sleep(0.5)
        process.send_signal(number)
        time.sleep(0.5)
        assert process.poll() is None
        (tmp_path / "go").touch()
        _, rest = process.communicate(timeout=30)
        busy.join()
        assert process.returncode == 0
        assert as_numpy(results[0])["looks"] > 1
        assert "Traceback" not in "".join(lines) + rest


def test_serve_becomes_tensorflow_model_server_when_it_is_on_path(words_base, tmp_path):
    program = tmp_path / "tensorflow_model_server"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/arguments\nexit 7\n")
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    relative = os.path.relpath(words_base)
    with start_serve(Path(relative), 1234, PATH=path) as process:
        process.communicate(timeout=60)
    assert process.returncode == 7
    assert (tmp_path / "arguments").read_text().splitlines() == [
        "--port=1234",
        "--rest_api_port=8501",
        "--model_name=m",
        f"--model_base_path={words_base}",
    ]
