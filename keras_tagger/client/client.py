"""Clients of any TensorFlow Serving server: tags and maps of audio of any length over gRPC.

    from keras_tagger.client import Client

    with Client("localhost:8500") as client:
        client.tag("song.mp3", top=5)
        client.heatmap("song.mp3").top(5).save("contributions.png")

gRPC, TensorFlow and the stubs of `tensorflow-serving-api` are imported when a client is made, not before.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import numpy.typing as npt

from keras_tagger.attention import Attention
from keras_tagger.audio import AudioSource
from keras_tagger.audio.streams import seekable
from keras_tagger.client import messages
from keras_tagger.client.channel import MAX_RETRIES, ClientTls, as_serving_error, channel_options, check_address
from keras_tagger.client.messages import Signature
from keras_tagger.client.plans import PlanRun, ServedModel
from keras_tagger.client.probe import Plan, Request
from keras_tagger.client.stream_messages import STREAM
from keras_tagger.client.streaming import AsyncTagStream, TagStream
from keras_tagger.errors import ServingError
from keras_tagger.heatmap import Heatmap
from keras_tagger.tags import Tags, check_rank, make_tags

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

SAMPLE_RATE = 16_000


class _Connection:
    """Validated settings, and everything else that `Client` and `AsyncClient` share."""

    _channel: Any

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
        retries: int = MAX_RETRIES,
        wait_for_ready: bool = False,
        tls: ClientTls | None = None,
    ) -> None:
        check_address(address)
        if window_seconds is not None and not window_seconds * sample_rate >= 1:
            raise ServingError(f"window_seconds: expected a time above 0. Received: {window_seconds}.")
        if not timeout_seconds > 0:
            raise ServingError(f"timeout_seconds: expected a time above 0. Received: {timeout_seconds}.")
        if not 0 <= retries <= MAX_RETRIES:
            raise ServingError(
                f"retries: expected 0 to {MAX_RETRIES}, gRPC's limit (to wait longer for a server that starts, pass "
                f"wait_for_ready=True). Received: {retries}."
            )
        if version is not None and version_label is not None:
            raise ServingError(f"expected a version or a label. Received: both, {version} and {version_label!r}.")
        self.address = address
        self.model_name = model_name
        self.timeout_seconds = timeout_seconds
        self.window_seconds = window_seconds
        self.version = version
        self.version_label = version_label
        self.sample_rate = sample_rate
        self.tls = tls
        self._options = channel_options(retries, wait_for_ready)
        self._model = ServedModel(sample_rate, window_seconds)

    def _open(self, module: Any) -> Any:
        """Return a channel of `grpc` or `grpc.aio`."""
        if self.tls is None:
            return module.insecure_channel(self.address, options=self._options)
        options = (*self._options, *self.tls.options())
        return module.secure_channel(self.address, self.tls.credentials(), options=options)

    def _message(self, request: Request) -> Any:
        return messages.predict_request(self._spec(request.signature), request)

    def _spec(self, signature: str) -> Any:
        return messages.model_spec(self.model_name, signature, self.version, self.version_label)

    def _stream_config(self, contributions: bool) -> Any:
        return STREAM.StreamConfig(
            model_name=self.model_name,
            version=self.version or 0,
            version_label=self.version_label or "",
            encoding="float32",
            sample_rate=self.sample_rate,
            channels=1,
            contributions=contributions,
        )

    def _streaming(self) -> Any:
        """Return the method of streams."""
        kind, reply = STREAM.methods["Stream"]
        return self._channel.stream_stream(
            f"/{STREAM.service}/Stream",
            request_serializer=kind.SerializeToString,
            response_deserializer=reply.FromString,
        )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Convert gRPC's errors to a `ServingError` of one sentence."""
        import grpc

        try:
            yield
        except grpc.RpcError as error:
            raise as_serving_error(error, self.address, self.timeout_seconds) from None
        except (ValueError, grpc.aio.UsageError) as error:
            raise messages.unsendable(error) from None


class Client(_Connection):
    """A connection to a served model; also a context manager. Threads may share one.

    Audio is a path, encoded bytes, a binary file object or `(array, sample_rate)`; it is decoded, made mono and
    resampled by the client. A clip of up to five minutes (or `window_seconds`) is one request, which the model cuts
    into its windows. A longer clip is cut by the client, which reads and sends it in constant memory, a few windows per
    request. The results equal those of `Tagger`. One version of the model answers all requests about a clip: if the
    server switches versions meanwhile, the client starts the clip again.

    Args:
        address: HOST:PORT of the server's gRPC endpoint.
        model_name: Name under which the server serves the model.
        timeout_seconds: Deadline of one request, retries included.
        window_seconds: Length of the model's windows (`audio.window_seconds` of its configuration), and the longest
            piece of audio in one request. None measures the windows once, when they are needed. A model without the
            signatures `attention` and `contributions` cannot be measured; it gets pieces of five minutes.
        version: Version of the model; None for the newest, or for that of `version_label`.
        version_label: Label of the version, e.g. "stable".
        sample_rate: The model's sample rate in Hz.
        retries: How often gRPC repeats a request if the server is unavailable, 0..4, after pauses that double from
            0.1 s.
        wait_for_ready: Whether a request waits until its deadline for a server that does not accept connections yet,
            instead of failing after the retries.
        tls: Certificates of an encrypted connection (`keras_tagger.client.Tls`); None for a plain connection.

    Raises:
        ServingError: If an argument is out of range. Every method raises it, with the server's status in its text and
            as its `code`, if the server refuses the request or cannot be reached. Methods that take audio also raise
            what `keras_tagger.audio.load` raises.

    Example:
        >>> with Client("localhost:8500") as client:
        ...     print(client.tag("song.mp3", top=5))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        import grpc

        self._channel = self._open(grpc)
        self._stub = messages.prediction_stub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # `AsyncClient` takes over the methods from here on, except `stream`: each is one call of `_run` or `_call`.

    def predict(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        signature: str = "serving_default",
        outputs: Sequence[str] | str | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Run one signature on arrays.

        Args:
            inputs: The signature's inputs by name.
            signature: Name of the signature.
            outputs: One name, or the names of the outputs wanted; None for all.

        Returns:
            The outputs by name.

        Example:
            >>> client.predict({"waveform": waveform[np.newaxis]}, "attention")["heatmap"]
        """
        outputs = (outputs,) if isinstance(outputs, str) else outputs
        request = Request(signature, dict(inputs), None if outputs is None else tuple(outputs))
        return self._call("Predict", self._message(request), messages.predict_reply)

    def metadata(self) -> dict[str, Signature]:
        """Return the served signatures: name to {"inputs" and "outputs": {name: (dtype, shape)}}.

        A dimension of variable size is None in the shape; a shape of unknown rank is None.

        Example:
            >>> client.metadata()["serving_default"]["outputs"]
            {'tags': ('float32', [None, 50])}
        """
        return self._call("GetModelMetadata", messages.metadata_request(self._spec("")), messages.metadata_reply)

    def tag(
        self,
        audio: AudioSource,
        top: int | None = 10,
        tags: Sequence[str] | None = None,
        merge_synonyms: bool = False,
        rank: str = "score",
    ) -> Tags:
        """Return the best tags of a clip, as `Tagger.tag` does.

        The thresholds (`Tags.present`, `Tags.margins`) and the evidence (`Tags.heard`) come from the model's signature
        `tag_info`; for a model without it they are None.

        Args:
            audio: See `Client`.
            top: How many tags; None for all.
            tags: Names of the outputs of `serving_default`, in order, for a model without the signature `classify`.
            merge_synonyms: Whether to merge tags that mean the same (`keras_tagger.tags.SYNONYMS`) into one entry.
            rank: "score", or "margin" for the tags that exceed their thresholds by most; see `Tags.top`.

        Raises:
            ModelError: If `rank` is unknown, or is "margin" for a model without the signature `tag_info`.

        Example:
            >>> print(client.tag("song.mp3", top=3))
            guitar 0.91, rock 0.74, drums 0.55
        """
        audio = seekable(audio)
        return self._run(lambda model: model.tag(audio, top, tags, merge_synonyms, rank))

    def classify(self, audio: AudioSource) -> Tags:
        """Return all tags of a clip, best first, by the signature `classify`.

        Example:
            >>> client.classify("song.mp3")["guitar"].score
        """
        audio = seekable(audio)
        return self._run(lambda model: model.classify(audio))

    def attention(self, audio: AudioSource, start_seconds: float = 0.0, seconds: float | None = None) -> Attention:
        """Return the attention weights of a clip or an excerpt, as `Tagger.attention` does.

        The weights grow with the length of the clip; `heatmap(audio, "attention")` takes constant memory.

        Args:
            audio: See `Client`.
            start_seconds: Start of the excerpt. Times count from the start of the clip.
            seconds: Length of the excerpt; None for the rest of the clip.

        Example:
            >>> client.attention("song.mp3", seconds=30).heatmap("all").save("attention.png")
        """
        audio = seekable(audio)
        return self._run(lambda model: model.attention(audio, start_seconds, seconds))

    def contributions(
        self,
        audio: AudioSource,
        tags: Sequence[str] | str | None = None,
        start_seconds: float = 0.0,
        seconds: float | None = None,
    ) -> Heatmap:
        """Return each tag's contributions over time, as `Tagger.contributions` does.

        Args:
            audio: See `Client`.
            tags: One tag, or the rows wanted, in order; None for all.
            start_seconds: Start of the excerpt. Times count from the start of the clip.
            seconds: Length of the excerpt; None for the rest of the clip.

        Example:
            >>> client.contributions("song.mp3", ["guitar"]).save("guitar.png")
        """
        return self.heatmap(audio, "contributions", tags, start_seconds, seconds)

    def heatmap(
        self,
        audio: AudioSource,
        kind: str = "contributions",
        tags: Sequence[str] | str | None = None,
        start_seconds: float = 0.0,
        seconds: float | None = None,
    ) -> Heatmap:
        """Return a map of a clip or an excerpt, in constant memory apart from the map itself.

        Args:
            audio: See `Client`.
            kind: "contributions", one row per tag, or "attention", one row: that of [CLS] in the last layer, summed
                over heads.
            tags: One tag, or the rows wanted, in order; None for all. Must be None for attention.
            start_seconds: Start of the excerpt. Times count from the start of the clip.
            seconds: Length of the excerpt; None for the rest of the clip.

        Example:
            >>> client.heatmap("song.mp3", "attention").save("attention.png")
        """
        audio = seekable(audio)
        return self._run(lambda model: model.heatmap(kind, audio, tags, start_seconds, seconds))

    def stream(
        self,
        audio: AudioSource,
        contributions: bool = False,
        top: int | None = 10,
        merge_synonyms: bool = False,
        rank: str = "score",
    ) -> TagStream:
        """Send audio of any length in pieces, and return the windows as they come, in constant memory.

        The audio may go on for as long as it likes: there is no deadline. It needs `keras-tagger serve`; other servers
        answer UNIMPLEMENTED. The results equal those of `Tagger`.

        Args:
            audio: See `Client`; also `keras_tagger.audio.RawAudio`, such as from a microphone.
            contributions: Whether each window has its tags' contributions over time.
            top: How many tags the tags of the whole clip have; None for all.
            merge_synonyms: As for `tag`.
            rank: As for `tag`.

        Returns:
            An iterator over `StreamedWindow`; afterwards its `tags` are those of all the audio.

        Raises:
            ModelError: If `rank` is unknown.

        Example:
            >>> stream = client.stream("long.mp3")
            >>> for window in stream:
            ...     print(window.end_seconds, window.top(3))
            >>> print(stream.tags)
        """
        check_rank(rank)
        make = functools.partial(make_tags, top=top, merge_synonyms=merge_synonyms, rank=rank)

        def info(names: tuple[str, ...]) -> Any:
            return self._run(lambda model: model.info(names))

        def send(messages: Iterator[Any]) -> Iterator[Any]:
            with self._errors():
                yield from self._streaming()(messages)

        return TagStream(send, info, self._stream_config(contributions), audio, make)

    def embed(self, audio: AudioSource) -> npt.NDArray[Any]:
        """Return the embedding of a clip, float32 `[D]`: the mean over its windows, by the signature `embedding`.

        Example:
            >>> client.embed("song.mp3").shape
            (192,)
        """
        audio = seekable(audio)
        return self._run(lambda model: model.embed(audio))

    def tag_names(self) -> tuple[str, ...]:
        """Return the names of the tags in the order of the outputs, determined from `classify` and `serving_default`.

        Example:
            >>> client.tag_names()[:2]
            ('guitar', 'classical')
        """
        return self._run(lambda model: model.tag_names())

    def _run(self, plan: Callable[[ServedModel], Plan[Result]]) -> Result:
        run = PlanRun(plan, self._model)
        try:
            run.start()
            while (request := run.request) is not None:
                try:
                    reply, version = self._call("Predict", self._message(request), messages.versioned_reply)
                except ServingError as error:
                    run.fail(error)
                else:
                    run.answer(reply, version)
        finally:
            run.close()
        return cast(Result, run.result)

    def _call(self, method: str, message: Any, decode: Callable[[Any], Result]) -> Result:
        with self._errors():
            response = getattr(self._stub, method)(message, timeout=self.timeout_seconds)
        return decode(response)


def _awaited(
    method: Callable[Concatenate[Client, Parameters], Result],
) -> Callable[Concatenate[AsyncClient, Parameters], Coroutine[Any, Any, Result]]:
    """Return a method of `Client` for `AsyncClient`, whose `_run` and `_call` are coroutines."""

    @functools.wraps(method)
    async def awaited(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await cast(Any, method)(self, *args, **kwargs)

    return cast(Any, awaited)


class AsyncClient(_Connection):
    """`Client` for asyncio: the same arguments, methods and results, to be awaited; an asynchronous context manager.

    `stream` gives an asynchronous iterator. Many requests may be in flight at a time. Audio is decoded in threads,
    outside the client's event loop.

    Example:
        >>> async with AsyncClient("localhost:8500") as client:
        ...     found = await asyncio.gather(*(client.tag(path) for path in paths))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        import grpc.aio

        self._channel = self._open(grpc.aio)
        self._stub = messages.prediction_stub(self._channel)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    predict = _awaited(Client.predict)
    metadata = _awaited(Client.metadata)
    tag = _awaited(Client.tag)
    classify = _awaited(Client.classify)
    attention = _awaited(Client.attention)
    contributions = _awaited(Client.contributions)
    heatmap = _awaited(Client.heatmap)
    embed = _awaited(Client.embed)
    tag_names = _awaited(Client.tag_names)

    def stream(
        self,
        audio: AudioSource,
        contributions: bool = False,
        top: int | None = 10,
        merge_synonyms: bool = False,
        rank: str = "score",
    ) -> AsyncTagStream:
        """Send audio of any length in pieces, and return the windows as they come; see `Client.stream`.

        Example:
            >>> stream = client.stream("long.mp3")
            >>> async for window in stream:
            ...     print(window.end_seconds, window.top(3))
            >>> print(stream.tags)
        """
        check_rank(rank)
        make = functools.partial(make_tags, top=top, merge_synonyms=merge_synonyms, rank=rank)

        async def info(names: tuple[str, ...]) -> Any:
            return await self._run(lambda model: model.info(names))

        async def send(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
            with self._errors():
                async for answer in self._streaming()(messages):
                    yield answer

        return AsyncTagStream(send, info, self._stream_config(contributions), audio, make)

    async def _run(self, plan: Callable[[ServedModel], Plan[Result]]) -> Result:
        run = PlanRun(plan, self._model)
        try:
            await asyncio.to_thread(run.start)
            while (request := run.request) is not None:
                try:
                    reply, version = await self._call("Predict", self._message(request), messages.versioned_reply)
                except ServingError as error:
                    await asyncio.to_thread(run.fail, error)
                else:
                    await asyncio.to_thread(run.answer, reply, version)
        finally:
            run.close()
        return cast(Result, run.result)

    async def _call(self, method: str, message: Any, decode: Callable[[Any], Result]) -> Result:
        with self._errors():
            response = await getattr(self._stub, method)(message, timeout=self.timeout_seconds)
        return decode(response)
