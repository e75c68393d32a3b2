"""`keras-tagger export --check`: it passes on an export, and says of others why they cannot be served."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_tagger import export_inspect
from keras_tagger.errors import ModelError
from keras_tagger.export_check import check_export

SPEC = tf.TensorSpec([None, 3], tf.float32, name="x")
SIGNATURES = ("attention", "classify", "contributions", "embedding", "serving_default", "wav")


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
    graph = export_inspect.read_graph(str(odd))
    definition = graph.signature_def[name]
    found = [*export_inspect.interface_problems(definition), *export_inspect.op_problems(graph, definition)]
    if REASONS[name]:
        assert re.search(REASONS[name], "\n".join(found))
        assert len(found) == 1 + REASONS[name].count(r"\n")
    else:
        assert found == []


def test_every_signature_is_run_and_must_keep_the_batch(odd: Path) -> None:
    entries: list[dict[str, Any]] = [{"name": name, "runs": [], "runnable": True} for name in RUN_REASONS]
    problems = list(export_inspect.run_all(str(odd), entries))
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
    assert "signature doubled: expected TensorFlow's own ops alone. Received: the op IO>AudioResample" in text
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
    with pytest.raises(export_inspect.Refused, match="expected a SavedModel. Received: .*saved_model.pb"):
        export_inspect.read_graph(str(tmp_path))
