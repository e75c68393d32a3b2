"""The embedded server, which speaks TensorFlow Serving's gRPC and REST APIs for any SavedModel, and `serve`.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent import futures
from types import TracebackType
from typing import Any

import grpc
from tensorflow.core.protobuf import config_pb2

from keras_tagger.errors import ServingError
from keras_tagger.serving import log
from keras_tagger.serving.batching import Batcher
from keras_tagger.serving.config_files import (
    PROMETHEUS_PATH,
    BatchingOptions,
    ServerTls,
    read_batching,
    read_models,
    read_monitoring,
    read_tls,
)
from keras_tagger.serving.dispatch import Dispatcher
from keras_tagger.serving.flags import EMBEDDED_ONLY, Flags
from keras_tagger.serving.grpc_services import handlers
from keras_tagger.serving.health import Health, add_health, add_reflection
from keras_tagger.serving.http_server import HttpServer
from keras_tagger.serving.manager import Manager
from keras_tagger.serving.metrics import Metrics
from keras_tagger.serving.rest import Rest
from keras_tagger.serving.servable import Gate, Servable
from keras_tagger.serving.signals import Signals
from keras_tagger.serving.status import StatusError
from keras_tagger.serving.versions import ServedModel, require_versions
from keras_tagger.serving.warmup import warm_up

MODEL_SERVER = "tensorflow_model_server"
# When a server stops soon after a request, it accepts the requests that are already on their way for ARRIVING_SECONDS
# and then refuses new ones for REFUSING_SECONDS. On a busy machine a request can wait 0.2 s before it is begun.
RECENT_SECONDS = 5.0
ARRIVING_SECONDS = 0.25
REFUSING_SECONDS = 0.25
_STEP_SECONDS = 0.025


class Server:
    """The embedded server of all versions below a folder. Also a context manager.

    Args:
        base_path: Folder with one numbered folder per version of a SavedModel, any `tf.io.gfile` path. None if
            `model_config_file` is given.
        model_name: Name of the model in requests.
        port: TCP port of gRPC; 0 picks a free one, and the attribute `port` then names it.
        host: Address to listen on. There is no authentication: the default accepts requests of this machine only.
        max_message_bytes: Largest message received or sent, in bytes; -1 means no limit.
        workers: Number of requests that run at a time; the others wait. 0 means two per core.
        flags: Other fields of `Flags`. `rest_api_port=-1` picks a free port for REST.

    Attributes:
        flags: All flags, as `Flags`.
        port: TCP port of gRPC.
        rest_api_port: TCP port of REST; 0 if it is off.
        metrics: The metrics for Prometheus.
        idle: After `stop`: whether all running requests have ended.

    Example:
        >>> with Server("exported/", port=0, rest_api_port=-1) as server:
        ...     client = keras_tagger.client.Client(f"localhost:{server.port}")
    """

    def __init__(
        self,
        base_path: str | os.PathLike[str] | None = None,
        model_name: str = "keras_tagger",
        port: int = 8500,
        host: str = "127.0.0.1",
        max_message_bytes: int = -1,
        workers: int = 0,
        **flags: Any,
    ) -> None:
        self.flags = Flags(
            model_base_path="" if base_path is None else os.fspath(base_path),
            model_name=model_name,
            port=port,
            host=host,
            max_message_bytes=max_message_bytes,
            workers=workers,
            **flags,
        )
        self.port = port
        self.rest_api_port = self.flags.rest_api_port
        self.metrics = Metrics()
        self._stopping = threading.Event()
        self._closed = threading.Event()
        self._grpc: grpc.Server | None = None
        self._health: Health | None = None
        self._http: HttpServer | None = None
        self._batcher: Batcher | None = None
        self._dispatcher: Dispatcher | None = None
        self._manager: Manager | None = None
        self._polling: threading.Thread | None = None
        self.idle = True

    @property
    def version(self) -> int | None:
        """Version of the first model that answers requests without a version; None before `start`."""
        if self._manager is None or not self._manager.names():
            return None
        return self._manager.latest(self._manager.names()[0])

    def models(self) -> dict[str, int | None]:
        """Return the names of the models, each with the version that answers requests without one."""
        return {name: self._manager.latest(name) for name in self._manager.names()} if self._manager else {}

    def start(self) -> Server:
        """Load and warm up the models, then answer requests until `stop`.

        Returns:
            The server itself.

        Raises:
            ServingError: If a model has no version that loads, a configuration file is wrong, the host does not
                exist, or a port is taken.

        Example:
            >>> server = Server("exported/", port=8500).start()
            >>> server.wait()
        """
        flags = self.flags
        configs = (
            read_models(flags.model_config_file)
            if flags.model_config_file
            else [ServedModel(flags.model_name, flags.model_base_path)]
        )
        batching = (
            read_batching(flags.batching_parameters_file) if flags.batching_parameters_file else BatchingOptions()
        )
        tls = read_tls(flags.ssl_config_file) if flags.ssl_config_file else None
        prometheus = read_monitoring(flags.monitoring_config_file) if flags.monitoring_config_file else PROMETHEUS_PATH
        arguments = flags.channel_arguments()
        loader = _Loader(flags, self.metrics)
        self._manager = Manager(
            loader.load, flags.max_num_load_retries, flags.load_retry_interval_micros / 1e6, self._update_health
        )
        try:
            try:
                self._manager.configure(configs, flags.allow_version_labels_for_unavailable_models)
            except StatusError as refusal:
                raise ServingError(refusal.text) from None
            self._batcher = Batcher(batching) if flags.enable_batching else None
            dispatcher = self._dispatcher = Dispatcher(self._manager, self.metrics, self._batcher)
            self._grpc = self._grpc_server(dispatcher, arguments, tls)
            if flags.rest_api_port:
                self._http = self._http_server(dispatcher, prometheus)
                self.rest_api_port = self._http.port
            self._grpc.start()
        except BaseException:
            self.stop(0)
            raise
        if flags.file_system_poll_wait_seconds > 0:
            self._manager.watch(flags.file_system_poll_wait_seconds)
        if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
            self._polling = threading.Thread(target=self._poll_config, name="config", daemon=True)
            self._polling.start()
        return self

    def _update_health(self) -> None:
        if self._health is not None and self._manager is not None:
            self._health.update(self._manager.ready())

    def _grpc_server(
        self, dispatcher: Dispatcher, arguments: Sequence[tuple[str, Any]], tls: ServerTls | None
    ) -> grpc.Server:
        limit = self.flags.max_message_bytes
        server = grpc.server(
            futures.ThreadPoolExecutor(self.flags.grpc_max_threads, thread_name_prefix="grpc"),
            options=[
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", limit),
                # By default a second server could share the port and would silently take half of the requests.
                ("grpc.so_reuseport", 0),
                *arguments,
            ],
        )
        server.add_generic_rpc_handlers(handlers(dispatcher, self._closed))
        if self.flags.enable_grpc_healthcheck_service:
            self._health = add_health(server)
            self._update_health()
        add_reflection(server, self._health is not None, self._stopping)
        host = self.flags.host
        try:
            # If a name has two addresses, gRPC would accept to listen on one while another server has the other.
            host = host if ":" in host else socket.gethostbyname(host)
        except (OSError, UnicodeError) as error:
            raise ServingError(f"expected an address to listen on. Received: {host!r} ({error}).") from None
        address = f"{host}:{max(self.flags.port, 0)}"
        try:
            if tls is None:
                bound = server.add_insecure_port(address)
            else:
                credentials = grpc.ssl_server_credentials(
                    [(tls.key, tls.certificate)], tls.client_authority, require_client_auth=tls.client_verify
                )
                bound = server.add_secure_port(address, credentials)
        except (RuntimeError, ValueError):
            bound = 0
        if not bound:
            what = ", which is taken" if tls is None else ", which is taken, or a key that does not fit the certificate"
            raise ServingError(f"expected a free port to listen on. Received: {address}{what}.")
        self.port = bound
        return server

    def _http_server(self, dispatcher: Dispatcher, prometheus: str | None) -> HttpServer:
        flags = self.flags
        rest = Rest(dispatcher, prometheus, flags.rest_api_enable_cors_support)
        server = HttpServer(
            flags.host,
            max(flags.rest_api_port, 0),
            rest.reply,
            rest.error,
            flags.rest_api_num_threads,
            flags.rest_api_timeout_in_ms / 1000,
            flags.max_message_bytes,
        )
        server.start()
        return server

    def _poll_config(self) -> None:
        last: str | None = None
        while not self._stopping.wait(self.flags.model_config_file_poll_wait_seconds):
            assert self._manager is not None
            try:
                configs = read_models(self.flags.model_config_file)
                self._manager.configure(configs, self.flags.allow_version_labels_for_unavailable_models)
                last = None
            except (ServingError, StatusError) as error:
                text = error.text if isinstance(error, StatusError) else str(error)
                if text != last:
                    log.warning("model_config_file not applied", reason=text)
                last = text
            except Exception:
                log.error("model_config_file not applied")

    def stop(self, grace_seconds: float | None = None) -> None:
        """Refuse new requests, let running ones finish, and unload the models.

        Args:
            grace_seconds: Time that running requests get; the flag of that name by default.

        Example:
            >>> server.stop(grace_seconds=10.0)
        """
        grace = self.flags.grace_seconds if grace_seconds is None else grace_seconds
        self._stopping.set()
        if self._health is not None:
            self._health.close()
        if self._dispatcher is not None and time.monotonic() - self._dispatcher.last_seen < RECENT_SECONDS:
            # gRPC cancels calls that have arrived but not begun: let those begin, then refuse new ones.
            sleep_undisturbed(ARRIVING_SECONDS)
            self._closed.set()
            sleep_undisturbed(REFUSING_SECONDS)
        ended = self._grpc.stop(grace) if self._grpc is not None else None
        if self._http is not None:
            self._http.stop(grace)
        if ended is not None:
            ended.wait()
        if self._batcher is not None:
            self._batcher.close()
        if self._manager is not None:
            self.idle = self._manager.close()
        if self._polling is not None:
            self._polling.join()
        self._grpc = self._http = self._health = self._batcher = self._manager = self._polling = None

    def wait(self) -> None:
        """Block until the server is stopped."""
        if self._grpc is not None:
            self._grpc.wait_for_termination()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def sleep_undisturbed(seconds: float) -> None:
    """Sleep until this thread has woken on time for `seconds`, for at most eight times as long.

    If it wakes late, the machine is busy, and the threads that accept requests are late too.
    """
    end = time.monotonic() + 8 * seconds
    while seconds > 0 and (begun := time.monotonic()) < end:
        time.sleep(_STEP_SECONDS)
        slept = time.monotonic() - begun
        if slept < 2 * _STEP_SECONDS:
            seconds -= slept


class _Loader:
    """Loads versions of models, which share the cores."""

    def __init__(self, flags: Flags, metrics: Metrics) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        # Two per core: one runs while the request or reply of the other is read or written.
        self._gate = Gate(flags.workers or 2 * cores)
        self._warm_up = flags.enable_model_warmup
        self._metrics = metrics
        threads = flags.tensorflow_session_parallelism
        self._config = config_pb2.ConfigProto(
            intra_op_parallelism_threads=flags.tensorflow_intra_op_parallelism or threads,
            inter_op_parallelism_threads=flags.tensorflow_inter_op_parallelism or threads,
        )

    def load(self, name: str, folder: str, version: int) -> Servable:
        """Load one version and answer its warm-up requests."""
        status = "fail"
        try:
            servable = Servable(folder, version, self._gate, self._config)
            try:
                if self._warm_up:
                    warm_up(servable)
            except BaseException:
                servable.close()
                raise
            status = "success"
            return servable
        finally:
            self._metrics.loads.add(folder, status)


def serve(
    base_path: str | os.PathLike[str] | None = None,
    port: int = 8500,
    rest_api_port: int | None = None,
    model_name: str = "keras_tagger",
    host: str = "127.0.0.1",
    embedded: bool = False,
    **flags: Any,
) -> None:
    """Serve a model until SIGTERM or SIGINT.

    If `tensorflow_model_server` is on PATH, this process becomes that program. Otherwise, or with `embedded`, a
    `Server` answers: on a signal it finishes running requests, and the function returns. It logs "serving MODEL version
    N on HOST:PORT" when it is ready, and must be called in the main thread.

    Args:
        base_path: Folder with one numbered folder per version of a SavedModel; None if `model_config_file` is given.
        port: TCP port of gRPC.
        rest_api_port: TCP port of REST; None for no REST.
        model_name: Name of the model in requests.
        host: Address to listen on.
        embedded: Whether to use `Server` even if `tensorflow_model_server` is on PATH.
        flags: Other fields of `Flags`.

    Raises:
        ServingError: If no version of the model loads, or the port is taken.

    Example:
        >>> serve("exported/", port=8500, rest_api_port=8501)
    """
    base = "" if base_path is None else os.fspath(base_path)
    given: dict[str, Any] = {
        "model_base_path": base,
        "port": port,
        "rest_api_port": rest_api_port or 0,
        "model_name": model_name,
    }
    given.update(flags, host=host)
    # Scripts wait for the line that says it is ready.
    log.to_stderr()
    if shutil.which(MODEL_SERVER) and not embedded:
        _become_model_server(Flags(**given), given)
    given.pop("model_base_path")
    server = Server(base or None, **given)
    with Signals(signal.SIGTERM, signal.SIGINT) as signals:
        with server:
            for name, version in server.models().items():
                address = f"{host}:{server.port}"
                log.info(f"serving {name} version {version} on {address}", rest_api_port=server.rest_api_port)
            received = signals.next()
            log.info(
                f"{received.name}: stopping when running requests are done", grace_seconds=server.flags.grace_seconds
            )
        log.info("stopped", idle=server.idle)
        if not server.idle:
            # A graph that still runs would keep the process alive, and cannot be interrupted.
            sys.stderr.flush()
            os._exit(0)


def _become_model_server(flags: Flags, given: Mapping[str, Any]) -> None:
    """Replace this process by `tensorflow_model_server`, after checking that there is something to serve."""
    if flags.model_base_path and not flags.model_config_file:
        require_versions(flags.model_base_path)
    if flags.host not in ("0.0.0.0", "[::]"):
        log.warning(f"{MODEL_SERVER} listens on all addresses of this machine, not only on {flags.host}")
    base = flags.model_base_path
    values = {**given, "model_base_path": base if not base or "://" in base else os.path.abspath(base)}
    order = [
        field.name for field in dataclasses.fields(Flags) if field.name in values and field.name not in EMBEDDED_ONLY
    ]
    first = ["port", "rest_api_port", "model_name", "model_base_path"]
    names = [*first, *(name for name in order if name not in first)]
    if left := [name for name in given if name in EMBEDDED_ONLY and name != "host"]:
        log.warning(f"{MODEL_SERVER} has no flags {', '.join(left)}")
    texts = {name: str(values[name]).lower() if isinstance(values[name], bool) else str(values[name]) for name in names}
    os.execvp(MODEL_SERVER, [MODEL_SERVER, *(f"--{name}={text}" for name, text in texts.items() if text)])
