"""examples/: each client runs against a server, if its tools are installed, and says what the tagger says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from google.protobuf.descriptor import Descriptor
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

import tiny
from keras_tagger.serving.server import Server

EXAMPLES = Path(__file__).parents[2] / "examples"
# Where npm installed the packages of examples/node/package.json, if not beside it.
NODE_MODULES = Path(os.environ.get("KERAS_TAGGER_NODE_MODULES", EXAMPLES / "node" / "node_modules"))


@pytest.fixture(scope="module")
def tagger(music):
    return music


@pytest.fixture(scope="module")
def server(exported):
    with Server(exported.parent, port=0, rest_api_port=-1, enable_model_warmup=False) as server:
        yield SimpleNamespace(address=f"127.0.0.1:{server.port}", rest_port=server.rest_api_port)


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, tiny.noise(40_000, 6), tiny.RATE, subtype="PCM_16")
    return path


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_raw_client(server, song, tagger):
    out = run([sys.executable, str(EXAMPLES / "raw_client.py"), str(song), server.address])
    expected = np.sort(tagger.scores(song))[::-1]
    assert np.array(re.findall(r"\d+\.\d*", out.splitlines()[0]), float) == pytest.approx(expected, abs=1e-3)


def test_python_clients(server, song, tagger):
    out = run([sys.executable, str(EXAMPLES / "client.py"), server.address, str(song), str(song)]).splitlines()
    tags = tagger.tag(song)
    line = ", ".join(f"{tag.name} {tag.score:.3f}" for tag in tags)
    assert out[:2] == [f"{song} {line}"] * 2
    heat = tagger.contributions(song).top(1)
    assert out[2] == f"{heat.tags[0]} is strongest at {heat.times[heat.values[0].argmax()]:.2f} s of {song}"


def test_curl(server, song, tagger):
    if shutil.which("curl") is None:
        pytest.skip("expected curl on PATH")
    assert server.rest_port
    import json

    out = run(["sh", str(EXAMPLES / "curl.sh"), str(song), f"127.0.0.1:{server.rest_port}"])
    # A single output comes without its name.
    assert json.loads(out)["outputs"][0] == pytest.approx(tagger.scores(song).tolist(), abs=1e-4)
    done = subprocess.run(
        ["sh", str(EXAMPLES / "curl.sh"), str(song), f"127.0.0.1:{server.rest_port}"],
        env={**os.environ, "MODEL": "other"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "404" in done.stderr


def test_node(server, song, tagger, tmp_path):
    if shutil.which("node") is None or not (NODE_MODULES / "@grpc").is_dir():
        pytest.skip("expected node, and npm install --prefix examples/node (or KERAS_TAGGER_NODE_MODULES)")
    folder = tmp_path / "node"
    shutil.copytree(EXAMPLES / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    (folder / "node_modules").symlink_to(NODE_MODULES.resolve())
    out = run(["node", str(folder / "tag.mjs"), str(song), server.address])
    assert out.splitlines() == [f"{tag.name} {tag.score:.3f}" for tag in tagger.tag(song)]


def fields_of(name: str) -> dict[str, dict[str, int]]:
    """Fields and their numbers by message, of one of the example's .proto files."""
    text = (EXAMPLES / "node" / name).read_text()
    found: dict[str, dict[str, int]] = {}
    open_messages: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"\s*(message|enum|oneof|service) (\w+) \{", line):
            # The fields of a oneof belong to the message around it.
            open_messages.append(open_messages[-1] if match[1] == "oneof" else match[2])
            found.setdefault(open_messages[-1], {})
        elif line.strip() == "}":
            open_messages.pop()
        elif match := re.match(r"\s*(?:repeated )?(?:[\w.]+|map<.*>)? ?\b(\w+) = (\d+);", line):
            found[open_messages[-1]][match[1]] = int(match[2])
    return found


OFFICIAL: dict[str, Descriptor] = {
    "TensorShapeProto": tensor_shape_pb2.TensorShapeProto.DESCRIPTOR,
    "Dim": tensor_shape_pb2.TensorShapeProto.Dim.DESCRIPTOR,
    "TensorProto": tensor_pb2.TensorProto.DESCRIPTOR,
    "BytesList": example_pb2.Example.DESCRIPTOR.file.pool.FindMessageTypeByName("tensorflow.BytesList"),
    "FloatList": example_pb2.Example.DESCRIPTOR.file.pool.FindMessageTypeByName("tensorflow.FloatList"),
    "Feature": example_pb2.Example.DESCRIPTOR.file.pool.FindMessageTypeByName("tensorflow.Feature"),
    "Features": example_pb2.Example.DESCRIPTOR.file.pool.FindMessageTypeByName("tensorflow.Features"),
    "Example": example_pb2.Example.DESCRIPTOR,
    "ModelSpec": model_pb2.ModelSpec.DESCRIPTOR,
    "PredictRequest": predict_pb2.PredictRequest.DESCRIPTOR,
    "PredictResponse": predict_pb2.PredictResponse.DESCRIPTOR,
}


def test_the_protos_for_node_are_a_part_of_the_official_ones():
    found = {**fields_of("tensorflow.proto"), **fields_of("serving.proto")}
    assert set(found) == {*OFFICIAL, "DataType", "PredictionService"}
    for name, official in OFFICIAL.items():
        assert found[name] == {field: official.fields_by_name[field].number for field in found[name]}
        assert found[name]
    types = {name: types_pb2.DataType.Value(name) for name in found["DataType"]}
    assert found["DataType"] == types == {"DT_INVALID": 0, "DT_FLOAT": 1, "DT_STRING": 7}


def test_the_list_of_examples_is_whole():
    listed = set(re.findall(r"^\| `([\w./]+)`", (EXAMPLES / "README.md").read_text(), re.MULTILINE))
    assert listed == {"raw_client.py", "client.py", "curl.sh", "node/tag.mjs", "audio_tagging.proto"}
    assert all((EXAMPLES / name).is_file() for name in listed)
