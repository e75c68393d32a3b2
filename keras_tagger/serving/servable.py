"""One loaded version of a SavedModel, in its own graph and session."""

from __future__ import annotations

import math
import os
import struct
import time
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import tensorflow as tf
import yaml
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

# Neither deadlines nor inputs of any shape are possible with the public Session.run.
from tensorflow.python.client import pywrap_tf_session

from keras_tagger.errors import ServingError
from keras_tagger.export import layout
from keras_tagger.serving.status import StatusError, deadline_exceeded, from_graph, invalid_argument

DEFAULT_SIGNATURE = "serving_default"


class Servable:
    """One version of a SavedModel.

    Args:
        path: Folder of the version, any `tf.io.gfile` path.
        version: Its number.
        config: Configuration of the session, such as its threads.
        tags: Tags of the meta graph to load.

    Attributes:
        signatures: Its signatures by name.
        sample_rate: Sample rate of its waveforms in Hz; None if it was not exported by this package.

    Raises:
        ServingError: If the SavedModel does not load.
    """

    def __init__(
        self, path: str, version: int, config: config_pb2.ConfigProto | None = None, tags: Sequence[str] = ("serve",)
    ) -> None:
        self.path = path
        self.version = version
        self._graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        self._tensors: dict[str, Any] = {}
        try:
            with self._graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, list(tags), path)
            self.signatures: dict[str, meta_graph_pb2.SignatureDef] = dict(meta_graph.signature_def)
            self.sample_rate = _sample_rate(path)
        except Exception as error:
            self.close()
            raise ServingError(f"expected a SavedModel that loads. Received: {path} ({reason(error)})") from error
        self._inputs = {
            info.name: (alias, info)
            for signature in self.signatures.values()
            for alias, info in signature.inputs.items()
        }

    @property
    def rows_are_independent(self) -> bool:
        """Whether no clip of a batch changes the result of another, as in every export of this package."""
        return self.sample_rate is not None

    def clip_seconds(self, feeds: Sequence[str], arrays: Sequence[npt.NDArray[Any]]) -> list[float]:
        """Return the lengths of the clips to feed; none if the model was not exported by this package."""
        found: list[float] = []
        for feed, array in zip(feeds, arrays, strict=True):
            alias, _ = self._inputs[feed]
            if self.sample_rate is None:
                continue
            if alias == "waveform" and array.ndim == 2:
                found += [array.shape[1] / self.sample_rate] * min(array.shape[0], array.size)
            elif alias == "audio_bytes":
                found += [_wav_seconds(data) for data in array.reshape(-1)]
            elif alias == "inputs":
                found += [_example_seconds(data, self.sample_rate) for data in array.reshape(-1)]
        return found

    def gives_attention(self, fetches: Sequence[str]) -> bool:
        """Return whether attention maps are among the outputs to fetch."""
        return self.sample_rate is not None and any(
            signature.outputs["attention"].name in fetches
            for signature in self.signatures.values()
            if "attention" in signature.outputs
        )

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
        try:
            tensors = {name: self._tensor(name) for name in (*feeds, *fetches)}
        except (KeyError, ValueError):
            raise invalid_argument(
                "expected a signature of dense tensors. Received: one with a sparse, ragged or other composite tensor."
            ) from None
        options = None
        if deadline is not None:
            milliseconds = math.ceil((deadline - time.monotonic()) * 1000.0)
            if milliseconds <= 0:
                raise deadline_exceeded()
            run_options = config_pb2.RunOptions(timeout_in_ms=milliseconds)
            options = pywrap_tf_session.TF_NewBufferFromString(run_options.SerializeToString())
        try:
            return pywrap_tf_session.TF_SessionRun_wrapper(
                self._session._session,  # noqa: SLF001  (no public equivalent)
                options,
                {tensors[feed]: array for feed, array in zip(feeds, arrays, strict=True)},
                [tensors[fetch] for fetch in fetches],
                [],
                None,
            )
        except tf.errors.DeadlineExceededError as error:
            raise deadline_exceeded("while the model ran") from error
        except tf.errors.OpError as error:
            self._explain_shapes(feeds, arrays, error)
            raise from_graph(error.error_code, error.message) from error
        except UnicodeDecodeError as error:
            # The error text quotes bytes of the request.
            raise invalid_argument("The model refused the request, with an error text that is not UTF-8.") from error
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)

    def _tensor(self, name: str) -> Any:
        if name not in self._tensors:
            self._tensors[name] = self._graph.get_tensor_by_name(name)._as_tf_output()  # noqa: SLF001
        return self._tensors[name]

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


def _sample_rate(path: str) -> int | None:
    file = os.path.join(path, layout.CONFIG)
    if not (tf.io.gfile.exists(file) and tf.io.gfile.exists(os.path.join(path, layout.TAGS_JSON))):
        return None
    try:
        with tf.io.gfile.GFile(file) as stream:
            return int(yaml.safe_load(stream.read())["audio"]["sample_rate"])
    except (KeyError, TypeError, ValueError, yaml.YAMLError):
        return None


def _wav_seconds(data: bytes) -> float:
    """Return the length of a WAV file; 0 if it is none, which the graph refuses."""
    start = data.find(b"fmt ", 0, 4096)
    if start < 0 or len(data) < start + 24:
        return 0.0
    channels, rate, _, frame_bytes = struct.unpack_from("<HIIH", data, start + 10)
    return len(data) / max(frame_bytes, channels, 1) / max(rate, 1)


def _example_seconds(data: bytes, sample_rate: int) -> float:
    """Return the length of the clip in a serialized tf.Example."""
    if len(data) < sample_rate * 4:
        return len(data) / 4 / sample_rate
    try:
        features = tf.train.Example.FromString(data).features.feature
    except DecodeError:
        return 0.0
    files = features["audio_bytes"].bytes_list.value
    return max(len(features["waveform"].float_list.value) / sample_rate, *map(_wav_seconds, files), 0.0)


def reason(error: BaseException) -> str:
    """Return the text of an error as one line."""
    text = error.text if isinstance(error, StatusError) else str(getattr(error, "message", error))
    return " ".join(text.split())[:300]
