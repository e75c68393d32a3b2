"""Health checks (grpc.health.v1) and server reflection, from grpcio-health-checking and grpcio-reflection."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from keras_tagger.client.stream_messages import STREAM
from keras_tagger.serving import open_inference
from keras_tagger.serving.grpc_services import METHODS, MODEL_SERVICE, PREDICTION_SERVICE, with_own_threads

SERVICES = (health.OVERALL_HEALTH, "PredictionService", "ModelService", PREDICTION_SERVICE, MODEL_SERVICE)
HEALTH_SERVICE = health.SERVICE_NAME
# A stream of Watch or of reflection keeps a thread for as long as its client likes, but no thread of requests.
MAX_STREAMS = 1000
CHECK_THREADS = 2


class Health(health.HealthServicer):
    """The health of the server as a whole, of PredictionService and of ModelService; not serving at first.

    Checks and streams have threads of their own, so that they are answered however many requests wait.
    """

    def __init__(self) -> None:
        # The library's streams without threads can block the server: a change of state waits, under the lock, for the
        # thread that would end a cancelled stream, and that waits for the lock.
        super().__init__(experimental_non_blocking=False)
        self._streams: set[Any] = set()
        self.update(False)

    def update(self, ready: bool) -> None:
        """Set the state of all services."""
        state = health_pb2.HealthCheckResponse
        for service in SERVICES:
            self.set(service, state.SERVING if ready else state.NOT_SERVING)

    def close(self) -> None:
        """Report NOT_SERVING from now on, and end the streams of Watch, which would hold up the server's stop."""
        self.enter_graceful_shutdown()
        for stream in list(self._streams):
            stream.close()

    def Watch(self, request: Any, context: grpc.ServicerContext, send_response_callback: Any = None) -> Any:  # noqa: N802
        """Stream the states of a service."""
        stream = super().Watch(request, context)
        self._streams.add(stream)
        if not context.add_callback(lambda: self._streams.discard(stream)):
            stream.close()
        return stream


class _Reflection(reflection.ReflectionServicer):
    """Server reflection that ends its streams when the server stops."""

    def __init__(self, services: Sequence[str], stopping: threading.Event) -> None:
        super().__init__(services, _service_descriptors())
        self._stopping = stopping

    def ServerReflectionInfo(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        """Answer requests about services, files and symbols."""
        until_stopped = itertools.takewhile(lambda _: not self._stopping.is_set(), request_iterator)
        return super().ServerReflectionInfo(until_stopped, context)


def add_health(server: grpc.Server) -> Health:
    """Add the health service to a gRPC server."""
    servicer = Health()
    handlers = {
        "Check": grpc.unary_unary_rpc_method_handler(
            with_own_threads(servicer.Check, CHECK_THREADS),
            health_pb2.HealthCheckRequest.FromString,
            health_pb2.HealthCheckResponse.SerializeToString,
        ),
        "Watch": grpc.unary_stream_rpc_method_handler(
            with_own_threads(servicer.Watch, MAX_STREAMS),
            health_pb2.HealthCheckRequest.FromString,
            health_pb2.HealthCheckResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(health.SERVICE_NAME, handlers)])
    return servicer


def add_reflection(server: grpc.Server, services: Sequence[str], stopping: threading.Event) -> None:
    """Add reflection of itself and of other services to a gRPC server."""
    servicer = _Reflection([*services, reflection.SERVICE_NAME], stopping)
    handler = grpc.stream_stream_rpc_method_handler(
        with_own_threads(servicer.ServerReflectionInfo, MAX_STREAMS),
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = grpc.method_handlers_generic_handler(reflection.SERVICE_NAME, {"ServerReflectionInfo": handler})
    server.add_generic_rpc_handlers([handlers])


def _service_descriptors() -> descriptor_pool.DescriptorPool:
    """Return a pool with the descriptors of all services and of their messages.

    tensorflow-serving-api has descriptors of the messages only: its modules with the services' descriptors cannot be
    imported with current protobuf.
    """
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(file: Any) -> None:
        if file.name not in added:
            added.add(file.name)
            for other in file.dependencies:
                add(other)
            pool.AddSerializedFile(file.serialized_pb)

    add(health_pb2.DESCRIPTOR)
    add(reflection_pb2.DESCRIPTOR)
    add(open_inference.PROTOCOL.file)
    add(STREAM.file)
    for service, methods in METHODS.items():
        package, _, name = service.rpartition(".")
        file = descriptor_pb2.FileDescriptorProto(name=f"{service}.proto", package=package, syntax="proto3")
        described = file.service.add(name=name)
        for method, messages in methods.items():
            sent, replied = (message.DESCRIPTOR for message in messages)
            described.method.add(name=method, input_type=f".{sent.full_name}", output_type=f".{replied.full_name}")
            for one in (sent.file, replied.file):
                add(one)
                if one.name not in file.dependency:
                    file.dependency.append(one.name)
        pool.AddSerializedFile(file.SerializeToString())
    return pool
