"""REST from outside: TensorFlow Serving's paths, forms, codes and texts, on our model and on an unrelated one."""

from __future__ import annotations

import gzip
import io
import json
import re
from typing import Any

import numpy as np
import pytest
import soundfile

from keras_tagger.serving.metrics import Metrics
from rest_cases import ANSWERED, OTHER, OURS, REFUSED, ROWS, b64, of
from rest_requests import ask
from tiny import RATE, TAGS, noise


@pytest.mark.parametrize("case", ANSWERED)
def test_answered(contract: Any, case: str) -> None:
    path, body, expected = ANSWERED[case]
    status, reply = ask(contract.rest_api_port, "POST", path, body)
    assert status == 200, reply
    if expected is not None:
        assert reply == expected
    elif case == "infinity and nan":
        values = reply["predictions"]
        assert (values[0], values[2]) == (np.inf, -np.inf)
        assert np.isnan(values[1])
    else:
        assert reply == {"predictions": [{"joined": "a:1", "product": 2}]}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(contract: Any, case: str) -> None:
    method, path, body, expected, text = REFUSED[case]
    status, reply = ask(contract.rest_api_port, method, path, body)
    assert set(reply) == {"error"}
    assert (status, bool(re.search(text, reply["error"]))) == (expected, True), reply
    assert "{{node" not in reply["error"]
    assert len(reply["error"]) <= 1024 + len("...TRUNCATED")


def test_a_compressed_body(contract: Any) -> None:
    body = gzip.compress(json.dumps({"instances": ROWS}).encode())
    status, reply = ask(contract.rest_api_port, "POST", f"{OTHER}:predict", body, {"Content-Encoding": "gzip"})
    assert (status, len(reply["predictions"])) == (200, 2)
    status, reply = ask(contract.rest_api_port, "POST", f"{OTHER}:predict", b"no gzip", {"Content-Encoding": "gzip"})
    assert (status, reply) == (400, {"error": "expected a gzip body. Received: data that is not gzip."})


@pytest.mark.parametrize(
    ("path", "versions"), [(OTHER, ["2", "1"]), (f"{OTHER}/versions/1", ["1"]), (f"{OTHER}/labels/old", ["1"])]
)
def test_status(contract: Any, path: str, versions: list[str]) -> None:
    status, reply = ask(contract.rest_api_port, "GET", path)
    fine = {"error_code": "OK", "error_message": ""}
    expected = [{"version": version, "state": "AVAILABLE", "status": fine} for version in versions]
    assert (status, reply) == (200, {"model_version_status": expected})


def test_metadata(contract: Any) -> None:
    status, reply = ask(contract.rest_api_port, "GET", f"{OTHER}/versions/1/metadata")
    assert status == 200
    assert reply["model_spec"] == {"name": "other", "signature_name": "", "version": "1"}
    signature = reply["metadata"]["signature_def"]["signature_def"]["mean"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    shape = {"unknown_rank": False, "dim": [{"size": "-1", "name": ""}] * 2}
    assert signature["inputs"]["x"]["tensor_shape"] == shape


def test_ours_by_waveform_bytes_and_example(contract: Any, music: Any) -> None:
    wave = (np.round(noise(9000, seed=5) * 32767) / 32768).astype(np.float32)
    expected = music.scores((wave, RATE))
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format="WAV", subtype="PCM_16")
    forms = [of("serving_default", instances=[wave.tolist()]), of("wav", instances=[b64(file.getvalue())])]
    for form in forms:
        status, reply = ask(contract.rest_api_port, "POST", f"{OURS}:predict", form)
        assert status == 200
        np.testing.assert_allclose(reply["predictions"], [expected], atol=1e-5)
    for features in ({"waveform": wave.tolist()}, {"audio_bytes": b64(file.getvalue())}):
        status, reply = ask(contract.rest_api_port, "POST", f"{OURS}:classify", of("classify", examples=[features]))
        assert [name for name, _ in reply["results"][0]] == [TAGS[i] for i in np.argsort(-expected)]
        np.testing.assert_allclose([score for _, score in reply["results"][0]], np.sort(expected)[::-1], atol=1e-5)
    status, reply = ask(contract.rest_api_port, "POST", f"{OURS}:predict", of("contributions", inputs=[wave.tolist()]))
    assert sorted(reply["outputs"]) == ["contributions", "tags", "times"]
    assert np.shape(reply["outputs"]["contributions"]) == (1, 3, 5)


def test_large_counts_are_exact() -> None:
    metrics = Metrics()
    metrics.requests.labels("m", "OK").inc(12_345_678)
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 12345678\n' in metrics.page().decode()


def test_prometheus(contract: Any) -> None:
    port = contract.rest_api_port
    ask(port, "POST", f"{OTHER}:predict", {"instances": ROWS})
    ask(port, "POST", f"{OTHER}:predict", {"instances": 1})
    ask(port, "POST", "/v1/models/evil%22%0A:predict", {"instances": 1})
    status, page = ask(port, "GET", "/monitoring/prometheus/metrics", raw=True)
    assert status == 200
    # prometheus_client writes the labels in alphabetical order.
    rest = r'\{API="Predict",entrypoint="REST"'
    for line in (
        r"# TYPE :tensorflow:serving:request_count counter",
        r':tensorflow:serving:request_count\{model_name="other",status="OK"\} \d+',
        r':tensorflow:serving:request_count\{model_name="other",status="INVALID_ARGUMENT"\} \d+',
        r':tensorflow:serving:request_count\{model_name="",status="NOT_FOUND"\} \d+',
        r"# TYPE :tensorflow:serving:request_latency histogram",
        rf':tensorflow:serving:request_latency_bucket{rest},le="10",model_name="other"\}} \d+',
        rf':tensorflow:serving:request_latency_bucket{rest},le="\+Inf",model_name="other"\}} \d+',
        rf':tensorflow:serving:request_latency_count{rest},model_name="other"\}} \d+',
        r':tensorflow:serving:runtime_latency_sum\{API="Predict",model_name="other",runtime="TF1"\} [\d.e+]+',
    ):
        assert re.search(f"^{line}$", page, re.MULTILINE), line
    assert "evil" not in page
    # By version, for a canary; and the load and the process, for autoscaling.
    for line in (
        r'keras_tagger_requests_total\{method="Predict",model_name="other",status="OK",version="2"\} \d+',
        r'keras_tagger_request_seconds_count\{method="Predict",model_name="other",version="2"\} \d+',
        r"keras_tagger_requests_in_flight 0",
        r"keras_tagger_queue_length 0",
        r"process_resident_memory_bytes \d+",
    ):
        assert re.search(f"^{line}$", page, re.MULTILINE), line
    assert "_created" not in page
    # Buckets count from below: none is smaller than the one before.
    counts = [
        int(line.rsplit(" ", 1)[1])
        for line in page.splitlines()
        if 'API="Predict",entrypoint="REST",le=' in line and "other" in line
    ]
    assert counts == sorted(counts)
    assert len(counts) == 34
