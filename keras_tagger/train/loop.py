"""The training loop: steps, epochs, validation, checkpoints. `fit` sets it up."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from keras_tagger.config import ExperimentConfig
from keras_tagger.data.pipeline import n_batches, training_dataset
from keras_tagger.data.prepared import Prepared
from keras_tagger.errors import ConfigError
from keras_tagger.evaluation.evaluate import evaluate
from keras_tagger.files import replacing
from keras_tagger.models.music_tagger import MusicTagger
from keras_tagger.tagger import Tagger
from keras_tagger.train.augment import augment_waveforms, spec_augment_layer
from keras_tagger.train.checkpoint import Progress, load_checkpoint, read_progress, save_checkpoint
from keras_tagger.train.losses import class_loss, contribution_loss, tag_loss
from keras_tagger.train.schedule import coupled_decay, phase_of, phase_optimizer

HISTORY = (
    *("epoch", "loss", "valid_roc_auc", "valid_pr_auc", "learning_rate"),
    *("seconds", "audio_seconds_per_second", "input_wait_share"),
)


class Loop:
    """Trains a model on the "train" split of a prepared folder, and keeps its run directory.

    After every `training.checkpoint_steps` steps and every epoch, `checkpoints/last.npz` holds everything from which
    the run goes on exactly: weights, optimiser, dropout seeds, position in the data. The best weights by validation
    ROC-AUC (of exclusive tags: accuracy) are `model.keras`.

    Args:
        model: built; trained in place.
        config: the experiment.
        prepared: the data.
        run_dir: where files go.
        on_epoch: called with (epoch, row of the history, model) after each.
    """

    def __init__(
        self,
        model: MusicTagger,
        config: ExperimentConfig,
        prepared: Prepared,
        run_dir: Path,
        on_epoch: Callable[[int, dict[str, float], Tagger], None],
    ) -> None:
        self.model = model
        self.tagger = Tagger(model, config)
        self.config = config
        self.prepared = prepared
        self.run_dir = run_dir
        self.on_epoch = on_epoch
        self.progress = Progress(data=prepared.fingerprint)
        self.history: list[dict[str, float]] = []
        self.valid_split = "valid" if "valid" in prepared.splits else "train"
        self.steps_per_epoch = n_batches(prepared, "train", model.crop_samples, config.training.batch_size)
        self._exclusive = model.model_config.head.activation == "softmax"
        # Without dense labels the contributions, half of a step's time, would be computed for nothing.
        self._localized = config.training.contribution_loss > 0 and any(c.grid for c in prepared.select("train"))
        if config.training.contribution_loss > 0 and not self._localized:
            logging.warning(
                "training.contribution_loss: expected training clips with dense labels (a manifest's column labels). "
                "Received: none, so it changes nothing."
            )
        self._spec_augment = spec_augment_layer(config.training.augment, config.training.seed)
        self._start_phase(0)

    @property
    def checkpoint_path(self) -> Path:
        """The file a killed run goes on from."""
        return self.run_dir / "checkpoints" / "last.npz"

    @property
    def best_path(self) -> Path:
        """The best model so far."""
        return self.run_dir / "model.keras"

    def restore(self) -> bool:
        """Go on from the run directory's checkpoint; False where there is none."""
        if not self.checkpoint_path.exists():
            return False
        # The optimiser's variables depend on the phase, and the phase at the start of an epoch is the one before.
        progress = read_progress(self.checkpoint_path)
        if progress.data != self.prepared.fingerprint:
            raise ConfigError(
                f"data: expected what {self.run_dir} was begun with. Received: other clips, tags, splits or files "
                f"(in {self.prepared.dir})."
            )
        epoch = progress.epoch if progress.step else max(progress.epoch - 1, 0)
        self._start_phase(phase_of(self.config.training, epoch))
        self.progress = load_checkpoint(self.checkpoint_path, self._variables())
        self.history = [row for row in read_history(self.run_dir) if row["epoch"] <= self.progress.epoch]
        return True

    def run(self) -> None:
        """Train to the last epoch, or until early stopping, and put the best weights into the model."""
        training = self.config.training
        while self.progress.epoch < training.epochs and not self._should_stop():
            phase = phase_of(training, self.progress.epoch)
            if phase != self.phase:
                self._reload_best()
                self._start_phase(phase)
            self._train_epoch()
            self._finish_epoch()
        self._reload_best()

    def speed(self) -> dict[str, float]:
        """Over all steps of the run: seconds of audio per second, share of the time spent waiting for input."""
        seconds = self.progress.train_seconds
        return {
            "epochs": self.progress.epoch,
            "best_epoch": self.progress.best_epoch + 1,
            "steps": self.progress.total_steps,
            "train_seconds": seconds,
            "audio_seconds_per_second": self._audio_speed(self.progress.train_timed_steps, seconds),
            "input_wait_share": self.progress.train_wait_seconds / max(seconds, 1e-9),
        }

    def _start_phase(self, phase: int) -> None:
        self.phase = phase
        self.optimizer = phase_optimizer(self.config.training, phase, self.steps_per_epoch)
        self.optimizer.build(self.model.trainable_variables)
        self._step = self._make_step()
        self._traced = False

    def _make_step(self) -> Any:
        model, optimizer, training = self.model, self.optimizer, self.config.training
        scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        exclusive, decay = self._exclusive, coupled_decay(training, self.phase)

        @tf.function(jit_compile=False)
        def train_step(step: tf.Tensor, waveform: tf.Tensor, labels: tf.Tensor, *dense: tf.Tensor) -> tf.Tensor:
            waveform, labels = augment_waveforms(waveform, labels, training.augment, training.seed, step)
            with tf.GradientTape() as tape:
                found = model(
                    waveform,
                    training=True,
                    spec_augment=self._spec_augment,
                    step=step,
                    return_contributions=bool(dense),
                )
                if dense:
                    logits, contributions = found
                    stretches, bounds = dense
                    localized = contribution_loss(contributions, stretches, bounds, model.token_samples)
                    loss = tag_loss(labels, logits, training.temperature) + training.contribution_loss * localized
                elif exclusive:
                    loss = class_loss(labels, found)
                else:
                    loss = tag_loss(labels, found, training.temperature)
                target = optimizer.scale_loss(loss) if scaled else loss
            gradients = tape.gradient(target, model.trainable_variables)
            if decay:
                pulls = [decay * tf.convert_to_tensor(weight) for weight in model.trainable_variables]
                pulls = [optimizer.scale_loss(pull) if scaled else pull for pull in pulls]
                gradients = [gradient + pull for gradient, pull in zip(gradients, pulls, strict=True)]
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            return loss

        return train_step

    def _train_epoch(self) -> None:
        progress, training = self.progress, self.config.training
        dataset = training_dataset(
            self.prepared,
            "train",
            self.model.crop_samples,
            training.batch_size,
            seed=training.seed,
            epoch=progress.epoch,
            with_stretches=self._localized,
        )
        batches = iter(dataset.skip(progress.step))
        name = f"epoch {progress.epoch + 1}/{training.epochs}"
        with tqdm(total=self.steps_per_epoch, initial=progress.step, desc=name, unit="step") as bar:
            waiting = time.perf_counter()
            for batch in batches:
                working = time.perf_counter()
                loss = self._step(tf.constant(progress.total_steps, tf.int64), *batch)
                progress.loss_sum += float(loss)
                now = time.perf_counter()
                if self._traced:
                    progress.wait_seconds += working - waiting
                    progress.seconds += now - waiting
                    progress.timed_steps += 1
                # Tracing the graph in the first step is not training speed.
                self._traced = True
                progress.step += 1
                progress.total_steps += 1
                bar.update()
                bar.set_postfix(loss=f"{progress.loss_sum / progress.step:.4f}", refresh=False)
                if progress.step % training.checkpoint_steps == 0 and progress.step < self.steps_per_epoch:
                    save_checkpoint(self.checkpoint_path, self._variables(), progress)
                waiting = time.perf_counter()

    def _finish_epoch(self) -> None:
        progress = self.progress
        self._validate()
        progress.train_seconds += progress.seconds
        progress.train_wait_seconds += progress.wait_seconds
        progress.train_timed_steps += progress.timed_steps
        progress.epoch += 1
        progress.step, progress.loss_sum = 0, 0.0
        progress.seconds, progress.wait_seconds, progress.timed_steps = 0.0, 0.0, 0
        save_checkpoint(self.checkpoint_path, self._variables(), progress)

    def _validate(self) -> None:
        """Measure, write the history and keep the model if it is the best."""
        progress = self.progress
        data = self.config.data
        report = evaluate(
            self.tagger,
            self.prepared,
            self.valid_split,
            data.positive,
            data.min_positives,
            n_chunks=data.n_chunks,
            resamples=0,
        )
        accuracy = {} if report.accuracy is None else {"valid_accuracy": report.accuracy}
        row = {
            "epoch": progress.epoch + 1,
            "loss": progress.loss_sum / progress.step,
            "valid_roc_auc": report.roc_auc,
            "valid_pr_auc": report.pr_auc,
            **accuracy,
            "learning_rate": float(self.optimizer.learning_rate),
            "seconds": progress.seconds,
            "audio_seconds_per_second": self._audio_speed(progress.timed_steps, progress.seconds),
            "input_wait_share": progress.wait_seconds / max(progress.seconds, 1e-9),
        }
        tqdm.write(
            f"epoch {row['epoch']}/{self.config.training.epochs}: loss {row['loss']:.4f}, "
            f"{self.valid_split} ROC-AUC {report.roc_auc:.4f}, PR-AUC {report.pr_auc:.4f}, "
            f"{f'accuracy {report.accuracy:.4f}, ' if accuracy else ''}"
            f"{row['audio_seconds_per_second']:.0f} s of audio per second, "
            f"{100 * row['input_wait_share']:.1f} % of the time waiting for input",
            file=sys.stderr,
        )
        self.history.append(row)
        _write_history(self.run_dir, self.history)
        # Of equals, and where no tag can be scored, the newest is kept; early stopping asks for better.
        score = report.accuracy if report.accuracy is not None else report.roc_auc
        if score > progress.best_score:
            progress.improved_epoch = progress.epoch
        if not score < progress.best_score:
            progress.best_score, progress.best_epoch = score, progress.epoch
            self.tagger.save(self.best_path)
        self.on_epoch(progress.epoch, row, self.tagger)

    def _audio_speed(self, steps: int, seconds: float) -> float:
        audio = steps * self.config.training.batch_size * self.model.crop_samples
        return audio / self.model.audio_config.sample_rate / seconds if seconds else 0.0

    def _should_stop(self) -> bool:
        patience = self.config.training.early_stopping_epochs
        return bool(patience) and self.progress.epoch - 1 - self.progress.improved_epoch >= patience

    def _reload_best(self) -> None:
        if self.best_path.exists():
            self.model.load_weights(self.best_path)

    def _variables(self) -> list[Any]:
        # model.variables holds the weights and the dropout layers' seeds.
        return [*self.model.variables, *self.optimizer.variables]


def _write_history(run_dir: Path, history: list[dict[str, float]]) -> None:
    with replacing(run_dir / "history.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        # Runs of exclusive tags have the accuracy besides.
        writer = csv.DictWriter(file, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def read_history(run_dir: Path) -> list[dict[str, float]]:
    """The rows of a run's `history.csv`; empty where there is none."""
    path = run_dir / "history.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return [{**row, "epoch": int(row["epoch"])} for row in rows]
