"""The training loop: steps, epochs, validation, checkpoints. `fit` sets it up.

It makes the same step as `MusicTagger.train_step`, which Keras' own `fit` calls, on one or several replicas
(`keras_tagger.train.cluster`), and adds that an interrupted run resumes at the exact step.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from keras_tagger.config import ExperimentConfig
from keras_tagger.data.pipeline import n_batches, training_dataset
from keras_tagger.data.prepared import Prepared
from keras_tagger.errors import ConfigError, ModelError
from keras_tagger.evaluation.evaluate import evaluate
from keras_tagger.evaluation.report import Report
from keras_tagger.models.losses import balanced_weights
from keras_tagger.models.music_tagger import MusicTagger
from keras_tagger.progress import progress_bar
from keras_tagger.storage.run_dir import RunDir
from keras_tagger.tagger import Tagger
from keras_tagger.train.checkpoint import Progress, load_checkpoint, read_progress, save_checkpoint
from keras_tagger.train.cluster import Cluster
from keras_tagger.train.history import read_history, write_history
from keras_tagger.train.schedule import coupled_decay, first_epoch, phase_of, phase_optimizer

# Reading the loss waits for the device.
_LOSS_SECONDS = 1.0


class Loop:
    """Trains a model on the "train" split of a prepared folder, and maintains its run directory.

    After every `training.checkpoint_steps` steps and after every epoch, `checkpoints/last.npz` holds everything the run
    needs to continue exactly: weights, optimiser, dropout seeds and the position in the data. The best weights by
    ROC-AUC (accuracy for exclusive tags) on the split `score_split` are in `model.keras`.

    Args:
        model: A built model; it is trained in place.
        config: The experiment.
        prepared: The data.
        run_dir: Where files are written.
        on_epoch: Called with (epoch, row of the history, tagger, report) after each epoch; epochs count from 0.
        callbacks: Keras callbacks; a callback stops training by setting `model.stop_training`.
        on_loss: Called with (step, mean loss since the last call) whenever the loss is read, about once per second;
            steps count over all epochs.
        cluster: The replicas that train the model, in whose scope it was made. Only the chief writes, validates and
            calls callbacks; all workers read the same run directory.

    Attributes:
        score_split: The split that chooses the best epoch: "valid", or "train" if the data have no validation split.
    """

    def __init__(
        self,
        model: MusicTagger,
        config: ExperimentConfig,
        prepared: Prepared,
        run_dir: RunDir,
        on_epoch: Callable[[int, dict[str, float], Tagger, Report], None] | None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        on_loss: Callable[[int, float], None] | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self.cluster = cluster or Cluster()
        self.model = model
        self.tagger = Tagger(model, config)
        self.config = config
        self.prepared = prepared
        self.run_dir = run_dir
        self.on_epoch = on_epoch
        self.on_loss = on_loss
        self.progress = Progress(data=prepared.fingerprint)
        self.history: list[dict[str, float]] = []
        self.score_split = "valid" if "valid" in prepared.splits else "train"
        exclusive = config.model.head.activation == "softmax"
        self._criterion = f"{self.score_split} {'accuracy' if exclusive else 'ROC-AUC'}"
        if self.cluster.chief:
            self._warn_of_criterion(exclusive)
        training = config.training
        self.steps_per_epoch = n_batches(
            prepared, "train", model.crop_samples, training.batch_size, training.epoch_crops
        )
        # Contributions take half of a step's time, so they are computed only if there are dense labels.
        self._localized = config.training.contribution_loss > 0 and any(c.grid for c in prepared.select("train"))
        if config.training.contribution_loss > 0 and not self._localized and self.cluster.chief:
            logging.warning(
                "training.contribution_loss: expected training clips with dense labels (a manifest's column labels). "
                "Received: none, so it changes nothing."
            )
        if config.training.class_weights == "balanced":
            model.tag_weights = balanced_weights(prepared.labels("train"), exclusive)
        self.cluster.connect(model)
        self._start_phase(0)
        self._callbacks = keras.callbacks.CallbackList(
            list(callbacks) if self.cluster.chief else [],
            model=model,
            epochs=config.training.epochs,
            steps=self.steps_per_epoch,
            verbose=0,
        )

    def restore(self) -> bool:
        """Continue from the run directory's checkpoint; return False if there is none."""
        path = self.run_dir.checkpoint
        if not path.exists():
            return False
        # The optimiser's variables depend on the phase, and the phase at the start of an epoch is the one before.
        progress = read_progress(path)
        if progress.data != self.prepared.fingerprint:
            raise ConfigError(
                f"data: expected the data that {self.run_dir.path} was started with. Received: other clips, tags, "
                f"splits or files (in {self.prepared.dir})."
            )
        epoch = progress.epoch if progress.step else max(progress.epoch - 1, 0)
        self._start_phase(phase_of(self.config.training, epoch))
        self.progress = load_checkpoint(path, self._variables())
        rows = [row for row in read_history(self.run_dir.history) if row["epoch"] <= self.progress.epoch]
        # Older versions called the scores of training clips valid.
        self.history = [
            {name.replace("valid_", f"{self.score_split}_"): value for name, value in row.items()} for row in rows
        ]
        return True

    def run(self) -> None:
        """Train to the last epoch, or until early stopping, and put the best weights into the model."""
        training = self.config.training
        self.model.stop_training = False
        self._callbacks.on_train_begin()
        while self.progress.epoch < training.epochs and not self._should_stop():
            phase = phase_of(training, self.progress.epoch)
            if phase != self.phase:
                self._reload_best()
                self._start_phase(phase)
            self._callbacks.on_epoch_begin(self.progress.epoch)
            self._train_epoch()
            self._finish_epoch()
        self._callbacks.on_train_end({} if not self.history else dict(self.history[-1]))
        _set_optimizer(self.model, None)
        self._reload_best()

    def summary(self) -> dict[str, Any]:
        """Return the epochs, the best one and what chose it, and the speed over the whole run."""
        seconds = self.progress.train_seconds
        return {
            "epochs": self.progress.epoch,
            "best_epoch": self.progress.best_epoch + 1,
            "best_epoch_by": "being the last" if math.isnan(self.progress.best_score) else self._criterion,
            "steps": self.progress.total_steps,
            "train_seconds": seconds,
            "audio_seconds_per_second": self._audio_speed(self.progress.train_timed_steps, seconds),
            "input_wait_share": self.progress.train_wait_seconds / max(seconds, 1e-9),
        }

    def _warn_of_criterion(self, exclusive: bool) -> None:
        """Warn if the best epoch is chosen by training clips, or by nothing."""
        if self.score_split == "train":
            logging.warning(
                "No validation split: the best epoch is chosen by %s, the score of the clips that the model is trained "
                "on, which says nothing about new music. More clips, a larger data.split.valid, or a column split in "
                "the manifest would set clips aside.",
                self._criterion,
            )
        labels = self.prepared.labels(self.score_split)
        with_tag, without_tag = labels > self.config.data.positive, labels <= self.config.data.positive
        if not exclusive and not (with_tag.any(axis=0) & without_tag.any(axis=0)).any():
            logging.warning(
                "%s is undefined, because no tag has both clips with and clips without it in the split %s. The last "
                "epoch is taken as the best.",
                self._criterion,
                self.score_split,
            )

    def _start_phase(self, phase: int) -> None:
        training = self.config.training
        self.phase = phase
        with self.cluster.scope():
            self.optimizer = phase_optimizer(training, phase, self.steps_per_epoch)
            self.optimizer.build(self.model.trainable_variables)
        self.model.compile(optimizer=self.optimizer)
        self.model.coupled_decay = coupled_decay(training, phase)
        self.model.first_step = first_epoch(training, phase) * self.steps_per_epoch
        self._execute: Any = None
        self._traced = False

    def _make_execute(self, batch: Sequence[tf.TensorSpec]) -> Any:
        """Return the function that makes one step for each batch along the first axis of its input."""
        model, localized, cluster, parts = (
            self.model,
            self._localized,
            self.cluster,
            self.config.training.accumulate_steps,
        )
        batch_size = self.config.training.batch_size
        # Any number of steps, so that the shorter executions before checkpoints do not trace the graph again.
        steps = 1 if self.config.training.steps_per_execution == 1 else None
        signature = [tf.TensorSpec([steps, *spec.shape], spec.dtype) for spec in batch]

        def execute(waveform: tf.Tensor, *labels: tf.Tensor) -> None:
            def body(index: tf.Tensor) -> tuple[tf.Tensor]:
                target = tuple(label[index] for label in labels)
                loss = cluster.step(model, waveform[index], target if localized else target[0], parts)
                model.note_loss(loss, batch_size)
                return (index + 1,)

            if waveform.shape[0] == 1:
                body(0)
            else:
                tf.while_loop(lambda index: index < tf.shape(waveform)[0], body, (tf.constant(0),))

        # TensorFlow warns of retracing per function's code, summed over all loops; it counts a partial by itself.
        return tf.function(functools.partial(execute), input_signature=signature, jit_compile=False, autograph=False)

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
            balanced=training.sampling == "balanced",
            epoch_crops=training.epoch_crops,
            share=(self.cluster.worker, self.cluster.n_workers),
            parts=training.accumulate_steps,
        )
        if self._execute is None:
            self._execute = self._make_execute(dataset.element_spec)
        batches = dataset.skip(progress.step)
        sizes = self._execution_sizes()
        name = f"epoch {progress.epoch + 1}/{training.epochs}"
        self.model.reset_metrics()
        self._sum_before, self._step_before = progress.loss_sum, progress.step
        self._step_read = progress.step
        read = time.perf_counter()
        with progress_bar(
            total=self.steps_per_epoch, initial=progress.step, desc=name, unit="step", hidden=not self.cluster.chief
        ) as bar:
            iterator = iter(batches)
            waiting = time.perf_counter()
            for size in sizes:
                parts = [next(iterator) for _ in range(size)]
                batch = [tf.stack(values) for values in zip(*parts, strict=True)]
                working = time.perf_counter()
                self._callbacks.on_train_batch_begin(progress.step)
                self._execute(*batch)
                progress.step += size
                progress.total_steps += size
                checkpoint = progress.step % training.checkpoint_steps == 0 and progress.step < self.steps_per_epoch
                if checkpoint or progress.step == self.steps_per_epoch or time.perf_counter() - read > _LOSS_SECONDS:
                    self._read_loss()
                    bar.set_postfix(loss=f"{progress.loss_sum / progress.step:.4f}", refresh=False)
                    read = time.perf_counter()
                self._callbacks.on_train_batch_end(progress.step - 1, self.model.get_metrics_result())
                now = time.perf_counter()
                if self._traced:
                    progress.wait_seconds += working - waiting
                    progress.seconds += now - waiting
                    progress.timed_steps += size
                # Tracing the graph in the first execution is not training speed.
                self._traced = True
                bar.update(size)
                if checkpoint:
                    self._save()
                waiting = time.perf_counter()

    def _execution_sizes(self) -> list[int]:
        """Return how many steps each execution makes; executions end at checkpoints."""
        training, done = self.config.training, self.progress.step
        sizes = []
        while done < self.steps_per_epoch:
            to_checkpoint = training.checkpoint_steps - done % training.checkpoint_steps
            sizes.append(min(training.steps_per_execution, to_checkpoint, self.steps_per_epoch - done))
            done += sizes[-1]
        return sizes

    def _read_loss(self) -> None:
        """Read the loss from the device; raise `ModelError` if it is not finite."""
        progress = self.progress
        mean = float(self.model.get_metrics_result()["loss"])
        if not math.isfinite(mean):
            raise ModelError(
                f"training: expected a finite loss; a lower training.learning_rate may help. "
                f"Received: {mean} in epoch {progress.epoch + 1}, by step {progress.step}."
            )
        total = self._sum_before + mean * (progress.step - self._step_before)
        if self.on_loss and progress.step > self._step_read:
            self.on_loss(progress.total_steps, (total - progress.loss_sum) / (progress.step - self._step_read))
        progress.loss_sum, self._step_read = total, progress.step

    def _finish_epoch(self) -> None:
        progress = self.progress
        row = self._validate() if self.cluster.chief else {}
        progress.train_seconds += progress.seconds
        progress.train_wait_seconds += progress.wait_seconds
        progress.train_timed_steps += progress.timed_steps
        progress.epoch += 1
        progress.step, progress.loss_sum = 0, 0.0
        progress.seconds, progress.wait_seconds, progress.timed_steps = 0.0, 0.0, 0
        self._callbacks.on_epoch_end(progress.epoch - 1, {key: row[key] for key in row if key != "epoch"})
        self._save()
        self._follow_chief()

    def _save(self) -> None:
        if self.cluster.chief:
            save_checkpoint(self.run_dir.checkpoint, self._variables(), self.progress)

    def _follow_chief(self) -> None:
        """Learn from the chief which epoch is the best and whether to stop; its best weights are written then."""
        progress = self.progress
        known = [progress.best_score, progress.best_epoch, progress.improved_epoch, bool(self.model.stop_training)]
        score, best, improved, stop = self.cluster.from_chief(known)
        progress.best_score, progress.best_epoch, progress.improved_epoch = score, int(best), int(improved)
        self.model.stop_training = bool(stop)

    def _validate(self) -> dict[str, float]:
        """Measure on `score_split`, write the history and keep the model if it is the best."""
        progress = self.progress
        data = self.config.data
        report = evaluate(
            self.tagger,
            self.prepared,
            self.score_split,
            data.positive,
            data.min_positives,
            n_chunks=data.n_chunks,
            resamples=0,
        )
        split = self.score_split
        accuracy = {} if report.accuracy is None else {f"{split}_accuracy": report.accuracy}
        validation_loss = {}
        if split != "train" and report.clip_scores is not None:
            validation_loss[f"{split}_loss"] = report.clip_scores.cross_entropy
        row = {
            "epoch": progress.epoch + 1,
            "loss": progress.loss_sum / progress.step,
            **validation_loss,
            f"{split}_roc_auc": report.roc_auc,
            f"{split}_pr_auc": report.pr_auc,
            **accuracy,
            "learning_rate": float(self.optimizer.learning_rate),
            "seconds": progress.seconds,
            "audio_seconds_per_second": self._audio_speed(progress.timed_steps, progress.seconds),
            "input_wait_share": progress.wait_seconds / max(progress.seconds, 1e-9),
        }
        # The first execution, which traces the graph, is not timed.
        speed = (
            f", {row['audio_seconds_per_second']:.0f} s of audio per second, "
            f"{100 * row['input_wait_share']:.1f} % of the time waiting for input"
        )
        tqdm.write(
            f"epoch {row['epoch']}/{self.config.training.epochs}: loss {row['loss']:.4f}, "
            f"{split} {', '.join(f'{name} {value}' for name, value, _ in report.headline())}"
            f"{speed if progress.timed_steps else ''}",
            file=sys.stderr,
        )
        self.history.append(row)
        write_history(self.run_dir.history, self.history)
        # Of equal scores the newest is kept, but early stopping requires a better one. NaN, if no tag can be scored,
        # is no reason to stop.
        score = report.accuracy if report.accuracy is not None else report.roc_auc
        if not score <= progress.best_score:
            progress.improved_epoch = progress.epoch
        if not score < progress.best_score:
            progress.best_score, progress.best_epoch = score, progress.epoch
            with _without_optimizer(self.model):
                self.tagger.save(self.run_dir.model)
        if self.on_epoch:
            self.on_epoch(progress.epoch, row, self.tagger, report)
        return row

    def _audio_speed(self, steps: int, seconds: float) -> float:
        audio = steps * self.config.training.batch_size * self.model.crop_samples
        return audio / self.model.audio_config.sample_rate / seconds if seconds else 0.0

    def _should_stop(self) -> bool:
        patience = self.config.training.early_stopping_epochs
        waited = bool(patience) and self.progress.epoch - 1 - self.progress.improved_epoch >= patience
        return waited or bool(self.model.stop_training)

    def _reload_best(self) -> None:
        if self.run_dir.model.exists():
            with _without_optimizer(self.model):
                self.model.load_weights(self.run_dir.model)

    def _variables(self) -> list[Any]:
        # model.variables holds the weights and the dropout layers' seeds.
        return [*self.model.variables, *self.optimizer.variables]


def _set_optimizer(model: MusicTagger, optimizer: keras.optimizers.Optimizer | None) -> None:
    # TensorFlow would track a plain assignment, and an export would contain the optimiser's variables.
    object.__setattr__(model, "optimizer", optimizer)
    object.__setattr__(model, "compiled", optimizer is not None)


@contextlib.contextmanager
def _without_optimizer(model: MusicTagger) -> Iterator[None]:
    """Hide the optimiser, which would triple a file; the checkpoint has its state."""
    optimizer = model.optimizer
    _set_optimizer(model, None)
    try:
        yield
    finally:
        _set_optimizer(model, optimizer)
