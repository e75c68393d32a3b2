"""The embedded server, which speaks TensorFlow Serving's gRPC and REST APIs for any SavedModel, and `serve`.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import os
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
from tensorflow.core.protobuf import config_pb2

from keras_tagger.audio.read_ahead import CORES
from keras_tagger.client.stream_messages import STREAM
from keras_tagger.errors import ServingError
from keras_tagger.serving import log, open_inference, streaming_api
from keras_tagger.serving.addresses import bind, resolve, with_port
from keras_tagger.serving.compression import compressed
from keras_tagger.serving.config_files import (
    PROMETHEUS_PATH,
    BatchingOptions,
    read_batching,
    read_models,
    read_monitoring,
)
from keras_tagger.serving.dispatch import Dispatcher
from keras_tagger.serving.flags import ABSENT, EMBEDDED_ONLY, Flags
from keras_tagger.serving.grpc_services import MODEL_SERVICE, PREDICTION_SERVICE, Handlers, RequestThreads
from keras_tagger.serving.health import HEALTH_SERVICE, Health, add_health, add_reflection
from keras_tagger.serving.http_server import HttpServer
from keras_tagger.serving.manager import Manager
from keras_tagger.serving.metrics import Metrics
from keras_tagger.serving.observe import Observer, make_tracer
from keras_tagger.serving.rest import Rest
from keras_tagger.serving.scheduler import Scheduler
from keras_tagger.serving.servable import Servable
from keras_tagger.serving.signals import Signals
from keras_tagger.serving.status import StatusError
from keras_tagger.serving.streaming import Streaming
from keras_tagger.serving.tls import Certificates
from keras_tagger.serving.versions import ServedModel, require_versions
from keras_tagger.serving.warmup import warm_up

MODEL_SERVER = "tensorflow_model_server"
ALL_ADDRESSES = ("0.0.0.0", "::", "[::]")
# When a server stops soon after a request, it accepts the requests that are already on their way for ARRIVING_SECONDS
# and then refuses new ones for REFUSING_SECONDS. On a busy machine a request can wait 0.2 s before it is begun.
RECENT_SECONDS = 5.0
ARRIVING_SECONDS = 0.25
REFUSING_SECONDS = 0.25
# What is closed after the grace still gets this long.
LEAST_SECONDS = 0.5
_STEP_SECONDS = 0.025
# Batching as it is by default: a batch is what waits when a place becomes free, up to these limits.
RUNS_PER_CORE = 1
ADAPTIVE_ROWS = 16
# 16 clips of 4 s, or two of 30 s, which the graph cuts into windows anyway.
ADAPTIVE_BYTES = 2**22
ADAPTIVE_QUEUE = 64


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
        self._scheduler: Scheduler | None = None
        self._dispatcher: Dispatcher | None = None
        self._manager: Manager | None = None
        self._polling: threading.Thread | None = None
        self._not_applied = ""
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
        batching = read_batching(flags.batching_parameters_file) if flags.batching_parameters_file else self._batching()
        certificates = Certificates(flags.ssl_config_file) if flags.ssl_config_file else None
        if certificates is not None and flags.rest_api_port:
            log.warning("REST is not encrypted, and asks for no certificate", rest_api_port=flags.rest_api_port)
        prometheus = read_monitoring(flags.monitoring_config_file) if flags.monitoring_config_file else PROMETHEUS_PATH
        arguments = flags.channel_arguments()
        observer = Observer(flags.access_log, make_tracer() if flags.enable_tracing else None)
        loader = _Loader(flags, self.metrics)
        self._manager = Manager(
            loader.load,
            flags.max_num_load_retries,
            flags.load_retry_interval_micros / 1e6,
            self._update_health,
            flags.num_load_threads,
        )
        try:
            try:
                self._manager.configure(configs, flags.allow_version_labels_for_unavailable_models)
            except StatusError as refusal:
                raise ServingError(refusal.text) from None
            scheduler = self._scheduler = Scheduler(batching, flags.enable_batching)
            self.metrics.watch(lambda: scheduler.queued, lambda: scheduler.running)
            dispatcher = self._dispatcher = Dispatcher(
                self._manager,
                self.metrics,
                scheduler,
                flags.max_request_seconds,
                flags.enable_model_management,
                flags.allow_version_labels_for_unavailable_models,
            )
            streaming = Streaming(dispatcher)
            self._grpc = self._grpc_server(dispatcher, streaming, observer, arguments, certificates)
            if flags.rest_api_port:
                self._http = self._http_server(dispatcher, streaming, observer, prometheus)
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

    def _batching(self) -> BatchingOptions:
        flags = self.flags
        if flags.enable_batching:
            return BatchingOptions(threads=flags.workers or CORES)
        return BatchingOptions(
            max_batch_size=ADAPTIVE_ROWS,
            max_batch_bytes=ADAPTIVE_BYTES,
            max_enqueued_batches=ADAPTIVE_QUEUE,
            threads=flags.workers or RUNS_PER_CORE * CORES,
        )

    def _update_health(self) -> None:
        if self._health is not None and self._manager is not None:
            self._health.update(self._manager.ready())

    def _grpc_server(
        self,
        dispatcher: Dispatcher,
        streaming: Streaming,
        observer: Observer,
        arguments: Sequence[tuple[str, Any]],
        certificates: Certificates | None,
    ) -> grpc.Server:
        limit = self.flags.max_message_bytes
        threads = RequestThreads(self.flags.grpc_max_threads)
        server = grpc.server(
            threads,
            interceptors=[observer.interceptor()],
            options=[
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", limit),
                # By default a second server could share the port and would silently take half of the requests.
                ("grpc.so_reuseport", 0),
                *arguments,
            ],
        )
        others = open_inference.grpc_handlers(open_inference.OpenInference(dispatcher), self._closed, threads)
        server.add_generic_rpc_handlers(
            [
                Handlers(dispatcher, threads, self._closed, others),
                streaming_api.grpc_handlers(dispatcher, streaming, self._closed),
            ]
        )
        services = [PREDICTION_SERVICE, MODEL_SERVICE, open_inference.PROTOCOL.service, STREAM.service]
        if self.flags.enable_grpc_healthcheck_service:
            self._health = add_health(server)
            self._update_health()
            services.append(HEALTH_SERVICE)
        add_reflection(server, services, self._stopping)
        # gRPC would only say that it cannot listen, and of a name with two addresses accept to listen on one.
        address = resolve(self.flags.host)
        bind(address, max(self.flags.port, 0)).close()
        target = with_port(address, max(self.flags.port, 0))
        try:
            bound = (
                server.add_insecure_port(target)
                if certificates is None
                else server.add_secure_port(target, certificates.credentials())
            )
        except (RuntimeError, ValueError):
            bound = 0
        if not bound:
            raise ServingError(f"expected a free port to listen on. Received: {target}, which is taken.")
        self.port = bound
        if self.flags.grpc_socket_path:
            _listen_on_socket(server, self.flags.grpc_socket_path)
        return server

    def _http_server(
        self, dispatcher: Dispatcher, streaming: Streaming, observer: Observer, prometheus: str | None
    ) -> HttpServer:
        flags = self.flags
        rest = Rest(dispatcher, prometheus, flags.rest_api_enable_cors_support)
        open_inference.add_routes(rest, open_inference.OpenInference(dispatcher))
        streaming_api.add_routes(rest, dispatcher, streaming)
        server = HttpServer(
            flags.host,
            max(flags.rest_api_port, 0),
            observer.http(compressed(rest.reply)),
            rest.error,
            flags.rest_api_num_threads,
            flags.rest_api_timeout_in_ms / 1000,
            flags.max_message_bytes,
        )
        server.stream(streaming_api.HTTP_PATTERN)
        server.start()
        return server

    def _poll_config(self) -> None:
        while not self._stopping.wait(self.flags.model_config_file_poll_wait_seconds):
            self.reload()

    def reload(self) -> None:
        """Read the `model_config_file` again, if there is one; if it cannot be applied, log why and go on as before.

        Example:
            >>> server.reload()
        """
        if self._manager is None or not self.flags.model_config_file:
            return
        reason = ""
        try:
            configs = read_models(self.flags.model_config_file)
            self._manager.configure(configs, self.flags.allow_version_labels_for_unavailable_models)
        except (ServingError, StatusError) as error:
            reason = error.text if isinstance(error, StatusError) else str(error)
        except Exception:
            log.error("model_config_file not applied")
        # The same reason is logged once, not at every poll.
        if reason and reason != self._not_applied:
            log.warning("model_config_file not applied", reason=reason)
        self._not_applied = reason

    def stop(self, grace_seconds: float | None = None) -> None:
        """Refuse new requests, let running ones finish, and unload the models.

        Args:
            grace_seconds: Time until the server has stopped; running requests that take longer are cut off. By
                default the flag of that name.

        Example:
            >>> server.stop(grace_seconds=10.0)
        """
        end = time.monotonic() + (self.flags.grace_seconds if grace_seconds is None else grace_seconds)

        def left(least: float = 0.0) -> float:
            return max(end - time.monotonic(), least)

        self._stopping.set()
        if self._health is not None:
            self._health.close()
        if self._dispatcher is not None and time.monotonic() - self._dispatcher.last_seen < RECENT_SECONDS:
            # gRPC cancels calls that have arrived but not begun: let those begin, then refuse new ones.
            sleep_undisturbed(min(ARRIVING_SECONDS, left() / 4), left() / 4)
            self._closed.set()
            sleep_undisturbed(min(REFUSING_SECONDS, left() / 4), left() / 4)
        ended = self._grpc.stop(left()) if self._grpc is not None else None
        if self._http is not None:
            self._http.stop(left())
        if ended is not None:
            ended.wait(left(LEAST_SECONDS))
        if self._scheduler is not None:
            self._scheduler.close(left(LEAST_SECONDS))
        if self._manager is not None:
            self.idle = self._manager.close(left(LEAST_SECONDS))
        if self._dispatcher is not None:
            self._dispatcher.request_logs.close()
        if self._polling is not None:
            self._polling.join(left(LEAST_SECONDS))
        self._grpc = self._http = self._health = self._scheduler = self._manager = self._polling = None

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


def sleep_undisturbed(seconds: float, most: float = math.inf) -> None:
    """Sleep until this thread has woken on time for `seconds`, for at most eight times as long and at most `most`.

    If it wakes late, the machine is busy, and the threads that accept requests are late too.
    """
    end = time.monotonic() + min(8 * seconds, most)
    while seconds > 0 and (begun := time.monotonic()) < end:
        time.sleep(_STEP_SECONDS)
        slept = time.monotonic() - begun
        if slept < 2 * _STEP_SECONDS:
            seconds -= slept


def _listen_on_socket(server: grpc.Server, path: str) -> None:
    if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
        raise ServingError(f"grpc_socket_path: expected the path of a socket. Received: {path}, which is another file.")
    try:
        bound = server.add_insecure_port(f"unix:{path}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise ServingError(f"grpc_socket_path: expected a path where a socket can be created. Received: {path}.")


class _Loader:
    """Loads versions of models, which share the cores."""

    def __init__(self, flags: Flags, metrics: Metrics) -> None:
        self._tags = flags.saved_model_tags.split(",")
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
            servable = Servable(folder, version, self._config, self._tags)
            try:
                if self._warm_up:
                    warm_up(servable)
            except BaseException:
                servable.close()
                raise
            status = "success"
            return servable
        finally:
            self._metrics.loads.labels(folder, status).inc()


def serve(
    base_path: str | os.PathLike[str] | None = None,
    port: int = 8500,
    rest_api_port: int | None = None,
    model_name: str = "keras_tagger",
    host: str = "127.0.0.1",
    embedded: bool = False,
    stock_flags: Mapping[str, str] | None = None,
    **flags: Any,
) -> None:
    """Serve a model until SIGTERM or SIGINT.

    If `tensorflow_model_server` is on PATH and `host` is "0.0.0.0", this process becomes that program, which always
    listens on all addresses. Otherwise, or with `embedded`, a `Server` answers: it logs "serving MODEL version N on
    HOST:PORT" when it is ready, reads its configuration again on SIGHUP, and finishes running requests on SIGTERM or
    SIGINT; then the function returns. It must be called in the main thread.

    Args:
        base_path: Folder with one numbered folder per version of a SavedModel; None if `model_config_file` is given.
        port: TCP port of gRPC.
        rest_api_port: TCP port of REST; None for no REST.
        model_name: Name of the model in requests.
        host: Address to listen on.
        embedded: Whether to use `Server` even if `tensorflow_model_server` is on PATH.
        stock_flags: Flags that only `tensorflow_model_server` has.
        flags: Other fields of `Flags`.

    Raises:
        ServingError: If no version of the model loads, the port is taken, or `stock_flags` need the other server.

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
    if not embedded and shutil.which(MODEL_SERVER):
        if host in ALL_ADDRESSES:
            _become_model_server(Flags(**given), given, stock_flags or {})
        log.info(f"{MODEL_SERVER} would listen on all addresses; the embedded server listens on {host} only", host=host)
    if missing := [name for name, text in (stock_flags or {}).items() if ABSENT.get(name) != text.lower()]:
        raise ServingError(
            "serve: expected flags of the embedded server. Received: "
            f"{', '.join(f'--{name}' for name in missing)}, which only {MODEL_SERVER} has."
        )
    given.pop("model_base_path")
    server = Server(base or None, **given)
    with Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        with server:
            for name, version in server.models().items():
                address = with_port(host, server.port)
                log.info(f"serving {name} version {version} on {address}", rest_api_port=server.rest_api_port)
            # What lives to the end need not be looked at while requests run.
            gc.collect()
            gc.freeze()
            while (received := signals.next()) is signal.SIGHUP:
                log.info("SIGHUP: reading the configuration again")
                server.reload()
            log.info(f"{received.name}: stopping", grace_seconds=server.flags.grace_seconds)
        log.info("stopped", idle=server.idle)
        if not server.idle:
            # A graph that still runs would keep the process alive, and cannot be interrupted.
            sys.stderr.flush()
            os._exit(0)


def _become_model_server(flags: Flags, given: Mapping[str, Any], stock_flags: Mapping[str, str]) -> None:
    """Replace this process by `tensorflow_model_server`, after checking that there is something to serve."""
    if flags.model_base_path and not flags.model_config_file:
        require_versions(flags.model_base_path)
    base = flags.model_base_path
    values = {
        # On by default here, off there.
        "enable_grpc_healthcheck_service": flags.enable_grpc_healthcheck_service,
        **given,
        "model_base_path": base if not base or "://" in base else os.path.abspath(base),
    }
    first = ["port", "rest_api_port", "model_name", "model_base_path"]
    names = [field.name for field in dataclasses.fields(Flags) if field.name in values and field.name not in first]
    if left := [name for name in names if name in EMBEDDED_ONLY and name != "host"]:
        log.warning(f"{MODEL_SERVER} has no flags {', '.join(left)}")
    texts = {name: _text(values[name]) for name in [*first, *names] if name not in EMBEDDED_ONLY}
    texts.update(stock_flags)
    os.execvp(MODEL_SERVER, [MODEL_SERVER, *(f"--{name}={text}" for name, text in texts.items() if text)])


def _text(value: Any) -> str:
    """Return a value as tensorflow_model_server reads it, which knows no fractions of a second."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(math.ceil(value)) if isinstance(value, float) else str(value)
