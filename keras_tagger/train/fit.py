"""`fit`: from a configuration and music to a trained tagger and its run directory.

    runs/NAME/  config.yaml  tags.txt  tags.json  manifest.csv  model.keras  checkpoints/  logs/
                history.csv  report.json  report.csv  report.html  scores.npz

`model.keras` is the best model so far, `checkpoints/last.npz` the newest state, `logs/` TensorBoard's.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import keras
import numpy.typing as npt
import tensorflow as tf
from absl import logging

from keras_tagger.config import DataConfig, ExperimentConfig, flat, load_config
from keras_tagger.data.check import check_single_label
from keras_tagger.data.datasets.open import open_config
from keras_tagger.data.manifest import Manifest
from keras_tagger.data.prepare import fingerprint_of, prepare
from keras_tagger.data.prepared import Prepared, PreparedClip
from keras_tagger.data.sources import open_source
from keras_tagger.data.splits import assign_splits
from keras_tagger.errors import ConfigError, ManifestError
from keras_tagger.evaluation.evaluate import evaluate
from keras_tagger.evaluation.report import Report, load_report
from keras_tagger.evaluation.thresholds import calibrate
from keras_tagger.files import replacing
from keras_tagger.models.music_tagger import MusicTagger
from keras_tagger.models.transfer import copy_weights
from keras_tagger.storage.run_dir import TAGS_JSON
from keras_tagger.tagger import Tagger, load
from keras_tagger.tags import info_to_json
from keras_tagger.train.loop import Loop
from keras_tagger.views.preview import make_preview
from keras_tagger.views.summaries import write_clip, write_config, write_preview, write_scalars

# What may differ from the model a run starts from: no weight depends on it.
_FREE_KEYS = (
    *("audio.window_seconds", "model.encoder.dropout", "model.encoder.attention_dropout"),
    *("model.head.dropout", "model.head.activation"),
)


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        dir: its directory.
        tagger: with the best weights.
        history: one row per epoch.
        report: on the held-out clips.
    """

    dir: Path
    tagger: Tagger
    history: Sequence[Mapping[str, float]]
    report: Report


def fit(
    config: str | os.PathLike[str] | Mapping[str, Any] | ExperimentConfig,
    data: str | os.PathLike[str] | Manifest | Prepared | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    init: str | os.PathLike[str] | None = None,
    **overrides: Any,
) -> Run:
    """Train a tagger.

    Args:
        config: a YAML file, nested values, or an `ExperimentConfig`.
        data: what to train on, instead of `data.path` or `data.dataset`: a manifest, a folder per tag, a prepared
            folder, "demo" (the clips shipped with the package), or one of these opened.
        run_dir: where the run is kept; `runs/NAME` by default.
        resume: go on with the run in `run_dir`, from its last checkpoint: the same step, the same data from there, and
            on one machine the same numbers as an uninterrupted run. A finished run is given back as it is, and a
            new one is started where there is none.
        init: the model to start from, instead of `training.init`: a pretrained name, a run directory or a `.keras`
            file. All of its body is taken, and of its head the tags that the data have too; `training.freeze` says
            what of it stays as it is. `audio` and `model` must be the init's (without a preset they are, where the
            configuration does not set them) but for window and dropout, which no weight depends on.
        overrides: values by dotted key, as in `**{"training.epochs": 3}`.

    Returns:
        `Run`. The report is on the "test" split, else "valid", else (and then it says nothing about new music) "train".

    Raises:
        ConfigError: a key or value is not allowed, or the directory holds another run.
        ManifestError, ManifestNotFoundError: the data cannot be used.
        ModelError, ModelNotFoundError: the init cannot be used.
    """
    if init is not None:
        overrides["training.init"] = _init_name(init)
    settings = load_config(config, overrides)
    folder = Path(run_dir) if run_dir is not None else Path("runs") / settings.name
    if isinstance(data, str | os.PathLike):
        unnamed = dict.fromkeys(("data.dataset", "data.root", "data.subset"), "")
        settings = load_config(settings, {**unnamed, "data.split_index": 0, "data.path": os.fspath(data)})
        data = None
    _check_run_dir(folder, settings, resume)
    if resume and (folder / "report.json").exists():
        return _finished_run(folder)
    # A mistake is told before the data are prepared; a run that goes on has its weights.
    init_tagger = _load_init(settings) if settings.training.init and not resume else None
    # Sizes that do not go together are found as the model is made; its tags do not matter for that.
    MusicTagger(("any",), settings.audio, settings.model)

    manifest, prepared = _prepare(settings, data, folder)
    keras.utils.set_random_seed(settings.training.seed)
    model = MusicTagger(
        prepared.tags, settings.audio, settings.model, dtype=keras.DTypePolicy(settings.training.precision)
    )
    model.build()
    model.freeze(settings.training.freeze)

    writer = tf.summary.create_file_writer(str(folder / "logs"))
    previews = _preview_clips(prepared, settings)

    def on_epoch(epoch: int, row: dict[str, float], tagger: Tagger) -> None:
        names = {name: f"train/{name}" for name in row if not name.startswith("valid")}
        names.update({name: name.replace("_", "/", 1) for name in row if name.startswith("valid")})
        write_scalars(writer, {names[key]: value for key, value in row.items() if key != "epoch"}, step=epoch + 1)
        _write_previews(writer, tagger, previews, settings, epoch)
        writer.flush()

    loop = Loop(model, settings, prepared, folder, on_epoch)
    resumed = resume and loop.restore()
    if settings.training.init and not resumed:
        init_model = init_tagger.model if init_tagger else _load_init(settings).model
        copy_weights(init_model, model, {tag: tag for tag in model.tags if tag in init_model.tags})
    _write_text(folder / "config.yaml", settings.to_yaml())
    _write_text(folder / "tags.txt", "".join(f"{tag}\n" for tag in prepared.tags))
    if manifest is not None:
        manifest.save(folder / "manifest.csv")
    if resumed:
        logging.info("resuming %s at epoch %d, step %d", folder, loop.progress.epoch + 1, loop.progress.step + 1)
    else:
        write_config(writer, settings.to_yaml())
    loop.run()

    tagger = Tagger(_in_float32(model, folder), settings)
    model.freeze("none")
    validation = "valid" if "valid" in prepared.splits else None
    tagger.info = calibrate(tagger, prepared, validation, settings.data.positive)
    _write_text(folder / TAGS_JSON, info_to_json(tagger.tags, tagger.info))
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
    report = dataclasses.replace(report, failed=tuple(prepared.failed), training=loop.speed())
    measured = {f"{split}/roc_auc": report.roc_auc, f"{split}/pr_auc": report.pr_auc}
    if report.accuracy is not None:
        measured[f"{split}/accuracy"] = report.accuracy
    write_scalars(writer, measured, loop.progress.epoch)
    writer.close()
    report.save(folder)
    return Run(folder, tagger, tuple(loop.history), report)


def _open(config: DataConfig) -> Manifest | Prepared:
    if config.dataset:
        return open_config(config)
    if not config.path:
        raise ManifestError(
            "data.path: expected a manifest, a folder per tag, a prepared folder or 'demo' (or data.dataset). "
            "Received: nothing."
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
        # By content, so that runs on the same data share it and runs on other data do not meet.
        default_dir = folder.parent / "prepared" / fingerprint_of(found, *how)[:12]
        found = prepare(found, settings.data.prepared_dir or default_dir, *how, settings.data.workers)
    if found.sample_rate != settings.audio.sample_rate:
        raise ManifestError(
            f"{found.dir}: expected audio prepared at {settings.audio.sample_rate} Hz. "
            f"Received: {found.sample_rate} Hz."
        )
    if "train" not in found.splits:
        raise ManifestError(f"expected clips in split train. Received: {', '.join(found.splits)} only, of {found.dir}.")
    return manifest, found


def _check_run_dir(folder: Path, settings: ExperimentConfig, resume: bool) -> None:
    """A run is never overwritten, and goes on only with the configuration it was begun with."""
    stored_path = folder / "config.yaml"
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"run_dir: expected a directory. Received: {folder}, a file.")
    if not stored_path.exists():
        return
    if not resume:
        raise ConfigError(
            f"run_dir: expected a new directory. Received: {folder}, which holds a run "
            "(resume=True or --resume goes on with it)."
        )
    stored, wanted = flat(load_config(stored_path).to_dict()), flat(settings.to_dict())
    # The path may be written otherwise than before; the checkpoint knows what was behind it.
    differing = [key for key in wanted if stored.get(key) != wanted[key] and not key.startswith("data.")]
    if differing:
        key = differing[0]
        raise ConfigError(
            f"{key}: expected {stored.get(key)!r}, with which {folder} was begun. Received: {wanted[key]!r}."
        )


def _init_name(init: str | os.PathLike[str]) -> str:
    # A path of one part could be taken for a pretrained name.
    return init if isinstance(init, str) else os.path.join(os.curdir, os.fspath(init))


def _load_init(settings: ExperimentConfig) -> Tagger:
    """The model to start from; its configuration must be the run's but for what no weight depends on."""
    init = load(settings.training.init)
    given, wanted = flat(init.config.to_dict()), flat(settings.to_dict())
    for key in wanted:
        if key.startswith(("audio.", "model.")) and key not in _FREE_KEYS and given[key] != wanted[key]:
            raise ConfigError(
                f"{key}: expected {given[key]!r}, as training.init ({settings.training.init}) has it. "
                f"Received: {wanted[key]!r}."
            )
    return init


def _finished_run(folder: Path) -> Run:
    from keras_tagger.train.loop import read_history

    return Run(folder, load(folder), tuple(read_history(folder)), load_report(folder / "report.json"))


def _in_float32(model: MusicTagger, folder: Path) -> MusicTagger:
    """The model as `load` gives it: inference is in float32 whatever the training's precision was."""
    if model.dtype_policy.name == "float32":
        return model
    return load(folder).model


def _preview_clips(
    prepared: Prepared, settings: ExperimentConfig
) -> list[tuple[str, npt.NDArray[Any], tuple[str, ...]]]:
    """A few clips with different tags, as (name, waveform, tags): held-out ones where there are any."""
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
    """Folder and file without extension, and the excerpt where it is one: `album/track` or `album/track#t=10,20`."""
    path = PurePath(clip.path)
    return f"{path.parent.name}/{path.stem}{clip.id[len(clip.path) :]}"


def _write_previews(
    writer: tf.summary.SummaryWriter,
    tagger: Tagger,
    clips: Sequence[tuple[str, npt.NDArray[Any], tuple[str, ...]]],
    settings: ExperimentConfig,
    epoch: int,
) -> None:
    rate, board = settings.audio.sample_rate, settings.board
    for name, waveform, truth in clips:
        preview = make_preview(tagger, (waveform, rate), name, truth, board.preview_seconds, board.top_tags)
        write_preview(writer, preview, step=epoch + 1)
        if epoch == 0:
            write_clip(writer, preview)


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
