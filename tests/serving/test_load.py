"""tools/load_test.py: requests, both loops of the clients, the model in-process, limits, tables and histogram."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

import load_client
import load_report
import load_test
import served
from load_report import Loop, Settings
from pages import replace_marked
from scripted import scripted_server, waveforms

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(4.0, 1, 8, 2, 10.0, 1.0, 2, 0.7)
CLIP = np.float32([[0.5, -0.25, 1e-7]])


def loop(rate: float, milliseconds: list[float], **others) -> Loop:
    """A loop of ten seconds with these latencies, over and over."""
    count = round(rate * 10.0)
    return Loop(10.0, [milliseconds[index % len(milliseconds)] / 1000.0 for index in range(count)], **others)


def rounds(shares=(0.9, 0.8, 1.0), slowest=30.0, failures=None):
    """In-process 100 requests a second; gRPC so much of it; in the open loop 98 of 100 take 10 ms."""
    return [
        {
            "in-process": loop(100.0, [10.0], cpu_seconds=10.0),
            "gRPC": loop(100.0 * share, [10.0, 20.0], cpu_seconds=9.0),
            "in-process, mixed": loop(10.0, [10.0]),
            "gRPC, mixed": loop(5.0, [10.0]),
            "gRPC, open": loop(70.0, [10.0] * 96 + [slowest] * 4, offered=70.0, failures=failures or {}),
        }
        for share in shares
    ]


def test_limits_are_held_by_the_medians():
    assert load_report.shortfalls(rounds()) == []
    (missed,) = load_report.shortfalls(rounds(shares=(0.9, 0.8, 0.84)))
    assert missed == "gRPC throughput at least 85% of in-process. Received: 84.0%"
    (missed,) = load_report.shortfalls(rounds(slowest=45.0))
    assert missed == "p99 over p50 at most 4 in the open loop. Received: 4.50"
    (missed,) = load_report.shortfalls(rounds(failures={"UNAVAILABLE: full": 2}))
    assert missed == "no failed request. Received: 6, such as UNAVAILABLE: full"


def test_shares_are_of_the_same_clips():
    assert load_report.shares(rounds(), "gRPC") == pytest.approx([0.9, 0.8, 1.0])
    assert load_report.shares(rounds(), "gRPC, mixed") == pytest.approx([0.5, 0.5, 0.5])
    assert load_report.spreads(rounds(), "gRPC, open") == pytest.approx([3.0, 3.0, 3.0])


def test_tables():
    table = load_report.closed_table(rounds(), ["in-process", "gRPC", "gRPC, mixed"]).splitlines()
    assert table[2] == (
        "| same | in-process | 100.0 (100.0-100.0) |  | 10.0 (10.0-10.0) | 10.0 (10.0-10.0) | 10.0 (10.0-10.0) "
        "| 10.0 (10.0-10.0) | 0 |"
    )
    assert table[3].startswith("| same | gRPC | 90.0 (80.0-100.0) | 90 (80-100) % | 15.0 (15.0-15.0) | 20.0 ")
    assert table[4].startswith("| mixed | gRPC | 5.0 (5.0-5.0) | 50 (50-50) % |")
    table = load_report.open_table(rounds(), ["gRPC, open"]).splitlines()
    assert table[2] == (
        "| gRPC | 70.0 (70.0-70.0) | 10.0 (10.0-10.0) | 10.0 (10.0-10.0) | 30.0 (30.0-30.0) | 3.00 (3.00-3.00) | 0 |"
    )


def test_histogram_counts_every_request_once():
    lines = load_report.histogram([0.008] * 4 + [0.0089, 0.017], width=10).splitlines()
    assert lines == [
        "     8.0 to     11.3 ms       5 ##########",
        "    11.3 to     16.0 ms       0",
        "    16.0 to     22.6 ms       1 ##",
    ]


def test_page_has_its_command_and_goes_between_marks(tmp_path):
    text = load_report.page(rounds(), SETTINGS, "python tools/load_test.py --seconds=10")
    assert text.startswith("    python tools/load_test.py --seconds=10\n")
    assert "Closed loop, 8 clients:" in text
    assert "Open loop, 70% of the rate above:" in text
    path = tmp_path / "page.md"
    path.write_text((ROOT / "docs" / "serving.md").read_text())
    replace_marked(path, load_test.MARK, text)
    assert f"<!-- load_test -->\n{text}\n<!-- end -->" in path.read_text()


def test_clips_are_the_packages_of_the_length_asked_for():
    found = load_test.clips(4.0, 3)
    assert (found.shape, found.dtype) == ((3, 64000), np.float32)
    assert 0.01 < np.abs(found).max(axis=1).min() <= np.abs(found).max() <= 1.5
    assert load_test.clips(40.0, 1).shape == (1, 640000)


def test_bodies_hold_the_same_samples():
    request = predict_pb2.PredictRequest.FromString(load_test.grpc_body("attention", CLIP))
    assert (request.model_spec.name, request.model_spec.signature_name) == (served.MODEL, "attention")
    assert waveforms(request).tolist() == CLIP.tolist()
    body = json.loads(load_test.rest_body("attention", CLIP))
    assert body["signature_name"] == "attention"
    assert np.float32(body["inputs"]["waveform"]).tolist() == CLIP.tolist()


def plan(address: str, files, **others):
    return {
        "kind": "grpc",
        "address": address,
        "path": served.PREDICT,
        "requests": [str(file) for file in files],
        "weights": [1],
        "mode": "closed",
        "workers": 4,
        "seconds": 1.0,
        "warmup_seconds": 0.2,
        "rate": 0.0,
        "seed": 0,
        "start": 0.0,
        **others,
    }


def run_client(tmp_path, capsys, address, **others):
    body, path = tmp_path / "body", tmp_path / "plan.json"
    body.write_bytes(load_test.grpc_body("serving_default", CLIP))
    path.write_text(json.dumps(plan(address, [body], **others)))
    load_client.main(str(path))
    return json.loads(capsys.readouterr().out)


def test_a_closed_loop_asks_when_it_has_its_answer(tmp_path, capsys):
    under_way, most, lock = 0, 0, threading.Lock()

    def answer(number, request, context):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.05)
        with lock:
            under_way -= 1
        return {"tags": waveforms(request)}, 1

    with scripted_server(answer) as (address, _):
        found = run_client(tmp_path, capsys, address)
    assert most == 4
    assert found["failures"] == {}
    # 4 clients and 50 ms make at most 80 answers a second, and on a busy machine fewer.
    assert 20 <= len(found["latencies"]) <= 84
    assert min(found["latencies"]) >= 0.05


def test_an_open_loop_does_not_wait_for_answers(tmp_path, capsys):
    def answer(number, request, context):
        # Of a server that stands still for its first requests, those that came meanwhile tell.
        time.sleep(0.5 if number < 4 else 0.0)
        return {"tags": waveforms(request)}, 1

    with scripted_server(answer) as (address, _):
        found = run_client(tmp_path, capsys, address, mode="open", rate=50.0, warmup_seconds=0.0)
    # Poisson with mean 50 in the second.
    assert 25 <= len(found["latencies"]) <= 80
    slow = sum(latency > 0.1 for latency in found["latencies"])
    assert slow >= 10


def test_failures_are_counted_by_their_text(tmp_path, capsys):
    def refuse(number, request, context):
        context.abort(grpc.StatusCode.UNAVAILABLE, "full")

    with scripted_server(refuse) as (address, _):
        found = run_client(tmp_path, capsys, address, workers=1)
    assert found["latencies"] == []
    ((text, count),) = found["failures"].items()
    assert text == "UNAVAILABLE: full"
    assert count > 5


def test_the_model_in_process(tmp_path):
    class Mean(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="waveform")])
        def tag(self, waveform):
            return {"tags": tf.reduce_mean(waveform, axis=1, keepdims=True)}

    module = Mean()
    for version in ("9", "10"):
        tf.saved_model.save(module, str(tmp_path / version), signatures=module.tag)
    assert load_test.newest(tmp_path).name == "10"
    here = load_test.InProcess(load_test.newest(tmp_path))
    settings = Settings(4.0, 1, 3, 1, 0.3, 0.1, 1, 0.7)
    found = here.loop([("serving_default", CLIP)], [1], settings)
    assert found.rate > 10.0
    assert 0.0 < found.percentile(50) <= found.percentile(99)
    assert 0.0 < found.cpu_seconds < 60.0
    with pytest.raises(load_test.LoadError, match="expected a folder with numbered versions"):
        load_test.newest(tmp_path / "9")
