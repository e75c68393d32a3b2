"""The program that `keras_tagger.export.check` runs: it inspects a SavedModel and runs it as a server would.

It runs in a Python process of its own, in which keras and keras_tagger cannot be imported, so everything it needs from
this package comes as arguments:

    python -c SOURCE PATH WARMUP_FILE MAX_WARMUP_RECORDS

It prints one JSON object: {"signatures": [...], "problems": [...]}.
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
# The length of unknown axes in inputs that are made up for signatures without warm-up requests.
MADE_UP_LENGTH = 16


class Blocker:
    """An import hook that finds the blocked modules, as TensorFlow looks for keras, but refuses to load them."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return a spec with this loader for the blocked modules."""
        loader: Any = self
        return importlib.machinery.ModuleSpec(name, loader) if name.split(".")[0] in BLOCKED else None

    def create_module(self, spec: Any) -> Any:
        """Refuse to import the module."""
        raise ImportError(f"{spec.name} is not available to a served SavedModel")

    def exec_module(self, module: Any) -> None:
        """Do nothing; it is never called."""


def main(path: str, warmup_file: str, max_warmup_records: int) -> None:
    """Inspect the SavedModel at `path` and print the result."""
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
            # The SavedModel does not load even if no signature uses them.
            untold = [op for op in unknown if not any(f"the op {op} " in problem for problem in problems)]
            if untold:
                problems.append(f"expected a SavedModel with TensorFlow's own ops only. Received: {', '.join(untold)}.")
        else:
            requests, broken = warmup_requests(os.path.join(path, warmup_file), max_warmup_records)
            problems.extend([*broken, *run_all(path, signatures, requests)])
    except Refused as error:
        problems.append(str(error))
    print(json.dumps({"signatures": signatures, "problems": problems}))


class Refused(Exception):  # noqa: N818
    """A SavedModel that cannot be inspected."""


def read_graph(path: str) -> Any:
    """Return the MetaGraphDef tagged "serve"."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    file = os.path.join(path, tf.compat.v1.saved_model.constants.SAVED_MODEL_FILENAME_PB)
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
    """Yield the name and the SignatureDef of each signature that a client can call."""
    for name in sorted(graph.signature_def):
        if not name.startswith("__saved_model"):
            yield name, graph.signature_def[name]


def interface_problems(definition: Any) -> Iterator[str]:
    """Yield what is wrong with the inputs and outputs of a signature."""
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
    """Yield what is wrong with the ops that a signature uses."""
    seen: set[str] = set()
    for node in reachable(graph, definition):
        kind = node.op
        where = f"Received: the op {node.op} (node {node.name})"
        if node.op in PYTHON_OPS:
            text = f"expected no call of Python, which a server cannot run. {where}, a py_function or numpy_function."
        elif not is_known(node.op, graph):
            owner = "is tensorflow-io's" if node.op.startswith("IO>") else "TensorFlow does not have"
            text = f"expected TensorFlow's own ops only. {where}, which {owner}."
        elif node.attr["_XlaMustCompile"].b:
            text = f"expected no jit_compile=True, which servers are built without. {where} with it."
        elif "GPU" in node.device.upper() or "TPU" in node.device.upper():
            kind = node.device
            text = f"expected no fixed device. {where} on {node.device}."
        else:
            continue
        if kind not in seen:
            seen.add(kind)
            yield text


def reachable(graph: Any, definition: Any) -> Iterator[Any]:
    """Yield the nodes that a signature's outputs depend on, including those in functions."""
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
    """Return the name of the node in "node:0" or "^node"."""
    return tensor.lstrip("^").split(":")[0]


def called(node: Any, functions: Any) -> Iterator[str]:
    """Yield the names of the functions that a node calls."""
    for value in node.attr.values():
        for name in (value.func.name, *(func.name for func in value.list.func)):
            if name in functions:
                yield name
    if node.op in functions:
        yield node.op


def is_known(op: str, graph: Any) -> bool:
    """Return whether an op is one of TensorFlow's, or a function of the graph."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(op) is not None or any(
        function.signature.name == op for function in graph.graph_def.library.function
    )


def unknown_ops(graph: Any) -> list[str]:
    """Return the ops in the graph that TensorFlow does not know; with any of them, the SavedModel does not load."""
    library = graph.graph_def.library.function
    nodes = [*graph.graph_def.node, *(node for function in library for node in function.node_def)]
    return sorted({node.op for node in nodes if not is_known(node.op, graph)})


def run_all(path: str, signatures: list[dict[str, Any]], requests: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Load the SavedModel in a session, as the C++ server does, run each signature, and yield what goes wrong.

    Args:
        path: The SavedModel.
        signatures: A dictionary with "name", "runnable" and "runs" for each signature; every run is added to "runs".
        requests: Inputs by signature; inputs are made up for signatures without any.
    """
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        try:
            meta = tf.compat.v1.saved_model.load(session, ["serve"], path)
        except Exception as error:
            yield f"expected a SavedModel that loads. Received: {one_line(error)}"
            return
        for entry in signatures:
            definition = meta.signature_def[entry["name"]]
            given = requests.get(entry["name"], [])
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
        for name in requests.keys() - {entry["name"] for entry in signatures}:
            yield f"expected warm-up requests for signatures that exist. Received: a request for {name}."


def warmup_requests(file: str, max_records: int) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Return the warm-up requests by signature, each as arrays by input, and what is wrong with the file."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    found: dict[str, list[dict[str, Any]]] = {}
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
    too_many = f"expected at most {max_records} warm-up requests. Received: {len(records)}."
    return found, [too_many] if len(records) > max_records else []


def made_up(definition: Any) -> dict[str, Any]:
    """Return zeros, or empty strings, for every input, as a batch of one."""
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
    """Run a signature with its inputs repeated `times` along the batch; return the shapes of inputs and outputs."""
    import numpy as np

    inputs, outputs = sorted(definition.inputs), sorted(definition.outputs)
    feeds = [definition.inputs[key].name for key in inputs]
    fetches = [definition.outputs[key].name for key in outputs]
    fed = [np.concatenate([arrays[key]] * times) for key in inputs]
    fetched = session.make_callable(fetches, feeds)(*fed)
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
    """Return the text of an error as one line."""
    return " ".join(str(getattr(error, "message", error)).split())[:300]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
