"""The flags of `keras-tagger serve`, by the names and with the meanings of tensorflow_model_server.

Nothing heavy is imported here: `keras-tagger --help` comes by.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from typing import Any

from keras_tagger.errors import ServingError


@dataclasses.dataclass(frozen=True)
class Flags:
    """What a server is told. Defaults that differ from tensorflow_model_server's are `host` and health, which is on."""

    model_base_path: str = ""
    model_name: str = "keras_tagger"
    port: int = 8500
    rest_api_port: int = 0
    host: str = "127.0.0.1"
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: int = 0
    file_system_poll_wait_seconds: float = 1.0
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    allow_version_labels_for_unavailable_models: bool = False
    enable_model_warmup: bool = True
    enable_batching: bool = False
    batching_parameters_file: str = ""
    monitoring_config_file: str = ""
    ssl_config_file: str = ""
    enable_grpc_healthcheck_service: bool = True
    grpc_channel_arguments: str = ""
    grpc_max_threads: int = 64
    rest_api_timeout_in_ms: int = 30_000
    rest_api_num_threads: int = 16
    rest_api_enable_cors_support: bool = False
    tensorflow_session_parallelism: int = 0
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    max_message_bytes: int = -1
    workers: int = 0
    grace_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("port", "rest_api_port"):
            value = getattr(self, name)
            if not -1 <= value <= 65535:
                raise ServingError(f"{name}: expected 0 to 65535. Received: {value}.")
        if self.port == self.rest_api_port and self.port > 0:
            raise ServingError(f"rest_api_port: expected another port than --port. Received: {self.port} for both.")
        if self.batching_parameters_file and not self.enable_batching:
            raise ServingError("batching_parameters_file: expected --enable_batching with it. Received: it alone.")
        for name in ("grpc_max_threads", "rest_api_num_threads", "rest_api_timeout_in_ms"):
            if getattr(self, name) < 1:
                raise ServingError(f"{name}: expected at least 1. Received: {getattr(self, name)}.")

    def channel_arguments(self) -> list[tuple[str, Any]]:
        """`grpc_channel_arguments`, "name=value,name=value", as gRPC takes them."""
        found: list[tuple[str, Any]] = []
        for part in filter(None, self.grpc_channel_arguments.split(",")):
            name, equals, value = part.partition("=")
            if not equals or not name:
                raise ServingError(f"grpc_channel_arguments: expected name=value,name=value. Received: {part!r}.")
            try:
                found.append((name, int(value)))
            except ValueError:
                found.append((name, value))
        return found


# Of this server alone; tensorflow_model_server would refuse them.
OWN = ("host", "max_message_bytes", "workers", "grace_seconds")

_HELP = {
    "model_name": "the model's name in requests",
    "port": "of gRPC; 0 takes a free one",
    "rest_api_port": "of REST and Prometheus; 0 for none",
    "host": "address to listen on (this machine only); 0.0.0.0 for all",
    "model_config_file": "a ModelServerConfig as text, instead of DIR: several models, version policies, labels",
    "model_config_file_poll_wait_seconds": "how often that file is read again; 0 for never",
    "file_system_poll_wait_seconds": "how often new versions are looked for; 0 for never",
    "max_num_load_retries": "how often a version that does not load is tried again",
    "load_retry_interval_micros": "from one such attempt to the next",
    "allow_version_labels_for_unavailable_models": "labels of versions that are not loaded yet",
    "enable_model_warmup": "run the model's warm-up requests before it is asked",
    "enable_batching": "gather requests to batches",
    "batching_parameters_file": "BatchingParameters as text",
    "monitoring_config_file": "MonitoringConfig as text: the path of Prometheus' page, or none",
    "ssl_config_file": "SSLConfig as text: gRPC with TLS",
    "enable_grpc_healthcheck_service": "grpc.health.v1",
    "grpc_channel_arguments": "name=value,name=value",
    "grpc_max_threads": "requests over gRPC that are in work at a time",
    "rest_api_timeout_in_ms": "of one REST request",
    "rest_api_num_threads": "requests over REST that are in work at a time",
    "rest_api_enable_cors_support": "answer pages of other origins",
    "tensorflow_session_parallelism": "threads of a session; 0 for as many as there are cores",
    "tensorflow_intra_op_parallelism": "threads of one operation",
    "tensorflow_inter_op_parallelism": "operations at a time",
    "max_message_bytes": "largest message taken and sent; -1 for no limit",
    "workers": "requests that the model runs at a time; 0 for two per core",
    "grace_seconds": "on SIGTERM, how long running requests may take",
    "model_base_path": "the same as DIR",
}


def add_flags(command: Any) -> None:
    """Add the flags to a sub-command of argparse."""
    for field in dataclasses.fields(Flags):
        name, help = f"--{field.name}", _HELP[field.name]
        if isinstance(field.default, bool):
            kind: dict[str, Any] = {"type": _truth, "nargs": "?", "const": True, "metavar": "BOOL"}
        else:
            kind = {"type": type(field.default), "metavar": field.name.rsplit("_", 1)[-1].upper()}
        shown = "" if field.default == "" else f" ({str(field.default).lower()})"
        command.add_argument(name, default=argparse.SUPPRESS, help=help + shown, **kind)


def flags_of(arguments: argparse.Namespace, directory: str | None) -> tuple[Flags, dict[str, Any]]:
    """The flags on a command line, and those of them that were given.

    Raises:
        ServingError: impossible values, or neither a directory nor a --model_config_file.
    """
    given = {
        field.name: getattr(arguments, field.name) for field in dataclasses.fields(Flags) if field.name in arguments
    }
    if directory is not None:
        given["model_base_path"] = os.fspath(directory)
    flags = Flags(**given)
    if not flags.model_base_path and not flags.model_config_file:
        raise ServingError("serve: expected DIR or --model_config_file. Received: neither.")
    return flags, given


def _truth(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected true or false, received {text}")
    return values[text.lower()]
