"""Scores that taggers and musicnn give to the clips of `real_music.py`; they are kept beside the clips."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

import keras_tagger as kt
from keras_tagger import audio
from keras_tagger.errors import ModelError
from keras_tagger.files import replacing
from real_clips import SAMPLE_RATE, Clip
from real_measures import MSD, MTAT, NAMES, Scored, Scores

# The teacher is slow, so that its scores are written now and then.
SAVE_EVERY = 100


def load_taggers(name: str) -> list[kt.Tagger]:
    """Load a model; with the name of a packaged one also its twin NAME-msd."""
    taggers = [kt.load(name)]
    if f"{name}-msd" in kt.pretrained():
        taggers.append(kt.load(f"{name}-msd"))
    return taggers


def model_scores(name: str, clips: Sequence[Clip], folder: Path) -> Scores:
    """Score all clips with a model, in each vocabulary of `NAMES` of which it has all tags.

    Raises:
        ModelError: If the model has neither vocabulary.
    """
    found: Scores = {}
    for tagger in load_taggers(name):
        tags = list(tagger.tags)
        scores = _kept_scores(tagger, name, clips, folder)
        for vocabulary, names in NAMES.items():
            own = [f"{MSD.lower()}/{tag}" if f"{MSD.lower()}/{tag}" in tags else tag for tag in names]
            if vocabulary == MTAT:
                own = list(names)
            if vocabulary not in found and all(tag in tags for tag in own):
                thresholds = np.array([tagger.info[tag].threshold for tag in own])
                found[vocabulary] = Scored(names, scores[:, [tags.index(tag) for tag in own]], thresholds)
    if not found:
        raise ModelError(f"{name}: expected a model with the tags of MTAT or MSD. Received: {', '.join(tags[:5])}...")
    return found


def _kept_scores(tagger: kt.Tagger, name: str, clips: Sequence[Clip], folder: Path) -> np.ndarray:
    """Score clips, or read the scores that the same weights gave before."""
    weights = hashlib.sha256(json.dumps(list(tagger.tags)).encode())
    for weight in tagger.model.get_weights():
        weights.update(np.ascontiguousarray(weight).tobytes())
    path = folder / "scores" / f"{weights.hexdigest()[:16]}.npz"
    kept = dict(np.load(path)) if path.exists() else {}
    missing = [clip for clip in clips if key(clip) not in kept]
    if missing:
        rate = tagger.model.audio_config.sample_rate
        waves = (np.load(folder / clip.waveform) for clip in missing)
        if rate != SAMPLE_RATE:
            waves = (audio.load((wave, SAMPLE_RATE), rate) for wave in waves)
        found = tagger.clip_scores(tagger.model.windowing.cut((wave, rate)) for wave in waves)
        for clip, scores in zip(missing, tqdm(found, desc=name, unit="clip", total=len(missing)), strict=True):
            if isinstance(scores, Exception):
                raise scores
            kept[key(clip)] = scores
        with replacing(path) as temporary:
            np.savez(temporary, **kept)
    return np.stack([kept[key(clip)] for clip in clips])


def teacher_scores(clips: Sequence[Clip], folder: Path, work_dir: str) -> dict[str, np.ndarray]:
    """Score all clips with musicnn, the mean over its patches; scores are kept in `folder`."""
    found = {}
    for vocabulary, weights in ((MTAT, "MTT"), (MSD, "MSD")):
        path = folder / "teacher" / f"{vocabulary}.npz"
        kept = dict(np.load(path)) if path.exists() else {}
        missing = [clip for clip in clips if key(clip) not in kept]
        if missing:
            # Imports TensorFlow and librosa.
            from keras_tagger.teachers.musicnn import find_wheel, load_musicnn

            teacher = load_musicnn(find_wheel(work_dir), weights)
            for number, clip in enumerate(tqdm(missing, desc=f"musicnn {weights}", unit="clip"), 1):
                logits, _ = teacher.patches(np.load(folder / clip.waveform))
                kept[key(clip)] = (1 / (1 + np.exp(-logits.astype(np.float64)))).mean(axis=0).astype(np.float32)
                if number % SAVE_EVERY == 0 or number == len(missing):
                    with replacing(path) as temporary:
                        np.savez(temporary, **kept)
        found[vocabulary] = np.stack([kept[key(clip)] for clip in clips])
    return found


def key(clip: Clip) -> str:
    """Return the clip's name in the teacher's cache."""
    return Path(clip.waveform).stem
