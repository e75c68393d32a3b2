"""The signals that end `serve`, received by reading them."""

from __future__ import annotations

import signal
import socket
from types import FrameType, TracebackType


class Signals:
    """Takes signals while it is entered, in the main thread; each is kept until `next` gives it.

    Args:
        numbers: the signals to take.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers

    def next(self) -> signal.Signals:
        """Waits for a signal."""
        # Python writes the number of every signal that it handles, also of those that are not ours.
        while (number := self._reader.recv(1)[0]) not in self._numbers:
            pass
        return signal.Signals(number)

    def __enter__(self) -> Signals:
        # Any thread can be given a signal that was sent while the process was stopped (SIGSTOP). Then a main thread
        # that waits for a lock or a queue sleeps on, and no handler runs; but the number is written by that thread.
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
    """Without a handler in Python the number would not be written."""
