"""`distill`: a teacher labels music without labels, and a tagger learns from it."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import logging

from keras_tagger.config import ExperimentConfig
from keras_tagger.data.dense import DenseLabels, read_dense, write_dense
from keras_tagger.data.manifest import Clip, Manifest, read_manifest
from keras_tagger.data.sources import open_unlabelled
from keras_tagger.data.splits import assign_splits
from keras_tagger.errors import ConfigError, ManifestError, ModelError
from keras_tagger.evaluation.agreement import TOP, rank_correlations, top_overlap
from keras_tagger.evaluation.compare import Difference, compare
from keras_tagger.evaluation.evaluate import evaluate
from keras_tagger.evaluation.report import Report
from keras_tagger.files import printable, write_json, write_text
from keras_tagger.storage.loading import load_config
from keras_tagger.storage.run_dir import RunDir
from keras_tagger.tables import listed, text_table
from keras_tagger.tagger import Tagger, load
from keras_tagger.tags import TagInfo, info_to_json
from keras_tagger.teachers.labelling import label_clips
from keras_tagger.teachers.matching import match_tags
from keras_tagger.teachers.models import TaggerTeacher
from keras_tagger.teachers.opening import open_teacher
from keras_tagger.teachers.teacher import HOP_SECONDS, Teacher
from keras_tagger.train.fit import Run, check_run_dir, fit, init_name

DEFAULT_INIT = "pons"
DEFAULT_TEACHER = "musicnn"

# A clip has a tag, for scores and thresholds, if the teacher's label is above this.
POSITIVE = 0.3

# Gentle enough to keep what the model knows.
_DEFAULTS: dict[str, Any] = {
    "name": "distilled",
    "data": {"positive": POSITIVE, "split": {"valid": 0.1, "test": 0.2}},
    "training": {
        **{"epochs": 4, "learning_rate": 4e-4, "warmup_epochs": 0.1, "freeze": "statistics"},
        **{"contribution_loss": 1.0, "temperature": 2.0, "augment": {"gain_db": 1.5, "equalize_db": 1.0}},
    },
}


# For models that began with musicnn's weights, which are already nearly right.
_GENTLER_RATE = 4e-5


@dataclass(frozen=True)
class Agreement:
    """How well a model agrees with its teacher on clips that it was not trained on.

    Attributes:
        roc_auc: Macro ROC-AUC over tags that the teacher gives some clips (label above 0.3) and not others.
        n_tags: The number of these tags.
        top_overlap: How many of the five best tags of a clip both share, averaged over clips; NaN with five tags or
            fewer.
        spearman: Rank correlation across clips, averaged over tags.
    """

    roc_auc: float
    n_tags: int
    top_overlap: float
    spearman: float


@dataclass(frozen=True, eq=False)
class Distillation:
    """A finished distillation.

    Attributes:
        run: The training run.
        split: The split of the clips that agreement was measured on: "test", or "valid", which also chose the best
            epoch, if there are no others.
        n_clips: The number of these clips.
        before: The agreement of the model that training started from.
        after: The agreement of the distilled model.
        difference: The difference of their ROC-AUC with a bootstrap interval.
        matched: The teacher's tag by the model's tag.
        kept: The model's tags that the teacher lacks.
        failed: `path` and `reason` of each file that was left out.

    Example:
        >>> found = kt.distill("my_music/")
        >>> print(found)
        >>> found.run.tagger.tag("song.mp3")
    """

    run: Run
    split: str
    n_clips: int
    before: Agreement
    after: Agreement
    difference: Difference
    matched: Mapping[str, str]
    kept: tuple[str, ...]
    failed: tuple[Mapping[str, str], ...]

    @property
    def tagger(self) -> Tagger:
        """The distilled tagger."""
        return self.run.tagger

    @property
    def dir(self) -> Path:
        """The run directory, which `load` reads."""
        return self.run.dir

    @property
    def improved(self) -> bool:
        """Whether the model agrees better with the teacher than before: by ROC-AUC, or else by rank correlation."""
        if np.isfinite(self.difference.difference):
            return self.difference.difference > 0
        return self.after.spearman > self.before.spearman

    def verdict(self) -> str:
        """Return a sentence that says whether the model is better, for the person who decides whether to use it."""
        if not np.isfinite([self.difference.difference, self.after.spearman]).any():
            return "The agreement cannot be measured, because too few clips are held out."
        if not self.improved:
            return "The model agrees no better with the teacher than before; keep the one that you had."
        if self.difference.low <= 0:
            return "The model agrees better with the teacher than before, but the difference may be chance: few clips."
        return "The model agrees better with the teacher than before."

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; undefined numbers are None."""
        return {
            "split": self.split,
            "n_clips": self.n_clips,
            **{
                name: _plain(dataclasses.asdict(part))
                for name, part in (("before", self.before), ("after", self.after), ("difference", self.difference))
            },
            "improved": self.improved,
            "verdict": self.verdict(),
            "matched": dict(self.matched),
            "kept": list(self.kept),
            "failed": [dict(entry) for entry in self.failed],
            "run_dir": os.fspath(self.dir),
        }

    def __str__(self) -> str:
        before, after, bounds = self.before, self.after, self.difference
        rows = [
            ["agreement with the teacher", "before", "after"],
            [f"macro ROC-AUC, {after.n_tags} tags", *(_fixed(part.roc_auc) for part in (before, after))],
            [f"{TOP} best tags in common", *(_fixed(part.top_overlap, 2) for part in (before, after))],
            ["Spearman correlation", *(_fixed(part.spearman) for part in (before, after))],
        ]
        chose = ", which also chose the best epoch" if self.split == "valid" else ""
        lines = [f"{self.n_clips} clips of split {self.split}{chose}, {len(self.matched)} tags", text_table(rows)]
        if np.isfinite(bounds.difference):
            interval = f"{bounds.low:+.4f} to {bounds.high:+.4f}"
            lines.append(f"difference of ROC-AUC: {bounds.difference:+.4f} (95 % interval {interval})")
        if self.kept:
            lines.append(f"tags that the teacher lacks, learnt from the model's own scores: {listed(self.kept)}")
        lines += [printable(f"left out {entry['path']}: {entry['reason']}") for entry in self.failed]
        return "\n".join([*lines, self.verdict()])


def distill(
    data: str | os.PathLike[str],
    teacher: str | os.PathLike[str] | Tagger | Teacher = DEFAULT_TEACHER,
    init: str | os.PathLike[str] = DEFAULT_INIT,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    keep: float = 1.0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **overrides: Any,
) -> Distillation:
    """Teach a tagger with music that has no labels, by a teacher that labels it.

    The teacher scores patches of 3 s of every clip, and the tagger is trained to give the same scores to crops and to
    moments (`training.contribution_loss`). Before and after, the agreement with the teacher is measured on clips that
    are held out, of other artists than those of the training clips as far as folders or groups tell.

    Tags are matched by name (`keras_tagger.teachers.matching.match_tags`). For tags that the teacher lacks, the model's
    own scores before training are the labels, so that it does not forget them.

    Labels are stored beside the run directory in `labels/`, one file per clip, and reused by every run with the same
    teacher, also by one that was interrupted. Clips that cannot be read, or are silent, are left out.

    Args:
        data: A folder of music, which is searched at any depth, a playlist, or a manifest, whose splits and groups
            count and whose labels do not.
        teacher: "musicnn", a pretrained name, or anything else that `keras_tagger.teachers.opening.open_teacher` takes.
        init: The model to teach: a pretrained name, a run directory or a `.keras` file.
        run_dir: The run directory; `runs/distilled` by default.
        resume: Continue the run in `run_dir` where it was interrupted, with the clips that it was started with.
        keep: The share of the training clips, 0..1, in which tags that the teacher lacks have labels.
        callbacks: As for `fit`.
        overrides: Settings by dotted key, as for `fit`, such as `**{"training.epochs": 8, "data.split.test": 0.3}`.

    Returns:
        The finished `Distillation`. Its run directory is one of `fit`, with `distill.json` and the labels.

    Raises:
        ConfigError: If a key or value is not allowed, or the directory holds another run.
        ManifestError: If there is no music that can be read, or too little to hold some out.
        ManifestNotFoundError: If the data do not exist.
        ModelError: If the teacher or the model cannot be used, or they have no tag in common.
        ModelNotFoundError: If the teacher or the model does not exist.

    Example:
        >>> found = kt.distill("my_music/", teacher="musicnn", run_dir="runs/mine")
        >>> print(found.verdict())
        The model agrees better with the teacher than before.
    """
    if not 0 <= keep <= 1:
        raise ConfigError(f"keep: expected a share in 0..1. Received: {keep!r}.")
    student = load(init)
    if student.model.model_config.head.activation != "sigmoid":
        raise ModelError(
            "init: expected a model whose tags do not exclude each other. "
            f"Received: {os.fspath(init)}, whose head.activation is {student.model.model_config.head.activation}."
        )
    defaults = copy.deepcopy(_DEFAULTS)
    if student.model.model_config.front_end.kind == "pons":
        defaults["training"]["learning_rate"] = _GENTLER_RATE
    settings = load_config(defaults, {**overrides, "training.init": init_name(init)})
    for key in ("path", "dataset"):
        if getattr(settings.data, key):
            raise ConfigError(f"data.{key}: expected no value, as `data` has the music. Received: {overrides!r}.")
    run = RunDir(Path(run_dir) if run_dir is not None else Path("runs") / settings.name)
    check_run_dir(run.path, settings, resume)
    if run.manifest.exists() and Path(data).resolve() == run.manifest.resolve():
        raise ConfigError(f"run_dir: expected a directory without the data. Received: {run.path}, which has them.")
    labelled = resume and run.distillation.exists() and run.manifest.exists()
    # A mistake in the path is reported before the teacher is downloaded.
    found, errors = (None, []) if labelled else open_unlabelled(data)
    guide = open_teacher(teacher)
    matched = match_tags(student.tags, guide.tags)
    if not matched:
        raise ModelError(
            f"teacher: expected one with some of the model's tags ({listed(student.tags)}). "
            f"Received: one with the tags {listed(guide.tags)}."
        )
    plan = _Plan(student, guide.select(matched.values()), matched, keep, settings, run)
    wanted = plan.record(data)
    record = _stored_record(run, wanted) if found is None else {**wanted, "failed": plan.label(found, errors)}
    if found is not None:
        write_json(run.distillation, record, indent=2)
    manifest = read_manifest(run.manifest, student.tags)
    trained = fit(defaults, manifest, run.path, resume, init, callbacks, **overrides)
    if "after" in record:
        return _restored(record, trained)
    trained.tagger.info = _joined_info(student.info, trained.tagger.info, matched)
    write_text(run.tags_json, info_to_json(trained.tagger.tags, trained.tagger.info))
    finished = plan.measure(trained, manifest, record["failed"])
    write_json(run.distillation, {**record, **finished.to_dict()}, indent=2)
    return finished


def _stored_record(run: RunDir, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Read the settings of an interrupted run, which must be those that are wanted now."""
    record: dict[str, Any] = json.loads(run.distillation.read_text("utf-8"))
    for name, value in wanted.items():
        if record.get(name) != value:
            raise ConfigError(
                f"{name}: expected {record.get(name)!r}, with which {run.path} was started. Received: {value!r}."
            )
    return record


def _restored(record: Mapping[str, Any], run: Run) -> Distillation:
    """Return a distillation that had finished before."""
    numbers: Any = (
        {name: float("nan") if value is None else value for name, value in record[part].items()}
        for part in ("before", "after", "difference")
    )
    before, after, difference = numbers
    return Distillation(
        run,
        record["split"],
        record["n_clips"],
        Agreement(**before),
        Agreement(**after),
        Difference(**difference),
        record["matched"],
        tuple(record["kept"]),
        tuple(record["failed"]),
    )


@dataclass(frozen=True)
class _Plan:
    """What a distillation is made of."""

    student: Tagger
    teacher: Teacher
    matched: Mapping[str, str]
    keep: float
    settings: ExperimentConfig
    run: RunDir

    @property
    def kept(self) -> tuple[str, ...]:
        return tuple(tag for tag in self.student.tags if tag not in self.matched)

    def record(self, data: str | os.PathLike[str]) -> dict[str, Any]:
        """Return the settings that a resumed run must share, beside those in its configuration."""
        return {
            "data": os.fspath(data) if data == "demo" else os.path.abspath(data),
            "teacher": list(self.teacher.names),
            "teacher_id": _digest(self.teacher.fingerprint),
            "init": self.settings.training.init,
            "keep": self.keep,
        }

    def label(self, found: Manifest, errors: Sequence[tuple[str, Exception]]) -> list[dict[str, str]]:
        """Label the clips and write the manifest; return `path` and `reason` of what was left out."""
        failed = [{"path": path, "reason": str(error)} for path, error in errors]
        for path, error in errors:
            logging.warning("%s: left out: %s", printable(path), printable(str(error)))
        split = self.settings.data.split
        found = assign_splits(found, split.valid, split.test, split.seed)
        self._check_splits(found.clips)
        # The model's own scores are only needed for tags that the teacher lacks.
        sources: list[Teacher] = [self.teacher]
        if self.kept:
            sources.append(TaggerTeacher(self.student, self.settings.training.init))
        clips: Sequence[Clip] = found.clips
        for source, title in zip(sources, ("label", "own scores"), strict=False):
            wrong = label_clips(source, clips, [self._stored(source, clip) for clip in clips], title=title)
            failed += [{"path": clips[index].clip_id, "reason": reason} for index, reason in sorted(wrong.items())]
            clips = [clip for index, clip in enumerate(clips) if index not in wrong]
        self._check_splits(clips, failed)
        labelled = (self._merge(clip, [self._stored(source, clip) for source in sources]) for clip in clips)
        rows = [dataclasses.replace(clip, labels=os.fspath(path)) for clip, path in zip(clips, labelled, strict=True)]
        Manifest(tuple(rows), self.student.tags).save(self.run.manifest)
        return failed

    def _check_splits(self, clips: Sequence[Clip], failed: Sequence[Mapping[str, str]] = ()) -> None:
        splits = {clip.split for clip in clips}
        if "train" not in splits or not splits & {"valid", "test"}:
            reason = f", without {len(failed)} that cannot be used (first: {failed[0]['reason']})" if failed else ""
            where = f"all in the split {splits.pop()}" if len(splits) == 1 else "none"
            raise ManifestError(
                "expected clips to train on and clips to hold out, at least two artists, folders or files. "
                f"Received: {len(clips)} clip{'' if len(clips) == 1 else 's'}, {where}{reason}."
            )

    def _stored(self, source: Teacher, clip: Clip) -> Path:
        """Return the file of a teacher's labels of a clip, which other runs share."""
        try:
            status = os.stat(clip.path)
            version = [status.st_size, status.st_mtime_ns]
        except OSError:
            version = []
        name = _digest(json.dumps([clip.track, clip.start_seconds, clip.end_seconds, *version]))
        return self.run.path.parent / "labels" / _digest(f"{source.fingerprint} {HOP_SECONDS}") / f"{name}.npz"

    def _merge(self, clip: Clip, files: Sequence[Path]) -> Path:
        """Write the student's labels of a clip from those of the teacher and its own, and return their path."""
        name = _digest(json.dumps([*map(os.fspath, files), self.keep, clip.split, dict(self.matched)]))
        path = self.run.labels / f"{name}.npz"
        if path.exists():
            return path
        given, *own = map(read_dense, files)
        n_patches = min([len(given.values), *(len(labels.values) for labels in own)])
        values = given.columns(tuple(self.matched.get(tag, "") for tag in self.student.tags))[:n_patches]
        for labels in own:
            known = tuple(tag if self._keeps(clip, tag) else "" for tag in self.student.tags)
            values = np.where(np.isnan(values), labels.columns(known)[:n_patches], values)
        write_dense(path, DenseLabels(self.student.tags, values, given.hop_seconds, given.length_seconds, given.pool))
        return path

    def _keeps(self, clip: Clip, tag: str) -> bool:
        """Return whether the model's own scores of a tag that the teacher lacks are labels of a clip."""
        return tag in self.kept and (clip.split != "train" or _share(f"{clip.clip_id} {tag}") < self.keep)

    def measure(self, trained: Run, manifest: Manifest, failed: Sequence[Mapping[str, str]]) -> Distillation:
        """Measure the agreement before and after on the held-out clips."""
        split = next(split for split in ("test", "valid") if manifest.select(split).clips)
        tags = tuple(self.matched)
        held_out = dataclasses.replace(manifest.select(split), tags=tags)
        positive = self.settings.data.positive
        before, after = (
            evaluate(tagger, held_out, split, positive, resamples=0) for tagger in (self.student, trained.tagger)
        )
        return Distillation(
            trained,
            split,
            after.n_clips,
            _agreement(before),
            _agreement(after),
            _difference(before, after),
            self.matched,
            self.kept,
            tuple(failed),
        )


def _agreement(report: Report) -> Agreement:
    found = report.clip_scores
    assert found is not None
    correlations = rank_correlations(found.labels, found.scores)
    return Agreement(
        report.roc_auc,
        int(np.isfinite(report.per_tag["roc_auc"].astype(float)).sum()),
        top_overlap(found.labels, found.scores) if len(found.tags) > TOP else float("nan"),
        float(np.nanmean(correlations)) if np.isfinite(correlations).any() else float("nan"),
    )


def _difference(before: Report, after: Report) -> Difference:
    if np.isfinite(before.roc_auc) and np.isfinite(after.roc_auc):
        return compare(before, after).numbers["roc_auc"]
    return Difference(before.roc_auc, after.roc_auc, *[float("nan")] * 4)


def _joined_info(
    old: Mapping[str, TagInfo], new: Mapping[str, TagInfo], matched: Mapping[str, str]
) -> dict[str, TagInfo]:
    """Keep what is known of a tag, unless the new music determines its threshold or is the first to have the tag."""
    return {
        tag: new[tag] if tag in matched and (new[tag].calibrated or not info.has_evidence) else info
        for tag, info in old.items()
    }


def _share(text: str) -> float:
    """Return a number in 0..1 that depends on the text only, uniform over texts."""
    return int(_digest(text)[:12], 16) / 16**12


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _fixed(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "undefined"


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value if np.isfinite(value) else None for name, value in values.items()}
