"""TensorFlow Serving's REST API: paths, methods and status codes.

POST /v1/models/M[/versions/N|/labels/L]:(predict|classify|regress)
GET  /v1/models/M[/versions/N|/labels/L][/metadata]
GET  the Prometheus page
"""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Callable
from typing import TypeVar

import grpc
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from keras_tagger.serving import rest_json
from keras_tagger.serving.dispatch import Dispatcher, internal
from keras_tagger.serving.http_server import HttpReply, HttpRequest
from keras_tagger.serving.servable import DEFAULT_SIGNATURE
from keras_tagger.serving.status import HTTP_STATUS, StatusError, deadline_exceeded, invalid_argument, truncate

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(_MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(_MODEL + r"(?:/(?P<metadata>metadata))?|/v1/models", re.IGNORECASE)
_CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST, GET"),
    ("Access-Control-Allow-Headers", "Content-Type"),
)
Request = TypeVar("Request", classification_pb2.ClassificationRequest, regression_pb2.RegressionRequest)
_API = {"predict": "Predict", "classify": "Classify", "regress": "Regress"}


class Rest:
    """The replies to HTTP requests.

    Args:
        dispatcher: Answers the requests.
        prometheus_path: Path of the Prometheus page; None for no such page.
        cors: Whether to accept requests from web pages of other origins.
    """

    def __init__(self, dispatcher: Dispatcher, prometheus_path: str | None, cors: bool = False) -> None:
        self._dispatcher = dispatcher
        self._prometheus_path = prometheus_path
        self._cors = cors

    def reply(self, request: HttpRequest) -> HttpReply:
        """Return the reply to any request."""
        path = request.path.partition("?")[0]
        if self._prometheus_path is not None and path == self._prometheus_path and request.method in ("GET", "HEAD"):
            page = self._dispatcher.metrics.page().encode()
            return HttpReply(200, page, "text/plain; version=0.0.4; charset=utf-8")
        headers = _CORS if self._cors else ()
        if self._cors and request.method == "OPTIONS":
            return HttpReply(200, b"", headers=headers)
        found = _POST.fullmatch(path) if request.method == "POST" else None
        started = time.monotonic()
        status = grpc.StatusCode.OK
        try:
            if time.monotonic() >= request.deadline:
                raise deadline_exceeded()
            body = self._answer(request, path, found)
        except StatusError as refusal:
            status, body = refusal.code, _error_body(refusal.text)
        except Exception:
            failure = internal(f"{request.method} REST")
            status, body = failure.code, _error_body(failure.text)
        if found:
            api = _API[found["method"].lower()]
            name = urllib.parse.unquote(found["name"])
            self._dispatcher.count(name, status.name, api, "REST", time.monotonic() - started)
        http_status = HTTP_STATUS.get(status, 500)
        if status is not grpc.StatusCode.OK and not path.lower().startswith("/v1/"):
            http_status = 404
        return HttpReply(http_status, body, headers=headers)

    def error(self, status: int, text: str) -> HttpReply:
        """Return the reply for an error of HTTP itself."""
        return HttpReply(status, _error_body(text))

    def _answer(self, request: HttpRequest, path: str, post: re.Match[str] | None) -> bytes:
        if post is not None:
            methods: dict[str, Callable[[model_pb2.ModelSpec, bytes, float], bytes]] = {
                "predict": self._predict,
                "classify": self._classify,
                "regress": self._regress,
            }
            return methods[post["method"].lower()](_spec(post), request.body, request.deadline)
        if request.method in ("GET", "HEAD") and (get := _GET.fullmatch(path)):
            if not get["name"]:
                raise invalid_argument("Missing model name in request.")
            return (self._metadata if get["metadata"] else self._status)(_spec(get), request.deadline)
        raise invalid_argument(f"Malformed request: {request.method} {path}")

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> bytes:
        document = rest_json.parse(body)
        request = predict_pb2.PredictRequest(model_spec=spec)
        request.model_spec.signature_name = rest_json.signature_name(document)
        with self._dispatcher.manager.lease(spec) as servable:
            name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            if name not in servable.signatures:
                raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
            infos = dict(sorted(servable.signatures[name].inputs.items()))
            if not infos:
                asked = request.model_spec.signature_name or "DEFAULT"
                raise invalid_argument(f"Failed to get input map for signature: {asked}")
            rows = rest_json.fill_predict(document, infos, request)
            del document
            response = self._dispatcher.predict_on(servable, request, deadline)
        return rest_json.predict_body(response, rows)

    def _classify(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> bytes:
        request = _with_examples(classification_pb2.ClassificationRequest(model_spec=spec), body)
        return rest_json.classification_body(self._dispatcher.classify(request, deadline).result)

    def _regress(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> bytes:
        request = _with_examples(regression_pb2.RegressionRequest(model_spec=spec), body)
        return rest_json.regression_body(self._dispatcher.regress(request, deadline).result)

    def _status(self, spec: model_pb2.ModelSpec, deadline: float) -> bytes:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        response = self._dispatcher.status(request, deadline)
        found = json_format.MessageToDict(response, preserving_proto_field_name=True)
        for entry in found["model_version_status"]:
            status = entry.get("status", {})
            entry["status"] = {"error_code": "OK", "error_message": "", **status}
        return json.dumps(found, indent=1).encode() + b"\n"

    def _metadata(self, spec: model_pb2.ModelSpec, deadline: float) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        response = self._dispatcher.metadata(request, deadline)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        found = {
            "model_spec": {
                "name": response.model_spec.name,
                "signature_name": "",
                "version": str(response.model_spec.version.value),
            },
            "metadata": {"signature_def": _with_defaults(signatures)},
        }
        return json.dumps(found, indent=1).encode() + b"\n"


def _with_defaults(signatures: get_model_metadata_pb2.SignatureDefMap) -> dict[str, object]:
    """Return signatures as JSON, including the fields that protobuf omits if they are zero."""
    found = json_format.MessageToDict(signatures, preserving_proto_field_name=True)
    for signature in found.get("signature_def", {}).values():
        for side in ("inputs", "outputs"):
            for info in signature.setdefault(side, {}).values():
                shape = info.setdefault("tensor_shape", {})
                shape.setdefault("unknown_rank", False)
                shape.setdefault("dim", [])
                for dim in shape["dim"]:
                    dim.setdefault("size", "0")
                    dim.setdefault("name", "")
        signature.setdefault("method_name", "")
        signature.setdefault("defaults", {})
    return found


def _spec(found: re.Match[str]) -> model_pb2.ModelSpec:
    name = urllib.parse.unquote(found["name"], errors="replace")
    spec = model_pb2.ModelSpec(name=name)
    if found["version"]:
        if int(found["version"]) >= 2**63:
            raise invalid_argument(f"Failed to convert version: {found['version']} to numeric.")
        spec.version.value = int(found["version"])
    if found["label"]:
        spec.version_label = urllib.parse.unquote(found["label"], errors="replace")
    return spec


def _error_body(text: str) -> bytes:
    return json.dumps({"error": truncate(text)}, ensure_ascii=False).encode()


def _with_examples(request: Request, body: bytes) -> Request:
    """Fill a request with the signature and the examples of a body."""
    document = rest_json.parse(body)
    request.model_spec.signature_name = rest_json.signature_name(document)
    rest_json.fill_examples(document, request.input)
    return request
