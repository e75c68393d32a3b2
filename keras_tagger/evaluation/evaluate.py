"""`evaluate`: score every clip of a split and compare the scores with its labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger import audio
from keras_tagger.audio.windows import Window, evenly_spaced
from keras_tagger.config import load_config
from keras_tagger.data.manifest import Clip, Manifest, label_matrix, read_manifest
from keras_tagger.data.objects import is_by_split, is_dataset
from keras_tagger.data.prepared import Prepared, PreparedClip
from keras_tagger.data.sources import open_source
from keras_tagger.errors import ManifestError, ModelError
from keras_tagger.evaluation.bootstrap import bootstrap_intervals
from keras_tagger.evaluation.clip_scores import ClipScores
from keras_tagger.evaluation.examples import find_examples
from keras_tagger.evaluation.report import Report, counted_tags, macro, score
from keras_tagger.files import printable, to_text
from keras_tagger.progress import progress_bar
from keras_tagger.storage.run_dir import RunDir
from keras_tagger.tagger import Tagger, load


def evaluate(
    tagger: Tagger | str | os.PathLike[str],
    data: Any = None,
    split: str | None = None,
    positive: float = 0.5,
    min_positives: int = 1,
    progress: bool = True,
    n_chunks: int = 0,
    resamples: int = 1000,
    seed: int = 0,
    examples: int = 0,
    name: str = "",
) -> Report:
    """Measure a tagger on labelled clips: macro and per-tag ROC-AUC and PR-AUC with bootstrap intervals.

    Single-label models (softmax) are also measured by accuracy. Tags that only the data
    or only the model has are not scored; the report lists them.

    Args:
        tagger: A `Tagger`, a pretrained name, a run directory or a `.keras` file.
        data: The path of a manifest, a folder with labels or a prepared folder, or Python data, as for `fit`
            (`keras_tagger.open_dataset` opens public data sets). None takes the held-out clips of a run directory.
        split: "train", "valid" or "test". By default "test" if the data have it, else all clips.
        positive: A clip has a tag if its label is above this; labels may be soft. At least 0 and below 1.
        min_positives: A tag counts in the macro means if at least this many clips have it and as many do not.
        progress: Whether to show a progress bar.
        n_chunks: With 0, the score of a clip is the mean over consecutive windows, so that every second counts once.
            With n, it is the mean over n windows that begin at 0, h, 2h, ... samples with h = (length - window) // n,
            as Won et al. evaluate with n = 16 (2019 to 2021). A clip shorter than a window is one window.
        resamples: Bootstrap resamples for the intervals; 0 computes none.
        seed: Seed of the bootstrap.
        examples: How many of the worst false positives and of the worst false negatives of each tag the page of the
            report has with players; each takes about 80 kB.
        name: The name of the model, for the page.

    Raises:
        ManifestError: If no clip of the split can be read, or the model has no tag of the data.
        ModelError: If an option is out of range.

    Example:
        >>> kt.evaluate("runs/mine")
        >>> report = kt.evaluate("compact", "music/manifest.csv")
        >>> print(report)
        >>> report.save("reports/compact")
    """
    numbers = {"n_chunks": n_chunks, "resamples": resamples, "seed": seed, "examples": examples}
    for option, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ModelError(f"{option}: expected a whole number of 0 or more. Received: {value!r}.")
    if not 0 <= positive < 1:
        raise ModelError(f"positive: expected 0 <= label < 1. Received: {positive!r}.")
    if min_positives < 1:
        raise ModelError(f"min_positives: expected at least 1. Received: {min_positives!r}.")
    if data is None:
        run = RunDir(os.fspath(tagger)) if isinstance(tagger, str | os.PathLike) else None
        if run is None or not run.config.is_file():
            raise ManifestError(
                "data: expected labelled audio, or a run directory, which has its own. "
                f"Received: no data for {tagger if run else 'a model'}."
            )
        data = data_of_run(run)
        split = split or next((name for name in ("test", "valid") if any(c.split == name for c in data.clips)), None)
    if isinstance(tagger, str | os.PathLike):
        tagger = load(tagger)
    # A `tf.data.Dataset` has no names of tags.
    of_model = any(map(is_dataset, data.values() if is_by_split(data) else [data]))
    data = open_source(data, tagger.tags if of_model else None, sample_rate=tagger.model.audio_config.sample_rate)
    data_name = _data_name(data)
    shared = [tag for tag in tagger.tags if tag in data.tags]
    if not shared:
        raise ManifestError(
            f"expected data with some of the model's tags ({', '.join(tagger.tags[:10])}). "
            f"Received: {', '.join(data.tags[:10])}."
        )
    chosen = split or ("test" if any(clip.split == "test" for clip in data.clips) else None)
    clips = [clip for clip in data.clips if chosen is None or clip.split == chosen]
    if not clips:
        present = sorted({clip.split for clip in data.clips if clip.split}) or ["none"]
        raise ManifestError(f"split: expected one of {', '.join(present)}. Received: {chosen!r}.")
    labels = label_matrix((clip.tags for clip in clips), shared)
    unknown_tags = tuple(tag for tag in data.tags if tag not in tagger.tags)
    scores, failed = score_clips(tagger, data, clips, progress, n_chunks)
    kept = [index for index in range(len(clips)) if index in scores]
    if not kept:
        raise ManifestError(f"expected clips that can be read. Received: {failed[0]['reason']}")
    columns = [tagger.tags.index(tag) for tag in shared]
    everything = np.stack([scores[index] for index in kept])
    if not np.isfinite(everything).all():
        raise ModelError(
            "expected a model whose scores are finite. Received: NaN or infinity, so its weights are lost."
        )
    labels, found = labels[kept], everything[:, columns]
    of_unknown = [any(clips[index].tags.get(tag, 0.0) > positive for tag in unknown_tags) for index in kept]
    table = score(labels, found, shared, positive)
    found_in = {row["tag"]: row["n_positive"] for row in table}
    correct = None
    if tagger.model.model_config.head.activation == "softmax":
        correct = _correct(labels > positive, everything, columns)
    clip_scores = ClipScores(
        tuple(_clip_id(clips[index]) for index in kept),
        tuple(shared),
        labels,
        found,
        positive,
        counted_tags(table, min_positives),
        correct,
    )
    return Report(
        macro(table, "roc_auc", min_positives),
        macro(table, "pr_auc", min_positives),
        table,
        len(kept),
        chosen or "all",
        tuple(failed),
        accuracy=clip_scores.accuracy,
        n_chunks=n_chunks,
        intervals=bootstrap_intervals(clip_scores, resamples, seed) if resamples else {},
        clip_scores=clip_scores,
        unknown_tags=unknown_tags,
        n_unknown_clips=int(np.sum(of_unknown & ~(labels > positive).any(axis=1))),
        missing_tags=tuple(tag for tag in tagger.tags if not found_in.get(tag)),
        model=name,
        data=data_name,
        examples=find_examples(tagger, data, [clips[index] for index in kept], clip_scores, examples, progress)
        if examples
        else (),
    )


def data_of_run(run: RunDir) -> Manifest | Prepared:
    """Return the clips that a run was trained on, with their splits.

    Raises:
        ManifestError: If they cannot be opened.
    """
    tags = tuple(to_text(run.tags_text.read_bytes()).splitlines()) if run.tags_text.is_file() else None
    if run.manifest.is_file():
        return read_manifest(run.manifest, tags)
    return open_source(load_config(run.config).data.path, tags)


def _data_name(data: Manifest | Prepared) -> str:
    return data.name if isinstance(data, Manifest) else printable(data.dir)


def _correct(present: npt.NDArray[Any], scores: npt.NDArray[Any], columns: list[int]) -> npt.NDArray[Any]:
    """Return 1 if the clip's tag has the model's largest score, else 0; NaN without exactly one tag."""
    right = np.asarray(columns)[present.argmax(axis=1)] == scores.argmax(axis=1)
    return np.where(present.sum(axis=1) == 1, right, np.nan).astype(np.float32)


def _clip_id(clip: Clip | PreparedClip) -> str:
    return clip.id if isinstance(clip, PreparedClip) else clip.clip_id


def score_clips(
    tagger: Tagger, data: Manifest | Prepared, clips: list[Any], progress: bool = True, n_chunks: int = 0
) -> tuple[dict[int, npt.NDArray[Any]], list[Mapping[str, str]]]:
    """Score clips of some data.

    Args:
        tagger: The model.
        data: Where the clips are from.
        clips: Its clips.
        progress: Whether to show a progress bar.
        n_chunks: As for `evaluate`.

    Returns:
        The scores, float64 `[n_tags]`, by the clip's index in `clips`; and the clips that could not be read, each with
        `path` and `reason`.

    Raises:
        ManifestError: If the data were prepared at another sample rate.
    """
    rate = tagger.model.audio_config.sample_rate
    failed: list[Mapping[str, str]] = []
    if isinstance(data, Prepared) and data.sample_rate != rate:
        raise ManifestError(f"{data.dir}: expected audio prepared at {rate} Hz. Received: {data.sample_rate} Hz.")

    def windows_of(source: Any, start: float = 0.0, end: float | None = None) -> Iterator[Window]:
        if not n_chunks:
            yield from tagger.model.windowing.cut(source, start, end)
        else:
            yield from evenly_spaced(audio.load(source, rate, start, end), tagger.model.crop_samples, n_chunks)

    order: list[int] = []

    def windows_of_clips() -> Iterator[Iterator[Window]]:
        with progress_bar(total=len(clips), desc="evaluate", unit="clip", hidden=not progress, leave=False) as bar:
            if isinstance(data, Prepared):
                place = {clip.index: index for index, clip in enumerate(clips)}
                for split in dict.fromkeys(clip.split for clip in clips):
                    for clip, waveform in data.iter_clips(split):
                        order.append(place[clip.index])
                        yield windows_of((waveform, rate))
                        bar.update()
                return
            for index, clip in enumerate(clips):
                order.append(index)
                yield windows_of(clip.path, clip.start_seconds, clip.end_seconds)
                bar.update()

    scores: dict[int, npt.NDArray[Any]] = {}
    for place, found in enumerate(tagger.clip_scores(windows_of_clips())):
        if isinstance(found, np.ndarray):
            scores[order[place]] = found
        else:
            failed.append({"path": clips[order[place]].clip_id, "reason": str(found)})
    return scores, failed
