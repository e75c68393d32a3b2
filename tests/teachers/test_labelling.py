"""Labelling many clips: what is written, what is left out, and going on after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import tiny
from keras_tagger.data.dense import DenseLabels, read_dense
from keras_tagger.data.manifest import Clip
from keras_tagger.teachers.labelling import label_clips


class LoudnessTeacher:
    """Labels every second by its loudness."""

    names = ("loudness",)
    fingerprint = "loudness"
    tags = ("loud",)
    sample_rate = tiny.RATE

    def __init__(self) -> None:
        self.labelled = 0

    def label(self, waveform: Any, hop_seconds: float = 1.0) -> DenseLabels:
        self.labelled += 1
        seconds = waveform[: len(waveform) // self.sample_rate * self.sample_rate].reshape(-1, self.sample_rate)
        loudness = np.sqrt(np.mean(seconds**2, axis=1, keepdims=True))
        return DenseLabels(self.tags, loudness.astype(np.float32), 1.0, 1.0, "mean")

    def select(self, tags: Any) -> LoudnessTeacher:
        return self


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    for name, level in (("quiet", 0.1), ("loud", 0.5), ("silent", 0.0)):
        soundfile.write(tmp_path / f"{name}.wav", level * np.tile([1.0, -1.0], tiny.RATE), tiny.RATE)
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    names = ("quiet", "broken", "loud", "silent", "missing")
    return [Clip(str(tmp_path / f"{name}.wav"), {}) for name in names]


def test_labels_are_written_and_bad_clips_are_left_out(clips: list[Clip], tmp_path: Path) -> None:
    files = [tmp_path / "labels" / f"{number}.npz" for number in range(5)]
    failed = label_clips(LoudnessTeacher(), clips, files)
    assert sorted(failed) == [1, 3, 4]
    assert "broken.wav" in failed[1]
    assert "silent" in failed[3].lower()
    assert "does not exist" in failed[4]
    assert [file.exists() for file in files] == [True, False, True, False, False]
    np.testing.assert_allclose(read_dense(files[2]).values, [[0.5], [0.5]], atol=1e-3)


def test_an_excerpt_is_labelled_alone(clips: list[Clip], tmp_path: Path) -> None:
    excerpt = Clip(clips[2].path, {}, start_seconds=1.0, end_seconds=2.0)
    assert label_clips(LoudnessTeacher(), [excerpt], [tmp_path / "a.npz"]) == {}
    assert len(read_dense(tmp_path / "a.npz").values) == 1


def test_labelled_clips_are_not_labelled_again(clips: list[Clip], tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.npz" for number in range(5)]
    teacher = LoudnessTeacher()
    label_clips(teacher, clips, files)
    files[2].unlink()
    Path(clips[1].path).write_bytes(Path(clips[0].path).read_bytes())
    assert sorted(label_clips(teacher, clips, files)) == [3, 4]
    assert teacher.labelled == 4


def test_labels_that_are_not_finite_are_not_written(clips: list[Clip], tmp_path: Path) -> None:
    class Broken(LoudnessTeacher):
        def label(self, waveform: Any, hop_seconds: float = 1.0) -> DenseLabels:
            return DenseLabels(self.tags, np.full((1, 1), np.nan, np.float32), 1.0, 1.0, "mean")

    failed = label_clips(Broken(), clips[:1], [tmp_path / "a.npz"])
    assert "expected audio roughly in -1..1. Received: 0.1" in failed[0]
    assert not (tmp_path / "a.npz").exists()
