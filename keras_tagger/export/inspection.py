"""The program behind `keras_tagger.export.check`: looks into a SavedModel and runs it as a server would.

It is run in an interpreter of its own, `python -c SOURCE PATH`, in which nothing but TensorFlow and the stubs of
tensorflow-serving-api can be imported, and prints one JSON object: {"signatures": [...], "problems": [...]}.
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

BLOCKED = ("keras", "tf_keras", "kapre", "tensorflow_io", "keras_tagger", "librosa")
PYTHON_OPS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_WARMUP_RECORDS = 1000
# What is made up for a signature without a warm-up request: as many values along each axis of unknown length.
MADE_UP_LENGTH = 16


class Blocker:
    """Finds the blocked modules, as TensorFlow probes for keras with find_spec, and refuses to load them."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """A spec with this as its loader, of the blocked modules."""
        loader: Any = self
        return importlib.machinery.ModuleSpec(name, loader) if name.split(".")[0] in BLOCKED else None

    def create_module(self, spec: Any) -> Any:
        """Refuses."""
        raise ImportError(f"{spec.name} is not where a SavedModel is served")

    def exec_module(self, module: Any) -> None:
        """Is never reached."""


def main(path: str) -> None:
    """Print what is found in the SavedModel at `path`."""
    sys.meta_path.insert(0, Blocker())
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    signatures: list[dict[str, Any]] = []
    problems: list[str] = []
    try:
        graph = read_graph(path)
        for name, definition in served_signatures(graph):
            found = [*interface_problems(definition), *op_problems(graph, definition)]
            problems.extend(f"signature {name}: {problem}" for problem in found)
            signatures.append({"name": name, "runs": [], "runnable": not found})
        if not signatures:
            problems.append("expected at least one signature. Received: none.")
        if unknown := unknown_ops(graph):
            # Also where no signature reaches them, nothing loads.
            untold = [op for op in unknown if not any(f"the op {op} " in problem for problem in problems)]
            if untold:
                problems.append(f"expected TensorFlow's own ops alone, to be loaded. Received: {', '.join(untold)}.")
        else:
            problems.extend(run_all(path, signatures))
    except Refused as error:
        problems.append(str(error))
    print(json.dumps({"signatures": signatures, "problems": problems}))


class Refused(Exception):  # noqa: N818
    """A SavedModel that cannot be looked into."""


def read_graph(path: str) -> Any:
    """The MetaGraphDef tagged "serve"."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    file = os.path.join(path, "saved_model.pb")
    try:
        with tf.io.gfile.GFile(file, "rb") as stream:
            saved = saved_model_pb2.SavedModel.FromString(stream.read())
    except Exception as error:
        raise Refused(f"expected a SavedModel. Received: {file} ({one_line(error)}).") from None
    tags = [sorted(meta.meta_info_def.tags) for meta in saved.meta_graphs]
    if ["serve"] not in tags:
        raise Refused(f"expected a graph with the tag serve. Received: graphs with the tags {tags}.")
    return saved.meta_graphs[tags.index(["serve"])]


def served_signatures(graph: Any) -> Iterator[tuple[str, Any]]:
    """Name and SignatureDef of those that a client can ask for."""
    for name in sorted(graph.signature_def):
        if not name.startswith("__saved_model"):
            yield name, graph.signature_def[name]


def interface_problems(definition: Any) -> Iterator[str]:
    """What of the inputs and outputs a server cannot take or give."""
    from tensorflow.core.framework import types_pb2

    for side, infos in (("input", definition.inputs), ("output", definition.outputs)):
        if not infos:
            yield f"expected at least one {side}. Received: none."
        for key in sorted(infos):
            info, dtype = infos[key], types_pb2.DataType.Name(infos[key].dtype)
            if info.WhichOneof("encoding") != "name":
                yield f"expected {side} {key} to be a dense tensor. Received: a sparse, ragged or composite one."
            elif info.tensor_shape.unknown_rank or not info.tensor_shape.dim or info.tensor_shape.dim[0].size != -1:
                shape = "unknown rank" if info.tensor_shape.unknown_rank else [d.size for d in info.tensor_shape.dim]
                yield f"expected {side} {key} to have the batch, of any size, as its first axis. Received: {shape}."
            if dtype in ("DT_RESOURCE", "DT_VARIANT"):
                yield f"expected {side} {key} to hold values. Received: {dtype}."
            if side == "output" and dtype in ("DT_HALF", "DT_BFLOAT16"):
                yield (
                    f"expected output {key} in full precision, as REST and many clients read no other. "
                    f"Received: {dtype}, half precision."
                )


def op_problems(graph: Any, definition: Any) -> Iterator[str]:
    """What a signature reaches that a server does not have."""
    seen: set[str] = set()
    for node in reachable(graph, definition):
        kind = node.op
        where = f"Received: the op {node.op} (node {node.name})"
        if node.op in PYTHON_OPS:
            text = (
                f"expected no call of Python, which a server does not have. {where}, a py_function or numpy_function."
            )
        elif not is_known(node.op, graph):
            owner = "is tensorflow-io's" if node.op.startswith("IO>") else "TensorFlow does not have"
            text = f"expected TensorFlow's own ops alone. {where}, which {owner}."
        elif node.attr["_XlaMustCompile"].b:
            text = f"expected no jit_compile=True, which a server is not built with. {where} with it."
        elif "GPU" in node.device.upper() or "TPU" in node.device.upper():
            kind = node.device
            text = f"expected no fixed device. {where} on {node.device}."
        else:
            continue
        if kind not in seen:
            seen.add(kind)
            yield text


def reachable(graph: Any, definition: Any) -> Iterator[Any]:
    """The nodes that a signature's outputs depend on, those in functions included."""
    nodes = {node.name: node for node in graph.graph_def.node}
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    waiting = [node_name(info.name) for info in definition.outputs.values() if info.name]
    seen_nodes: set[str] = set()
    seen_functions: set[str] = set()
    calls: list[str] = []
    while waiting:
        name = waiting.pop()
        if name in seen_nodes or name not in nodes:
            continue
        seen_nodes.add(name)
        yield nodes[name]
        waiting.extend(node_name(source) for source in nodes[name].input)
        calls.extend(called(nodes[name], functions))
    while calls:
        name = calls.pop()
        if name in seen_functions:
            continue
        seen_functions.add(name)
        for node in functions[name].node_def:
            yield node
            calls.extend(called(node, functions))


def node_name(tensor: str) -> str:
    """The node of "node:0" or "^node"."""
    return tensor.lstrip("^").split(":")[0]


def called(node: Any, functions: Any) -> Iterator[str]:
    """Names of the functions that a node calls."""
    for value in node.attr.values():
        for name in (value.func.name, *(func.name for func in value.list.func)):
            if name in functions:
                yield name
    if node.op in functions:
        yield node.op


def is_known(op: str, graph: Any) -> bool:
    """Whether an op is TensorFlow's, or a function of the graph."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(op) is not None or any(
        function.signature.name == op for function in graph.graph_def.library.function
    )


def unknown_ops(graph: Any) -> list[str]:
    """The ops anywhere in the graph that TensorFlow does not know: with one of them nothing loads."""
    library = graph.graph_def.library.function
    nodes = [*graph.graph_def.node, *(node for function in library for node in function.node_def)]
    return sorted({node.op for node in nodes if not is_known(node.op, graph)})


def run_all(path: str, signatures: list[dict[str, Any]]) -> Iterator[str]:
    """Load with a session, as the C++ server does, and run each signature by the names of feeds and fetches."""
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        try:
            meta = tf.compat.v1.saved_model.load(session, ["serve"], path)
        except Exception as error:
            yield f"expected a SavedModel that loads. Received: {one_line(error)}"
            return
        requests, problems = warmup_requests(path)
        yield from problems
        for entry in signatures:
            definition = meta.signature_def[entry["name"]]
            given = requests.pop(entry["name"], [])
            if not entry["runnable"]:
                continue
            for feeds in given or [made_up(definition)]:
                for times in (1, 2):
                    try:
                        entry["runs"].append(run_once(session, definition, feeds, times))
                    except Exception as error:
                        kind = "warm-up request" if given else "made-up input (it has no warm-up request)"
                        again = ", each clip twice," if times == 2 else ""
                        yield f"signature {entry['name']}: expected its {kind}{again} to be answered. " + (
                            f"Received: {one_line(error)}"
                        )
                        break
        for name in requests:
            yield f"expected warm-up requests of signatures that exist. Received: one of {name}."


def warmup_requests(path: str) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """The warm-up requests by signature, as arrays by input; and what is wrong with the file."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    found: dict[str, list[dict[str, Any]]] = {}
    file = os.path.join(path, WARMUP_FILE)
    if not tf.io.gfile.exists(file):
        return found, []
    try:
        records = list(tf.compat.v1.io.tf_record_iterator(file))
        for record in records:
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if log.WhichOneof("log_type") == "predict_log":
                request = log.predict_log.request
                arrays = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
                found.setdefault(request.model_spec.signature_name or "serving_default", []).append(arrays)
    except Exception as error:
        return found, [f"expected warm-up requests in {file}. Received: {one_line(error)}"]
    too_many = f"expected at most {MAX_WARMUP_RECORDS} warm-up requests. Received: {len(records)}."
    return found, [too_many] if len(records) > MAX_WARMUP_RECORDS else []


def made_up(definition: Any) -> dict[str, Any]:
    """Zeros, or empty strings, for every input; a batch of one."""
    import numpy as np
    import tensorflow as tf

    arrays = {}
    for key, info in definition.inputs.items():
        sizes = [MADE_UP_LENGTH if dim.size < 0 else dim.size for dim in info.tensor_shape.dim]
        dtype = tf.as_dtype(info.dtype)
        arrays[key] = (
            np.full([1, *sizes[1:]], b"", object)
            if dtype == tf.string
            else np.zeros([1, *sizes[1:]], dtype.as_numpy_dtype)
        )
    return arrays


def run_once(session: Any, definition: Any, arrays: dict[str, Any], times: int) -> str:
    """Run a signature on its inputs repeated along the batch; returns what went in and came out, as text."""
    import numpy as np
    from tensorflow.core.protobuf import config_pb2

    inputs, outputs = sorted(definition.inputs), sorted(definition.outputs)
    options = config_pb2.CallableOptions(
        feed=[definition.inputs[key].name for key in inputs], fetch=[definition.outputs[key].name for key in outputs]
    )
    fed = [np.concatenate([arrays[key]] * times) for key in inputs]
    fetched = session._make_callable_from_options(options)(*fed)
    batch = len(fed[0])
    for key, value in zip(outputs, fetched, strict=True):
        if np.ndim(value) == 0 or len(value) != batch:
            raise ValueError(f"output {key} of shape {list(np.shape(value))} for a batch of {batch}.")
    sides = (
        ", ".join(f"{key} {list(np.shape(value))}" for key, value in zip(keys, values, strict=True))
        for keys, values in ((inputs, fed), (outputs, fetched))
    )
    return " -> ".join(sides)


def one_line(error: Exception) -> str:
    """The text of an error as one line."""
    return " ".join(str(getattr(error, "message", error)).split())[:300]


if __name__ == "__main__":
    main(sys.argv[1])
