"""Labels of rendered scores by a tagger of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import keras_tagger as kt
from keras_tagger import audio
from keras_tagger.data.dense import read_dense
from keras_tagger.data.manifest import read_manifest
from keras_tagger.errors import ModelError
from pretrain.correct import LOWERED
from pretrain.pseudo import PseudoTeacher
from pretrain.teacher import HOP_SECONDS, PATCH_SECONDS, SAMPLE_RATE, label_manifest


@pytest.fixture(scope="module")
def tagger() -> kt.Tagger:
    return kt.load("compact")


def test_labels_are_mean_contributions_of_patches(tagger: kt.Tagger, tmp_path: Path):
    clips = Path(kt.__file__).parent / "clips"
    halves = [audio.load(clips / name, SAMPLE_RATE) for name in ("flute_solo.ogg", "rock_guitar_war.ogg")]
    waveform = np.concatenate([half[: seconds * SAMPLE_RATE] for half, seconds in zip(halves, (3, 4), strict=True)])
    soundfile.write(tmp_path / "clip.flac", waveform, SAMPLE_RATE)
    row = {"path": "clip.flac", "tags": ["music21"], "split": "train", "group": "work"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    out = tmp_path / "labels"
    index = label_manifest([PseudoTeacher("compact", tagger)], read_manifest(tmp_path / "manifest.jsonl"), out)
    assert index["teacher"] == ["compact"]
    assert index["failed"] == []
    (clip,) = read_manifest(out / "manifest.jsonl").clips
    dense = read_dense(str(clip.labels))
    assert set(dense.tags) == set(LOWERED)
    assert (dense.hop_seconds, dense.length_seconds, dense.pool) == (HOP_SECONDS, PATCH_SECONDS, "mean")
    heat = tagger.contributions(str(tmp_path / "clip.flac"), list(dense.tags))
    assert len(dense.values) == 3
    for start, found in zip((0.0, 1.536, 3.072), dense.values, strict=True):
        inside = (heat.times >= start) & (heat.times < start + PATCH_SECONDS)
        np.testing.assert_allclose(found, heat.values[:, inside].mean(axis=1), rtol=2e-3, atol=1e-6)
    assert np.abs(dense.values[0] - dense.values[2]).max() > 0.1


def test_a_clip_shorter_than_a_patch_has_one_label(tagger: kt.Tagger):
    logits, centres = PseudoTeacher("compact", tagger).patches(np.zeros(SAMPLE_RATE, np.float32))
    assert logits.shape == (1, len(LOWERED))
    assert centres == pytest.approx([0.5])


def test_a_tagger_without_such_tags_is_refused(tagger: kt.Tagger):
    with pytest.raises(ModelError, match=r"own: expected a tagger of 16000 Hz .* Received: 16000 Hz, 0 of them"):
        PseudoTeacher("own", tagger.select(["techno", "ambient"]))
