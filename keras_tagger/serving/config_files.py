"""Configuration files of the server: ModelServerConfig, SSLConfig, MonitoringConfig, BatchingParameters as text protos.

Fields, numbers and defaults are those of TensorFlow Serving 2.17. tensorflow-serving-api contains only the first
message, so the others are built here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from keras_tagger.client.proto_messages import message_classes
from keras_tagger.errors import ServingError
from keras_tagger.serving import request_log
from keras_tagger.serving.status import StatusError, invalid_argument
from keras_tagger.serving.versions import ServedModel, VersionPolicy

MESSAGES = message_classes(
    "keras_tagger_serving_config.proto",
    "tensorflow.serving",
    {
        "SSLConfig": "string server_key = 1; string server_cert = 2; string custom_ca = 3; bool client_verify = 4;",
        "PrometheusConfig": "bool enable = 1; string path = 2;",
        "MonitoringConfig": "PrometheusConfig prometheus_config = 1;",
        "BatchingParameters": """
            .google.protobuf.Int64Value max_batch_size = 1;
            .google.protobuf.Int64Value batch_timeout_micros = 2;
            .google.protobuf.Int64Value max_enqueued_batches = 3;
            .google.protobuf.Int64Value num_batch_threads = 4;
            .google.protobuf.StringValue thread_pool_name = 5;
            repeated int64 allowed_batch_sizes = 6;
            bool pad_variable_length_inputs = 7;
            .google.protobuf.BoolValue enable_large_batch_splitting = 8;
            .google.protobuf.Int64Value max_execution_batch_size = 9;
        """,
    },
    [wrappers_pb2.DESCRIPTOR],
)
"""Classes of the messages that tensorflow-serving-api lacks, by name."""


@dataclass(frozen=True)
class BatchingOptions:
    """How requests are batched: the fields of BatchingParameters, and the most bytes that a batch takes as input."""

    max_batch_size: int = 1000
    timeout_seconds: float = 0.0
    max_enqueued_batches: int = 10
    threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()
    max_batch_bytes: int = 2**31


def read_models(path: str) -> list[ServedModel]:
    """Read the models of a --model_config_file.

    Raises:
        ServingError: If the file cannot be read or is not valid.
    """
    config = parse_text(path, model_server_config_pb2.ModelServerConfig(), "model_config_file")
    if config.WhichOneof("config") is None:
        # TensorFlow Serving takes no action for an empty file, which may be one that is just being written.
        raise ServingError(f"model_config_file {path}: expected a model_config_list. Received: an empty file.")
    try:
        return models_of(config)
    except StatusError as refusal:
        raise ServingError(f"model_config_file {path}: {refusal.text}") from None


def models_of(config: model_server_config_pb2.ModelServerConfig) -> list[ServedModel]:
    """Return the models of a configuration.

    Raises:
        StatusError: If the configuration is not valid, with TensorFlow Serving's text.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise invalid_argument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported"
        )
    found: list[ServedModel] = []
    for model in config.model_config_list.config:
        if not model.model_platform and not model.model_type:
            raise invalid_argument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                f"ModelServerConfig::model_platform, model name is {model.name}"
            )
        if model.model_platform and model.model_platform != "tensorflow":
            raise invalid_argument(f"Model {model.name} requests unsupported platform {model.model_platform}")
        if not model.name:
            raise invalid_argument("Expected every model to have a name")
        if model.name in {earlier.name for earlier in found}:
            raise invalid_argument(f"Illegal to list model {model.name} multiple times in config list")
        if not (os.path.isabs(model.base_path) or "://" in model.base_path):
            raise invalid_argument(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
        logging = model.logging_config if model.HasField("logging_config") else None
        if logging is not None:
            request_log.check(logging)
        found.append(ServedModel(model.name, model.base_path, _policy(model), dict(model.version_labels), logging))
    return found


def _policy(model: model_server_config_pb2.ModelConfig) -> VersionPolicy:
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy(latest=None)
    if choice == "specific":
        return VersionPolicy(latest=None, specific=frozenset(policy.specific.versions))
    return VersionPolicy(latest=max(policy.latest.num_versions, 1))


def read_monitoring(path: str) -> str | None:
    """Read the path of the Prometheus page from a --monitoring_config_file; None if it is not enabled."""
    config = parse_text(path, MESSAGES["MonitoringConfig"](), "monitoring_config_file").prometheus_config
    return (config.path or PROMETHEUS_PATH) if config.enable else None


PROMETHEUS_PATH = "/monitoring/prometheus/metrics"


def read_batching(path: str) -> BatchingOptions:
    """Read the BatchingParameters of a --batching_parameters_file."""
    config = parse_text(path, MESSAGES["BatchingParameters"](), "batching_parameters_file")
    if config.pad_variable_length_inputs:
        raise ServingError(
            f"batching_parameters_file {path}: expected pad_variable_length_inputs to be false, because padding "
            "changes the scores of a clip. Received: true."
        )
    default = BatchingOptions()

    def value(field: str, otherwise: int) -> int:
        found = getattr(config, field).value if config.HasField(field) else otherwise
        least = 0 if field == "batch_timeout_micros" else 1
        if found < least:
            text = f"expected {field} to be at least {least}. Received: {found}."
            raise ServingError(f"batching_parameters_file {path}: {text}")
        return found

    batching = BatchingOptions(
        max_batch_size=value("max_batch_size", default.max_batch_size),
        timeout_seconds=value("batch_timeout_micros", 0) / 1e6,
        max_enqueued_batches=value("max_enqueued_batches", default.max_enqueued_batches),
        threads=value("num_batch_threads", default.threads),
        allowed_batch_sizes=tuple(config.allowed_batch_sizes),
    )
    _check_sizes(path, batching.allowed_batch_sizes, batching.max_batch_size)
    return batching


def _check_sizes(path: str, sizes: Sequence[int], largest: int) -> None:
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != largest):
        raise ServingError(
            f"batching_parameters_file {path}: expected ascending allowed_batch_sizes that end with max_batch_size "
            f"{largest}. Received: {list(sizes)}."
        )


def parse_text(path: str, message: Any, flag: str) -> Any:
    """Fill a message from the protobuf text in a file.

    Raises:
        ServingError: If the file cannot be read or does not parse.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ServingError(f"{flag}: expected a readable file. Received: {path} ({reason}).") from None
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        name = message.DESCRIPTOR.name
        raise ServingError(f"{flag}: expected a {name} in protobuf text format. Received: {path} ({error}).") from None
