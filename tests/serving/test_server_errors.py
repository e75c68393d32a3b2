"""What the embedded server refuses, with TensorFlow Serving's codes and texts."""

from __future__ import annotations

import argparse
import logging

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
    predict_pb2,
    regression_pb2,
)

from keras_tagger.errors import ServingError
from keras_tagger.serving import server
from keras_tagger.serving.addresses import bind, resolve, with_port
from keras_tagger.serving.flags import add_flags, stock_flags_of
from keras_tagger.serving.inference import Inference
from keras_tagger.serving.servable import Servable
from keras_tagger.serving.server import Server
from keras_tagger.serving.status import StatusError, from_graph
from keras_tagger.serving.tensors import encode
from keras_tagger.serving.versions import find_versions
from raw_requests import refusal
from served_modules import CLIP


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


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (
            ["y"],
            "output tensor alias not found in signature: y Outputs expected to be in the set {attention,tags}.",
        ),
        (["tags", "tags"], "duplicate output tensor alias: tags"),
    ],
)
def test_an_impossible_output_filter(tagger, outputs, text):
    refused = refusal(tagger.predict, {"waveform": CLIP}, "attention", outputs=outputs)
    assert refused == ("INVALID_ARGUMENT", text)


def test_more_dimensions_than_an_array_can_have(tagger):
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0])
    for _ in range(33):
        tensor.tensor_shape.dim.add(size=1)
    expected = ("INVALID_ARGUMENT", "expected waveform to have at most 32 dimensions. Received: 33.")
    assert refusal(tagger.predict, {"waveform": tensor}) == expected


class Composite(tf.Module):
    """Gives back a sparse tensor."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
    def sparse(self, x):
        return {"y": tf.sparse.from_dense(x)}


def test_a_composite_output_is_refused_in_a_sentence(tmp_path):
    module = Composite()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.sparse)
    servable = Servable(str(tmp_path / "1"), 1)
    request = predict_pb2.PredictRequest()
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([[1.0]]))
    with pytest.raises(StatusError, match="expected a signature of dense tensors") as caught:
        Inference(servable.signatures, 1, servable.run).predict(request)
    servable.close()
    assert caught.value.code.name == "INVALID_ARGUMENT"


def test_an_error_of_python_code_in_a_graph_has_no_traceback():
    text = (
        'ValueError: no\nTraceback (most recent call last):\n\n  File "/home/me/model.py", line 3, in f\n'
        "    raise ValueError('no')\n\nValueError: no\n\n\n\t [[{{node EagerPyFunc}}]]"
    )
    assert from_graph(3, text).text == "ValueError: no"


def test_of_several_errors_the_first_is_told():
    text = (
        "2 root error(s) found.\n  (0) INVALID_ARGUMENT: {{function_node f}} no clip\n\t [[{{node a}}]]\n"
        "\t [[{{node b}}]]\n  (1) INVALID_ARGUMENT: no clip\n\t [[{{node a}}]]\n0 successful operations."
    )
    assert from_graph(3, text).text == "no clip"


def test_a_reference_is_what_it_refers_to():
    """Upstream's saved_model_counter has variables of TensorFlow 1 as outputs."""
    assert encode(np.float32([1.5]), types_pb2.DT_FLOAT_REF, "y").dtype == types_pb2.DT_FLOAT


def test_a_base_path_of_a_file_system_that_is_missing():
    text = "Received: nowhere://models, but TensorFlow has no file system for nowhere:// here. Install keras_tagger"
    with pytest.raises(ServingError, match=text):
        find_versions("nowhere://models")


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("192.0.2.1", "expected an address of this machine to listen on. Received: 192.0.2.1, which it does not have"),
        ("no.such.host.invalid", "expected an address to listen on. Received: 'no.such.host.invalid' "),
        ("::zz", "expected an address to listen on. Received: '::zz' "),
    ],
)
def test_hosts_that_cannot_be_listened_on(words_base, host, text):
    """The same text for gRPC and for REST."""
    with pytest.raises(ServingError, match=text):
        bind(resolve(host), 0)
    with pytest.raises(ServingError, match=text):
        Server(words_base, "m", port=0, host=host).start()


def test_all_addresses_and_the_local_one_of_ipv6():
    for host, address in (("0.0.0.0", "0.0.0.0:1"), ("::1", "[::1]:1"), ("[::1]", "[::1]:1")):
        assert with_port(resolve(host), 1) == address


def test_reloads_are_logged_with_who_asked(tagger, caplog):
    request = model_management_pb2.ReloadConfigRequest()
    with caplog.at_level(logging.INFO, "keras_tagger.serving"):
        assert refusal(tagger.model.HandleReloadConfigRequest, request, timeout=60)[0] == "PERMISSION_DENIED"
    (record,) = (record for record in caplog.records if record.message == "reload refused")
    assert record.fields["peer"].startswith("ipv4:127.0.0.1:")


def test_flags_of_the_stock_server_are_named(monkeypatch, words_base):
    monkeypatch.setattr(server.log, "to_stderr", lambda: None)
    monkeypatch.setattr(server.shutil, "which", lambda name: None)
    parser = argparse.ArgumentParser()
    add_flags(parser)
    found = stock_flags_of(parser.parse_args(["--enable_profiler", "--num_unload_threads=2", "--port=1"]))
    assert found == {"enable_profiler": "true", "num_unload_threads": "2"}
    text = "Received: --enable_profiler, --num_unload_threads, which only tensorflow_model_server has"
    with pytest.raises(ServingError, match=text):
        server.serve(words_base, port=0, stock_flags=found)
    # What turns off a part that this server lacks is accepted.
    with pytest.raises(ServingError, match="Received: --num_unload_threads, which only"):
        server.serve(words_base, port=0, stock_flags={**found, "enable_profiler": "false"})


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


def test_the_other_methods_without_a_spec(tagger):
    missing = ("INVALID_ARGUMENT", "Missing ModelSpec")
    for method, request in [
        ("Classify", classification_pb2.ClassificationRequest()),
        ("Regress", regression_pb2.RegressionRequest()),
    ]:
        assert refusal(getattr(tagger.prediction, method), request, timeout=60) == missing
    expected = ("INVALID_ARGUMENT", "Inference request must have at least one task")
    assert refusal(tagger.prediction.MultiInference, inference_pb2.MultiInferenceRequest(), timeout=60) == expected
    text = "HandleReloadConfigRequest is off; the server allows it with --enable_model_management."
    request = model_management_pb2.ReloadConfigRequest()
    assert refusal(tagger.model.HandleReloadConfigRequest, request, timeout=60) == ("PERMISSION_DENIED", text)
