"""One version of a SavedModel, run as TensorFlow Serving 2.17 runs it, with its checks and error texts.

Imports TensorFlow, so it is imported only by what serves.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from absl import logging
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from keras_tagger.errors import ServingError

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_WARMUP_RECORDS = 1000
DEFAULT_SIGNATURE = "serving_default"
# A TensorProto may declare more elements than it holds; the rest repeats its last value. TensorFlow allocates
# whatever is declared, so a message of a few bytes could take all memory; this is the most it may add.
MAX_FILL_BYTES = 64 * 2**20


# For each dtype, the typed field of TensorProto that holds it and the numpy type of that field's values.
# Quantized, 4-bit and 8-bit float dtypes are not served: a Python session cannot be fed quantized arrays.
_FIELDS: dict[int, tuple[str, str]] = {
    types_pb2.DT_FLOAT: ("float_val", "f4"),
    types_pb2.DT_DOUBLE: ("double_val", "f8"),
    types_pb2.DT_COMPLEX64: ("scomplex_val", "f4"),
    types_pb2.DT_COMPLEX128: ("dcomplex_val", "f8"),
    types_pb2.DT_HALF: ("half_val", "u2"),
    types_pb2.DT_BFLOAT16: ("half_val", "u2"),
    types_pb2.DT_INT8: ("int_val", "i1"),
    types_pb2.DT_UINT8: ("int_val", "u1"),
    types_pb2.DT_INT16: ("int_val", "i2"),
    types_pb2.DT_UINT16: ("int_val", "u2"),
    types_pb2.DT_INT32: ("int_val", "i4"),
    types_pb2.DT_UINT32: ("uint32_val", "u4"),
    types_pb2.DT_INT64: ("int64_val", "i8"),
    types_pb2.DT_UINT64: ("uint64_val", "u8"),
    types_pb2.DT_BOOL: ("bool_val", "?"),
    types_pb2.DT_STRING: ("string_val", "O"),
}


class Refusal(Exception):  # noqa: N818  (a reply, not a failure of the server)
    """A request that is answered with a status other than OK."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def invalid(text: str) -> Refusal:
    """A refusal with INVALID_ARGUMENT."""
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)


def _type_name(dtype: int) -> str:
    """The C++ name of a dtype: "float" for DT_FLOAT, "int64" for DT_INT64."""
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()


def _decode(proto: tensor_pb2.TensorProto, alias: str) -> np.ndarray:
    """The array in a client's tensor; a refusal when its dtype, shape and content do not fit together."""
    malformed = invalid(f"tensor parsing error: {alias}")
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.dtype not in _FIELDS or proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
        raise malformed
    field, _ = _FIELDS[proto.dtype]
    declared = math.prod(sizes)
    dtype = tf.as_dtype(proto.dtype)
    if proto.tensor_content:
        length = len(proto.tensor_content)
        # Strings are packed as one length (a byte or more) each, then the bytes.
        fits = declared <= length if dtype == tf.string else declared * dtype.size == length
    else:
        values = getattr(proto, field)
        held = len(values) // 2 if dtype.is_complex else len(values)
        element_bytes = 24 + len(values[-1] if values else b"") if dtype == tf.string else dtype.size
        fits = held <= declared and (declared - held) * element_bytes <= MAX_FILL_BYTES
    if not fits:
        raise malformed
    try:
        # The C++ server's own parser (Tensor::FromProto); on typed fields ten times as fast as make_ndarray.
        array = tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    except (tf.errors.OpError, ValueError) as error:
        raise malformed from error
    # A scalar string is `bytes` here, which numpy would make fixed-width and so lose trailing zeros.
    return np.asarray(array, dtype=object) if dtype == tf.string else array


def _varint(number: int) -> bytes:
    """A whole number as protobuf has it on the wire."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _encode(value: Any, dtype: int, alias: str) -> tensor_pb2.TensorProto:
    """A TensorProto that holds `value` in the typed field of `dtype`, as the C++ server's replies do."""
    if dtype not in _FIELDS:
        raise Refusal(grpc.StatusCode.UNIMPLEMENTED, f"output {alias} is {_type_name(dtype)}, which is not served")
    field, value_type = _FIELDS[dtype]
    array = np.asarray(value, dtype=object if dtype == types_pb2.DT_STRING else None)
    proto = tensor_pb2.TensorProto(dtype=dtype, tensor_shape=tf.TensorShape(array.shape).as_proto())
    flat = np.ascontiguousarray(array).reshape(-1)
    values = flat if value_type == "O" else flat.view(value_type)
    if values.dtype.kind == "f":
        # A packed field of floats is, on the wire, the array's own bytes: 2 ms for the two million weights
        # of an attention map, where `extend` takes 400 ms.
        payload = values.astype(f"<{value_type}", copy=False).tobytes()
        tag = proto.DESCRIPTOR.fields_by_name[field].number << 3 | 2
        proto.MergeFromString(_varint(tag) + _varint(len(payload)) + payload)
    else:
        getattr(proto, field).extend(values.tolist())
    return proto


def find_version(base_path: str | os.PathLike[str]) -> tuple[int, str]:
    """The highest version under `base_path` and its folder.

    A version is a folder whose name is a number; everything else there is ignored.

    Raises:
        ServingError: there is none.
    """
    base = os.fspath(base_path)
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(base)] if tf.io.gfile.isdir(base) else []
    versions = {int(name): name for name in names if name.isascii() and name.isdecimal() and int(name) < 2**63}
    for version in sorted(versions, reverse=True):
        folder = os.path.join(base, versions[version])
        if tf.io.gfile.isdir(folder):
            return version, folder
    raise ServingError(f"expected a folder with numbered versions of a SavedModel (as {base}/1). Received: {base}")


class Servable:
    """One version of a SavedModel, loaded and warmed up, in its own graph and session.

    Raises:
        ServingError: it does not load, or one of its warm-up requests fails.
    """

    def __init__(self, path: str, version: int) -> None:
        self.path = path
        self.version = version
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph)
        self._callables: dict[tuple[str, tuple[str, ...]], Callable[..., list[Any]]] = {}
        self._lock = threading.Lock()
        try:
            with graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], path)
            self.signatures: dict[str, meta_graph_pb2.SignatureDef] = dict(meta_graph.signature_def)
            self._warm_up()
        except ServingError:
            self.close()
            raise
        except (tf.errors.OpError, OSError, RuntimeError, ValueError, KeyError) as error:
            self.close()
            raise ServingError(f"expected a SavedModel that loads. Received: {path} ({_reason(error)})") from error

    def close(self) -> None:
        """Frees the session; requests after this fail."""
        self._session.close()

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """Runs one signature; the checks and their order are those of the C++ server."""
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            text = f'Serving signature key "{name}" not found.'
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, text)
        signature = self.signatures[name]
        arrays, dtypes = _read_inputs(signature, request.inputs)
        aliases = _wanted_outputs(signature, request.output_filter)
        # The C++ server numbers the arguments of an error in the order of their feed names.
        inputs = sorted(signature.inputs.items(), key=lambda item: item[1].name)
        for index, (alias, info) in enumerate(inputs):
            if dtypes[alias] != info.dtype:
                wanted, sent = _type_name(info.dtype), _type_name(dtypes[alias])
                raise invalid(f"Expects arg[{index}] to be {wanted} but {sent} is provided")
        feeds = [info.name for _, info in inputs]
        fetches = sorted({signature.outputs[alias].name for alias in aliases})
        values = self._callable(name, feeds, fetches)(*(arrays[alias] for alias, _ in inputs))
        fetched = dict(zip(fetches, values, strict=True))
        response = predict_pb2.PredictResponse(
            model_spec=model_pb2.ModelSpec(name=request.model_spec.name, signature_name=name)
        )
        response.model_spec.version.value = self.version
        for alias in aliases:
            info = signature.outputs[alias]
            response.outputs[alias].CopyFrom(_encode(fetched[info.name], info.dtype, alias))
        return response

    def _callable(self, name: str, feeds: list[str], fetches: list[str]) -> Callable[..., list[Any]]:
        key = (name, tuple(fetches))
        with self._lock:
            if key not in self._callables:
                # Session.run checks shapes against the graph's and so refuses some that the C++ server runs.
                options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
                self._callables[key] = self._session._make_callable_from_options(options)
            return self._callables[key]

    def _warm_up(self) -> None:
        path = os.path.join(self.path, WARMUP_FILE)
        if not tf.io.gfile.exists(path):
            return
        for index, record in enumerate(tf.data.TFRecordDataset(path).as_numpy_iterator()):
            if index >= MAX_WARMUP_RECORDS:
                raise ServingError(f"expected at most {MAX_WARMUP_RECORDS} warm-up requests. Received: more, in {path}")
            try:
                log = prediction_log_pb2.PredictionLog.FromString(record)
                kind = log.WhichOneof("log_type")
                if kind == "predict_log":
                    self.predict(log.predict_log.request)
                else:
                    logging.warning("warm-up request %d of %s is a %s, which is not served yet", index, path, kind)
            except Exception as error:
                raise ServingError(
                    "expected warm-up requests that the model answers. "
                    f"Received: {path}, number {index} ({_reason(error)})"
                ) from error


def _reason(error: Exception) -> str:
    """The text of an error as one line."""
    return " ".join(str(getattr(error, "message", error)).split())[:300]


def _joined(names: Iterable[str]) -> str:
    """A set of names as the C++ server writes it: "{a,b}"."""
    return "{" + ",".join(sorted(names)) + "}"


def _read_inputs(
    signature: meta_graph_pb2.SignatureDef, sent: Mapping[str, tensor_pb2.TensorProto]
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The arrays of a request by input name, and their dtypes."""
    wanted = signature.inputs
    if len(sent) > len(wanted) or (len(sent) < len(wanted) and not signature.defaults):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"len({_joined(sent)}) != len({_joined(wanted)}). "
            f"Sent extra: {_joined(set(sent) - set(wanted))}. "
            f"Missing but required: {_joined(set(wanted) - set(sent))}."
        )
    protos = {}
    for alias in sorted(wanted):
        if alias not in sent and alias not in signature.defaults:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {wanted[alias].name}) not found in request "
                f"and no default value provided. Inputs expected to be in the request {_joined(sent)}, "
                "or default input alias set: " + ",".join(sorted(signature.defaults))
            )
        protos[alias] = sent[alias] if alias in sent else signature.defaults[alias]
    arrays = {alias: _decode(proto, alias) for alias, proto in protos.items()}
    unknown = set(sent) - set(wanted)
    if unknown:
        used = ",".join(sorted(set(sent) - unknown))
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {used}, request input: {','.join(sorted(sent))}"
        )
    return arrays, {alias: proto.dtype for alias, proto in protos.items()}


def _wanted_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]) -> list[str]:
    """The output names to answer with: those of the filter, or all."""
    seen: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_joined(signature.outputs)}."
            )
        if alias in seen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        seen.append(alias)
    return seen or sorted(signature.outputs)
