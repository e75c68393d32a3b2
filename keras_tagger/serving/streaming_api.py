"""Streams over gRPC (`keras_tagger.AudioTagging`, examples/audio_tagging.proto) and over HTTP.

    POST /v1/models/M[/versions/N|/labels/L]:stream?encoding=int16&sample_rate=44100&channels=2&contributions=true

takes audio as the body and replies with a line of JSON for each window as it comes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import threading
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import numpy.typing as npt
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import model_pb2

from keras_tagger.client.stream_messages import STREAM
from keras_tagger.serving.dispatch import Dispatcher, internal
from keras_tagger.serving.grpc_services import call_of, with_own_threads
from keras_tagger.serving.http_server import HttpReply, HttpRequest
from keras_tagger.serving.rest import MODEL_PATTERN, Rest, spec_of
from keras_tagger.serving.scheduler import Call, cancelled
from keras_tagger.serving.status import StatusError, invalid_argument, truncate
from keras_tagger.serving.streaming import FILE, MAX_STREAMS, Part, Streaming, StreamOptions

HTTP_PATTERN = MODEL_PATTERN + ":stream"
MAX_REFUSED_BYTES = 2**24
DEFAULT_MODEL = "keras_tagger"
LINES = "application/x-ndjson"


def grpc_handlers(dispatcher: Dispatcher, streaming: Streaming, closed: threading.Event) -> grpc.GenericRpcHandler:
    """Return the handler of `keras_tagger.AudioTagging`.

    Args:
        dispatcher: Counts the streams.
        streaming: Answers them.
        closed: Once set, new streams are answered with UNAVAILABLE.
    """

    def stream(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        call = call_of(context)
        name, refusal = "", None
        try:
            if not context.add_callback(call.cancel):
                raise cancelled()
            if closed.is_set():
                raise StatusError(grpc.StatusCode.UNAVAILABLE, "The server is shutting down.")
            first = _parsed(next(messages, b""))
            if not first.HasField("config"):
                raise invalid_argument("expected a config in the first message. Received: none.")
            options = _options(first.config)
            name = options.spec.name
            pieces = itertools.chain([first.audio], (_parsed(message).audio for message in messages))
            answer = streaming.answer(options, _until_cancelled(pieces, call), call, context.cancel)
            with dispatcher.metrics.in_flight.track_inprogress(), answer as (model, version, parts):
                tags: tuple[str, ...] = model.tags
                for part in parts:
                    yield _message(part, tags, version).SerializeToString()
                    tags = ()
        except StatusError as caught:
            refusal = StatusError(caught.code, caught.text)
        except grpc.RpcError:
            refusal = cancelled()
        except Exception:
            refusal = internal("Stream")
        dispatcher.count(name, refusal.code.name if refusal else "OK", "Stream", "GRPC", call)
        if refusal is not None:
            context.abort(refusal.code, truncate(refusal.text))

    handler = grpc.stream_stream_rpc_method_handler(with_own_threads(stream, MAX_STREAMS))
    return grpc.method_handlers_generic_handler(STREAM.service, {"Stream": handler})


def add_routes(rest: Rest, dispatcher: Dispatcher, streaming: Streaming) -> None:
    """Add the method `:stream` to the REST API."""

    def stream(request: HttpRequest, found: re.Match[str]) -> HttpReply:
        if request.method != "POST":
            raise invalid_argument(f"expected POST. Received: {request.method}.")
        spec = spec_of(found)
        call = request.call
        with contextlib.ExitStack() as stack:
            stack.enter_context(_counted(dispatcher, spec.name, call))
            stack.enter_context(_read_on_refusal(request.chunks))
            query = urllib.parse.parse_qs(request.path.partition("?")[2])
            options = _options_of(query, spec)
            answer = streaming.answer(options, _until_cancelled(request.chunks, call), call, request.end_chunks)
            model, version, parts = stack.enter_context(answer)
            # A refusal of the audio is still a status of its own.
            first = next(parts)
            head = {"model": spec.name, "version": str(version), "tags": model.tags}
            return HttpReply(200, _lines(head, itertools.chain([first], parts), stack.pop_all()), LINES)
        raise AssertionError

    rest.route(HTTP_PATTERN, stream)


@contextlib.contextmanager
def _read_on_refusal(chunks: Iterator[bytes]) -> Iterator[None]:
    """Read on after a refusal, as many clients read the reply only once they have sent everything."""
    try:
        yield
    except StatusError:
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > MAX_REFUSED_BYTES:
                break
        raise


@contextlib.contextmanager
def _counted(dispatcher: Dispatcher, name: str, call: Call) -> Iterator[None]:
    status = "OK"
    try:
        with dispatcher.metrics.in_flight.track_inprogress():
            yield
    except StatusError as refusal:
        status = refusal.code.name
        raise
    except GeneratorExit:
        status = "CANCELLED"
        raise
    except Exception:
        status = "INTERNAL"
        raise
    finally:
        dispatcher.count(name, status, "Stream", "REST", call)


def _lines(head: dict[str, Any], parts: Iterator[Part], stack: contextlib.ExitStack) -> Iterator[bytes]:
    """Yield the lines of a reply, and end the stream with them."""
    try:
        with stack:
            yield _line(head)
            for part in parts:
                values: dict[str, Any] = {"start_seconds": part.start_seconds, "end_seconds": part.end_seconds}
                values["scores"] = _rounded(part.scores)
                if len(part.times):
                    values["times"] = _rounded(part.times)
                    values["contributions"] = [_rounded(row) for row in part.contributions]
                if part.whole:
                    values["whole"] = True
                    values["warnings"] = [{"kind": one.kind, "text": str(one)} for one in part.warnings]
                yield _line(values)
    except StatusError as refusal:
        # The status of the reply has been sent.
        yield _line({"error": truncate(refusal.text)})
    except Exception:
        yield _line({"error": internal("POST stream").text})


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


def _rounded(values: npt.NDArray[Any]) -> list[float]:
    found: list[float] = values.astype(float).round(7).tolist()
    return found


def _parsed(data: bytes) -> Any:
    try:
        return STREAM.StreamRequest.FromString(data)
    except DecodeError:
        raise invalid_argument("expected a StreamRequest. Received: bytes that do not parse as one.") from None


def _until_cancelled(pieces: Iterable[bytes], call: Call) -> Iterator[bytes]:
    for piece in pieces:
        if call.cancelled:
            break
        yield piece
    if call.cancelled:
        raise cancelled()


def _options(config: Any) -> StreamOptions:
    spec = model_pb2.ModelSpec(name=config.model_name or DEFAULT_MODEL)
    if config.version:
        spec.version.value = config.version
    elif config.version_label:
        spec.version_label = config.version_label
    return StreamOptions(spec, config.encoding, config.sample_rate, config.channels or 1, config.contributions)


def _options_of(query: dict[str, list[str]], spec: model_pb2.ModelSpec) -> StreamOptions:
    known = ("encoding", "sample_rate", "channels", "contributions")
    if unknown := [name for name in query if name not in known]:
        raise invalid_argument(f"expected {', '.join(known)} in the query. Received: {unknown[0]}.")

    def number(name: str, default: str) -> int:
        text = query.get(name, [default])[-1]
        if not (text.isascii() and text.isdecimal()):
            raise invalid_argument(f"expected {name} to be a whole number. Received: {text!r}.")
        return int(text[:10])

    encoding = query.get("encoding", [FILE])[-1]
    contributions = query.get("contributions", ["false"])[-1].lower()
    if contributions not in ("true", "false"):
        raise invalid_argument(f"expected contributions to be true or false. Received: {contributions!r}.")
    return StreamOptions(spec, encoding, number("sample_rate", "0"), number("channels", "1"), contributions == "true")


def _message(part: Part, tags: tuple[str, ...], version: int) -> Any:
    return STREAM.StreamResponse(
        start_seconds=part.start_seconds,
        end_seconds=part.end_seconds,
        scores=part.scores,
        times=part.times,
        contributions=part.contributions.reshape(-1),
        whole=part.whole,
        # A name may be bytes that are not UTF-8, which a message cannot hold.
        tags=[tag.encode("utf-8", "replace").decode() for tag in tags],
        version=version,
        warnings=[STREAM.StreamWarning(kind=one.kind, text=str(one)) for one in part.warnings],
    )
