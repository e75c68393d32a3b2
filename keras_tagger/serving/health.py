"""grpc.health.v1 and server reflection, without packages that want another protobuf than TensorFlow 2.17 takes.

Messages are those of grpc/health/v1/health.proto and grpc/reflection/{v1,v1alpha}/reflection.proto, made at run time
in a pool of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from keras_tagger.serving.services import METHODS, MODEL_SERVICE, PREDICTION_SERVICE

HEALTH_SERVICE = "grpc.health.v1.Health"
REFLECTION_SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
# A stream keeps a thread for as long as its client likes.
MAX_STREAMS = 8
WATCH_SECONDS = 0.5

_FIELD = descriptor_pb2.FieldDescriptorProto
# message: field: (number, type, repeated, in the oneof "message")
_HEALTH: dict[str, dict[str, tuple[int, Any, bool]]] = {
    "HealthCheckRequest": {"service": (1, _FIELD.TYPE_STRING, False)},
    # An enumeration on the wire is an int32.
    "HealthCheckResponse": {"status": (1, _FIELD.TYPE_INT32, False)},
}
_REFLECTION: dict[str, dict[str, tuple[int, Any, bool]]] = {
    "ExtensionRequest": {
        "containing_type": (1, _FIELD.TYPE_STRING, False),
        "extension_number": (2, _FIELD.TYPE_INT32, False),
    },
    "ServerReflectionRequest": {
        "host": (1, _FIELD.TYPE_STRING, False),
        "file_by_filename": (3, _FIELD.TYPE_STRING, False),
        "file_containing_symbol": (4, _FIELD.TYPE_STRING, False),
        "file_containing_extension": (5, "ExtensionRequest", False),
        "all_extension_numbers_of_type": (6, _FIELD.TYPE_STRING, False),
        "list_services": (7, _FIELD.TYPE_STRING, False),
    },
    "FileDescriptorResponse": {"file_descriptor_proto": (1, _FIELD.TYPE_BYTES, True)},
    "ServiceResponse": {"name": (1, _FIELD.TYPE_STRING, False)},
    "ListServiceResponse": {"service": (1, "ServiceResponse", True)},
    "ErrorResponse": {"error_code": (1, _FIELD.TYPE_INT32, False), "error_message": (2, _FIELD.TYPE_STRING, False)},
    "ServerReflectionResponse": {
        "valid_host": (1, _FIELD.TYPE_STRING, False),
        "original_request": (2, "ServerReflectionRequest", False),
        "file_descriptor_response": (4, "FileDescriptorResponse", False),
        "list_services_response": (6, "ListServiceResponse", False),
        "error_response": (7, "ErrorResponse", False),
    },
}
_ONEOF = {
    "file_by_filename",
    "file_containing_symbol",
    "file_containing_extension",
    "all_extension_numbers_of_type",
    "list_services",
}


def health_handler(ready: Callable[[], bool], stopping: threading.Event) -> grpc.GenericRpcHandler:
    """Check and Watch; the services "" and both of TensorFlow Serving are SERVING when `ready()`."""
    known = {"", "PredictionService", "ModelService", PREDICTION_SERVICE, MODEL_SERVICE}
    streams = threading.Semaphore(MAX_STREAMS)

    def status() -> int:
        return SERVING if ready() and not stopping.is_set() else NOT_SERVING

    def check(request: Any, context: grpc.ServicerContext) -> Any:
        if request.service not in known:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return _CLASSES["HealthCheckResponse"](status=status())

    def watch(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with _stream(streams, context):
            last = None
            while context.is_active():
                now = status() if request.service in known else SERVICE_UNKNOWN
                if now != last:
                    yield _CLASSES["HealthCheckResponse"](status=now)
                    last = now
                if stopping.wait(WATCH_SECONDS):
                    if last == SERVING:
                        yield _CLASSES["HealthCheckResponse"](status=NOT_SERVING)
                    return

    forms = {
        "request_deserializer": _reader("HealthCheckRequest"),
        "response_serializer": lambda reply: reply.SerializeToString(),
    }
    return grpc.method_handlers_generic_handler(
        HEALTH_SERVICE,
        {
            "Check": grpc.unary_unary_rpc_method_handler(check, **forms),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, **forms),
        },
    )


def reflection_handlers(services: list[str], stopping: threading.Event) -> list[grpc.GenericRpcHandler]:
    """ServerReflectionInfo of both versions, over the descriptors of tensorflow-serving-api."""
    pool = _described()
    streams = threading.Semaphore(MAX_STREAMS)

    def answer(request: Any) -> Any:
        reply = _CLASSES["ServerReflectionResponse"](valid_host=request.host, original_request=request)
        kind = request.WhichOneof("message_request")
        try:
            if kind == "list_services":
                reply.list_services_response.service.extend(_CLASSES["ServiceResponse"](name=name) for name in services)
            elif kind == "file_by_filename":
                _add_files(reply, pool.FindFileByName(request.file_by_filename))
            elif kind == "file_containing_symbol":
                _add_files(reply, pool.FindFileContainingSymbol(request.file_containing_symbol))
            else:
                reply.error_response.error_code = grpc.StatusCode.UNIMPLEMENTED.value[0]
                reply.error_response.error_message = "expected a file name, a symbol or list_services."
        except KeyError:
            reply.error_response.error_code = grpc.StatusCode.NOT_FOUND.value[0]
            reply.error_response.error_message = "not found"
        return reply

    def info(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        with _stream(streams, context):
            for request in requests:
                if stopping.is_set():
                    return
                yield answer(request)

    method = grpc.stream_stream_rpc_method_handler(
        info,
        request_deserializer=_reader("ServerReflectionRequest"),
        response_serializer=lambda reply: reply.SerializeToString(),
    )
    return [
        grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": method})
        for service in REFLECTION_SERVICES
    ]


class _stream:  # noqa: N801  (used as a context manager only)
    """A place among the streams, or RESOURCE_EXHAUSTED."""

    def __init__(self, places: threading.Semaphore, context: grpc.ServicerContext) -> None:
        self._places = places
        self._context = context

    def __enter__(self) -> None:
        if not self._places.acquire(blocking=False):
            self._context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"expected at most {MAX_STREAMS} open streams.")

    def __exit__(self, *error: object) -> None:
        self._places.release()


def _add_files(reply: Any, file: Any) -> None:
    """A file and all that it imports, each once, what is imported first."""
    seen: dict[str, bytes] = {}

    def add(one: Any) -> None:
        if one.name not in seen:
            seen[one.name] = b""
            for other in one.dependencies:
                add(other)
            seen[one.name] = one.serialized_pb

    add(file)
    # The file asked for comes first.
    ordered = [seen.pop(file.name), *reversed(seen.values())]
    reply.file_descriptor_response.file_descriptor_proto.extend(ordered)


def _described() -> descriptor_pool.DescriptorPool:
    """A pool with the services of TensorFlow Serving and the files of their messages."""
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(file: Any) -> None:
        if file.name not in added:
            added.add(file.name)
            for other in file.dependencies:
                add(other)
            pool.AddSerializedFile(file.serialized_pb)

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


def _reader(name: str) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        # gRPC logs a stack where this raises, so what is no message is an empty one.
        try:
            return _CLASSES[name].FromString(data)
        except DecodeError:
            return _CLASSES[name]()

    return read


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    made = {}
    for package, messages in (("grpc.health.v1", _HEALTH), ("grpc.reflection.v1", _REFLECTION)):
        file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
        for name, fields in messages.items():
            message = file.message_type.add(name=name)
            if name == "ServerReflectionRequest":
                message.oneof_decl.add(name="message_request")
            for field, (number, kind, repeated) in fields.items():
                added = message.field.add(name=field, number=number, label=3 if repeated else 1)
                if isinstance(kind, str):
                    added.type, added.type_name = _FIELD.TYPE_MESSAGE, f".{package}.{kind}"
                else:
                    added.type = kind
                if field in _ONEOF and name == "ServerReflectionRequest":
                    added.oneof_index = 0
        pool.AddSerializedFile(file.SerializeToString())
        for name in messages:
            made[name] = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
    return made


_CLASSES = _classes()
