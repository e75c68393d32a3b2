"""`fit`: from a configuration and music to a trained tagger and its run directory."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import logging

from keras_tagger.config import DataConfig, ExperimentConfig, flat
from keras_tagger.data.check import check_single_label
from keras_tagger.data.datasets.open import open_config
from keras_tagger.data.manifest import Clip, Manifest, label_matrix
from keras_tagger.data.prepare import fingerprint_of, prepare
from keras_tagger.data.prepared import Prepared
from keras_tagger.data.sources import open_source
from keras_tagger.data.splits import assign_splits
from keras_tagger.errors import ConfigError, ManifestError
from keras_tagger.evaluation.evaluate import evaluate
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
from keras_tagger.train.history import read_history
from keras_tagger.train.loop import Loop

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
        >>> run = kt.fit("configs/demo.yaml")
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
        cells = ((escape(name), escape(printable(value))) for name, value in self.headline().items())
        rows = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in cells)
        return f"<table>{rows}</table>"


def fit(
    config: str | os.PathLike[str] | Mapping[str, Any] | ExperimentConfig,
    data: str | os.PathLike[str] | Manifest | Prepared | None = None,
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
        config: A YAML file, nested values, or an `ExperimentConfig`.
        data: What to train on, instead of `data.path` or `data.dataset`: a manifest, a folder per tag, a prepared
            folder, "demo" (the clips shipped with the package), or one of these already opened.
        run_dir: The run directory; `runs/NAME` by default.
        resume: Continue the run in `run_dir` from its last checkpoint: at the same step, with the same data, and on one
            machine with the same numbers as an uninterrupted run. A finished run is returned unchanged. If there is no
            run, a new one is started.
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

    Example:
        >>> run = kt.fit("configs/demo.yaml", data="my_music/", callbacks=[keras.callbacks.TerminateOnNaN()])
        >>> run.tagger.tag("song.mp3")
    """
    if init is not None:
        overrides["training.init"] = init_name(init)
    settings = load_config(config, overrides)
    folder = Path(run_dir) if run_dir is not None else Path("runs") / settings.name
    if data is not None and not isinstance(data, str | os.PathLike | Manifest | Prepared):
        raise ManifestError(f"data: expected a path, a Manifest or prepared data. Received: {type(data).__name__}.")
    if isinstance(data, str | os.PathLike):
        unnamed = dict.fromkeys(("data.dataset", "data.root", "data.subset"), "")
        settings = load_config(settings, {**unnamed, "data.split_index": 0, "data.path": os.fspath(data)})
        data = None
    if run_dir is not None and not os.fspath(run_dir):
        raise ConfigError("run_dir: expected a directory. Received: an empty path.")
    run = RunDir(folder)
    check_run_dir(folder, settings, resume)
    if settings.data.path and run.manifest.exists() and Path(settings.data.path).resolve() == run.manifest.resolve():
        raise ConfigError(f"run_dir: expected a directory without the data. Received: {folder}, which has them.")
    if resume and run.report.exists():
        return _finished_run(folder)
    # Report mistakes before the data are prepared; a resumed run has its own weights.
    init_tagger = _load_init(settings) if settings.training.init and not resume else None
    # Making a model reports sizes that do not fit together; its tags do not matter.
    MusicTagger(("any",), settings.audio, settings.model)

    manifest, prepared = _prepare(settings, data, folder)
    keras.utils.set_random_seed(settings.training.seed)
    model = MusicTagger(
        prepared.tags,
        settings.audio,
        settings.model,
        settings.training,
        dtype=keras.DTypePolicy(settings.training.precision),
    )
    model.build()
    model.freeze(settings.training.freeze)

    board = Board(run.logs, prepared, settings)
    loop = Loop(model, settings, prepared, run, board.show_epoch, callbacks)
    resumed = resume and loop.restore()
    if settings.training.init and not resumed:
        init_tagger = init_tagger or _load_init(settings)
        shared = {tag: tag for tag in model.tags if tag in init_tagger.tags}
        copy_weights(init_tagger.model, model, shared)
        inherited = inherited_info(init_tagger.info, shared, _init_title(settings.training.init))
        # A resumed run reads it from there.
        write_text(run.tags_json, info_to_json(model.tags, Tagger(model, settings, inherited).info))
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
    tagger = Tagger(_in_float32(model, folder), settings, inherited)
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
    )
    report = dataclasses.replace(report, failed=tuple(prepared.failed), training=loop.summary())
    measured = {"roc_auc": report.roc_auc, "pr_auc": report.pr_auc, "accuracy": report.accuracy}
    scores = {f"{split}/{name}": value for name, value in measured.items() if value is not None}
    # The curve of the split that chose the best epoch has a point there already.
    board.show_scores({} if split == loop.score_split else scores, loop.progress.epoch)
    report.save(folder)
    return Run(folder, tagger, tuple(loop.history), report)


def _open(config: DataConfig) -> Manifest | Prepared:
    if config.dataset:
        return open_config(config)
    if not config.path:
        raise ManifestError(
            "data.path: expected a manifest, a folder per tag, a prepared folder or 'demo' (or data.dataset). "
            "Received: no data."
        )
    return open_source(config.path, config.tags or None, config.min_clips_per_tag)


def _prepare(
    settings: ExperimentConfig, data: Manifest | Prepared | None, folder: Path
) -> tuple[Manifest | None, Prepared]:
    manifest = None
    found = _open(settings.data) if data is None else data
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
            "(resume=True or --resume continues it)."
        )
    stored, wanted = flat(load_config(stored_path).to_dict()), flat(settings.to_dict())
    # The path may be written differently; the checkpoint identifies the data.
    differing = [key for key in wanted if stored.get(key) != wanted[key] and not key.startswith("data.")]
    if differing:
        key = differing[0]
        raise ConfigError(
            f"{key}: expected {stored.get(key)!r}, with which {folder} was started. Received: {wanted[key]!r}."
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
