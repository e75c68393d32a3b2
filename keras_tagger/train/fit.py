"""`fit`: from a configuration and music to a trained tagger and its run directory."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import logging

from keras_tagger.config import ExperimentConfig, TrainingConfig, flat
from keras_tagger.data.check import check_single_label
from keras_tagger.data.datasets.open import open_config
from keras_tagger.data.manifest import Clip, Manifest, label_matrix
from keras_tagger.data.prepare import fingerprint_of, prepare
from keras_tagger.data.prepared import Prepared
from keras_tagger.data.sources import open_source
from keras_tagger.data.splits import assign_splits
from keras_tagger.errors import ConfigError, ManifestError
from keras_tagger.evaluation.evaluate import data_of_run, evaluate
from keras_tagger.evaluation.report import Report, load_report
from keras_tagger.evaluation.thresholds import calibrate
from keras_tagger.files import printable, write_text
from keras_tagger.models.music_tagger import MusicTagger
from keras_tagger.models.transfer import copy_weights, inherited_info
from keras_tagger.storage.loading import load_config
from keras_tagger.storage.run_dir import RunDir
from keras_tagger.tables import listed
from keras_tagger.tagger import Tagger, load
from keras_tagger.tags import info_from_json, info_to_json
from keras_tagger.train.board import Board
from keras_tagger.train.checkpoint import read_progress
from keras_tagger.train.cluster import Cluster, join
from keras_tagger.train.history import read_history
from keras_tagger.train.loop import Loop
from keras_tagger.train.recipe import INIT, epochs_for, recipe
from keras_tagger.train.schedule import phase_of, phase_schedule
from keras_tagger.views.pages import line_charts, table

AUTO = "auto"

# These may differ from the model that a run starts from: no weight depends on them.
_FREE_KEYS = (
    *("audio.window_seconds", "model.encoder.dropout", "model.encoder.attention_dropout"),
    *("model.head.dropout", "model.head.activation"),
)


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        dir: The run directory.
        tagger: The tagger with the best weights.
        history: One row per epoch.
        report: The scores on the held-out clips.

    Example:
        >>> run = kt.fit("demo")
        >>> run.report.roc_auc
    """

    dir: Path
    tagger: Tagger
    history: Sequence[Mapping[str, float]]
    report: Report

    def headline(self) -> dict[str, str]:
        """Return the directory, the epochs, the best one and what chose it, and the scores, as text."""
        training = self.report.training
        best = f"{training.get('best_epoch', 'unknown')}"
        if "best_epoch_by" in training:
            best += f" (by {training['best_epoch_by']})"
        scores = {f"{self.report.split} {name}": value for name, value, _ in self.report.headline()}
        return {"directory": str(self.dir), "epochs": str(len(self.history)), "best epoch": best, **scores}

    def __repr__(self) -> str:
        return f"Run({', '.join(f'{name}: {printable(value)}' for name, value in self.headline().items())})"

    def _repr_html_(self) -> str:
        names = [name for name in (self.history[0] if self.history else ()) if name == "loss" or "_auc" in name]
        lines = {name.replace("_", " "): [row[name] for row in self.history] for name in names}
        return table(list(self.headline().items())) + line_charts(lines)


def fit(
    config: str | os.PathLike[str] | Mapping[str, Any] | ExperimentConfig | None = None,
    data: Any = None,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    init: str | os.PathLike[str] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **overrides: Any,
) -> Run:
    """Train a tagger.

    The best epoch is the one with the best ROC-AUC (with softmax: accuracy) of the validation clips. If there are none,
    the training clips choose it; a warning, the history and the report say so.

    Args:
        config: A YAML file, the name of a packaged configuration (`finetune`, `won2019`), nested values, or an
            `ExperimentConfig`. None fine-tunes the default model, with settings chosen by the number of clips
            (`keras_tagger.train.recipe`), or continues the run in `run_dir` with its own.
        data: What to train on, instead of `data.path` or `data.dataset`: the path of a manifest, a folder with labels
            or a prepared folder, "demo" (the clips shipped with the package), a list of (path, tags), a dictionary of
            tags by path, a data frame, a `tf.data.Dataset` of (waveform, labels), a dictionary of one of these by
            split, a `Manifest` or `Prepared` (`keras_tagger.data.open_source` has the details).
        run_dir: The run directory; `runs/NAME` by default. "auto" adds a number if `runs/NAME` holds a run, which is
            the default without a configuration.
        resume: Continue the run in `run_dir` from its last checkpoint: at the same step, with the same data, and on one
            machine with the same numbers as an uninterrupted run. A finished run is returned unchanged, unless
            `training.epochs` is now larger: then it goes on. With a constant learning rate, the result is that of one
            run with all epochs; a cosine goes on as if it had been over all epochs from the start. If there is no run,
            a new one is started.
        init: The model to start from, instead of `training.init`: a pretrained name, a run directory or a `.keras`
            file. All weights below the head are copied, and from the head those of tags that the data also has, with
            the evidence that the model has of them (`TagInfo.evidence_from`);
            `training.freeze` sets which parts are not trained. `audio` and `model` must equal those of the initial
            model, except for window and dropout, on which no weight depends. Without a preset, missing settings come
            from that model.
        callbacks: Keras callbacks, such as `keras.callbacks.TensorBoard`. They receive the columns of the history as
            logs, and may set `model.stop_training`.
        overrides: Values by dotted key, as in `**{"training.epochs": 3}`.

    Returns:
        The finished `Run`. Its report is on the "test" split, or else on "valid", or else on "train", where it says
        nothing about new music.

    Raises:
        ConfigError: If a key or value is not allowed, or the directory holds another run.
        ManifestError: If the data cannot be used, or all training clips have the same tags.
        ManifestNotFoundError: If the data do not exist.
        ModelError: If the initial model cannot be used, or the loss becomes infinite or NaN.
        ModelNotFoundError: If the initial model does not exist.
        WorkerError: If another worker stops (`training.strategy`).

    Example:
        >>> run = kt.fit(data="my_music/")
        >>> run = kt.fit("demo", data=[("one.mp3", ["rock"]), ("two.mp3", ["jazz"])], run_dir="auto")
        >>> run.tagger.tag("song.mp3")
    """
    if init is not None:
        overrides["training.init"] = init_name(init)
    if run_dir is not None and not os.fspath(run_dir):
        raise ConfigError("run_dir: expected a directory. Received: an empty path.")
    if isinstance(data, os.PathLike):
        data = os.fspath(data)
    found: Manifest | Prepared | None = None
    chooses_epochs = False
    if config is None:
        name = _name_of(data)
        folder = _folder(AUTO if run_dir is None else run_dir, name, resume)
        stored = RunDir(folder)
        resumes = resume and stored.config.exists()
        settings = load_config(stored.config if resumes else {"training": {"init": INIT}}, overrides)
        cluster = join(settings.training)
        if resumes:
            if data is None and stored.manifest.exists():
                found = data_of_run(stored)
        else:
            found = _open(_with_path(settings, data), data, folder)
            settings = load_config(recipe(found, name), overrides)
            chooses_epochs = "training.epochs" not in overrides
    else:
        settings = load_config(config, overrides)
        cluster = join(settings.training)
        folder = _folder(run_dir, settings.name, resume)
    settings = _with_path(settings, data)
    cluster.check_batch(settings.training)
    with cluster.watched():
        return _train(settings, data, found, chooses_epochs, folder, resume, callbacks, cluster)


def _train(
    settings: ExperimentConfig,
    data: Any,
    found: Manifest | Prepared | None,
    chooses_epochs: bool,
    folder: Path,
    resume: bool,
    callbacks: Sequence[keras.callbacks.Callback],
    cluster: Cluster,
) -> Run:
    run = RunDir(folder)
    check_run_dir(folder, settings, resume)
    if settings.data.path and run.manifest.exists() and Path(settings.data.path).resolve() == run.manifest.resolve():
        raise ConfigError(f"run_dir: expected a directory without the data. Received: {folder}, which has them.")
    if resume and run.report.exists() and settings.training.epochs <= load_config(run.config).training.epochs:
        return _finished_run(folder)
    # Report mistakes before the data are prepared; a resumed run has its own weights.
    init_tagger = _load_init(settings) if settings.training.init and not resume else None
    # Making a model reports sizes that do not fit together; its tags do not matter.
    crop_samples = MusicTagger(("any",), settings.audio, settings.model).crop_samples

    found = found or _open(settings, data, folder)
    # All have looked at the run directory before the chief writes to it.
    cluster.wait()
    if not cluster.chief:
        cluster.wait()
    manifest, prepared = _prepare(settings, found, folder)
    if cluster.chief:  # which has prepared the audio for all
        cluster.wait()
    if chooses_epochs:
        epochs = epochs_for(prepared, settings.training.epoch_crops, crop_samples)
        settings = load_config(settings, {"training.epochs": epochs})
    keras.utils.set_random_seed(settings.training.seed)
    with cluster.scope():
        model = MusicTagger(
            prepared.tags,
            settings.audio,
            settings.model,
            settings.training,
            dtype=keras.DTypePolicy(settings.training.precision),
        )
        model.build()
    model.freeze(settings.training.freeze)

    board = Board(run.logs, prepared, settings) if cluster.chief else None
    show_epoch, show_loss = (board.show_epoch, board.show_loss) if board else (None, None)
    loop = Loop(model, settings, prepared, run, show_epoch, callbacks, show_loss, cluster)
    resumed = resume and loop.restore()
    if settings.training.init and not resumed:
        init_tagger = init_tagger or _load_init(settings)
        shared = {tag: tag for tag in model.tags if tag in init_tagger.tags}
        copy_weights(init_tagger.model, model, shared)
        inherited = inherited_info(init_tagger.info, shared, _init_title(settings.training.init))
        if cluster.chief:
            # A resumed run reads it from there.
            write_text(run.tags_json, info_to_json(model.tags, Tagger(model, settings, inherited).info))
    if board is None:
        loop.run()
        cluster.wait()  # for the chief's report
        return _finished_run(folder)
    # The run is no longer finished, also if it is interrupted before its next checkpoint.
    run.report.unlink(missing_ok=True)
    write_text(run.config, settings.to_yaml())
    write_text(run.tags_text, "".join(f"{tag}\n" for tag in prepared.tags))
    if manifest is not None:
        manifest.save(run.manifest)
    if resumed:
        logging.info("resuming %s at epoch %d, step %d", folder, loop.progress.epoch + 1, loop.progress.step + 1)
    else:
        board.show_config()
    loop.run()

    known = settings.training.init and run.tags_json.is_file()
    inherited = info_from_json(run.tags_json.read_bytes(), model.tags) if known else {}
    tagger = Tagger(load(folder).model if cluster.distributed else _in_float32(model, folder), settings, inherited)
    model.freeze("none")
    validation = "valid" if "valid" in prepared.splits else None
    tagger.info = calibrate(tagger, prepared, validation, settings.data.positive)
    write_text(run.tags_json, info_to_json(tagger.tags, tagger.info))
    split = next(split for split in ("test", "valid", "train") if split in prepared.splits)
    data_settings = settings.data
    report = evaluate(
        tagger,
        prepared,
        split,
        data_settings.positive,
        data_settings.min_positives,
        n_chunks=data_settings.n_chunks,
        name=folder.name,
    )
    report = dataclasses.replace(
        report,
        failed=tuple(prepared.failed),
        training=loop.summary(),
        # Not the folder of the prepared audio, which nobody chose.
        data=report.data if manifest is None else manifest.name,
    )
    measured = {"roc_auc": report.roc_auc, "pr_auc": report.pr_auc, "accuracy": report.accuracy}
    scores = {f"{split}/{name}": value for name, value in measured.items() if value is not None}
    # The curve of the split that chose the best epoch has a point there already.
    board.show_scores({} if split == loop.score_split else scores, loop.progress.epoch, tagger)
    report.save(folder)
    cluster.wait()
    return Run(folder, tagger, tuple(loop.history), report)


def _with_path(settings: ExperimentConfig, data: Any) -> ExperimentConfig:
    """Return the settings with `data.path` if the data are a path."""
    if not isinstance(data, str):
        return settings
    unnamed = dict.fromkeys(("data.dataset", "data.root", "data.subset"), "")
    return load_config(settings, {**unnamed, "data.split_index": 0, "data.path": data})


def _open(settings: ExperimentConfig, data: Any, folder: Path) -> Manifest | Prepared:
    config = settings.data
    if data is not None and not isinstance(data, str):
        rate = settings.audio.sample_rate
        return open_source(data, config.tags or None, config.min_clips_per_tag, rate, folder.parent / "prepared")
    if config.dataset:
        return open_config(config)
    if not config.path:
        raise ManifestError(
            "data.path: expected a manifest, a folder with labels, a prepared folder or 'demo' (or data.dataset). "
            "Received: no data."
        )
    return open_source(config.path, config.tags or None, config.min_clips_per_tag)


def _name_of(data: Any) -> str:
    """Return the name of a run without a configuration: that of the data's file or folder."""
    name = Path(os.path.abspath(data)).stem if isinstance(data, str) and data else ""
    return name if name.strip(".") else "run"


def _folder(run_dir: str | os.PathLike[str] | None, name: str, resume: bool) -> Path:
    """Return the run directory: the given one, `runs/NAME`, or for "auto" `runs/NAME-2` and so on if that is taken."""
    first = Path("runs") / name
    if run_dir != AUTO:
        return first if run_dir is None else Path(run_dir)
    numbered = itertools.chain([first], (first.with_name(f"{name}-{number}") for number in itertools.count(2)))
    last = first
    for folder in numbered:
        if not RunDir(folder).config.exists():
            return last if resume else folder
        last = folder
    raise AssertionError


def _prepare(settings: ExperimentConfig, found: Manifest | Prepared, folder: Path) -> tuple[Manifest | None, Prepared]:
    manifest = None
    if settings.model.head.activation == "softmax":
        check_single_label(found.clips, found.tags)
    if isinstance(found, Manifest):
        split, how = settings.data.split, (settings.audio.sample_rate, settings.data.segment_seconds)
        found = manifest = assign_splits(found, split.valid, split.test, split.seed)
        # Named by content, so that runs on the same data share it.
        default_dir = folder.parent / "prepared" / fingerprint_of(found, *how)[:12]
        # Mistakes are reported before the audio is decoded.
        _check_train(manifest)
        found = prepare(manifest, settings.data.prepared_dir or default_dir, *how, settings.data.workers)
    if found.sample_rate != settings.audio.sample_rate:
        raise ManifestError(
            f"{found.dir}: expected audio prepared at {settings.audio.sample_rate} Hz. "
            f"Received: {found.sample_rate} Hz."
        )
    if manifest is None or found.failed:
        _check_train(found)
    return manifest, found


def _check_train(data: Manifest | Prepared) -> None:
    """Check that there are training clips and that they differ; warn of tags that all of them or none of them have.

    Raises:
        ManifestError: If there are none, or every clip has the same tags, so that there is nothing to learn.
    """
    clips, tags = [clip for clip in data.clips if clip.split == "train"], data.tags
    if not clips:
        where = data.name if isinstance(data, Manifest) else data.dir
        splits = sorted({str(clip.split) for clip in data.clips})
        raise ManifestError(f"expected clips in split train. Received: only {', '.join(splits)}, in {where}.")
    if any(clip.labels if isinstance(clip, Clip) else clip.grid for clip in clips):
        return  # dense labels differ within a clip
    labels = label_matrix((clip.tags for clip in clips), tags)
    lowest, highest = np.fmin.reduce(labels), np.fmax.reduce(labels)
    same = ~(lowest < highest)  # also if all labels are unknown
    if same.all():
        everywhere = [tag for tag, label in zip(tags, highest, strict=True) if label > 0]
        held_out = len(data.clips) - len(clips)
        elsewhere = (
            f" (and {held_out} in other splits, which data.split and the column split control)" if held_out else ""
        )
        raise ManifestError(
            "expected training clips that differ in their tags. "
            f"Received: {len(clips)} training clip{'s' if len(clips) > 1 else ''} with the same "
            f"tags ({listed(everywhere) or 'none'}), from which there is nothing to learn{elsewhere}."
        )
    for which, having in (("every training clip has", highest > 0), ("no training clip has", ~(highest > 0))):
        found = [tag for tag, told in zip(tags, same & having, strict=True) if told]
        if found:
            logging.warning("Nothing can be learned about tags that %s: %s.", which, listed(found))


def check_run_dir(folder: Path, settings: ExperimentConfig, resume: bool) -> None:
    """Refuse to overwrite a run, or to resume one with another configuration."""
    stored_path = RunDir(folder).config
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"run_dir: expected a directory. Received: {folder}, a file.")
    if not stored_path.exists():
        return
    if not resume:
        raise ConfigError(
            f"run_dir: expected a new directory. Received: {folder}, which holds a run "
            '(resume=True or --resume continues it, run_dir="auto" or --run_dir auto adds a number).'
        )
    stored, wanted = flat(load_config(stored_path).to_dict()), flat(settings.to_dict())
    # The path may be written differently; the checkpoint identifies the data.
    differing = [key for key in wanted if stored.get(key) != wanted[key] and not key.startswith("data.")]
    if "training.strategy" in differing:
        differing.remove("training.strategy")
    if "training.epochs" in differing:
        differing.remove("training.epochs")
        _check_epochs(RunDir(folder), settings.training)
    if differing:
        key = differing[0]
        raise ConfigError(
            f"{key}: expected {stored.get(key)!r}, with which {folder} was started. Received: {wanted[key]!r}."
        )


def _check_epochs(run: RunDir, training: TrainingConfig) -> None:
    """Check that a resumed run has not more epochs than are wanted now, and say what a cosine does."""
    done = read_progress(run.checkpoint).epoch if run.checkpoint.exists() else 0
    if training.epochs < done:
        raise ConfigError(
            f"training.epochs: expected at least {done}, the epochs that {run.path} has. Received: {training.epochs}."
        )
    if phase_schedule(training, phase_of(training, training.epochs - 1), 1).cosine:
        logging.warning(
            "The learning rate goes on as a cosine over %d epochs, while the first %d were trained with a shorter one. "
            "The numbers are therefore not those of one run of %d epochs (with training.schedule=constant they are).",
            *(training.epochs, done, training.epochs),
        )


def init_name(init: str | os.PathLike[str]) -> str:
    """Return the value of `training.init` for a name or path."""
    # A path with one part could be mistaken for a pretrained name.
    return init if isinstance(init, str) else os.path.join(os.curdir, os.fspath(init))


def _init_title(init: str) -> str:
    """Return a name for the model to start from, without the folders that it lies in."""
    path = Path(init)
    return path.parent.name or path.stem if path.name == RunDir(path.parent).model.name else path.stem


def _load_init(settings: ExperimentConfig) -> Tagger:
    """Load the model to start from, whose configuration must fit the run's."""
    init = load(settings.training.init)
    given, wanted = flat(init.config.to_dict()), flat(settings.to_dict())
    for key in wanted:
        if key.startswith(("audio.", "model.")) and key not in _FREE_KEYS and given[key] != wanted[key]:
            raise ConfigError(
                f"{key}: expected {given[key]!r}, as in training.init ({settings.training.init}). "
                f"Received: {wanted[key]!r}."
            )
    return init


def _finished_run(folder: Path) -> Run:
    run = RunDir(folder)
    return Run(folder, load(folder), tuple(read_history(run.history)), load_report(run.report))


def _in_float32(model: MusicTagger, folder: Path) -> MusicTagger:
    """Return the model as `load` does: inference is in float32 whatever the training's precision was."""
    if model.dtype_policy.name == "float32":
        return model
    return load(folder).model
