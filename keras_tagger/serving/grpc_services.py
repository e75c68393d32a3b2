"""The gRPC services of TensorFlow Serving. They pass requests to `Dispatcher` and turn every error into a status.

Requests are parsed here because gRPC would log a stack for each malformed one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures
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
from keras_tagger.serving.scheduler import Call, cancelled
from keras_tagger.serving.status import StatusError, invalid_argument, truncate

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
# Requests that may wait for a thread, beyond those that have one; and the threads that refuse others.
MAX_WAITING = 64
REFUSING_THREADS = 2
_ENDLESS_SECONDS = 1e9
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


class RequestThreads(futures.ThreadPoolExecutor):
    """The threads that handle requests; knows how many wait for one."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads, thread_name_prefix="grpc")
        self.waiting = 0
        self._waiting_lock = threading.Lock()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> futures.Future[Any]:
        """Run a function in one of the threads."""
        self._count(1)

        def run() -> Any:
            self._count(-1)
            return function(*arguments, **named)

        return super().submit(run)

    def _count(self, by: int) -> None:
        with self._waiting_lock:
            self.waiting += by


class Handlers(grpc.GenericRpcHandler):
    """The methods of PredictionService and ModelService.

    Args:
        dispatcher: Answers the requests.
        threads: The threads of the server. If more than MAX_WAITING requests wait for one, others are refused.
        closed: Once set, requests are answered with UNAVAILABLE.
        others: Handlers of other services that use the same threads, by path.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        threads: RequestThreads,
        closed: threading.Event,
        others: Mapping[str, grpc.RpcMethodHandler] | None = None,
    ) -> None:
        self._threads = threads
        answers: dict[str, Callable[[Any, Call], Any]] = {
            "Predict": dispatcher.predict,
            "Classify": dispatcher.classify,
            "Regress": dispatcher.regress,
            "MultiInference": dispatcher.multi_inference,
            "GetModelMetadata": dispatcher.metadata,
            "GetModelStatus": dispatcher.status,
            "HandleReloadConfigRequest": dispatcher.reload,
        }
        self._methods = {
            f"/{service}/{name}": grpc.unary_unary_rpc_method_handler(
                answering(name, request, answers[name], dispatcher, closed, model_of=_MODEL_OF.get(name))
            )
            for service, methods in METHODS.items()
            for name, (request, _) in methods.items()
        }
        self._methods.update(others or {})

        def refuse(data: bytes, context: grpc.ServicerContext) -> None:
            dispatcher.metrics.requests.labels("", "RESOURCE_EXHAUSTED").inc()
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "The server is busy: too many requests wait.")

        self._refuse = grpc.unary_unary_rpc_method_handler(with_own_threads(refuse, REFUSING_THREADS))

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return the handler of a request."""
        found = self._methods.get(handler_call_details.method)
        return self._refuse if found is not None and self._threads.waiting > MAX_WAITING else found


def call_of(context: grpc.ServicerContext) -> Call:
    """Return the `Call` of a request."""
    remaining = context.time_remaining()
    call = Call(peer=context.peer())
    # For a client without a deadline, gRPC reports the end of time.
    if remaining is not None and remaining < _ENDLESS_SECONDS:
        call.deadline = call.started + remaining
    return call


def with_own_threads(method: Any, threads: int) -> Any:
    """Return a method of a gRPC service that runs in threads of its own, not in those of the server."""

    def run(*arguments: Any) -> Any:
        return method(*arguments)

    # The name that grpc's server looks for.
    run.experimental_thread_pool = futures.ThreadPoolExecutor(threads)  # type: ignore[attr-defined]
    return run


def answering(
    name: str,
    kind: Any,
    method: Callable[[Any, Call], Any],
    dispatcher: Dispatcher,
    closed: threading.Event,
    model_of: Callable[[Any], str] | None,
) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    """Return the answer of a method of any protocol to the bytes of a request.

    Args:
        name: The method, for metrics and messages.
        kind: The class of its requests.
        method: Answers a request; may raise `StatusError`.
        dispatcher: Its scheduler refuses what cannot be answered in time, and its metrics count.
        closed: Once set, requests are answered with UNAVAILABLE.
        model_of: Returns the name of the model that a request runs; None if the method runs none. Only requests that
            run a model wait for their turn and are counted.
    """

    def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
        call = call_of(context)
        dispatcher.last_seen = call.started
        request, refusal, reply = None, None, b""
        try:
            if not context.add_callback(call.cancel):
                raise cancelled()
            if closed.is_set():
                raise StatusError(grpc.StatusCode.UNAVAILABLE, "The server is shutting down.")
            if model_of is not None:
                dispatcher.scheduler.check(call)
            request = _parsed(kind, data)
            with dispatcher.metrics.in_flight.track_inprogress():
                response = method(request, call)
            reply = _serialized(response)
        except StatusError as caught:
            # Its traceback refers to the request and back to it, which would hold memory until garbage collection.
            caught.__traceback__ = caught.__cause__ = caught.__context__ = None
            refusal = StatusError(caught.code, caught.text)
        except Exception:
            refusal = internal(name)
        dispatcher.last_seen = time.monotonic()
        if model_of is not None:
            status = refusal.code.name if refusal else "OK"
            dispatcher.count("" if request is None else model_of(request), status, name, "GRPC", call)
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
    return request.model_spec.name


def _model_of_tasks(request: Any) -> str:
    return request.tasks[0].model_spec.name if request.tasks else ""


_MODEL_OF: dict[str, Callable[[Any], str]] = {
    "Predict": _model_name,
    "Classify": _model_name,
    "Regress": _model_name,
    "MultiInference": _model_of_tasks,
}
