"""The gRPC services of TensorFlow Serving. They pass requests to `Dispatcher` and turn every error into a status.

Requests are parsed here because gRPC would log a stack for each malformed one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
# Requests that may wait for a thread, beyond those that have one.
MAX_WAITING = 64
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


class Gate(futures.ThreadPoolExecutor):
    """Refuses requests that cannot be answered in time, before their data are received; passes the others on.

    gRPC calls `submit` in the one thread that handles the events of all connections. A refused request is answered in
    that thread and never waits for another. A method must not block that thread, so it takes an iterator of requests,
    and does not read from it if `_here.refusal` is set.

    Args:
        threads: The threads of the server. If more than MAX_WAITING requests wait for one, others are refused.
        check: Raises the `StatusError` of a request that cannot be answered in time; takes its `Call` and how many
            requests wait for a thread. None for requests that take no time.
    """

    def __init__(self, threads: RequestThreads, check: Callable[[Call, int], None] | None) -> None:
        super().__init__(1)
        self._behind, self._check = threads, check

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> futures.Future[Any]:
        """Run a function in one of the threads; or here, if it only refuses."""
        _here.refusal = self._refusal(arguments)
        if _here.refusal is None:
            return self._behind.submit(function, *arguments, **named)
        done: futures.Future[Any] = futures.Future()
        try:
            done.set_result(function(*arguments, **named))
        except Exception as error:
            # As from a thread: raised here, it would end gRPC's own.
            done.set_exception(error)
        finally:
            _here.refusal = None
        return done

    def _refusal(self, arguments: Sequence[Any]) -> StatusError | None:
        waiting = self._behind.waiting
        if waiting > MAX_WAITING:
            return StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "The server is busy: too many requests wait.")
        # The event with which a request arrives knows its deadline; without one, the method checks it.
        details = next((one.call_details for one in arguments if hasattr(one, "call_details")), None)
        if self._check is not None and details is not None:
            try:
                self._check(_call(details.deadline - time.time()), waiting)
            except StatusError as refusal:
                return StatusError(refusal.code, refusal.text)
        return None


# The error with which the method that runs in this thread must refuse its request without waiting for it.
_here = threading.local()


class Handlers(grpc.GenericRpcHandler):
    """The methods of PredictionService and ModelService.

    Args:
        dispatcher: Answers the requests.
        threads: The threads of the server.
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
            f"/{service}/{name}": method_handler(
                name, request, answers[name], dispatcher, closed, threads, model_of=_MODEL_OF.get(name)
            )
            for service, methods in METHODS.items()
            for name, (request, _) in methods.items()
        }
        self._methods.update(others or {})

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return the handler of a request."""
        return self._methods.get(handler_call_details.method)


def call_of(context: grpc.ServicerContext) -> Call:
    """Return the `Call` of a request."""
    return _call(context.time_remaining(), context.peer())


def _call(remaining: float | None, peer: str = "") -> Call:
    call = Call(peer=peer)
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


def method_handler(
    name: str,
    kind: Any,
    method: Callable[[Any, Call], Any],
    dispatcher: Dispatcher,
    closed: threading.Event,
    threads: RequestThreads,
    model_of: Callable[[Any], str] | None,
) -> grpc.RpcMethodHandler:
    """Return the handler of a method of any protocol that answers one request.

    Args:
        name: The method, for metrics and messages.
        kind: The class of its requests.
        method: Answers a request; may raise `StatusError`.
        dispatcher: Its scheduler refuses what cannot be answered in time, and its metrics count.
        closed: Once set, requests are answered with UNAVAILABLE.
        threads: The threads of the server.
        model_of: Returns the name of the model that a request runs; None if the method runs none. Only requests that
            run a model wait for their turn and are counted.
    """

    def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        call = call_of(context)
        dispatcher.last_seen = call.started
        request, refusal, reply = None, None, b""
        try:
            if (refused := getattr(_here, "refusal", None)) is not None:
                raise refused
            if not context.add_callback(call.cancel):
                raise cancelled()
            if closed.is_set():
                raise StatusError(grpc.StatusCode.UNAVAILABLE, "The server is shutting down.")
            if model_of is not None:
                dispatcher.scheduler.check(call)
            request = _parsed(kind, _received(name, requests))
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

    answer.experimental_thread_pool = Gate(  # type: ignore[attr-defined]
        threads, dispatcher.scheduler.check if model_of is not None else None
    )
    return grpc.stream_unary_rpc_method_handler(answer)


def _received(name: str, requests: Iterator[bytes]) -> bytes:
    """Wait for the only request of a call."""
    try:
        return next(requests)
    except StopIteration:
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"{name} requires exactly one request message.") from None
    except grpc.RpcError:
        raise cancelled() from None


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
