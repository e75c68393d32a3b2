"""Predict, Classify, Regress and MultiInference on one version, with TensorFlow Serving's checks and error texts.

They follow tensorflow_serving/servables/tensorflow/{predict_util,classifier,regressor,multi_inference}.cc, 2.17.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from keras_tagger.serving.servable import DEFAULT_SIGNATURE
from keras_tagger.serving.status import StatusError, invalid_argument
from keras_tagger.serving.tensors import base_dtype, decode, encode, type_name

CLASSIFY_METHOD, REGRESS_METHOD = "tensorflow/serving/classify", "tensorflow/serving/regress"

Signatures = Mapping[str, meta_graph_pb2.SignatureDef]
# Takes the names of feeds and fetches and the arrays to feed, and returns the values of the fetches.
Run = Callable[[Sequence[str], Sequence[str], Sequence[npt.NDArray[Any]]], list[Any]]


class Inference:
    """The four methods on one version of a model, for one request.

    Args:
        signatures: Signatures of the SavedModel.
        version: Number of the version, for replies.
        run: Runs the graph.
    """

    def __init__(self, signatures: Signatures, version: int, run: Run) -> None:
        self._signatures = signatures
        self._version = version
        self._run = run

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """Run one signature on named tensors."""
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if name not in self._signatures:
            text = f'Serving signature key "{name}" not found.'
            raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, text)
        signature = self._signatures[name]
        arrays, dtypes = _read_inputs(signature, request.inputs)
        aliases = _wanted_outputs(signature, request.output_filter)
        # TensorFlow Serving numbers the arguments in an error by the order of their feed names.
        inputs = sorted(signature.inputs.items(), key=lambda item: item[1].name)
        for index, (alias, info) in enumerate(inputs):
            if dtypes[alias] != base_dtype(info.dtype):
                wanted, sent = type_name(base_dtype(info.dtype)), type_name(dtypes[alias])
                raise invalid_argument(f"Expects arg[{index}] to be {wanted} but {sent} is provided")
        feeds = [info.name for _, info in inputs]
        fetches = sorted({signature.outputs[alias].name for alias in aliases})
        values = self._run(feeds, fetches, [arrays[alias] for alias, _ in inputs])
        fetched = dict(zip(fetches, values, strict=True))
        response = predict_pb2.PredictResponse(model_spec=self._spec(request.model_spec))
        for alias in aliases:
            info = signature.outputs[alias]
            response.outputs[alias].CopyFrom(encode(fetched[info.name], info.dtype, alias))
        return response

    def classify(self, request: classification_pb2.ClassificationRequest) -> classification_pb2.ClassificationResponse:
        """Return classes and scores of tf.Examples."""
        response = classification_pb2.ClassificationResponse()
        return self._on_examples(request, response, _classification_names, _fill_classification)

    def regress(self, request: regression_pb2.RegressionRequest) -> regression_pb2.RegressionResponse:
        """Return a number for each tf.Example."""
        response = regression_pb2.RegressionResponse()
        return self._on_examples(request, response, _regression_names, _fill_regression)

    def multi_inference(self, request: inference_pb2.MultiInferenceRequest) -> inference_pb2.MultiInferenceResponse:
        """Classify and regress the same tf.Examples with several signatures, in one run."""
        feeds: set[str] = set()
        fetches: set[str] = set()
        names: list[str] = []
        for task in request.tasks:
            if not task.model_spec.name:
                raise invalid_argument("Found ModelSpec with an empty model name.")
            if task.model_spec.name != request.tasks[0].model_spec.name:
                raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
            name = task.model_spec.signature_name or DEFAULT_SIGNATURE
            if name in names:
                raise invalid_argument(f"Duplicate evaluation of signature: {name}")
            names.append(name)
            if name not in self._signatures:
                raise invalid_argument(f"Requested signature not found in model graph: {name}")
            if task.method_name == CLASSIFY_METHOD:
                feed, outputs = _classification_names(self._signatures[name])
            elif task.method_name == REGRESS_METHOD:
                feed, outputs = _regression_names(self._signatures[name])
            else:
                text = f"Unsupported signature method_name: {task.method_name}"
                raise StatusError(grpc.StatusCode.UNIMPLEMENTED, text)
            feeds.add(feed)
            fetches.update(outputs)
        fetched, count = self._run_examples(sorted(feeds), sorted(fetches), request.input)
        response = inference_pb2.MultiInferenceResponse()
        for name, task in zip(names, request.tasks, strict=True):
            result = response.results.add(model_spec=self._spec(task.model_spec))
            if task.method_name == CLASSIFY_METHOD:
                _fill_classification(self._signatures[name], fetched, count, result.classification_result)
            else:
                _fill_regression(self._signatures[name], fetched, count, result.regression_result)
        return response

    def _on_examples(
        self,
        request: Any,
        response: Any,
        names: Callable[[meta_graph_pb2.SignatureDef], tuple[str, list[str]]],
        fill: Callable[[meta_graph_pb2.SignatureDef, Mapping[str, npt.NDArray[Any]], int, Any], None],
    ) -> Any:
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if name not in self._signatures:
            raise invalid_argument(f"No signature was found with the name: {name}")
        feed, fetches = names(self._signatures[name])
        fetched, count = self._run_examples([feed], fetches, request.input)
        response.model_spec.CopyFrom(self._spec(request.model_spec))
        fill(self._signatures[name], fetched, count, response.result)
        return response

    def _spec(self, asked: model_pb2.ModelSpec) -> model_pb2.ModelSpec:
        spec = model_pb2.ModelSpec(name=asked.name, signature_name=asked.signature_name or DEFAULT_SIGNATURE)
        spec.version.value = self._version
        return spec

    def _run_examples(
        self, feeds: Sequence[str], fetches: Sequence[str], given: input_pb2.Input
    ) -> tuple[dict[str, npt.NDArray[Any]], int]:
        examples = serialized_examples(given)
        values = self._run(feeds, fetches, [examples] * len(feeds))
        return dict(zip(fetches, map(np.asarray, values), strict=True)), len(examples)


def serialized_examples(given: input_pb2.Input) -> npt.NDArray[Any]:
    """Return the serialized tf.Examples of an Input, object `[n]`, each prefixed with the serialized context."""
    kind = given.WhichOneof("kind")
    context = b""
    if kind == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
    found = getattr(given, kind).examples if kind else ()
    if not found:
        raise invalid_argument("Input is empty.")
    examples = np.empty(len(found), object)
    examples[:] = [context + example.SerializeToString() for example in found]
    return examples


def _classification_names(signature: meta_graph_pb2.SignatureDef) -> tuple[str, list[str]]:
    """Return the feed and the fetches of a classification signature."""
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid_argument(f"No classification inputs found in SignatureDef: {signature}")
    fetches = [signature.outputs[alias].name for alias in ("classes", "scores") if alias in signature.outputs]
    if not fetches:
        raise invalid_argument(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {signature}"
        )
    return signature.inputs["inputs"].name, fetches


def _regression_names(signature: meta_graph_pb2.SignatureDef) -> tuple[str, list[str]]:
    """Return the feed and the fetch of a regression signature."""
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise invalid_argument(f"No regression inputs found in SignatureDef: {signature}")
    if "outputs" not in signature.outputs:
        raise invalid_argument(f"No regression outputs found in SignatureDef: {signature}")
    return signature.inputs["inputs"].name, [signature.outputs["outputs"].name]


def _fill_classification(
    signature: meta_graph_pb2.SignatureDef,
    fetched: Mapping[str, npt.NDArray[Any]],
    count: int,
    result: classification_pb2.ClassificationResult,
) -> None:
    columns: dict[str, npt.NDArray[Any]] = {}
    for alias, dtype in (("classes", types_pb2.DT_STRING), ("scores", types_pb2.DT_FLOAT)):
        if alias not in signature.outputs:
            continue
        info = signature.outputs[alias]
        values = fetched[info.name]
        if values.ndim != 2:
            shape = "[" + ",".join(map(str, values.shape)) + "]"
            raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {shape}")
        if info.dtype != dtype:
            names = types_pb2.DataType.Name(dtype), types_pb2.DataType.Name(info.dtype)
            raise invalid_argument(f"Expected {alias} Tensor of {names[0]}. Got: {names[1]}")
        if len(values) != count:
            raise invalid_argument(f"Expected {alias} output batch size of {count}. Got: {len(values)}")
        columns[alias] = values
    if len({values.shape[1] for values in columns.values()}) > 1:
        sizes = " vs. ".join(str(columns[alias].shape[1]) for alias in ("classes", "scores"))
        raise invalid_argument(f"Tensors class and score should match in dim_size(1). Got {sizes}")
    for row in range(count):
        entry = result.classifications.add()
        for index in range(next(iter(columns.values())).shape[1]):
            found = entry.classes.add()
            if "classes" in columns:
                found.label = columns["classes"][row, index].decode("utf-8", "replace")
            if "scores" in columns:
                found.score = columns["scores"][row, index]


def _fill_regression(
    signature: meta_graph_pb2.SignatureDef,
    fetched: Mapping[str, npt.NDArray[Any]],
    count: int,
    result: regression_pb2.RegressionResult,
) -> None:
    info = signature.outputs["outputs"]
    values = fetched[info.name]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        shape = "[" + ",".join(map(str, values.shape)) + "]"
        raise invalid_argument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {shape}"
        )
    if len(values) != count:
        raise invalid_argument(f"Input batch size did not match output batch size: {count} vs. {len(values)}")
    if info.dtype != types_pb2.DT_FLOAT:
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {types_pb2.DataType.Name(info.dtype)}")
    for value in values.reshape(-1):
        result.regressions.add(value=value)


def _joined(names: Iterable[str]) -> str:
    """Format a set of names as TensorFlow Serving does: "{a,b}"."""
    return "{" + ",".join(sorted(names)) + "}"


def _read_inputs(
    signature: meta_graph_pb2.SignatureDef, sent: Mapping[str, tensor_pb2.TensorProto]
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, int]]:
    """Return the arrays of a request by input name, and their dtypes."""
    wanted = signature.inputs
    if len(sent) > len(wanted) or (len(sent) < len(wanted) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"len({_joined(sent)}) != len({_joined(wanted)}). "
            f"Sent extra: {_joined(set(sent) - set(wanted))}. "
            f"Missing but required: {_joined(set(wanted) - set(sent))}."
        )
    protos = {}
    for alias in sorted(wanted):
        if alias not in sent and alias not in signature.defaults:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {wanted[alias].name}) not found in request "
                f"and no default value provided. Inputs expected to be in the request {_joined(sent)}, "
                "or default input alias set: " + ",".join(sorted(signature.defaults))
            )
        protos[alias] = sent[alias] if alias in sent else signature.defaults[alias]
    arrays = {alias: decode(proto, alias) for alias, proto in protos.items()}
    unknown = set(sent) - set(wanted)
    if unknown:
        used = ",".join(sorted(set(sent) - unknown))
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {used}, request input: {','.join(sorted(sent))}"
        )
    return arrays, {alias: proto.dtype for alias, proto in protos.items()}


def _wanted_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]) -> list[str]:
    """Return the names of the requested outputs: those of the filter, or all."""
    seen: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_joined(signature.outputs)}."
            )
        if alias in seen:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        seen.append(alias)
    return seen or sorted(signature.outputs)
