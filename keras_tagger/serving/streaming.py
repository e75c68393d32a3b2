"""Long audio in pieces, and tags window by window, in flat memory.

`keras_tagger.audio` decodes and cuts the audio, so a stream gets the numbers that `Tagger` gives for the whole clip.
Raw samples are answered as they arrive. An encoded file is decoded once it is there, from a temporary file, because the
layout of most formats is known only at their end.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2

from keras_tagger.audio import AudioSource, RawAudio, Windowing
from keras_tagger.audio.windows import WindowMean
from keras_tagger.client import probe
from keras_tagger.client.probe import Plan
from keras_tagger.errors import AudioError, AudioWarning, ServingError
from keras_tagger.export import layout
from keras_tagger.files import to_text
from keras_tagger.serving.dispatch import Dispatcher
from keras_tagger.serving.scheduler import Call
from keras_tagger.serving.servable import Servable
from keras_tagger.serving.status import StatusError, invalid_argument
from keras_tagger.serving.tensors import decode

FILE = "file"
RAW_ENCODINGS = ("float32", "int16")
MAX_FILE_BYTES = 2**32
# Of threads, of which the server has a limited number.
MAX_STREAMS = 16
# A stream that sends nothing for so long is ended, as it keeps a place.
IDLE_SECONDS = 60.0
# A busy server delays a stream for so long before it gives up; a single request would be refused at once.
_PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.1

Run = Callable[[str, npt.NDArray[Any], Sequence[str]], dict[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class StreamOptions:
    """What the audio of a stream is, and what to answer.

    Attributes:
        spec: The model.
        encoding: One of `RAW_ENCODINGS`, or `FILE`.
        sample_rate: The rate of raw samples in Hz.
        channels: The number of channels of raw samples.
        contributions: Whether to answer contributions.
    """

    spec: model_pb2.ModelSpec
    encoding: str
    sample_rate: int = 0
    channels: int = 1
    contributions: bool = False


@dataclass(frozen=True)
class Part:
    """The answer for what is new in a window, or for all the audio.

    Attributes:
        start_seconds: Where it begins.
        end_seconds: Where it ends.
        scores: float `[n_tags]`.
        times: Centres of the columns of `contributions` in seconds from the start of the audio, float64 `[T]`.
        contributions: float32 `[n_tags, T]`; T is 0 if they were not requested.
        whole: Whether it is for all the audio, and the last one.
        warnings: What a listener must know; in the last part only.
    """

    start_seconds: float
    end_seconds: float
    scores: npt.NDArray[Any]
    times: npt.NDArray[Any]
    contributions: npt.NDArray[Any]
    whole: bool = False
    warnings: tuple[AudioWarning, ...] = ()


@dataclass(frozen=True)
class StreamedModel:
    """What a stream must know of a version of a model.

    Attributes:
        tags: Names of the outputs.
        windowing: How the model's audio is cut.
    """

    tags: tuple[str, ...]
    windowing: Windowing


def analyze(source: AudioSource, windowing: Windowing, run: Run, contributions: bool) -> Iterator[Part]:
    """Run a model on each window of a source as soon as it is complete, and yield the parts.

    Raises:
        AudioError: If the audio cannot be decoded.
    """
    signature, outputs = ("contributions", ("tags", "contributions", "times")) if contributions else ("", ("tags",))
    rate, mean, warnings = windowing.sample_rate, WindowMean(), list[AudioWarning]()
    none = np.zeros(0)
    for window in windowing.cut(source, warnings=warnings):
        found = run(signature, window.waveform[np.newaxis], outputs)
        begin = mean.samples
        mean.add(window, found["tags"][0])
        times, columns = none, np.zeros((len(found["tags"][0]), 0), np.float32)
        if contributions:
            times = found["times"][0].astype(np.float64)
            new = windowing.is_new(window, times)
            times, columns = window.start_sample / rate + times[new], found["contributions"][0][:, new]
        yield Part(begin / rate, mean.samples / rate, found["tags"][0], times, columns)
    whole = mean.value * float(not any(warning.kind == "silent" for warning in warnings))
    yield Part(0.0, mean.samples / rate, whole, none, np.zeros((len(whole), 0), np.float32), True, tuple(warnings))


class Streaming:
    """Answers streams.

    Args:
        dispatcher: Runs the windows.
        max_streams: Number of streams at a time.
    """

    def __init__(self, dispatcher: Dispatcher, max_streams: int = MAX_STREAMS) -> None:
        self._dispatcher = dispatcher
        self._places = threading.Semaphore(max_streams)
        self._known: weakref.WeakKeyDictionary[Servable, StreamedModel] = weakref.WeakKeyDictionary()

    @contextlib.contextmanager
    def answer(
        self, options: StreamOptions, pieces: Iterable[bytes], call: Call, abort: Callable[[], None]
    ) -> Iterator[tuple[StreamedModel, int, Iterator[Part]]]:
        """Answer a stream with one version of a model, which stays loaded until the block ends.

        Args:
            options: What the audio is.
            pieces: The audio as it arrives.
            call: The deadline of the whole stream.
            abort: Ends `pieces` while they are waited for; may be called from any thread.

        Yields:
            What the stream must know of the model, its version, and the parts.

        Raises:
            StatusError: If the request or the audio is not valid, or the server has too many streams.
        """
        if options.encoding not in (*RAW_ENCODINGS, FILE):
            names = ", ".join(RAW_ENCODINGS)
            raise invalid_argument(f"expected encoding {names} or {FILE}. Received: {options.encoding!r}.")
        if not self._places.acquire(blocking=False):
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"expected at most {MAX_STREAMS} streams at a time.")
        watched = _while_they_come(pieces, abort)
        try:
            with self._dispatcher.manager.lease(options.spec) as servable, _source(options, watched) as source:
                run = self._runner(servable, options.spec, call)
                model = self._model(servable, options.spec.name, run)
                yield model, servable.version, _as_status(analyze(source, model.windowing, run, options.contributions))
        except (AudioError, ValueError) as error:
            raise invalid_argument(str(error)) from None
        finally:
            self._places.release()

    def _runner(self, servable: Servable, spec: model_pb2.ModelSpec, call: Call) -> Run:
        def run(signature: str, waveform: npt.NDArray[Any], outputs: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
            request = predict_pb2.PredictRequest(model_spec=spec, output_filter=outputs)
            request.model_spec.signature_name = signature
            request.inputs["waveform"].CopyFrom(tf.make_tensor_proto(waveform, tf.float32))
            end = time.monotonic() + _PATIENCE_SECONDS
            while True:
                try:
                    response = self._dispatcher.predict_on(servable, request, call)
                    return {name: decode(proto, name) for name, proto in response.outputs.items()}
                except StatusError as refusal:
                    busy = refusal.code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
                    if not busy or call.cancelled or time.monotonic() > end:
                        raise
                time.sleep(_PAUSE_SECONDS)

        return run

    def _model(self, servable: Servable, name: str, run: Run) -> StreamedModel:
        if servable not in self._known:
            if servable.sample_rate is None:
                text = f"expected a model that keras_tagger exported. Received: {name}, which is another."
                raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, text)
            with tf.io.gfile.GFile(os.path.join(servable.path, layout.TAGS_TEXT), "rb") as file:
                tags = tuple(to_text(file.read()).split("\n")[:-1])
            token = _measured(probe.token_samples(servable.sample_rate), run)
            window = _measured(probe.window_samples(servable.sample_rate, token), run)
            if not window:
                text = f"expected a model whose windows can be measured. Received: {name}, for which this failed."
                raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, text)
            self._known[servable] = StreamedModel(tags, Windowing(servable.sample_rate, window, token))
        return self._known[servable]


def _while_they_come(pieces: Iterable[bytes], abort: Callable[[], None]) -> Iterator[bytes]:
    """Yield pieces until the next one takes too long."""
    each, late = iter(pieces), threading.Event()

    def end() -> None:
        late.set()
        abort()

    while True:
        timer = threading.Timer(IDLE_SECONDS, end)
        timer.daemon = True
        timer.start()
        try:
            piece = next(each, None)
        finally:
            timer.cancel()
        if late.is_set():
            text = f"expected a piece of audio within {IDLE_SECONDS:g} s. Received: none."
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, text)
        if piece is None:
            return
        yield piece


def _measured(plan: Plan[int], run: Run) -> int:
    """Run a plan of the client against the model itself."""
    try:
        request = next(plan)
        while True:
            try:
                reply = run(request.signature, request.inputs["waveform"], request.outputs or ())
            except StatusError as refusal:
                request = plan.throw(ServingError(refusal.text, refusal.code.name))
            else:
                request = plan.send(reply)
    except StopIteration as stop:
        return int(stop.value)


@contextlib.contextmanager
def _source(options: StreamOptions, pieces: Iterable[bytes]) -> Iterator[AudioSource]:
    if options.encoding != FILE:
        yield RawAudio(pieces, options.sample_rate, options.channels or 1, options.encoding)
        return
    with tempfile.TemporaryFile() as file:
        for piece in pieces:
            if file.tell() + len(piece) > MAX_FILE_BYTES:
                raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"expected at most {MAX_FILE_BYTES} bytes.")
            file.write(piece)
        file.seek(0)
        yield file


def _as_status(parts: Iterator[Part]) -> Iterator[Part]:
    try:
        yield from parts
    except AudioError as error:
        raise invalid_argument(str(error)) from None
