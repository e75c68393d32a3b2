"""Log lines of the server: one JSON object each, so that nothing a client sends can end a line or fake another."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import Any

_LOGGER = logging.getLogger("keras_tagger.serving")


def info(message: str, **fields: Any) -> None:
    """What happened as it should."""
    _write(logging.INFO, message, fields)


def warning(message: str, **fields: Any) -> None:
    """What an operator should know."""
    _write(logging.WARNING, message, fields)


def error(message: str, **fields: Any) -> None:
    """What went wrong; within an `except` block with the stack, as one field."""
    if sys.exc_info()[0] is not None:
        fields["stack"] = traceback.format_exc(limit=-20)
    _write(logging.ERROR, message, fields)


def to_stderr() -> None:
    """Send the lines to stderr as they are, and let TensorFlow, whose lines are free text, say errors alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _LOGGER.handlers[:] = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def _write(level: int, message: str, fields: dict[str, Any]) -> None:
    if not _LOGGER.isEnabledFor(level):
        return
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z"
    line = {"time": stamp, "level": logging.getLevelName(level).lower(), "message": message, **fields}
    # ensure_ascii: also line separators and control sequences of terminals are escaped.
    _LOGGER.log(level, "%s", json.dumps(line, default=str))
