"""One version of a SavedModel, loaded and warmed up, in its own graph and session.

Imports TensorFlow, so it is imported only by what serves.
"""

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
    """Lets a few runs through at a time: more than the cores can take would only make all of them later."""

    def __init__(self, places: int) -> None:
        self._places = threading.Semaphore(places)

    def run(self, function: Callable[[], list[Any]], deadline: float | None) -> list[Any]:
        """The function's result; a refusal if its turn does not come before the deadline (`time.monotonic`)."""
        if not self._places.acquire(timeout=None if deadline is None else max(deadline - time.monotonic(), 0.0)):
            raise deadline_exceeded()
        try:
            return function()
        finally:
            self._places.release()


class Runner(Protocol):
    """What runs fetches on arrays: the servable itself, or what gathers requests to batches before it."""

    def run(
        self, feeds: Sequence[str], fetches: Sequence[str], arrays: Sequence[npt.NDArray[Any]], deadline: float | None
    ) -> list[Any]:
        """Values of the fetches."""


class Servable:
    """One version of a SavedModel.

    Args:
        path: the version's folder, any `tf.io.gfile` path.
        version: its number.
        gate: shared by all servables of a server.
        config: of the session; threads, say.

    Raises:
        ServingError: it does not load.
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
        """Frees the session; requests after this fail."""
        self._session.close()

    def run(
        self,
        feeds: Sequence[str],
        fetches: Sequence[str],
        arrays: Sequence[npt.NDArray[Any]],
        deadline: float | None = None,
    ) -> list[Any]:
        """Values of the fetches; an error of the graph is a refusal with its code."""
        call = self._callable(tuple(feeds), tuple(fetches))
        try:
            return self._gate.run(lambda: call(*arrays), deadline)
        except tf.errors.OpError as error:
            self._explain_shapes(feeds, arrays, error)
            raise from_graph(error.error_code, error.message) from error
        except UnicodeDecodeError as error:
            # The text of the graph's error quotes bytes of the request.
            raise invalid_argument("The model refused the request, with a text that is not UTF-8.") from error

    def _callable(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Callable[..., list[Any]]:
        with self._lock:
            if (feeds, fetches) not in self._callables:
                # Session.run checks shapes against the graph's and so refuses some that the C++ server runs.
                options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
                self._callables[feeds, fetches] = self._session._make_callable_from_options(options)
            return self._callables[feeds, fetches]

    def _explain_shapes(
        self, feeds: Sequence[str], arrays: Sequence[npt.NDArray[Any]], error: tf.errors.OpError
    ) -> None:
        """Refuse with a sentence if an input has another shape than the signature says.

        Shapes are not looked at before the graph, as some that are not the signature's run all the same.
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
    """The text of an error as one line."""
    text = error.text if isinstance(error, StatusError) else str(getattr(error, "message", error))
    return " ".join(text.split())[:300]
