"""The Open Inference Protocol, version 2, which clients of KServe and Triton speak, over gRPC and HTTP.

    GET  /v2, /v2/health/live, /v2/health/ready
    GET  /v2/models/M[/versions/V], /v2/models/M[/versions/V]/ready
    POST /v2/models/M[/versions/V]/infer

Over HTTP, tensors may follow the JSON as bytes (extension "binary_tensor_data"). The protocol has no signatures: the
parameter "signature_name" of a request, or of the query of a model's metadata, chooses one.

The messages are those of the published specification, https://github.com/kserve/open-inference-protocol (Apache-2.0).
Its packages with stubs need other versions of protobuf than TensorFlow does.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import struct
import threading
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from keras_tagger.client.proto_messages import Protocol
from keras_tagger.serving import rest_json
from keras_tagger.serving.dispatch import Dispatcher
from keras_tagger.serving.grpc_services import RequestThreads, method_handler
from keras_tagger.serving.http_server import HttpReply, HttpRequest
from keras_tagger.serving.limits import json_bytes
from keras_tagger.serving.rest import Rest
from keras_tagger.serving.scheduler import Call
from keras_tagger.serving.servable import DEFAULT_SIGNATURE, Servable
from keras_tagger.serving.status import StatusError, invalid_argument
from keras_tagger.serving.tensors import decode

SERVER_NAME = "keras_tagger"
PLATFORM = "tensorflow_savedmodel"
EXTENSIONS = ("binary_tensor_data",)
LENGTH_HEADER = "Inference-Header-Content-Length"
_MODEL = r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?"

_TENSOR = "string name = 1; string datatype = 2; repeated int64 shape = 3;"
_FULL_TENSOR = f"{_TENSOR} map<string, InferParameter> parameters = 4; InferTensorContents contents = 5;"
_MODEL_VERSION = "string name = 1; string version = 2;"
_INFERENCE = """
    string model_name = 1; string model_version = 2; string id = 3; map<string, InferParameter> parameters = 4;
"""
PROTOCOL = Protocol(
    "inference",
    {
        "ServerLiveRequest": "",
        "ServerLiveResponse": "bool live = 1;",
        "ServerReadyRequest": "",
        "ServerReadyResponse": "bool ready = 1;",
        "ModelReadyRequest": _MODEL_VERSION,
        "ModelReadyResponse": "bool ready = 1;",
        "ServerMetadataRequest": "",
        "ServerMetadataResponse": f"{_MODEL_VERSION} repeated string extensions = 3;",
        "ModelMetadataRequest": _MODEL_VERSION,
        "TensorMetadata": _TENSOR,
        "ModelMetadataResponse": """
            string name = 1; repeated string versions = 2; string platform = 3;
            repeated TensorMetadata inputs = 4; repeated TensorMetadata outputs = 5;
        """,
        "InferParameter": """
            oneof parameter_choice bool bool_param = 1; oneof parameter_choice int64 int64_param = 2;
            oneof parameter_choice string string_param = 3; oneof parameter_choice double double_param = 4;
            oneof parameter_choice uint64 uint64_param = 5;
        """,
        "InferTensorContents": """
            repeated bool bool_contents = 1; repeated int32 int_contents = 2; repeated int64 int64_contents = 3;
            repeated uint32 uint_contents = 4; repeated uint64 uint64_contents = 5; repeated float fp32_contents = 6;
            repeated double fp64_contents = 7; repeated bytes bytes_contents = 8;
        """,
        "InferInputTensor": _FULL_TENSOR,
        "InferRequestedOutputTensor": "string name = 1; map<string, InferParameter> parameters = 2;",
        "ModelInferRequest": f"""{_INFERENCE}
            repeated InferInputTensor inputs = 5; repeated InferRequestedOutputTensor outputs = 6;
            repeated bytes raw_input_contents = 7;
        """,
        "InferOutputTensor": _FULL_TENSOR,
        "ModelInferResponse": f"""{_INFERENCE}
            repeated InferOutputTensor outputs = 5; repeated bytes raw_output_contents = 6;
        """,
    },
    "GRPCInferenceService",
    {
        name: (f"{name}Request", f"{name}Response")
        for name in ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
    },
)

# Name, and field of InferTensorContents, of each dtype; FP16 is sent as bytes only.
_DATATYPES: dict[int, tuple[str, str]] = {
    types_pb2.DT_BOOL: ("BOOL", "bool_contents"),
    types_pb2.DT_UINT8: ("UINT8", "uint_contents"),
    types_pb2.DT_UINT16: ("UINT16", "uint_contents"),
    types_pb2.DT_UINT32: ("UINT32", "uint_contents"),
    types_pb2.DT_UINT64: ("UINT64", "uint64_contents"),
    types_pb2.DT_INT8: ("INT8", "int_contents"),
    types_pb2.DT_INT16: ("INT16", "int_contents"),
    types_pb2.DT_INT32: ("INT32", "int_contents"),
    types_pb2.DT_INT64: ("INT64", "int64_contents"),
    types_pb2.DT_HALF: ("FP16", ""),
    types_pb2.DT_FLOAT: ("FP32", "fp32_contents"),
    types_pb2.DT_DOUBLE: ("FP64", "fp64_contents"),
    types_pb2.DT_STRING: ("BYTES", "bytes_contents"),
}
_DTYPES = {name: dtype for dtype, (name, _) in _DATATYPES.items()}


class OpenInference:
    """The methods of the protocol, independent of how they are called.

    Args:
        dispatcher: Answers the requests.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        try:
            self.version = importlib.metadata.version("keras_tagger")
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            self.version = ""

    def ready(self) -> bool:
        """Return whether every model has an available version."""
        return self.dispatcher.manager.ready()

    def model_ready(self, name: str, version: str) -> bool:
        """Return whether a version is available."""
        try:
            with self.dispatcher.manager.lease(_spec(name, version)):
                return True
        except StatusError as refusal:
            if refusal.code != grpc.StatusCode.NOT_FOUND:
                raise
            return False

    def metadata(self, name: str, version: str, signature_name: str) -> Any:
        """Return a ModelMetadataResponse."""
        spec = _spec(name, version)
        with self.dispatcher.manager.lease(spec) as servable:
            signature = _signature(servable, signature_name)
            response = PROTOCOL.ModelMetadataResponse(name=name, versions=[str(servable.version)], platform=PLATFORM)
            for infos, into in ((signature.inputs, response.inputs), (signature.outputs, response.outputs)):
                for alias, info in sorted(infos.items()):
                    shape = tf.TensorShape(info.tensor_shape)
                    sizes = [-1 if size is None else size for size in shape.as_list()] if shape.rank is not None else []
                    into.add(name=alias, datatype=_datatype(info.dtype, alias), shape=sizes)
        return response

    def infer(
        self,
        spec: model_pb2.ModelSpec,
        inputs: Mapping[str, tensor_pb2.TensorProto],
        outputs: Sequence[str],
        call: Call,
    ) -> tuple[int, list[tuple[str, str, npt.NDArray[Any]]]]:
        """Run a signature.

        Returns:
            The version that answered, and the outputs in the order requested: name, datatype and array.
        """
        request = predict_pb2.PredictRequest(model_spec=spec, output_filter=outputs)
        for name, proto in inputs.items():
            request.inputs[name].CopyFrom(proto)
        response = self.dispatcher.predict(request, call)
        names = outputs or sorted(response.outputs)
        found = []
        for name in names:
            proto = response.outputs[name]
            found.append((name, _datatype(proto.dtype, name), decode(proto, name)))
        return response.model_spec.version.value, found


def grpc_handlers(
    protocol: OpenInference, closed: threading.Event, threads: RequestThreads
) -> dict[str, grpc.RpcMethodHandler]:
    """Return the handlers of `inference.GRPCInferenceService` by path; once `closed` is set, they refuse."""

    def server_metadata(request: Any, call: Call) -> Any:
        return PROTOCOL.ServerMetadataResponse(name=SERVER_NAME, version=protocol.version)

    methods: dict[str, Callable[[Any, Call], Any]] = {
        "ServerLive": lambda request, call: PROTOCOL.ServerLiveResponse(live=True),
        "ServerReady": lambda request, call: PROTOCOL.ServerReadyResponse(ready=protocol.ready()),
        "ModelReady": lambda request, call: PROTOCOL.ModelReadyResponse(
            ready=protocol.model_ready(request.name, request.version)
        ),
        "ServerMetadata": server_metadata,
        "ModelMetadata": lambda request, call: protocol.metadata(request.name, request.version, ""),
        "ModelInfer": lambda request, call: _infer_message(protocol, request, call),
    }
    return {
        f"/{PROTOCOL.service}/{name}": method_handler(
            name,
            PROTOCOL.methods[name][0],
            method,
            protocol.dispatcher,
            closed,
            threads,
            model_of=(lambda request: str(request.model_name)) if name == "ModelInfer" else None,
        )
        for name, method in methods.items()
    }


def _infer_message(protocol: OpenInference, request: Any, call: Call) -> Any:
    spec = _spec(request.model_name, request.model_version, request.parameters["signature_name"].string_param)
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise invalid_argument(
            f"expected raw_input_contents for every input ({len(request.inputs)}). Received: {len(raw)}."
        )
    inputs = {}
    for index, tensor in enumerate(request.inputs):
        if raw:
            proto = _from_raw(tensor.name, tensor.datatype, tensor.shape, raw[index])
        else:
            proto = _from_contents(tensor)
        inputs[tensor.name] = proto
    outputs = [output.name for output in request.outputs]
    with protocol.dispatcher.metrics.in_flight.track_inprogress():
        version, found = protocol.infer(spec, inputs, outputs, call)
    response = PROTOCOL.ModelInferResponse(model_name=request.model_name, model_version=str(version), id=request.id)
    for name, datatype, array in found:
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        response.raw_output_contents.append(_to_raw(array))
    return response


def add_routes(rest: Rest, protocol: OpenInference) -> None:
    """Add the paths below /v2 to the REST API."""

    def model(request: HttpRequest, found: re.Match[str]) -> HttpReply:
        _check_method(request, "GET", "HEAD")
        query = urllib.parse.parse_qs(request.path.partition("?")[2])
        signature = query.get("signature_name", [""])[-1]
        response = protocol.metadata(_name(found), found["version"] or "", signature)
        tensors = {
            side: [
                {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
                for tensor in getattr(response, side)
            ]
            for side in ("inputs", "outputs")
        }
        return _reply({"name": response.name, "versions": list(response.versions), "platform": PLATFORM, **tensors})

    def model_ready(request: HttpRequest, found: re.Match[str]) -> HttpReply:
        _check_method(request, "GET", "HEAD")
        name = _name(found)
        ready = protocol.model_ready(name, found["version"] or "")
        return _reply({"name": name, "ready": ready}, 200 if ready else 404)

    def health(request: HttpRequest, found: re.Match[str]) -> HttpReply:
        _check_method(request, "GET", "HEAD")
        live = found["what"] == "live"
        state = True if live else protocol.ready()
        return _reply({"live" if live else "ready": state}, 200 if state else 503)

    def server(request: HttpRequest, found: re.Match[str]) -> HttpReply:
        _check_method(request, "GET", "HEAD")
        return _reply({"name": SERVER_NAME, "version": protocol.version, "extensions": EXTENSIONS})

    def infer(request: HttpRequest, found: re.Match[str]) -> HttpReply:
        _check_method(request, "POST")
        name, status = _name(found), "OK"
        try:
            protocol.dispatcher.scheduler.check(request.call)
            with protocol.dispatcher.metrics.in_flight.track_inprogress():
                return _infer_http(rest, protocol, request, name, found["version"] or "")
        except StatusError as refusal:
            status = refusal.code.name
            raise
        except Exception:
            status = "INTERNAL"
            raise
        finally:
            protocol.dispatcher.count(name, status, "ModelInfer", "REST", request.call)

    rest.route(_MODEL + "/infer", infer)
    rest.route(_MODEL + "/ready", model_ready)
    rest.route(_MODEL, model)
    rest.route("/v2/health/(?P<what>live|ready)", health)
    rest.route("/v2/?", server)


def _check_method(request: HttpRequest, *methods: str) -> None:
    if request.method not in methods:
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"expected {methods[0]}. Received: {request.method}.")


def _name(found: re.Match[str]) -> str:
    return urllib.parse.unquote(found["name"], errors="replace")


def _reply(values: Mapping[str, Any], status: int = 200) -> HttpReply:
    return HttpReply(status, json.dumps(values, ensure_ascii=False).encode())


def _infer_http(rest: Rest, protocol: OpenInference, request: HttpRequest, name: str, version: str) -> HttpReply:
    body, rest_of_body = _split(request)
    with rest.parsing.held(json_bytes(body), request.call.deadline):
        document = rest_json.parse(body)
        tensors = document.get("inputs")
        if not (isinstance(tensors, list) and tensors and all(isinstance(tensor, dict) for tensor in tensors)):
            raise invalid_argument("expected inputs, a list of tensors. Received: something else.")
        binary = _Pieces(rest_of_body)
        inputs = {str(tensor.get("name")): _from_json(tensor, binary) for tensor in tensors}
    parameters, outputs = _object(document, "parameters"), document.get("outputs") or []
    if not (isinstance(outputs, list) and all(isinstance(output, dict) and "name" in output for output in outputs)):
        raise invalid_argument("expected outputs, a list of objects with a name. Received: something else.")
    spec = _spec(name, version, str(parameters.get("signature_name", "")))
    answered, found = protocol.infer(spec, inputs, [str(output["name"]) for output in outputs], request.call)
    as_bytes = {
        str(output["name"]): bool(_object(output, "parameters").get("binary_data", False)) for output in outputs
    }
    every = bool(parameters.get("binary_data_output", False))
    described, raw = [], []
    for alias, datatype, array in found:
        tensor: dict[str, Any] = {"name": alias, "datatype": datatype, "shape": list(array.shape)}
        if as_bytes.get(alias, every):
            raw.append(_to_raw(array))
            tensor["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            tensor["data"] = _to_json(array)
        described.append(tensor)
    reply: dict[str, Any] = {"model_name": name, "model_version": str(answered), "outputs": described}
    if isinstance(document.get("id"), str):
        reply["id"] = document["id"]
    text = json.dumps(reply).encode()
    if not raw:
        return HttpReply(200, text)
    return HttpReply(200, b"".join([text, *raw]), "application/octet-stream", ((LENGTH_HEADER, str(len(text))),))


class _Pieces:
    """The bytes behind the JSON of a request, taken piece by piece."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def take(self, size: Any) -> bytes:
        """Return the next bytes."""
        if not isinstance(size, int) or not 0 <= size <= len(self._data):
            raise invalid_argument(f"expected binary_data_size up to {len(self._data)}. Received: {size!r}.")
        piece, self._data = bytes(self._data[:size]), self._data[size:]
        return piece


def _split(request: HttpRequest) -> tuple[bytes, memoryview]:
    """Return the JSON of a request and the bytes behind it."""
    text = request.headers.get(LENGTH_HEADER, "")
    body = memoryview(request.body)
    if not text:
        return request.body, body[len(body) :]
    if not (text.isascii() and text.isdecimal() and int(text[:12]) <= len(body)):
        raise invalid_argument(f"expected {LENGTH_HEADER} up to {len(body)}. Received: {text[:20]}.")
    return bytes(body[: int(text)]), body[int(text) :]


def _object(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key, {})
    if not isinstance(found, dict):
        raise invalid_argument(f"expected {key} to be an object. Received: something else.")
    return found


def _spec(name: str, version: str, signature_name: str = "") -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=name, signature_name=signature_name)
    if version:
        if version.isascii() and version.isdecimal() and int(version[:19]) < 2**63 and len(version) < 20:
            spec.version.value = int(version)
        else:
            # TensorFlow Serving's labels are versions to this protocol.
            spec.version_label = version
    return spec


def _signature(servable: Servable, name: str) -> Any:
    found = servable.signatures.get(name or DEFAULT_SIGNATURE)
    if found is None:
        raise invalid_argument(f'Serving signature key "{name or DEFAULT_SIGNATURE}" not found.')
    return found


def _datatype(dtype: int, alias: str) -> str:
    if dtype not in _DATATYPES:
        kind = types_pb2.DataType.Name(dtype)
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"{alias} is {kind}, which the protocol does not have.")
    return _DATATYPES[dtype][0]


def _proto(name: str, datatype: str, shape: Sequence[Any]) -> tensor_pb2.TensorProto:
    if datatype not in _DTYPES:
        raise invalid_argument(f"expected datatype of {name} to be {', '.join(_DTYPES)}. Received: {datatype!r}.")
    proto = tensor_pb2.TensorProto(dtype=_DTYPES[datatype])
    for size in shape:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
            raise invalid_argument(f"expected shape of {name} to have whole numbers. Received: {size!r}.")
        proto.tensor_shape.dim.add(size=size)
    return proto


def _from_raw(name: str, datatype: str, shape: Sequence[Any], data: bytes) -> tensor_pb2.TensorProto:
    proto = _proto(name, datatype, shape)
    if datatype != "BYTES":
        proto.tensor_content = data
        if not data:
            # Without content, the last value would be repeated.
            _check_count(name, proto, 0)
        return proto
    position = 0
    while position < len(data):
        size = struct.unpack_from("<I", data, position)[0] if position + 4 <= len(data) else len(data)
        if position + 4 + size > len(data):
            raise invalid_argument(f"expected elements of {name} with their lengths. Received: other bytes.")
        proto.string_val.append(data[position + 4 : position + 4 + size])
        position += 4 + size
    _check_count(name, proto, len(proto.string_val))
    return proto


def _check_count(name: str, proto: tensor_pb2.TensorProto, count: int) -> None:
    wanted = 1
    for dim in proto.tensor_shape.dim:
        wanted *= dim.size
    if count != wanted:
        raise invalid_argument(f"expected {wanted} elements of {name}, as its shape says. Received: {count}.")


def _from_contents(tensor: Any) -> tensor_pb2.TensorProto:
    proto = _proto(tensor.name, tensor.datatype, tensor.shape)
    field = _DATATYPES[proto.dtype][1]
    if not field:
        raise invalid_argument(f"expected {tensor.name} in raw_input_contents, as {tensor.datatype} must be.")
    values = list(getattr(tensor.contents, field))
    _check_count(tensor.name, proto, len(values))
    if tensor.datatype == "BYTES":
        proto.string_val.extend(values)
    elif values:
        proto.tensor_content = rest_json.to_array(values, proto.dtype).tobytes()
    return proto


def _from_json(tensor: Mapping[str, Any], binary: _Pieces) -> tensor_pb2.TensorProto:
    name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if not (isinstance(name, str) and isinstance(datatype, str) and isinstance(shape, list)):
        raise invalid_argument("expected name, datatype and shape of every input. Received: one without.")
    parameters = _object(tensor, "parameters")
    if "binary_data_size" in parameters:
        return _from_raw(name, datatype, shape, binary.take(parameters["binary_data_size"]))
    if "data" not in tensor:
        raise invalid_argument(f"expected data of {name}. Received: none.")
    proto = _proto(name, datatype, shape)
    # Nested lists and flat ones are both allowed.
    array = rest_json.to_array(tensor["data"], proto.dtype).reshape(-1)
    _check_count(name, proto, array.size)
    if datatype == "BYTES":
        proto.string_val.extend(array.tolist())
    elif array.size:
        proto.tensor_content = array.tobytes()
    return proto


def _to_raw(array: npt.NDArray[Any]) -> bytes:
    if array.dtype == object:
        return b"".join(struct.pack("<I", len(value)) + value for value in array.reshape(-1))
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _to_json(array: npt.NDArray[Any]) -> list[Any]:
    flat = array.reshape(-1)
    if array.dtype == object:
        return [value.decode("utf-8", "replace") for value in flat]
    # The fewest digits that give the same number back.
    return [float(text) for text in flat.astype(str)] if array.dtype.kind == "f" else flat.tolist()
