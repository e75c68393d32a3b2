"""A process that describes files: `python -m keras_tagger.catalog.worker FD`; `keras_tagger.catalog.local` starts it.

It receives its settings and then entries over the connection, and sends (None, 0) when the model is loaded, and (row,
peak of its memory in bytes) for each entry, in order. It ends when the
connection does, so it never outlives the process that started it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from keras_tagger.catalog.entries import Entry
from keras_tagger.catalog.rows import Describer, Options
from keras_tagger.startup import hide_optional_packages_from_keras


class Settings(NamedTuple):
    """What a process needs to know.

    Attributes:
        model: The model, as `keras_tagger.load` takes it.
        options: What is computed of each file.
        provenance: Columns that every row gets.
        cores: The cores that it may use, with the others; None for all.
        nice: Added to its niceness.
    """

    model: str
    options: Options
    provenance: dict[str, str]
    cores: frozenset[int] | None
    nice: int


def one_thread_each() -> None:
    """Let TensorFlow use one thread: a process per core leaves nothing for more, and they cost time to coordinate."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def serve(connection: Connection[Any, Any]) -> None:
    """Describe what the connection names, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    settings: Settings = connection.recv()
    os.nice(settings.nice)
    if settings.cores is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, settings.cores)
    one_thread_each()
    describer = Describer(settings.model, settings.options, settings.provenance)

    def entries() -> Iterator[Entry]:
        # A connection that ends is the end of the work.
        with contextlib.suppress(EOFError, OSError):
            while (entry := connection.recv()) is not None:
                yield entry

    connection.send((None, 0))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for row in describer.rows(entries()):
            connection.send((row, peak_bytes()))


if __name__ == "__main__":
    hide_optional_packages_from_keras()
    serve(Connection(int(sys.argv[1])))
    # TensorFlow takes seconds to dismantle itself.
    os._exit(0)
