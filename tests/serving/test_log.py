"""The log of the server: one JSON object a line, whatever a client or a library puts into it."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = r"""
import logging
from keras_tagger.serving import log
log.to_stderr()
log.info("ready", name="a\nb\u2028\x1b[31m", port=1)
logging.getLogger("tornado.general").warning("read error: %s", "x\ny")
for write in (log.error, logging.getLogger("grpc._server").exception):
    try:
        1 / 0
    except ZeroDivisionError:
        write("failed")
"""


def test_every_line_is_json() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.split("\n")[:-1]]
    assert [(line["level"], line["message"]) for line in lines] == [
        ("info", "ready"),
        ("warning", "read error: x\ny"),
        ("error", "failed"),
        ("error", "failed"),
    ]
    assert (lines[0]["name"], lines[0]["port"]) == ("a\nb\u2028\x1b[31m", 1)
    assert all("ZeroDivisionError" in line["stack"] for line in lines[2:])
    assert done.stderr.isascii()
    assert "\x1b" not in done.stderr
