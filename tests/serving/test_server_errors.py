"""What the embedded server refuses, with TensorFlow Serving's codes and texts."""

from __future__ import annotations

import numpy as np
import pytest
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

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
    request = model_management_pb2.ReloadConfigRequest()
    text = (
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
    )
    assert refusal(tagger.model.HandleReloadConfigRequest, request, timeout=60) == ("INVALID_ARGUMENT", text)
