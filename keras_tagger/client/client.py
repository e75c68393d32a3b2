"""Clients of any TensorFlow Serving server: tags and maps of audio of any length over gRPC.

    from keras_tagger.serving import Client

    with Client("localhost:8500") as client:
        client.tag("song.mp3", top=5)
        client.heatmap("song.mp3").top(5).save("contributions.png")

gRPC, TensorFlow and the stubs of `tensorflow-serving-api` are imported when a client is made, not before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy.typing as npt

from keras_tagger.audio import AudioSource
from keras_tagger.client import messages
from keras_tagger.client.channel import CHANNEL_OPTIONS, Backoff, Tls, as_serving_error, is_unavailable
from keras_tagger.client.messages import Signature
from keras_tagger.client.plans import Conversation, Questions
from keras_tagger.client.probe import Plan, Question
from keras_tagger.errors import ServingError
from keras_tagger.heatmap import Heatmap

Result = TypeVar("Result")

SAMPLE_RATE = 16_000
MAP_SECONDS = 30.0


class _Connection:
    """What both clients are made with, and the plans of their questions."""

    def __init__(
        self,
        address: str = "localhost:8500",
        model_name: str = "keras_tagger",
        timeout_seconds: float = 30.0,
        window_seconds: float | None = None,
        *,
        version: int | None = None,
        version_label: str | None = None,
        sample_rate: int = SAMPLE_RATE,
        retries: int = 4,
        tls: Tls | None = None,
    ) -> None:
        if window_seconds is not None and not window_seconds * sample_rate >= 1:
            raise ServingError(f"expected a window_seconds above 0. Received: {window_seconds}")
        if not timeout_seconds > 0:
            raise ServingError(f"expected a timeout_seconds above 0. Received: {timeout_seconds}")
        if retries < 0:
            raise ServingError(f"expected retries of 0 or more. Received: {retries}")
        if version is not None and version_label is not None:
            raise ServingError(f"expected a version or a label. Received: both, {version} and {version_label!r}")
        self.address = address
        self.model_name = model_name
        self.timeout_seconds = timeout_seconds
        self.window_seconds = window_seconds
        self.version = version
        self.version_label = version_label
        self.sample_rate = sample_rate
        self.tls = tls
        self.backoff = Backoff(retries)
        self._questions = Questions(sample_rate, window_seconds)

    def _open(self, module: Any) -> Any:
        """A channel of `grpc` or `grpc.aio`."""
        if self.tls is None:
            return module.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        options = (*CHANNEL_OPTIONS, *self.tls.options())
        return module.secure_channel(self.address, self.tls.credentials(), options=options)

    def _conversation(self, plan: Callable[[Questions], Plan[Result]]) -> Conversation[Result]:
        return Conversation(plan, self._questions)

    def _message(self, question: Question) -> Any:
        spec = messages.model_spec(self.model_name, question.signature, self.version, self.version_label)
        return messages.predict_request(spec, question)


class Client(_Connection):
    """A connection to a served model; also a context manager. Threads may share one.

    Audio is a path, encoded bytes or `(array, sample_rate)`, and is decoded, made mono and resampled here. A clip of up
    to five minutes (or `window_seconds`) is one request; the model cuts it into its windows. A longer one is cut here,
    read and sent in constant memory, a few windows a request. With the model's own window, which is measured once if
    `window_seconds` does not say it, every result is that of `Tagger`. All requests of a clip are answered by one
    version of the model: when the server changes over on the way, the clip is asked anew.

    Args:
        address: HOST:PORT of the server's gRPC.
        model_name: The name the server serves the model under.
        timeout_seconds: How long one request may take, new attempts included.
        window_seconds: Longest piece of audio that the model is asked about at a time, in seconds: the model's
            `audio.window_seconds`, or None as above. A model without the signatures `attention` and `contributions`
            cannot be measured, and is sent pieces of five minutes.
        version: The version to ask; None for the newest, or the one of `version_label`.
        version_label: The label of the version to ask ("stable").
        sample_rate: The model's, in Hz.
        retries: How often a request is sent again to a server that is unavailable, after pauses that double.
        tls: Encryption and its certificates; None for a plain connection.

    Every method raises `ServingError`, with the server's status in its text and as its `code`, when the server refuses
    the request or cannot be reached; those that take audio raise what `keras_tagger.audio.load` raises.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        import grpc

        self._channel = self._open(grpc)
        self._stub = messages.prediction_stub(self._channel)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def predict(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        signature: str = "serving_default",
        outputs: Sequence[str] | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Runs one signature on arrays; `outputs` names those wanted (default: all)."""
        question = Question(signature, dict(inputs), None if outputs is None else tuple(outputs))
        return messages.predict_reply(self._ask(self._stub.Predict, self._message(question)))

    def metadata(self) -> dict[str, Signature]:
        """The served signatures: name -> {"inputs" and "outputs": {name: (dtype, shape)}}.

        A size that may vary is None in the shape; a shape of unknown rank is None.
        """
        spec = messages.model_spec(self.model_name, "", self.version, self.version_label)
        return messages.metadata_reply(self._ask(self._stub.GetModelMetadata, messages.metadata_request(spec)))

    def tag(self, audio: AudioSource, top: int | None = 10, tags: Sequence[str] | None = None) -> dict[str, float]:
        """The `top` highest scores of a clip by tag (None: all), highest first.

        The scores of a long clip are the mean over its windows, weighted by the samples that are new in each. The names
        come from the model's signature `classify`; for a model without it give `tags`, the names in the order of the
        output `tags` of `serving_default`.
        """
        return self._run(lambda ask: ask.tag(audio, top, tags))

    def classify(self, audio: AudioSource) -> dict[str, float]:
        """All scores of a clip by tag, highest first, by the signature `classify`."""
        return self._run(lambda ask: ask.classify(audio))

    def attention(
        self, audio: AudioSource, start_seconds: float = 0.0, seconds: float | None = MAP_SECONDS
    ) -> dict[str, npt.NDArray[Any]]:
        """The outputs of the signature `attention` for `seconds` of a clip from `start_seconds`.

        The weights in the reply grow with the square of `seconds`. With None it is all the rest of the clip, and
        without the weights: `tags` [1, n], `heatmap` [1, T] and `times` [1, T]. `times` (seconds) count from the start
        of the clip.
        """
        return self._run(lambda ask: ask.maps("attention", audio, start_seconds, seconds))

    def contributions(
        self, audio: AudioSource, start_seconds: float = 0.0, seconds: float | None = MAP_SECONDS
    ) -> dict[str, npt.NDArray[Any]]:
        """The outputs of the signature `contributions` for a stretch of a clip; with None, all the rest of it."""
        return self._run(lambda ask: ask.maps("contributions", audio, start_seconds, seconds))

    def heatmap(
        self,
        audio: AudioSource,
        kind: str = "contributions",
        tags: Sequence[str] | None = None,
        start_seconds: float = 0.0,
        seconds: float | None = None,
    ) -> Heatmap:
        """A map of a clip, or a stretch of it, as `Tagger` has it: to draw, crop and save.

        Args:
            audio: see `Client`.
            kind: "contributions", a row a tag, or "attention", one row: that of [CLS] in the last layer, its heads
                summed.
            tags: rows wanted, in order; None for all.
            start_seconds: where it begins.
            seconds: how long it is; None for all the rest.
        """
        return self._run(lambda ask: ask.heatmap(kind, audio, tags, start_seconds, seconds))

    def embed(self, audio: AudioSource) -> npt.NDArray[Any]:
        """The signature `embedding` of a clip, float32 [D]: the mean over its windows."""
        return self._run(lambda ask: ask.embed(audio))

    def tag_names(self) -> tuple[str, ...]:
        """The names of the tags in the order of the outputs, found out from `classify` and `serving_default`."""
        return self._run(lambda ask: ask.tag_names())

    def _run(self, plan: Callable[[Questions], Plan[Result]]) -> Result:
        conversation = self._conversation(plan)
        try:
            conversation.start()
            while (question := conversation.question) is not None:
                try:
                    response = self._ask(self._stub.Predict, self._message(question))
                except ServingError as error:
                    conversation.fail(error)
                else:
                    conversation.answer(messages.predict_reply(response), response.model_spec.version.value)
        finally:
            conversation.close()
        return conversation.result  # type: ignore[return-value]

    def _ask(self, method: Callable[..., Any], request: Any) -> Any:
        import grpc

        end = time.monotonic() + self.timeout_seconds
        attempt = 0
        while True:
            try:
                return method(request, timeout=max(end - time.monotonic(), 0.001))
            except grpc.RpcError as error:
                pause = self.backoff.pause(attempt) if is_unavailable(error) else None
                if pause is None or time.monotonic() + pause >= end:
                    raise as_serving_error(error, self.address, self.timeout_seconds) from None
            except ValueError as error:
                raise messages.unsendable(error) from None
            time.sleep(pause)
            attempt += 1


class AsyncClient(_Connection):
    """`Client` for asyncio: the same arguments, methods and results, to be awaited; an asynchronous context manager.

    Many questions may be under way at a time. Audio is decoded in threads, beside the event loop, in which the client
    must be made.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        import grpc.aio

        self._channel = self._open(grpc.aio)
        self._stub = messages.prediction_stub(self._channel)

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def predict(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        signature: str = "serving_default",
        outputs: Sequence[str] | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """As `Client.predict`."""
        question = Question(signature, dict(inputs), None if outputs is None else tuple(outputs))
        return messages.predict_reply(await self._ask(self._stub.Predict, self._message(question)))

    async def metadata(self) -> dict[str, Signature]:
        """As `Client.metadata`."""
        spec = messages.model_spec(self.model_name, "", self.version, self.version_label)
        return messages.metadata_reply(await self._ask(self._stub.GetModelMetadata, messages.metadata_request(spec)))

    async def tag(
        self, audio: AudioSource, top: int | None = 10, tags: Sequence[str] | None = None
    ) -> dict[str, float]:
        """As `Client.tag`."""
        return await self._run(lambda ask: ask.tag(audio, top, tags))

    async def classify(self, audio: AudioSource) -> dict[str, float]:
        """As `Client.classify`."""
        return await self._run(lambda ask: ask.classify(audio))

    async def attention(
        self, audio: AudioSource, start_seconds: float = 0.0, seconds: float | None = MAP_SECONDS
    ) -> dict[str, npt.NDArray[Any]]:
        """As `Client.attention`."""
        return await self._run(lambda ask: ask.maps("attention", audio, start_seconds, seconds))

    async def contributions(
        self, audio: AudioSource, start_seconds: float = 0.0, seconds: float | None = MAP_SECONDS
    ) -> dict[str, npt.NDArray[Any]]:
        """As `Client.contributions`."""
        return await self._run(lambda ask: ask.maps("contributions", audio, start_seconds, seconds))

    async def heatmap(
        self,
        audio: AudioSource,
        kind: str = "contributions",
        tags: Sequence[str] | None = None,
        start_seconds: float = 0.0,
        seconds: float | None = None,
    ) -> Heatmap:
        """As `Client.heatmap`."""
        return await self._run(lambda ask: ask.heatmap(kind, audio, tags, start_seconds, seconds))

    async def embed(self, audio: AudioSource) -> npt.NDArray[Any]:
        """As `Client.embed`."""
        return await self._run(lambda ask: ask.embed(audio))

    async def tag_names(self) -> tuple[str, ...]:
        """As `Client.tag_names`."""
        return await self._run(lambda ask: ask.tag_names())

    async def _run(self, plan: Callable[[Questions], Plan[Result]]) -> Result:
        conversation = self._conversation(plan)
        try:
            await asyncio.to_thread(conversation.start)
            while (question := conversation.question) is not None:
                try:
                    response = await self._ask(self._stub.Predict, self._message(question))
                except ServingError as error:
                    await asyncio.to_thread(conversation.fail, error)
                else:
                    reply = messages.predict_reply(response)
                    await asyncio.to_thread(conversation.answer, reply, response.model_spec.version.value)
        finally:
            conversation.close()
        return conversation.result  # type: ignore[return-value]

    async def _ask(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        import grpc

        end = time.monotonic() + self.timeout_seconds
        attempt = 0
        while True:
            try:
                return await method(request, timeout=max(end - time.monotonic(), 0.001))
            except grpc.RpcError as error:
                pause = self.backoff.pause(attempt) if is_unavailable(error) else None
                if pause is None or time.monotonic() + pause >= end:
                    raise as_serving_error(error, self.address, self.timeout_seconds) from None
            except ValueError as error:
                raise messages.unsendable(error) from None
            await asyncio.sleep(pause)
            attempt += 1
