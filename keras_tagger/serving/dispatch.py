"""Handle a request, whether it came over gRPC or REST: find the model, run it, count it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy.typing as npt
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from keras_tagger.errors import ServingError
from keras_tagger.serving import log, observe
from keras_tagger.serving.config_files import models_of
from keras_tagger.serving.inference import Inference
from keras_tagger.serving.limits import check_audio
from keras_tagger.serving.manager import Manager
from keras_tagger.serving.metrics import Metrics
from keras_tagger.serving.request_log import RequestLogs
from keras_tagger.serving.scheduler import Call, Scheduler
from keras_tagger.serving.servable import Servable
from keras_tagger.serving.status import StatusError, invalid_argument, truncate


class Dispatcher:
    """The methods of PredictionService and ModelService, as functions of a request and its `Call`.

    A `StatusError` answers the request; any other error is a failure of the server.

    Args:
        manager: The models.
        metrics: Counts the requests.
        scheduler: Runs the requests.
        max_request_seconds: The most audio in one request; 0 for no limit.
        model_management: Whether clients may change the configuration.
        allow_unavailable_labels: Whether new labels may name versions that are not available.
    """

    def __init__(
        self,
        manager: Manager,
        metrics: Metrics,
        scheduler: Scheduler,
        max_request_seconds: float = 0.0,
        model_management: bool = False,
        allow_unavailable_labels: bool = False,
    ) -> None:
        self.manager = manager
        self.metrics = metrics
        self.scheduler = scheduler
        self.request_logs = RequestLogs()
        self._max_request_seconds = max_request_seconds
        self._model_management = model_management
        self._allow_unavailable_labels = allow_unavailable_labels
        # When a gRPC request last arrived or was answered, as `time.monotonic`.
        self.last_seen = 0.0

    def predict(self, request: predict_pb2.PredictRequest, call: Call) -> predict_pb2.PredictResponse:
        """PredictionService.Predict."""
        with self.manager.lease(_spec(request)) as servable:
            return self.predict_on(servable, request, call)

    def predict_on(
        self, servable: Servable, request: predict_pb2.PredictRequest, call: Call
    ) -> predict_pb2.PredictResponse:
        """Run Predict on a servable that the caller has leased."""
        return self._run(servable, request.model_spec.name, "Predict", call, request, Inference.predict)

    def classify(
        self, request: classification_pb2.ClassificationRequest, call: Call
    ) -> classification_pb2.ClassificationResponse:
        """PredictionService.Classify."""
        response = self._infer(_spec(request), "Classify", call, request, Inference.classify)
        self._count_examples(request, len(response.result.classifications))
        return response

    def regress(self, request: regression_pb2.RegressionRequest, call: Call) -> regression_pb2.RegressionResponse:
        """PredictionService.Regress."""
        response = self._infer(_spec(request), "Regress", call, request, Inference.regress)
        self._count_examples(request, len(response.result.regressions))
        return response

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, call: Call
    ) -> inference_pb2.MultiInferenceResponse:
        """PredictionService.MultiInference; the model and version of the first task answer all tasks."""
        if not request.tasks:
            raise invalid_argument("Inference request must have at least one task")
        spec = request.tasks[0].model_spec
        return self._infer(spec, "MultiInference", call, request, Inference.multi_inference)

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, call: Call
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """PredictionService.GetModelMetadata."""
        spec = _spec(request)
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid_argument(f"Metadata field {field} is not supported")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self.manager.lease(spec) as servable:
            for name, signature in servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            response.model_spec.name = spec.name
            response.model_spec.version.value = servable.version
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest, call: Call
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """ModelService.GetModelStatus."""
        return self.manager.status(_spec(request))

    def reload(
        self, request: model_management_pb2.ReloadConfigRequest, call: Call
    ) -> model_management_pb2.ReloadConfigResponse:
        """ModelService.HandleReloadConfigRequest; returns when the models are loaded."""
        if not self._model_management:
            log.warning("reload refused", peer=call.peer)
            text = "HandleReloadConfigRequest is off; the server allows it with --enable_model_management."
            raise StatusError(grpc.StatusCode.PERMISSION_DENIED, text)
        config = request.config
        names = [model.name for model in config.model_config_list.config]
        log.info("reload requested", peer=call.peer, models=names)
        if config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest."
                " Only ModelConfigList is currently supported"
            )
        try:
            self.manager.configure(models_of(config), self._allow_unavailable_labels)
        except ServingError as error:
            log.warning("reload failed", peer=call.peer, reason=str(error))
            raise StatusError(grpc.StatusCode.UNKNOWN, str(error)) from error
        log.info("reload done", peer=call.peer, models=names)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response

    def count(self, model: str, status: str, api: str, entrypoint: str, call: Call) -> None:
        """Count an answered request. Models that are not served share an empty name, since clients can invent names."""
        seconds = time.monotonic() - call.started
        known = model if self.manager.knows(model) else ""
        self.metrics.requests.labels(known, status).inc()
        if not known:
            return
        if status == "OK":
            self.metrics.latency.labels(known, api, entrypoint).observe(seconds * 1e6)
        if call.version is not None:
            version = str(call.version)
            self.metrics.version_requests.labels(known, version, api, status).inc()
            self.metrics.version_seconds.labels(known, version, api).observe(seconds)

    def _infer(
        self, spec: model_pb2.ModelSpec, api: str, call: Call, request: Any, method: Callable[[Inference, Any], Any]
    ) -> Any:
        with self.manager.lease(spec) as servable:
            return self._run(servable, spec.name, api, call, request, method)

    def _run(
        self,
        servable: Servable,
        name: str,
        api: str,
        call: Call,
        request: Any,
        method: Callable[[Inference, Any], Any],
    ) -> Any:
        seconds = 0.0
        call.version = servable.version

        def run(feeds: Sequence[str], fetches: Sequence[str], arrays: Sequence[npt.NDArray[Any]]) -> list[Any]:
            nonlocal seconds
            check_audio(servable, feeds, fetches, arrays, self._max_request_seconds)
            started = time.monotonic()
            try:
                with observe.span("run model", model=name, version=servable.version):
                    return self.scheduler.run(servable, feeds, fetches, arrays, call)
            finally:
                seconds += time.monotonic() - started

        response = method(Inference(servable.signatures, servable.version, run), request)
        self.metrics.runtime.labels(name, api, "TF1").observe(seconds * 1e6)
        if (logging := self.manager.logging_config(name)) is not None:
            self.request_logs.add(logging, servable.version, api, request, response)
        return response

    def _count_examples(self, request: Any, count: int) -> None:
        self.metrics.examples.labels(request.model_spec.name).observe(count)
        self.metrics.examples_total.labels(request.model_spec.name).inc(count)


def _spec(request: Any) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    return request.model_spec


def internal(method: str) -> StatusError:
    """Log the current exception, and return the error that the client gets instead."""
    log.error("request failed", method=method)
    return StatusError(grpc.StatusCode.INTERNAL, truncate("Internal error; see the server's log."))
