"""TensorFlow Serving's REST API: paths, methods and status codes.

POST /v1/models/M[/versions/N|/labels/L]:(predict|classify|regress)
GET  /v1/models/M[/versions/N|/labels/L][/metadata]
GET  the Prometheus page
"""

from __future__ import annotations

import contextlib
import json
import re
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
from keras_tagger.serving.limits import Budget, json_bytes
from keras_tagger.serving.metrics import CONTENT_TYPE
from keras_tagger.serving.scheduler import Call
from keras_tagger.serving.servable import DEFAULT_SIGNATURE
from keras_tagger.serving.status import HTTP_STATUS, StatusError, invalid_argument, truncate

MODEL_PATTERN = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
# As in TensorFlow Serving, the path may have capital letters and the method may not.
_POST = re.compile(MODEL_PATTERN + r":(?P<method>(?-i:classify|regress|predict))", re.IGNORECASE)
_GET = re.compile(MODEL_PATTERN + r"(?:/(?P<metadata>metadata))?|/v1/models", re.IGNORECASE)
_CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST, GET"),
    ("Access-Control-Allow-Headers", "Content-Type"),
)
Request = TypeVar("Request", classification_pb2.ClassificationRequest, regression_pb2.RegressionRequest)
Handler = Callable[[HttpRequest, "re.Match[str]"], HttpReply]
# What all JSON documents may need at a time while they are parsed.
MAX_PARSING_BYTES = 2**29
_API = {"predict": "Predict", "classify": "Classify", "regress": "Regress"}


class Rest:
    """The replies to HTTP requests.

    Args:
        dispatcher: Answers the requests.
        prometheus_path: Path of the Prometheus page; None for no such page.
        cors: Whether to accept requests from web pages of other origins.

    Attributes:
        parsing: The memory for parsing JSON.
    """

    def __init__(self, dispatcher: Dispatcher, prometheus_path: str | None, cors: bool = False) -> None:
        self._dispatcher = dispatcher
        self._prometheus_path = prometheus_path
        self._cors = cors
        self.parsing = Budget(MAX_PARSING_BYTES)
        self._routes: list[tuple[re.Pattern[str], Handler]] = []

    def route(self, pattern: str, handler: Handler) -> None:
        """Let a function answer the requests to paths that match a pattern, whatever their method.

        Args:
            pattern: Regular expression of the whole path without its query.
            handler: Takes the request and the match, and returns the reply; may raise a `StatusError`.
        """
        self._routes.append((re.compile(pattern), handler))

    def reply(self, request: HttpRequest) -> HttpReply:
        """Return the reply to any request."""
        path = request.path.partition("?")[0]
        if self._prometheus_path is not None and path == self._prometheus_path and request.method in ("GET", "HEAD"):
            return HttpReply(200, self._dispatcher.metrics.page(), CONTENT_TYPE)
        headers = _CORS if self._cors else ()
        if self._cors and request.method == "OPTIONS":
            return HttpReply(200, b"", headers=headers)
        for pattern, handler in self._routes:
            if match := pattern.fullmatch(path):
                return self._routed(request, match, handler)
        found = _POST.fullmatch(path) if request.method == "POST" else None
        status = grpc.StatusCode.OK
        try:
            if found:
                self._dispatcher.scheduler.check(request.call)
            with self._dispatcher.metrics.in_flight.track_inprogress():
                body = self._answer(request, path, found)
        except StatusError as refusal:
            status, body = refusal.code, _error_body(refusal.text)
        except Exception:
            failure = internal(f"{request.method} REST")
            status, body = failure.code, _error_body(failure.text)
        if found:
            api = _API[found["method"]]
            name = urllib.parse.unquote(found["name"])
            self._dispatcher.count(name, status.name, api, "REST", request.call)
        http_status = HTTP_STATUS.get(status, 500)
        if status is not grpc.StatusCode.OK and not path.lower().startswith("/v1/"):
            http_status = 404
        return HttpReply(http_status, body, headers=headers)

    def _routed(self, request: HttpRequest, match: re.Match[str], handler: Handler) -> HttpReply:
        try:
            return handler(request, match)
        except StatusError as refusal:
            return self.error(HTTP_STATUS.get(refusal.code, 500), refusal.text)
        except Exception:
            return self.error(500, internal(f"{request.method} REST").text)

    def error(self, status: int, text: str) -> HttpReply:
        """Return the reply for an error of HTTP itself."""
        return HttpReply(status, _error_body(text))

    def _answer(self, request: HttpRequest, path: str, post: re.Match[str] | None) -> bytes:
        if post is not None:
            methods: dict[str, Callable[[model_pb2.ModelSpec, bytes, Call], bytes]] = {
                "predict": self._predict,
                "classify": self._classify,
                "regress": self._regress,
            }
            return methods[post["method"]](spec_of(post), request.body, request.call)
        if request.method in ("GET", "HEAD") and (get := _GET.fullmatch(path)):
            if not get["name"]:
                raise invalid_argument("Missing model name in request.")
            return (self._metadata if get["metadata"] else self._status)(spec_of(get), request.call)
        raise invalid_argument(f"Malformed request: {request.method} {path}")

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes, call: Call) -> bytes:
        request = predict_pb2.PredictRequest(model_spec=spec)
        with contextlib.ExitStack() as parsing, contextlib.ExitStack() as running:
            parsing.enter_context(self.parsing.held(json_bytes(body), call.deadline))
            document = rest_json.parse(body)
            request.model_spec.signature_name = rest_json.signature_name(document)
            servable = running.enter_context(self._dispatcher.manager.lease(spec))
            name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            if name not in servable.signatures:
                raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
            infos = dict(sorted(servable.signatures[name].inputs.items()))
            if not infos:
                asked = request.model_spec.signature_name or "DEFAULT"
                raise invalid_argument(f"Failed to get input map for signature: {asked}")
            rows = rest_json.fill_predict(document, infos, request)
            del document
            parsing.close()
            response = self._dispatcher.predict_on(servable, request, call)
        return rest_json.predict_body(response, rows)

    def _classify(self, spec: model_pb2.ModelSpec, body: bytes, call: Call) -> bytes:
        request = self._with_examples(classification_pb2.ClassificationRequest(model_spec=spec), body, call)
        return rest_json.classification_body(self._dispatcher.classify(request, call).result)

    def _regress(self, spec: model_pb2.ModelSpec, body: bytes, call: Call) -> bytes:
        request = self._with_examples(regression_pb2.RegressionRequest(model_spec=spec), body, call)
        return rest_json.regression_body(self._dispatcher.regress(request, call).result)

    def _with_examples(self, request: Request, body: bytes, call: Call) -> Request:
        """Fill a request with the signature and the examples of a body."""
        with self.parsing.held(json_bytes(body), call.deadline):
            document = rest_json.parse(body)
            request.model_spec.signature_name = rest_json.signature_name(document)
            rest_json.fill_examples(document, request.input)
        return request

    def _status(self, spec: model_pb2.ModelSpec, call: Call) -> bytes:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        response = self._dispatcher.status(request, call)
        found = json_format.MessageToDict(response, preserving_proto_field_name=True)
        for entry in found["model_version_status"]:
            status = entry.get("status", {})
            entry["status"] = {"error_code": "OK", "error_message": "", **status}
        return json.dumps(found, indent=1).encode() + b"\n"

    def _metadata(self, spec: model_pb2.ModelSpec, call: Call) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        response = self._dispatcher.metadata(request, call)
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


def spec_of(found: re.Match[str]) -> model_pb2.ModelSpec:
    """Return the model that a path which matches `MODEL_PATTERN` names."""
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
