"""`distill`: labels, interruptions, what is learnt, what is kept, and the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import soundfile

import keras_tagger as kt
import tiny
from keras_tagger.cli.flags import DEFAULT_MODEL
from keras_tagger.data.dense import DenseLabels, read_dense
from keras_tagger.data.manifest import Clip, Manifest, read_manifest
from keras_tagger.errors import ConfigError, ManifestError, ManifestNotFoundError, ModelError
from keras_tagger.evaluation.compare import Difference
from keras_tagger.evaluation.report import macro, score
from keras_tagger.tags import TagInfo
from keras_tagger.train.checkpoint import read_progress
from keras_tagger.train.distill import DEFAULT_INIT, Agreement, Distillation, distill
from keras_tagger.train.fit import Run

N_ARTISTS = 10
OVERRIDES: dict[str, Any] = {
    **{"training.epochs": 4, "training.batch_size": 4, "training.learning_rate": 0.01, "training.checkpoint_steps": 4},
    **{f"board.{key}": value for key, value in tiny.NO_BOARD.items()},
    **{"training.freeze": "none", "training.temperature": 1.0, "data.split.valid": 0.2},
}


class PitchTeacher:
    """Labels half seconds by the frequency of their loudest partial; knows no kazoo."""

    names = ("pitch",)
    fingerprint = "pitch"
    tags = ("High", "mid", "msd/low", "opera")
    sample_rate = tiny.RATE

    def __init__(self, deaths: int | None = None) -> None:
        self.labelled = 0
        self._deaths = deaths

    def label(self, waveform: Any, hop_seconds: float = 0.5) -> DenseLabels:
        if self.labelled == self._deaths:
            raise KeyboardInterrupt
        self.labelled += 1
        half = self.sample_rate // 2
        parts = waveform[: len(waveform) // half * half].reshape(-1, half)
        pitch = np.abs(np.fft.rfft(parts)).argmax(axis=1) * 2
        values = np.stack([pitch > 2000, (pitch > 400) & (pitch < 2000), pitch < 400, pitch < 0], axis=1)
        return DenseLabels(self.tags, (0.1 + 0.8 * values).astype(np.float32), 0.5, 0.5, "mean")

    def select(self, tags: Any) -> PitchTeacher:
        return self


class Interrupt(keras.callbacks.Callback):
    """Interrupts training, as Ctrl-C does, before the batch of a number; 0 is before anything is traced."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._left = batches

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1


@pytest.fixture(scope="module")
def music_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tone of each pitch by each artist, and a file that is no audio."""
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    for artist in range(N_ARTISTS):
        (folder / f"artist {artist}").mkdir()
        for name, (low, high) in tiny.PITCHES_HZ.items():
            tone = tiny.tone(rng.uniform(low, high), 1.5, artist)
            soundfile.write(folder / f"artist {artist}" / f"{name}.wav", tone, tiny.RATE)
    (folder / "artist 0" / "broken.wav").write_bytes(b"RIFF nothing")
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tagger with random weights and a tag that the teacher lacks."""
    tagger = tiny.random_tagger(tiny.LEARNER, tags=("high", "low", "mid", "kazoo"))
    known = {"kazoo": TagInfo(0.77, calibrated=True, train_clips=3), "low": TagInfo(has_evidence=False)}
    tagger.info = {**tagger.info, **known}
    path = tmp_path_factory.mktemp("student") / "student.keras"
    tagger.save(path)
    return path


@pytest.fixture(scope="module")
def finished(music_folder: Path, student: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A distillation that was interrupted in labelling and in training, and resumed."""
    run_dir = tmp_path_factory.mktemp("runs") / "taught"
    teachers = [PitchTeacher(deaths=5), PitchTeacher(), PitchTeacher(deaths=0)]

    def start(number: int, *callbacks: Any) -> Distillation:
        resume = number > 1
        return distill(music_folder, teachers[number], student, run_dir, resume, callbacks=callbacks, **OVERRIDES)

    with pytest.raises(KeyboardInterrupt):
        start(0)
    with pytest.raises(KeyboardInterrupt):
        start(1, Interrupt(5))
    interrupted = read_progress(run_dir / "checkpoints" / "last.npz")
    found = start(2)
    return SimpleNamespace(found=found, run_dir=run_dir, teachers=teachers, interrupted=interrupted, again=start)


def labelled_clips(run_dir: Path) -> tuple[Clip, ...]:
    return read_manifest(run_dir / "manifest.csv", ("high", "low", "mid", "kazoo")).clips


def test_interruptions_lose_nothing(finished: Any) -> None:
    assert [teacher.labelled for teacher in finished.teachers] == [5, 3 * N_ARTISTS - 5, 0]
    assert (finished.interrupted.epoch, finished.interrupted.total_steps) == (0, 4)
    assert [row["epoch"] for row in finished.found.run.history] == [1, 2, 3, 4]


def test_the_student_learns(finished: Any) -> None:
    found = finished.found
    assert found.improved
    assert found.after.roc_auc > 0.9 > found.before.roc_auc
    assert found.after.n_tags == 3
    assert found.difference.difference == pytest.approx(found.after.roc_auc - found.before.roc_auc)


def test_agreement_is_measured_on_artists_that_were_held_out(finished: Any, student: Path) -> None:
    found, clips = finished.found, labelled_clips(finished.run_dir)
    artists = {split: {clip.group for clip in clips if clip.split == split} for split in ("train", "valid", "test")}
    assert not artists["train"] & artists["test"]
    assert not artists["valid"] & (artists["train"] | artists["test"])
    assert sum(map(len, artists.values())) == N_ARTISTS
    held_out = [clip for clip in clips if clip.split == "test"]
    assert found.split == "test"
    assert found.n_clips == len(held_out) >= 6
    # Computed here from nothing but the pitches and the two taggers.
    labels = np.array([[0.9 if pitch in clip.path else 0.1 for pitch in ("high", "low", "mid")] for clip in held_out])
    for tagger, agreement in ((kt.load(student), found.before), (kt.load(finished.run_dir), found.after)):
        scores = np.stack([tagger.scores(clip.path)[:3] for clip in held_out])
        assert agreement.roc_auc == pytest.approx(macro(score(labels, scores, ["a", "b", "c"], 0.3), "roc_auc"))


def test_labels_are_the_teachers_or_the_students_own(finished: Any, student: Path) -> None:
    before = kt.load(student)
    for clip in labelled_clips(finished.run_dir)[:4]:
        dense = read_dense(str(clip.labels))
        assert dense.tags == before.tags
        expected = [0.9 if pitch in clip.path else 0.1 for pitch in ("high", "low", "mid")]
        # The student scores one patch, as the clip is shorter than one.
        assert len(dense.values) == 1
        np.testing.assert_allclose(dense.values[0, :3], expected, atol=1e-3)
        np.testing.assert_allclose(dense.values[0, 3], before.scores(clip.path)[3], atol=2e-3)


def test_the_result_is_a_run_directory(finished: Any) -> None:
    tagger = kt.load(finished.run_dir)
    assert tagger.tags == ("high", "low", "mid", "kazoo")
    # What was known of a tag that the teacher lacks is still known.
    assert tagger.info["kazoo"] == TagInfo(0.77, calibrated=True, train_clips=3)
    # A tag that it had never heard has been heard now.
    assert tagger.info["low"].has_evidence
    assert tagger.info == finished.found.tagger.info
    assert tagger.tag((tiny.tone(3000.0, 1.0, 0), tiny.RATE)).to_dict()["high"] > 0.5


def test_the_report_says_everything(finished: Any) -> None:
    found = finished.found
    stored = json.loads((finished.run_dir / "distill.json").read_text("utf-8"))
    assert {**stored, **found.to_dict()} == stored
    assert stored["teacher"] == ["pitch"]
    assert stored["matched"] == {"high": "High", "low": "msd/low", "mid": "mid"}
    assert stored["kept"] == ["kazoo"]
    assert [Path(entry["path"]).name for entry in stored["failed"]] == ["broken.wav"]
    text = str(found)
    rows = [line.split() for line in text.splitlines()]
    assert ["macro", "ROC-AUC,", "3", "tags", f"{found.before.roc_auc:.4f}", f"{found.after.roc_auc:.4f}"] in rows
    assert "learnt from the model's own scores: kazoo" in text
    assert "broken.wav" in text
    assert text.splitlines()[-1] == found.verdict()


def test_a_finished_run_is_returned(finished: Any) -> None:
    times = {path: path.stat().st_mtime_ns for path in finished.run_dir.rglob("*.keras")}
    assert finished.again(2).to_dict() == finished.found.to_dict()
    assert times == {path: path.stat().st_mtime_ns for path in finished.run_dir.rglob("*.keras")}


def test_another_run_is_not_continued(finished: Any, music_folder: Path, student: Path) -> None:
    again: Callable[..., Any] = lambda **options: distill(  # noqa: E731
        **{"data": music_folder, "teacher": PitchTeacher(), "init": student, "run_dir": finished.run_dir, **options},
        **OVERRIDES,
    )
    with pytest.raises(ConfigError, match="expected a new directory. Received: .*taught, which holds a run"):
        again()
    with pytest.raises(ConfigError, match="keep: expected 1.0, with which .*taught was started. Received: 0.5."):
        again(resume=True, keep=0.5)
    with pytest.raises(ConfigError, match="teacher: expected \\['pitch'\\], with which"):
        again(resume=True, teacher=tiny.random_tagger(tags=("high", "mid")))


def test_labels_are_shared_with_other_runs(finished: Any, music_folder: Path, student: Path) -> None:
    teacher, run_dir = PitchTeacher(deaths=0), finished.run_dir.parent / "other"
    with pytest.raises(KeyboardInterrupt):
        distill(music_folder, teacher, student, run_dir, keep=0.0, callbacks=[Interrupt(0)], **OVERRIDES)
    # With keep=0 the tag that the teacher lacks has no labels to learn from, and those to measure it by.
    values = {
        split: [clip.tags["kazoo"] for clip in labelled_clips(run_dir) if clip.split == split]
        for split in ("train", "test")
    }
    assert np.isnan(values["train"]).all()
    assert not np.isnan(values["test"]).any()


def test_a_manifest_keeps_its_splits(music_folder: Path, student: Path, tmp_path: Path) -> None:
    paths = sorted(music_folder.rglob("mid.wav"))
    clips = [Clip(str(path), {}, split="test" if number < 2 else "train") for number, path in enumerate(paths)]
    Manifest(tuple(clips), ()).save(tmp_path / "music.csv")
    with pytest.raises(KeyboardInterrupt):
        distill(
            tmp_path / "music.csv", PitchTeacher(), student, tmp_path / "run", callbacks=[Interrupt(0)], **OVERRIDES
        )
    found = labelled_clips(tmp_path / "run")
    assert [(clip.path, clip.split) for clip in found] == [(clip.path, clip.split) for clip in clips]
    with pytest.raises(ConfigError, match="expected a directory without the data"):
        distill(tmp_path / "run" / "manifest.csv", PitchTeacher(), student, tmp_path / "run", resume=True, **OVERRIDES)


def test_mistakes_are_reported_first(music_folder: Path, student: Path, tmp_path: Path) -> None:
    def start(**options: Any) -> Any:
        return distill(**{"data": music_folder, "teacher": PitchTeacher(), "init": student, **options})

    run = {"run_dir": tmp_path / "run"}
    with pytest.raises(ConfigError, match="keep: expected a share in 0..1. Received: 2."):
        start(keep=2, **run)
    with pytest.raises(ConfigError, match="data.path: expected no value"):
        start(**{"data.path": "music.csv"}, **run)
    with pytest.raises(ManifestNotFoundError, match="no_music"):
        start(data="no_music", **run)
    with pytest.raises(ModelError, match="teacher: expected one with some of the model's tags .*kazoo.*Received: .*x"):
        start(teacher=tiny.random_tagger(tags=("x",)), **run)
    with pytest.raises(
        ManifestError,
        match="expected clips to train on and clips to hold out.* Received: 1 clip, all in the split train",
    ):
        start(data=music_folder / "artist 1" / "mid.wav", **run)
    exclusive = tiny.random_tagger({"model": {"head": {"activation": "softmax"}}})
    exclusive.save(tmp_path / "softmax.keras")
    with pytest.raises(ModelError, match="init: expected a model whose tags do not exclude each other"):
        start(init=tmp_path / "softmax.keras", **run)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "low", "improved", "verdict"),
    [
        (0.1, 0.05, True, "The model agrees better with the teacher than before."),
        (0.1, -0.05, True, "the difference may be chance"),
        (-0.1, -0.2, False, "agrees no better with the teacher than before; keep the one that you had."),
        (0.0, -0.1, False, "agrees no better"),
        # With labels that no tag divides, rank correlations decide.
        (float("nan"), float("nan"), True, "agrees better"),
    ],
)
def test_the_verdict_is_plain(music: Any, change: float, low: float, improved: bool, verdict: str) -> None:
    before, after = Agreement(0.8, 3, 2.0, 0.5), Agreement(0.8 + change, 3, 2.0, 0.6)
    difference = Difference(0.8, 0.8 + change, change, low, 0.2, 0.1)
    run = Run(Path("runs/x"), music, [], None)  # type: ignore[arg-type]
    found = Distillation(run, "test", 9, before, after, difference, {"low": "low"}, (), ())
    assert found.improved is improved
    assert verdict in found.verdict()
    assert found.to_dict()["difference"]["difference"] == (None if np.isnan(change) else change)


def test_too_few_clips_to_measure_are_said_so(music: Any) -> None:
    nan = float("nan")
    run, nothing = Run(Path("runs/x"), music, [], None), Agreement(nan, 0, 2.0, nan)  # type: ignore[arg-type]
    found = Distillation(run, "test", 1, nothing, nothing, Difference(*[nan] * 6), {"low": "low"}, (), ())
    assert not found.improved
    assert "cannot be measured" in found.verdict()
    assert "undefined" in str(found)


def test_the_default_model_is_that_of_the_command_line() -> None:
    assert DEFAULT_INIT == DEFAULT_MODEL
