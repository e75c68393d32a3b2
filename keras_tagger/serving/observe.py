"""What is recorded of every request: its id, a line of the access log, and a trace.

A request brings its id as the header or metadata `x-request-id`, or gets one; the reply carries it, and every log line
that the request causes has it. A W3C `traceparent` gives the id of the trace. Traces are OpenTelemetry's: spans of
requests, and below them spans of runs of the model (the extra `otel`).
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc

from keras_tagger.errors import ServingError
from keras_tagger.serving import log
from keras_tagger.serving.http_server import HttpReply, HttpRequest

REQUEST_ID = "x-request-id"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_PRINTABLE = re.compile(r"[!-~]{1,128}")
# Probes and metrics, which come every few seconds.
_QUIET = ("/grpc.health.v1.Health/", "/v2/health/", "/monitoring/")
_TRACER = "keras_tagger.serving"

_tracer: contextvars.ContextVar[Any] = contextvars.ContextVar("tracer", default=None)


def make_tracer() -> Any:
    """Return a tracer of OpenTelemetry.

    If the program has set a tracer provider, it is used; otherwise one that sends spans over OTLP as the environment
    variables OTEL_... say.

    Raises:
        ServingError: If OpenTelemetry is not installed.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ServingError(
            'enable_tracing: expected OpenTelemetry, from pip install "keras_tagger[otel]". Received: it is missing.'
        ) from None
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        resource = Resource({SERVICE_NAME: "keras_tagger"}).merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    return trace.get_tracer(_TRACER)


@contextlib.contextmanager
def span(name: str, **attributes: Any) -> Iterator[None]:
    """Record a part of the current request as a span, if requests are traced."""
    tracer = _tracer.get()
    if tracer is None:
        yield
        return
    with tracer.start_as_current_span(name, attributes=attributes):
        yield


@dataclasses.dataclass
class _Request:
    """A request under observation.

    Attributes:
        name: Method and route, or the method of gRPC.
        path: The path.
        peer: Address of the client.
        id: The id of the request.
        trace: The id of its trace; "" without one.
        started: When it began, as `time.monotonic`.
    """

    name: str
    path: str
    peer: str
    id: str
    trace: str
    started: float = dataclasses.field(default_factory=time.monotonic)


class Observer:
    """Observes the requests of a server.

    Args:
        access_log: Whether to log a line per request.
        tracer: A tracer of OpenTelemetry; None for no traces.
    """

    def __init__(self, access_log: bool = False, tracer: Any = None) -> None:
        self._access_log = access_log
        self._tracer = tracer

    def http(self, handle: Callable[[HttpRequest], HttpReply]) -> Callable[[HttpRequest], HttpReply]:
        """Return a function that answers as `handle` does, and is observed."""

        def answer(request: HttpRequest) -> HttpReply:
            path = request.path.partition("?")[0]
            found = _request(f"{request.method} {_route(path)}", path, request.call.peer, request.headers)
            with contextlib.ExitStack() as stack:
                end = stack.enter_context(self.observed(found, request.headers, "http"))
                reply = handle(request)
                headers = (*reply.headers, (REQUEST_ID, found.id))
                if isinstance(reply.body, bytes):
                    end(reply.status, reply.status >= 500)
                    return dataclasses.replace(reply, headers=headers)
                body = _followed(reply.body, lambda: end(reply.status, False), stack.pop_all())
                return dataclasses.replace(reply, headers=headers, body=body)

        return answer

    def interceptor(self) -> grpc.ServerInterceptor:
        """Return an interceptor that observes the requests of a gRPC server."""
        return _Interceptor(self)

    @contextlib.contextmanager
    def observed(
        self, request: _Request, carrier: Mapping[str, str], system: str
    ) -> Iterator[Callable[[Any, bool], None]]:
        """Observe a request; the block calls what it gets with the status, and whether the server failed."""
        fields = {"request_id": request.id, **({"trace_id": request.trace} if request.trace else {})}
        with log.fields(**fields), contextlib.ExitStack() as stack:
            current = None
            if self._tracer is not None:
                from opentelemetry import propagate, trace

                token = _tracer.set(self._tracer)
                stack.callback(_reset, token)
                context = propagate.extract({name.lower(): value for name, value in carrier.items()})
                opened = self._tracer.start_as_current_span(
                    request.name, context, trace.SpanKind.SERVER, {"url.path": request.path, "request.id": request.id}
                )
                current = stack.enter_context(opened)

            def end(status: Any, failed: bool) -> None:
                if current is not None:
                    from opentelemetry.trace import StatusCode

                    key = "http.response.status_code" if system == "http" else "rpc.grpc.status_code"
                    current.set_attribute(key, status if isinstance(status, int) else status.value[0])
                    if failed:
                        current.set_status(StatusCode.ERROR)
                if self._access_log and not request.path.startswith(_QUIET):
                    shown = status if isinstance(status, int) else status.name
                    seconds = round(time.monotonic() - request.started, 6)
                    log.info(
                        "request",
                        method=request.name,
                        path=request.path,
                        status=shown,
                        seconds=seconds,
                        peer=request.peer,
                    )

            yield end


def _reset(token: contextvars.Token[Any]) -> None:
    # A reply in chunks may end in another thread than it began.
    with contextlib.suppress(ValueError):
        _tracer.reset(token)


def _followed(chunks: Iterator[bytes], end: Callable[[], None], stack: contextlib.ExitStack) -> Iterator[bytes]:
    with stack:
        try:
            yield from chunks
        finally:
            end()


class _Interceptor(grpc.ServerInterceptor):
    """Observes the methods of all services."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a request, observed."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        metadata = {key: value for key, value in handler_call_details.invocation_metadata if isinstance(value, str)}
        path = handler_call_details.method
        if path.startswith(_QUIET) or "ServerReflection" in path:
            return handler
        if handler.stream_unary is not None:
            return grpc.stream_unary_rpc_method_handler(
                self._wrapped(handler.stream_unary, path, metadata),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._wrapped_stream(handler.stream_stream, path, metadata),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return handler

    def _wrapped(self, method: Any, path: str, metadata: Mapping[str, str]) -> Any:
        def observed(requests: Any, context: Any) -> Any:
            with self._answering(path, metadata, context):
                return method(requests, context)

        return _with_threads_of(method, observed)

    def _wrapped_stream(self, method: Any, path: str, metadata: Mapping[str, str]) -> Any:
        def observed(requests: Any, context: Any) -> Iterator[Any]:
            with self._answering(path, metadata, context):
                yield from method(requests, context)

        return _with_threads_of(method, observed)

    @contextlib.contextmanager
    def _answering(self, path: str, metadata: Mapping[str, str], context: Any) -> Iterator[None]:
        request = _request(path[1:], path, context.peer(), metadata)
        context.set_trailing_metadata(((REQUEST_ID, request.id),))
        with self._observer.observed(request, metadata, "grpc") as end:
            try:
                yield
            except GeneratorExit:
                end(grpc.StatusCode.CANCELLED, False)
                raise
            except BaseException:
                status = context.code() or grpc.StatusCode.UNKNOWN
                end(status, status in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN))
                raise
            else:
                end(grpc.StatusCode.OK, False)


def _with_threads_of(method: Any, wrapper: Any) -> Any:
    # See grpc_services.with_own_threads.
    if (threads := getattr(method, "experimental_thread_pool", None)) is not None:
        wrapper.experimental_thread_pool = threads
    return wrapper


def _request(name: str, path: str, peer: str, headers: Mapping[str, str]) -> _Request:
    given = headers.get(REQUEST_ID, "")
    trace = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    # Anything else could fake a header or a field of the log.
    identity = given if _PRINTABLE.fullmatch(given) else uuid.uuid4().hex
    return _Request(name, path, peer, identity, trace[1] if trace else "")


def _route(path: str) -> str:
    """Return a path without names that clients choose, as traces are grouped by it."""
    return re.sub(r"(?<=/models/)[^/:]+", "MODEL", re.sub(r"(?<=/)(versions|labels)/[^/:]+", r"\1/VERSION", path))
