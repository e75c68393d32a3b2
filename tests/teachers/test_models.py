"""Taggers and exported models as teachers, and opening a teacher by its name or path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from keras_tagger.errors import ModelError, ModelNotFoundError
from keras_tagger.export import layout
from keras_tagger.teachers.models import SavedModelTeacher, TaggerTeacher
from keras_tagger.teachers.opening import open_teacher


def test_a_tagger_labels_patches_as_clips_of_their_own(music: Any) -> None:
    waveform = tiny.noise(int(6.5 * tiny.RATE), seed=1)
    labels = TaggerTeacher(music).label(waveform)
    assert (labels.tags, labels.pool, labels.hop_seconds, labels.length_seconds) == (music.tags, "mean", 1.536, 2.992)
    assert len(labels.values) == 3
    size, hop = round(2.992 * tiny.RATE), 1.536 * tiny.RATE
    for number, found in enumerate(labels.values):
        start = int(number * hop + 0.5)
        np.testing.assert_allclose(found, music.scores((waveform[start : start + size], tiny.RATE)), atol=1e-5)
    assert np.abs(labels.values[0] - labels.values[1]).max() > 1e-4


def test_patches_are_counted_as_musicnn_counts_them(music: Any) -> None:
    from keras_tagger.teachers.musicnn import patch_starts

    teacher = TaggerTeacher(music)
    for n_samples in (1, 16000, 186 * 256 - 1, 186 * 256, 282 * 256 - 1, 282 * 256, 282 * 256 + 5000, 100_000):
        expected = len(patch_starts(1 + n_samples // 256, 1.536))
        assert len(teacher.label(tiny.noise(n_samples)).values) == expected, n_samples


def test_a_short_clip_has_one_label(music: Any) -> None:
    waveform = tiny.noise(8000)
    labels = TaggerTeacher(music).label(waveform)
    assert labels.length_seconds == 0.5
    np.testing.assert_allclose(labels.values, [music.scores((waveform, tiny.RATE))], atol=1e-5)


def test_teachers_that_label_differently_have_different_fingerprints(music: Any) -> None:
    fingerprints = [TaggerTeacher(tagger).fingerprint for tagger in (music, tiny.random_tagger(seed=1))]
    fingerprints.append(TaggerTeacher(music.select(["low", "mid"])).fingerprint)
    assert len(set(fingerprints)) == 3
    assert TaggerTeacher(tiny.random_tagger()).fingerprint == fingerprints[0]


def test_an_exported_model_labels_as_the_tagger(music: Any, exported: Path) -> None:
    waveform = tiny.noise(5 * tiny.RATE, seed=2)
    by_version, by_directory = open_teacher(exported), open_teacher(exported.parent)
    assert isinstance(by_version, SavedModelTeacher)
    assert by_version.fingerprint == by_directory.fingerprint
    assert (by_version.tags, by_version.sample_rate) == (music.tags, tiny.RATE)
    # The exported model cuts at its window of 1 s and averages, as `Tagger.tag` does.
    patches = [waveform[start : start + 47872] for start in (0, 24576)]
    expected = [music.scores((patch, tiny.RATE)) for patch in patches]
    np.testing.assert_allclose(by_version.label(waveform).values, expected, atol=1e-4)


def test_a_run_directory_and_a_keras_file_are_teachers(music: Any, tmp_path: Path) -> None:
    music.save(tmp_path / "own.keras")
    teacher = open_teacher(tmp_path / "own.keras")
    assert teacher.names == (str(tmp_path / "own.keras"),)
    assert open_teacher(teacher) is teacher
    waveform = tiny.noise(4000)
    np.testing.assert_allclose(teacher.label(waveform).values, open_teacher(music).label(waveform).values, atol=1e-6)


def test_what_cannot_teach_is_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no such model"):
        open_teacher("no such model")
    with pytest.raises(ModelError, match="teacher: expected musicnn, a path, a Tagger or a Teacher. Received: 5"):
        open_teacher(5)
    with pytest.raises(ModelNotFoundError, match="musicnn.*Received: 'musicnn.whl', which does not exist"):
        open_teacher("musicnn.whl")
    (tmp_path / layout.SAVED_MODEL).write_bytes(b"something else")
    with pytest.raises(ModelError, match="teacher: expected a SavedModel that keras_tagger exported. Received: "):
        open_teacher(tmp_path)
