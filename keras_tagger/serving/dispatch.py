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
from keras_tagger.serving import log
from keras_tagger.serving.batching import Batcher
from keras_tagger.serving.config_files import models_of
from keras_tagger.serving.inference import Inference
from keras_tagger.serving.manager import Manager
from keras_tagger.serving.metrics import Metrics
from keras_tagger.serving.servable import Runner, Servable
from keras_tagger.serving.status import StatusError, invalid_argument, truncate


class Dispatcher:
    """The methods of PredictionService and ModelService, as functions of a request and a deadline.

    Deadlines are `time.monotonic`; None means none. A `StatusError` answers the request; any other error is a failure
    of the server.

    Args:
        manager: The models.
        metrics: Counts the requests.
        batcher: Runs requests in batches; None runs each alone.
    """

    def __init__(self, manager: Manager, metrics: Metrics, batcher: Batcher | None = None) -> None:
        self.manager = manager
        self.metrics = metrics
        self._batcher = batcher
        # When a gRPC request last arrived or was answered, as `time.monotonic`.
        self.last_seen = 0.0

    def predict(self, request: predict_pb2.PredictRequest, deadline: float | None) -> predict_pb2.PredictResponse:
        """PredictionService.Predict."""
        with self.manager.lease(_spec(request)) as servable:
            return self.predict_on(servable, request, deadline)

    def predict_on(
        self, servable: Servable, request: predict_pb2.PredictRequest, deadline: float | None
    ) -> predict_pb2.PredictResponse:
        """Run Predict on a servable that the caller has leased."""
        name = request.model_spec.name
        return self._run(servable, name, "Predict", deadline, lambda inference: inference.predict(request))

    def classify(
        self, request: classification_pb2.ClassificationRequest, deadline: float | None
    ) -> classification_pb2.ClassificationResponse:
        """PredictionService.Classify."""
        response = self._infer(_spec(request), "Classify", deadline, lambda inference: inference.classify(request))
        self._count_examples(request, len(response.result.classifications))
        return response

    def regress(
        self, request: regression_pb2.RegressionRequest, deadline: float | None
    ) -> regression_pb2.RegressionResponse:
        """PredictionService.Regress."""
        response = self._infer(_spec(request), "Regress", deadline, lambda inference: inference.regress(request))
        self._count_examples(request, len(response.result.regressions))
        return response

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, deadline: float | None
    ) -> inference_pb2.MultiInferenceResponse:
        """PredictionService.MultiInference; the model and version of the first task answer all tasks."""
        if not request.tasks:
            raise invalid_argument("Inference request must have at least one task")
        spec = request.tasks[0].model_spec
        return self._infer(spec, "MultiInference", deadline, lambda inference: inference.multi_inference(request))

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, deadline: float | None
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
        self, request: get_model_status_pb2.GetModelStatusRequest, deadline: float | None
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """ModelService.GetModelStatus."""
        return self.manager.status(_spec(request))

    def reload(
        self, request: model_management_pb2.ReloadConfigRequest, deadline: float | None
    ) -> model_management_pb2.ReloadConfigResponse:
        """ModelService.HandleReloadConfigRequest; returns when the models are loaded."""
        config = request.config
        if config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest."
                " Only ModelConfigList is currently supported"
            )
        try:
            self.manager.configure(models_of(config))
        except ServingError as error:
            raise StatusError(grpc.StatusCode.UNKNOWN, str(error)) from error
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response

    def count(self, model: str, status: str, api: str, entrypoint: str, seconds: float) -> None:
        """Count an answered request. Models that are not served share an empty name, since clients can invent names."""
        known = model if self.manager.knows(model) else ""
        self.metrics.requests.add(known, status)
        if status == "OK" and known:
            self.metrics.latency.add(known, api, entrypoint, value=seconds * 1e6)

    def _infer(
        self, spec: model_pb2.ModelSpec, api: str, deadline: float | None, ask: Callable[[Inference], Any]
    ) -> Any:
        with self.manager.lease(spec) as servable:
            return self._run(servable, spec.name, api, deadline, ask)

    def _run(
        self, servable: Servable, name: str, api: str, deadline: float | None, ask: Callable[[Inference], Any]
    ) -> Any:
        runner = _Timed(servable if self._batcher is None else self._batcher.over(servable))
        response = ask(Inference(servable.signatures, servable.version, runner, deadline))
        self.metrics.runtime.add(name, api, "TF1", value=runner.seconds * 1e6)
        return response

    def _count_examples(self, request: Any, count: int) -> None:
        self.metrics.examples.add(request.model_spec.name, value=count)
        self.metrics.examples_total.add(request.model_spec.name, by=count)


class _Timed:
    """A runner that measures how long it took."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.seconds = 0.0

    def run(
        self, feeds: Sequence[str], fetches: Sequence[str], arrays: Sequence[npt.NDArray[Any]], deadline: float | None
    ) -> list[Any]:
        started = time.monotonic()
        try:
            return self._runner.run(feeds, fetches, arrays, deadline)
        finally:
            self.seconds += time.monotonic() - started


def _spec(request: Any) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    return request.model_spec


def internal(method: str) -> StatusError:
    """Log the current exception, and return the error that the client gets instead."""
    log.error("request failed", method=method)
    return StatusError(grpc.StatusCode.INTERNAL, truncate("Internal error; see the server's log."))
