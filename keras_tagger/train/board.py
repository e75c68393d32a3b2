"""TensorBoard logs of a run: scalars, curves, hyper-parameters, embeddings, and what the model sees in a few clips.

The model runs in the training thread. Drawing, encoding and writing, which take longer, have a thread of their own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_tagger.config import ExperimentConfig
from keras_tagger.data.manifest import SPLITS
from keras_tagger.data.prepared import Prepared, PreparedClip
from keras_tagger.evaluation.report import Report
from keras_tagger.tagger import Tagger
from keras_tagger.views.board.log import write_explanation
from keras_tagger.views.preview import Examined, examine
from keras_tagger.views.projector import Embeddings, write_embeddings
from keras_tagger.views.summaries import (
    write_clip,
    write_config,
    write_hparams,
    write_pr_curves,
    write_preview,
    write_scalars,
)


class Board:
    """Writes a run's TensorBoard logs.

    Args:
        logs: The folder of the event files.
        prepared: The data; a few of its clips are shown.
        settings: The experiment; `settings.board` sets how much is shown.
    """

    def __init__(self, logs: Path, prepared: Prepared, settings: ExperimentConfig) -> None:
        self.logs = logs
        self.settings = settings
        self.prepared = prepared
        self.clips = preview_clips(prepared, settings)
        self.writer = tf.summary.create_file_writer(os.fsencode(logs))
        self._thread = ThreadPoolExecutor(1, "tensorboard")
        self._pending: list[Future[None]] = []
        self._shown: set[str] = set()

    def show_config(self) -> None:
        """Show the configuration as text and as hyper-parameters."""
        self._later(write_config, self.writer, self.settings.to_yaml())
        split = _held_out(self.prepared)
        metrics = [f"{split}/{name}" for name in ("roc_auc", "pr_auc", "loss")] + ["train/loss"]
        self._later(write_hparams, self.writer, self.settings, list(dict.fromkeys(metrics)))

    def show_loss(self, step: int, loss: float) -> None:
        """Show the mean training loss since the last call, by steps instead of epochs."""
        self._later(write_scalars, self.writer, {"steps/loss": loss}, step)

    def show_epoch(self, epoch: int, row: Mapping[str, float], tagger: Tagger, report: Report) -> None:
        """Show a row of the history, the scores of each tag and the clips; epochs count from 0."""
        # Drawing must not fall behind, and its errors are raised here.
        self._wait()
        step, split = epoch + 1, report.split
        scored = tuple(f"{split}_" for split in SPLITS)
        names = {name: name.replace("_", "/", 1) if name.startswith(scored) else f"train/{name}" for name in row}
        scalars = {names[key]: value for key, value in row.items() if key != "epoch"}
        for entry in report.per_tag:
            scalars |= {f"{split}_{metric}/{entry['tag']}": entry[metric] for metric in ("roc_auc", "pr_auc")}
        self._scalars(scalars, step)
        if (found := report.clip_scores) is not None:
            self._later(write_pr_curves, self.writer, *found.by_tag(), split, step)
        rate, seconds = self.settings.audio.sample_rate, self.settings.board.preview_seconds
        for name, waveform, truth in self.clips:
            examined = examine(tagger, (waveform, rate), name, truth, seconds)
            self._later(self._show_clip, examined, tagger, step)
        self._later(self.writer.flush)

    def show_scores(self, scores: Mapping[str, float], epoch: int, tagger: Tagger) -> None:
        """Show the scores of the report and the embeddings of the best model, and close the files."""
        self._scalars(scores, epoch)
        if self.settings.board.embedding_clips:
            found = clip_embeddings(tagger, self.prepared, self.settings)
            self._later(write_embeddings, self.logs, found, tagger)
        self._later(self.writer.close)
        self._wait()
        self._thread.shutdown()

    def _show_clip(self, examined: Examined, tagger: Tagger, step: int) -> None:
        preview = examined.preview(self.settings.board.top_tags)
        write_explanation(self.writer, tagger, examined, step)
        write_preview(self.writer, preview, step)
        if preview.name not in self._shown:
            write_clip(self.writer, preview)
            self._shown.add(preview.name)

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write the scalars that are defined."""
        defined = {name: value for name, value in values.items() if not math.isnan(value)}
        self._later(write_scalars, self.writer, defined, step)

    def _later(self, work: Callable[..., None], *arguments: Any) -> None:
        self._pending.append(self._thread.submit(work, *arguments))

    def _wait(self) -> None:
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()


def preview_clips(
    prepared: Prepared, settings: ExperimentConfig
) -> list[tuple[str, npt.NDArray[Any], tuple[str, ...]]]:
    """Choose a few clips with different tags, as (name, waveform, tags); held-out ones if there are any."""
    wanted = settings.board.preview_clips
    if not wanted:
        return []
    split = _held_out(prepared)
    chosen: dict[int, tuple[str, ...]] = {}
    for only_new in (True, False):
        seen: set[str] = set()
        for clip in prepared.select(split):
            truth = _truth(clip, settings)
            if len(chosen) < wanted and clip.index not in chosen and not (only_new and set(truth) <= seen):
                chosen[clip.index] = truth
                seen |= set(truth)
    samples = int(settings.board.preview_seconds * prepared.sample_rate)
    return [
        (_short_name(clip), waveform[:samples], chosen[clip.index])
        for clip, waveform in prepared.iter_clips(split)
        if clip.index in chosen
    ]


def clip_embeddings(tagger: Tagger, prepared: Prepared, settings: ExperimentConfig) -> Embeddings:
    """Embed the first `board.embedding_clips` held-out clips, each by the window in its middle."""
    model = tagger.model
    clips: list[PreparedClip] = []
    found: list[Mapping[str, Any]] = []
    for clip, waveform in prepared.iter_clips(_held_out(prepared)):
        if len(clips) == settings.board.embedding_clips:
            break
        start = max(len(waveform) - model.window_samples, 0) // 2
        window = waveform[start : start + model.window_samples]
        clips.append(clip)
        found.append(model.analyze(window[None], ("embedding", "tags", "spectrogram")))
    return Embeddings(
        tuple(_short_name(clip) for clip in clips),
        tuple(_truth(clip, settings) for clip in clips),
        np.concatenate([outputs["embedding"] for outputs in found]),
        np.concatenate([outputs["tags"] for outputs in found]),
        tuple(outputs["spectrogram"][0].numpy() for outputs in found),
    )


def _held_out(prepared: Prepared) -> str:
    return "valid" if "valid" in prepared.splits else "train"


def _truth(clip: PreparedClip, settings: ExperimentConfig) -> tuple[str, ...]:
    """Return the tags of a clip; soft labels may name every tag of every clip."""
    return tuple(tag for tag, label in clip.tags.items() if label > settings.data.positive)


def _short_name(clip: PreparedClip) -> str:
    """Return folder and file without extension, and the excerpt if it is one: `album/track#t=10,20`."""
    path = PurePath(clip.path)
    return f"{path.parent.name}/{path.stem}{clip.id[len(clip.path) :]}"
