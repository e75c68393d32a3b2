"""A small gRPC server that answers Predict, GetModelMetadata and GetModelStatus as TensorFlow Serving does.

It serves the highest version of one SavedModel (any SavedModel, not only keras_tagger's) with the status
codes and texts of TensorFlow Serving 2.17. Imports TensorFlow, so it is imported only by what serves.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
from collections.abc import Callable
from concurrent import futures
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Any

import grpc
import tensorflow as tf
from absl import logging
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from keras_tagger.errors import ServingError
from keras_tagger.serving.servable import Refusal, Servable, find_version, invalid

MODEL_SERVER = "tensorflow_model_server"
STOP_GRACE_SECONDS = 30.0

_STATUS_OF_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
_MAX_DETAIL_BYTES = 1024


def _cut(text: str) -> str:
    """An error text as TensorFlow Serving cuts it."""
    data = text.encode("utf-8", "replace")
    if len(data) <= _MAX_DETAIL_BYTES:
        return text
    return data[:_MAX_DETAIL_BYTES].decode("utf-8", "ignore") + "...TRUNCATED"


def _answer(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any, grpc.ServicerContext], Any]:
    """A gRPC handler from `method(self, request)`: every error becomes a status without a stack."""

    @functools.wraps(method)
    def handler(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        remaining = context.time_remaining()
        if remaining is not None and remaining <= 0:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded before the request was run.")
        try:
            return method(self, request)
        except Refusal as refusal:
            code, text = refusal.code, refusal.text
        except tf.errors.OpError as error:
            code, text = _STATUS_OF_NUMBER[error.error_code], error.message
        except Exception:
            logging.exception("%s failed", method.__name__)
            code, text = grpc.StatusCode.INTERNAL, "Internal error; the log of the server says more."
        context.abort(code, _cut(text))

    return handler


def _checked_spec(request: Any) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec


def _not_served_yet(name: str) -> Refusal:
    return Refusal(grpc.StatusCode.UNIMPLEMENTED, f"{name} is not served yet; a later version of keras_tagger will.")


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predictions and metadata of one servable."""

    def __init__(self, model_name: str, servable: Servable) -> None:
        self._model_name = model_name
        self._servable = servable

    def _find(self, spec: model_pb2.ModelSpec) -> Servable:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        found = spec.name == self._model_name
        wanted = f"Latest({spec.name})"
        if choice == "version":
            found = found and spec.version.value == self._servable.version
            wanted = f"Specific({spec.name}, {spec.version.value})"
        if not found:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
        return self._servable

    @_answer
    def Predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:  # noqa: N802
        return self._find(_checked_spec(request)).predict(request)

    @_answer
    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        spec = _checked_spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        servable = self._find(spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in servable.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = servable.version
        response.metadata["signature_def"].Pack(signatures)
        return response

    @_answer
    def Classify(self, request: classification_pb2.ClassificationRequest) -> None:  # noqa: N802
        raise _not_served_yet("Classify")

    @_answer
    def Regress(self, request: regression_pb2.RegressionRequest) -> None:  # noqa: N802
        raise _not_served_yet("Regress")

    @_answer
    def MultiInference(self, request: inference_pb2.MultiInferenceRequest) -> None:  # noqa: N802
        raise _not_served_yet("MultiInference")


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """The status of one servable."""

    def __init__(self, model_name: str, servable: Servable) -> None:
        self._model_name = model_name
        self._servable = servable

    @_answer
    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        spec = _checked_spec(request)
        version = spec.version.value if spec.HasField("version") else None
        if spec.name != self._model_name or version not in (None, self._servable.version):
            what = "any versions" if version is None else f"version {version}"
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"Could not find {what} of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        status = response.model_version_status.add(
            version=self._servable.version, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
        )
        status.status.SetInParent()
        return response

    @_answer
    def HandleReloadConfigRequest(self, request: model_management_pb2.ReloadConfigRequest) -> None:  # noqa: N802
        raise _not_served_yet("HandleReloadConfigRequest")


class Server:
    """The embedded server of the highest version under `base_path`; also a context manager.

    Args:
        base_path: A folder (any `tf.io.gfile` path) with one numbered folder per version.
        model_name: The name that requests use.
        port: TCP port of gRPC; 0 takes a free one, and `port` then says which.
        host: Address to listen on. Nothing is encrypted or authenticated: the default is this machine alone.
        max_message_bytes: Largest message taken and sent; -1 is without limit.
        workers: Requests that run at one time; more wait.
    """

    def __init__(
        self,
        base_path: str | os.PathLike[str],
        model_name: str = "keras_tagger",
        port: int = 8500,
        host: str = "127.0.0.1",
        max_message_bytes: int = -1,
        workers: int = 8,
    ) -> None:
        self.base_path = os.fspath(base_path)
        self.model_name = model_name
        self.port = port
        self.host = host
        self.max_message_bytes = max_message_bytes
        self.workers = workers
        self._servable: Servable | None = None
        self._server: grpc.Server | None = None

    @property
    def version(self) -> int | None:
        """The served version; None before `start`."""
        return self._servable.version if self._servable else None

    def start(self) -> Server:
        """Loads and warms up the model, then answers requests until `stop`.

        Raises:
            ServingError: no version, a version that does not load, or a port that is taken.
        """
        version, folder = find_version(self.base_path)
        servable = Servable(folder, version)
        server = grpc.server(
            futures.ThreadPoolExecutor(self.workers, thread_name_prefix="serving"),
            options=[
                ("grpc.max_receive_message_length", self.max_message_bytes),
                ("grpc.max_send_message_length", self.max_message_bytes),
                # By default a second server would share the port and silently take half of the requests.
                ("grpc.so_reuseport", 0),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            _PredictionService(self.model_name, servable), server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(self.model_name, servable), server)
        try:
            bound = server.add_insecure_port(f"{self.host}:{self.port}")
        except RuntimeError:
            bound = 0
        if not bound:
            servable.close()
            raise ServingError(f"expected a free port to listen on. Received: {self.host}:{self.port}, which is taken")
        self.port = bound
        server.start()
        self._servable, self._server = servable, server
        return self

    def stop(self, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """Refuses new requests, lets running ones finish for at most `grace_seconds`, and frees the model."""
        if self._server is not None and self._servable is not None:
            self._server.stop(grace_seconds).wait()
            self._servable.close()
            self._server = self._servable = None

    def wait(self) -> None:
        """Blocks until the server is stopped."""
        if self._server is not None:
            self._server.wait_for_termination()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def serve(
    base_path: str | os.PathLike[str],
    port: int = 8500,
    rest_api_port: int | None = None,
    model_name: str = "keras_tagger",
    host: str = "127.0.0.1",
) -> None:
    """Serves until SIGTERM or SIGINT, with `tensorflow_model_server` if it is on PATH, else with `Server`.

    This process becomes the former. With the latter, running requests finish on a signal and the function
    returns; it must be called in the main thread, and logs "serving MODEL version N on HOST:PORT" when ready.

    Raises:
        ServingError: no version, a version that does not load, or a port that is taken.
    """
    # The ready line is what scripts wait for, so it is shown whatever absl's default.
    logging.set_verbosity(max(logging.get_verbosity(), logging.INFO))
    if shutil.which(MODEL_SERVER):
        _become_model_server(os.fspath(base_path), port, rest_api_port or 0, model_name, host)
    if rest_api_port:
        logging.warning("REST is not served yet by the embedded server: port %d stays closed", rest_api_port)
    # A SimpleQueue, unlike an Event, may be written from a signal handler that interrupted its reader.
    signals: SimpleQueue[int] = SimpleQueue()

    def on_signal(number: int, frame: FrameType | None) -> None:
        signals.put(number)

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with Server(base_path, model_name, port, host) as server:
            logging.info("serving %s version %d on %s:%d", model_name, server.version, host, server.port)
            received = signals.get()
            logging.info("%s: stopping when running requests are done", signal.Signals(received).name)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _become_model_server(base_path: str, port: int, rest_api_port: int, model_name: str, host: str) -> None:
    """Replaces this process by `tensorflow_model_server`, after checking that there is something to serve."""
    find_version(base_path)
    if host not in ("0.0.0.0", "[::]"):
        logging.warning("%s listens on all addresses of this machine, not on %s alone", MODEL_SERVER, host)
    absolute = base_path if "://" in base_path else os.path.abspath(base_path)
    flags = {
        "port": port,
        "rest_api_port": rest_api_port,
        "model_name": model_name,
        "model_base_path": absolute,
    }
    logging.flush()
    os.execvp(MODEL_SERVER, [MODEL_SERVER, *(f"--{name}={value}" for name, value in flags.items())])
