"""Tensors and tf.Examples as JSON, with the formats and error texts of tensorflow_serving/util/json_tensor.cc, 2.17."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import orjson
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, predict_pb2, regression_pb2

from keras_tagger.serving.status import StatusError, invalid_argument
from keras_tagger.serving.tensors import MAX_DIMENSIONS

MAX_SHOWN = 256
_PIECE = 2**16

_INTEGERS: dict[int, Any] = {
    types_pb2.DT_INT8: np.int8,
    types_pb2.DT_UINT8: np.uint8,
    types_pb2.DT_INT16: np.int16,
    types_pb2.DT_INT32: np.int32,
    types_pb2.DT_INT64: np.int64,
    types_pb2.DT_UINT32: np.uint32,
    types_pb2.DT_UINT64: np.uint64,
}
_FLOATS: dict[int, Any] = {types_pb2.DT_FLOAT: np.float32, types_pb2.DT_DOUBLE: np.float64}
_NAMES = {
    type(None): "Null",
    bool: "Bool",
    dict: "Object",
    list: "Array",
    str: "String",
    int: "Number",
    float: "Number",
}

# Python's texts, and those of RapidJSON, which TensorFlow Serving uses.
_PARSE_ERRORS = {
    "Expecting value": "Invalid value.",
    "Expecting property name": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Expecting ',' delimiter": "Missing a comma or ] after an array element.",
    "Illegal trailing comma": "Invalid value.",
    "Unterminated string": "Missing a closing quotation mark in string.",
    "Invalid control character": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
}

Infos = Mapping[str, meta_graph_pb2.TensorInfo]


def parse(body: bytes) -> dict[str, Any]:
    """Parse the JSON object in a body. NaN and Infinity are numbers; text after the object is ignored."""
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = _parse_leniently(body)
    if not isinstance(found, dict):
        raise invalid_argument(f"JSON Value: {_shown(found)} Is not object")
    return found


def _parse_leniently(body: bytes) -> Any:
    """Parse what TensorFlow Serving accepts beyond the standard, or say where the JSON is wrong."""
    try:
        text = body.decode("utf-8-sig").lstrip()
        found, _ = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        text = next((theirs for ours, theirs in _PARSE_ERRORS.items() if error.msg.startswith(ours)), error.msg)
        raise invalid_argument(f"JSON Parse error: {text} at offset: {error.pos}") from None
    except UnicodeDecodeError as error:
        raise invalid_argument(f"JSON Parse error: not UTF-8 at offset: {error.start}") from None
    except (RecursionError, ValueError):
        raise invalid_argument("JSON Parse error: too deep, or a number too long") from None
    return found


def signature_name(document: Mapping[str, Any]) -> str:
    """Return the name of the requested signature; "" for the default."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def fill_predict(document: Mapping[str, Any], infos: Infos, request: predict_pb2.PredictRequest) -> bool:
    """Fill a request from "instances" (row form) or "inputs"; return whether it was the row form."""
    if "instances" in document and "inputs" in document:
        raise invalid_argument(
            f"JSON Value: {_shown(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if "instances" in document:
        rows = document["instances"]
        if not isinstance(rows, list):
            raise invalid_argument(f"JSON Value: {_shown(document)} Expecting 'instances' to be an list/array")
        if not rows:
            raise invalid_argument(f"JSON Value: {_shown(document)} No values in 'instances' array")
        _fill_rows(rows, infos, request)
        return True
    if "inputs" in document:
        _fill_columns(document["inputs"], infos, request)
        return False
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def _fill_rows(rows: list[Any], infos: Infos, request: predict_pb2.PredictRequest) -> None:
    named = _is_plain_object(rows[0])
    if not isinstance(rows[0], dict) and len(infos) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in infos}
    for index, row in enumerate(rows):
        if named != _is_plain_object(row):
            wanted, got = ("object", "list") if named else ("value/list", "object")
            raise invalid_argument(f"Expecting {wanted} but got {got} at item {index} of input list")
        items = row if named else {next(iter(infos)): row}
        for name, value in items.items():
            where = f"Failed to process element: {index}{f' key: {name}' if named else ''} of 'instances' list. Error: "
            if name not in infos:
                raise invalid_argument(f"{where}INVALID_ARGUMENT: JSON object: does not have named input: {name}")
            try:
                array = to_array(value, infos[name].dtype)
                _check_alike(columns[name], array)
            except StatusError as refusal:
                raise StatusError(refusal.code, f"{where}{refusal.code.name}: {refusal.text}") from None
            columns[name].append(array)
        if set(items) != set(infos):
            raise invalid_argument(
                f"Failed to process element: {index} of 'instances' list. JSON object: {_shown(row)} keys must be "
                f"equal to: {','.join(sorted(infos))}"
            )
    for name, arrays in columns.items():
        request.inputs[name].CopyFrom(_proto(np.stack(arrays), infos[name].dtype))


def _check_alike(before: Sequence[npt.NDArray[Any]], array: npt.NDArray[Any]) -> None:
    if before and before[0].size != array.size:
        raise invalid_argument(f"Expecting tensor size: {before[0].size} but got: {array.size}")
    if before and before[0].shape != array.shape:
        shapes = ("[" + ",".join(map(str, shape)) + "]" for shape in (before[0].shape, array.shape))
        raise invalid_argument("Expecting shape {} but got: {}".format(*shapes))


def _fill_columns(value: Any, infos: Infos, request: predict_pb2.PredictRequest) -> None:
    if not _is_plain_object(value):
        if len(infos) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        value = {next(iter(infos)): value}
    for name, info in infos.items():
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        request.inputs[name].CopyFrom(_proto(to_array(value[name], info.dtype), info.dtype))


def to_array(value: Any, dtype: int) -> npt.NDArray[Any]:
    """Convert a JSON value (number, string, {"b64": ...} or nested lists of them) to an array of a dtype."""
    if dtype not in _INTEGERS and dtype not in _FLOATS and dtype not in (types_pb2.DT_STRING, types_pb2.DT_BOOL):
        name = types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {_shown(value)} to type: {name}")
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        if not first:
            break
        first = first[0]
    if len(shape) > MAX_DIMENSIONS:
        raise invalid_argument(f"expected at most {MAX_DIMENSIONS} dimensions. Received: {len(shape)}.")
    flat: list[Any] = []
    _flatten(value, 0, shape, dtype, flat)
    if dtype == types_pb2.DT_STRING:
        array = np.empty(len(flat), object)
        array[:] = flat
    else:
        array = _numbers(flat, dtype)
    return array.reshape(shape)


def _flatten(value: Any, level: int, shape: Sequence[int], dtype: int, flat: list[Any]) -> None:
    """Append the checked and converted leaves of nested lists, which must have the given shape."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        flat.append(_leaf(value, dtype))
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    allowed = {int, float} if dtype in _FLOATS else {int} if dtype in _INTEGERS else {bool}
    if level == len(shape) - 1 and dtype != types_pb2.DT_STRING and set(map(type, value)) <= allowed:
        # Fast path for the usual case, the samples of a clip.
        flat.extend(value)
        return
    for item in value:
        _flatten(item, level + 1, shape, dtype, flat)


def _leaf(value: Any, dtype: int) -> Any:
    kind = type(value)
    if dtype == types_pb2.DT_STRING:
        if kind is str:
            return value.encode("utf-8", "surrogatepass")
        if kind is dict:
            return _from_base64(value)
    elif (
        (dtype in _FLOATS and kind in (int, float))
        or (dtype in _INTEGERS and kind is int)
        or (dtype == types_pb2.DT_BOOL and kind is bool)
    ):
        return value
    raise _type_error(value, dtype)


def _type_error(value: Any, dtype: int) -> StatusError:
    name = types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()
    return invalid_argument(f"JSON Value: {_shown(value)} Type: {_json_type(value)} is not of expected type: {name}")


def _json_type(value: Any) -> str:
    return str(value) if isinstance(value, bool) else _NAMES[type(value)]


def _numbers(flat: list[Any], dtype: int) -> npt.NDArray[Any]:
    if dtype == types_pb2.DT_BOOL:
        return np.array(flat, bool)
    if dtype in _FLOATS:
        try:
            with np.errstate(over="ignore"):
                return np.array(flat, np.float64).astype(_FLOATS[dtype])
        except OverflowError:
            raise _type_error(max(flat, key=abs), dtype) from None
    limits: Any = np.iinfo(_INTEGERS[dtype])
    if flat and not (limits.min <= min(flat) and max(flat) <= limits.max):
        raise _type_error(next(value for value in flat if not limits.min <= value <= limits.max), dtype)
    return np.array(flat, _INTEGERS[dtype])


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_plain_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _from_base64(value: Any) -> bytes:
    if not _is_base64(value):
        raise invalid_argument(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    text = value["b64"].translate({ord(space): None for space in " \r\n\t"})
    try:
        # Padding may be left out.
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid_argument("Unable to base64 decode") from None


def _proto(array: npt.NDArray[Any], dtype: int) -> tensor_pb2.TensorProto:
    shape = tf.TensorShape(array.shape).as_proto()
    if dtype == types_pb2.DT_STRING:
        return tensor_pb2.TensorProto(dtype=dtype, tensor_shape=shape, string_val=array.reshape(-1).tolist())
    return tensor_pb2.TensorProto(dtype=dtype, tensor_shape=shape, tensor_content=array.tobytes())


def fill_examples(document: Mapping[str, Any], given: input_pb2.Input) -> None:
    """Fill the tf.Examples of a classify or regress request."""
    if "examples" not in document:
        raise invalid_argument(
            f"JSON Value: {_shown(document)} When method is classify, key 'examples' is expected and was not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise invalid_argument(f"JSON Value: {_shown(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid_argument(f"JSON Value: {_shown(document)} 'examples' value is an empty array")
    into: Any = given.example_list
    if "context" in document:
        into = given.example_list_with_context
        _fill_example(document["context"], into.context)
    for example in examples:
        _fill_example(example, into.examples.add())


def _fill_example(value: Any, example: Any) -> None:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {_json_type(value)}")
    for name, content in value.items():
        feature = example.features.feature[name]
        items = content if isinstance(content, list) else [content]
        if set(map(type, items)) == {float}:
            feature.float_list.value.extend(_finite_float32(items))
            continue
        for item in items:
            _add_to_feature(name, item, feature)


def _finite_float32(items: Sequence[float]) -> Sequence[float]:
    with np.errstate(over="ignore"):
        return np.array(items, np.float64).astype(np.float32).tolist()


def _add_to_feature(name: str, item: Any, feature: Any) -> None:
    kind = feature.WhichOneof("kind")
    wanted: str
    if isinstance(item, bool | int):
        wanted, converted = "int64_list", int(item)
        if not -(2**63) <= converted < 2**63:
            raise invalid_argument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    elif isinstance(item, float):
        wanted, converted = "float_list", _finite_float32([item])[0]  # type: ignore[assignment]
    elif isinstance(item, str):
        wanted, converted = "bytes_list", item.encode("utf-8", "surrogatepass")  # type: ignore[assignment]
    elif _is_base64(item):
        wanted, converted = "bytes_list", _from_base64(item)  # type: ignore[assignment]
    else:
        raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {_json_type(item)}")
    if kind not in (None, wanted):
        expecting = kind.removesuffix("_list")
        raise invalid_argument(f"Unexpected element type in feature: {name} expecting type: {expecting}")
    getattr(feature, wanted).value.append(converted)


def predict_body(response: predict_pb2.PredictResponse, rows: bool) -> bytes:
    """Return the reply of predict: {"predictions": [...]} in row form, else {"outputs": ...}."""
    arrays = {name: tf.make_ndarray(proto) for name, proto in sorted(response.outputs.items())}
    if not rows:
        columns = {name: _written(array, name) for name, array in arrays.items()}
        value = next(iter(columns.values())) if len(columns) == 1 else _object(columns)
        return f'{{\n    "outputs": {value}\n}}'.encode()
    size = -1
    for name, array in arrays.items():
        if array.ndim == 0:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if size not in (-1, len(array)):
            raise invalid_argument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}")
        size = len(array)
    lines = []
    for index in range(size):
        items = {name: _written(array[index], name) for name, array in arrays.items()}
        lines.append(next(iter(items.values())) if len(items) == 1 else _object(items))
    return ('{\n    "predictions": [' + ", ".join(lines) + "\n    ]\n}").encode()


def classification_body(result: classification_pb2.ClassificationResult) -> bytes:
    """Return {"results": [[[label, score], ...], ...]}."""
    rows = (
        "[" + ", ".join(f"[{json.dumps(entry.label)}, {_float32(entry.score)}]" for entry in row.classes) + "]"
        for row in result.classifications
    )
    return ('{\n    "results": [' + ", ".join(rows) + "]\n}").encode()


def regression_body(result: regression_pb2.RegressionResult) -> bytes:
    """Return {"results": [number, ...]}."""
    return ('{\n    "results": [' + ", ".join(_float32(entry.value) for entry in result.regressions) + "]\n}").encode()


def _object(items: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in items.items()) + "}"


def _written(array: Any, name: str) -> str:
    """Write an array as JSON; strings as {"b64": ...} if the name of the output ends in _bytes."""
    array = np.asarray(array, object) if isinstance(array, bytes | str) else np.asarray(array)
    if array.dtype.kind == "f":
        # The fewest digits that give the same float32 back, as TensorFlow Serving writes them. In pieces, because
        # numpy needs 128 bytes per number.
        flat = array.reshape(-1)
        texts = []
        for start in range(0, flat.size, _PIECE):
            texts += flat[start : start + _PIECE].astype(str).tolist()
        if not np.isfinite(array.astype(np.float64)).all():
            special = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
            texts = [special.get(text, text) for text in texts]
    elif array.dtype.kind == "b":
        texts = ["true" if value else "false" for value in array.reshape(-1).tolist()]
    elif array.dtype.kind in "iu":
        texts = list(map(str, array.reshape(-1).tolist()))
    elif array.dtype.kind in "OSU":
        texts = [_string(value, name.endswith("_bytes")) for value in array.reshape(-1).tolist()]
    else:
        raise invalid_argument(f"Failed to write JSON value for tensor type: {array.dtype}")
    return _nested(iter(texts), array.shape)


def _nested(texts: Iterator[str], shape: Sequence[int]) -> str:
    if not shape:
        return next(texts)
    if len(shape) == 1:
        return "[" + ", ".join(next(texts) for _ in range(shape[0])) + "]"
    return "[" + ", ".join(_nested(texts, shape[1:]) for _ in range(shape[0])) + "]"


def _string(value: bytes | str, as_bytes: bool) -> str:
    data = value.encode() if isinstance(value, str) else value
    if as_bytes:
        return f'{{"b64": "{base64.b64encode(data).decode()}"}}'
    return json.dumps(data.decode("utf-8", "replace"), ensure_ascii=False)


def _float32(value: float) -> str:
    return _written(np.float32(value), "")


def _shown(value: Any) -> str:
    """Return the beginning of a JSON value, for an error text."""
    # Shortened first, so that a long list is not written in full.
    text = json.dumps(_shortened(value))
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN]


def _shortened(value: Any, depth: int = 0) -> Any:
    if depth > MAX_SHOWN // 2:
        return None
    if isinstance(value, list):
        return [_shortened(item, depth + 1) for item in value[:MAX_SHOWN]]
    if isinstance(value, dict):
        return {key[:MAX_SHOWN]: _shortened(item, depth + 1) for key, item in list(value.items())[:MAX_SHOWN]}
    return value[:MAX_SHOWN] if isinstance(value, str) else value
