"""`Tagger`: a trained model that takes audio of any kind and length."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.attention import Attention, AttentionWindow
from keras_tagger.audio import AudioSource, Window, Windowing
from keras_tagger.audio.read_ahead import CORES, in_parallel
from keras_tagger.audio.readers import RawAudio
from keras_tagger.audio.streams import is_file_object
from keras_tagger.audio.windows import WINDOWS_PER_BATCH, WindowMean, accumulate, accumulate_clips
from keras_tagger.errors import AudioError, AudioNotFoundError, AudioWarning, ModelError
from keras_tagger.explain import DEFAULT_METHOD, explain, taggram
from keras_tagger.explain.methods import TAGGRAM_SECONDS
from keras_tagger.heatmap import Heatmap
from keras_tagger.models.trained import TrainedModel
from keras_tagger.tags import Tags, check_rank, make_tags


class Tagger(TrainedModel):
    """A trained model that tags audio and explains its tags.

    Audio is a path (local, or of any scheme that `tf.io.gfile` knows), the bytes of an encoded file, a binary file
    object, or a tuple `(array, sample_rate)`. It is mixed to mono and resampled to `config.audio.sample_rate`. Audio
    longer than one window of the model (`config.audio.window_seconds`) is read and processed window by window, in
    constant memory. Methods that take audio raise `AudioError` if it cannot be decoded and `AudioNotFoundError` if the
    file does not exist.

    Args:
        model: The `MusicTagger`.
        config: The configuration that it was made with.
        info: `TagInfo` by tag; tags that are missing get the defaults.

    Attributes:
        model: The `MusicTagger`, a `keras.Model`.
        tags: Names of the tags, in the order of the model's outputs.
        config: The `ExperimentConfig` that it was made with.
        info: `TagInfo` by tag: the threshold, and whether the training data contained the tag.

    Raises:
        ModelError: If `info` names a tag that the model does not have.

    Example:
        >>> tagger = keras_tagger.load("compact")
        >>> print(tagger.tag("song.mp3", top=2))
        guitar 0.81, rock 0.63
    """

    def tag(self, audio: AudioSource, top: int | None = 10, merge_synonyms: bool = False, rank: str = "score") -> Tags:
        """Return the best tags of a whole clip.

        The probabilities are means over the clip's windows in which every second counts once. Those of a silent window
        are 0. `Tags.warnings` says what a listener must know about the audio.

        Args:
            audio: The audio, as described for `Tagger`.
            top: Number of tags to return; None for all.
            merge_synonyms: Whether names of the same thing (vocal, vocals, voice, singing) become one entry with their
                largest score; see `keras_tagger.tags.SYNONYMS`.
            rank: Which tags are best: "score" for the most probable ones, "margin" for those that exceed their
                thresholds by most; see `Tags.top`.

        Raises:
            ModelError: If `top` is not a whole number of at least 1, or `rank` is unknown.

        Example:
            >>> tagger.tag("song.mp3", top=5)
        """
        _check_top(top)
        check_rank(rank)
        warnings: list[AudioWarning] = []
        mean = self._accumulated(audio, "tags", warnings)
        return make_tags(self.tags, mean.value, self.info, top, merge_synonyms, warnings, rank, self._seconds(mean))

    def tag_files(
        self,
        sources: Iterable[AudioSource],
        top: int | None = 10,
        merge_synonyms: bool = False,
        rank: str = "score",
    ) -> Iterator[tuple[AudioSource, Tags | AudioError | AudioNotFoundError]]:
        """Tag many clips, several at a time: a thread per core decodes a clip and runs the model on it.

        Args:
            sources: The clips, each as described for `Tagger`; taken one after the other, a few in advance.
            top: As for `tag`.
            merge_synonyms: As for `tag`.
            rank: As for `tag`.

        Returns:
            An iterator over the sources, in order, each with its tags, or with the error if it cannot be decoded.

        Raises:
            ModelError: If `sources` is a single file, `top` is not a whole number of at least 1, or `rank` is unknown.

        Example:
            >>> for path, tags in tagger.tag_files(["a.mp3", "b.mp3"]):
            ...     print(path, tags)
        """
        _check_top(top)
        check_rank(rank)
        return (
            (
                source,
                make_tags(self.tags, mean.value, self.info, top, merge_synonyms, warnings, rank, self._seconds(mean)),
            )
            if isinstance(mean, WindowMean)
            else (source, mean)
            for source, mean, warnings in self._means(sources, self._run("tags"))
        )

    def describe_files(
        self, sources: Iterable[AudioSource]
    ) -> Iterator[tuple[AudioSource, tuple[Tags, npt.NDArray[Any]] | AudioError | AudioNotFoundError]]:
        """Tag and embed many clips in one pass of the model, several at a time, as `tag_files` does.

        Args:
            sources: The clips, each as described for `Tagger`; taken one after the other, a few in advance.

        Returns:
            An iterator over the sources, in order, each with all its tags and its embedding, float32 `[D]`, or with the
            error if it cannot be decoded.

        Raises:
            ModelError: If `sources` is a single file.

        Example:
            >>> for path, (tags, embedding) in tagger.describe_files(["a.mp3", "b.mp3"]):
            ...     print(path, tags, embedding.shape)
        """

        def run(waveforms: npt.NDArray[Any]) -> npt.NDArray[Any]:
            outputs = self.model.analyze(waveforms, ("tags", "embedding"))
            return np.concatenate([np.asarray(outputs[name]) for name in ("tags", "embedding")], axis=1)

        n = len(self.tags)
        return (
            (
                source,
                (
                    make_tags(
                        self.tags, mean.value[:n], self.info, None, False, warnings, "score", self._seconds(mean)
                    ),
                    mean.value[n:].astype(np.float32),
                ),
            )
            if isinstance(mean, WindowMean)
            else (source, mean)
            for source, mean, warnings in self._means(sources, run)
        )

    def _means(
        self, sources: Iterable[AudioSource], run: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
    ) -> Iterator[tuple[AudioSource, WindowMean | AudioError | AudioNotFoundError, list[AudioWarning]]]:
        """Return each clip with the mean of a model's outputs, or an error, and what was found when it was read."""
        if isinstance(sources, str | bytes | os.PathLike) or is_file_object(sources):
            received = repr(os.fspath(sources)) if isinstance(sources, str | os.PathLike) else "the bytes of one"
            raise ModelError(f"sources: expected several files, such as a list of paths. Received: {received}.")

        # A single clip has a thread of its own that decodes ahead of the model.
        single = isinstance(sources, Sized) and len(sources) == 1
        size, ahead = (1, 4) if single else (WINDOWS_PER_BATCH, 0)
        # One file object may come twice.
        one_at_a_time = threading.Lock()
        stopped = threading.Event()

        def run_until_stopped(waveforms: npt.NDArray[Any]) -> npt.NDArray[Any]:
            if stopped.is_set():
                raise CancelledError
            return run(waveforms)

        def mean(source: AudioSource) -> tuple[AudioSource, WindowMean | AudioError | AudioNotFoundError, Any]:
            warnings: list[AudioWarning] = []
            shared = is_file_object(source) or isinstance(source, RawAudio)
            try:
                with one_at_a_time if shared else contextlib.nullcontext():
                    found = accumulate(
                        source, self.model.windowing, run_until_stopped, WindowMean(), size, warnings, ahead
                    )
            except (AudioError, AudioNotFoundError) as error:
                return source, error, warnings
            return source, found, warnings

        return in_parallel(mean, sources, CORES + 1, stopped)

    def scores(self, audio: AudioSource) -> npt.NDArray[Any]:
        """Return the probability of every tag, float32 `[n_tags]`, in the order of `tags`.

        Args:
            audio: The audio, as described for `Tagger`.

        Example:
            >>> tagger.scores("song.mp3")[tagger.rows("guitar")]
            array([0.81], dtype=float32)
        """
        return self._mean(audio, "tags")

    def embed(self, audio: AudioSource) -> npt.NDArray[Any]:
        """Return an embedding of a clip: the encoder's output at [CLS], averaged over the clip's windows.

        Args:
            audio: The audio, as described for `Tagger`.

        Returns:
            float32 `[D]`, D being the width of the encoder.

        Example:
            >>> tagger.embed("song.mp3").shape
            (64,)
        """
        return self._mean(audio, "embedding")

    def taggram(self, audio: AudioSource, window_seconds: float = TAGGRAM_SECONDS) -> Heatmap:
        """Return each tag's probability over time, from short windows that are scored one by one.

        Args:
            audio: The audio, as described for `Tagger`.
            window_seconds: Length of a window, rounded to whole tokens; must be positive.

        Returns:
            Heatmap `[n_tags, windows]`; see `keras_tagger.explain.taggram`.

        Raises:
            ModelError: If `window_seconds` is not a positive, finite number.

        Example:
            >>> tagger.taggram("song.mp3").top(5).plot()
        """
        return taggram(self, audio, window_seconds)

    def attention(self, audio: AudioSource) -> Attention:
        """Return the attention weights of every layer and head.

        Args:
            audio: The audio, as described for `Tagger`.

        Returns:
            For a clip of up to one window, `weights` is float32 `[layers, heads, T+1, T+1]`; index 0 is [CLS], and each
            row sums to one. A longer clip has one such array for each of its `windows`. `Attention.heatmap` gives the
            heat map of the paper.

        Example:
            >>> tagger.attention("song.mp3").heatmap().plot()
        """
        windowing, warnings = self.model.windowing, list[AudioWarning]()
        run, into = self._run("attention"), _AttentionWindows(windowing)
        windows = accumulate(audio, windowing, run, into, warnings=warnings).windows
        return Attention(tuple(windows), self.model.hop_seconds, warnings=tuple(warnings), audio=audio)

    def contributions(self, audio: AudioSource, tags: Sequence[str] | str | None = None) -> Heatmap:
        """Return each tag's probability if the last layer attended to one moment only (Won, Chun, Serra 2019, 3.2).

        This is the method "contributions" of `explain`. It takes one pass of the model, not one per moment.

        Args:
            audio: The audio, as described for `Tagger`.
            tags: One tag, or the tags wanted, in order; None for all.

        Returns:
            Heatmap `[n_tags, T]`, values in 0..1; its `scores` are the tags' probabilities for the whole clip.

        Raises:
            ModelError: If a tag does not exist.

        Example:
            >>> tagger.contributions("song.mp3", ["guitar"]).plot()
        """
        return explain(self, audio, "contributions", tags)

    def explain(
        self, audio: AudioSource, method: str | None = None, tags: Sequence[str] | str | None = None, **options: Any
    ) -> Heatmap:
        """Explain why the model gives a clip its tags, by any method of `keras_tagger.explain.METHODS`.

        Args:
            audio: The audio, as described for `Tagger`.
            method: Name of the method, e.g. "integrated_gradients"; None for the one that measured best
                (docs/explanations.md).
            tags: One tag, or the tags wanted, in order; None for all.
            **options: Options of the method.

        Returns:
            Heatmap `[n_tags, T]`, or `[n_tags, F, T]` with `frequencies` for methods over frequency. Its `scores` are
            the tags' probabilities for the whole clip.

        Raises:
            ModelError: If the method, an option or a tag does not exist, or the value of an option is out of range.

        Example:
            >>> tagger.explain("song.mp3", "occlusion", "guitar", patch_seconds=1.0).plot()
        """
        return explain(self, audio, method or DEFAULT_METHOD, tags, **options)

    def select(self, tags: Sequence[str] | str, rename: Mapping[str, str] | None = None) -> Tagger:
        """Return a tagger with some of the tags: a copy of the model with fewer outputs.

        With softmax outputs, the probabilities are then relative to the tags that are kept.

        Args:
            tags: The tags to keep, in the order wanted.
            rename: New names by the names of kept tags.

        Raises:
            ModelError: If a tag is unknown or repeated, `tags` is empty, or two tags would have the same name.

        Example:
            >>> tagger.select(["guitar", "piano"], rename={"guitar": "guitars"}).tags
            ('guitars', 'piano')
        """
        whole = self.keras_model("select")
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
        model = MusicTagger(names, whole.audio_config, whole.model_config)
        model.build()
        copy_weights(whole, model, dict(zip(names, kept, strict=True)))
        return Tagger(model, self.config, {name: self.info[tag] for name, tag in zip(names, kept, strict=True)})

    def export(self, directory: str | os.PathLike[str]) -> Path:
        """Export a SavedModel for TensorFlow Serving; see `keras_tagger.export.export`.

        Args:
            directory: The model's base directory; the SavedModel becomes its next version.

        Returns:
            The path of the version.

        Raises:
            ModelError: If the directory cannot be written.

        Example:
            >>> tagger.export("exported")
            PosixPath('exported/1')
        """
        self.keras_model("export")
        from keras_tagger.export.saved_model import export

        return export(self, directory)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save a `.keras` file, atomically; `keras_tagger.load` reads it.

        Args:
            path: Path that ends in .keras.

        Raises:
            ModelError: If the path does not end in .keras.

        Example:
            >>> tagger.save("tagger.keras")
        """
        self.keras_model("save")
        from keras_tagger.storage.loading import save_model

        save_model(self, path)

    def clip_scores(
        self, clips: Iterable[Iterator[Window]], batch_size: int = WINDOWS_PER_BATCH
    ) -> Iterator[npt.NDArray[Any] | AudioError | AudioNotFoundError]:
        """Score clips that are given as windows, decoding the next ones in the background.

        Args:
            clips: The windows of each clip.
            batch_size: Number of windows per batch of the model.

        Yields:
            For each clip, in order, its tag probabilities, float64 `[n_tags]`, averaged over the windows by their
            `new_samples`; or the error that its windows raised.

        Example:
            >>> clips = (tagger.model.windowing.cut(path) for path in paths)
            >>> scores = list(tagger.clip_scores(clips))
        """
        keyed = ((None, clip) for clip in clips)
        for _, result in accumulate_clips(keyed, self._run("tags"), WindowMean, batch_size):
            yield result.value if isinstance(result, WindowMean) else result

    def _run(self, output: str) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
        return lambda waveforms: np.asarray(self.model.analyze(waveforms, (output,))[output])

    def _mean(self, audio: AudioSource, output: str) -> npt.NDArray[Any]:
        return self._accumulated(audio, output, None).value.astype(np.float32)

    def _accumulated(self, audio: AudioSource, output: str, warnings: list[AudioWarning] | None) -> WindowMean:
        return accumulate(audio, self.model.windowing, self._run(output), WindowMean(), warnings=warnings)

    def _seconds(self, mean: WindowMean) -> float:
        return mean.samples / self.model.windowing.sample_rate


class _AttentionWindows:
    """Accumulates the attention weights of a clip's windows."""

    def __init__(self, windowing: Windowing) -> None:
        self.windows: list[AttentionWindow] = []
        self._windowing = windowing

    def add(self, window: Window, weights: npt.NDArray[Any], /) -> None:
        times = self._windowing.token_times(weights.shape[-1] - 1)
        n_new = int(np.count_nonzero(self._windowing.is_new(window, times)))
        self.windows.append(AttentionWindow(window.start_sample / self._windowing.sample_rate, weights, n_new))


def _check_top(top: int | None) -> None:
    if top is not None and (not isinstance(top, int | np.integer) or top < 1):
        raise ModelError(f"top: expected at least 1. Received: {top!r}.")


def load(source: str | os.PathLike[str], runtime: str | None = None) -> Tagger:
    """Load a tagger.

    Nothing in a file is executed. Inference is in float32.

    With the runtime "onnx" or "litert" a tagger tags, embeds, and explains by attention and contributions, without
    TensorFlow. Packaged models are ready for "onnx". TensorFlow first converts other models, and all for "litert",
    unless `source` is a file that `keras-tagger export` wrote.

    Args:
        source: A name of `keras_tagger.pretrained()`, a run directory, a `.keras` file, or an exported `.onnx` or
            `.tflite` file. A name always means the weights of the package; write `./compact` or pass a `Path` for a
            file or directory of that name.
        runtime: "keras", "onnx" or "litert". None means the one of an exported file; otherwise Keras, or "onnx" if
            TensorFlow is not installed.

    Raises:
        ModelNotFoundError: If there is no such name or path.
        ModelError: If the path is not a keras_tagger model, the runtime is unknown, or what it needs is not installed.

    Example:
        >>> load("compact", runtime="onnx").tag("song.mp3")
    """
    from keras_tagger.storage.loading import load_model
    from keras_tagger.storage.portable import chosen_runtime, has_tensorflow, load_portable

    runtime = chosen_runtime(source, runtime)
    if runtime != "keras":
        model, description = load_portable(source, runtime)
        return Tagger(model, description.config, description.info)
    if not has_tensorflow():
        raise ModelError(
            'runtime: expected "onnx" or "litert", or TensorFlow for "keras". Received: "keras" without TensorFlow; '
            "install it with: pip install keras_tagger"
        )

    found = load_model(source)
    return Tagger(found.model, found.config, found.info)


def import_checkpoint(
    path: str | os.PathLike[str],
    architecture: str,
    tags: str | os.PathLike[str] | Sequence[str],
    out: str | os.PathLike[str] | None = None,
) -> Tagger:
    """Load a PyTorch checkpoint of the papers' authors, without PyTorch and without running code from the file.

    Args:
        path: A file written by `torch.save` (.pth, .pt, .ckpt).
        architecture: "won2019", "won2019_raw", "won2020" or "won2021".
        tags: Names of the outputs in order, a text file with one name per line, or "mtat", "msd" or "jamendo".
        out: A new run directory to write, which `load` reads; None to write nothing.

    Raises:
        ModelNotFoundError: If the file does not exist.
        ModelError: If the file is damaged, unsafe or of another model, the number of tags is wrong, or `out` exists.

    Example:
        >>> import_checkpoint("best_model.pth", "won2021", "tags.txt").tag("song.mp3")
    """
    from keras_tagger.storage.pytorch.checkpoint import read_checkpoint

    found = read_checkpoint(path, architecture, tags, out)
    return Tagger(found.model, found.config, found.info)
