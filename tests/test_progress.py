"""Progress bars are for people at a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

CODE = """
import sys
from keras_tagger.progress import progress_bar
assert list(progress_bar([1, 2, 3], desc="count", unit="thing", hidden=sys.argv[1] == "hidden")) == [1, 2, 3]
"""


@pytest.mark.parametrize(("argument", "shown"), [("shown", True), ("hidden", False)])
def test_a_terminal_sees_the_bar_unless_it_is_hidden(argument, shown):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    done = subprocess.run([sys.executable, "-c", CODE, argument], stderr=theirs, stdout=subprocess.PIPE, check=True)
    os.close(theirs)
    try:
        seen = os.read(ours, 10_000)
    except OSError:  # nothing was written
        seen = b""
    os.close(ours)
    assert done.stdout == b""
    assert (b"count" in seen) == shown


def test_a_pipe_sees_nothing():
    done = subprocess.run([sys.executable, "-c", CODE, "shown"], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_data_commands_are_quiet_when_piped(tones, tmp_path):
    command = [sys.executable, "-m", "keras_tagger", "data"]
    for arguments in (["check", tones], ["prepare", tones, "--out", tmp_path / "prepared"]):
        done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=True)
        assert done.stderr == ""
