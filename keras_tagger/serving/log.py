"""Log lines of the server: one JSON object each, so that nothing a client sends can end a line or fake another."""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

_LOGGER = logging.getLogger("keras_tagger.serving")
# Of the libraries that talk to clients.
_LIBRARIES = ("asyncio", "grpc", "tornado")


_fields: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar("fields", default={})  # noqa: B039


@contextlib.contextmanager
def fields(**values: Any) -> Iterator[None]:
    """Add fields to every line that the block logs in this thread, such as the id of a request."""
    before = _fields.get()
    _fields.set({**before, **values})
    try:
        yield
    finally:
        _fields.set(before)


def info(message: str, **fields: Any) -> None:
    """Log normal operation."""
    _LOGGER.info(message, extra={"fields": {**_fields.get(), **fields}})


def warning(message: str, **fields: Any) -> None:
    """Log something that an operator should know."""
    _LOGGER.warning(message, extra={"fields": {**_fields.get(), **fields}})


def error(message: str, **fields: Any) -> None:
    """Log a failure; in an `except` block with the stack, as one field."""
    if sys.exc_info()[0] is not None:
        fields["stack"] = traceback.format_exc(limit=-20)
    _LOGGER.error(message, extra={"fields": {**_fields.get(), **fields}})


def to_stderr() -> None:
    """Write the lines to stderr, and let TensorFlow, whose lines are free text, report errors only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    for name in (_LOGGER.name, *_LIBRARIES):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
    _LOGGER.setLevel(logging.INFO)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


class _JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + "Z"
        line = {"time": stamp, "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        # json escapes all but ASCII, and so line separators and the control sequences of terminals too.
        return json.dumps({**line, **getattr(record, "fields", {})}, default=str)
