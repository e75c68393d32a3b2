"""REST requests of a contract, table by table: what is answered with what, and what is refused with which text."""

from __future__ import annotations

import base64
import json
from typing import Any

OTHER, OURS = "/v1/models/other", "/v1/models/ours"
ROWS = [{"words": "a", "counts": 1}, {"words": "b", "counts": -2}]


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def of(signature: str, **form: Any) -> dict[str, Any]:
    return {"signature_name": signature, **form}


# path, body, reply
ANSWERED = {
    "rows of named inputs": (
        f"{OTHER}:predict",
        {"instances": ROWS},
        {"predictions": [{"joined": "a:1", "product": 2}, {"joined": "b:-2", "product": -4}]},
    ),
    "columns of named inputs": (
        f"{OTHER}:predict",
        {"inputs": {"words": ["a", "b"], "counts": [1, -2]}},
        {"outputs": {"joined": ["a:1", "b:-2"], "product": [2, -4]}},
    ),
    "the default signature by name": (
        f"{OTHER}:predict",
        of("serving_default", instances=ROWS[:1]),
        {"predictions": [{"joined": "a:1", "product": 2}]},
    ),
    "a version": (
        f"{OTHER}/versions/1:predict",
        {"instances": ROWS[:1]},
        {"predictions": [{"joined": "a:1", "product": 1}]},
    ),
    "a label": (
        f"{OTHER}/labels/old:predict",
        {"instances": ROWS[:1]},
        {"predictions": [{"joined": "a:1", "product": 1}]},
    ),
    "capital letters in the path": (
        f"{OTHER.upper().replace('OTHER', 'other')}:Predict",
        {"instances": ROWS[:1]},
        None,
    ),
    "rows of one input": (f"{OTHER}:predict", of("mean", instances=[[1, 2], [3.5, 4.5]]), {"predictions": [1.5, 4.0]}),
    "rows of one input by name": (f"{OTHER}:predict", of("mean", instances=[{"x": [1, 2]}]), {"predictions": [1.5]}),
    "columns of one input": (f"{OTHER}:predict", of("mean", inputs=[[1, 2], [3, 4]]), {"outputs": [1.5, 3.5]}),
    "columns of one input by name": (f"{OTHER}:predict", of("mean", inputs={"x": [[1, 2]]}), {"outputs": [1.5]}),
    "bytes in and out": (
        f"{OTHER}:predict",
        of("same_bytes", instances=[b64(b"\x00\xff")]),
        {"predictions": [b64(b"\x00\xff")]},
    ),
    "bytes in columns": (
        f"{OTHER}:predict",
        of("same_bytes", inputs=[b64(b"\x00\xff"), "é"]),
        {"outputs": [b64(b"\x00\xff"), b64("é".encode())]},
    ),
    "bytes by name": (
        f"{OTHER}:predict",
        of("same_bytes", instances=[{"s": b64(b"\xfe")}]),
        {"predictions": [b64(b"\xfe")]},
    ),
    "base64 without padding": (
        f"{OTHER}:predict",
        of("same_bytes", instances=[{"b64": "AP8"}]),
        {"predictions": [b64(b"\x00\xff")]},
    ),
    "an output that ends in _bytes": (
        f"{OTHER}:predict",
        of("raw", instances=[[1, 2]]),
        {"predictions": [{"text": "2.000000", "text_bytes": b64(b"1.000000")}]},
    ),
    "columns of outputs without a batch": (
        f"{OTHER}:predict",
        of("total", inputs=[[1, 2], [3, 4]]),
        {"outputs": {"half": [[0.5, 1.0], [1.5, 2.0]], "total": 10.0}},
    ),
    "other dtypes": (
        f"{OTHER}:predict",
        of("kinds", instances=[{"d": 0.1, "l": 2**62, "b": 254, "t": True}]),
        {"predictions": [{"b": 255, "d": 0.025, "l": 2**62 + 1, "t": False}]},
    ),
    "infinity and nan": (
        f"{OTHER}:predict",
        b'{"signature_name": "mean", "instances": [[Infinity], [NaN], [-Infinity]]}',
        None,
    ),
    "few digits": (
        f"{OTHER}:predict",
        of("mean", instances=[[0.1], [1e-7], [16777217]]),
        {"predictions": [0.1, 1e-7, 16777216.0]},
    ),
    "text after the object": (f"{OTHER}:predict", json.dumps({"instances": ROWS[:1]}).encode() + b" and more", None),
    "classify": (
        f"{OTHER}:classify",
        of("classify", examples=[{"x": 1.5}, {"x": -0.5}]),
        {"results": [[["up", 3.0], ["down", -3.0]], [["up", -1.0], ["down", 1.0]]]},
    ),
    "classify without classes": (
        f"{OTHER}:classify",
        of("scores_only", examples=[{"x": 1.5}]),
        {"results": [[["", 3.0]]]},
    ),
    "classify with a context": (
        f"{OTHER}:classify",
        of("scores_only", context={"x": 2.0}, examples=[{"y": 1.0}, {"x": 4.0}]),
        {"results": [[["", 4.0]], [["", 8.0]]]},
    ),
    "regress": (
        f"{OTHER}:regress",
        of("regress", examples=[{"x": 1.5}, {"x": [2.0]}, {"y": "no x"}]),
        {"results": [3.0, 4.0, 0.0]},
    ),
    "regress by version": (f"{OTHER}/versions/1:regress", of("regress", examples=[{"x": 1.5}]), {"results": [1.5]}),
}
NO = "INVALID_ARGUMENT: "
# method, path, body, status, regular expression of the error
REFUSED = {
    "unknown model": (
        "POST",
        "/v1/models/x:predict",
        {"instances": [1]},
        404,
        r"^Servable not found for request: Latest\(x\)$",
    ),
    "unknown version": (
        "POST",
        f"{OTHER}/versions/999:predict",
        {"instances": [1]},
        404,
        r"^Servable not found for request: Specific\(other, 999\)$",
    ),
    "version zero": ("POST", f"{OTHER}/versions/0:predict", {"instances": [1]}, 404, r"Specific\(other, 0\)$"),
    "a version beyond 64 bits": (
        "POST",
        f"{OTHER}/versions/{2**63}:predict",
        {"instances": [1]},
        400,
        "Failed to convert version",
    ),
    "unknown label": (
        "POST",
        f"{OTHER}/labels/x:predict",
        {"instances": [1]},
        400,
        "^Unrecognized servable version label: x$",
    ),
    "unknown signature": (
        "POST",
        f"{OTHER}:predict",
        of("x", instances=[1]),
        400,
        '^Serving signature name: "x" not found in signature def$',
    ),
    "unknown signature of classify": (
        "POST",
        f"{OTHER}:classify",
        of("x", examples=[{}]),
        400,
        "^No signature was found with the name: x$",
    ),
    "a signature that does not classify": (
        "POST",
        f"{OTHER}:classify",
        {"examples": [{}]},
        400,
        "^Expected one input Tensor.$",
    ),
    "a signature that does not regress": (
        "POST",
        f"{OTHER}:regress",
        of("classify", examples=[{}]),
        400,
        "^Expected one output Tensor.$",
    ),
    "no body": ("POST", f"{OTHER}:predict", b"", 400, "^JSON Parse error: The document is empty$"),
    "not JSON": ("POST", f"{OTHER}:predict", b"{nonsense", 400, "^JSON Parse error: .* at offset: 1$"),
    "not UTF-8": ("POST", f"{OTHER}:predict", b'{"a": "\xff"}', 400, "^JSON Parse error"),
    "too deep": ("POST", f"{OTHER}:predict", b"[" * 100_000, 400, "^JSON Parse error"),
    "too long a number": (
        "POST",
        f"{OTHER}:predict",
        b'{"instances": [' + b"9" * 10_000 + b"]}",
        400,
        "^JSON Parse error",
    ),
    "no object": ("POST", f"{OTHER}:predict", b"[1]", 400, r"^JSON Value: \[1\] Is not object$"),
    "neither form": ("POST", f"{OTHER}:predict", {"a": 1}, 400, "^Missing 'inputs' or 'instances' key$"),
    "both forms": (
        "POST",
        f"{OTHER}:predict",
        {"inputs": [1], "instances": [1]},
        400,
        "expecting only one of 'inputs' or 'instances'",
    ),
    "instances that are no list": (
        "POST",
        f"{OTHER}:predict",
        {"instances": 1},
        400,
        "Expecting 'instances' to be an list/array",
    ),
    "no instances": ("POST", f"{OTHER}:predict", {"instances": []}, 400, "No values in 'instances' array"),
    "a signature name that is none": (
        "POST",
        f"{OTHER}:predict",
        {"signature_name": 1},
        400,
        "'signature_name' key must be a string value",
    ),
    "a plain list for two inputs": (
        "POST",
        f"{OTHER}:predict",
        {"instances": [1]},
        400,
        "^instances is a plain list, but expecting list of objects",
    ),
    "a plain value for two inputs": (
        "POST",
        f"{OTHER}:predict",
        {"inputs": 1},
        400,
        "^inputs is a plain value/list, but expecting an object",
    ),
    "a missing input of a row": (
        "POST",
        f"{OTHER}:predict",
        {"instances": [{"words": "a"}]},
        400,
        "^Failed to process element: 0 of 'instances' list. JSON object: .* keys must be equal to: counts,words$",
    ),
    "a further input of a row": (
        "POST",
        f"{OTHER}:predict",
        {"instances": [{**ROWS[0], "z": 1}]},
        400,
        "key: z of 'instances' list. Error: .*does not have named input: z$",
    ),
    "a missing column": (
        "POST",
        f"{OTHER}:predict",
        {"inputs": {"words": ["a"]}},
        400,
        "^Missing named input: counts in 'inputs' object.$",
    ),
    "a value among objects": (
        "POST",
        f"{OTHER}:predict",
        {"instances": [ROWS[0], [1]]},
        400,
        "^Expecting object but got list at item 1 of input list$",
    ),
    "an object among values": (
        "POST",
        f"{OTHER}:predict",
        of("mean", instances=[[1], {"x": [1]}]),
        400,
        "^Expecting value/list but got object at item 1 of input list$",
    ),
    "rows of unlike shape": (
        "POST",
        f"{OTHER}:predict",
        of("mean", instances=[[1, 2], [1]]),
        400,
        f"^Failed to process element: 1 of 'instances' list. Error: {NO}Expecting tensor size: 2 but got: 1$",
    ),
    "rows of unlike shape and one size": (
        "POST",
        f"{OTHER}:predict",
        of("mean", instances=[[1, 2], [[1], [2]]]),
        400,
        r"Expecting shape \[2\] but got: \[2,1\]$",
    ),
    "a ragged list": (
        "POST",
        f"{OTHER}:predict",
        of("mean", inputs=[[1, 2], [1]]),
        400,
        "^Encountered list at unexpected size: 1 at level: 1 expected size: 2$",
    ),
    "a list too deep": (
        "POST",
        f"{OTHER}:predict",
        of("mean", inputs=[[1], [[1]]]),
        400,
        "^Encountered list at unexpected level: 2 expected < 2$",
    ),
    "a value too high": (
        "POST",
        f"{OTHER}:predict",
        of("mean", inputs=[[1], 2]),
        400,
        "^JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2$",
    ),
    "a string for a number": (
        "POST",
        f"{OTHER}:predict",
        of("mean", inputs=[["a"]]),
        400,
        '^JSON Value: "a" Type: String is not of expected type: float$',
    ),
    "true for a number": (
        "POST",
        f"{OTHER}:predict",
        of("mean", inputs=[[True]]),
        400,
        "is not of expected type: float$",
    ),
    "null": (
        "POST",
        f"{OTHER}:predict",
        of("mean", inputs=[[None]]),
        400,
        "^JSON Value: null Type: Null is not of expected type: float$",
    ),
    "a fraction for a whole number": (
        "POST",
        f"{OTHER}:predict",
        {"instances": [{"words": "a", "counts": 1.5}]},
        400,
        "is not of expected type: int32$",
    ),
    "a number beyond its type": (
        "POST",
        f"{OTHER}:predict",
        of("kinds", instances=[{"d": 0, "l": 0, "b": 256, "t": True}]),
        400,
        "JSON Value: 256 Type: Number is not of expected type: uint8$",
    ),
    "a number for a string": (
        "POST",
        f"{OTHER}:predict",
        {"instances": [{"words": 1, "counts": 1}]},
        400,
        "is not of expected type: string$",
    ),
    "what is not base64": (
        "POST",
        f"{OTHER}:predict",
        of("same_bytes", instances=[{"b64": "!"}]),
        400,
        "Unable to base64 decode$",
    ),
    "an object that is not base64": (
        "POST",
        f"{OTHER}:predict",
        of("same_bytes", inputs={"s": [{"c": 1}]}),
        400,
        "not formatted correctly for base64 data$",
    ),
    "rows of outputs without a batch": (
        "POST",
        f"{OTHER}:predict",
        of("total", instances=[[1, 2]]),
        400,
        "^Tensor name: total has no shape information $",
    ),
    "no examples": ("POST", f"{OTHER}:classify", of("classify"), 400, "key 'examples' is expected and was not found$"),
    "an empty list of examples": (
        "POST",
        f"{OTHER}:classify",
        of("classify", examples=[]),
        400,
        "'examples' value is an empty array$",
    ),
    "examples that are no list": (
        "POST",
        f"{OTHER}:classify",
        of("classify", examples=1),
        400,
        "Expecting 'examples' value to be an list/array$",
    ),
    "an example that is no object": (
        "POST",
        f"{OTHER}:regress",
        of("regress", examples=[1]),
        400,
        "^Example must be JSON object but got JSON Number$",
    ),
    "a feature of two kinds": (
        "POST",
        f"{OTHER}:regress",
        of("regress", examples=[{"x": [1.5, "a"]}]),
        400,
        "^Unexpected element type in feature: x expecting type: float$",
    ),
    "a feature that is null": (
        "POST",
        f"{OTHER}:regress",
        of("regress", examples=[{"x": None}]),
        400,
        "^Feature: x has element with unexpected JSON type: Null$",
    ),
    "a feature of another type than the model's": (
        "POST",
        f"{OTHER}:regress",
        of("regress", examples=[{"x": 1}]),
        400,
        "Data types don't match",
    ),
    "a path that is none": ("POST", f"{OTHER}:explain", {}, 400, f"^Malformed request: POST {OTHER}:explain$"),
    "a method that is none": ("PUT", f"{OTHER}:predict", {}, 400, "^Malformed request: PUT"),
    "get of predict": ("GET", f"{OTHER}:predict", None, 400, "^Malformed request: GET"),
    "all models": ("GET", "/v1/models", None, 400, "^Missing model name in request.$"),
    "another path": ("GET", "/", None, 404, "^Malformed request: GET /$"),
    "status of an unknown model": ("GET", "/v1/models/x", None, 404, "^Could not find any versions of model x$"),
    "status of an unknown version": (
        "GET",
        f"{OTHER}/versions/999",
        None,
        404,
        "^Could not find version 999 of model other$",
    ),
    "metadata of an unknown version": (
        "GET",
        f"{OTHER}/versions/999/metadata",
        None,
        404,
        r"^Servable not found for request: Specific\(other, 999\)$",
    ),
    "a clip without samples": (
        "POST",
        f"{OURS}:predict",
        {"instances": [[]]},
        400,
        r"^expected at least one clip, of at least one sample\. Received a waveform of shape 1 0$",
    ),
    "a clip that is not finite": (
        "POST",
        f"{OURS}:predict",
        b'{"instances": [[0.1, NaN]]}',
        400,
        r"^expected a waveform of finite numbers\. Received: NaN or infinity in it\.$",
    ),
    "one clip without a batch": (
        "POST",
        f"{OURS}:predict",
        {"inputs": [0.1, 0.2]},
        400,
        r"^expected waveform to have the shape \[any, any\]\. Received: \[2\]\.$",
    ),
    "what is not a wav": ("POST", f"{OURS}:predict", of("wav", instances=[b64(b"ID3")]), 400, "^[^{]*$"),
    "a long name": (
        "POST",
        f"/v1/models/{'x' * 3000}:predict",
        {},
        404,
        r"^Servable not found for request: Latest\(x+\.\.\.TRUNCATED$",
    ),
}
