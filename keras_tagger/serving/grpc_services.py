"""The gRPC services of TensorFlow Serving over `Dispatcher`: bytes in, bytes out, every error a status without a stack.

Requests are parsed here and not by gRPC, which would log a stack for each one that is malformed.
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
# Request and reply by method; the modules of tensorflow-serving-api that would have them cannot be imported with the
# protobuf of today.
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
    """Handlers of PredictionService and ModelService; UNAVAILABLE is what is told when `closed` is set."""
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
            # The frames of its traceback hold the request, and hold it: memory that waits for the garbage collector.
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
            f"expected a {kind.DESCRIPTOR.name}. Received: {len(data)} bytes that are none."
        ) from None


def _serialized(response: Any) -> bytes:
    try:
        return response.SerializeToString()
    except (EncodeError, ValueError):
        text = "expected a reply below 2 GiB, the most that a message holds; ask for less at a time."
        raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, text) from None


def _model_name(request: Any) -> str:
    if request is None:
        return ""
    spec = request.tasks[0].model_spec if hasattr(request, "tasks") and request.tasks else None
    return spec.name if spec is not None else getattr(getattr(request, "model_spec", None), "name", "")
