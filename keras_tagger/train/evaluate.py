"""`evaluate`: score every clip of a split and compare with its labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from keras_tagger import audio
from keras_tagger.audio import Window
from keras_tagger.data.manifest import Manifest, label_matrix, open_source
from keras_tagger.data.prepared import Prepared
from keras_tagger.errors import AudioError, AudioNotFoundError, ManifestError
from keras_tagger.train.report import Report, macro, score

if TYPE_CHECKING:
    from keras_tagger.tagger import Tagger


def evaluate(
    tagger: Tagger,
    data: str | os.PathLike[str] | Manifest | Prepared,
    split: str | None = None,
    positive: float = 0.5,
    min_positives: int = 1,
    progress: bool = True,
) -> Report:
    """Macro and per-tag ROC-AUC and PR-AUC of whole clips, each scored as the mean over its windows.

    Args:
        tagger: the model.
        data: a manifest, a folder per tag, a prepared folder, or one of these opened.
        split: "train", "valid" or "test"; by default "test" where the data has one, or all of it without splits.
        positive: a clip has a tag where its label is above this (labels may be soft), 0..1.
        min_positives: tags that fewer clips have, or fewer lack, do not count in the macro means.
        progress: whether to show a progress bar.

    Raises:
        ManifestError: no clip of the split can be read, or no tag of the data is one of the model's.
    """
    if isinstance(data, str | os.PathLike):
        data = open_source(data)
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
    scores, failed = score_clips(tagger, data, clips, progress)
    kept = [index for index in range(len(clips)) if index in scores]
    if not kept:
        raise ManifestError(f"expected clips that can be read. Received: {failed[0]['reason']}")
    columns = [tagger.tags.index(tag) for tag in shared]
    found = np.stack([scores[index][columns] for index in kept])
    table = score(labels[kept], found, shared, positive)
    roc_auc, pr_auc = (macro(table, name, min_positives) for name in ("roc_auc", "pr_auc"))
    return Report(roc_auc, pr_auc, table, len(kept), chosen or "all", tuple(failed))


def score_clips(
    tagger: Tagger, data: Manifest | Prepared, clips: list[Any], progress: bool = True
) -> tuple[dict[int, np.ndarray], list[Mapping[str, str]]]:
    """Scores float64 [n_tags] by the clip's place in `clips`, and the clips that failed with their reasons."""
    rate = tagger.model.audio.sample_rate
    failed: list[Mapping[str, str]] = []
    if isinstance(data, Prepared) and data.sample_rate != rate:
        raise ManifestError(f"{data.dir}: expected audio prepared at {rate} Hz. Received: {data.sample_rate} Hz.")

    sizes = (rate, tagger.model.window_samples, tagger.model.token_samples)

    def all_windows() -> Iterator[tuple[int, Window]]:
        bar = tqdm(total=len(clips), desc="evaluate", unit="clip", disable=not progress, leave=False)
        with bar:
            if isinstance(data, Prepared):
                place = {clip.index: index for index, clip in enumerate(clips)}
                for split in dict.fromkeys(clip.split for clip in clips):
                    for clip, waveform in data.iter_clips(split):
                        for window in audio.windows((waveform, rate), *sizes):
                            yield place[clip.index], window
                        bar.update()
                return
            for index, clip in enumerate(clips):
                try:
                    for window in audio.windows(clip.path, *sizes, clip.start_seconds, clip.end_seconds):
                        yield index, window
                except (AudioError, AudioNotFoundError) as error:
                    failed.append({"path": clip.clip_id, "reason": str(error)})
                bar.update()

    totals: dict[int, Any] = {}
    weights: dict[int, int] = {}
    for index, window, found in tagger.window_scores(all_windows()):
        totals[index] = totals.get(index, 0.0) + found.astype(np.float64) * window.new_samples
        weights[index] = weights.get(index, 0) + window.new_samples
    # A file that broke midway was scored in part: it counts as failed.
    broken = {entry["path"] for entry in failed}
    return {
        index: total / weights[index]
        for index, total in totals.items()
        if isinstance(data, Prepared) or clips[index].clip_id not in broken
    }, failed
