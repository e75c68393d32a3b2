"""Transfer to GTZAN's genres: a linear classifier on frozen features, and fine-tuning, on the same folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import soundfile
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import keras_tagger as kt
from keras_tagger.files import replacing, write_json_lines
from keras_tagger.teachers.musicnn import PATCH_FRAMES, find_wheel, load_musicnn, log_mel, patch_starts
from real_clips import SAMPLE_RATE, Clip
from real_scores import key, load_taggers

FOLDS = 5
# Fine-tuning, as in configs/gtzan.yaml.
SETTINGS: dict[str, Any] = {
    "name": "genres",
    "model": {"head": {"activation": "softmax"}},
    "training": {"epochs": 15, "batch_size": 16, "learning_rate": 0.0003, "early_stopping_epochs": 5},
    "board": {"preview_clips": 0},
}
STRENGTHS = (0.001, 0.01, 0.1)
HOP_SECONDS = 1.536


def genre_clips(clips: Sequence[Clip], source: str = "gtzan-curated") -> list[Clip]:
    """Return the clips of GTZAN."""
    return [clip for clip in clips if clip.source == source]


def teacher_features(clips: Sequence[Clip], folder: Path, work_dir: str) -> dict[str, np.ndarray]:
    """Return musicnn's features, means over patches: 1506 pooled and 200 hidden values of each set of weights."""
    found: dict[str, np.ndarray] = {}
    for weights in ("MTT", "MSD"):
        path = folder / "teacher" / f"features-{weights}.npz"
        if not path.exists():
            _write_teacher_features(path, clips, folder, work_dir, weights)
        with np.load(path) as kept:
            rows = [kept[key(clip)] for clip in clips]
        values = np.stack(rows)
        found[f"musicnn {weights}, hidden 200"] = values[:, :200]
        found[f"musicnn {weights}, pooled 1506"] = values[:, 200:]
    both = [f"musicnn {weights}, hidden 200" for weights in ("MTT", "MSD")]
    found["musicnn MTT and MSD, hidden 400"] = np.concatenate([found[name] for name in both], axis=1)
    return found


def _write_teacher_features(path: Path, clips: Sequence[Clip], folder: Path, work_dir: str, weights: str) -> None:
    model = load_musicnn(find_wheel(work_dir), weights).model
    # The layers after pooling: flatten, norm, dense (200), norm, dense_1 (50).
    pooled = next(layer for layer in model.layers if isinstance(layer, keras.layers.Flatten)).output
    hidden = model.get_layer("dense_1").input
    features = keras.Model(model.input, keras.ops.concatenate([hidden, pooled], axis=-1))
    patches, owners = [], []
    for number, clip in enumerate(clips):
        frames = log_mel(np.load(folder / clip.waveform))
        starts = patch_starts(len(frames), HOP_SECONDS)
        if len(frames) < PATCH_FRAMES:
            frames = np.resize(frames, (PATCH_FRAMES, frames.shape[1]))
        patches += [frames[start : start + PATCH_FRAMES] for start in starts]
        owners += [number] * len(starts)
    values = features.predict(np.stack(patches), batch_size=32, verbose=0)
    rows = {key(clip): values[np.array(owners) == number].mean(axis=0) for number, clip in enumerate(clips)}
    with replacing(path) as temporary:
        np.savez(temporary, **rows)


def model_features(name: str, clips: Sequence[Clip], folder: Path) -> dict[str, np.ndarray]:
    """Return a model's embeddings; of a packaged pair also both together."""
    found: dict[str, np.ndarray] = {}
    for tagger in load_taggers(name):
        waves = ((np.load(folder / clip.waveform), SAMPLE_RATE) for clip in clips)
        rows = [tagger.embed(wave) for wave in tqdm(waves, desc=name, unit="clip", total=len(clips))]
        found[f"{name}{'-msd' if found else ''}, embed()"] = np.stack(rows)
    if len(found) > 1:
        found[f"{name} and {name}-msd, embed()"] = np.concatenate(list(found.values()), axis=1)
    return found


def folds(clips: Sequence[Clip], seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return indices of training and test clips of five folds, balanced by genre, without an artist on both sides."""
    genres, groups = [str(clip.labels.genre) for clip in clips], [clip.group for clip in clips]
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(clips)), genres, groups))


def linear_head(features: np.ndarray, clips: Sequence[Clip], seeds: Sequence[int] = (0, 1, 2)) -> np.ndarray:
    """Return which clips a linear classifier on the other folds' features gets right, `[n_seeds, n_clips]`.

    Features are standardised; the strength of the L2 penalty is chosen among `STRENGTHS` within the training folds.
    """
    genres = np.array([str(clip.labels.genre) for clip in clips])
    groups = np.array([clip.group for clip in clips])
    right = np.zeros((len(seeds), len(clips)))
    for row, seed in enumerate(seeds):
        for train, test in folds(clips, seed):
            pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, tol=1e-3))
            inner = StratifiedGroupKFold(3, shuffle=True, random_state=seed)
            search = GridSearchCV(
                pipeline, {"logisticregression__C": STRENGTHS}, cv=inner.split(train, genres[train], groups[train])
            )
            # Threads cost more than they gain on so few clips.
            with threadpool_limits(1):
                search.fit(features[train], genres[train])
            right[row, test] = search.predict(features[test]) == genres[test]
    return right


def fine_tuned(
    init: str | None,
    clips: Sequence[Clip],
    folder: Path,
    out: Path,
    settings: Mapping[str, Any] = SETTINGS,
    only: Sequence[int] = tuple(range(FOLDS)),
) -> np.ndarray:
    """Return which clips a model that was fitted to the other folds gets right, `[n_clips]`; NaN if not tested.

    A fifth of the training clips chooses the best epoch. Runs are resumed if they exist.

    Args:
        init: The model to start from; None for the weights that `settings` has at random.
        clips: Clips with genres.
        folder: The folder that `collect` wrote.
        out: Folder of the runs.
        settings: The configuration.
        only: The folds to test.
    """
    genres, groups = [str(clip.labels.genre) for clip in clips], [clip.group for clip in clips]
    for clip in clips:
        path = out / "audio" / f"{key(clip)}.wav"
        if not path.exists():
            with replacing(path) as temporary:
                soundfile.write(temporary, np.load(folder / clip.waveform), SAMPLE_RATE)
    right = np.full(len(clips), np.nan)
    for number, (train, test) in enumerate(folds(clips)):
        if number not in only:
            continue
        splits = dict.fromkeys(train, "train") | dict.fromkeys(test, "test")
        inner = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
        _, valid = next(inner.split(train, np.array(genres)[train], np.array(groups)[train]))
        splits |= dict.fromkeys(train[valid], "valid")
        rows = [
            {"path": f"audio/{key(clip)}.wav", "tags": {genre: 1.0}, "split": splits[index], "group": group}
            for index, (clip, genre, group) in enumerate(zip(clips, genres, groups, strict=True))
        ]
        write_json_lines(out / f"fold{number}.jsonl", rows)
        run = kt.fit(settings, data=out / f"fold{number}.jsonl", run_dir=out / f"run{number}", resume=True, init=init)
        for index in test:
            scores = run.tagger.scores((np.load(folder / clips[index].waveform), SAMPLE_RATE))
            right[index] = run.tagger.tags[int(np.argmax(scores))] == genres[index]
    return right
