"""Streams of a client: long audio is sent in pieces, and its tags come back window by window.

This needs a server with the method `keras_tagger.AudioTagging` (examples/audio_tagging.proto), such as
`keras-tagger serve`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.audio import AudioSource, blocks
from keras_tagger.client.stream_messages import STREAM
from keras_tagger.errors import AudioError, AudioNotFoundError, AudioWarning, ServingError

if TYPE_CHECKING:
    from keras_tagger.tags import Tags

# Audio per message.
PIECE_SECONDS = 1.0


@dataclass(frozen=True)
class StreamedWindow:
    """The answer for what is new in a window.

    Attributes:
        start_seconds: Where it begins in the audio.
        end_seconds: Where it ends.
        tags: Names of the tags.
        scores: Probabilities of the tags in the window, float32 `[n_tags]`.
        times: Centres of the columns of `contributions` in seconds from the start of the audio, float64 `[T]`.
        contributions: Each tag's contributions over time, float32 `[n_tags, T]`; T is 0 if they were not requested.

    Example:
        >>> [(window.end_seconds, window.top(1)) for window in client.stream("long.mp3")]
        [(10.0, [('guitar', 0.81)]), (20.0, [('piano', 0.64)])]
    """

    start_seconds: float
    end_seconds: float
    tags: tuple[str, ...]
    scores: npt.NDArray[Any]
    times: npt.NDArray[Any]
    contributions: npt.NDArray[Any]

    def top(self, count: int = 3) -> list[tuple[str, float]]:
        """Return the names and scores of the best tags of the window."""
        best = np.argsort(-self.scores, kind="stable")[:count]
        return [(self.tags[index], float(self.scores[index])) for index in best]


class _Stream:
    """What a stream has sent and heard; see `Client.stream`."""

    def __init__(
        self,
        send: Callable[[Any], Any],
        info: Callable[[tuple[str, ...]], Any],
        config: Any,
        audio: AudioSource,
        make: Callable[..., Tags],
    ) -> None:
        self._info, self._config, self._audio, self._make = info, config, audio, make
        self._warnings: list[AudioWarning] = []
        self._error: AudioError | AudioNotFoundError | None = None
        self._names: tuple[str, ...] = ()
        self._tags: Tags | None = None
        self._answers = send(self._sent())

    @property
    def tags(self) -> Tags:
        """The tags of all the audio, once all windows have been read."""
        if self._tags is None:
            raise ServingError("expected a stream whose windows have all been read. Received: one that goes on.")
        return self._tags

    def _sent(self) -> Any:
        """Return the messages as `send` takes them."""
        return self._messages()

    def _messages(self) -> Iterator[Any]:
        # gRPC takes the messages where errors are lost, so an error ends them and is raised with the next answer.
        try:
            yield STREAM.StreamRequest(config=self._config)
            for piece in blocks(self._audio, self._config.sample_rate, PIECE_SECONDS, warnings=self._warnings):
                yield STREAM.StreamRequest(audio=piece.astype("<f4").tobytes())
        except (AudioError, AudioNotFoundError) as error:
            self._error = error

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise the error of the audio in the place of what the server says to its end."""
        try:
            yield
        except ServingError:
            if self._error is None:
                raise
        if self._error is not None:
            raise self._error from None

    def _finish(self, answer: Any, info: Any) -> None:
        self._tags = self._make(self._names, np.array(answer.scores, np.float32), info, warnings=self._warnings)

    def _window(self, answer: Any) -> StreamedWindow:
        self._names = self._names or tuple(answer.tags)
        return StreamedWindow(
            answer.start_seconds,
            answer.end_seconds,
            self._names,
            np.array(answer.scores, np.float32),
            np.array(answer.times, np.float64),
            np.array(answer.contributions, np.float32).reshape(len(answer.scores), len(answer.times)),
        )


class TagStream(_Stream, Iterator[StreamedWindow]):
    """The windows of a stream, as they come; see `Client.stream`.

    Example:
        >>> stream = client.stream("long.mp3")
        >>> for window in stream:
        ...     print(window.end_seconds, window.top(3))
        >>> print(stream.tags)
    """

    def __next__(self) -> StreamedWindow:
        with self._errors():
            answer = next(self._answers)
        window = self._window(answer)
        if answer.whole:
            self._finish(answer, self._info(window.tags))
            raise StopIteration
        return window


class AsyncTagStream(_Stream, AsyncIterator[StreamedWindow]):
    """The windows of a stream for asyncio; see `AsyncClient.stream`. The audio is decoded in threads.

    Example:
        >>> stream = client.stream("long.mp3")
        >>> async for window in stream:
        ...     print(window.end_seconds, window.top(3))
        >>> print(stream.tags)
    """

    async def _sent(self) -> AsyncIterator[Any]:
        messages = self._messages()
        while (message := await asyncio.to_thread(next, messages, None)) is not None:
            yield message

    async def __anext__(self) -> StreamedWindow:
        with self._errors():
            answer = await anext(self._answers)
        window = self._window(answer)
        if answer.whole:
            self._finish(answer, await self._info(window.tags))
            raise StopAsyncIteration
        return window
