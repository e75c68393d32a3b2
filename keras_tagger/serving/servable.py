"""One loaded version of a SavedModel, in its own graph and session."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from keras_tagger.errors import ServingError
from keras_tagger.serving.status import StatusError, deadline_exceeded, from_graph, invalid_argument

DEFAULT_SIGNATURE = "serving_default"


class Gate:
    """Limits how many runs are active at a time; more than the cores can take would only delay all of them."""

    def __init__(self, places: int) -> None:
        self._places = threading.Semaphore(places)

    def run(self, function: Callable[[], list[Any]], deadline: float | None) -> list[Any]:
        """Call a function when its turn comes; raise DEADLINE_EXCEEDED if that is after the deadline."""
        if not self._places.acquire(timeout=None if deadline is None else max(deadline - time.monotonic(), 0.0)):
            raise deadline_exceeded()
        try:
            return function()
        finally:
            self._places.release()


class Runner(Protocol):
    """Runs the graph: the servable itself, or a batcher in front of it."""

    def run(
        self, feeds: Sequence[str], fetches: Sequence[str], arrays: Sequence[npt.NDArray[Any]], deadline: float | None
    ) -> list[Any]:
        """Return the values of the fetches."""


class Servable:
    """One version of a SavedModel.

    Args:
        path: Folder of the version, any `tf.io.gfile` path.
        version: Its number.
        gate: Shared by all versions of a server.
        config: Configuration of the session, such as its threads.

    Raises:
        ServingError: If the SavedModel does not load.
    """

    def __init__(
        self, path: str, version: int, gate: Gate | None = None, config: config_pb2.ConfigProto | None = None
    ) -> None:
        self.path = path
        self.version = version
        self._gate = gate or Gate(os.cpu_count() or 1)
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        self._callables: dict[tuple[tuple[str, ...], tuple[str, ...]], Callable[..., list[Any]]] = {}
        self._lock = threading.Lock()
        try:
            with graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], path)
            self.signatures: dict[str, meta_graph_pb2.SignatureDef] = dict(meta_graph.signature_def)
        except Exception as error:
            self.close()
            raise ServingError(f"expected a SavedModel that loads. Received: {path} ({reason(error)})") from error
        self._inputs = {
            info.name: (alias, info)
            for signature in self.signatures.values()
            for alias, info in signature.inputs.items()
        }

    def close(self) -> None:
        """Free the session; later requests fail."""
        self._session.close()

    def run(
        self,
        feeds: Sequence[str],
        fetches: Sequence[str],
        arrays: Sequence[npt.NDArray[Any]],
        deadline: float | None = None,
    ) -> list[Any]:
        """Return the values of the fetches; an error of the graph becomes a `StatusError` with its code."""
        call = self._callable(tuple(feeds), tuple(fetches))
        try:
            return self._gate.run(lambda: call(*arrays), deadline)
        except tf.errors.OpError as error:
            self._explain_shapes(feeds, arrays, error)
            raise from_graph(error.error_code, error.message) from error
        except UnicodeDecodeError as error:
            # The error text quotes bytes of the request.
            raise invalid_argument("The model refused the request, with an error text that is not UTF-8.") from error

    def _callable(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Callable[..., list[Any]]:
        with self._lock:
            if (feeds, fetches) not in self._callables:
                # Session.run compares shapes with the graph's and refuses some that TensorFlow Serving runs.
                options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
                self._callables[feeds, fetches] = self._session._make_callable_from_options(options)  # noqa: SLF001  (no public equivalent)
            return self._callables[feeds, fetches]

    def _explain_shapes(
        self, feeds: Sequence[str], arrays: Sequence[npt.NDArray[Any]], error: tf.errors.OpError
    ) -> None:
        """Raise a readable error if an input does not have the shape that the signature declares.

        Shapes are checked only after a failure, because some that differ from the signature's do run.
        """
        if not isinstance(error, tf.errors.InvalidArgumentError):
            return
        for feed, array in zip(feeds, arrays, strict=True):
            alias, info = self._inputs[feed]
            declared = tf.TensorShape(info.tensor_shape)
            if not declared.is_compatible_with(array.shape):
                sizes = ", ".join("any" if size is None else str(size) for size in declared.as_list())
                raise invalid_argument(
                    f"expected {alias} to have the shape [{sizes}]. Received: {list(array.shape)}."
                ) from error


def reason(error: BaseException) -> str:
    """Return the text of an error as one line."""
    text = error.text if isinstance(error, StatusError) else str(getattr(error, "message", error))
    return " ".join(text.split())[:300]
