"""`Tagger`: a trained model, asked about audio of any kind and length."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.audio import AudioSource, Window, Windowing
from keras_tagger.audio.read_ahead import read_ahead
from keras_tagger.errors import AudioError, AudioNotFoundError, ModelError
from keras_tagger.heatmap import Attention, AttentionWindow, Heatmap
from keras_tagger.models.trained import TrainedModel
from keras_tagger.tags import Tags, make_tags

TAGGRAM_SECONDS = 3.0
_WINDOWS_PER_BATCH = 8


class Tagger(TrainedModel):
    """A model with its tags and configuration.

    Audio is a path (local or any `tf.io.gfile` scheme), encoded bytes, or `(array, sample_rate)`; it is made mono and
    resampled to `config.audio.sample_rate`. Audio of up to one window (`config.audio.window_seconds`) is seen in one
    pass; less than a token's length is padded with zeros. Longer audio is read and seen window by window, in constant
    memory. Methods raise `AudioError` or `AudioNotFoundError` for audio that cannot be used.

    Attributes:
        model: the `MusicTagger` (a `keras.Model`).
        tags: its tags, in the order of its outputs.
        config: the `ExperimentConfig` it was made with.
        info: tag to `TagInfo`: its threshold, and whether training had evidence of it.

    Raises:
        ModelError: `info` names a tag that the model does not have.
    """

    def tag(self, audio: AudioSource, top: int | None = 10, merge_synonyms: bool = False) -> Tags:
        """The most probable tags of a whole track: the mean over its windows, each second counting once.

        Args:
            audio: see `Tagger`.
            top: how many; None for all.
            merge_synonyms: whether names of one thing (vocal, vocals, voice, singing) become one entry with their
                largest score; `keras_tagger.tags.SYNONYMS` lists them.

        Raises:
            ModelError: `top` is below 1, or no whole number.
        """
        _check_top(top)
        return make_tags(self.tags, self.scores(audio), self.info, top, merge_synonyms)

    def tag_files(
        self, sources: Iterable[AudioSource], top: int | None = 10, merge_synonyms: bool = False
    ) -> Iterator[tuple[AudioSource, Tags | AudioError | AudioNotFoundError]]:
        """`tag` for many tracks, the next of which are decoded while the model sees the ones before.

        Args:
            sources: audio, see `Tagger`.
            top, merge_synonyms: as for `tag`.

        Yields:
            Each source, in order, with its tags, or with the error of audio that cannot be used.

        Raises:
            ModelError: `top` is below 1, or no whole number.
        """
        _check_top(top)
        return self._tag_files(sources, top, merge_synonyms)

    def _tag_files(
        self, sources: Iterable[AudioSource], top: int | None, merge_synonyms: bool
    ) -> Iterator[tuple[AudioSource, Tags | AudioError | AudioNotFoundError]]:
        begun: deque[AudioSource] = deque()
        windowing = self.model.windowing

        def clips() -> Iterator[Iterator[Window]]:
            for source in sources:
                begun.append(source)
                yield windowing.cut(source)

        for scores in self.clip_scores(clips(), batch_size=1):
            if isinstance(scores, np.ndarray):
                yield begun.popleft(), make_tags(self.tags, scores.astype(np.float32), self.info, top, merge_synonyms)
            else:
                yield begun.popleft(), scores

    def scores(self, audio: AudioSource) -> npt.NDArray[Any]:
        """Probability of every tag, float32 [n_tags], in the order of `tags`."""
        return self._mean(audio, "tags")

    def embed(self, audio: AudioSource) -> npt.NDArray[Any]:
        """The [CLS] vector after the encoder, float32 [D]: the mean over the track's windows."""
        return self._mean(audio, "embedding")

    def taggram(self, audio: AudioSource, window_seconds: float = TAGGRAM_SECONDS) -> Heatmap:
        """Every tag's probability over time, from short windows seen one by one (Pons and Serra 2019, musicnn).

        Args:
            audio: see `Tagger`.
            window_seconds: length of the windows, rounded to whole tokens.

        Returns:
            Heatmap [n_tags, windows]; `times` are the windows' centres. The last window is moved back to be full length
            and its time is the centre of what is new in it.

        Raises:
            ModelError: the window is not longer than zero, or endless.
        """
        if not (window_seconds > 0 and math.isfinite(window_seconds)):
            raise ModelError(f"window_seconds: expected a positive time. Received: {window_seconds!r}.")
        token = self.model.token_samples
        size = max(round(window_seconds * self.model.audio_config.sample_rate / token), 1) * token
        values, times = [], []
        weights: list[int] = []
        rate = self.model.audio_config.sample_rate
        for window, found in self._outputs(audio, ("tags",), size):
            values.append(found["tags"])
            times.append((sum(weights) + window.new_samples / 2) / rate)
            weights.append(window.new_samples)
        scores = np.average(values, axis=0, weights=weights)
        return Heatmap(np.stack(values, axis=1), self.tags, np.array(times), "taggram", scores=scores)

    def attention(self, audio: AudioSource) -> Attention:
        """Attention weights of every layer and head; `Attention.heatmap` draws them as the paper does.

        Up to one window, `weights` is float32 [layers, heads, T+1, T+1] (index 0 is [CLS]) and each row sums to one; a
        longer clip has one such array per window.
        """
        windows = [
            AttentionWindow(
                window.start_sample / self.model.audio_config.sample_rate,
                found["attention"],
                self._new_tokens(window),
            )
            for window, found in self._outputs(audio, ("attention",))
        ]
        return Attention(tuple(windows), self.model.hop_seconds)

    def contributions(self, audio: AudioSource, tags: Sequence[str] | None = None) -> Heatmap:
        """Tag-wise contribution: each tag's probability if the last layer attended to that token only.

        Won, Chun, Serra 2019, section 3.2, by the single-key formulation: one pass, not T+1. Long audio is seen window
        by window and stitched.

        Args:
            audio: see `Tagger`.
            tags: rows wanted, in order; None for all.

        Returns:
            Heatmap [n_tags, T], 0..1; `scores` are the tags' probabilities for the whole clip.

        Raises:
            ModelError: a tag that the model does not have.
        """
        rows = self.rows(tags)
        values, scores, weights = [], [], []
        for window, found in self._outputs(audio, ("tags", "contributions")):
            values.append(found["contributions"][rows, -self._new_tokens(window) :])
            scores.append(found["tags"][rows])
            weights.append(window.new_samples)
        stitched = np.concatenate(values, axis=1)
        times = self.model.token_times(stitched.shape[1])
        names = tuple(self.model.tags[i] for i in rows)
        mean = np.average(scores, axis=0, weights=weights)
        return Heatmap(stitched, names, times, "contributions", scores=mean)

    def explain(
        self, audio: AudioSource, method: str | None = None, tags: Sequence[str] | str | None = None, **options: Any
    ) -> Heatmap:
        """Why a tag: its map over the clip by any method of `keras_tagger.explain.METHODS`.

        Args:
            audio: see `Tagger`.
            method: "contributions", "integrated_gradients", ...; the one that measured best where None
                (docs/explanations.md).
            tags: rows wanted, in order, or one; None for all.
            **options: of the method.

        Returns:
            Heatmap [n_tags, T], or [n_tags, F, T] with `frequencies` for methods over frequency; `scores` are the tags'
            probabilities for the whole clip.

        Raises:
            ModelError: a method, option or tag that there is not, or an impossible value; the sentence lists what is.
        """
        from keras_tagger.explain import DEFAULT_METHOD, explain

        return explain(self, audio, method or DEFAULT_METHOD, tags, **options)

    def select(self, tags: Sequence[str], rename: Mapping[str, str] | None = None) -> Tagger:
        """A tagger of some of the outputs, in the order given: the same body, with the head's columns of those tags.

        With softmax outputs the probabilities are then among the kept ones.

        Args:
            tags: the outputs to keep.
            rename: a kept tag to its new name.

        Raises:
            ModelError: a tag that the model does not have or that is given twice, none at all, or a new name twice.
        """
        from keras_tagger.models.music_tagger import MusicTagger
        from keras_tagger.models.transfer import copy_weights

        if len(tags) == 0:
            raise ModelError("tags: expected at least one name, each once. Received: none.")
        kept = [self.model.tags[row] for row in self.rows(tags)]
        rename = dict(rename or {})
        unknown = [tag for tag in rename if tag not in kept]
        if unknown:
            raise ModelError(f"rename: expected some of {', '.join(kept)}. Received: {unknown[0]!r}.")
        names = [rename.get(tag, tag) for tag in kept]
        if len(set(names)) != len(names):
            raise ModelError(f"tags: expected at least one name, each once. Received: {', '.join(names)}.")
        model = MusicTagger(names, self.model.audio_config, self.model.model_config)
        model.build()
        copy_weights(self.model, model, dict(zip(names, kept, strict=True)))
        return Tagger(model, self.config, {name: self.info[tag] for name, tag in zip(names, kept, strict=True)})

    def export(self, directory: str | os.PathLike[str]) -> Path:
        """Write a SavedModel as the next free version below `directory`; see `keras_tagger.export.saved_model`."""
        from keras_tagger.export.saved_model import export

        return export(self, directory)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `.keras` file, whole or not at all; `keras_tagger.load` reads it."""
        from keras_tagger.storage.loading import save_model

        save_model(self, path)

    def clip_scores(
        self, clips: Iterable[Iterator[Window]], batch_size: int = _WINDOWS_PER_BATCH
    ) -> Iterator[npt.NDArray[Any] | AudioError | AudioNotFoundError]:
        """Tags of clips that are given by their windows, which a thread takes while the model sees those before.

        Yields:
            Of each clip, in order, float64 [n_tags], the mean over its windows by their `new_samples`; or the error
            that its windows raised.
        """
        places: deque[int] = deque()
        failed: dict[int, AudioError | AudioNotFoundError] = {}
        n_begun = done = weight = 0
        total: Any = 0.0

        def windows() -> Iterator[Window]:
            nonlocal n_begun
            for index, clip in enumerate(clips):
                n_begun = index + 1
                try:
                    for window in clip:
                        places.append(index)
                        yield window
                except (AudioError, AudioNotFoundError) as error:
                    failed[index] = error

        def ended(before: int) -> Iterator[npt.NDArray[Any] | AudioError | AudioNotFoundError]:
            nonlocal total, weight, done
            while done < before:
                yield failed.pop(done) if done in failed else total / weight
                total, weight, done = 0.0, 0, done + 1

        for window, found in self._analyzed(read_ahead(windows(), _WINDOWS_PER_BATCH), ("tags",), batch_size):
            yield from ended(places.popleft())
            total = total + found["tags"].astype(np.float64) * window.new_samples
            weight += window.new_samples
        yield from ended(n_begun)

    def _outputs(
        self, audio: AudioSource, outputs: tuple[str, ...], window_samples: int | None = None
    ) -> Iterator[tuple[Window, dict[str, npt.NDArray[Any]]]]:
        """Each window of a track with its outputs."""
        size = window_samples or self.model.window_samples
        windows = Windowing(self.model.audio_config.sample_rate, size, self.model.token_samples).cut(audio)
        if isinstance(audio, tuple):
            return self._analyzed(windows, outputs, _WINDOWS_PER_BATCH)
        # Decoding takes longer than the model, so small batches, which follow it closely, are fastest.
        return self._analyzed(read_ahead(windows), outputs, max(self.model.window_samples // size, 1))

    def _analyzed(
        self, windows: Iterator[Window], outputs: tuple[str, ...], batch_size: int
    ) -> Iterator[tuple[Window, dict[str, npt.NDArray[Any]]]]:
        """Each window with its outputs; windows of one length go through the model in batches."""
        batch: list[Window] = []

        def run() -> Iterator[tuple[Window, dict[str, npt.NDArray[Any]]]]:
            if batch:
                found = self.model.analyze(np.stack([window.waveform for window in batch]), outputs)
                arrays = {name: value.numpy() for name, value in found.items()}
                for index, window in enumerate(batch):
                    yield window, {name: value[index] for name, value in arrays.items()}
                batch.clear()

        for window in windows:
            if batch and len(batch[0].waveform) != len(window.waveform):
                yield from run()
            batch.append(window)
            if len(batch) == batch_size:
                yield from run()
        yield from run()

    def _mean(self, audio: AudioSource, output: str) -> npt.NDArray[Any]:
        total: Any = 0.0
        weight = 0
        for window, found in self._outputs(audio, (output,)):
            total = total + found[output].astype(np.float64) * window.new_samples
            weight += window.new_samples
        return (total / weight).astype(np.float32)

    def _new_tokens(self, window: Window) -> int:
        # A whole window has as many tokens as the stretch it stands for; a clip shorter than that, those it makes.
        whole = -(-window.new_samples // self.model.token_samples)
        return min(whole, self.model.n_tokens(len(window.waveform)))


def _check_top(top: int | None) -> None:
    if top is not None and (not isinstance(top, int | np.integer) or top < 1):
        raise ModelError(f"top: expected at least 1. Received: {top!r}.")


def load(source: str | os.PathLike[str]) -> Tagger:
    """Load a tagger from a pretrained name, a run directory or a `.keras` file; see `storage.loading.load_model`."""
    from keras_tagger.storage.loading import load_model

    found = load_model(source)
    return Tagger(found.model, found.config, found.info)


def import_checkpoint(
    path: str | os.PathLike[str],
    architecture: str,
    tags: str | os.PathLike[str] | Sequence[str],
    out: str | os.PathLike[str] | None = None,
) -> Tagger:
    """Load one of the authors' PyTorch checkpoints; see `storage.pytorch.checkpoint.read_checkpoint`."""
    from keras_tagger.storage.pytorch.checkpoint import read_checkpoint

    found = read_checkpoint(path, architecture, tags, out)
    return Tagger(found.model, found.config, found.info)
