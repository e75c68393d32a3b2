"""Read audio in a process of its own, so that a crash or a hang of a C library is an answer and not the end of a test.

`Worker` starts a program (`serve`), which reads files from standard input and writes a pickled `Reading` of each to
standard output.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import select
import struct
import subprocess
import sys
import traceback
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from scale import heard

RATE = 16000
MEMORY_BYTES = 8 << 30


@dataclass(frozen=True)
class Reading:
    """What became of a file.

    Attributes:
        outcome: "read", "refused", "raised" (another error than `AudioError`), "crashed" or "hung".
        message: Of the error, or the warnings of damage.
        told: Whether there was an error or a warning of damage.
        samples: Number of samples at 16 kHz.
        heard: Seconds of each step of the scale.
        rate: Of the file, in Hz.
        channels: Of the file.
        format: Container and codec.
        excerpt_error: Largest difference of an excerpt from the same part of the whole.
    """

    outcome: str
    message: str = ""
    told: bool = True
    samples: int = 0
    heard: np.ndarray | None = None
    rate: int = 0
    channels: int = 0
    format: str = ""
    excerpt_error: float = 0.0


def read(data: bytes) -> Reading:
    """Read a file whole and read an excerpt of it."""
    from keras_tagger import audio
    from keras_tagger.errors import AudioError

    warnings: list[Any] = []
    try:
        about = audio.info(data)
        waveform = audio.load(data, RATE, warnings=warnings)
        first = len(waveform) * 3 // 5
        excerpt = audio.load(data, RATE, first / RATE, first / RATE + 0.5, warnings=[])
        part = waveform[first : first + RATE // 2]
        error = float(np.abs(excerpt - part).max()) if len(excerpt) == len(part) else np.inf
    except AudioError as error:
        return Reading("refused", str(error))
    except BaseException:
        return Reading("raised", traceback.format_exc())
    damage = [str(warning) for warning in warnings if warning.kind == "damaged"]
    steps = heard(waveform[: 60 * RATE])
    return Reading(
        "read",
        "; ".join(damage),
        bool(damage),
        len(waveform),
        steps,
        about.sample_rate,
        about.channels,
        about.format,
        error,
    )


def serve() -> None:
    """Answer on standard output, which is moved away so that nothing else can write there."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    read(b"RIFF")  # imports what reading needs
    answers.write(b"\1")
    answers.flush()
    while head := sys.stdin.buffer.read(8):
        answer = pickle.dumps(read(sys.stdin.buffer.read(struct.unpack("<Q", head)[0])))
        answers.write(struct.pack("<Q", len(answer)) + answer)
        answers.flush()


class Worker:
    """Sends files to the program, and starts it again if it died.

    Args:
        seconds: After how long a file counts as a hang.
    """

    def __init__(self, seconds: float = 20.0) -> None:
        self.seconds = seconds
        self.process: subprocess.Popen[bytes] | None = None

    def read(self, data: bytes) -> Reading:
        """Read a file in the other process."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(struct.pack("<Q", len(data)) + data)
            process.stdin.flush()
            head = self._wait(process.stdout, 8, self.seconds)
            return pickle.loads(self._wait(process.stdout, struct.unpack("<Q", head)[0], self.seconds))
        except TimeoutError:
            self.close()
            return Reading("hung", f"no answer in {self.seconds} s")
        except (EOFError, BrokenPipeError):
            code = process.wait()
            self.close()
            return Reading("crashed", f"exit status {code}")

    def close(self) -> None:
        """End the program."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "import damage_worker; damage_worker.serve()"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                bufsize=0, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip
            with contextlib.suppress(EOFError):
                self._wait(self.process.stdout, 1, 120.0)
        return self.process

    @staticmethod
    def _wait(file: BinaryIO | None, count: int, seconds: float) -> bytes:
        assert file is not None
        found = b""
        while len(found) < count:
            if not select.select([file], [], [], seconds)[0]:
                raise TimeoutError
            part = file.read(count - len(found))
            if not part:
                raise EOFError
            found += part
        return found
