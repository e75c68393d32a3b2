"""The gRPC services of TensorFlow Serving. They pass requests to `Dispatcher` and turn every error into a status.

Requests are parsed here because gRPC would log a stack for each malformed one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, EncodeError
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from keras_tagger.serving.dispatch import Dispatcher, internal
from keras_tagger.serving.status import StatusError, deadline_exceeded, invalid_argument, truncate

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
# Request and reply of each method. tensorflow-serving-api has them in modules that cannot be imported with current
# protobuf.
METHODS: dict[str, dict[str, tuple[Any, Any]]] = {
    PREDICTION_SERVICE: {
        "Classify": (classification_pb2.ClassificationRequest, classification_pb2.ClassificationResponse),
        "Regress": (regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
        "Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
        "MultiInference": (inference_pb2.MultiInferenceRequest, inference_pb2.MultiInferenceResponse),
        "GetModelMetadata": (
            get_model_metadata_pb2.GetModelMetadataRequest,
            get_model_metadata_pb2.GetModelMetadataResponse,
        ),
    },
    MODEL_SERVICE: {
        "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, get_model_status_pb2.GetModelStatusResponse),
        "HandleReloadConfigRequest": (
            model_management_pb2.ReloadConfigRequest,
            model_management_pb2.ReloadConfigResponse,
        ),
    },
}


def handlers(dispatcher: Dispatcher, closed: threading.Event) -> list[grpc.GenericRpcHandler]:
    """Return handlers of PredictionService and ModelService; once `closed` is set, they answer UNAVAILABLE."""
    answers: dict[str, Callable[[Any, float | None], Any]] = {
        "Predict": dispatcher.predict,
        "Classify": dispatcher.classify,
        "Regress": dispatcher.regress,
        "MultiInference": dispatcher.multi_inference,
        "GetModelMetadata": dispatcher.metadata,
        "GetModelStatus": dispatcher.status,
        "HandleReloadConfigRequest": dispatcher.reload,
    }
    counted = ("Predict", "Classify", "Regress", "MultiInference")
    return [
        grpc.method_handlers_generic_handler(
            service,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    _answering(name, request, answers[name], dispatcher, name in counted, closed)
                )
                for name, (request, _) in methods.items()
            },
        )
        for service, methods in METHODS.items()
    ]


def _answering(
    name: str,
    kind: Any,
    method: Callable[[Any, float | None], Any],
    dispatcher: Dispatcher,
    counted: bool,
    closed: threading.Event,
) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
        started = dispatcher.last_seen = time.monotonic()
        remaining = context.time_remaining()
        request, refusal, reply = None, None, b""
        try:
            if remaining is not None and remaining <= 0:
                raise deadline_exceeded()
            if closed.is_set():
                raise StatusError(grpc.StatusCode.UNAVAILABLE, "The server is shutting down.")
            request = _parsed(kind, data)
            response = method(request, None if remaining is None else started + remaining)
            reply = _serialized(response)
        except StatusError as caught:
            # Its traceback refers to the request and back to it, which would hold memory until garbage collection.
            caught.__traceback__ = caught.__cause__ = caught.__context__ = None
            refusal = StatusError(caught.code, caught.text)
        except Exception:
            refusal = internal(name)
        dispatcher.last_seen = time.monotonic()
        if counted:
            status = refusal.code.name if refusal else "OK"
            dispatcher.count(_model_name(request), status, name, "GRPC", time.monotonic() - started)
        if refusal is not None:
            context.abort(refusal.code, truncate(refusal.text))
        return reply

    return answer


def _parsed(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise invalid_argument(
            f"expected a {kind.DESCRIPTOR.name}. Received: {len(data)} bytes that do not parse as one."
        ) from None


def _serialized(response: Any) -> bytes:
    try:
        return response.SerializeToString()
    except (EncodeError, ValueError):
        text = "expected a reply below 2 GiB, the limit of a message. Received: more; send fewer clips at a time."
        raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, text) from None


def _model_name(request: Any) -> str:
    if request is None:
        return ""
    spec = request.tasks[0].model_spec if hasattr(request, "tasks") and request.tasks else None
    return spec.name if spec is not None else getattr(getattr(request, "model_spec", None), "name", "")
