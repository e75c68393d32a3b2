"""REST requests made with nothing but http.client."""

from __future__ import annotations

import http.client
import json
from typing import Any


def ask(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, raw: bool = False
) -> tuple[int, Any]:
    """Status and body, parsed as JSON unless `raw`; `body` is bytes, or what JSON can hold."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, headers or {})
        reply = connection.getresponse()
        text = reply.read().decode()
        assert "Traceback" not in text
        assert 'File "' not in text
        return reply.status, text if raw else json.loads(text)
    finally:
        connection.close()
