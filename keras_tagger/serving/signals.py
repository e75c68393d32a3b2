"""Waiting for the signals that end `serve`."""

from __future__ import annotations

import signal
import socket
from types import FrameType, TracebackType


class Signals:
    """A context manager that receives signals, in the main thread; `next` returns them one by one.

    Args:
        numbers: The signals to receive.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers

    def next(self) -> signal.Signals:
        """Wait for a signal."""
        # Python writes the numbers of all signals that it handles, including others.
        while (number := self._reader.recv(1)[0]) not in self._numbers:
            pass
        return signal.Signals(number)

    def __enter__(self) -> Signals:
        # A signal sent while the process is stopped (SIGSTOP) may be delivered to any thread. A main thread that waits
        # for a lock or a queue then sleeps on, and no handler runs; but the receiving thread writes the number.
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._writer_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._handlers_before = {number: signal.signal(number, _nothing) for number in self._numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._writer_before)
        self._reader.close()
        self._writer.close()


def _nothing(number: int, frame: FrameType | None) -> None:
    """Do nothing; without a Python handler the number would not be written."""
