"""Errors that answer a request: a gRPC status code and one text, over gRPC and REST alike."""

from __future__ import annotations

import re

import grpc

MAX_TEXT_BYTES = 1024

# tensorflow_serving::model_servers/http_server.cc
HTTP_STATUS: dict[grpc.StatusCode, int] = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_CODE_OF_NUMBER = {code.value[0]: code for code in grpc.StatusCode}

# Details that TensorFlow adds to an error in a graph: the node, its functions, where it was created.
_GRAPH_NOTES = re.compile(r"\s*\[\[\{\{.*|\s*\n\s*\[\[.*|\{\{(function_)?node [^}]*\}\} ?|\s*\[Op:\w+\].*", re.DOTALL)
# If several operations fail, TensorFlow lists them; the first tells enough.
_SEVERAL = re.compile(r"\d+ root error\(s\) found\.\s*\(0\) [A-Z_]+: (.*?)(?:\n\s*\(1\) .*)?", re.DOTALL)
_ASSERTION = re.compile(r"assertion failed: \[(.*)\]", re.DOTALL)


class StatusError(Exception):
    """A status other than OK, which answers a request.

    Args:
        code: Status code.
        text: Error text for the client.
    """

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def invalid_argument(text: str) -> StatusError:
    """Return an INVALID_ARGUMENT error."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, text)


def deadline_exceeded(when: str = "before the request was run") -> StatusError:
    """Return the error for a request whose deadline has passed."""
    return StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, f"Deadline exceeded {when}.")


def from_graph(number: int, message: str) -> StatusError:
    """Return an error with the code and text of a TensorFlow error, without its details about the graph."""
    if several := _SEVERAL.fullmatch(message.strip()):
        message = several[1]
    text = _GRAPH_NOTES.sub("", message).strip()
    # A py_function's error has its traceback, with paths of this machine; its last line is the error itself.
    if (start := text.find("Traceback (most recent call last):")) >= 0:
        lines = [line for line in text[start:].splitlines()[1:] if line and not line.startswith(" ")]
        text = lines[0] if lines else ""
    # Assert writes each of its parts in brackets.
    if found := _ASSERTION.fullmatch(text):
        text = found.group(1).replace("] [", " ")
    return StatusError(_CODE_OF_NUMBER.get(number, grpc.StatusCode.UNKNOWN), text or "The model refused the request.")


def truncate(text: str) -> str:
    """Shorten an error text as TensorFlow Serving does, replacing what is not valid UTF-8."""
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_TEXT_BYTES:
        return data.decode()
    return data[:MAX_TEXT_BYTES].decode("utf-8", "ignore") + "...TRUNCATED"
