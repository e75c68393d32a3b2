"""The requests of a client about audio of any length, independent of how they are sent.

Each public method of `ServedModel` is a plan: a generator that yields `Request`s, is sent the arrays of the replies,
and returns its result. `Client` and `AsyncClient` share the plans; `PlanRun` runs one. A plan reads audio while it
runs, in constant memory.

TensorFlow Serving reports only the signatures of a model. Everything else that a plan needs is measured by requests
(`keras_tagger.client.probe`) and cached (`ModelFacts`) for as long as the same version answers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from keras_tagger.attention import Attention, AttentionWindow
from keras_tagger.audio import AudioSource, Window, Windowing
from keras_tagger.audio.windows import WINDOWS_PER_BATCH, Stitcher, WindowMean, batches, stacked
from keras_tagger.client import probe
from keras_tagger.client.probe import Plan, Reply, Request
from keras_tagger.errors import AudioWarning, ServingError
from keras_tagger.files import to_bytes, to_text
from keras_tagger.heatmap import Heatmap
from keras_tagger.tags import TagInfo, Tags, check_rank, judged, make_tags

Result = TypeVar("Result")

# A request of this length is 19 MB at 16 kHz; the model cuts it into its windows itself.
MAX_REQUEST_SECONDS = 300.0
_MAX_RESTARTS = 3
# Signature and name of each map.
_MAPS = {"attention": "heatmap", "contributions": "contributions"}


@dataclass
class ModelFacts:
    """Facts about one version of a model, determined by requests.

    Attributes:
        version: Its number; None before it has answered.
        token_samples: Samples per token; 1 if unknown.
        window_samples: Length of the model's window; 0 if it cannot be measured.
        tags: Names of the outputs, in order.
        info: By requested set of tags, the information about each tag; None if the model does not report it.
    """

    version: int | None = None
    token_samples: int | None = None
    window_samples: int | None = None
    tags: tuple[str, ...] | None = None
    info: dict[frozenset[str], Mapping[str, TagInfo] | None] = field(default_factory=dict)


@dataclass
class ServedModel:
    """Plans for a served model.

    Attributes:
        sample_rate: The model's sample rate in Hz.
        window_seconds: The model's window; None to measure it when it is needed.
        facts: The known facts about the served version.
    """

    sample_rate: int
    window_seconds: float | None
    facts: ModelFacts = field(default_factory=ModelFacts)

    def tag(
        self,
        audio: AudioSource,
        top: int | None,
        tags: Sequence[str] | None,
        merge_synonyms: bool = False,
        rank: str = "score",
    ) -> Plan[Tags]:
        """Return the best tags of a clip."""
        check_rank(rank)
        if top is not None and top < 1:
            raise ServingError(f"top: expected at least 1. Received: {top}.")
        found: list[AudioWarning] = []
        if isinstance(tags, str):
            raise ServingError(f"tags: expected a list with the names of all outputs. Received: {tags!r}.")
        if tags is None:
            try:
                names, mean = yield from self._classes(audio, found)
            except ServingError as error:
                if 'signature key "classify" not found' not in str(error):
                    raise
                raise ServingError(
                    "expected a model with the signature classify, or the names of its tags as `tags`. "
                    f"Received: {error}",
                    error.code,
                ) from None
        else:
            names, mean = tuple(tags), (yield from self._mean(audio, "serving_default", "tags", found))
            if len(names) != len(mean.value):
                raise ServingError(f"tags: expected {len(mean.value)} names, one per output. Received: {len(names)}.")
        seconds = mean.samples / self.sample_rate
        return make_tags(names, mean.value, (yield from self.info(names)), top, merge_synonyms, found, rank, seconds)

    def classify(self, audio: AudioSource) -> Plan[Tags]:
        """Return all tags of a clip, by the signature `classify`."""
        found: list[AudioWarning] = []
        names, mean = yield from self._classes(audio, found)
        seconds = mean.samples / self.sample_rate
        info = yield from self.info(names)
        return make_tags(names, mean.value, info, None, False, found, seconds=seconds)

    def embed(self, audio: AudioSource) -> Plan[npt.NDArray[Any]]:
        """Return the embedding of a clip, float32 `[D]`."""
        found: list[AudioWarning] = []
        mean = yield from self._mean(audio, "embedding", "embedding", found)
        for warning in found:
            warnings.warn(warning, stacklevel=2)
        return mean.value.astype(np.float32)

    def attention(self, audio: AudioSource, start_seconds: float, seconds: float | None) -> Plan[Attention]:
        """Return the attention weights of a clip or an excerpt of it, window by window."""
        # One window per request: weights grow with the square of the length, and a server limits their number.
        found: list[AudioWarning] = []
        windowing, windows = yield from self._cut_as_model(audio, found, start_seconds, seconds)
        parts = []
        hop_seconds = 0.0
        for window in windows:
            reply = yield Request("attention", {"waveform": stacked([window])}, ("attention", "times"))
            times = reply["times"][0].astype(np.float64)
            hop_seconds = 2.0 * float(times[0])
            all_new = window.new_samples == len(window.waveform)
            n_new = len(times) if all_new else int(windowing.is_new(window, times).sum())
            start = start_seconds + window.start_sample / self.sample_rate
            parts.append(AttentionWindow(start, reply["attention"][0], n_new))
        return Attention(tuple(parts), hop_seconds, warnings=tuple(found), audio=audio)

    def heatmap(
        self,
        kind: str,
        audio: AudioSource,
        tags: Sequence[str] | str | None,
        start_seconds: float,
        seconds: float | None,
    ) -> Plan[Heatmap]:
        """Return a map of a clip or an excerpt of it."""
        tags = [tags] if isinstance(tags, str) else tags
        if kind not in _MAPS:
            raise ServingError(f"kind: expected one of {', '.join(_MAPS)}. Received: {kind!r}.")
        if kind == "attention" and tags is not None:
            raise ServingError(f"tags: expected None for attention, which has no tags. Received: {', '.join(tags)}.")
        names: tuple[str, ...] = ("attention",)
        rows = [0]
        if kind == "contributions":
            names = yield from self.tag_names()
            unknown = [tag for tag in tags or () if tag not in names]
            if unknown:
                raise ServingError(f"tags: expected some of {', '.join(names)}. Received: {unknown[0]!r}.")
            rows = [names.index(tag) for tag in (names if tags is None else tags)]
        found: list[AudioWarning] = []
        values, times, mean = yield from self._map(kind, audio, found, start_seconds, seconds)
        kept = tuple(names[row] for row in rows)
        scores = margins = None
        if mean is not None:
            scores, info = mean[rows], (yield from self.info(names))
            margins = None if info is None else judged(kept, scores, info)[2]
        kept_values = np.atleast_2d(values)[rows]
        warned = tuple(found)
        return Heatmap(kept_values, kept, times, kind, scores=scores, warnings=warned, margins=margins, audio=audio)

    def tag_names(self) -> Plan[tuple[str, ...]]:
        """Return the names of the tags in the order of the outputs."""
        if self.facts.tags is None:
            self.facts.tags = yield from probe.tag_names(self.sample_rate)
        return self.facts.tags

    def _map(
        self, kind: str, audio: AudioSource, found: list[AudioWarning], start_seconds: float, seconds: float | None
    ) -> Plan[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any] | None]]:
        """Return a map's values `[..., T]` and times `[T]`, and of contributions the scores `[n_tags]`."""
        has_scores = kind == "contributions"
        outputs = (_MAPS[kind], "times", *(["tags"] if has_scores else []))
        windowing, groups = yield from self._windows(audio, found, start_seconds, seconds)
        stitcher = None if windowing is None else Stitcher(windowing)
        mean = WindowMean()
        for windows in groups:
            reply = yield Request(kind, {"waveform": stacked(windows)}, outputs)
            for index, window in enumerate(windows):
                values, times = reply[_MAPS[kind]][index], reply["times"][index].astype(np.float64)
                if has_scores:
                    mean.add(window, reply["tags"][index])
                if stitcher is not None:
                    stitcher.add(window, values, times)
        if stitcher is not None:
            values, times = stitcher.values, stitcher.times
        return values, start_seconds + times, mean.value if has_scores else None

    def _classes(self, audio: AudioSource, found: list[AudioWarning]) -> Plan[tuple[tuple[str, ...], WindowMean]]:
        """Return names and the mean of their scores by the signature `classify`."""
        mean = WindowMean()
        names: list[bytes] = []
        for windows in (yield from self._windows(audio, found))[1]:
            inputs = probe.examples([window.waveform for window in windows])
            reply = yield Request("classify", {"inputs": inputs}, ("classes", "scores"))
            for window, classes, scores in zip(windows, reply["classes"], reply["scores"], strict=True):
                # Each window has its own ranking; the first one's order is kept.
                names = names or list(classes)
                score = dict(zip(classes, scores, strict=True))
                mean.add(window, np.array([score[name] for name in names]))
        return tuple(to_text(name) for name in names), mean

    def _mean(self, audio: AudioSource, signature: str, output: str, found: list[AudioWarning]) -> Plan[WindowMean]:
        """Return the mean of an output over the windows, `[size]`."""
        mean = WindowMean()
        for windows in (yield from self._windows(audio, found))[1]:
            reply = yield Request(signature, {"waveform": stacked(windows)}, (output,))
            for window, values in zip(windows, reply[output], strict=True):
                mean.add(window, values)
        return mean

    def info(self, names: tuple[str, ...]) -> Plan[Mapping[str, TagInfo] | None]:
        """Return what the signature `tag_info` says about tags; None for a model without it or without these tags."""
        known, key = self.facts.info, frozenset(names)
        if key not in known:
            inputs = {"tags": np.array([to_bytes(name) for name in names], object)}
            try:
                reply = yield Request("tag_info", inputs, ("threshold", "heard"))
            except ServingError as error:
                if error.code not in probe.REFUSED:
                    raise
                known[key] = None
            else:
                thresholds = reply["threshold"]
                found = zip(names, thresholds, reply["heard"], strict=True)
                # The threshold of a name that the model does not have is NaN.
                usable = bool(((thresholds >= 0) & (thresholds <= 1)).all())
                known[key] = {name: TagInfo(float(t), bool(heard)) for name, t, heard in found} if usable else None
        return known[key]

    @property
    def _limit(self) -> int:
        """The samples of audio that one request may hold."""
        return max(1, round((self.window_seconds or MAX_REQUEST_SECONDS) * self.sample_rate))

    def _windows(
        self, audio: AudioSource, found: list[AudioWarning], start_seconds: float = 0.0, seconds: float | None = None
    ) -> Plan[tuple[Windowing | None, Iterator[list[Window]]]]:
        """Return audio as it is sent: whole and without a `Windowing` if one request may hold it, else in windows.

        Once the windows are read, `found` has what a listener must know about the audio.
        """
        end, seen = _end(start_seconds, seconds), list[AudioWarning]()
        parts = Windowing(self.sample_rate, self._limit).cut(audio, start_seconds, end, seen)
        first = next(parts)
        if next(parts, None) is None:
            found += seen
            return None, iter([[first]])
        windowing, windows = yield from self._cut_as_model(audio, found, start_seconds, seconds)
        size = min(max(self._limit // windowing.window_samples, 1), WINDOWS_PER_BATCH)
        return windowing, batches(windows, size)

    def _cut_as_model(
        self, audio: AudioSource, found: list[AudioWarning], start_seconds: float, seconds: float | None
    ) -> Plan[tuple[Windowing, Iterator[Window]]]:
        """Return the model's own windows of a clip, as `Tagger` cuts them."""
        facts = self.facts
        if facts.token_samples is None:
            facts.token_samples = yield from probe.token_samples(self.sample_rate)
        token = facts.token_samples
        size = max(self._limit // token, 1) * token
        if self.window_seconds is None:
            if facts.window_samples is None:
                facts.window_samples = yield from probe.window_samples(self.sample_rate, token)
            size = facts.window_samples or size
        windowing = Windowing(self.sample_rate, size, token)
        return windowing, windowing.cut(audio, start_seconds, _end(start_seconds, seconds), found)


def _end(start_seconds: float, seconds: float | None) -> float | None:
    return None if seconds is None else start_seconds + seconds


class PlanRun(Generic[Result]):
    """A running plan. If replies come from different versions of the model, the plan starts again.

    Every method runs a part of the plan, and raises what the plan raises.

    Args:
        plan: Makes the plan.
        model: The client's model, which this run updates if the version changes.

    Attributes:
        request: The next request to send; None once `result` is there.
        result: The plan's return value.
    """

    def __init__(self, plan: Callable[[ServedModel], Plan[Result]], model: ServedModel) -> None:
        self.request: Request | None = None
        self.result: Result | None = None
        self._plan = plan
        self._model = model
        self._facts = model.facts
        self._running: Plan[Result] | None = None
        self._versions: list[int] = []

    def start(self) -> None:
        """Advance to the first request."""
        # Other runs may meet another version meanwhile; this run keeps the facts that it started with.
        self._facts = self._model.facts
        running = self._running = self._plan(replace(self._model, facts=self._facts))
        self._advance(lambda: next(running))

    def answer(self, reply: Reply, version: int) -> None:
        """Advance with a reply and the version of the model that gave it.

        Raises:
            ServingError: If the version changes again and again.
        """
        if self._facts.version is None:
            self._facts.version = version
        if self._facts.version == version:
            self._advance(lambda: self._started.send(reply))
            return
        if self._model.facts.version != version:
            self._model.facts = ModelFacts(version)
        self._versions.append(self._facts.version)
        if len(self._versions) > _MAX_RESTARTS:
            seen = ", ".join(map(str, [*self._versions, version]))
            raise ServingError(f"expected one version of the model to answer for a whole clip. Received: {seen}.")
        self.close()
        self.start()

    def fail(self, error: ServingError) -> None:
        """Tell the plan that its request was refused; it may continue."""
        self._advance(lambda: self._started.throw(error))

    def close(self) -> None:
        """Close files that the plan reads."""
        if self._running is not None:
            self._running.close()

    @property
    def _started(self) -> Plan[Result]:
        if self._running is None:
            raise RuntimeError("expected a run that has started")
        return self._running

    def _advance(self, step: Callable[[], Request]) -> None:
        try:
            self.request = step()
        except StopIteration as stop:
            self.request, self.result = None, stop.value
