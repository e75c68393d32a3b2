"""What a client asks a served model to learn about audio of any length, apart from how it is sent.

Each method of `Questions` is a plan: a generator that yields a `Question`, is sent the reply's arrays, and returns its
result, so that `Client` and `AsyncClient` share it. A plan reads audio while it runs, in constant memory.

TensorFlow Serving tells a client the signatures of a model and nothing else. What a plan needs besides, it finds out by
asking (`keras_tagger.client.probe`) and remembers for as long as the same version answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from keras_tagger import audio as audio_files
from keras_tagger.audio import AudioSource, Window, Windowing
from keras_tagger.client import probe
from keras_tagger.client.probe import Plan, Question, Reply
from keras_tagger.errors import ServingError
from keras_tagger.heatmap import Heatmap

Result = TypeVar("Result")

# A request of this length is 19 MB at 16 kHz; the model cuts it into its windows itself.
MAX_REQUEST_SECONDS = 300.0
MAX_WINDOWS_PER_REQUEST = 8
_MAX_RESTARTS = 3
MAPS = {"attention": "heatmap", "contributions": "contributions"}


@dataclass
class Knowledge:
    """What was found out about one version of a model.

    Attributes:
        version: its number; None before it has answered.
        token_samples: samples from one token to the next, 1 where the model does not tell.
        window_samples: the model's window; 0 where it cannot be measured.
        tags: names of the outputs, in order.
    """

    version: int | None = None
    token_samples: int | None = None
    window_samples: int | None = None
    tags: tuple[str, ...] | None = None


@dataclass
class Questions:
    """Plans about audio, for a model of one sample rate.

    Attributes:
        sample_rate: of the model, in Hz.
        window_seconds: the model's window, or None to have it measured when it is needed.
        knowledge: what is known of the served version.
    """

    sample_rate: int
    window_seconds: float | None
    knowledge: Knowledge = field(default_factory=Knowledge)

    def tag(self, audio: AudioSource, top: int | None, tags: Sequence[str] | None) -> Plan[dict[str, float]]:
        """Scores by tag, best first."""
        if top is not None and top < 1:
            raise ServingError(f"top: expected at least 1. Received: {top}.")
        if tags is None:
            try:
                scores = yield from self.classify(audio)
            except ServingError as error:
                if 'signature key "classify" not found' not in str(error):
                    raise
                raise ServingError(
                    f"expected a model with the signature classify, or the names of its tags as `tags`. "
                    f"Received: {error}",
                    error.code,
                ) from None
        else:
            mean = yield from self._mean(audio, "serving_default", "tags")
            if len(tags) != len(mean):
                raise ServingError(f"expected {len(mean)} names, one for each tag served. Received: {len(tags)}")
            order = np.argsort(-mean, kind="stable")
            scores = {tags[index]: float(mean[index]) for index in order}
        return dict(itertools.islice(scores.items(), top))

    def classify(self, audio: AudioSource) -> Plan[dict[str, float]]:
        """All scores by tag, best first, by the signature `classify`."""
        totals: dict[str, float] = {}
        n_samples = 0
        for windows in (yield from self._windows(audio)).batches:
            inputs = probe.examples([window.waveform for window in windows])
            reply = yield Question("classify", {"inputs": inputs}, ("classes", "scores"))
            for window, names, scores in zip(windows, reply["classes"], reply["scores"], strict=True):
                for name, score in zip(names, scores, strict=True):
                    totals[name.decode()] = totals.get(name.decode(), 0.0) + float(score) * window.new_samples
                n_samples += window.new_samples
        return {name: totals[name] / n_samples for name in sorted(totals, key=lambda name: -totals[name])}

    def embed(self, audio: AudioSource) -> Plan[npt.NDArray[Any]]:
        """The embedding of a clip, float32 [D]."""
        return (yield from self._mean(audio, "embedding", "embedding")).astype(np.float32)

    def maps(self, signature: str, audio: AudioSource, start_seconds: float, seconds: float | None) -> Plan[Reply]:
        """The outputs of `attention` or `contributions` for a stretch of a clip, or from there to its end."""
        end_seconds = None if seconds is None else start_seconds + seconds
        if signature == "attention" and seconds is not None:
            # The weights can only be had from one request; the model sees to its windows.
            waveform = audio_files.load(audio, self.sample_rate, start_seconds, end_seconds)
            reply = yield Question(signature, {"waveform": waveform[np.newaxis]})
            return _shifted(reply, start_seconds)
        outputs = ("tags", "heatmap", "times") if signature == "attention" else None
        return (yield from self._map(signature, audio, start_seconds, end_seconds, outputs))

    def heatmap(
        self, kind: str, audio: AudioSource, tags: Sequence[str] | None, start_seconds: float, seconds: float | None
    ) -> Plan[Heatmap]:
        """A map of a stretch of a clip, or from there to its end, as a `Heatmap`."""
        if kind not in MAPS:
            raise ServingError(f"kind: expected one of {', '.join(MAPS)}. Received: {kind!r}.")
        if kind == "attention" and tags is not None:
            raise ServingError(f"tags: expected none for attention, which has no tags. Received: {', '.join(tags)}.")
        names: tuple[str, ...] = ("attention",)
        rows = [0]
        if kind == "contributions":
            names = yield from self.tag_names()
            unknown = [tag for tag in tags or () if tag not in names]
            if unknown:
                raise ServingError(f"tags: expected some of {', '.join(names)}. Received: {unknown[0]!r}.")
            rows = [names.index(tag) for tag in (names if tags is None else tags)]
        end_seconds = None if seconds is None else start_seconds + seconds
        outputs = ("tags", MAPS[kind], "times")
        found = yield from self._map(kind, audio, start_seconds, end_seconds, outputs)
        values = np.atleast_2d(found[MAPS[kind]][0])[rows]
        scores = found["tags"][0][rows] if kind == "contributions" else None
        return Heatmap(values, tuple(names[row] for row in rows), found["times"][0], kind, scores=scores)

    def tag_names(self) -> Plan[tuple[str, ...]]:
        """The names of the tags in the order of the outputs."""
        if self.knowledge.tags is None:
            self.knowledge.tags = yield from probe.tag_names(self.sample_rate)
        return self.knowledge.tags

    def _map(
        self,
        signature: str,
        audio: AudioSource,
        start_seconds: float,
        end_seconds: float | None,
        outputs: tuple[str, ...] | None,
    ) -> Plan[Reply]:
        cut = yield from self._windows(audio, start_seconds, end_seconds)
        if cut.whole:
            (window,) = next(cut.batches)
            reply = yield Question(signature, {"waveform": window.waveform[np.newaxis]}, outputs)
            return _shifted(reply, start_seconds)
        columns: list[npt.NDArray[Any]] = []
        totals: dict[str, Any] = {}
        n_samples = 0
        for windows in cut.batches:
            reply = yield Question(signature, {"waveform": _stacked(windows)}, outputs)
            for index, window in enumerate(windows):
                # A window that was moved back brings only its end.
                n_new = -(-window.new_samples // cut.token_samples)
                columns.append(reply[MAPS[signature]][index][..., -n_new:])
                if "tags" in reply:
                    share = reply["tags"][index].astype(np.float64) * window.new_samples
                    totals["tags"] = totals.get("tags", 0.0) + share
                n_samples += window.new_samples
        found = {name: (total / n_samples).astype(np.float32)[np.newaxis] for name, total in totals.items()}
        stitched = np.concatenate(columns, axis=-1)
        found[MAPS[signature]] = stitched[np.newaxis]
        hop_seconds = cut.token_samples / self.sample_rate
        times = start_seconds + (np.arange(stitched.shape[-1]) + 0.5) * hop_seconds
        return {**found, "times": times.astype(np.float32)[np.newaxis]}

    def _mean(self, audio: AudioSource, signature: str, output: str) -> Plan[npt.NDArray[Any]]:
        """The mean of an output over the windows, each second counting once, float64 [size]."""
        total: Any = 0.0
        n_samples = 0
        for windows in (yield from self._windows(audio)).batches:
            reply = yield Question(signature, {"waveform": _stacked(windows)}, (output,))
            for window, values in zip(windows, reply[output], strict=True):
                total = total + values.astype(np.float64) * window.new_samples
                n_samples += window.new_samples
        return total / n_samples

    def _windows(self, audio: AudioSource, start_seconds: float = 0.0, end_seconds: float | None = None) -> Plan[_Cut]:
        """Audio as it is sent: whole where one request may hold it, else as `Tagger` cuts it."""
        limit = max(1, round((self.window_seconds or MAX_REQUEST_SECONDS) * self.sample_rate))
        parts = Windowing(self.sample_rate, limit).cut(audio, start_seconds, end_seconds)
        first = next(parts)
        if next(parts, None) is None:
            return _Cut(iter([[first]]), 1, True)
        token = yield from self._token_samples()
        window = max(limit // token, 1) * token
        if self.window_seconds is None:
            window = (yield from self._window_samples(token)) or window
        size = min(max(limit // window, 1), MAX_WINDOWS_PER_REQUEST)
        parts = Windowing(self.sample_rate, window, token).cut(audio, start_seconds, end_seconds)
        return _Cut(_batches(parts, size), token, False)

    def _token_samples(self) -> Plan[int]:
        if self.knowledge.token_samples is None:
            self.knowledge.token_samples = yield from probe.token_samples(self.sample_rate)
        return self.knowledge.token_samples

    def _window_samples(self, token_samples: int) -> Plan[int]:
        if self.knowledge.window_samples is None:
            self.knowledge.window_samples = yield from probe.window_samples(self.sample_rate, token_samples)
        return self.knowledge.window_samples


@dataclass(frozen=True)
class _Cut:
    """Windows in batches of one length, samples a token, and whether it is all of the audio as one window."""

    batches: Iterator[list[Window]]
    token_samples: int
    whole: bool


def _batches(windows: Iterator[Window], size: int) -> Iterator[list[Window]]:
    while batch := list(itertools.islice(windows, size)):
        yield batch


def _stacked(windows: Sequence[Window]) -> npt.NDArray[Any]:
    return np.stack([window.waveform for window in windows])


def _shifted(reply: Mapping[str, npt.NDArray[Any]], seconds: float) -> Reply:
    """A reply whose times count from the start of the clip."""
    found = dict(reply)
    if "times" in found:
        found["times"] = found["times"] + np.asarray(seconds, found["times"].dtype)
    return found


class Conversation(Generic[Result]):
    """A plan on its way. All of its replies must be of one version of the model; else it begins again.

    Args:
        plan: makes the plan.
        questions: the client's; they learn of a new version from this conversation.

    Attributes:
        question: what to ask next; None when `result` is there.
        result: what the plan returned.

    Every method runs a part of the plan, and raises what it raises.
    """

    def __init__(self, plan: Callable[[Questions], Plan[Result]], questions: Questions) -> None:
        self.question: Question | None = None
        self.result: Result | None = None
        self._plan = plan
        self._questions = questions
        self._knowledge = questions.knowledge
        self._running: Plan[Result] | None = None
        self._versions: list[int] = []

    def start(self) -> None:
        """Go to the first question."""
        # Other conversations may learn of another version meanwhile; this one keeps what it goes by.
        self._knowledge = self._questions.knowledge
        running = self._running = self._plan(replace(self._questions, knowledge=self._knowledge))
        self._advance(lambda: next(running))

    def answer(self, reply: Reply, version: int) -> None:
        """Go on with a reply, given by a version of the model."""
        if self._knowledge.version is None:
            self._knowledge.version = version
        if self._knowledge.version == version:
            self._advance(lambda: self._started.send(reply))
            return
        if self._questions.knowledge.version != version:
            self._questions.knowledge = Knowledge(version)
        self._versions.append(self._knowledge.version)
        if len(self._versions) > _MAX_RESTARTS:
            seen = ", ".join(map(str, [*self._versions, version]))
            raise ServingError(f"expected one version of the model to answer for a whole clip. Received: {seen}.")
        self.close()
        self.start()

    def fail(self, error: ServingError) -> None:
        """Go on, if the plan can, where a request was refused."""
        self._advance(lambda: self._started.throw(error))

    def close(self) -> None:
        """Let go of files."""
        if self._running is not None:
            self._running.close()

    @property
    def _started(self) -> Plan[Result]:
        if self._running is None:
            raise RuntimeError("a conversation that has not started")
        return self._running

    def _advance(self, step: Callable[[], Question]) -> None:
        try:
            self.question = step()
        except StopIteration as stop:
            self.question, self.result = None, stop.value
