"""The flags of `keras-tagger serve`, with the names and meanings of tensorflow_model_server's.

`keras-tagger --help` imports this module, so it imports nothing heavy.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from importlib import metadata
from typing import Any

from keras_tagger.errors import ServingError


@dataclasses.dataclass(frozen=True)
class Flags:
    """The settings of a server; `keras-tagger serve --help` describes each.

    Defaults are tensorflow_model_server's, except that `host` is the local machine only and the health service is on.

    Raises:
        ServingError: If values are impossible or do not go together.

    Example:
        >>> Flags(model_base_path="exported/", rest_api_port=8501)
    """

    model_base_path: str = ""
    model_name: str = "keras_tagger"
    port: int = 8500
    rest_api_port: int = 0
    host: str = "127.0.0.1"
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: int = 0
    file_system_poll_wait_seconds: float = 1.0
    num_load_threads: int = 0
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    allow_version_labels_for_unavailable_models: bool = False
    enable_model_warmup: bool = True
    saved_model_tags: str = "serve"
    enable_batching: bool | None = None
    batching_parameters_file: str = ""
    monitoring_config_file: str = ""
    ssl_config_file: str = ""
    enable_grpc_healthcheck_service: bool = True
    grpc_socket_path: str = ""
    grpc_channel_arguments: str = ""
    grpc_max_threads: int = 256
    rest_api_timeout_in_ms: int = 30_000
    rest_api_num_threads: int = 16
    rest_api_enable_cors_support: bool = False
    tensorflow_session_parallelism: int = 0
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    max_message_bytes: int = -1
    max_request_seconds: float = 600.0
    workers: int = 0
    enable_model_management: bool = False
    access_log: bool = False
    enable_tracing: bool = False
    grace_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("port", "rest_api_port"):
            value = getattr(self, name)
            if not -1 <= value <= 65535:
                raise ServingError(f"{name}: expected 0 to 65535. Received: {value}.")
        if self.port == self.rest_api_port and self.port > 0:
            raise ServingError(f"rest_api_port: expected a port other than --port. Received: {self.port} for both.")
        if self.batching_parameters_file and not self.enable_batching:
            raise ServingError("batching_parameters_file: expected --enable_batching too. Received: only the file.")
        for name in ("grpc_max_threads", "rest_api_num_threads", "rest_api_timeout_in_ms"):
            if getattr(self, name) < 1:
                raise ServingError(f"{name}: expected at least 1. Received: {getattr(self, name)}.")

    def channel_arguments(self) -> list[tuple[str, Any]]:
        """Parse `grpc_channel_arguments`, "name=value,name=value", into gRPC's options."""
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


# Flags that only tensorflow_model_server has, 2.17. The embedded server names them when it refuses them.
STOCK_ONLY = (
    "enable_per_model_batching_parameters",
    "enable_profiler",
    "enable_serialization_as_tensor_content",
    "enable_signature_method_name_check",
    "enforce_session_run_timeout",
    "flush_filesystem_caches",
    "force_allow_any_version_labels_for_unavailable_models",
    "mixed_precision",
    "num_request_iterations_for_warmup",
    "num_tflite_interpreters_per_pool",
    "num_tflite_pools",
    "num_unload_threads",
    "per_process_gpu_memory_fraction",
    "platform_config_file",
    "prefer_tflite_model",
    "remove_unused_fields_from_bundle_metagraph",
    "should_retry_model_load",
    "skip_initialize_tpu",
    "tensorflow_session_config_file",
    "thread_pool_factory_config_file",
    "use_alts_credentials",
    "xla_cpu_compilation_enabled",
)
# Values of these flags that turn off what the embedded server does not have; it accepts them.
ABSENT = {"enable_profiler": "false"}
# Flags that tensorflow_model_server does not have and would refuse.
EMBEDDED_ONLY = (
    "host",
    "max_message_bytes",
    "max_request_seconds",
    "workers",
    "enable_model_management",
    "access_log",
    "enable_tracing",
    "grace_seconds",
)

_HELP = {
    "model_base_path": "the same as DIR",
    "model_name": "name of the model in requests",
    "port": "port of gRPC; 0 picks a free one",
    "rest_api_port": "port of REST and Prometheus; 0 turns both off",
    "host": "address to listen on; 0.0.0.0 listens on all, the default on this machine only",
    "model_config_file": "ModelServerConfig in text format, instead of DIR: several models, version policies, labels",
    "model_config_file_poll_wait_seconds": "how often to read that file again; 0 for never",
    "file_system_poll_wait_seconds": "how often to look for new versions; 0 for never",
    "num_load_threads": "number of models loaded at a time; 0 for one",
    "max_num_load_retries": "how often to retry a version that does not load",
    "load_retry_interval_micros": "time between these attempts, in microseconds",
    "allow_version_labels_for_unavailable_models": "accept labels of versions that are not loaded yet",
    "enable_model_warmup": "run the warm-up requests of a version before it is served",
    "saved_model_tags": "tags of the meta graph to load, separated by commas",
    "enable_batching": "run requests in batches: true for all models, false for none; by default, models exported by "
    "keras-tagger",
    "batching_parameters_file": "BatchingParameters in text format",
    "monitoring_config_file": "MonitoringConfig in text format: turns Prometheus on or off and sets its path",
    "ssl_config_file": "SSLConfig in text format: TLS for gRPC",
    "enable_grpc_healthcheck_service": "serve grpc.health.v1",
    "grpc_socket_path": "path of a Unix socket on which gRPC listens too",
    "grpc_channel_arguments": "gRPC options, as name=value,name=value",
    "grpc_max_threads": "number of gRPC requests handled at a time",
    "rest_api_timeout_in_ms": "timeout of a REST request, in milliseconds",
    "rest_api_num_threads": "number of REST requests handled at a time",
    "rest_api_enable_cors_support": "allow REST requests from web pages of other origins",
    "tensorflow_session_parallelism": "threads of a TensorFlow session; 0 for one per core",
    "tensorflow_intra_op_parallelism": "threads within an operation; 0 for tensorflow_session_parallelism",
    "tensorflow_inter_op_parallelism": "operations run at a time; 0 for tensorflow_session_parallelism",
    "max_message_bytes": "largest request and reply, in bytes; -1 for no limit",
    "max_request_seconds": "most audio in one request, in seconds, for models exported by keras-tagger; 0 for no limit",
    "workers": "number of requests, or batches, that run at a time; 0 for one per core",
    "enable_model_management": "let clients change the models with HandleReloadConfigRequest",
    "access_log": "log a line per request, with its id",
    "enable_tracing": "send OpenTelemetry traces, as the environment variables OTEL_... say (needs keras_tagger[otel])",
    "grace_seconds": "how long running requests may take after SIGTERM",
}


def add_flags(command: Any) -> None:
    """Add all flags to an `argparse` parser."""
    for field in dataclasses.fields(Flags):
        name, help = f"--{field.name}", _HELP[field.name]
        if isinstance(field.default, bool | None):
            kind: dict[str, Any] = {"type": _truth, "nargs": "?", "const": True, "metavar": "BOOL"}
        else:
            kind = {"type": type(field.default), "metavar": field.name.rsplit("_", 1)[-1].upper()}
        shown = "" if field.default in ("", None) else f" ({str(field.default).lower()})"
        command.add_argument(name, default=argparse.SUPPRESS, help=help + shown, **kind)
    for name in STOCK_ONLY:
        command.add_argument(f"--{name}", default=argparse.SUPPRESS, nargs="?", const="true", help=argparse.SUPPRESS)
    command.add_argument("--version", action=_PrintVersions, help="print the versions of keras_tagger and TensorFlow")


class _PrintVersions(argparse.Action):
    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        names = ("keras_tagger", "tensorflow", "tensorflow-serving-api")
        parser.exit(message="".join(f"{name} {metadata.version(name)}\n" for name in names))


def stock_flags_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the given flags that only tensorflow_model_server has."""
    return {name: getattr(arguments, name) for name in STOCK_ONLY if name in arguments}


def flags_of(arguments: argparse.Namespace, directory: str | None) -> tuple[Flags, dict[str, Any]]:
    """Return the flags of a command line.

    Args:
        arguments: What a parser with `add_flags` returned.
        directory: The command's DIR, if it was given.

    Returns:
        All flags, and the values of those that were given.

    Raises:
        ServingError: If values are impossible, or neither DIR nor --model_config_file was given.
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
        raise argparse.ArgumentTypeError(f"expected true or false. Received: {text}")
    return values[text.lower()]
