"""TensorBoard logs of a run: scalars, and previews of a few fixed clips."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from keras_tagger.config import ExperimentConfig
from keras_tagger.data.manifest import SPLITS
from keras_tagger.data.prepared import Prepared, PreparedClip
from keras_tagger.tagger import Tagger
from keras_tagger.views.preview import make_preview
from keras_tagger.views.summaries import write_clip, write_config, write_preview, write_scalars


class Board:
    """Writes a run's TensorBoard logs.

    Args:
        logs: The folder of the event files.
        prepared: The data; a few of its clips are shown.
        settings: The experiment; `settings.board` sets how much is shown.
    """

    def __init__(self, logs: Path, prepared: Prepared, settings: ExperimentConfig) -> None:
        self.settings = settings
        self.clips = preview_clips(prepared, settings)
        self.writer = tf.summary.create_file_writer(os.fsencode(logs))

    def show_config(self) -> None:
        """Show the configuration as text."""
        write_config(self.writer, self.settings.to_yaml())

    def show_epoch(self, epoch: int, row: Mapping[str, float], tagger: Tagger) -> None:
        """Show a row of the history and the previews; epochs count from 0."""
        scored = tuple(f"{split}_" for split in SPLITS)
        names = {name: name.replace("_", "/", 1) if name.startswith(scored) else f"train/{name}" for name in row}
        self._write({names[key]: value for key, value in row.items() if key != "epoch"}, epoch + 1)
        rate, board = self.settings.audio.sample_rate, self.settings.board
        for name, waveform, truth in self.clips:
            preview = make_preview(tagger, (waveform, rate), name, truth, board.preview_seconds, board.top_tags)
            write_preview(self.writer, preview, step=epoch + 1)
            if epoch == 0:
                write_clip(self.writer, preview)
        self.writer.flush()

    def show_scores(self, scores: Mapping[str, float], epoch: int) -> None:
        """Show the scores of the report, and close the files."""
        self._write(scores, epoch)
        self.writer.close()

    def _write(self, values: Mapping[str, float], step: int) -> None:
        """Write the scalars that are defined."""
        write_scalars(self.writer, {name: value for name, value in values.items() if not math.isnan(value)}, step)


def preview_clips(
    prepared: Prepared, settings: ExperimentConfig
) -> list[tuple[str, npt.NDArray[Any], tuple[str, ...]]]:
    """Choose a few clips with different tags, as (name, waveform, tags); held-out ones if there are any."""
    wanted = settings.board.preview_clips
    if not wanted:
        return []
    split = "valid" if "valid" in prepared.splits else "train"
    chosen: dict[int, tuple[str, ...]] = {}
    for only_new in (True, False):
        seen: set[str] = set()
        for clip in prepared.select(split):
            # Soft labels may name every tag of every clip.
            truth = tuple(tag for tag, label in clip.tags.items() if label > settings.data.positive)
            if len(chosen) < wanted and clip.index not in chosen and not (only_new and set(truth) <= seen):
                chosen[clip.index] = truth
                seen |= set(truth)
    samples = int(settings.board.preview_seconds * prepared.sample_rate)
    return [
        (_short_name(clip), waveform[:samples], chosen[clip.index])
        for clip, waveform in prepared.iter_clips(split)
        if clip.index in chosen
    ]


def _short_name(clip: PreparedClip) -> str:
    """Return folder and file without extension, and the excerpt if it is one: `album/track#t=10,20`."""
    path = PurePath(clip.path)
    return f"{path.parent.name}/{path.stem}{clip.id[len(clip.path) :]}"
