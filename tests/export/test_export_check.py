"""`keras-tagger export --check`: it passes on an export, and says of others why they cannot be served."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from keras_tagger.errors import ModelError
from keras_tagger.export import inspection, layout
from keras_tagger.export.check import check_export, newest_version

SPEC = tf.TensorSpec([None, 3], tf.float32, name="x")
SIGNATURES = ("attention", "classify", "contributions", "embedding", "serving_default", "tag_info", "wav")


class Odd(tf.Module):
    """Signatures that a server cannot serve, each for one reason; `good` is fit."""

    def __init__(self) -> None:
        self.weight = tf.Variable(2.0)

    @tf.function(input_signature=[SPEC])
    def good(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.weight * x}

    @tf.function(input_signature=[SPEC])
    def python(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        # Inside a branch of a branch: what is reached is looked for in all functions.
        def answer() -> tf.Tensor:
            return tf.py_function(np.negative, [x], tf.float32)

        def call() -> tf.Tensor:
            return tf.cond(x[0, 0] > 1, lambda: tf.ensure_shape(answer(), [None, 3]), lambda: x)

        return {"y": tf.cond(x[0, 0] > 0, call, lambda: x)}

    @tf.function(input_signature=[SPEC])
    def numpy(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.ensure_shape(tf.numpy_function(np.negative, [x], tf.float32), [None, 3])}

    @tf.function(input_signature=[SPEC])
    def half(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.cast(x, tf.float16), "z": tf.cast(x, tf.bfloat16)}

    @tf.function(input_signature=[SPEC])
    def compiled(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.function(lambda value: value * 2, jit_compile=True)(x)}

    @tf.function(input_signature=[SPEC])
    def placed(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.device("/device:GPU:0"):
            return {"y": x * 2}

    @tf.function(input_signature=[SPEC])
    def names(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * 2, "names": tf.constant(["a", "b"])}

    @tf.function(input_signature=[SPEC])
    def doubled(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.concat([x, x], axis=0)}

    @tf.function(input_signature=[SPEC])
    def never(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.Assert(tf.size(x) < 0, ["this is never satisfied"])]):
            return {"y": tf.identity(x)}


REASONS = {
    "good": "",
    "python": r"no call of Python.* the op EagerPyFunc .*py_function",
    "numpy": r"no call of Python.* the op PyFunc",
    "half": r"output y in full precision.*DT_HALF.*\n.*output z in full precision.*DT_BFLOAT16",
    "compiled": r"no jit_compile=True",
    "placed": r"no fixed device.*GPU:0",
    "names": r"output names to have the batch, of any size, as its first axis\. Received: \[2\]",
}
RUN_REASONS = {
    "good": "",
    "doubled": r"made-up input .* output y of shape \[2, 3\] for a batch of 1",
    "never": "made-up input .*this is never satisfied",
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd") / "1"
    module = Odd()
    names = dict.fromkeys([*REASONS, *RUN_REASONS])
    tf.saved_model.save(module, str(path), signatures={name: getattr(module, name) for name in names})
    return path


@pytest.mark.parametrize("name", REASONS)
def test_what_a_signature_reaches_and_says(odd: Path, name: str) -> None:
    graph = inspection.read_graph(str(odd))
    definition = graph.signature_def[name]
    found = [*inspection.interface_problems(definition), *inspection.op_problems(graph, definition)]
    if REASONS[name]:
        assert re.search(REASONS[name], "\n".join(found))
        assert len(found) == 1 + REASONS[name].count(r"\n")
    else:
        assert found == []


def test_every_signature_is_run_and_must_keep_the_batch(odd: Path) -> None:
    entries: list[dict[str, Any]] = [{"name": name, "runs": [], "runnable": True} for name in RUN_REASONS]
    problems = list(inspection.run_all(str(odd), entries, {}))
    assert len(problems) == 2
    for (name, reason), entry in zip(RUN_REASONS.items(), entries, strict=True):
        told = [problem for problem in problems if f"signature {name}:" in problem]
        assert len(told) == bool(reason)
        assert all(re.search(reason, problem) for problem in told)
        if not reason:
            assert entry["runs"] == ["x [1, 3] -> y [1, 3]", "x [2, 3] -> y [2, 3]"]


def test_of_what_is_not_fit_every_reason_is_told(odd: Path, tmp_path: Path) -> None:
    """In the interpreter of its own; an op of tensorflow-io beside, which need not be installed for this."""
    version = tmp_path / "3"
    shutil.copytree(odd, version)
    saved = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    nodes = [node for function in graph.library.function for node in function.node_def]
    next(node for node in nodes if node.op == "ConcatV2").op = "IO>AudioResample"
    (version / "saved_model.pb").write_bytes(saved.SerializeToString())
    found = check_export(tmp_path)
    assert not found.ok
    text = str(found)
    for part in (
        "EagerPyFunc",
        "py_function",
        "DT_HALF, half precision",
        "IO>AudioResample",
        "which is tensorflow-io's",
    ):
        assert part in text
    assert "signature doubled: expected TensorFlow's own ops only. Received: the op IO>AudioResample" in text
    assert text.endswith("not fit for TensorFlow Serving")
    assert "Traceback" not in text


def test_ours_passes(exported: Path) -> None:
    found = check_export(exported.parent)
    assert found.problems == []
    assert found.ok
    assert found.path == exported
    assert tuple(found.runs) == SIGNATURES
    # Two warm-up requests of each, with the batch as it is and doubled.
    assert {len(runs) for runs in found.runs.values()} == {4}
    assert found.runs["serving_default"][3] == "waveform [2, 480000] -> tags [2, 3]"
    assert str(found).endswith("\n  fit for TensorFlow Serving")


def test_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match="expected a SavedModel, or a folder with numbered versions of one. Received: "
    ):
        check_export(tmp_path)


def test_what_is_not_a_saved_model(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"rubbish")
    with pytest.raises(inspection.Refused, match="expected a SavedModel. Received: .*saved_model.pb"):
        inspection.read_graph(str(tmp_path))


def definition(change: str) -> Any:
    """A signature from x to y, but for the change."""
    info = {"name": "x:0", "dtype": types_pb2.DT_FLOAT, "tensor_shape": tf.TensorShape([None, 3]).as_proto()}
    found = meta_graph_pb2.SignatureDef()
    found.inputs["x"].CopyFrom(meta_graph_pb2.TensorInfo(**info))
    found.outputs["y"].CopyFrom(meta_graph_pb2.TensorInfo(**info))
    if change == "sparse":
        found.inputs["x"].coo_sparse.values_tensor_name = "x:0"
    elif change == "resource":
        found.outputs["y"].dtype = types_pb2.DT_RESOURCE
    elif change == "half input":
        found.inputs["x"].dtype = types_pb2.DT_HALF
    elif change == "none":
        del found.outputs["y"]
    elif change != "nothing":
        shapes = {"any rank": tf.TensorShape(None), "scalar": tf.TensorShape([]), "one clip": tf.TensorShape([1, 3])}
        found.inputs["x"].tensor_shape.CopyFrom(shapes[change].as_proto())
    return found


FIRST = "expected input x to have the batch, of any size, as its first axis. Received: "


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        ("nothing", []),
        ("sparse", ["expected input x to be a dense tensor. Received: a sparse, ragged or composite one."]),
        ("resource", ["expected output y to hold values. Received: DT_RESOURCE."]),
        ("half input", []),
        ("none", ["expected at least one output. Received: none."]),
        ("any rank", [f"{FIRST}unknown rank."]),
        ("scalar", [f"{FIRST}[]."]),
        ("one clip", [f"{FIRST}[1, 3]."]),
    ],
)
def test_inputs_and_outputs(change: str, problems: list[str]) -> None:
    assert list(inspection.interface_problems(definition(change))) == problems


def test_a_graph_that_is_not_for_serving(tmp_path: Path) -> None:
    saved = saved_model_pb2.SavedModel()
    for tags in (["serve", "gpu"], ["train"]):
        saved.meta_graphs.add().meta_info_def.tags.extend(tags)
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(inspection.Refused) as caught:
        inspection.read_graph(str(tmp_path))
    assert str(caught.value) == (
        "expected a graph with the tag serve. Received: graphs with the tags [['gpu', 'serve'], ['train']]."
    )
    graph = saved.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    for name in ("b", "a", "__saved_model_init_op"):
        graph.signature_def[name].CopyFrom(definition("nothing"))
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    found = inspection.read_graph(str(tmp_path))
    assert [name for name, _ in inspection.served_signatures(found)] == ["a", "b"]


def write_warmup(version: Path, requests: list[tuple[str, list[int]]]) -> Path:
    """Warm-up requests of ones as x, each for a signature and of a shape."""
    (version / "assets.extra").mkdir()
    path = version / layout.WARMUP_REQUESTS
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, shape in requests:
            request = predict_pb2.PredictRequest(inputs={"x": tf.make_tensor_proto(np.ones(shape, np.float32))})
            request.model_spec.signature_name = name
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
    return path


def test_warm_up_requests_are_run_and_must_be_answered(odd: Path, tmp_path: Path) -> None:
    version = tmp_path / "1"
    shutil.copytree(odd, version)
    path = write_warmup(version, [("good", [3, 3]), ("never", [1, 3]), ("absent", [1, 3])])
    requests, problems = inspection.warmup_requests(str(path), 3)
    assert problems == []
    entries: list[dict[str, Any]] = [{"name": name, "runs": [], "runnable": True} for name in ("good", "never")]
    problems = list(inspection.run_all(str(version), entries, requests))
    assert [entry["runs"] for entry in entries] == [["x [3, 3] -> y [3, 3]", "x [6, 3] -> y [6, 3]"], []]
    assert len(problems) == 2
    said = "signature never: expected its warm-up request to be answered. Received: .*this is never satisfied"
    assert re.match(said, problems[0])
    assert problems[1] == "expected warm-up requests for signatures that exist. Received: a request for absent."


def test_files_of_warm_up_requests(tmp_path: Path) -> None:
    assert inspection.warmup_requests(str(tmp_path / "missing"), 2) == ({}, [])
    path = write_warmup(tmp_path, [("", [1, 3]), ("good", [2, 3])])
    found, problems = inspection.warmup_requests(str(path), 2)
    shapes = {name: [request["x"].shape for request in requests] for name, requests in found.items()}
    assert (shapes, problems) == ({"serving_default": [(1, 3)], "good": [(2, 3)]}, [])
    assert inspection.warmup_requests(str(path), 1)[1] == ["expected at most 1 warm-up requests. Received: 2."]
    path.write_bytes(path.read_bytes()[:-3])
    found, (problem,) = inspection.warmup_requests(str(path), 2)
    assert problem.startswith(f"expected warm-up requests in {path}. Received: ")


def test_the_newest_version_is_the_highest_number(tmp_path: Path) -> None:
    for name in ("9", "10", "2", "notes", "11b", "٣", str(2**63)):
        (tmp_path / name).mkdir()
    assert list(layout.versions(tmp_path).items()) == [(2, tmp_path / "2"), (9, tmp_path / "9"), (10, tmp_path / "10")]
    assert newest_version(tmp_path) == tmp_path / "10"
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert newest_version(tmp_path) == tmp_path
